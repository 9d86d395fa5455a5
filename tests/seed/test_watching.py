"""S14 to S16, S20 and S23: what is told while a run goes on and after it."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from tests.middleware.fakes import block, run_in_fake_time
from tests.seed.wire import fetches, ignore, sizes

import imapipe
from imapipe import Checkpoint, Metrics, Progress, ProgressSnapshot, RateLimit, Retry
from imapipe import search as q
from imapipe.testing import Delay, Mailbox, Server, SyntheticMailbox, make_messages


def test_s14_progress_tells_speed_and_end_while_the_run_goes_on() -> None:
    """A server that takes a second for every batch of 50: 50 messages a second on one connection."""
    shown: list[ProgressSnapshot] = []

    async def run() -> int:
        clock = asyncio.get_running_loop().time
        server = Server({"INBOX": SyntheticMailbox(1000)}, faults=[Delay(1.0, command="UID FETCH")], clock=clock)
        async with server, imapipe.create_pool(server.url, password="secret") as pool:
            job = pool.mailbox("INBOX").search(q.ALL).fetch("full").batch(50).depth(1)
            job = job.use(Progress(shown.append, every_seconds=0.5))
            await job.run(ignore, connections=1)
        return sum(record.bytes_out for record in fetches(server))

    sent = run_in_fake_time(run())
    assert len(shown) >= 40
    assert [snapshot.final for snapshot in shown] == [False] * (len(shown) - 1) + [True]
    assert all(before.settled <= after.settled for before, after in pairwise(shown))
    halfway = shown[len(shown) // 2]
    assert 400 <= halfway.done <= 600
    assert halfway.planned == 1000
    assert halfway.messages_per_second == pytest.approx(50, rel=0.2)
    assert halfway.bytes_per_second == pytest.approx(sent / 20, rel=0.2)
    assert halfway.eta_seconds == pytest.approx((1000 - halfway.done) / 50, rel=0.2)
    assert (halfway.batch_size, halfway.connections, halfway.waits) == (50, 1, 0)
    assert shown[-1].done == 1000
    assert shown[-1].eta_seconds == 0.0


def test_s14_progress_counts_the_waits() -> None:
    shown: list[ProgressSnapshot] = []

    async def run() -> None:
        async with Server(messages=100) as server, imapipe.create_pool(server.url, password="secret") as pool:
            job = pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(10)
            await job.use(Progress(shown.append), RateLimit(commands_per_second=1)).run(ignore)

    run_in_fake_time(run())
    assert shown[-1].waits == 9


def test_s15_the_analysis_has_mean_extremes_quantiles_throughput_and_error_rate() -> None:
    async def handle(message: imapipe.Message) -> None:
        if message.uid % 50 == 0:
            raise ValueError("this one")

    async def run() -> imapipe.RunReport:
        clock = asyncio.get_running_loop().time
        pace = [Delay(10.0, command="UID FETCH", nth=20), Delay(1.0, command="UID FETCH")]
        server = Server(messages=1000, faults=pace, clock=clock)
        async with server, imapipe.create_pool(server.url, password="secret") as pool:
            job = pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(50).depth(1)
            return await job.run(handle, connections=1)

    report = run_in_fake_time(run())
    seconds, sizes = report.batch_seconds, report.batch_sizes
    # Nineteen batches of one second and one of eleven.
    assert seconds.count == sizes.count == 20
    assert seconds.mean == pytest.approx(1.5, rel=0.01)
    assert [seconds.minimum, seconds.maximum] == pytest.approx([1.0, 11.0], rel=0.01)
    assert [seconds.p50, seconds.p95] == pytest.approx([1.0, 1.0], rel=0.05)
    assert (sizes.mean, sizes.minimum, sizes.maximum) == (50, 50, 50)
    assert (report.done, report.failed, report.error_rate) == (980, 20, 0.02)
    assert report.messages_per_second == report.done / report.elapsed_seconds > 0


@pytest.mark.asyncio
async def test_s16_memory_and_processor_time_are_sampled_over_the_run() -> None:
    ballast: list[bytes] = []

    async def handle(message: imapipe.Message) -> None:
        if message.uid == 1:
            ballast.append(b"x" * 64_000_000)
            began = time.process_time()
            # Keeps a processor busy.
            while time.process_time() - began < 0.3:
                sum(range(1000))

    rss = psutil.Process().memory_info().rss
    metrics = Metrics()
    async with Server(messages=50) as server, imapipe.create_pool(server.url, password="secret") as pool:
        report = await pool.mailbox("INBOX").search(q.ALL).fetch("flags").use(metrics).run(handle)
    assert ballast
    assert report.peak_rss_bytes > rss + 50_000_000
    assert report.cpu_seconds >= 0.3
    assert 0 < report.system_memory_percent <= 100
    assert 0 <= report.system_cpu_percent <= 100
    assert metrics.snapshot().usage.cpu_seconds >= 0.3


def test_s16_the_lag_of_the_event_loop_is_sampled_over_the_run() -> None:
    async def handle(message: imapipe.Message) -> None:
        if message.uid == 1:
            # Until a sample is under way.
            await asyncio.sleep(0.01)
            block(30.0)
            await asyncio.sleep(1.0)

    async def run() -> imapipe.RunReport:
        server = Server(messages=50, clock=asyncio.get_running_loop().time)
        async with server, imapipe.create_pool(server.url, password="secret") as pool:
            return await pool.mailbox("INBOX").search(q.ALL).fetch("flags").run(handle)

    assert run_in_fake_time(run()).loop_lag_seconds.maximum == pytest.approx(30.0, rel=0.01)


@pytest.mark.asyncio
async def test_s20_the_report_is_one_json_document_and_a_table(tmp_path: Path) -> None:
    async with Server(messages=120) as server, imapipe.create_pool(server.url, password="secret") as pool:
        report = await pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(50).run(ignore)
    path = tmp_path / "report.json"
    path.write_text(report.to_json(), encoding="utf-8")
    document = json.loads(path.read_text(encoding="utf-8"))
    assert (document["planned"], document["done"], document["failed"], document["complete"]) == (120, 120, 0, True)
    assert document["elapsed_seconds"] == report.elapsed_seconds
    assert document["messages_per_second"] == report.messages_per_second
    assert document["batch_sizes"]["maximum"] == 50
    assert datetime.fromisoformat(document["started_at"]) == report.started_at
    table = dict(line.split("  ", 1) for line in report.table().splitlines())
    assert table["done"].strip() == "120"
    assert "messages/s" in table["throughput"]


@pytest.mark.asyncio
async def test_s23_an_empty_mailbox_is_a_complete_report_of_zeros(tmp_path: Path) -> None:
    layers = (
        Progress(lambda snapshot: None),
        Metrics(),
        Checkpoint(tmp_path / "state.json"),
        Retry(),
        RateLimit(commands_per_second=2),
    )
    before = datetime.now(UTC)
    async with Server() as server, imapipe.create_pool(server.url, password="secret") as pool:
        job = pool.mailbox("INBOX").search(q.ALL).fetch("full").use(*layers)
        report = await job.run(ignore)
        assert [message async for message in job] == []
        assert (await job.plan()).total_bytes == 0
    assert report.complete
    assert (report.planned, report.done, report.skipped, report.vanished, report.failed) == (0, 0, 0, 0, 0)
    assert (report.error_rate, report.messages_per_second, report.batch_sizes.mean) == (0, 0, 0)
    assert before <= report.started_at <= datetime.now(UTC)


@pytest.mark.asyncio
async def test_s23_every_run_takes_a_search() -> None:
    async with Server(messages=50) as server, imapipe.create_pool(server.url, password="secret") as pool:
        narrow = pool.mailbox("INBOX").search(q.uid("11:20")).fetch("flags")
        assert len(await narrow.uids()) == 10
        assert (await narrow.plan()).messages == 10
        assert (await narrow.run(ignore)).planned == 10
        assert [message.uid async for message in narrow] == list(range(11, 21))
        assert sum([len(batch) async for batch in narrow.batches()]) == 10


@pytest.mark.asyncio
async def test_s23_an_index_of_the_last_30_days_fetches_no_more_than_that(tmp_path: Path) -> None:
    mailbox, now = Mailbox(), datetime.now(UTC)
    for number, raw in enumerate(make_messages(60)):
        mailbox.append(raw, internal_date=now - timedelta(days=59 - number))
    async with (
        Server({"INBOX": mailbox}) as server,
        imapipe.create_pool(server.url, password="secret") as pool,
        imapipe.MessageIndex(tmp_path / "mail.index") as index,
    ):
        report = await index.update(pool.mailbox("INBOX"), search=q.since(days=30))
    assert report.added == sum(sizes(server))
    # A day more or less, as time zones have it.
    assert 30 <= report.added <= 32


def test_s23_the_time_a_server_may_take_is_a_parameter_and_a_minute_by_default() -> None:
    defaults = inspect.signature(imapipe.create_pool).parameters
    assert defaults["command_timeout_seconds"].default == 60.0

    async def run() -> float:
        loop = asyncio.get_running_loop()
        server = Server(messages=50, faults=[Delay(600, command="STATUS", nth=2)], clock=loop.time)
        async with server, imapipe.create_pool(server.url, password="secret", command_timeout_seconds=7) as pool:
            await pool.mailbox("INBOX").status()
            began = loop.time()
            with pytest.raises(imapipe.CommandTimeout):
                await pool.mailbox("INBOX").status()
            return loop.time() - began

    assert run_in_fake_time(run()) == pytest.approx(7, rel=0.2)
