"""The part of a connection that searches the open mailbox: UID SEARCH in all its forms, and UIDBATCHES.

Invariants:

- An extended search that is refused, or whose answer says nothing or nothing sensible, is made in a plainer form; so
  no server that offers ESEARCH or SEARCHRES by mistake finds nothing.
- A search within a set is cut into commands of the length that the server takes; where one turns out to be too long,
  the rest of the set goes out in shorter ones.
- A long answer is read as it comes, piece by piece (`wire.response.pieces`), and only what was found is kept of it.
- Sets of a great many ranges are put together by threads, so that a million of UIDs stops nobody else.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from operator import and_, or_, sub
from typing import Final, TypeAlias

from imapipe.errors import CommandBad, CommandNo, ProtocolError
from imapipe.net.changing import Changing
from imapipe.net.command import Command, Company
from imapipe.net.search_set import pack
from imapipe.wire.command.search import SearchAnswer, read_search, room_within, uid_search
from imapipe.wire.command.uidbatches import uidbatches
from imapipe.wire.response.limits import LONG_BYTES
from imapipe.wire.response.literal import Literal
from imapipe.wire.response.note import Note
from imapipe.wire.response.response import Esearch, Search, UidBatches, parse_response
from imapipe.wire.search_program import SearchProgram
from imapipe.wire.uid_set import MAX_UID, UidSet

UidRanges: TypeAlias = list[tuple[int, int]]

MANY_RANGES: Final = 16_384
"""Sets with more of them are put together by a thread."""

# What a range takes in the set of a piece, in that of all of them, and in a plan.
_RANGE_BYTES: Final = 24
_LIST_BYTES: Final = 700
# So many times what may be kept, a list may have as text.
_MOST_TEXT: Final = 4

_LIST: Final = re.compile(rb"\* *+E?SEARCH ", re.IGNORECASE)

_Ask: TypeAlias = Callable[[], Awaitable[SearchAnswer]]


class SearchCommand(Command):
    """A search whose long answers are read as they come.

    Attributes:
        lists: What they said.
    """

    __slots__ = ("_most_ranges", "_ranges", "lists")

    lists: list[Search | Esearch]
    _ranges: int
    _most_ranges: float

    def begin(self, within: UidSet | None) -> None:
        """Say where is searched: what is found there is not many times as much."""
        self.lists = []
        self._ranges = 0
        self._most_ranges = float("inf") if within is None else MANY_RANGES + 2 * len(within)

    def keep(self, text: bytes, literals: tuple[Literal, ...]) -> None:
        """Receive an untagged response; raises as `Command.keep` does."""
        if len(text) > LONG_BYTES and (found := _read_list(text, literals)) is not None:
            uids = found.uids if isinstance(found, Search) else found.all or UidSet()
            self._ranges += uids.range_count
            if self._ranges > self._most_ranges:
                raise ProtocolError(f"{self.name} within a set finds far more messages than the set has")
            # Numbers that repeat are to have an end, too.
            self.keep_bytes(max(_RANGE_BYTES * uids.range_count, len(text) // _MOST_TEXT) + _LIST_BYTES)
            self.lists.append(found)
        else:
            super().keep(text, literals)


class Searching(Changing):
    """What finds messages in the selected mailbox."""

    __slots__ = ()

    async def uid_search(
        self, program: SearchProgram, *, within: UidSet | None = None, save: bool = False
    ) -> SearchAnswer:
        """UID SEARCH in the selected mailbox, by ESEARCH where it is offered (RFC 4731).

        Args:
            program: The keys.
            within: Look only at these UIDs. Where the server has them saved it is told `$` (RFC 5182), else they are
                sent, a long set in several commands.
            save: Have the result saved for a search within it, where SEARCHRES is offered.

        Raises:
            CommandNo, CommandBad, Throttled: The server refused the search.
            ValueError: The program was put together by hand, and not well.

        Otherwise it raises as `execute` does.
        """
        if within is not None and not within:
            return SearchAnswer(within)
        selected = self.session.selected
        by_name: dict[str, _Ask] = {}
        is_saved = within is not None and selected is not None and selected.saved == within
        if is_saved and self.ways.may("SEARCHRES", "SEARCH $"):
            by_name["SEARCH $"] = partial(self._search_well, program, within, save=save, within_saved=True)
        answer = await self.ways.first(by_name, partial(self._search_in_pieces, program, within, save=save))
        return answer if within is None else replace(answer, uids=await _combine(and_, answer.uids, within))

    async def uid_search_page(self, program: SearchProgram, count: int, *, above: int) -> SearchAnswer:
        """The first `count` UIDs above `above` that match: UID SEARCH RETURN (PARTIAL …), RFC 9394.

        Paging goes by the last UID seen: the offsets of PARTIAL drift when messages come and go.

        Raises CapabilityMissing, ValueError for its arguments, else raises as `execute` does.
        """
        self.require(["PARTIAL"])
        above_only = UidSet.from_ranges([(above + 1, MAX_UID)]) if above else None
        answer = await self._search(program, above_only, extended=True, first=count)
        # `n:*` and its like give the last message even where its UID is lower (RFC 9051 §9, seq-range).
        seen = UidSet.from_ranges([(1, above)]) if above else UidSet()
        return replace(answer, uids=await _combine(sub, answer.uids, seen))

    async def uid_batches(self, size: int) -> UidRanges:
        """Ranges of UIDs that hold `size` messages each, lowest first: UIDBATCHES (RFC 10022).

        Raises CapabilityMissing, ValueError for its arguments, else raises as `execute` does.
        """
        self.require(["UIDBATCHES"])
        _, responses = await self._ask(uidbatches(size))
        ranges = [found for r in responses if isinstance(r, UidBatches) for found in r.ranges]
        if len(ranges) > MANY_RANGES:
            return await asyncio.to_thread(_ascending, ranges)
        return _ascending(ranges)

    async def _search_in_pieces(self, program: SearchProgram, within: UidSet | None, *, save: bool) -> SearchAnswer:
        """Search within a set that is sent."""
        if within is None:
            return await self._search_well(program, None, save=save)
        full = room_within(program)
        room = self.ways.learned.room(full)
        pieces = pack(within, room)
        found, notes = UidSet(), tuple[Note, ...]()
        modseq: int | None = None
        limited: int | None = None
        is_whole = len(pieces) == 1
        while pieces:
            try:
                answer = await self._search_well(program, pieces[0], save=save and is_whole)
            except (CommandBad, CommandNo):
                if self.ways.learned.room(full) == room:
                    raise
                room, is_whole = self.ways.learned.room(full), False
                pieces = pack(UidSet.union(pieces), room)
                continue
            pieces.pop(0)
            found = await _combine(or_, found, answer.uids)
            modseq = max((m for m in (modseq, answer.modseq) if m is not None), default=None)
            limited = answer.limited_below if answer.limited_below is not None else limited
            notes += answer.notes
        return SearchAnswer(found, modseq, limited, notes)

    async def _search_well(
        self, program: SearchProgram, within: UidSet | None, *, save: bool, within_saved: bool = False
    ) -> SearchAnswer:
        """One search, in the best form that the server takes."""
        ask = partial(self._search, program, within, within_saved=within_saved)
        ways: dict[str, _Ask] = {}
        if self.ways.may("ESEARCH"):
            if save and self.ways.may("SEARCHRES"):
                ways["SEARCHRES"] = partial(self._search_and_save, program, within, within_saved=within_saved)
            ways["ESEARCH"] = partial(ask, extended=True)
        return await self.ways.first(ways, ask)

    async def _search_and_save(
        self, program: SearchProgram, within: UidSet | None, *, within_saved: bool
    ) -> SearchAnswer:
        ask = partial(self._search, program, within, extended=True, within_saved=within_saved)
        selected = self.session.selected
        try:
            answer = await ask(save=True)
        except CommandNo as error:
            if not error.code.startswith("NOTSAVED"):
                raise
            return await ask()
        if selected is not None:
            selected.saved = answer.uids
        return answer

    async def _search(
        self,
        program: SearchProgram,
        within: UidSet | None,
        *,
        extended: bool = False,
        save: bool = False,
        first: int | None = None,
        within_saved: bool = False,
    ) -> SearchAnswer:
        request = uid_search(
            program, extended=extended, save=save, first=first, within=within, within_saved=within_saved
        )
        command = SearchCommand.of(request, company=Company.SEARCH if extended else Company.ALONE)
        command.begin(within)
        tagged = await self.execute(command)
        answers = [*command.lists, *await self._responses(command)]
        if extended and not any(isinstance(answer, Esearch | Search) for answer in answers):
            # RFC 4731 §3.1 wants one also where nothing was found; its tag may have been another command's.
            raise ProtocolError("an extended SEARCH was answered OK without an answer")
        if command.lists:
            return await asyncio.to_thread(read_search, answers, tagged)
        return read_search(answers, tagged)


def _read_list(text: bytes, literals: tuple[Literal, ...]) -> Search | Esearch | None:
    """A long list that is an answer to a search; None for anything else, also for one that cannot be read."""
    if not _LIST.match(text):
        return None
    try:
        response = parse_response(text, literals)
    except ProtocolError:
        return None
    return response if isinstance(response, Search | Esearch) else None


async def _combine(operation: Callable[[UidSet, UidSet], UidSet], left: UidSet, right: UidSet) -> UidSet:
    """One set of two, by a thread where they are large."""
    if left.range_count + right.range_count > MANY_RANGES:
        return await asyncio.to_thread(operation, left, right)
    return operation(left, right)


def _ascending(ranges: UidRanges) -> UidRanges:
    return sorted((min(pair), max(pair)) for pair in ranges)
