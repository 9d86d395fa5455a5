"""Metrics of batches and events."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
from tests.middleware.fakes import FakeRun, done, interrupted, uids

from imapipe.errors import ConnectionLost
from imapipe.middleware.metrics import Metrics, MetricsSnapshot
from imapipe.models.batch import Batch, BatchInterrupted, BatchResult
from imapipe.models.distribution import NOTHING_SEEN
from imapipe.models.event import Attempt, BatchEnd, Reconnect, Refusal, Throttle, Wait
from imapipe.runtime.resources import ResourceUsage


@pytest.mark.asyncio
async def test_batches_events_and_resources_are_measured() -> None:
    run, metrics = FakeRun(), Metrics()

    async def call_next(batch: Batch) -> BatchResult:
        if batch.number == 3:
            error = interrupted(batch, ConnectionLost())
            error.result = BatchResult(batch, elapsed_seconds=9.0)
            raise error
        return done(batch, elapsed_seconds=float(batch.number))

    layer = await run.start(metrics)
    assert (await layer(Batch(1, uids("1:100")), call_next)).done == uids("1:100")
    await layer(Batch(2, uids("1:300")), call_next)
    with pytest.raises(BatchInterrupted):
        await layer(Batch(3, uids("1:50")), call_next)
    for event in (
        Attempt(1, 2, 0.5, "ConnectionLost"),
        Attempt(1, 3, 0.5, "ConnectionLost"),
        Wait("RateLimit", 4.0),
        Throttle("UID FETCH", "slow down"),
        Reconnect(0, "BYE"),
        Refusal("too many", 3),
        BatchEnd(done(Batch(1, uids("1")))),
    ):
        run.events.emit(event)
    await run.stop()
    run.events.emit(Reconnect(0, "after the end"))
    # The run takes its own last sample when its layers have stopped.
    run.resources.seen = ResourceUsage(peak_rss_bytes=300, cpu_seconds=2.5)
    seen = metrics.snapshot()
    assert (seen.account, seen.mailbox) == ("ann@imap.example.org:993", "INBOX")
    assert (seen.batches, seen.interrupted) == (2, 1)
    assert (seen.batch_seconds.mean, seen.batch_seconds.minimum, seen.batch_seconds.maximum) == (4.0, 1.0, 9.0)
    assert (seen.batch_sizes.mean, seen.batch_sizes.count) == (150.0, 3)
    assert (seen.retries, seen.reconnects, seen.throttles, seen.throttle_waits) == (2, 1, 1, 1)
    assert seen.wait_seconds.maximum == 4.0
    assert (seen.usage.peak_rss_bytes, seen.usage.cpu_seconds) == (300, 2.5)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.asyncio
async def test_a_new_run_begins_anew_and_memory_is_bounded() -> None:
    async def call_next(batch: Batch) -> BatchResult:
        return done(batch, elapsed_seconds=batch.number * 0.01)

    metrics = Metrics()
    nothing = MetricsSnapshot("", "", 0, 0, NOTHING_SEEN, NOTHING_SEEN, NOTHING_SEEN, 0, 0, 0, 0, ResourceUsage())
    assert metrics.snapshot() == nothing
    layer = await FakeRun().start(metrics)
    for number in range(5_000):
        await layer(Batch(number, uids("1")), call_next)
    assert metrics.snapshot().batches == 5_000
    assert layer._batch_seconds.bucket_count < 200
    await layer.stop()
    await layer.stop()
    assert metrics.snapshot().batches == 5_000
    layer = await FakeRun().start(metrics)
    assert metrics.snapshot().batches == 0
    await layer.stop()


@pytest.mark.asyncio
async def test_runs_at_the_same_time_are_measured_apart() -> None:
    async def call_next(batch: Batch) -> BatchResult:
        return done(batch)

    metrics, first, second = Metrics(), FakeRun(), FakeRun()
    second.mailbox = "Sent"
    layers = [await run.start(metrics) for run in (first, second)]
    await layers[0](Batch(1, uids("1:10")), call_next)
    first.events.emit(Attempt(1, 2, 0.5, "ConnectionLost"))
    seen = {(one.mailbox, one.batches, one.retries) for one in metrics.snapshots()}
    assert seen == {("INBOX", 1, 1), ("Sent", 0, 0)}
    # The newest one, whichever of them does something or ends.
    assert metrics.snapshot().mailbox == "Sent"
    await second.stop()
    assert [one.mailbox for one in metrics.snapshots()] == ["INBOX"]
    assert metrics.snapshot().mailbox == "Sent"
    await first.stop()
    assert metrics.snapshots() == ()


@pytest.mark.asyncio
async def test_a_run_that_is_over_is_not_kept() -> None:
    metrics, run = Metrics(), FakeRun()
    await run.start(metrics)
    await run.stop()
    gone = weakref.ref(run)
    del run
    gc.collect()
    assert gone() is None
    assert metrics.snapshot().mailbox == "INBOX"


@pytest.mark.asyncio
async def test_a_cancelled_batch_is_cancelled_and_not_counted() -> None:
    async def cancelled(batch: Batch) -> BatchResult:
        raise asyncio.CancelledError

    metrics = Metrics()
    layer = await FakeRun().start(metrics)
    with pytest.raises(asyncio.CancelledError):
        await layer(Batch(1, uids("1")), cancelled)
    assert metrics.snapshot().batch_seconds.count == 0
