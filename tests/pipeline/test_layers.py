"""Layers that users write: what they may do, and what the run makes of what they should not."""

from __future__ import annotations

import asyncio

import pytest
from tests.pipeline.world import Always, OpenWorld, World, check_sums

import imapipe
from imapipe.middleware.base import Call, Layer, Run
from imapipe.testing import CutAfterBytes, Delay, SyntheticMailbox


class _Noting(imapipe.Middleware):
    """Notes what happens to it and to its layers."""

    def __init__(self, name: str, events: list[str], *, fail_in: str = "") -> None:
        self._layer = _Layer(name, events, fail_in=fail_in)

    async def start(self, run: Run) -> Layer:
        self._layer.note("start")
        return self._layer


class _Layer(Layer):
    def __init__(self, name: str, events: list[str], *, fail_in: str = "") -> None:
        self._name = name
        self._events = events
        self._fail_in = fail_in

    async def __call__(self, batch: imapipe.Batch, call_next: Call) -> imapipe.BatchResult:
        self.note("call")
        return await call_next(batch)

    async def stop(self) -> None:
        self.note("stop")

    def note(self, what: str) -> None:
        self._events.append(f"{what} {self._name}")
        if self._fail_in == what:
            raise RuntimeError(f"{what} {self._name}")


@pytest.mark.asyncio
async def test_started_from_outside_stopped_from_inside(open_world: OpenWorld) -> None:
    world = await open_world(5)
    events: list[str] = []
    await world.job().use(_Noting("a", events), _Noting("b", events)).run(world.handle)
    assert events == ["start a", "start b", "call a", "call b", "stop b", "stop a"]


@pytest.mark.asyncio
async def test_one_that_cannot_start_ends_the_run_and_the_others_are_stopped(open_world: OpenWorld) -> None:
    world = await open_world(5)
    events: list[str] = []
    job = world.job().use(_Noting("a", events), _Noting("b", events, fail_in="start"), _Noting("c", events))
    with pytest.raises(RuntimeError, match="start b"):
        await job.run(world.handle)
    assert events == ["start a", "start b", "stop a"]
    assert world.pool.stats.leased == 0
    assert world.asked == []


@pytest.mark.asyncio
async def test_one_that_raises_ends_the_run_with_that(open_world: OpenWorld) -> None:
    world = await open_world(200)
    events: list[str] = []
    with pytest.raises(RuntimeError, match="call b"):
        await world.job().batch(5).use(_Noting("a", events), _Noting("b", events, fail_in="call")).run(world.handle)
    assert events[-2:] == ["stop b", "stop a"]
    assert world.pool.stats.leased == 0


@pytest.mark.asyncio
async def test_one_that_cannot_stop_does_not_keep_others_from_it(open_world: OpenWorld) -> None:
    world = await open_world(5)
    events: list[str] = []
    job = world.job().use(_Noting("a", events), _Noting("b", events, fail_in="stop"))
    with pytest.raises(RuntimeError, match="stop b"):
        await job.run(world.handle)
    assert events[-2:] == ["stop b", "stop a"]
    assert len(world.handled) == 5


@pytest.mark.asyncio
async def test_the_first_error_is_raised_and_the_next_one_logged(
    open_world: OpenWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world = await open_world(5)
    events: list[str] = []

    async def handle(message: imapipe.Message) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await world.job().use(_Noting("a", events, fail_in="stop")).run(handle, on_error="raise")
    assert "could not be stopped" in caplog.text


@pytest.mark.asyncio
async def test_the_error_that_ended_a_run_is_told_once(open_world: OpenWorld, caplog: pytest.LogCaptureFixture) -> None:
    """A checkpoint that was lost says so when it is to be saved, and when it is given back."""

    class LostLayer(Layer):
        async def __call__(self, batch: imapipe.Batch, call_next: Call) -> imapipe.BatchResult:
            raise error

        async def stop(self) -> None:
            raise error

    class Lost(imapipe.Middleware):
        async def start(self, run: Run) -> Layer:
            return LostLayer()

    error = imapipe.CheckpointLost("its lease ran out")
    world = await open_world(5)
    with pytest.raises(imapipe.CheckpointLost):
        await world.job().use(Lost()).run(world.handle)
    assert not caplog.records


class _Twice(Layer):
    """A naive retry: everything once more."""

    async def __call__(self, batch: imapipe.Batch, call_next: Call) -> imapipe.BatchResult:
        try:
            first = await call_next(batch)
        except imapipe.BatchInterrupted as interrupted:
            first = interrupted.result
        return first.merge(await call_next(batch))


@pytest.mark.asyncio
async def test_asking_for_everything_once_more_handles_nothing_twice(open_world: OpenWorld) -> None:
    world = await open_world(40, faults=[CutAfterBytes(900, command="UID FETCH", nth=1)])
    world.server.mailboxes["INBOX"].expunge([])

    async def handle(message: imapipe.Message) -> None:
        await world.handle(message)
        if message.uid == 3:
            raise ValueError

    report = await world.job().batch(10).use(Always(_Twice())).run(handle, connections=1)
    check_sums(report)
    assert (report.done, report.failed) == (39, 1)
    assert sorted(world.handled) == list(range(1, 41))


class _Impatient(Layer):
    """Gives a batch little time, and then another chance."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.timeouts = 0

    async def __call__(self, batch: imapipe.Batch, call_next: Call) -> imapipe.BatchResult:
        try:
            async with asyncio.timeout(self._seconds):
                return await call_next(batch)
        except TimeoutError:
            self.timeouts += 1
            return await call_next(batch)


@pytest.mark.asyncio
@pytest.mark.usefixtures("made_up_time")
async def test_a_layer_that_cancels_a_batch_and_asks_again(open_world: OpenWorld) -> None:
    """What nobody had begun with is forgotten, the connection is ended if it was in the middle of something."""
    world = await open_world(
        SyntheticMailbox(30), faults=[CutAfterBytes(2000, kind="stall", command="UID FETCH", nth=1)]
    )
    layer = _Impatient(0.1)
    report = await world.job("full").batch(10).depth(1).use(Always(layer)).run(world.handle, connections=1)
    check_sums(report)
    assert report.complete
    assert layer.timeouts == 1
    assert sorted(world.handled) == list(range(1, 31))


class _Skip(Layer):
    """Leaves messages out."""

    async def __call__(self, batch: imapipe.Batch, call_next: Call) -> imapipe.BatchResult:
        odd = imapipe.UidSet.from_numbers(uid for uid in batch.uids if uid % 2)
        return await call_next(batch.narrow(odd))


@pytest.mark.asyncio
async def test_what_a_layer_leaves_out_has_failed_and_is_not_silently_short(open_world: OpenWorld) -> None:
    world = await open_world(20)
    report = await world.job().use(Always(_Skip())).run(world.handle)
    check_sums(report)
    assert (report.done, report.failed) == (10, 10)
    assert {failure.reason for failure in report.failures.values()} == {"not-tried"}


class _Cancelled(Layer):
    """Waits for ever."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.cancelled = 0
        self.stopped = 0

    async def __call__(self, batch: imapipe.Batch, call_next: Call) -> imapipe.BatchResult:
        self.reached.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return await call_next(batch)

    async def stop(self) -> None:
        self.stopped += 1


@pytest.mark.asyncio
async def test_a_waiting_layer_is_cancelled_and_stopped(open_world: OpenWorld) -> None:
    world = await open_world(20)
    layer = _Cancelled()
    task = asyncio.create_task(world.job().batch(5).use(Always(layer)).run(world.handle, connections=1))
    await layer.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert layer.cancelled >= 1
    assert layer.stopped == 1


async def _reports_in_order(world: World) -> None:
    snapshots: list[imapipe.ProgressSnapshot] = []
    job = world.job().batch(10).use(imapipe.Progress(snapshots.append), imapipe.Metrics())
    report = await job.run(world.handle, connections=1)
    assert snapshots[-1].final
    assert snapshots[-1].settled == report.planned
    assert sum(snapshot.final for snapshot in snapshots) == 1


@pytest.mark.asyncio
async def test_the_last_snapshot_knows_what_was_given_up(open_world: OpenWorld) -> None:
    await _reports_in_order(await open_world(100))
    await _reports_in_order(await open_world(100, faults=[CutAfterBytes(0, command="UID FETCH")]))


class _Abandoning(Layer):
    """Cancels its first call once a handler is at work, and calls again while that handler still is."""

    def __init__(self, begun: asyncio.Event, go_on: asyncio.Event) -> None:
        self._begun = begun
        self._go_on = go_on
        self.result: imapipe.BatchResult | None = None

    async def __call__(self, batch: imapipe.Batch, call_next: Call) -> imapipe.BatchResult:
        first = asyncio.ensure_future(call_next(batch))
        await self._begun.wait()
        first.cancel()
        await asyncio.wait([first])
        again = asyncio.ensure_future(call_next(batch))
        await asyncio.sleep(0)
        self._go_on.set()
        try:
            self.result = await again
        except imapipe.BatchInterrupted as interrupted:
            self.result = interrupted.result
        assert self.result is not None
        return self.result


@pytest.mark.asyncio
async def test_what_fails_in_an_abandoned_call_is_in_the_result_of_the_next(open_world: OpenWorld) -> None:
    """Each UID of a batch is in exactly one set of its result, whichever call it was that brought the message."""
    cut = CutAfterBytes(0, "close", command="UID FETCH", nth=2)
    world = await open_world(3, faults=[cut, Delay(0.1, command="UID FETCH", nth=2)])
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def handle(message: imapipe.Message) -> None:
        begun.set()
        await go_on.wait()
        raise ValueError(message.uid)

    layer = _Abandoning(begun, go_on)
    report = await world.job().use(Always(layer)).run(handle, concurrency=1)
    result = layer.result
    assert result is not None
    assert sorted(result.failed) == [1]
    assert result.missing.text() == "2:3"
    assert not result.done
    assert not result.vanished
    check_sums(report)
    assert (report.failed, report.failures[1].reason) == (3, "ValueError")
