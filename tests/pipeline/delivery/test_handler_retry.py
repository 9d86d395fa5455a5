"""A handler that is in trouble: its messages wait, the innocent do not fail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from tests.pipeline.world import Always, OpenWorld, check_sums

import imapipe
from imapipe.middleware.base import Layer, Run
from imapipe.models.event import Event, HandlersPaused, HandlersResumed


class _Database:
    """Is down until it was asked so often, or for good."""

    def __init__(self, down_for: float) -> None:
        self.down_for = down_for
        self.calls = 0
        self.stored: list[int] = []

    async def store(self, message: imapipe.Message) -> None:
        self.calls += 1
        await asyncio.sleep(0)
        if self.calls <= self.down_for:
            raise ConnectionRefusedError("the database is down")
        self.stored.append(message.uid)


class _Listening(Always):
    def __init__(self, events: list[Event]) -> None:
        super().__init__(Layer())
        self._events = events

    async def start(self, run: Run) -> Layer:
        run.events.subscribe(self._events.append)
        return await super().start(run)


QUICK = imapipe.HandlerRetry(wait_initial_seconds=0.001, wait_max_seconds=0.002)
AT_ONCE = imapipe.HandlerRetry(
    wait_initial_seconds=0.001, wait_max_seconds=0.002, on=(ConnectionRefusedError,), breaker_after=1
)


@pytest.mark.asyncio
async def test_an_outage_of_the_handler_fails_no_message(open_world: OpenWorld) -> None:
    world = await open_world(200)
    database = _Database(down_for=60)
    events: list[Event] = []
    job = world.job().use(_Listening(events))
    report = await job.run(database.store, concurrency=8, handler_retry=QUICK)
    check_sums(report)
    assert report.complete
    assert sorted(database.stored) == list(range(1, 201))
    paused = [event for event in events if isinstance(event, HandlersPaused)]
    assert [(event.failures, event.reason) for event in paused] == [(10, "ConnectionRefusedError")]
    assert sum(isinstance(event, HandlersResumed) for event in events) == 1
    # While it stood still, one message at a time was tried, and none was begun with.
    assert database.calls <= 200 + 60


@pytest.mark.asyncio
@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_who_is_idle_while_it_stands_still_begins_nothing(open_world: OpenWorld, is_cancelled: bool) -> None:
    """Also where what a handler left behind cancels the worker that waits."""
    world = await open_world(6)
    order: list[int] = []
    tries = 0
    both, has_failed = asyncio.Barrier(2), asyncio.Event()
    idle: list[asyncio.Task[object]] = []

    async def handle(message: imapipe.Message) -> None:
        nonlocal tries
        order.append(message.uid)
        if message.uid <= 2 and not has_failed.is_set():
            await both.wait()
        if message.uid == 1:
            tries += 1
            has_failed.set()
            if is_cancelled and tries == 3:
                idle[0].cancel()
            if tries < 6:
                raise ConnectionRefusedError("the database is down")
        elif message.uid == 2:
            task = asyncio.current_task()
            assert task is not None
            idle.append(task)
            await has_failed.wait()
            await asyncio.sleep(0)
            raise ValueError("poison")

    report = await world.job().run(handle, concurrency=2, handler_retry=AT_ONCE)
    check_sums(report)
    assert sorted(order[:7]) == [1] * 6 + [2]
    assert sorted(order[7:]) == [3, 4, 5, 6]
    assert {uid: failure.reason for uid, failure in report.failures.items()} == {2: "ValueError"}


@pytest.mark.asyncio
@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("last", [ValueError("poison"), asyncio.CancelledError()])
async def test_who_was_tried_alone_and_fails_for_something_else_holds_nobody_up(
    open_world: OpenWorld, concurrency: int, last: BaseException
) -> None:
    world = await open_world(6)
    tries = 0

    async def handle(message: imapipe.Message) -> None:
        nonlocal tries
        if message.uid == 1:
            tries += 1
            raise ConnectionRefusedError("the database is down") if tries < 3 else last

    async with asyncio.timeout(100):
        report = await world.job().run(handle, concurrency=concurrency, handler_retry=AT_ONCE)
    check_sums(report)
    assert (report.done, tries) == (5, 3)
    assert {uid: failure.reason for uid, failure in report.failures.items()} == {1: type(last).__name__}


@pytest.mark.asyncio
async def test_a_message_that_is_poison_fails_alone(open_world: OpenWorld) -> None:
    world = await open_world(50)
    calls: dict[int, int] = {}

    async def handle(message: imapipe.Message) -> None:
        calls[message.uid] = calls.get(message.uid, 0) + 1
        if message.uid == 7:
            raise ValueError("poison")

    report = await world.job().run(handle, handler_retry=QUICK, concurrency=4)
    check_sums(report)
    assert (report.done, report.failed) == (49, 1)
    assert report.failures[7].reason == "ValueError"
    assert calls[7] == 5
    assert set(calls.values()) == {1, 5}


@pytest.mark.asyncio
async def test_only_the_errors_that_are_named(open_world: OpenWorld) -> None:
    world = await open_world(10)
    calls = 0

    async def handle(message: imapipe.Message) -> None:
        nonlocal calls
        calls += 1
        raise KeyError(message.uid)

    retry = imapipe.HandlerRetry(on=(OSError,))
    report = await world.job().run(handle, handler_retry=retry)
    assert (report.failed, calls) == (10, 10)


@pytest.mark.asyncio
async def test_an_outage_without_end_gives_up_and_the_rest_was_not_tried(open_world: OpenWorld) -> None:
    world = await open_world(100)
    database = _Database(down_for=float("inf"))
    retry = imapipe.HandlerRetry(wait_initial_seconds=0.001, wait_max_seconds=0.002, outage_seconds=0.02)
    report = await world.job().batch(10).run(database.store, concurrency=4, handler_retry=retry)
    check_sums(report)
    assert report.failed == 100
    reasons = [failure.reason for failure in report.failures.values()]
    # Those in hand, and those that had failed before it stood still.
    assert 1 <= reasons.count("ConnectionRefusedError") <= 4 + 10
    assert reasons.count("not-tried") == 100 - reasons.count("ConnectionRefusedError")
    assert "handler fails with every message" in next(
        failure.detail for failure in report.failures.values() if failure.reason == "not-tried"
    )


@pytest.mark.asyncio
async def test_cancelling_ends_every_wait(open_world: OpenWorld) -> None:
    world = await open_world(50)
    database = _Database(down_for=float("inf"))
    retry = imapipe.HandlerRetry(wait_initial_seconds=30, wait_max_seconds=30, breaker_after=4)
    events: list[Event] = []
    task = asyncio.create_task(
        world.job().use(_Listening(events)).run(database.store, concurrency=8, handler_retry=retry)
    )
    while not any(isinstance(event, HandlersPaused) for event in events):  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.asyncio
async def test_the_last_error_is_raised_where_that_is_wanted(open_world: OpenWorld) -> None:
    world = await open_world(5)
    database = _Database(down_for=float("inf"))
    retry = imapipe.HandlerRetry(attempts=2, wait_initial_seconds=0, wait_max_seconds=0, breaker_after=0)
    with pytest.raises(ConnectionRefusedError):
        await world.job().run(database.store, on_error="raise", handler_retry=retry)


def _rules(**wrong: object) -> object:
    make: Callable[..., object] = imapipe.HandlerRetry
    return make(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0},
        {"breaker_after": -1},
        {"outage_seconds": -1.0},
        {"wait_initial_seconds": 2, "wait_max_seconds": 1},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_rules_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"needed|use attempts"):
        _rules(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"attempts": 1.5}, {"on": (asyncio.CancelledError,)}], ids=lambda wrong: next(iter(wrong))
)
def test_rules_of_the_wrong_kind_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        _rules(**wrong)


@pytest.mark.asyncio
async def test_it_goes_with_handlers_only(open_world: OpenWorld) -> None:
    world = await open_world(1)
    wrong: Callable[..., Awaitable[object]] = world.job().run
    with pytest.raises(TypeError, match="HandlerRetry"):
        await wrong(world.handle, handler_retry=3)
