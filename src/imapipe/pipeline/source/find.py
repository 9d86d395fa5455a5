"""Finding UIDs in the open mailbox: one search, or several bounded ones in a large mailbox.

A server that answers with a million UIDs in one line is no trouble (they become interval sets), but it keeps
the connection silent for long and may stop short. So a large mailbox is searched in pages where the server has
PARTIAL (RFC 9394), or range by range where it has UIDBATCHES (RFC 10022), and else at once.

Invariants:

- An answer that is not complete (`[MESSAGELIMIT]`, RFC 9738) is followed by a search below the UID it
  names, until one is complete, makes no progress, or all of them took longer than one may.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from datetime import UTC, date, datetime
from functools import partial
from typing import TypeAlias, TypeVar

from imapipe.errors import ProtocolError
from imapipe.net.connection import Connection, SearchAnswer
from imapipe.net.patience import Term
from imapipe.pipeline.source.ages import without_within
from imapipe.search import ALL
from imapipe.wire.command.search import room_within
from imapipe.wire.response.code import left_out
from imapipe.wire.response.note import Note, count_notes
from imapipe.wire.search_key import SearchKey
from imapipe.wire.search_program import SearchProgram
from imapipe.wire.uid_set import MAX_UID, UidSet

PAGE_MESSAGES = 100_000
# What may arrive, or be counted late, while a mailbox is searched.
_MOST_TIMES = 2
_MOST_MORE = 10_000
MAX_CUTS = 100
"""Into so many searches, and one, all UIDs are cut at most, whatever ranges a server tells: each costs a task."""

_Found: TypeAlias = tuple[UidSet, tuple[Note, ...]]
_Answer = TypeVar("_Answer")


async def find(
    connection: Connection,
    key: SearchKey,
    exists: int,
    today: date,
    notes: MutableMapping[Note, int] | None = None,
    *,
    save: bool = False,
) -> UidSet:
    """The UIDs in the open mailbox of `exists` messages that match; raises and adds to `notes` as `find_uids` does."""

    async def ask(key: SearchKey) -> UidSet:
        return await find_uids(connection, _program(connection, key, today), exists, notes, save=save)

    return await _ask_by_age(connection, key, ask)


async def narrow(
    connection: Connection, key: SearchKey, uids: UidSet, today: date, notes: MutableMapping[Note, int]
) -> UidSet:
    """Those of `uids` in the open mailbox that match; what is found is saved for a search within it.

    Raises and adds to `notes` as `find_uids` does.
    """

    async def ask(key: SearchKey) -> _Found:
        return await _at_once(connection, _program(connection, key, today), uids, save=True)

    found, passed_over = await _ask_by_age(connection, key, ask)
    count_notes(notes, passed_over)
    return found


async def _ask_by_age(
    connection: Connection, key: SearchKey, ask: Callable[[SearchKey], Awaitable[_Answer]]
) -> _Answer:
    """Ask for a key; where ages in seconds are in it and the server does not know them, in terms of dates."""
    if "WITHIN" not in key.needs:
        return await ask(key)

    async def by_dates() -> _Answer:
        return await ask(await without_within(connection, key, datetime.now(UTC)))

    ways = {"WITHIN": partial(ask, key)} if connection.ways.may("WITHIN") else {}
    return await connection.ways.first(ways, by_dates)


def _program(connection: Connection, key: SearchKey, today: date) -> SearchProgram:
    connection.require(key.needs)
    return key.program(
        today=today,
        literal_plus=connection.offers("LITERAL+") or connection.offers("LITERAL-"),
        utf8="UTF8=ACCEPT" in connection.session.enabled,
    )


async def find_uids(
    connection: Connection,
    program: SearchProgram,
    exists: int,
    notes: MutableMapping[Note, int] | None = None,
    *,
    save: bool = False,
) -> UidSet:
    """Every UID of the selected mailbox that matches.

    Args:
        connection: With the mailbox selected.
        program: The search.
        exists: How many messages the mailbox holds.
        notes: Is added to where something of an answer was passed over: a message may be missing.
        save: Have the server save the result where it can, for a search within it (RFC 5182).

    Raises:
        CapabilityMissing: The search needs what the server does not offer.
        CommandNo, CommandBad, Throttled: The server refused the search.
        ConnectionLost, CommandTimeout: The connection ended.
        ProtocolError: It stops short and says so again and again without going on, or finds what cannot be there.
    """
    ways: dict[str, Callable[[], Awaitable[_Found]]] = {}
    if exists > PAGE_MESSAGES and connection.offers("PARTIAL"):
        ways["PARTIAL"] = partial(_by_pages, connection, program, exists)
    if exists > PAGE_MESSAGES and connection.offers("UIDBATCHES") and connection.offers("ESEARCH"):
        ways["UIDBATCHES"] = partial(_by_ranges, connection, program)
    found, passed_over = await connection.ways.first(ways, partial(_at_once, connection, program, save=save))
    _believe(connection, found, exists)
    if notes is not None:
        count_notes(notes, passed_over)
    return found


def _messages_of(connection: Connection) -> int:
    selected = connection.selected
    return selected.exists if selected is not None else 0


def _believe(connection: Connection, found: UidSet, exists: int) -> None:
    """A search may find more than there were at its beginning, and not many times as many."""
    now = _messages_of(connection)
    if len(found) > _MOST_TIMES * max(exists, now) + _MOST_MORE:
        raise ProtocolError(f"a search finds {len(found):,} messages in a mailbox of {max(exists, now):,}")


async def _at_once(
    connection: Connection, program: SearchProgram, within: UidSet | None = None, *, save: bool = False
) -> _Found:
    answer = await connection.uid_search(program, within=within, save=save)
    notes = answer.notes
    found = answer.uids
    below = answer.limited_below
    term = Term(_messages_of(connection))
    while below is not None and below > 1:
        term.check()
        rest = UidSet.from_ranges([(1, below - 1)])
        answer = await connection.uid_search(program, within=rest if within is None else rest & within)
        notes += answer.notes
        found |= answer.uids
        if answer.limited_below is not None and answer.limited_below >= below:
            raise ProtocolError("the server limits a search and names no lower UID to go on with")
        below = answer.limited_below
    return found, notes


async def _by_pages(connection: Connection, program: SearchProgram, exists: int) -> _Found:
    found, notes = UidSet(), tuple[Note, ...]()
    term = Term(exists)
    while True:
        term.check()
        answer = await connection.uid_search_page(program, PAGE_MESSAGES, above=found.max if found else 0)
        notes += answer.notes
        found |= answer.uids
        _believe(connection, found, exists)
        if len(answer.uids) < PAGE_MESSAGES and answer.limited_below is None:
            return found, notes
        if not answer.uids:
            rest, more_notes = await _at_once(connection, program)
            return found | rest, notes + more_notes


async def _by_ranges(connection: Connection, program: SearchProgram) -> _Found:
    """Searches that name their tags are in flight together (RFC 4731)."""
    ranges = _cut_at(low for low, _ in await connection.uid_batches(PAGE_MESSAGES))
    asked = [connection.uid_search(program, within=UidSet.from_ranges([pair])) for pair in ranges]
    answers = await asyncio.gather(*asked)
    if any(answer.limited_below is not None for answer in answers):
        return await _at_once(connection, program)
    found = UidSet()
    for answer in answers:
        found |= answer.uids
    return found, tuple(note for answer in answers for note in answer.notes)


def _cut_at(lows: Iterable[int]) -> list[tuple[int, int]]:
    """All UIDs, cut where the server says, into ranges of which not too many are in flight together.

    A UID that the server put into none of its ranges is searched for all the same.
    """
    cuts = sorted({low for low in lows if low > 1})
    starts = [1, *cuts[:: len(cuts) // MAX_CUTS + 1]]
    return list(zip(starts, [*(start - 1 for start in starts[1:]), MAX_UID], strict=True))


async def still_there(connection: Connection, uids: UidSet, today: date) -> UidSet:
    """Those of `uids` that are in the open mailbox; raises as `find_uids` does.

    Other batches may look a second time on the same connection, so nothing is saved on the server (RFC 5182): what
    `$` stands for would be theirs as often as ours.
    """
    program = ALL.program(today=today)
    found = UidSet()
    full = room_within(program)
    term = Term(len(uids))
    begin = 0
    while begin < len(uids):
        end = uids.fit(begin, len(uids), connection.ways.learned.room(full))
        asked: UidSet | None = uids[begin:end]
        while asked:
            term.check()
            answer = await connection.uid_search(program, within=asked)
            # An answer that could not be read whole proves nobody's absence.
            found |= asked if answer.notes else answer.uids & asked
            asked = _left_out(answer, asked)
        begin = end
    return found


def _left_out(answer: SearchAnswer, asked: UidSet) -> UidSet | None:
    """What a server with MESSAGELIMIT did not look at (RFC 9738 §3.2): the UIDs below the one it names."""
    below = answer.limited_below
    return None if below is None or below <= 1 else left_out(asked, below)
