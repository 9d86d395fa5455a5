"""How much may wait to be written before no further message is handed out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from imapipe.middleware.arrears import Arrears
from imapipe.store import CheckpointChange, WritesBehind
from imapipe.wire.uid_set import UidSet

pytestmark = pytest.mark.asyncio


class Behind:
    """What a store that writes behind tells."""

    waiting = 0

    async def written(self) -> None:
        raise NotImplementedError


class Held:
    """A run and a store that writes when it is told to."""

    def __init__(self, *, works: bool = True, store: WritesBehind | None = None) -> None:
        self.is_held = False
        self.changes: list[CheckpointChange] = []
        self.works = works
        self.may_write = asyncio.Event()
        self.goes_on = asyncio.Event()
        self.arrears = Arrears(self.hold, store, self.write)
        self.arrears.begin(5)

    def hold(self) -> Callable[[], None]:
        assert not self.is_held
        self.is_held = True
        return self.go_on

    def go_on(self) -> None:
        assert self.is_held
        self.is_held = False
        self.goes_on.set()

    async def write(self) -> bool:
        given = self.arrears.given
        await self.may_write.wait()
        if self.works:
            self.arrears.outlives(given)
        return self.works

    def give(self, count: int) -> bool:
        self.arrears.give(count)
        self.changes.append(CheckpointChange(series="", sequence=self.arrears.given, done=UidSet.parse(f"1:{count}")))
        self.arrears.look(self.changes)
        return self.is_held


async def test_a_run_is_held_where_more_wait_than_may_and_goes_on_when_enough_is_written() -> None:
    held = Held()
    assert not held.give(5)
    assert held.give(1)
    # These come while it is written: not they, but what is left of all counts.
    assert held.give(4)
    held.may_write.set()
    await held.goes_on.wait()
    assert not held.give(1)
    await held.arrears.stop()


async def test_what_was_written_by_others_lets_it_go_on_too() -> None:
    held = Held()
    assert held.give(9)
    held.arrears.outlives(3)
    assert not held.goes_on.is_set()
    held.arrears.outlives(4)
    assert held.goes_on.is_set()
    await held.arrears.stop()


async def test_a_store_that_fails_is_tried_again_when_more_comes_and_holds_nothing_at_the_end() -> None:
    held = Held(works=False)
    held.may_write.set()
    assert held.give(6)
    await held.arrears.stop()
    assert held.is_held
    held.works = True
    held.arrears.look(held.changes)
    await held.goes_on.wait()
    held.arrears.end()
    assert not held.give(100)
    await held.arrears.stop()


async def test_what_the_store_has_written_by_itself_holds_nobody() -> None:
    store = Behind()
    held = Held(store=store)
    for _ in range(20):
        store.waiting = 1
        assert not held.give(5)
    store.waiting = 2
    assert held.give(1)
    # Two groups wait, and the run goes on when the first of them is there.
    store.waiting = 1
    assert not held.give(2)
    await held.arrears.stop()


async def test_where_it_is_not_certain_what_the_store_was_given_nothing_counts_as_written() -> None:
    held = Held(store=Behind())
    assert not held.give(5)
    held.arrears.give(1)
    held.arrears.look(None)
    assert held.is_held
    await held.arrears.stop()
