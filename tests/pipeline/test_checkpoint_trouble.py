"""Checkpoints and whole runs: a full disk, a lost key, many mailboxes at the same time, UIDs that begin anew."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.pipeline.world import OpenWorld, check_sums
from tests.store.stores import Database, LeasedHolding, LeasedStore

import imapipe
from imapipe import search as q
from imapipe.store import journal
from imapipe.store.base import Lost


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.asyncio
async def test_a_full_disk_stops_the_handing_out_at_once(
    open_world: OpenWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, concurrency: int
) -> None:
    """Only the next batch looked before: of one large batch, everything was handled and not recorded."""
    world = await open_world(2_000)
    path = tmp_path / "state.json"
    handled: list[int] = []

    def full(fd: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def handle(message: imapipe.Message) -> None:
        handled.append(message.uid)
        if len(handled) == 100:
            monkeypatch.setattr(journal, "write_all", full)
        await asyncio.sleep(0)

    checkpoint = imapipe.Checkpoint(path, save_every_messages=50, save_every_seconds=3600)
    job = world.job().batch(imapipe.FixedBatch(2_000)).use(checkpoint)
    with pytest.raises(imapipe.CheckpointError, match="No space left"):
        await job.run(handle, concurrency=concurrency)
    # Two groups: the one that found the disk full, and what was in hand.
    assert len(handled) <= 150 + concurrency
    monkeypatch.undo()
    state = await checkpoint.recall(world.pool.account, "INBOX")
    assert state is not None
    # The last save needed no journal, and had room.
    assert set(state.done) == set(handled)


@pytest.mark.asyncio
async def test_a_store_that_takes_a_while_begins_while_the_mailbox_is_looked_at(open_world: OpenWorld) -> None:
    world = await open_world(10)
    seen: list[tuple[str, int]] = []

    class Foreseeing(LeasedStore):
        def foresee(self) -> Callable[[], None]:
            self.note("foreseen")
            return lambda: self.note("ended")

        async def open(self, key: imapipe.JobKey, lost: Lost) -> LeasedHolding:
            self.note("opened")
            return await super().open(key, lost)

        def note(self, what: str) -> None:
            seen.append((what, len(world.server.commands.named("EXAMINE"))))

    job = world.job().use(imapipe.Checkpoint(Foreseeing(Database())))
    assert (await job.run(world.handle)).complete
    assert seen == [("foreseen", 0), ("opened", 1), ("ended", 1)]
    seen.clear()
    nowhere = world.pool.mailbox("Nowhere").search(q.ALL).use(imapipe.Checkpoint(Foreseeing(Database())))
    with pytest.raises(imapipe.CommandNo):
        await nowhere.run(world.handle)
    assert [what for what, _ in seen] == ["foreseen", "ended"]


@pytest.mark.asyncio
async def test_a_lost_key_ends_the_run_with_its_error(open_world: OpenWorld) -> None:
    world = await open_world(500)
    database = Database()
    store = LeasedStore(database)
    key = imapipe.JobKey(world.pool.account, "INBOX")

    async def handle(message: imapipe.Message) -> None:
        await world.handle(message)
        if len(world.handled) == 60:
            await database.take_away(key)
            store.holdings[0].lost(imapipe.CheckpointLost("its lease ran out"))
        await asyncio.sleep(0)

    job = world.job().batch(imapipe.FixedBatch(50)).use(imapipe.Checkpoint(store, save_every_messages=20))
    with pytest.raises(imapipe.CheckpointLost, match="lease ran out"):
        await job.run(handle, concurrency=1)
    assert len(world.handled) <= 62
    state = database.states[key]
    assert set(state.done) <= set(world.handled[:60])


async def until_held(database: Database) -> asyncio.Event:
    """Wait until a call hangs there; gives what lets it go on."""
    while database.hold is None or not database.held:  # noqa: ASYNC110 - the database has no event of its own
        await asyncio.sleep(0.001)
    return database.hold


@pytest.mark.parametrize("save_every", [1, 21])
@pytest.mark.asyncio
async def test_while_a_database_is_away_no_more_is_handled_than_a_kill_may_repeat(
    open_world: OpenWorld, save_every: int
) -> None:
    """What a store on a network was given to append dies with the process until it is written."""
    concurrency = 4
    world = await open_world(500)
    database = Database()
    store = LeasedStore(database)
    key = imapipe.JobKey(world.pool.account, "INBOX")
    most = 0

    async def handle(message: imapipe.Message) -> None:
        nonlocal most
        await world.handle(message)
        if len(world.handled) == 60:
            database.hold = asyncio.Event()
        most = max(most, len(world.handled) - len(database.states[key].done))
        await asyncio.sleep(0)

    checkpoint = imapipe.Checkpoint(store, save_every_messages=save_every, save_every_seconds=3600)
    job = world.job().batch(imapipe.FixedBatch(200)).use(checkpoint)
    running = asyncio.create_task(job.run(handle, concurrency=concurrency))
    event = await until_held(database)
    handled = -1
    while len(world.handled) > handled:
        # Nothing more comes, however long it is waited for.
        handled = len(world.handled)
        await asyncio.sleep(0.05)
    assert 60 <= handled <= len(database.states[key].done) + save_every + concurrency
    assert not running.done()
    database.hold = None
    event.set()
    report = await running
    check_sums(report)
    assert report.complete
    assert most <= save_every + concurrency
    assert sorted(world.handled) == list(range(1, 501))


@pytest.mark.asyncio
async def test_a_key_that_is_lost_while_handling_is_held_ends_the_run(open_world: OpenWorld) -> None:
    world = await open_world(100)
    database = Database()
    store = LeasedStore(database)

    async def handle(message: imapipe.Message) -> None:
        await world.handle(message)
        if len(world.handled) == 20:
            database.hold = asyncio.Event()

    checkpoint = imapipe.Checkpoint(store, save_every_messages=10, save_every_seconds=3600)
    running = asyncio.create_task(world.job().use(checkpoint).run(handle, concurrency=1))
    event = await until_held(database)
    await database.take_away(imapipe.JobKey(world.pool.account, "INBOX"))
    store.holdings[0].lost(imapipe.CheckpointLost("its lease ran out"))
    database.hold = None
    event.set()
    with pytest.raises(imapipe.CheckpointLost, match="lease ran out"):
        await running
    assert len(world.handled) <= 31


@pytest.mark.asyncio
async def test_many_mailboxes_at_the_same_time_with_one_checkpoint(open_world: OpenWorld, tmp_path: Path) -> None:
    world = await open_world({f"box {number}": 40 + number for number in range(6)}, options={"max_size": 4})
    checkpoint = imapipe.Checkpoint(tmp_path / "state.json", save_every_messages=7)

    async def work(number: int) -> imapipe.RunReport:
        job = world.pool.mailbox(f"box {number}").search(q.ALL).fetch("full").use(checkpoint, imapipe.Retry())
        return await job.run(world.handle, connections=1)

    for wanted in ("done", "skipped"):
        reports = await asyncio.gather(*map(work, range(6)))
        for number, report in enumerate(reports):
            check_sums(report)
            assert getattr(report, wanted) == 40 + number
            assert report.done_all_runs == 40 + number
    assert os.listdir(tmp_path) == ["state.json"]  # noqa: PTH208 - pathlib is not for coroutines
