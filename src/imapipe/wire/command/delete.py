"""DELETE (RFC 9051 §6.3.5): remove a mailbox and all that is in it."""

from __future__ import annotations

from imapipe.wire.command.encoder import Dialect, Request


def delete(mailbox: str, dialect: Dialect) -> Request:
    """DELETE.

    Raises:
        ValueError: CR, LF or NUL in the name.
    """
    return Request("DELETE", dialect.mailbox(mailbox))
