"""What a worker tells Prometheus: the sums of what it did, over HTTP, to whoever asks properly."""

from __future__ import annotations

import asyncio

import pytest
from tests.contrib.cluster.places import place

from imapipe.contrib.cluster import serve_metrics
from imapipe.contrib.exposition import CONTENT_TYPE
from imapipe.errors import DatabaseError

pytestmark = pytest.mark.asyncio


async def _ask(port: int, request: bytes) -> tuple[str, dict[str, str], str]:
    """The first line of an answer, its header, its body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    head, _, body = answer.decode().partition("\r\n\r\n")
    first, *rest = head.split("\r\n")
    return first, dict(line.split(": ", 1) for line in rest), body


async def test_a_worker_tells_what_it_did(dsn: str) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    async with place(dsn, {"INBOX": 30, "Empty": 0}) as here, here.worker() as worker:
        job = await here.cluster.wait(await here.cluster.defer("ann", "scan"), every_seconds=0.05)
        assert job.report is not None
        async with serve_metrics(worker.metrics, 0) as port:
            first, header, body = await _ask(port, b"GET /metrics?x=1 HTTP/1.1\r\nHost: here\r\n\r\n")
    assert (first, header["Content-Type"]) == ("HTTP/1.1 200 OK", CONTENT_TYPE)
    assert int(header["Content-Length"]) == len(body.encode())
    told = {
        (sample.name, *sample.labels.values()): sample.value
        for family in parser.text_string_to_metric_families(body)
        for sample in family.samples
    }
    assert told["imapipe_cluster_messages_total", "done"] == 30
    assert told["imapipe_cluster_bytes_received_total",] == job.report.bytes_received > 0
    # The one that planned, and those of the mailboxes.
    ended = sum(value for name, value in told.items() if name[0] == "imapipe_cluster_worker_tasks_total")
    assert ended == sum(job.tasks.values())
    assert told["imapipe_cluster_tasks", "running"] == told["imapipe_cluster_worker_tasks",] == 0
    assert told["imapipe_cluster_leases_lost_total", "checkpoint"] == 0
    assert told["imapipe_cluster_database_waits_total",] == 0


async def test_whoever_asks_otherwise_is_told_so_and_the_server_goes_on() -> None:
    problem: list[Exception] = [DatabaseError("it is away")]

    async def tell() -> str:
        if problem:
            raise problem.pop()
        return "a 1\n"

    async with serve_metrics(tell, 0) as port:
        first, _, body = await _ask(port, b"GET / HTTP/1.1\r\n\r\n")
        assert (first, body) == ("HTTP/1.1 404 Not Found", "there is /metrics\n")
        assert (await _ask(port, b"POST /metrics HTTP/1.1\r\n\r\n"))[0] == "HTTP/1.1 404 Not Found"
        first, _, body = await _ask(port, b"GET /metrics HTTP/1.1\r\n\r\n")
        assert first == "HTTP/1.1 503 Service Unavailable"
        assert "it is away" in body
        # More than a request may be, and one that breaks off.
        assert (await _ask(port, b"GET /" + b"x" * 40_000))[2] == ""
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /met")
        writer.close()
        await writer.wait_closed()
        assert (await _ask(port, b"GET /metrics HTTP/1.1\r\n\r\n"))[2] == "a 1\n"
