"""Finding the UIDs of a run: one search, or several bounded ones in a large mailbox.

A server that answers with a million UIDs in one line is no trouble (they become interval sets), but it keeps
the connection silent for long and may stop short. So a large mailbox is searched in pages where the server has
PARTIAL (RFC 9394), or range by range where it has UIDBATCHES (RFC 10022), and else at once.

Invariant: an answer that is not complete (`[MESSAGELIMIT]`, RFC 9738) is followed by a search below the UID it
names, until one is complete or makes no progress.
"""

from __future__ import annotations

import asyncio

from imapipe.errors import ProtocolError
from imapipe.net.connection import Connection
from imapipe.wire.search_program import SearchProgram
from imapipe.wire.uid_set import UidSet

PAGE_MESSAGES = 100_000


async def find_uids(connection: Connection, program: SearchProgram, exists: int, *, save: bool = False) -> UidSet:
    """Every UID of the selected mailbox that matches.

    Args:
        connection: With the mailbox selected.
        program: The search.
        exists: How many messages the mailbox holds.
        save: Have the server save the result where it can, for a search within it (RFC 5182).

    Raises:
        CommandNo, CommandBad, Throttled: The server refused the search.
        ProtocolError: It stops short and says so again and again without going on.
    """
    if exists > PAGE_MESSAGES and connection.offers("PARTIAL"):
        return await _by_pages(connection, program)
    if exists > PAGE_MESSAGES and connection.offers("UIDBATCHES") and connection.offers("ESEARCH"):
        return await _by_ranges(connection, program)
    return await _at_once(connection, program, save=save)


async def find_within(connection: Connection, program: SearchProgram, uids: UidSet) -> UidSet:
    """Those of `uids` that match; what is found is saved for a search within it. Raises as `find_uids` does."""
    return await _at_once(connection, program, uids, save=True)


async def _at_once(
    connection: Connection, program: SearchProgram, within: UidSet | None = None, *, save: bool = False
) -> UidSet:
    answer = await connection.uid_search(program, within=within, save=save)
    found = answer.uids
    below = answer.limited_below
    while below is not None and below > 1:
        rest = UidSet.from_ranges([(1, below - 1)])
        answer = await connection.uid_search(program, within=rest if within is None else rest & within)
        found |= answer.uids
        if answer.limited_below is not None and answer.limited_below >= below:
            raise ProtocolError("the server limits a search and names no lower UID to go on with")
        below = answer.limited_below
    return found


async def _by_pages(connection: Connection, program: SearchProgram) -> UidSet:
    found = UidSet()
    while True:
        answer = await connection.uid_search_page(program, PAGE_MESSAGES, above=found.max if found else 0)
        found |= answer.uids
        if len(answer.uids) < PAGE_MESSAGES and answer.limited_below is None:
            return found
        if not answer.uids:
            return found | await _at_once(connection, program)


async def _by_ranges(connection: Connection, program: SearchProgram) -> UidSet:
    """Searches that name their tags are in flight together (RFC 4731)."""
    ranges = await connection.uid_batches(PAGE_MESSAGES)
    async with asyncio.TaskGroup() as group:
        searches = [
            group.create_task(connection.uid_search(program, within=UidSet.from_ranges([pair]))) for pair in ranges
        ]
    if any(search.result().limited_below is not None for search in searches):
        return await _at_once(connection, program)
    found = UidSet()
    for search in searches:
        found |= search.result().uids
    return found
