"""LSUB (RFC 3501 §6.3.9): which mailboxes are subscribed to, where LIST cannot tell. Answered by `ListItem`."""

from __future__ import annotations

from imapipe.wire.command.encoder import Dialect, Request


def lsub(dialect: Dialect) -> Request:
    """LSUB of everything."""
    return Request("LSUB", dialect.mailbox(""), dialect.list_mailbox("*"))
