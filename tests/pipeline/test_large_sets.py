"""Sets of UIDs of a whole mailbox are computed beside the event loop, whatever a run does with them.

What a set costs is counted in ranges: those that the loops under `UidSet` go through in the thread of the event loop.
On one connection: groups of outcomes that come in no order are merged with so many others at most.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sized
from pathlib import Path
from typing import Final

import pytest
from tests.pipeline.world import OpenWorld, World, check_sums

import imapipe
from imapipe import FixedBatch, PriorityBatch, PriorityClass
from imapipe import search as q
from imapipe.runtime import large_sets
from imapipe.testing import SyntheticMailbox
from imapipe.wire import interval, uid_set

COUNT: Final = 3_000
LARGE: Final = 500


class Gone:
    """How many ranges one call went through at most, in the thread of the event loop."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self.most = 0

    def through(self, count: int) -> None:
        if threading.get_ident() == self._thread:
            self.most = max(self.most, count)

    def counted(self, ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        count = 0
        for pair in ranges:
            count += 1
            yield pair
        self.through(count)

    def by_range(self, function: Callable[..., object]) -> Callable[..., object]:
        return lambda *runs: function(*map(self.counted, runs))

    def by_array(self, function: Callable[..., object]) -> Callable[..., object]:
        def counted(array: Sized, *more: object) -> object:
            self.through(len(array))
            return function(array, *more)

        return counted


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch) -> Gone:
    gone = Gone()
    for name in ("intersect", "subtract", "join", "by_start"):
        monkeypatch.setattr(uid_set, name, gone.by_range(getattr(interval, name)))
    for name in ("count_before", "join_numbers"):
        monkeypatch.setattr(uid_set, name, gone.by_array(getattr(interval, name)))
    monkeypatch.setattr(large_sets, "LARGE", LARGE)
    return gone


async def fail_every_other(message: imapipe.Message) -> None:
    if message.uid % 2:
        raise ValueError


async def goes_on(world: World, folder: Path) -> None:
    """Half was done, and half failed and is not tried again."""
    job = world.job().batch(100).use(imapipe.Checkpoint(folder / "state", retry_failed=False, save_every_messages=100))
    check_sums(await job.run(fail_every_other, connections=1))
    plan = await job.plan()
    report = await job.run(world.handle, connections=1)
    check_sums(report)
    assert (plan.messages, plan.skipped) == (COUNT // 2, COUNT // 2)
    assert (report.skipped, report.failed) == (COUNT // 2, COUNT // 2)


async def tries_again(world: World, folder: Path) -> None:
    """What failed is taken from the checkpoint, and not searched for."""
    checkpoint = imapipe.Checkpoint(folder / "state", save_every_messages=100)
    check_sums(await world.job().batch(100).use(checkpoint).run(fail_every_other, connections=1))
    report = await world.job().batch(100).use(checkpoint).only_failed().run(world.handle, connections=1)
    check_sums(report)
    assert report.done == COUNT // 2


def classes(batch: FixedBatch) -> PriorityBatch:
    """Every class has messages everywhere."""
    return PriorityBatch(PriorityClass(q.SEEN, batch), PriorityClass(q.FLAGGED, batch, newest_first=True), rest=batch)


async def in_classes(world: World, folder: Path) -> None:
    """The run gives up in the second of the classes."""
    del folder
    report = (
        await world.job().batch(classes(FixedBatch(100))).run(fail_every_other, max_failures=COUNT // 3, connections=1)
    )
    check_sums(report)
    assert report.planned == COUNT
    assert report.failed > COUNT // 3


async def by_bytes_in_classes(world: World, folder: Path) -> None:
    """What is left of the plan is asked for its sizes."""
    del folder
    report = await world.job().batch(classes(FixedBatch(20, max_bytes=1_000_000))).run(world.handle, connections=1)
    check_sums(report)
    assert report.done == COUNT


async def changes_in_classes(world: World, folder: Path) -> None:
    """What is left of the plan is told of, and counted before anything is changed."""
    change = world.job().batch(classes(FixedBatch(100))).add_flags("$Seen-by-us")
    assert (await change.plan()).messages == COUNT
    with pytest.raises(imapipe.TooManyMessages):
        await change.run(journal=folder / "journal", max_messages=COUNT - 1)


@pytest.mark.parametrize("job", [goes_on, tries_again, in_classes, by_bytes_in_classes, changes_in_classes])
@pytest.mark.asyncio
async def test_nothing_large_is_computed_in_the_loop(
    open_world: OpenWorld, tmp_path: Path, gone: Gone, job: Callable[[World, Path], Awaitable[None]]
) -> None:
    world = await open_world({"INBOX": SyntheticMailbox(COUNT, step=3)})
    await job(world, tmp_path)
    assert 0 < gone.most <= LARGE
