"""S5 and S6: connections, threads (worker processes: tests/pipeline/delivery/test_processes.py)."""

from __future__ import annotations

import asyncio
import threading

import pytest
from tests.middleware.fakes import run_in_fake_time
from tests.seed.wire import fetches, ignore, most_in_flight, sizes

import imapipe
from imapipe import search as q
from imapipe.testing import CommandRecord, Server


def test_s05_every_connection_of_the_pool_keeps_several_batches_in_flight() -> None:
    """A thousand UIDs in one range: the seed's own way found nothing to do in it."""
    handled: list[int] = []

    async def handle(message: imapipe.Message) -> None:
        handled.append(message.uid)

    async def run() -> tuple[Server, imapipe.RunReport]:
        clock = asyncio.get_running_loop().time
        server = Server(messages=1000, latency_seconds=0.1, clock=clock)
        async with server, imapipe.create_pool(server.url, password="secret", max_size=4) as pool:
            return server, await pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(25).depth(3).run(handle)

    server, report = run_in_fake_time(run())
    assert report.complete
    assert sorted(handled) == list(range(1, 1001))
    assert server.counters.peak_connections == server.counters.logins == 4
    assert sizes(server) == [25] * 40
    by_connection: list[list[CommandRecord]] = [fetches(server, number) for number in (1, 2, 3, 4)]
    assert [most_in_flight(records) for records in by_connection] == [3, 3, 3, 3]
    assert most_in_flight(fetches(server)) == 12


@pytest.mark.asyncio
async def test_s05_the_pool_is_bounded_and_one_refused_connection_costs_nothing() -> None:
    server = Server(messages=400, max_connections=2)
    async with server, imapipe.create_pool(server.url, password="secret", max_size=4) as pool:
        report = await pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(20).run(ignore)
        assert pool.stats.limit < 4
    assert report.complete
    assert report.done == 400
    assert server.counters.logins <= 2


@pytest.mark.asyncio
async def test_s06_blocking_handlers_run_in_threads_beside_each_other() -> None:
    together = threading.Barrier(4, timeout=60)
    threads: set[int] = set()

    def block(message: imapipe.Message) -> None:
        # Opens only when four calls are in it at the same time.
        together.wait()
        threads.add(threading.get_ident())

    server = Server(messages=20)
    async with server, imapipe.create_pool(server.url, password="secret") as pool:
        job = pool.mailbox("INBOX").search(q.ALL).fetch("envelope")
        report = await job.run(imapipe.in_threads(block), concurrency=4)
        with pytest.raises(TypeError, match="in_threads"):
            await job.run(block)  # type: ignore[arg-type]
    assert report.complete
    assert report.done == 20
    assert len(threads) >= 4
    assert threading.get_ident() not in threads
