"""RENAME (RFC 9051 §6.3.6): give a mailbox, and those below it, another name."""

from __future__ import annotations

from imapipe.wire.command.encoder import Dialect, Request


def rename(mailbox: str, new_name: str, dialect: Dialect) -> Request:
    """RENAME.

    Raises:
        ValueError: CR, LF or NUL in a name.
    """
    return Request("RENAME", dialect.mailbox(mailbox), dialect.mailbox(new_name))
