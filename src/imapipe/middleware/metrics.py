"""Metrics: what batches cost, in bounded memory, while a run goes on and after it.

Invariants:

- Each run that a `Metrics` is used in is measured apart, by its own layer.
- Of runs that are over, the `Metrics` keeps the numbers of the newest only; of a run itself it keeps nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from imapipe.middleware.base import Call, Layer, Middleware, Run
from imapipe.models.batch import Batch, BatchInterrupted, BatchResult
from imapipe.models.distribution import NOTHING_SEEN, Distribution
from imapipe.models.document import Document
from imapipe.models.event import Attempt, Event, Reconnect, Throttle, Wait
from imapipe.runtime.histogram import Histogram
from imapipe.runtime.resources import ResourceUsage


@dataclass(frozen=True, slots=True)
class MetricsSnapshot(Document):
    """What was measured of one run so far.

    Attributes:
        account: The run's account, `user@host:port`; "" where there was no run yet.
        mailbox: Its mailbox.
        batches: Batches that came back.
        interrupted: Batches that were given up.
        batch_seconds: From sending a batch to its reply, all its tries together.
        batch_sizes: Messages in a batch.
        wait_seconds: How long batches were held back, each time they were.
        retries: Batches that were asked for again.
        reconnects: Connections that had to be replaced.
        throttles: How often the server asked for less.
        throttle_waits: How often a limit held a batch back.
        usage: Memory, processor time and lag of the event loop, as the run itself samples them.
    """

    account: str = ""
    mailbox: str = ""
    batches: int = 0
    interrupted: int = 0
    batch_seconds: Distribution = NOTHING_SEEN
    batch_sizes: Distribution = NOTHING_SEEN
    wait_seconds: Distribution = NOTHING_SEEN
    retries: int = 0
    reconnects: int = 0
    throttles: int = 0
    throttle_waits: int = 0
    usage: ResourceUsage = ResourceUsage()  # noqa: RUF009 - frozen


class Metrics(Middleware):
    """Measures the batches of each run that it is used in.

    Reading is possible at any time and from any thread, such as that of a scrape by Prometheus.
    """

    def __init__(self) -> None:
        self._under_way: list[MetricsLayer] = []
        self._newest: MetricsLayer | None = None

    def snapshot(self) -> MetricsSnapshot:
        """What was measured of the run that began last, whether it is under way or over; zeros before the first."""
        return MetricsSnapshot() if self._newest is None else self._newest.snapshot()

    def snapshots(self) -> tuple[MetricsSnapshot, ...]:
        """What was measured of each run that is under way, in the order in which they began."""
        return tuple(layer.snapshot() for layer in tuple(self._under_way))

    async def start(self, run: Run) -> MetricsLayer:
        """Measure a run from now on."""
        layer = MetricsLayer(run, self._under_way)
        self._newest = layer
        return layer


class MetricsLayer(Layer):
    """Measures the batches of one run."""

    def __init__(self, run: Run, under_way: list[MetricsLayer]) -> None:
        self._account = run.account
        self._mailbox = run.mailbox
        # Not the run: what was measured is kept longer than that.
        self._resources = run.resources
        self._batch_seconds = Histogram()
        self._batch_sizes = Histogram()
        self._wait_seconds = Histogram()
        self._batches = 0
        self._interrupted = 0
        self._retries = 0
        self._reconnects = 0
        self._throttles = 0
        self._under_way = under_way
        self._unsubscribe = run.events.subscribe(self._hear)
        under_way.append(self)

    def snapshot(self) -> MetricsSnapshot:
        """What was measured so far; may be asked at any time, also after the run."""
        return MetricsSnapshot(
            account=self._account,
            mailbox=self._mailbox,
            batches=self._batches,
            interrupted=self._interrupted,
            batch_seconds=self._batch_seconds.distribution(),
            batch_sizes=self._batch_sizes.distribution(),
            wait_seconds=self._wait_seconds.distribution(),
            retries=self._retries,
            reconnects=self._reconnects,
            throttles=self._throttles,
            throttle_waits=len(self._wait_seconds),
            usage=self._resources.usage(),
        )

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
        """Measure no more; what was measured can be read still."""
        self._unsubscribe()
        if self in self._under_way:
            self._under_way.remove(self)

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
