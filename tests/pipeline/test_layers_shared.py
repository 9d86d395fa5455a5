"""One middleware in two runs at the same time, at two servers: each run tells of itself alone."""

from __future__ import annotations

import asyncio

import pytest

import imapipe
from imapipe import Metrics, Progress, ProgressSnapshot, RateLimit, Retry
from imapipe import search as q
from imapipe.testing import CutAfterBytes, Server


class _Meeting:
    """Two runs come to their first message before either of them goes on."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._barrier = asyncio.Barrier(2)
        self.measured: set[str] = set()

    async def wait(self) -> None:
        await self._barrier.wait()
        self.measured |= {snapshot.account for snapshot in self._metrics.snapshots()}


async def _run_at(server: Server, use: tuple[imapipe.Middleware, ...], meeting: _Meeting) -> imapipe.RunReport:
    met = False

    async def handle(message: imapipe.Message) -> None:
        nonlocal met
        if not met:
            met = True
            await meeting.wait()

    async with imapipe.create_pool(server.url, password=server.password, max_size=1) as pool:
        job = pool.mailbox("INBOX").search(q.ALL).fetch("envelope").batch(50).depth(1)
        return await job.use(*use).run(handle, concurrency=1)


@pytest.mark.parametrize("faulty_first", [True, False])
@pytest.mark.asyncio
async def test_the_trouble_of_one_server_is_in_the_report_of_its_run_only(faulty_first: bool) -> None:
    """Defect 4: the faulty server's report said 0 retries, and the healthy one's 1."""
    shown: list[ProgressSnapshot] = []
    metrics = Metrics()
    use = (
        Progress(shown.append, every_seconds=0.01),
        metrics,
        Retry(wait_initial_seconds=0.01),
        RateLimit(messages_per_second=10_000),
    )
    meeting = _Meeting(metrics)
    cut = CutAfterBytes(5_000, command="UID FETCH", nth=3)
    async with (
        Server(messages=200, faults=[cut]) as faulty,
        Server(messages=200) as healthy,
        asyncio.TaskGroup() as group,
    ):
        servers = (faulty, healthy) if faulty_first else (healthy, faulty)
        tasks = {server: group.create_task(_run_at(server, use, meeting)) for server in servers}
        accounts = [f"{server.user}@{server.host}:{server.port}" for server in (faulty, healthy)]
    bad, good = tasks[faulty].result(), tasks[healthy].result()
    assert (bad.done, bad.retries, bad.reconnects) == (200, 1, 1)
    assert (good.done, good.retries, good.reconnects) == (200, 0, 0)
    # Both were measured at the same time, each by its own name.
    assert meeting.measured == set(accounts)
    assert metrics.snapshots() == ()
    for account in accounts:
        finals = [snapshot.final for snapshot in shown if snapshot.account == account]
        assert finals == [False] * (len(finals) - 1) + [True]
    last = metrics.snapshot()
    assert last.retries == (1 if last.account == accounts[0] else 0)
    assert last.batches == 4
