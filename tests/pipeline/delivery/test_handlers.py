"""Handlers: which are taken, how they fail, how they are cancelled, what they may ask of the pool."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from unittest.mock import AsyncMock

import pytest
from tests.pipeline.world import OpenWorld, check_sums

import imapipe
from imapipe.pipeline.delivery.handlers import check_handler
from imapipe.testing import SyntheticMailbox


class _Callable:
    async def __call__(self, message: imapipe.Message) -> None:
        """Handle."""

    async def method(self, message: imapipe.Message) -> None:
        """Handle."""

    def plain(self, message: imapipe.Message) -> None:
        """Not async."""


async def _two(prefix: str, message: imapipe.Message) -> None:
    """Take one more argument."""


async def _generator(message: imapipe.Message) -> AsyncIterator[imapipe.Message]:
    yield message


@pytest.mark.parametrize(
    "handler",
    [_Callable(), _Callable().method, functools.partial(_two, "x"), AsyncMock(), imapipe.in_threads(print)],
    ids=["object", "method", "partial", "mock", "threads"],
)
def test_taken_as_it_is(handler: Callable[..., object]) -> None:
    assert check_handler(handler) is handler


@pytest.mark.parametrize(
    ("handler", "advice"),
    [
        (print, "in_threads"),
        (_Callable().plain, "in_threads"),
        (lambda message: message, "in_processes"),
        (functools.partial(print, "x"), "in_threads"),
        (_Callable, "async function"),
        ("handle", "async function"),
        (_generator, "generator"),
    ],
)
def test_refused_with_advice(handler: object, advice: str) -> None:
    with pytest.raises(TypeError, match=advice):
        check_handler(handler)


def test_threads_take_plain_functions_only() -> None:
    with pytest.raises(TypeError, match="async already"):
        imapipe.in_threads(_Callable().method)


@pytest.mark.asyncio
async def test_no_more_than_concurrency_at_a_time(open_world: OpenWorld) -> None:
    world = await open_world(60)
    now = most = 0

    async def handle(message: imapipe.Message) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.0005)
        now -= 1

    await world.job().run(handle, concurrency=5)
    assert most == 5


@pytest.mark.asyncio
async def test_on_error_raise_is_the_handlers_own_exception(open_world: OpenWorld, tmp_path: Path) -> None:
    world = await open_world(40)
    path = tmp_path / "state.json"
    own = LookupError("mine")
    reason = OSError("why")

    async def handle(message: imapipe.Message) -> None:
        world.handled.append(message.uid)
        if message.uid == 12:
            raise own from reason

    job = world.job().batch(5).use(imapipe.Checkpoint(path))
    with pytest.raises(LookupError) as caught:
        await job.run(handle, concurrency=1, connections=1, on_error="raise")
    assert caught.value is own
    assert caught.value.__cause__ is reason
    assert world.pool.stats.leased == 0
    state = imapipe.JsonCheckpointStore(path).peek(imapipe.JobKey(world.pool.account, "INBOX"))
    assert state is not None
    assert state.done == imapipe.UidSet.parse("1:11")
    assert state.failed_uids == imapipe.UidSet.parse("12")
    assert max(world.handled) == 12


@pytest.mark.asyncio
async def test_cancelling_a_run_stops_its_handlers_and_saves(open_world: OpenWorld, tmp_path: Path) -> None:
    world = await open_world(SyntheticMailbox(400))
    path = tmp_path / "state.json"
    begun, ended = 0, 0
    reached = asyncio.Event()

    async def handle(message: imapipe.Message) -> None:
        nonlocal begun, ended
        begun += 1
        try:
            if message.uid == 100:
                reached.set()
            if message.uid >= 100:
                await asyncio.sleep(3600)
        finally:
            ended += 1

    task = asyncio.create_task(world.job("full").batch(20).use(imapipe.Checkpoint(path)).run(handle, concurrency=4))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert begun == ended
    assert world.pool.stats.leased == 0
    state = imapipe.JsonCheckpointStore(path).peek(imapipe.JobKey(world.pool.account, "INBOX"))
    assert state is not None
    assert len(state.done) == begun - 4
    assert not state.failed_uids
    assert os.listdir(tmp_path) == [path.name]  # noqa: PTH208 - in the loop, but short


@pytest.mark.asyncio
async def test_a_run_within_a_timeout(open_world: OpenWorld) -> None:
    world = await open_world(10)

    async def handle(message: imapipe.Message) -> None:
        await asyncio.sleep(3600)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await world.job().run(handle)
    assert world.pool.stats.leased == 0


@pytest.mark.asyncio
async def test_a_handler_that_awaits_something_cancelled_fails_alone(open_world: OpenWorld) -> None:
    world = await open_world(20)

    async def handle(message: imapipe.Message) -> None:
        if message.uid % 4 == 0:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

    report = await world.job().run(handle, concurrency=2)
    check_sums(report)
    assert (report.done, report.failed) == (15, 5)
    assert {failure.reason for failure in report.failures.values()} == {"CancelledError"}


@pytest.mark.asyncio
@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_handler_that_cancels_its_own_task(open_world: OpenWorld, concurrency: int) -> None:
    world = await open_world(20)

    async def handle(message: imapipe.Message) -> None:
        task = asyncio.current_task()
        assert task is not None
        if message.uid % 4 == 0:
            task.cancel()
            await asyncio.sleep(0)
        elif message.uid % 4 == 1:
            # Returns before it is hit: its message was handled, and the next one must not pay.
            task.cancel()
        else:
            await asyncio.sleep(0)

    report = await world.job().run(handle, concurrency=concurrency)
    check_sums(report)
    assert report.failed_uids == imapipe.UidSet.parse("4,8,12,16,20")


@pytest.mark.asyncio
async def test_a_timeout_of_the_handlers_own(open_world: OpenWorld) -> None:
    world = await open_world(6)

    async def handle(message: imapipe.Message) -> None:
        async with asyncio.timeout(0.005 if message.uid == 2 else 60):
            await asyncio.sleep(0.02 if message.uid == 2 else 0)

    report = await world.job().run(handle, concurrency=1)
    check_sums(report)
    assert {uid: failure.reason for uid, failure in report.failures.items()} == {2: "TimeoutError"}


@pytest.mark.asyncio
async def test_acquire_while_the_run_holds_every_connection(open_world: OpenWorld) -> None:
    world = await open_world(4, options={"max_size": 2})

    async def handle(message: imapipe.Message) -> None:
        await asyncio.sleep(0.01)
        async with world.pool.acquire() as connection:
            await connection.noop()

    report = await world.job().batch(1).run(handle, connections=2)
    check_sums(report)
    assert {failure.reason for failure in report.failures.values()} == {"PoolTimeout"}
    assert all("connections=" in f.detail and "max_size" in f.detail for f in report.failures.values())
    report = await world.job().batch(1).run(handle, connections=1)
    assert report.complete


@pytest.mark.asyncio
async def test_a_slow_handler_without_an_await_lets_the_connection_be_read(open_world: OpenWorld) -> None:
    world = await open_world(200)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def handle(message: imapipe.Message) -> None:
        end = time.perf_counter() + 0.002
        while time.perf_counter() < end:
            message.flags  # noqa: B018 - it computes

    counter = asyncio.create_task(count())
    await world.job().run(handle, concurrency=1)
    counter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await counter
    # 0.4 seconds of work, 0.02 at a time.
    assert turns > 10


@pytest.mark.asyncio
async def test_threads_work_as_wide_as_concurrency(open_world: OpenWorld) -> None:
    world = await open_world(24)
    main = threading.get_ident()
    threads: set[int] = set()
    barrier = threading.Barrier(4, timeout=60)

    def blocking(message: imapipe.Message) -> None:
        threads.add(threading.get_ident())
        barrier.wait()

    report = await world.job("full").run(imapipe.in_threads(blocking), concurrency=4)
    check_sums(report)
    assert report.complete
    assert main not in threads
    assert len(threads) >= 4


@pytest.mark.asyncio
async def test_cancelling_waits_for_threads(open_world: OpenWorld) -> None:
    world = await open_world(8)
    begun = threading.Event()
    go_on = threading.Event()
    calls: list[str] = []

    def blocking(message: imapipe.Message) -> None:
        calls.append("begun")
        begun.set()
        go_on.wait(60)
        calls.append("ended")

    task = asyncio.create_task(world.job().run(imapipe.in_threads(blocking), concurrency=2))
    assert await asyncio.to_thread(begun.wait, 60)
    task.cancel()
    await asyncio.sleep(0.01)
    task.cancel()
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert calls.count("begun") == calls.count("ended")


@pytest.mark.asyncio
async def test_however_often_a_call_in_a_thread_is_cancelled_its_thread_is_waited_for() -> None:
    begun, go_on = threading.Event(), threading.Event()
    ended: list[object] = []

    def blocking(message: object) -> None:
        begun.set()
        go_on.wait(60)
        ended.append(message)
        raise ValueError("nobody is left to be told")

    task = asyncio.ensure_future(imapipe.in_threads(blocking)("message"))  # type: ignore[arg-type]
    assert await asyncio.to_thread(begun.wait, 60)
    for _ in range(3):
        task.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
        assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["message"]


@pytest.mark.asyncio
async def test_a_cancellation_that_comes_late_hits_no_other_message(open_world: OpenWorld) -> None:
    """What a handler left behind cancels its worker when that waits for the next message."""
    world = await open_world(4)
    handled: list[int] = []

    async def handle(message: imapipe.Message) -> None:
        handled.append(message.uid)
        task = asyncio.current_task()
        assert task is not None
        # Two turns later nothing is in the inbox: the next message is fetched when this one is done.
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: loop.call_soon(task.cancel))

    report = await world.job().batch(1).depth(1).run(handle, concurrency=1, connections=1)
    check_sums(report)
    assert (report.done, report.failed, handled) == (4, 0, [1, 2, 3, 4])


@pytest.mark.asyncio
async def test_a_run_that_is_cancelled_while_a_cancellation_of_a_handlers_own_is_waited_for(
    open_world: OpenWorld,
) -> None:
    world = await open_world(4)
    handled: list[int] = []

    async def handle(message: imapipe.Message) -> None:
        handled.append(message.uid)
        worker = asyncio.current_task()
        assert worker is not None
        asyncio.get_running_loop().call_soon(run.cancel)
        worker.cancel()

    run = asyncio.create_task(world.job().run(handle, concurrency=1))
    with pytest.raises(asyncio.CancelledError):
        await run
    assert handled == [1]
    assert world.pool.stats.leased == 0


@pytest.mark.asyncio
async def test_an_idle_worker_keeps_no_message(open_world: OpenWorld) -> None:
    """A large body is freed when it was handled, not when the next one comes."""
    world = await open_world([b"Subject: x\r\n\r\n" + b"y" * 20_000] * 3, options={"spool_above": 2048})
    held: list[int] = []

    async def handle(message: imapipe.Message) -> None:
        assert message.is_spooled
        leased = next(iter(world.pool.connections._leased))
        held.append(leased.plane.holdings.spooled_bytes)
        await asyncio.sleep(0.02)

    await world.job("full").batch(1).depth(1).run(handle, concurrency=1, connections=1)
    assert len(set(held)) == 1
