"""SUBSCRIBE (RFC 9051 §6.3.7): list a mailbox among the subscribed ones."""

from __future__ import annotations

from imapipe.wire.command.encoder import Dialect, Request


def subscribe(mailbox: str, dialect: Dialect) -> Request:
    """SUBSCRIBE.

    Raises:
        ValueError: CR, LF or NUL in the name.
    """
    return Request("SUBSCRIBE", dialect.mailbox(mailbox))
