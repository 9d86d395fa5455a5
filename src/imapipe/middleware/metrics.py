"""Metrics: what batches cost, in bounded memory, while a run goes on and after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from imapipe.middleware.base import Call, Middleware, Run
from imapipe.models.batch import Batch, BatchInterrupted, BatchResult
from imapipe.models.distribution import Distribution
from imapipe.models.event import Attempt, Event, Reconnect, Throttle, Wait
from imapipe.runtime.histogram import Histogram
from imapipe.runtime.resources import ResourceUsage, Sampler


@dataclass(frozen=True, slots=True)
class MetricsSnapshot:
    """What was measured so far.

    Attributes:
        batches: Batches that came back.
        interrupted: Batches that were given up.
        batch_seconds: From sending a batch to its reply, all its tries together.
        batch_sizes: Messages in a batch.
        wait_seconds: How long batches were held back, each time they were.
        retries: Batches that were asked for again.
        reconnects: Connections that had to be replaced.
        throttles: How often the server asked for less.
        throttle_waits: How often a layer held a batch back.
        usage: Memory, processor time and lag of the event loop.
    """

    batches: int
    interrupted: int
    batch_seconds: Distribution
    batch_sizes: Distribution
    wait_seconds: Distribution
    retries: int
    reconnects: int
    throttles: int
    throttle_waits: int
    usage: ResourceUsage


class Metrics(Middleware):
    """Measures the batches of a run, and samples the process once a second.

    Args:
        sampler: What samples the process.
    """

    def __init__(self, *, sampler: Sampler | None = None) -> None:
        self._sampler = sampler if sampler is not None else Sampler()
        self._unsubscribe: Callable[[], None] | None = None
        self._reset()

    def _reset(self) -> None:
        self._batch_seconds = Histogram()
        self._batch_sizes = Histogram()
        self._wait_seconds = Histogram()
        self._batches = 0
        self._interrupted = 0
        self._retries = 0
        self._reconnects = 0
        self._throttles = 0

    def snapshot(self) -> MetricsSnapshot:
        """What was measured in this run, or in the last one."""
        return MetricsSnapshot(
            batches=self._batches,
            interrupted=self._interrupted,
            batch_seconds=self._batch_seconds.distribution(),
            batch_sizes=self._batch_sizes.distribution(),
            wait_seconds=self._wait_seconds.distribution(),
            retries=self._retries,
            reconnects=self._reconnects,
            throttles=self._throttles,
            throttle_waits=len(self._wait_seconds),
            usage=self._sampler.usage(),
        )

    async def start(self, run: Run) -> None:
        """Begin anew."""
        self._reset()
        self._unsubscribe = run.events.subscribe(self._hear)
        self._sampler.start()

    async def __call__(self, batch: Batch, call_next: Call) -> BatchResult:
        """Let a batch through and measure it."""
        try:
            result = await call_next(batch)
        except BatchInterrupted as interrupted:
            self._interrupted += 1
            self._measure(batch, interrupted.result)
            raise
        self._batches += 1
        self._measure(batch, result)
        return result

    async def stop(self) -> None:
        """Take the last sample; what was measured can be read still."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        await self._sampler.stop()

    def _measure(self, batch: Batch, result: BatchResult) -> None:
        self._batch_seconds.add(max(0.0, result.elapsed_seconds))
        self._batch_sizes.add(len(batch))

    def _hear(self, event: Event) -> None:
        match event:
            case Attempt():
                self._retries += 1
            case Reconnect():
                self._reconnects += 1
            case Throttle():
                self._throttles += 1
            case Wait(seconds=seconds):
                self._wait_seconds.add(max(0.0, seconds))
            case _:
                return
