"""The messages that a search finds when the run begins.

Invariants:

- Where a search for everything finds fewer than the mailbox holds, the difference is told as `unaccounted`: some
  servers cap their answers and say nothing.
- The state of the mailbox is read before the search whose answer is remembered under it; see `search_store`.
"""

from __future__ import annotations

from dataclasses import dataclass

from imapipe.net.connection import Connection
from imapipe.net.session import SelectedMailbox
from imapipe.pipeline.access import MailboxAccess
from imapipe.pipeline.source.base import Found, Question
from imapipe.pipeline.source.find import find
from imapipe.pipeline.source.search_store import MailboxState, SearchQuestion
from imapipe.search import ALL
from imapipe.wire.response.note import Note


@dataclass(frozen=True, slots=True)
class Searched:
    """What the search of the pipeline finds (a `Source`)."""

    @property
    def is_whole(self) -> bool:
        """See `Source`."""
        return True

    async def find(self, connection: Connection, access: MailboxAccess, question: Question) -> Found:
        """See `Source`."""
        return await search_open(connection, access, question, await access.open(connection))


async def search_open(
    connection: Connection, access: MailboxAccess, question: Question, selected: SelectedMailbox
) -> Found:
    """What a search finds in the mailbox that was just opened; raises as `Searched.find` does."""
    exists = selected.exists
    expunged = selected.expunged
    key, store, today = question.search, question.search_store, question.today
    asked = SearchQuestion(question.account, question.mailbox, key, today if key.uses_clock else None)
    state = MailboxState.of(connection) if store is not None else None
    notes: dict[Note, int] = {}
    remembered = store.recall(asked, state) if store is not None and state is not None else None
    if remembered is not None:
        uids = remembered
    else:
        uids = await find(connection, key, exists, today, notes, save=question.save)
    access.found(uids, selected, exists=exists)
    unaccounted = 0
    if key == ALL:
        gone_meanwhile = selected.expunged - expunged
        unaccounted = max(0, exists - gone_meanwhile - len(uids))
    # A UIDNEXT that turned out to be late or made up proves nothing of an answer.
    if access.cursor.uidnext is None:
        state = None
    if store is not None and state is not None and remembered is None and not unaccounted and not notes:
        store.remember(asked, state, uids)
    return Found(uids, exists, unaccounted, notes)
