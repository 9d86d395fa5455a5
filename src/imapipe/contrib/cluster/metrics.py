"""What a worker tells Prometheus, and the smallest server that a scrape can ask."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from imapipe.cluster import Limits
from imapipe.contrib.cluster.execution import Tallies
from imapipe.contrib.exposition import CONTENT_TYPE, Family
from imapipe.errors import ImapipeError

_log = logging.getLogger(__name__)

_REQUEST_SECONDS: Final = 10.0
_MOST_REQUEST_BYTES: Final = 16_384


def families(
    tallies: Tallies, limits: Limits, open_tasks: Mapping[str, int], waits: int, under_way: int
) -> Sequence[Family]:
    """The metrics of a worker, and of the tasks of the whole cluster.

    Args:
        tallies: What this process did.
        limits: The limits of accounts.
        open_tasks: Tasks of the cluster by their state.
        waits: How often this process waited for the database.
        under_way: Tasks that it has in hand.
    """
    tasks = Family("imapipe_cluster_tasks", "gauge", "Tasks of the whole cluster that have not ended, by their state.")
    for state, count in open_tasks.items():
        tasks.add(count, state=state)
    at_work = Family("imapipe_cluster_worker_tasks", "gauge", "Tasks that this worker has in hand.")
    at_work.add(under_way)
    ended = Family("imapipe_cluster_worker_tasks_total", "counter", "Tries of tasks by this worker, by how they ended.")
    for how, count in tallies.tasks.items():
        ended.add(count, end=how)
    messages = Family(
        "imapipe_cluster_messages_total", "counter", "Messages of tasks that this worker ended, by their outcome."
    )
    for outcome, count in tallies.messages.items():
        messages.add(count, outcome=outcome)
    received = Family("imapipe_cluster_bytes_received_total", "counter", "Bytes of FETCH responses of those tasks.")
    received.add(tallies.bytes_received)
    slots = Family("imapipe_cluster_slots", "gauge", "Connections of accounts that this worker may have.")
    slots.add(sum(limits.slots.values()))
    lost = Family("imapipe_cluster_leases_lost_total", "counter", "Leases that were lost while they were in use.")
    lost.add(tallies.leases_lost, of="checkpoint")
    lost.add(limits.leases_lost, of="connections")
    waited = Family("imapipe_cluster_database_waits_total", "counter", "Times this worker waited for the database.")
    waited.add(waits)
    return tasks, at_work, ended, messages, received, slots, lost, waited


@asynccontextmanager
async def serve_metrics(tell: Callable[[], Awaitable[str]], port: int, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """Answer `GET /metrics` over HTTP within a block.

    Args:
        tell: Gives the answer, such as `Worker.metrics`.
        port: Where to listen; 0 for any.
        host: At which address.

    Yields:
        The port.

    Raises:
        OSError: It cannot listen there.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(await _answer(request, tell))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            _log.debug("a scrape went wrong: %r", error)
        finally:
            writer.close()

    server = await asyncio.start_server(answer, host, port, limit=_MOST_REQUEST_BYTES)
    try:
        async with server:
            yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()


async def _answer(request: bytes, tell: Callable[[], Awaitable[str]]) -> bytes:
    method, _, rest = request.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    if method not in {b"GET", b"HEAD"} or path != b"/metrics":
        return _response("404 Not Found", "there is /metrics\n", "text/plain; charset=utf-8")
    try:
        return _response("200 OK", await tell(), CONTENT_TYPE)
    except ImapipeError as error:
        return _response("503 Service Unavailable", f"{error}\n", "text/plain; charset=utf-8")


def _response(status: str, text: str, content_type: str) -> bytes:
    body = text.encode("utf-8", "backslashreplace")
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
