"""Iterating: acknowledgement, leaving early, errors in the body, batches."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest
from tests.pipeline.world import OpenWorld, World, check_sums

import imapipe
from imapipe.net.pool.pool import holder
from imapipe.testing import CutAfterBytes, OmitUids, SyntheticMailbox


def _done(path: Path, world: World) -> imapipe.UidSet:
    state = imapipe.JsonCheckpointStore(path).peek(imapipe.JobKey(world.pool.account, "INBOX"))
    return state.done if state is not None else imapipe.UidSet()


@pytest.mark.asyncio
async def test_all_messages_in_order_and_no_lease_afterwards(open_world: OpenWorld) -> None:
    world = await open_world(50)
    seen = [message.uid async for message in world.job().batch(7)]
    assert seen == list(range(1, 51))
    assert world.pool.stats.leased == 0
    assert holder.get() is None


@pytest.mark.asyncio
async def test_break_leaves_the_last_message_unacknowledged(open_world: OpenWorld, tmp_path: Path) -> None:
    world = await open_world(50)
    path = tmp_path / "state.json"
    async for message in world.job().use(imapipe.Checkpoint(path)):
        if message.uid == 20:
            break
    # The next run waits for the first one to save and to give up its lock.
    rest = [message.uid async for message in world.job().use(imapipe.Checkpoint(path))]
    assert rest == list(range(20, 51))
    assert _done(path, world) == imapipe.UidSet.parse("1:50")


@pytest.mark.asyncio
async def test_break_and_the_same_job_again_and_again(open_world: OpenWorld, tmp_path: Path) -> None:
    """One Checkpoint instance, many runs that are left early: each begins where the last one stopped."""
    world = await open_world(30)
    job = world.job().use(imapipe.Checkpoint(tmp_path / "state.json")).batch(4)
    seen: list[int] = []
    for _ in range(40):
        async for message in job:
            seen.append(message.uid)
            if message.uid % 3 == 0 and seen.count(message.uid) == 1:
                break
        else:
            break
    assert sorted(set(seen)) == list(range(1, 31))
    assert {uid for uid in seen if seen.count(uid) > 1} == set(range(3, 31, 3))


@pytest.mark.asyncio
async def test_break_cancels_the_run_and_close_waits_for_it(open_world: OpenWorld) -> None:
    world = await open_world(SyntheticMailbox(2000))
    async for _ in world.job("full").batch(50):
        break
    assert world.pool.runs._tasks
    await world.pool.close()
    assert not world.pool.runs._tasks
    assert holder.get() is None


@pytest.mark.asyncio
async def test_an_exception_in_the_body_comes_out_as_it_is(open_world: OpenWorld, tmp_path: Path) -> None:
    world = await open_world(50)
    path = tmp_path / "state.json"

    async def consume() -> None:
        async for message in world.job().use(imapipe.Checkpoint(path)):
            if message.uid == 5:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await consume()
    gc.collect()
    await world.pool.close()
    assert _done(path, world) == imapipe.UidSet.parse("1:4")


@pytest.mark.asyncio
async def test_a_stream_gives_its_report(open_world: OpenWorld) -> None:
    world = await open_world(10, faults=[OmitUids({4})])
    async with world.job().stream() as stream:
        seen = [message.uid async for message in stream]
        report = stream.report
    assert len(seen) == 9
    check_sums(report)
    assert (report.done, report.failed) == (9, 1)
    elapsed = stream.report.elapsed_seconds
    await asyncio.sleep(0.002)
    assert stream.report.elapsed_seconds == elapsed
    assert [message async for message in stream] == []


@pytest.mark.asyncio
async def test_a_bare_loop_raises_at_its_end_when_a_message_failed(open_world: OpenWorld) -> None:
    world = await open_world(10, faults=[OmitUids({4})])
    seen: list[int] = []

    async def consume() -> None:
        async for message in world.job():
            seen.append(message.uid)  # noqa: PERF401 - a comprehension would not keep what came before the end

    with pytest.raises(imapipe.Incomplete) as caught:
        await consume()
    assert len(seen) == 9
    check_sums(caught.value.report)
    assert caught.value.report.failed_uids == imapipe.UidSet.parse("4")


@pytest.mark.asyncio
async def test_leaving_the_block_early_saves_what_was_acknowledged(open_world: OpenWorld, tmp_path: Path) -> None:
    world = await open_world(50)
    path = tmp_path / "state.json"
    async with world.job().use(imapipe.Checkpoint(path)).stream() as stream:
        async for message in stream:
            if message.uid == 10:
                break
    assert _done(path, world) == imapipe.UidSet.parse("1:9")
    assert stream.report.done == 9
    assert stream.report.unsettled == 41
    assert not stream.report.complete
    assert world.pool.stats.leased == 0


@pytest.mark.asyncio
async def test_the_run_fails_while_the_body_is_busy(open_world: OpenWorld) -> None:
    """Messages that were received and not looked at are not given out any more: nobody could acknowledge them."""
    world = await open_world(100, faults=[])
    seen: list[int] = []

    async def consume() -> None:
        async for message in world.job().batch(10).depth(2):
            seen.append(message.uid)
            if message.uid == 3:
                world.server.mailboxes["INBOX"].change_uidvalidity(5)
                await asyncio.sleep(0.05)

    with pytest.raises(imapipe.UidValidityChanged):
        await consume()
    assert len(seen) <= 20
    assert world.pool.stats.leased == 0


@pytest.mark.asyncio
async def test_the_task_of_the_consumer_is_cancelled(open_world: OpenWorld, tmp_path: Path) -> None:
    world = await open_world(50)
    path = tmp_path / "state.json"
    reached = asyncio.Event()

    async def consume() -> None:
        async with world.job().use(imapipe.Checkpoint(path)).stream() as stream:
            async for message in stream:
                if message.uid == 10:
                    reached.set()
                    await asyncio.sleep(3600)

    task = asyncio.create_task(consume())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert _done(path, world) == imapipe.UidSet.parse("1:9")
    assert world.pool.stats.leased == 0


@pytest.mark.asyncio
async def test_closing_the_pool_ends_an_iteration_in_another_task(open_world: OpenWorld) -> None:
    world = await open_world(SyntheticMailbox(5000))
    reached = asyncio.Event()

    async def consume() -> None:
        async for _ in world.job("full").batch(10):
            reached.set()
            await asyncio.sleep(0)

    task = asyncio.create_task(consume())
    await reached.wait()
    await world.pool.close()
    with pytest.raises(imapipe.PoolClosed):
        await task


@pytest.mark.asyncio
async def test_batches_are_whole_and_acknowledged_as_a_whole(open_world: OpenWorld, tmp_path: Path) -> None:
    world = await open_world(50)
    path = tmp_path / "state.json"
    job = world.job().batch(20).use(imapipe.Checkpoint(path))
    sizes = []
    async with job.batches() as batches:
        async for batch in batches:
            sizes.append(len(batch))
            if len(sizes) == 2:
                break
    assert sizes == [20, 20]
    assert _done(path, world) == imapipe.UidSet.parse("1:20")
    assert [[m.uid for m in batch] async for batch in job.batches()] == [list(range(21, 41)), list(range(41, 51))]


@pytest.mark.asyncio
async def test_a_batch_is_cut_when_it_holds_half_of_what_may_be_held(open_world: OpenWorld) -> None:
    """A consumer that takes whole batches must not wait for one that cannot be received."""
    world = await open_world(
        SyntheticMailbox(200, size=4000), options={"max_held_bytes": 64 * 1024, "spool_above": 1024 * 1024}
    )
    sizes = []
    async for batch in world.job("full").batch(200).batches():
        # What one read of the socket brings comes on top.
        assert sum(message.wire_size for message in batch) <= (64 + 256) * 1024
        sizes.append(len(batch))
        await asyncio.sleep(0.001)
    assert sum(sizes) == 200
    assert len(sizes) > 2


@pytest.mark.asyncio
async def test_batches_with_much_in_flight_and_little_room(open_world: OpenWorld) -> None:
    world = await open_world(SyntheticMailbox(200, size=3000), options={"max_held_bytes": 32 * 1024})
    seen: list[int] = []
    async for batch in world.job("full").batch(8).depth(6).batches():
        seen += [message.uid for message in batch]
        await asyncio.sleep(0)
    assert sorted(seen) == list(range(1, 201))


@pytest.mark.asyncio
async def test_a_slow_consumer_stops_the_reading_and_not_the_run(open_world: OpenWorld) -> None:
    world = await open_world(SyntheticMailbox(300, size=2000), options={"max_held_bytes": 20_000})
    seen = []
    async for message in world.job("full"):
        seen.append(message.uid)
        if message.uid % 50 == 0:
            await asyncio.sleep(0.01)
            leased = next(iter(world.pool.connections._leased))
            assert leased.plane.holdings.held_bytes <= 20_000 + 256 * 1024
    assert seen == list(range(1, 301))


@pytest.mark.asyncio
async def test_loops_within_loops(open_world: OpenWorld) -> None:
    world = await open_world({"INBOX": 6, "Other": 4})
    pairs: list[tuple[int, int]] = []
    async for outer in world.job():
        pairs += [(outer.uid, inner.uid) async for inner in world.job(mailbox="Other")]
        assert holder.get() is not None
    assert len(pairs) == 24
    assert holder.get() is None


@pytest.mark.asyncio
async def test_a_loop_within_a_loop_that_holds_the_only_connection(open_world: OpenWorld) -> None:
    world = await open_world(6, options={"max_size": 1})
    async for _ in world.job():
        with pytest.raises(imapipe.PoolTimeout, match="max_size"):
            await anext(world.job().stream())


@pytest.mark.asyncio
async def test_acquire_in_the_body_of_the_loop(open_world: OpenWorld) -> None:
    world = await open_world(3, options={"max_size": 1})
    async with world.job().stream() as stream:
        async for _ in stream:
            with pytest.raises(imapipe.PoolTimeout) as caught:
                async with world.pool.acquire():
                    pass
            assert "connections=" in str(caught.value)
            assert "max_size" in str(caught.value)
    # After the loop it is free.
    async with world.pool.acquire() as connection:
        await connection.imap.noop()


@pytest.mark.asyncio
async def test_retry_works_in_loops(open_world: OpenWorld) -> None:
    world = await open_world(40, faults=[CutAfterBytes(300, command="UID FETCH", nth=2)])
    job = world.job("full").batch(10).use(imapipe.Retry(wait_initial_seconds=0))
    assert sorted([message.uid async for message in job]) == list(range(1, 41))


@pytest.mark.asyncio
async def test_a_consumer_says_that_a_message_failed(open_world: OpenWorld) -> None:
    world = await open_world(5)
    last: imapipe.Message | None = None
    async with world.job().stream() as stream:
        async for message in stream:
            if message.uid == 2:
                stream.fail(message, ValueError("not good"))
                with pytest.raises(ValueError, match="settled already"):
                    stream.fail(message, ValueError("twice"))
            last = message
        assert last is not None
        with pytest.raises(ValueError, match="settled already"):
            stream.fail(last, ValueError("too late"))
    check_sums(stream.report)
    assert (stream.report.done, stream.report.failed) == (4, 1)
    assert (stream.report.failures[2].reason, stream.report.failures[2].detail) == ("ValueError", "not good")


@pytest.mark.asyncio
async def test_a_consumer_of_batches_says_which_messages_failed(open_world: OpenWorld) -> None:
    world = await open_world(10)
    batches = world.job().batch(5).batches(on_error="record")
    async for messages in batches:
        for message in messages:
            if message.uid in {2, 5, 10}:
                batches.fail(message, LookupError(str(message.uid)))
                with pytest.raises(ValueError, match="settled already"):
                    batches.fail(message, LookupError("twice"))
    check_sums(batches.report)
    assert set(batches.report.failures) == {2, 5, 10}
    assert batches.report.done == 7
