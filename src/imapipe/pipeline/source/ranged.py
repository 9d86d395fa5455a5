"""The messages that a search finds in a range of UIDs: one part of a mailbox that is worked on in parts.

Invariants:

- Ranges that lie side by side from 1 on, the last without an end, hold every message that the mailbox has and will
  have, as long as UIDs mean what they meant when the ranges were made: under another UIDVALIDITY nothing is searched.
- A range without an end is no `n:*`, which finds the last message also where its UID is below n (RFC 9051 §9).
"""

from __future__ import annotations

from dataclasses import dataclass

from imapipe.net.connection import Connection
from imapipe.pipeline.access import MailboxAccess
from imapipe.pipeline.source.base import Found, Question
from imapipe.pipeline.source.find import find
from imapipe.search import ALL, uid
from imapipe.wire.response.note import Note
from imapipe.wire.uid_set import MAX_UID, UidSet


@dataclass(frozen=True, slots=True)
class Ranged:
    """What the search of the pipeline finds in a range (a `Source`).

    Attributes:
        first: The lowest UID.
        last: The highest one, or None for all that will ever be.
        uidvalidity: The UIDVALIDITY under which the range was made.
    """

    first: int
    last: int | None
    uidvalidity: int

    @property
    def is_whole(self) -> bool:
        """See `Source`: of its range it is."""
        return True

    async def find(self, connection: Connection, access: MailboxAccess, question: Question) -> Found:
        """See `Source`; a search for all of a range cannot tell whether it found all of them."""
        selected = await access.open(connection, expected=self.uidvalidity, advice="divide the mailbox again")
        exists = selected.exists
        here = UidSet.from_ranges([(self.first, self.last or MAX_UID)])
        search = uid(here) if question.search == ALL else question.search & uid(here)
        notes: dict[Note, int] = {}
        uids = (await find(connection, search, exists, question.today, notes, save=question.save)) & here
        access.found(uids, selected, exists=exists)
        return Found(uids, exists, 0, notes)
