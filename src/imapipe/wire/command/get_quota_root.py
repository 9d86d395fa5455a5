"""GETQUOTAROOT (RFC 9208 §4.1.2): how much may a mailbox hold, and how much is there? Answered by `Quota`."""

from __future__ import annotations

from imapipe.wire.command.encoder import Dialect, Request


def get_quota_root(mailbox: str, dialect: Dialect) -> Request:
    """GETQUOTAROOT.

    Raises:
        ValueError: CR, LF or NUL in the name.
    """
    return Request("GETQUOTAROOT", dialect.mailbox(mailbox))
