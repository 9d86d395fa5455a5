"""Workers as processes: killed, ended politely, and what becomes of what they had in hand."""

from __future__ import annotations

import asyncio
import os
import runpy
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.contrib.cluster.places import until, write

from imapipe.contrib.cluster import ClusterJobs
from imapipe.testing import Server

pytestmark = [pytest.mark.asyncio, pytest.mark.slow]

# A module as users have one. No lease ends by itself in the time of a test: a busy machine does not look dead.
MODULE = """
import asyncio, os, pathlib

import imapipe
from imapipe import search as q
from imapipe.contrib.cluster import Cluster, Pace, Sizes
from imapipe.contrib.jobs import Work

LOG = pathlib.Path(f"handled.{os.getpid()}")
SECONDS = float(os.environ.get("HANDLER_SECONDS", "0"))


def open_pool(account):
    return imapipe.create_pool(os.environ["SERVER"], password="secret", max_size=2)


cluster = Cluster(
    None,
    open_pool,
    lease_seconds=600.0,
    sizes=Sizes(group_messages=50, shard_messages=50),
    pace=Pace(heartbeat_seconds=0.5, stale_seconds=600.0, sweep_seconds=0.2, stop_seconds=10.0),
)


@cluster.job
def scan(pool, mailbox):
    async def handle(message):
        await asyncio.sleep(SECONDS)
        with LOG.open("a") as log:
            log.write(f"{message.mailbox} {message.uid}\\n")

    job = pool.mailbox(mailbox).search(q.ALL).fetch("flags").batch(10)
    return Work(job, lambda job: job.run(handle, concurrency=2))
"""


class Workers:
    """Workers in a folder, on a database and a server."""

    def __init__(self, folder: Path, dsn: str, server: Server, **environment: str) -> None:
        self.folder = folder
        known = {"IMAPIPE_DATABASE": dsn, "SERVER": server.url, "HANDLER_SECONDS": "0.01", **environment}
        self.environment = {**os.environ, **known}
        (folder / "mail_jobs.py").write_text(MODULE)

    async def defer(self, **options: object) -> int:
        """Ask for a job as another program would that has the module."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            module = runpy.run_path(str(self.folder / "mail_jobs.py"))
        async with module["cluster"] as cluster:
            await cluster.migrate()
            return int(await cluster.defer("ann", "scan", **options))

    @asynccontextmanager
    async def started(self, *options: str) -> AsyncIterator[asyncio.subprocess.Process]:
        command = (sys.executable, "-m", "imapipe", "worker", "--jobs", "mail_jobs", "--concurrency", "2", *options)
        process = await asyncio.create_subprocess_exec(
            *command, cwd=self.folder, env=self.environment, stderr=asyncio.subprocess.PIPE
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    def handled(self) -> Counter[str]:
        return Counter(line for log in self.folder.glob("handled.*") for line in log.read_text().splitlines())

    async def has_handled(self, count: int) -> bool:
        return sum(self.handled().values()) >= count


async def let_leases_end(dsn: str) -> None:
    """Let whatever workers have had their time: what they hold, and the last sign of life of each."""
    await write(
        dsn,
        "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour'",
        "UPDATE imapipe_checkpoint_leases SET ends_ms = 0 WHERE holder IS NOT NULL",
        "DELETE FROM imapipe_slots",
        "DELETE FROM imapipe_workers",
    )


async def test_what_a_killed_worker_had_in_hand_another_goes_on_with(dsn: str, tmp_path: Path) -> None:
    async with Server({"INBOX": 400}) as server, ClusterJobs(dsn) as jobs:
        workers = Workers(tmp_path, dsn, server)
        number = await workers.defer(shards=4)
        async with workers.started("--name", "first") as first:
            await until(lambda: workers.has_handled(40))
            first.send_signal(signal.SIGKILL)
            await first.wait()
            killed_at = sum(workers.handled().values())
            await let_leases_end(dsn)
            async with workers.started("--name", "second") as second:
                job = await jobs.wait(number, every_seconds=0.1)
                second.send_signal(signal.SIGTERM)
                assert await second.wait() == 0
        tasks = await jobs.tasks(number)
    assert 40 <= killed_at < 400
    assert job.state == "complete"
    assert job.report is not None
    assert (job.report.planned, job.report.done, job.report.skipped, job.report.failed) == (400, 400, 0, 0)
    handled = workers.handled()
    assert len(handled) == 400
    # Two runs were killed; each repeats what was in hand or not saved yet: here all of a part at most.
    assert sum(handled.values()) - 400 <= 2 * 100
    # One worker died, once. That counts against a task that it had until that gets on: what was done is found, or was
    # not in the database yet.
    assert {task.losses for task in tasks} <= {0, 1}
    assert {task.worker for task in tasks[1:]} == {"second"} or {task.worker for task in tasks[1:]} == {
        "first",
        "second",
    }


async def test_a_worker_that_is_ended_hands_back_what_it_has_and_nobody_waits(dsn: str, tmp_path: Path) -> None:
    async with Server({"INBOX": 300}) as server, ClusterJobs(dsn) as jobs:
        # Whoever had to wait for a lease would not end in the time of a test.
        workers = Workers(tmp_path, dsn, server)
        number = await workers.defer(shards=2)
        async with workers.started() as first:
            await until(lambda: workers.has_handled(30))
            first.send_signal(signal.SIGTERM)
            assert await first.wait() == 0
            handed_back = await jobs.tasks(number)
            async with workers.started() as second:
                job = await jobs.wait(number, every_seconds=0.1)
                second.send_signal(signal.SIGINT)
                assert await second.wait() == 0
    assert {task.state for task in handed_back} <= {"complete", "queued", "waiting"}
    assert [task.losses for task in handed_back] == [0, 0, 0]
    assert job.state == "complete"
    assert job.report is not None
    assert (job.report.planned, job.report.done, job.report.skipped) == (300, 300, 0)
    # Nothing was handled twice: batches were finished, and what they did was saved.
    assert set(workers.handled().values()) == {1}
    assert len(workers.handled()) == 300
