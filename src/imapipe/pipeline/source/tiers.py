"""The classes of a batch policy, as tiers of the plan: a search each, disjoint by taking out what came before."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from datetime import date
from functools import partial

from imapipe.net.connection import Connection
from imapipe.pipeline.batching import MessageClass
from imapipe.pipeline.plan import Tier
from imapipe.pipeline.source.base import Found
from imapipe.pipeline.source.find import find
from imapipe.runtime.large_sets import beside_the_loop
from imapipe.search import ALL
from imapipe.wire.response.note import Note
from imapipe.wire.uid_set import UidSet


async def find_tiers(
    connection: Connection,
    classes: Sequence[MessageClass],
    found: Found,
    today: date,
    notes: MutableMapping[Note, int],
) -> UidSet | Sequence[Tier]:
    """Which of what was found belongs to which class; without classes what was found, which needs no search.

    Raises and adds to `notes` as `source.find.find` does.
    Where an answer was not whole, a message may be in a later class than it should.
    """
    if not classes:
        return found.uids
    uids = await beside_the_loop(found.uids.ranked, found.uids)
    tiers: list[Tier] = []
    for entry in classes:
        if entry.search == ALL:
            chosen, uids = uids, UidSet()
        else:
            answer = await find(connection, entry.search, found.exists, today, notes)
            chosen, uids = await beside_the_loop(partial(_divide, uids, answer), uids, answer)
        tiers.append(Tier(chosen, newest_first=entry.newest_first))
    return tiers


def _divide(uids: UidSet, found: UidSet) -> tuple[UidSet, UidSet]:
    """What a search found, and what is left for the others."""
    chosen = (uids & found).ranked()
    return chosen, (uids - chosen).ranked()
