"""Messages that came after a run that had left nothing undone.

Invariant: where the UIDs of that time mean other messages now, everything is searched; whoever remembers UIDs then
notices that by itself. What the server leaves open is asked (`told`): a checkpoint that begins anew would count
what was not searched as done.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from imapipe.models.cursor import Cursor
from imapipe.net.connection import Connection
from imapipe.pipeline.access import MailboxAccess
from imapipe.pipeline.source.base import Found, Question
from imapipe.pipeline.source.searched import Searched
from imapipe.search import uid
from imapipe.wire.uid_set import UidSet

_HIGHEST_UID = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Newer:
    """What the search of the pipeline finds above all UIDs that a mailbox had given out (a `Source`).

    Attributes:
        uidvalidity: UIDVALIDITY at that time.
        cursor: How far it had come.
    """

    uidvalidity: int
    cursor: Cursor

    @property
    def is_whole(self) -> bool:
        """See `Source`."""
        return True

    async def find(self, connection: Connection, access: MailboxAccess, question: Question) -> Found:
        """See `Source`."""
        selected = await access.open(connection)
        lowest = self.cursor.lowest_uidnext()
        if lowest is None or selected.uidvalidity != self.uidvalidity:
            return await Searched().find(connection, access, question)
        if (await access.believable_cursor(connection, self.cursor)).is_behind(self.cursor):
            return await Searched().find(connection, access, question)
        if lowest > _HIGHEST_UID:
            return Found(UidSet(), selected.exists)
        above = UidSet.from_ranges([(lowest, _HIGHEST_UID)])
        newer = replace(question, search=question.search & uid(f"{lowest}:*"))
        found = await Searched().find(connection, access, newer)
        # The last message is always in the answer, even below (RFC 9051 §6.4.8: `*` is the highest UID there is).
        return Found(found.uids & above, found.exists, found.unaccounted, found.notes)
