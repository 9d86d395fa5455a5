"""UNSUBSCRIBE (RFC 9051 §6.3.8): list a mailbox among the subscribed ones no more."""

from __future__ import annotations

from imapipe.wire.command.encoder import Dialect, Request


def unsubscribe(mailbox: str, dialect: Dialect) -> Request:
    """UNSUBSCRIBE.

    Raises:
        ValueError: CR, LF or NUL in the name.
    """
    return Request("UNSUBSCRIBE", dialect.mailbox(mailbox))
