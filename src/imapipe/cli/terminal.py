r"""Text of others made fit for a terminal.

What a server, a mail or a file says must not move the cursor, hide a line or answer for the person who reads it.

Invariant: nothing here leaves a control character (C0, C1, DEL), a character that turns the direction of text, or half
a surrogate pair; each is written as Python or JSON would write it, such as `\x1b`.
"""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    """Text on one line, with single spaces."""
    return escape(" ".join(text.split()))


def escape(text: str, *, keep: str = "") -> str:
    """Text as it is, but for what a terminal would not just show.

    Args:
        text: The text.
        keep: Characters that stay all the same, such as a line end.
    """
    if text.isprintable():
        return text
    return "".join(c if _is_shown(c) or c in keep else c.encode("unicode_escape").decode() for c in text)


def escape_json(document: str) -> str:
    """A JSON document that says the same, written with escapes."""
    if document.isascii() and "\x7f" not in document:
        return document
    return "".join(c if _is_shown(c) or c == "\n" else _json_escape(c) for c in document)


def _is_shown(character: str) -> bool:
    # Spaces of all widths are harmless, and stand in many a subject.
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
