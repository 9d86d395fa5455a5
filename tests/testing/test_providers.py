"""Jobs on servers that behave as those of providers: they end complete, refused and throttled no more than need be."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

import imapipe
from imapipe import search as q
from imapipe.testing import PROVIDERS, Bye, SyntheticMailbox, provider_server

COUNT = int(os.environ.get("IMAPIPE_PROOF_MESSAGES", "2000"))
SIZE = 2_000


class Clock:
    """Seconds that pass when somebody says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.asyncio
@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_job_completes_below_the_limits_of_a_provider(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # More connections than it allows, a rate that is too high at first, and connections that do not last.
    server = provider_server(
        name,
        SyntheticMailbox(COUNT, size=SIZE),
        max_connections=3,
        messages_per_second=COUNT,
        # Sessions end in the middle of the work, in its words.
        faults=[Bye(PROVIDERS[name].session_words, command="UID FETCH", nth=4, times=3)],
    )
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
        figures = f"{report.elapsed_seconds:.1f} s, {server.counters.failed_logins} refused, {throttled} throttled"
        with capsys.disabled():
            sys.stdout.write(f"\n{name}: {figures}\n")
    # Each connection of the pool above the limit is refused at most a few times, and the rate is found.
    assert server.counters.failed_logins <= 10
    assert throttled <= 30


@pytest.mark.asyncio
async def test_behind_a_quota_nothing_is_pushed_and_the_next_day_goes_on(tmp_path: Path) -> None:
    clock = Clock()
    server = provider_server("gmail", SyntheticMailbox(COUNT, size=SIZE), bytes_per_day=COUNT * SIZE // 2, clock=clock)
    handled: list[int] = []

    async def handle(message: imapipe.Message) -> None:
        handled.append(message.uid)

    async def wait(seconds: float) -> None:
        clock.now += seconds
        await asyncio.sleep(0)

    async with server, imapipe.create_pool(server.url, password=server.password, max_size=2) as pool:
        job = pool.mailbox("INBOX").search(q.ALL).fetch("full")
        job = job.use(imapipe.Checkpoint(tmp_path / "state.json"), imapipe.Retry(sleep=wait))
        first = await job.run(handle)
        refused = [record for record in server.commands.named("UID FETCH") if record.outcome == "NO"]
        assert 0 < first.done < COUNT
        assert first.done + first.failed == COUNT
        assert {failure.reason for failure in first.failures.values()} <= {"Throttled", "not-tried"}
        # Those in flight are refused as often as Retry tries, a minute or more apart; nobody halves them.
        assert len(refused) <= 5 * 16
        assert clock.now >= 200
        clock.now += 86_400.0
        second = await job.run(handle)
    assert second.complete
    assert sorted(handled) == list(range(1, COUNT + 1))


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
