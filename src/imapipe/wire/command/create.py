"""CREATE (RFC 9051 §6.3.4): make a mailbox."""

from __future__ import annotations

from imapipe.wire.command.encoder import Dialect, Request


def create(mailbox: str, dialect: Dialect) -> Request:
    """CREATE.

    Raises:
        ValueError: CR, LF or NUL in the name.
    """
    return Request("CREATE", dialect.mailbox(mailbox))
