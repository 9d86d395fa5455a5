"""Messages that the caller names: those of a report, of an index, of an earlier search."""

from __future__ import annotations

from typing import NamedTuple

from imapipe.models.cursor import Cursor
from imapipe.net.connection import Connection
from imapipe.pipeline.access import MailboxAccess
from imapipe.pipeline.source.base import Found, Question
from imapipe.wire.uid_set import UidSet


class Given(NamedTuple):
    """These UIDs, and no search (a `Source`).

    Attributes:
        uids: The UIDs.
        uidvalidity: The UIDVALIDITY under which they are to be read.
        cursor: How far the mailbox had come when they were seen, where that is known.
    """

    uids: UidSet
    uidvalidity: int
    cursor: Cursor | None = None

    @property
    def is_whole(self) -> bool:
        """See `Source`."""
        return False

    async def find(self, connection: Connection, access: MailboxAccess, question: Question) -> Found:
        """See `Source`."""
        selected = await access.open(connection, expected=self.uidvalidity, remembered=self.cursor)
        return Found(self.uids, selected.exists)
