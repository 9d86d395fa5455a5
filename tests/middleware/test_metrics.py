"""Metrics of batches and events."""

from __future__ import annotations

import asyncio

import pytest
from tests.middleware.fakes import FakeRun, done, interrupted, uids

from imapipe.errors import ConnectionLost
from imapipe.middleware.metrics import Metrics, MetricsSnapshot
from imapipe.models.batch import Batch, BatchInterrupted, BatchResult
from imapipe.models.distribution import NOTHING_SEEN
from imapipe.models.event import Attempt, BatchEnd, Reconnect, Refusal, Throttle, Wait
from imapipe.runtime.resources import Reading, ResourceUsage, Sampler


def sampler() -> Sampler:
    readings = [Reading(100, 1.0, 0.0, 10.0), Reading(300, 3.5, 50.0, 20.0)]
    return Sampler(3_600, probe=lambda: readings.pop(0) if len(readings) > 1 else readings[0])


@pytest.mark.asyncio
async def test_batches_events_and_resources_are_measured() -> None:
    run, metrics = FakeRun(), Metrics(sampler=sampler())

    async def call_next(batch: Batch) -> BatchResult:
        if batch.number == 3:
            error = interrupted(batch, ConnectionLost())
            error.result = BatchResult(batch, elapsed_seconds=9.0)
            raise error
        return done(batch, elapsed_seconds=float(batch.number))

    await metrics.start(run)
    assert (await metrics(Batch(1, uids("1:100")), call_next)).done == uids("1:100")
    await metrics(Batch(2, uids("1:300")), call_next)
    with pytest.raises(BatchInterrupted):
        await metrics(Batch(3, uids("1:50")), call_next)
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
    await metrics.stop()
    run.events.emit(Reconnect(0, "after the end"))
    seen = metrics.snapshot()
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

    metrics = Metrics(sampler=sampler())
    nothing = MetricsSnapshot(0, 0, NOTHING_SEEN, NOTHING_SEEN, NOTHING_SEEN, 0, 0, 0, 0, ResourceUsage())
    assert metrics.snapshot() == nothing
    await metrics.start(FakeRun())
    for number in range(5_000):
        await metrics(Batch(number, uids("1")), call_next)
    assert metrics.snapshot().batches == 5_000
    assert metrics._batch_seconds.bucket_count < 200
    await metrics.stop()
    await metrics.stop()
    await metrics.start(FakeRun())
    assert metrics.snapshot().batches == 0
    await metrics.stop()


@pytest.mark.asyncio
async def test_a_cancelled_batch_is_cancelled_and_not_counted() -> None:
    async def cancelled(batch: Batch) -> BatchResult:
        raise asyncio.CancelledError

    metrics = Metrics(sampler=sampler())
    with pytest.raises(asyncio.CancelledError):
        await metrics(Batch(1, uids("1")), cancelled)
    assert metrics.snapshot().batch_seconds.count == 0
