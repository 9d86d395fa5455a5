"""Jobs on servers that behave as those of providers: they end complete, refused and throttled no more than need be."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import timedelta
from pathlib import Path

import pytest

import imapipe
from imapipe import search as q
from imapipe.testing import PROVIDERS, Bye, Reply, SyntheticMailbox, provider_server

COUNT = int(os.environ.get("IMAPIPE_PROOF_MESSAGES", "2000"))
SIZE = 2_000


class Clock:
    """Seconds that pass when somebody says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.asyncio
@pytest.mark.usefixtures("made_up_time")
@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_job_completes_below_the_limits_of_a_provider(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = asyncio.get_running_loop().time
    # More connections than it allows, a rate that is too high at first, and connections that do not last.
    server = provider_server(
        name,
        SyntheticMailbox(COUNT, size=SIZE),
        max_connections=3,
        messages_per_second=COUNT,
        # Sessions end in the middle of the work, in its words.
        faults=[Bye(PROVIDERS[name].session_words, command="UID FETCH", nth=4, times=3)],
        clock=clock,
    )
    began = clock()
    handled: set[int] = set()

    async def handle(message: imapipe.Message) -> None:
        handled.add(message.uid)

    async with server, imapipe.create_pool(server.url, password=server.password, max_size=5) as pool:
        job = pool.mailbox("INBOX").search(q.ALL).fetch("full")
        limit = imapipe.AdaptiveRateLimit()
        report = await job.use(imapipe.Retry(wait_initial_seconds=0.05), limit).run(handle)
    assert not report.failures
    assert report.complete
    assert handled == set(range(1, COUNT + 1))
    assert server.counters.peak_connections <= 5
    throttled = server.counters.throttled
    if COUNT > 2_000:
        figures = f"{clock() - began:.1f} s, {server.counters.failed_logins} refused, {throttled} throttled"
        with capsys.disabled():
            sys.stdout.write(f"\n{name}: {figures}\n")
    # Each connection of the pool above the limit is refused at most a few times, and the rate is found.
    assert server.counters.failed_logins <= 10
    assert throttled <= 30


@pytest.mark.asyncio
async def test_behind_a_quota_nothing_is_pushed_and_the_next_day_goes_on(tmp_path: Path) -> None:
    clock = Clock()
    day = COUNT * SIZE * 3 // 5
    server = provider_server("gmail", SyntheticMailbox(COUNT, size=SIZE), bytes_per_day=day, clock=clock)
    handled: list[int] = []

    async def handle(message: imapipe.Message) -> None:
        handled.append(message.uid)

    tries: list[float] = []

    async def wait(seconds: float) -> None:
        clock.now += seconds
        tries.append(clock.now)
        await asyncio.sleep(0)

    async with server, imapipe.create_pool(server.url, password=server.password, max_size=2) as pool:
        # How many batches are under way on a connection follows its round trips otherwise.
        job = pool.mailbox("INBOX").search(q.ALL).fetch("full").batch(max(1, COUNT // 100)).depth(8)
        job = job.use(imapipe.Checkpoint(tmp_path / "state.json"), imapipe.Retry(sleep=wait))
        first = await job.run(handle)
        refused = [record for record in server.commands.named("UID FETCH") if record.outcome == "NO"]
        assert 0 < first.done < COUNT
        assert first.done + first.failed == COUNT
        assert {failure.reason for failure in first.failures.values()} <= {"Throttled", "not-tried"}
        # Those that were under way when it said so, and four more: one at a time, a minute or more apart.
        assert len(refused) <= 16 + 4
        assert len({round(when, 3) for when in tries}) == len(tries) == 4
        assert clock.now >= 240
        assert first.retry_at is not None
        assert timedelta(hours=23) < first.retry_at - first.started_at < timedelta(hours=25)
        assert any(f"{first.retry_at:%Y-%m-%d %H:%M} UTC" in failure.detail for failure in first.failures.values())
        clock.now += 86_400.0
        second = await job.run(handle)
    assert second.complete
    assert second.retry_at is None
    assert sorted(handled) == list(range(1, COUNT + 1))


@pytest.mark.asyncio
async def test_without_retry_the_first_refusal_of_a_quota_ends_the_run() -> None:
    server = provider_server("gmail", SyntheticMailbox(COUNT, size=SIZE), bytes_per_day=COUNT * SIZE // 2)

    async def handle(message: imapipe.Message) -> None:
        """Take a message."""

    async with server, imapipe.create_pool(server.url, password=server.password, max_size=1) as pool:
        report = await pool.mailbox("INBOX").search(q.ALL).fetch("full").batch(50).run(handle)
        refused = [record for record in server.commands.named("UID FETCH") if record.outcome == "NO"]
    assert report.done + report.failed == COUNT
    assert len(refused) <= 16
    assert report.retry_at is not None
    assert {failure.reason for failure in report.failures.values()} == {"Throttled", "not-tried"}


@pytest.mark.asyncio
async def test_all_mailboxes_of_an_account_wait_for_one_try_and_end_together() -> None:
    clock = Clock()
    boxes = {f"Box {number}": SyntheticMailbox(100, size=SIZE) for number in range(6)}
    server = provider_server("gmail", boxes, bytes_per_day=250 * SIZE, clock=clock)

    async def handle(message: imapipe.Message) -> None:
        """Take a message."""

    async def wait(seconds: float) -> None:
        clock.now += seconds
        await asyncio.sleep(0)

    async with server, imapipe.create_pool(server.url, password=server.password, max_size=2) as pool:
        job = pool.each("Box *").search(q.ALL).fetch("full").batch(10).use(imapipe.Retry(sleep=wait))
        report = await job.run(handle)
    refused = [record for record in server.commands.named("UID FETCH") if record.outcome == "NO"]
    assert not report.errors
    assert report.done + report.failed == report.planned == 600
    # Of two mailboxes at a time what was under way, and four tries; not four of each.
    assert len(refused) <= 2 * 16 + 4
    assert 240 <= clock.now < 400
    assert report.retry_at is not None


@pytest.mark.asyncio
async def test_an_account_that_is_served_again_goes_on_at_once_and_whole() -> None:
    server = provider_server("gmail", SyntheticMailbox(COUNT, size=200))
    quota = Reply("NO", "exceeded", code="OVERQUOTA", command="UID FETCH", nth=3, times=1_000)
    server.faults.add(quota)
    waited: list[float] = []

    async def handle(message: imapipe.Message) -> None:
        """Take a message."""

    async def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 2:
            server.faults.remove(quota)
        await asyncio.sleep(0)

    async with server, imapipe.create_pool(server.url, password=server.password, max_size=2) as pool:
        job = pool.mailbox("INBOX").search(q.ALL).fetch("full").batch(50)
        report = await job.use(imapipe.Retry(sleep=wait)).run(handle)
    assert report.complete
    assert len(waited) == 2
    assert all(59 < seconds < 70 for seconds in waited)
    assert report.retry_at is None


@pytest.mark.asyncio
async def test_a_session_ends_in_the_words_of_the_provider() -> None:
    clock = Clock()
    server = provider_server("exchange", 2, clock=clock)
    async with server, imapipe.create_pool(server.url, password=server.password, max_size=1) as pool:
        job = pool.mailbox("INBOX").search(q.ALL).fetch("envelope").use(imapipe.Retry(wait_initial_seconds=0.01))
        assert len([message async for message in job]) == 2
        clock.now += 3_601.0
        assert len([message async for message in job]) == 2
    (ended,) = [record for record in server.commands.named("UID FETCH") if record.outcome == "BYE"]
    assert ended.connection == 1
    assert server.counters.logins == 2


def test_a_provider_that_nobody_knows() -> None:
    with pytest.raises(ValueError, match="there are gmail, exchange, yahoo, icloud, dovecot"):
        provider_server("aol")
