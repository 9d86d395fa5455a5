"""Resuming with a checkpoint: what is skipped, tried again, refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.pipeline.world import OpenWorld, check_sums

import imapipe
from imapipe import search as q
from imapipe.testing import CutAfterBytes
from imapipe.wire.uid_set import UidSet


@pytest.mark.asyncio
async def test_a_second_run_skips_what_was_done(open_world: OpenWorld, tmp_path: Path) -> None:
    world = await open_world(50)
    job = world.job().use(imapipe.Checkpoint(tmp_path / "state.json"))

    async def fail_some(message: imapipe.Message) -> None:
        if message.uid in (7, 8):
            raise ValueError
        await world.handle(message)

    first = await job.run(fail_some)
    check_sums(first)
    assert (first.planned, first.done, first.failed, first.skipped) == (50, 48, 2, 0)
    world.server.mailboxes["INBOX"].append(b"Subject: new\r\n\r\nnew\r\n")
    world.handled.clear()
    second = await job.run(world.handle)
    check_sums(second)
    assert (second.planned, second.done, second.failed, second.skipped) == (51, 3, 0, 48)
    assert sorted(world.handled) == [7, 8, 51]
    assert second.done_all_runs == 51
    assert second.complete
    third = await job.run(world.handle)
    check_sums(third)
    assert (third.planned, third.done, third.skipped) == (51, 0, 51)
    assert third.complete


@pytest.mark.asyncio
async def test_failed_messages_are_not_tried_again_on_request(open_world: OpenWorld, tmp_path: Path) -> None:
    world = await open_world(20)
    path = tmp_path / "state.json"

    async def fail_some(message: imapipe.Message) -> None:
        if message.uid in (7, 8):
            raise ValueError

    await world.job().use(imapipe.Checkpoint(path)).run(fail_some)
    checkpoint = imapipe.Checkpoint(path, retry_failed=False)
    job = world.job().use(checkpoint)
    world.server.commands.clear()
    report = await job.run(world.handle)
    check_sums(report)
    assert world.handled == []
    assert (report.skipped, report.failed) == (18, 2)
    assert not report.complete
    assert report.failed_uids == UidSet.parse("7:8")
    assert {failure.reason for failure in report.failures.values()} == {"ValueError"}
    assert not world.server.commands.named("UID FETCH")
    # What comes new is fetched in a batch of its own, and what failed stays so under its reason.
    world.server.mailboxes["INBOX"].append(b"Subject: new\r\n\r\nnew\r\n")
    again = await job.run(world.handle)
    check_sums(again)
    assert world.handled == [21]
    assert (again.skipped, again.done, again.failed) == (18, 1, 2)
    assert again.batch_sizes.maximum == 1
    state = await checkpoint.recall(world.pool.account, "INBOX")
    assert state is not None
    assert state.failed == {"ValueError": UidSet.parse("7:8")}


@pytest.mark.asyncio
async def test_what_is_left_failed_is_no_failure_of_this_run(open_world: OpenWorld, tmp_path: Path) -> None:
    """`max_failures` counts what was tried."""
    world = await open_world(20)
    path = tmp_path / "state.json"

    async def fail_first_half(message: imapipe.Message) -> None:
        if message.uid <= 10:
            raise ValueError

    await world.job().limit(10).use(imapipe.Checkpoint(path, name="job")).run(fail_first_half)

    async def fail_one_more(message: imapipe.Message) -> None:
        if message.uid == 11:
            raise KeyError
        await world.handle(message)

    job = world.job().batch(2).use(imapipe.Checkpoint(path, name="job", retry_failed=False))
    report = await job.run(fail_one_more, max_failures=1, connections=1)
    check_sums(report)
    assert (report.done, report.failed) == (9, 11)


@pytest.mark.asyncio
async def test_only_failed_by_what_the_checkpoint_knows(open_world: OpenWorld, tmp_path: Path) -> None:
    world = await open_world(20)
    path = tmp_path / "state.json"

    async def fail_some(message: imapipe.Message) -> None:
        if message.uid in (7, 8):
            raise ValueError

    job = world.job().use(imapipe.Checkpoint(path))
    assert (await job.only_failed().run(world.handle)).planned == 0
    first = await job.run(fail_some)
    # What came since is not what failed.
    world.server.mailboxes["INBOX"].append(b"Subject: new\r\n\r\nnew\r\n")
    again = job.only_failed()
    assert (await again.uids()).uids == first.failed_uids
    assert (await again.plan()).messages == 2
    report = await again.run(world.handle)
    check_sums(report)
    assert sorted(world.handled) == [7, 8]
    assert (report.planned, report.done, report.skipped) == (2, 2, 0)
    assert (await again.run(world.handle)).planned == 0
    with pytest.raises(ValueError, match="Checkpoint"):
        await world.job().only_failed().run(world.handle)
    world.server.mailboxes["INBOX"].change_uidvalidity(9)
    with pytest.raises(imapipe.UidValidityChanged):
        await again.run(world.handle)


@pytest.mark.asyncio
async def test_what_a_run_gave_up_without_a_try_is_not_remembered_as_failed(
    open_world: OpenWorld, tmp_path: Path
) -> None:
    world = await open_world(200, faults=[CutAfterBytes(0, command="UID FETCH")])
    path = tmp_path / "state.json"
    first = await world.job().batch(5).use(imapipe.Checkpoint(path)).run(world.handle, connections=1)
    check_sums(first)
    assert first.failed == 200
    world.server.faults.clear()
    checkpoint = imapipe.Checkpoint(path, retry_failed=False)
    state = await checkpoint.recall(world.pool.account, "INBOX")
    assert state is not None
    tried = {uid for uid, failure in first.failures.items() if failure.reason != "not-tried"}
    assert 0 < len(tried) < 100
    assert set(state.failed_uids) == tried
    second = await world.job().batch(5).use(checkpoint).run(world.handle, connections=1)
    check_sums(second)
    # And those that were tried failed by an outage, which says nothing of them.
    assert (second.done, second.failed) == (200, 0)


@pytest.mark.asyncio
async def test_uidvalidity_that_changed_between_runs(open_world: OpenWorld, tmp_path: Path) -> None:
    world = await open_world(10)
    path = tmp_path / "state.json"
    await world.job().use(imapipe.Checkpoint(path)).run(world.handle)
    world.server.mailboxes["INBOX"].change_uidvalidity(1234)
    with pytest.raises(imapipe.UidValidityChanged):
        await world.job().use(imapipe.Checkpoint(path)).run(world.handle)
    assert world.pool.stats.leased == 0
    report = await world.job().use(imapipe.Checkpoint(path, on_uidvalidity="restart")).run(world.handle)
    check_sums(report)
    assert (report.done, report.skipped, report.uidvalidity) == (10, 0, 1234)


@pytest.mark.asyncio
async def test_another_job_is_a_mismatch_and_nothing_is_fetched(open_world: OpenWorld, tmp_path: Path) -> None:
    world = await open_world(10)
    path = tmp_path / "state.json"
    await world.job("flags").use(imapipe.Checkpoint(path)).run(world.handle)
    fetched = len(world.asked)
    with pytest.raises(imapipe.CheckpointMismatch):
        await world.job("full").use(imapipe.Checkpoint(path)).run(world.handle)
    with pytest.raises(imapipe.CheckpointMismatch):
        await (
            world.pool.mailbox("INBOX").search(q.UNSEEN).fetch("flags").use(imapipe.Checkpoint(path)).run(world.handle)
        )
    assert len(world.asked) == fetched
    # Relative dates name the same job on another day.
    job = world.pool.mailbox("INBOX").search(q.since(days=3)).fetch("flags")
    assert job._specification.fingerprint == "SEARCH SINCE 3d FETCH UID FLAGS"


@pytest.mark.asyncio
async def test_a_checkpoint_that_is_in_use(open_world: OpenWorld, tmp_path: Path) -> None:
    world = await open_world(10)
    path = tmp_path / "state.json"
    async with world.job().use(imapipe.Checkpoint(path)).stream() as stream:
        await anext(stream)
        with pytest.raises(imapipe.CheckpointLocked):
            await world.job().use(imapipe.Checkpoint(path)).run(world.handle)
    assert (await world.job().use(imapipe.Checkpoint(path)).run(world.handle)).complete


@pytest.mark.asyncio
async def test_the_limit_and_the_order_do_not_change_the_job(open_world: OpenWorld, tmp_path: Path) -> None:
    world = await open_world(30)
    job = world.job().use(imapipe.Checkpoint(tmp_path / "state.json"))
    await job.limit(10).run(world.handle)
    await job.newest_first().limit(10).run(world.handle)
    report = await job.run(world.handle)
    check_sums(report)
    assert (report.done, report.skipped) == (10, 20)
    assert sorted(world.handled) == list(range(1, 31))
