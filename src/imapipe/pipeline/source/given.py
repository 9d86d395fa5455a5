"""Messages that the caller names: those of a report, of an index, of an earlier search."""

from __future__ import annotations

from dataclasses import dataclass

from imapipe.net.connection import Connection
from imapipe.pipeline.access import MailboxAccess
from imapipe.pipeline.source.base import Found, Question
from imapipe.wire.uid_set import UidSet


@dataclass(frozen=True, slots=True)
class Given:
    """These UIDs, and no search (a `Source`).

    Attributes:
        uids: The UIDs.
        uidvalidity: The UIDVALIDITY under which they are to be read.
    """

    uids: UidSet
    uidvalidity: int

    async def find(self, connection: Connection, access: MailboxAccess, question: Question) -> Found:
        """See `Source`."""
        selected = await access.open(connection, expected=self.uidvalidity)
        return Found(self.uids, selected.exists)
