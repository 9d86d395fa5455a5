"""Servers that answer in parts (MESSAGELIMIT, RFC 9738), and name another part with each."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from tests.middleware.fakes import run_in_fake_time

from imapipe import search as q
from imapipe.errors import ProtocolError
from imapipe.net.changed_flags import fetch_changed_flags
from imapipe.pipeline.source import find
from imapipe.wire.command.search import SearchAnswer
from imapipe.wire.response.response import Tagged, parse_response
from imapipe.wire.uid_set import UidSet

TODAY = datetime.date(2024, 6, 1)
PROGRAM = q.ALL.program(today=TODAY)


class Endless:
    """A server that looks at one UID for each question, and finds nothing there."""

    def __init__(self) -> None:
        self.asked = 0
        self.below = 4_000_000_000
        self.selected = SimpleNamespace(exists=100)
        self.session = SimpleNamespace(enabled=frozenset())
        self.ways = SimpleNamespace(learned=SimpleNamespace(room=lambda _: 8000))

    async def uid_search(self, *_: object, **__: object) -> SearchAnswer:
        await self._look()
        return SearchAnswer(UidSet(), None, self.below)

    async def uid_search_page(self, *_: object, **__: object) -> SearchAnswer:
        await self._look()
        return SearchAnswer(UidSet.from_numbers([self.asked]), None, self.below)

    async def execute(self, _: object) -> Tagged:
        await self._look()
        tagged = parse_response(b"P1 OK [MESSAGELIMIT 1 %d] so" % self.below)
        assert isinstance(tagged, Tagged)
        return tagged

    async def _look(self) -> None:
        self.asked += 1
        self.below -= 1
        await asyncio.sleep(10)


WAYS: dict[str, Callable[[Any], Awaitable[object]]] = {
    "at once": lambda server: find._at_once(server, PROGRAM),
    "by pages": lambda server: find._by_pages(server, PROGRAM, 4000),
    "second look": lambda server: find.still_there(server, UidSet.parse("1:3999999999"), TODAY),
    "changes": lambda server: fetch_changed_flags(server, 1, vanished=False),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_search_in_parts_ends(way: str) -> None:
    async def run() -> None:
        server = Endless()
        with pytest.raises(ProtocolError, match="comes to no end"):
            await WAYS[way](server)
        assert 60 <= server.asked <= 60 + 370

    run_in_fake_time(run())
