"""Many jobs, many accounts, many listeners in one process."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from tests.contrib.faces import FACES, running

import imapipe
from imapipe import search as q
from imapipe.contrib.jobs import JobManager, Pools, Work
from imapipe.testing import Server, SyntheticMailbox

JOBS = 100
MESSAGES = int(os.environ.get("IMAPIPE_PROOF_MESSAGES", "1000")) // JOBS


@pytest.mark.slow
@pytest.mark.asyncio
async def test_100_jobs_of_100_accounts_run_at_once(tmp_path: Path) -> None:
    """None ends before each of them has met a message, so they are all under way at the same time."""
    here = asyncio.Barrier(JOBS)
    seen: dict[str, list[int]] = {}
    async with Server(SyntheticMailbox(MESSAGES)) as server:

        def open_pool(account: str) -> imapipe.Pool:
            return imapipe.create_pool(server.url, password=server.password, max_size=1)

        async with Pools(open_pool) as pools:
            jobs = JobManager(pools, folder=tmp_path / "jobs")

            @jobs.job
            def scan(pool: imapipe.Pool, name: str) -> object:
                async def handle(message: imapipe.Message) -> None:
                    uids = seen.setdefault(name, [])
                    if not uids:
                        await here.wait()
                    uids.append(message.uid)

                job = pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(10)
                checkpoint = imapipe.Checkpoint(tmp_path / "state.json", name=name)
                return Work(job.use(checkpoint), lambda job: job.run(handle, concurrency=1))

            async with jobs:
                names = [f"account-{number}" for number in range(JOBS)]
                started = await asyncio.gather(*(jobs.start("scan", name, {"name": name}) for name in names))
                statuses = await asyncio.gather(*(job.wait() for job in started))
                assert {status.state for status in statuses} == {"complete"}
                assert len(pools.stats) == JOBS
                assert [job.result and job.result["done"] for job in started] == [MESSAGES] * JOBS
    assert all(sorted(uids) == list(range(1, MESSAGES + 1)) for uids in seen.values())
    assert len(seen) == JOBS


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize("face", FACES)
async def test_50_listeners_half_of_them_slow_or_gone_hold_nothing(face: str) -> None:
    """What they cost is measured by `python -m benchmarks.listeners`."""
    async with Server(SyntheticMailbox(1000, size=500)) as server, running(face, server) as it:
        path = await it.start("held")
        host, port = it.http.base_url.host, it.http.base_url.port
        request = f"GET {path}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        quiet = []
        for number in range(25):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(request)
            await reader.readline()
            if number < 10:
                writer.close()
            else:
                writer.transport.pause_reading()  # type: ignore[attr-defined]  # it reads, whatever its type says
                quiet.append(writer)
        async with asyncio.TaskGroup() as group:
            listeners = [group.create_task(it.events(path)) for _ in range(25)]
            await asyncio.sleep(0.1)
            it.gate.set()
        told = [listener.result() for listener in listeners]
        assert {events[-1][2]["state"] for events in told} == {"complete"}
        numbers = [[int(event_id.rpartition("-")[2]) for event_id, _, _ in events] for events in told]
        assert all(each == list(range(each[0], each[-1] + 1)) for each in numbers)
        # Whoever comes when all is over is told what is kept, however many there were.
        assert (await it.events(path))[-1] == told[0][-1]
        for writer in quiet:
            writer.close()
