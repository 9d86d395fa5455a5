"""Hostile input for imapipe: expressions, parsers, whole dialogs; `nox -s fuzz` runs it for as long as one likes."""
