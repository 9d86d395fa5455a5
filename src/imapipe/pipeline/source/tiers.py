"""The classes of a batch policy, as tiers of the plan: a search each, disjoint by taking out what came before."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from datetime import date

from imapipe.net.connection import Connection
from imapipe.pipeline.batching import MessageClass
from imapipe.pipeline.plan import Tier
from imapipe.pipeline.source.base import Found
from imapipe.pipeline.source.find import find
from imapipe.search import ALL
from imapipe.wire.response.note import Note


async def find_tiers(
    connection: Connection,
    classes: Sequence[MessageClass],
    found: Found,
    today: date,
    notes: MutableMapping[Note, int],
) -> list[Tier]:
    """Which of what was found belongs to which class; raises and adds to `notes` as `find_uids` does.

    Where an answer was not whole, a message may be in a later class than it should.
    """
    uids = found.uids
    tiers: list[Tier] = []
    for entry in classes:
        chosen = (
            uids if entry.search == ALL else uids & await find(connection, entry.search, found.exists, today, notes)
        )
        uids -= chosen
        tiers.append(Tier(chosen, newest_first=entry.newest_first))
    return tiers
