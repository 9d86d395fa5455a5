"""What OpenTelemetry is told, by the exporters of its SDK that keep everything in memory."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Mapping

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.middleware.fakes import FakeRun, done, interrupted, uids

import imapipe
from imapipe import OpenTelemetry
from imapipe import search as q
from imapipe.errors import CommandNo
from imapipe.middleware.base import Call
from imapipe.models.batch import Batch, BatchResult, Failure
from imapipe.models.event import Attempt, Reconnect, Refusal, Throttle, Wait
from imapipe.testing import CutAfterBytes, Server


class Telemetry:
    """The SDK, keeping everything in memory."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)

    def middleware(self, job: str = "") -> OpenTelemetry:
        return OpenTelemetry(job, tracer_provider=self.tracers, meter_provider=self.meters)

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    def points(self) -> dict[str, list[NumberDataPoint | HistogramDataPoint]]:
        found: dict[str, list[NumberDataPoint | HistogramDataPoint]] = {}
        data = self._reader.get_metrics_data()
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        assert isinstance(point, NumberDataPoint | HistogramDataPoint)
                        found.setdefault(metric.name, []).append(point)
        return found

    def sums(self) -> dict[str, float]:
        """By name and the value of the last attribute: the sum of a counter, the count of a histogram."""
        found: dict[str, float] = {}
        for name, points in self.points().items():
            for point in points:
                attributes = point.attributes or {}
                more = [str(value) for key, value in attributes.items() if not key.startswith("server.")]
                value = point.value if isinstance(point, NumberDataPoint) else point.count
                found[" ".join([name, *more])] = value
        return found

    def everything(self) -> str:
        """All that was told, as text."""
        spans = [span.to_json() for span in self._exporter.get_finished_spans()]
        return "\n".join([*spans, *(str(points) for points in self.points().values())])


def attributes_of(span: ReadableSpan) -> Mapping[str, object]:
    return span.attributes or {}


async def succeed(batch: Batch) -> BatchResult:
    return done(batch, bytes_received=100, elapsed_seconds=0.3)


@pytest.mark.asyncio
async def test_spans_of_a_run_and_its_batches() -> None:
    telemetry, run = Telemetry(), FakeRun("1:20")
    middleware = telemetry.middleware("nightly")
    tracer = telemetry.tracers.get_tracer("mine")
    with tracer.start_as_current_span("outside") as outside:
        layer = await run.start(middleware)
        await layer(Batch(1, uids("1:10"), lane=2), succeed)
        error = CommandNo("UID FETCH", "SERVERBUG 17", "Cannot read the letter of Ann")
        with pytest.raises(imapipe.BatchInterrupted):
            await layer(Batch(2, uids("11:20"), attempt=3), _refuse(error))
        run.ledger.settle(*range(1, 16))
        run.ledger.fail(*(Failure(uid, "ValueError", "secret") for uid in range(16, 21)))
        await layer.stop()
    (whole,) = telemetry.spans("imapipe.run")
    first, second = telemetry.spans("imapipe.batch")
    assert whole.parent == outside.get_span_context()
    assert first.parent == second.parent == whole.context
    assert attributes_of(whole) == {
        "server.address": "imap.example.org",
        "server.port": 993,
        "imapipe.job": "nightly",
        "imapipe.mailbox": "INBOX",
        "imapipe.planned": 20,
        "imapipe.done": 15,
        "imapipe.skipped": 0,
        "imapipe.vanished": 0,
        "imapipe.failed": 5,
        "imapipe.unsettled": 0,
        "imapipe.bytes_received": 0,
    }
    assert whole.status.status_code is trace.StatusCode.ERROR
    assert attributes_of(first)["imapipe.batch.lane"] == 2
    assert attributes_of(first)["imapipe.done"] == 10
    assert first.status.status_code is trace.StatusCode.UNSET
    assert attributes_of(second)["imapipe.batch.attempt"] == 3
    assert attributes_of(second)["imapipe.missing"] == 7
    assert attributes_of(second)["error.type"] == "SERVERBUG"
    assert (second.status.status_code, second.status.description) == (trace.StatusCode.ERROR, "SERVERBUG")
    assert not second.events


def _refuse(error: Exception) -> Call:
    async def call_next(batch: Batch) -> BatchResult:
        raise interrupted(batch, error, done=uids("11:13"))

    return call_next


@pytest.mark.asyncio
async def test_a_batch_is_the_current_span_while_it_is_under_way() -> None:
    telemetry = Telemetry()
    seen: list[trace.SpanContext] = []

    async def look(batch: Batch) -> BatchResult:
        seen.append(trace.get_current_span().get_span_context())
        return done(batch)

    layer = await FakeRun().start(telemetry.middleware())
    await layer(Batch(1, uids("1:10")), look)
    await layer.stop()
    assert seen == [span.context for span in telemetry.spans("imapipe.batch")]


@pytest.mark.asyncio
async def test_counters_and_histograms() -> None:
    telemetry, run = Telemetry(), FakeRun("1:20")
    layer = await run.start(telemetry.middleware("nightly"))
    for number in range(1, 4):
        run.bytes_received += 100
        await layer(Batch(number, uids("1:10")), succeed)
    for event in (
        Attempt(1, 2, 0.5, "LIMIT"),
        Reconnect(1, "closed"),
        Reconnect(1, "closed"),
        Throttle("NO", "Rate limit hit."),
        Refusal("Too many", 3),
        Wait("RateLimit", 0.2),
    ):
        run.events.emit(event)
    run.ledger.settle(*range(1, 11))
    run.ledger.vanish(uids("11:12"))
    await layer.stop()
    assert telemetry.sums() == {
        "imapipe.messages nightly done": 10,
        "imapipe.messages nightly vanished": 2,
        "imapipe.received nightly": 300,
        "imapipe.retries nightly": 1,
        "imapipe.reconnects nightly": 2,
        "imapipe.throttles nightly": 1,
        "imapipe.refusals nightly": 1,
        "imapipe.batch.duration nightly": 3,
        "imapipe.batch.size nightly": 3,
        "imapipe.wait.duration nightly RateLimit": 1,
    }
    (seconds,) = telemetry.points()["imapipe.batch.duration"]
    assert isinstance(seconds, HistogramDataPoint)
    assert seconds.sum == pytest.approx(0.9)
    assert 0.5 in seconds.explicit_bounds
    run.events.emit(Reconnect(1, "closed"))
    assert telemetry.sums()["imapipe.reconnects nightly"] == 2


@pytest.mark.asyncio
async def test_a_cancelled_batch_ends_its_span() -> None:
    telemetry, run = Telemetry(), FakeRun()

    async def never(batch: Batch) -> BatchResult:
        run.bytes_received += 7
        await asyncio.sleep(3_600)
        return done(batch)

    layer = await run.start(telemetry.middleware())
    task = asyncio.create_task(layer(Batch(1, uids("1:10")), never))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await layer.stop()
    (span,) = telemetry.spans("imapipe.batch")
    assert attributes_of(span)["error.type"] == "CancelledError"
    assert telemetry.sums()["imapipe.received"] == 7
    (whole,) = telemetry.spans("imapipe.run")
    assert attributes_of(whole)["imapipe.unsettled"] == 1_000


@pytest.mark.asyncio
async def test_runs_that_share_it_have_spans_of_their_own() -> None:
    telemetry = Telemetry()
    middleware = telemetry.middleware()

    async def one(mailbox: str) -> None:
        run = FakeRun("")
        run.mailbox = mailbox
        layer = await run.start(middleware)
        await asyncio.sleep(0.001)
        await layer(Batch(1, uids("1:10")), succeed)
        await layer.stop()

    async with asyncio.TaskGroup() as group:
        for mailbox in ("INBOX", "Sent", "Drafts"):
            group.create_task(one(mailbox))
    whole = {span.context.span_id: attributes_of(span)["imapipe.mailbox"] for span in telemetry.spans("imapipe.run")}
    assert set(whole.values()) == {"INBOX", "Sent", "Drafts"}
    parents = [span.parent.span_id for span in telemetry.spans("imapipe.batch") if span.parent is not None]
    assert sorted(parents) == sorted(whole)


@pytest.mark.asyncio
async def test_a_run_at_a_server_tells_nothing_of_people_and_mails() -> None:
    telemetry = Telemetry()
    mail = b"From: Bob <bob@secret.example>\r\nSubject: Confidential\r\n\r\nMy diary\r\n"

    async def handle(message: imapipe.Message) -> None:
        if message.uid == 3:
            raise ValueError(message.text)

    cut = CutAfterBytes(200, command="UID FETCH", nth=1)
    async with (
        Server([mail] * 40, user="kunigunde", password="open sesame", faults=[cut]) as server,
        imapipe.create_pool(server.url, password="open sesame") as pool,
    ):
        job = pool.mailbox("INBOX").search(q.ALL).fetch("full").batch(10)
        report = await job.use(imapipe.Retry(wait_initial_seconds=0.01), telemetry.middleware()).run(handle)
    sums = telemetry.sums()
    assert sums["imapipe.messages done"] == report.done == 39
    assert sums["imapipe.messages failed"] == report.failed == 1
    assert sums["imapipe.received"] == report.bytes_received
    assert sums["imapipe.retries"] == report.retries >= 1
    # Inside of Retry: a span for each try.
    assert len(telemetry.spans("imapipe.batch")) == 4 + report.retries
    told = telemetry.everything()
    assert "127.0.0.1" in told
    for secret in ("kunigunde", "sesame", "Bob", "bob@", "Confidential", "diary"):
        assert secret not in told


def test_without_the_package_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ImportError, match=r'pip install "imapipe\[otel\]"'):
        OpenTelemetry()


def test_without_an_sdk_it_does_nothing() -> None:
    async def scenario() -> BatchResult:
        layer = await FakeRun().start(OpenTelemetry())
        result = await layer(Batch(1, uids("1:10")), succeed)
        await layer.stop()
        return result

    assert asyncio.run(scenario()).done == uids("1:10")


def test_nobody_imports_it_who_does_not_use_it() -> None:
    program = "import sys, imapipe; imapipe.OpenTelemetry; print('opentelemetry' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert result.stdout == "False\n"
