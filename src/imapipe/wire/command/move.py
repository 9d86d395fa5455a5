"""UID MOVE (RFC 6851): copy messages and expunge them here, in one step. The answer: COPYUID (RFC 4315)."""

from __future__ import annotations

from imapipe.wire.command.encoder import Dialect, Request, sequence_set
from imapipe.wire.uid_set import UidSet


def uid_move(uids: UidSet, mailbox: str, dialect: Dialect) -> Request:
    """UID MOVE.

    Raises:
        ValueError: An empty set, or CR, LF or NUL in the name.
    """
    return Request("UID MOVE", sequence_set(uids), dialect.mailbox(mailbox))
