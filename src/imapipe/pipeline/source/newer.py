"""Messages that came after an earlier look at a mailbox, and those of that look that are still to be done.

Invariants:

- Where the UIDs of that time mean other messages now, everything is searched; whoever remembers UIDs then
  notices that by itself. What the server leaves open is asked (`told`): a checkpoint that begins anew would count
  what was not searched as done.
- A search for everything that came is believed only where it can be all: some servers cap answers and say nothing.
- Nothing is searched only where the numbers prove what came: as many messages more as UIDs were given out. Then each of
  those UIDs is there, and none of the others is gone.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import Final

from imapipe.errors import CommandBad, CommandNo
from imapipe.models.cursor import Cursor
from imapipe.net.connection import Connection
from imapipe.net.session import SelectedMailbox
from imapipe.pipeline.access import MailboxAccess
from imapipe.pipeline.ahead import Order
from imapipe.pipeline.source.base import Found, Question
from imapipe.pipeline.source.find import find
from imapipe.pipeline.source.searched import Searched, search_open
from imapipe.search import ALL, raw, uid
from imapipe.wire.uid_set import MAX_UID, UidSet

# Nothing here depends on the day.
_ANY_DAY: Final = date.min


@dataclass(frozen=True, slots=True)
class Newer:
    """What the search of the pipeline finds above all UIDs that a mailbox had given out (a `Source`).

    Attributes:
        uidvalidity: UIDVALIDITY at that time.
        cursor: How far it had come.
        again: Messages of that time that have no outcome yet.
        is_whole: Whether all others of that time that the search finds are done; see `Source`.
        expected: What has come by all that is known; where it turns out to be so, it is on its way by then.
    """

    uidvalidity: int
    cursor: Cursor
    again: UidSet = UidSet()  # noqa: RUF009 - a value that nobody changes
    is_whole: bool = True
    expected: UidSet = UidSet()  # noqa: RUF009 - a value that nobody changes

    async def find(self, connection: Connection, access: MailboxAccess, question: Question) -> Found:
        """See `Source`."""
        order = None
        if self.expected and question.ahead is not None and question.search == ALL:
            order = Order(self.expected, question.ahead, self.uidvalidity)
        selected = await access.open(connection, ahead=order)
        found = await self._find(connection, access, question, selected)
        if access.ahead is not None and (access.uidvalidity, found.uids) != (self.uidvalidity, self.expected):
            await access.ahead.forget()
        return found

    async def _find(
        self, connection: Connection, access: MailboxAccess, question: Question, selected: SelectedMailbox
    ) -> Found:
        lowest = self.cursor.lowest_uidnext()
        if lowest is None or selected.uidvalidity != self.uidvalidity:
            return await search_open(connection, access, question, selected)
        if (await access.believable_cursor(connection, self.cursor)).is_behind(self.cursor):
            return await Searched().find(connection, access, question)
        came = self._proven(access.cursor) if question.search == ALL else None
        if came is not None:
            return Found(self.again | came, selected.exists)
        if lowest > MAX_UID:
            return Found(self.again, selected.exists)
        newer = question._replace(search=question.search & uid(f"{lowest}:*"))
        found = await search_open(connection, access, newer, selected)
        # The last message is always in the answer, even below (RFC 9051 §6.4.8: `*` is the highest UID there is).
        came = found.uids & UidSet.from_ranges([(lowest, MAX_UID)])
        unaccounted = 0
        if question.search == ALL and await _is_short(connection, came, lowest, access.cursor):
            unaccounted = max(1, selected.exists - (self.cursor.exists or 0) - len(came))
        return Found(self.again | came, found.exists, unaccounted, found.notes)

    def _proven(self, now: Cursor) -> UidSet | None:
        """The messages that came, where the numbers prove which; else None."""
        then = self.cursor
        if then.uidnext is None or now.uidnext is None or then.exists is None or now.exists is None:
            return None
        given_out = now.uidnext - then.uidnext
        if then.uidnext != then.lowest_uidnext() or given_out < 0 or now.exists - then.exists != given_out:
            return None
        return UidSet.from_ranges([(then.uidnext, now.uidnext - 1)]) if given_out else UidSet()


async def _is_short(connection: Connection, came: UidSet, lowest: int, now: Cursor) -> bool:
    """Whether there are more messages from a UID on than were found: then one of them is in the place before so many.

    Asked only where UIDs are missing that were given out, since messages that came may have gone again.
    """
    place = connection.session.messages - len(came)
    if now.uidnext is not None and len(came) == now.uidnext - lowest:
        return False
    if place < 1 or "UIDONLY" in connection.session.enabled:
        return False
    with suppress(CommandNo, CommandBad):
        found = await find(connection, raw(str(place)), connection.session.messages, _ANY_DAY)
        # No answer at all is of a server that answers no search.
        return not found or found.max >= lowest
    return False
