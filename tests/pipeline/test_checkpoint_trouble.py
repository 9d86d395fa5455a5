"""Checkpoints and whole runs: a full disk, a lost key, many mailboxes at the same time, UIDs that begin anew."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest
from tests.pipeline.world import OpenWorld, check_sums
from tests.store.stores import Database, LeasedStore

import imapipe
from imapipe import search as q
from imapipe.store import journal


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
