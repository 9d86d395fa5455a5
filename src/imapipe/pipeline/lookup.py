"""Looking at a mailbox: which messages a run is for, and which of some messages are still there.

Invariants:

- A search that a server cuts short and says so (MESSAGELIMIT, RFC 9738) is asked again below that point, until
  nothing is left out.
- Where a search for everything finds fewer than the mailbox holds, the difference is told as `unaccounted`: some
  servers cap their answers and say nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from imapipe.errors import ProtocolError
from imapipe.net.connection import MAX_COMMAND_BYTES, Connection, SearchAnswer
from imapipe.net.session import SelectedMailbox
from imapipe.pipeline.find import find_uids, find_within
from imapipe.pipeline.plan import Plan, Tier
from imapipe.pipeline.search_store import MailboxState, SearchQuestion
from imapipe.pipeline.specification import Specification
from imapipe.search import ALL
from imapipe.wire.search_key import SearchKey
from imapipe.wire.search_program import SearchProgram
from imapipe.wire.uid_set import UidSet

_COMMAND_WORDS_BYTES = 64


@dataclass(frozen=True, slots=True)
class Findings:
    """What a look at the mailbox gave.

    Attributes:
        plan: What is to be done.
        exists: How many messages the mailbox holds.
        unaccounted: Messages that the mailbox holds by EXISTS and that a search for all did not find.
    """

    plan: Plan
    exists: int
    unaccounted: int = 0


async def look(
    connection: Connection,
    selected: SelectedMailbox,
    specification: Specification,
    *,
    account: str,
    today: date,
    max_uid_text_bytes: int,
    save: bool = False,
) -> Findings:
    """Find what a pipeline is for, in the mailbox that was just opened.

    Raises:
        CapabilityMissing: The search needs what the server does not offer.
        CommandNo, CommandBad, Throttled: The server refused it.
        ConnectionLost, CommandTimeout, ProtocolError: The connection ended.
    """
    exists = selected.exists
    unaccounted = 0
    if specification.uids is not None:
        uids = specification.uids
    else:
        expunged = selected.expunged
        key = specification.search
        store = specification.search_store
        question = SearchQuestion(account, specification.mailbox, key, today if key.uses_clock else None)
        # Before the search: see `search_store`.
        state = MailboxState.of(connection) if store is not None else None
        remembered = store.recall(question, state) if store is not None and state is not None else None
        uids = remembered if remembered is not None else await find(connection, key, exists, today, save=save)
        if specification.searches_all:
            gone_meanwhile = selected.expunged - expunged
            unaccounted = max(0, exists - gone_meanwhile - len(uids))
        if store is not None and state is not None and remembered is None and not unaccounted:
            store.remember(question, state, uids)
    tiers = [Tier(uids, newest_first=specification.newest)]
    if specification.policy.classes:
        tiers = await _tiers(connection, specification, uids, exists, today)
    plan = Plan(tiers, limit=specification.limit, max_command_bytes=max_uid_text_bytes)
    return Findings(plan, exists, unaccounted)


async def find(connection: Connection, key: SearchKey, exists: int, today: date, *, save: bool = False) -> UidSet:
    """The UIDs in the open mailbox of `exists` messages that match; raises as `look` does."""
    return await find_uids(connection, _program(connection, key, today), exists, save=save)


async def narrow(connection: Connection, key: SearchKey, uids: UidSet, today: date) -> UidSet:
    """Those of `uids` in the open mailbox that match; raises as `look` does."""
    return await find_within(connection, _program(connection, key, today), uids)


def _program(connection: Connection, key: SearchKey, today: date) -> SearchProgram:
    connection.require(key.needs)
    return key.program(
        today=today,
        literal_plus=connection.offers("LITERAL+") or connection.offers("LITERAL-"),
        utf8="UTF8=ACCEPT" in connection.session.enabled,
    )


async def still_there(connection: Connection, uids: UidSet, today: date) -> UidSet:
    """Those of `uids` that are in the open mailbox; raises as `look` does.

    Other batches may look a second time on the same connection, so nothing is saved on the server (RFC 5182): what
    `$` stands for would be theirs as often as ours.
    """
    program = ALL.program(today=today)
    found = UidSet()
    begin = 0
    while begin < len(uids):
        end = uids.fit(begin, len(uids), MAX_COMMAND_BYTES - _COMMAND_WORDS_BYTES)
        asked: UidSet | None = uids[begin:end]
        while asked:
            answer = await connection.uid_search(program, within=asked)
            found |= answer.uids & asked
            asked = _left_out(answer, asked)
        begin = end
    return found


def _left_out(answer: SearchAnswer, asked: UidSet) -> UidSet | None:
    """What a server with MESSAGELIMIT did not look at (RFC 9738 §3.2): the UIDs below the one it names."""
    below = answer.limited_below
    if below is None or below <= 1:
        return None
    rest = asked & UidSet.from_ranges([(1, below - 1)])
    if len(rest) == len(asked):
        raise ProtocolError("MESSAGELIMIT: a search does not get any further")
    return rest


async def _tiers(
    connection: Connection, specification: Specification, uids: UidSet, exists: int, today: date
) -> list[Tier]:
    """The classes of the batch policy: a search each, disjoint by taking out what came before."""
    tiers: list[Tier] = []
    for entry in specification.policy.classes:
        found = uids if entry.search == ALL else uids & await find(connection, entry.search, exists, today)
        uids -= found
        tiers.append(Tier(found, newest_first=entry.newest_first))
    return tiers
