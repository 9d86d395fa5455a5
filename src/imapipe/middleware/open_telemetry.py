"""OpenTelemetry: a span for each run and each batch, counters and histograms, through the API package alone.

What is exported, and where to, is the business of the SDK that a program sets up; without one all of this does nothing.

Invariant: attributes tell of counts, sizes, times, the host and the mailbox; never of a user, a message or a text of
the server.

`opentelemetry` is imported when an `OpenTelemetry` is made, not with this module: whoever does not use it need not have
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Final

from imapipe.middleware.base import Call, Layer, Middleware, Run
from imapipe.models.batch import Batch, BatchInterrupted, BatchResult, Failure
from imapipe.models.event import Attempt, Event, Reconnect, Refusal, Throttle, Wait
from imapipe.net.transient import reason
from imapipe.wire.uid_set import UidSet

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter, MeterProvider
    from opentelemetry.trace import Span, Tracer, TracerProvider

_NAME: Final = "imapipe"
_BUCKETS_OF_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_BUCKETS_OF_MESSAGES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)
_MESSAGES_PER_COUNT: Final = 500

Attributes = dict[str, str | int | float]


class OpenTelemetry(Middleware):
    """Tells OpenTelemetry of runs and batches; needs `imapipe[otel]`.

    Where it stands among the layers says what the span of a batch is: outside of `Retry` all its tries together,
    inside each of them.

    Args:
        job: A name for the job, an attribute of everything; "" for none.
        tracer_provider: Instead of the global one.
        meter_provider: Instead of the global one.

    Raises:
        ImportError: The package opentelemetry-api is not installed.
    """

    def __init__(
        self,
        job: str = "",
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        try:
            from opentelemetry import metrics, trace  # noqa: PLC0415
        except ImportError as error:
            raise ImportError(
                'OpenTelemetry needs the package opentelemetry-api; install it with: pip install "imapipe[otel]"',
                name="opentelemetry",
            ) from error
        self._job = job
        self._trace = trace
        self._tracer = trace.get_tracer(_NAME, tracer_provider=tracer_provider)
        self._instruments = _Instruments(metrics.get_meter(_NAME, meter_provider=meter_provider))

    async def start(self, run: Run) -> Layer:
        """Begin the span of the run, inside of the span that is current."""
        host, _, port = run.account.rpartition("@")[2].rpartition(":")
        shared: Attributes = {"server.address": host}
        if port.isdecimal():
            shared["server.port"] = int(port)
        if self._job:
            shared["imapipe.job"] = self._job
        return _OpenTelemetryLayer(run, self._trace, self._tracer, self._instruments, shared)


class _Instruments:
    """The counters and histograms, which all runs share: what they are told has the attributes of the run."""

    def __init__(self, meter: Meter) -> None:
        self.messages = meter.create_counter("imapipe.messages", "{message}", "Messages with an outcome")
        self.bytes = meter.create_counter("imapipe.received", "By", "Bytes of messages, after decompression")
        self.retries = meter.create_counter("imapipe.retries", "{batch}", "Batches asked for again")
        self.reconnects = meter.create_counter("imapipe.reconnects", "{connection}", "Connections replaced")
        self.throttles = meter.create_counter("imapipe.throttles", "{reply}", "How often a server asked for less")
        self.refusals = meter.create_counter("imapipe.refusals", "{connection}", "Connections refused: too many")
        self.batch_seconds = meter.create_histogram(
            "imapipe.batch.duration",
            "s",
            "From sending a batch to its reply",
            explicit_bucket_boundaries_advisory=_BUCKETS_OF_SECONDS,
        )
        self.batch_sizes = meter.create_histogram(
            "imapipe.batch.size",
            "{message}",
            "Messages in a batch",
            explicit_bucket_boundaries_advisory=_BUCKETS_OF_MESSAGES,
        )
        self.waits = meter.create_histogram(
            "imapipe.wait.duration",
            "s",
            "How long a layer held a batch back",
            explicit_bucket_boundaries_advisory=_BUCKETS_OF_SECONDS,
        )


class _OpenTelemetryLayer(Layer):
    """Tells of one run and its batches; `shared` are the attributes of everything that is told."""

    def __init__(
        self, run: Run, trace: ModuleType, tracer: Tracer, instruments: _Instruments, shared: Attributes
    ) -> None:
        self._run = run
        self._trace = trace
        self._tracer = tracer
        self._instruments = instruments
        self._shared = shared
        self._span = tracer.start_span(
            "imapipe.run",
            attributes={**shared, "imapipe.mailbox": run.mailbox, "imapipe.planned": len(run.plan.planned)},
        )
        self._bytes_counted = run.bytes_received
        self._unsubscribe = (
            run.events.subscribe(self._hear),
            run.ledger.subscribe(_MESSAGES_PER_COUNT, self._settled),
        )

    async def stop(self) -> None:
        """End the span of the run."""
        run, ledger, span = self._run, self._run.ledger, self._span
        ledger.flush()
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        self._count_bytes()
        settled = ledger.done_count + ledger.skipped_count + ledger.vanished_count + ledger.failed_count
        unsettled = max(0, len(run.plan.planned) - settled)
        span.set_attributes(
            {
                "imapipe.done": ledger.done_count,
                "imapipe.skipped": ledger.skipped_count,
                "imapipe.vanished": ledger.vanished_count,
                "imapipe.failed": ledger.failed_count,
                "imapipe.unsettled": unsettled,
                "imapipe.bytes_received": run.bytes_received,
            }
        )
        if ledger.failed_count or unsettled:
            self._mark(span, "incomplete")
        span.end()

    async def __call__(self, batch: Batch, call_next: Call) -> BatchResult:
        """Let a batch through, in a span of its own."""
        span = self._tracer.start_span(
            "imapipe.batch",
            context=self._trace.set_span_in_context(self._span),
            kind=self._trace.SpanKind.CLIENT,
            attributes={
                **self._shared,
                "imapipe.batch.number": batch.number,
                "imapipe.batch.size": len(batch),
                "imapipe.batch.lane": batch.lane,
                "imapipe.batch.attempt": batch.attempt,
            },
        )
        error = ""
        result: BatchResult | None = None
        try:
            with self._trace.use_span(span, record_exception=False, set_status_on_exception=False):
                result = await call_next(batch)
            return result
        except BatchInterrupted as interrupted:
            result = interrupted.result
            # Of a response code the name only: what stands behind it is a text of the server.
            error = reason(interrupted.__cause__ or interrupted)
            raise
        except BaseException as raised:
            error = type(raised).__name__
            raise
        finally:
            self._batch_ended(span, result, error)

    def _batch_ended(self, span: Span, result: BatchResult | None, error: str) -> None:
        self._count_bytes()
        shared = self._shared
        if result is not None:
            span.set_attributes(
                {
                    "imapipe.done": len(result.done),
                    "imapipe.vanished": len(result.vanished),
                    "imapipe.failed": len(result.failed),
                    "imapipe.missing": len(result.missing),
                    "imapipe.bytes_received": result.bytes_received,
                    "imapipe.server_seconds": result.elapsed_seconds,
                }
            )
            self._instruments.batch_sizes.record(len(result.batch), shared)
            self._instruments.batch_seconds.record(
                max(0.0, result.elapsed_seconds), {**shared, "error.type": error} if error else shared
            )
        if error:
            span.set_attribute("error.type", error)
            self._mark(span, error)
        span.end()

    def _mark(self, span: Span, what: str) -> None:
        span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, what))

    def _count_bytes(self) -> None:
        """Count what came since the last time."""
        received = self._run.bytes_received
        if received > self._bytes_counted:
            self._instruments.bytes.add(received - self._bytes_counted, self._shared)
            self._bytes_counted = received

    def _settled(self, done: UidSet, failed: Mapping[int, Failure], vanished: UidSet) -> None:
        for outcome, count in (("done", len(done)), ("failed", len(failed)), ("vanished", len(vanished))):
            if count:
                self._instruments.messages.add(count, {**self._shared, "imapipe.outcome": outcome})

    def _hear(self, event: Event) -> None:
        tell, shared = self._instruments, self._shared
        match event:
            case Attempt():
                tell.retries.add(1, shared)
            case Reconnect():
                tell.reconnects.add(1, shared)
            case Throttle():
                tell.throttles.add(1, shared)
            case Refusal():
                tell.refusals.add(1, shared)
            case Wait(layer=layer, seconds=seconds):
                tell.waits.record(max(0.0, seconds), {**shared, "imapipe.layer": layer})
            case _:
                return
