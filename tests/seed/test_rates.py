"""S17 to S19: what passes per second, on the wire and by a clock that is made up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from tests.middleware.fakes import run_in_fake_time
from tests.seed.wire import arrivals, fetches, ignore, most_in_any, sizes

import imapipe
from imapipe import AdaptiveRateLimit, FixedBatch, Progress, ProgressSnapshot, RateLimit, Retry
from imapipe import search as q
from imapipe.testing import CommandRecord, Delay, Fault, Reply, Server, SyntheticMailbox, Throttle

pytestmark = [pytest.mark.slow, pytest.mark.no_cover]


def _fetched(
    limit: RateLimit,
    *,
    messages: int,
    batch: int,
    connections: int,
    fetch: str = "flags",
    work_seconds: float = 0.0,
    depth: int = 4,
) -> tuple[list[CommandRecord], list[int]]:
    """The FETCHes of a run under a limit, and how many messages each asked for."""

    async def run() -> tuple[list[CommandRecord], list[int]]:
        clock = asyncio.get_running_loop().time
        faults = [Delay(work_seconds, command="UID FETCH")] if work_seconds else []
        server = Server({"INBOX": SyntheticMailbox(messages, size=20_000)}, faults=faults, clock=clock)
        async with server, imapipe.create_pool(server.url, password="secret", max_size=connections) as pool:
            job = pool.mailbox("INBOX").search(q.ALL).fetch(fetch).batch(FixedBatch(batch)).depth(depth).use(limit)
            report = await job.run(ignore, connections=connections)
        assert report.complete
        return fetches(server), sizes(server)

    return run_in_fake_time(run())


def _rate(times: list[float], amounts: list[int]) -> float:
    """What came per second: the last amount is not yet paid off when it comes."""
    return sum(amounts[:-1]) / (times[-1] - times[0])


def _served(
    throttle: Throttle | None,
    limit: AdaptiveRateLimit,
    *,
    commands: int,
    connections: int = 4,
    faults: Iterable[Fault] = (),
) -> list[CommandRecord]:
    """The FETCHes of a run at a server that throttles."""

    async def run() -> list[CommandRecord]:
        clock = asyncio.get_running_loop().time
        if throttle is not None:
            throttle.clock = clock
        mailbox = SyntheticMailbox(2 * commands)
        server = Server({"INBOX": mailbox}, throttle=throttle, latency_seconds=0.02, faults=faults, clock=clock)
        async with server, imapipe.create_pool(server.url, password="secret", max_size=connections) as pool:
            job = pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(2).use(Retry(10), limit)
            assert (await job.run(ignore)).complete
        return fetches(server)

    return run_in_fake_time(run())


@pytest.mark.parametrize("factor", [4.0, 0.25])
@pytest.mark.parametrize(("hidden", "commands", "connections"), [(5, 600, 1), (40, 1000, 4), (200, 4000, 4)])
def test_s17_the_rate_comes_near_what_the_server_bears_and_is_seldom_refused(
    hidden: int, commands: int, connections: int, factor: float
) -> None:
    throttle = Throttle(commands_per_second=hidden, commands=frozenset({"UID FETCH"}))
    limit = AdaptiveRateLimit(hidden * factor)
    records = _served(throttle, limit, commands=commands, connections=connections)
    begin, end = records[0].received_at, records[-1].received_at
    middle = (begin + end) / 2
    served = [record for record in records if record.received_at >= middle and not record.throttled]
    assert len(served) / (end - middle) >= 0.8 * hidden
    assert sum(record.throttled for record in records) < 0.02 * len(records)


def test_s17_the_pause_that_one_connection_is_told_of_is_kept_by_all() -> None:
    told = Reply("BAD", "Request is throttled. Suggested Backoff Time: 30000 milliseconds", command="UID FETCH", nth=50)
    records = _served(None, AdaptiveRateLimit(20), commands=200, faults=[told])
    (refused,) = [record for record in records if record.outcome == "BAD"]
    assert refused.finished_at is not None
    # Those that were on their way when it said so may still come.
    told_at = refused.finished_at + 0.1
    later = [record.received_at for record in records if record.received_at > told_at]
    assert min(later) >= refused.finished_at + 30
    assert len({record.connection for record in records}) == 4


def test_s17_slow_answers_lower_the_rate_and_quick_ones_raise_it() -> None:
    quick, slow = AdaptiveRateLimit(10, target_seconds=1.0), AdaptiveRateLimit(10, target_seconds=1.0)
    quick_records = _served(None, quick, commands=400)
    slow_records = _served(None, slow, commands=400, faults=[Delay(2.0, command="UID FETCH")])
    assert quick.rate_per_second > 2 * 10
    assert slow.rate_per_second < 10
    assert arrivals(quick_records)[-1] < 400 / 10 < arrivals(slow_records)[-1]


@pytest.mark.parametrize("connections", [1, 4])
@pytest.mark.parametrize("rate", [2, 40])
def test_s18_commands_come_at_the_rate(rate: int, connections: int) -> None:
    records, seen = _fetched(RateLimit(commands_per_second=rate), messages=400, batch=5, connections=connections)
    times = arrivals(records)
    assert seen == [5] * 80
    assert _rate(times, [1] * 80) == pytest.approx(rate, rel=0.05)
    # 50 ms worth of commands may wait in the bucket, or one.
    for seconds in (0.5, 1.0, 5.0):
        assert most_in_any(seconds, times) <= max(1, rate * 0.05) + rate * seconds + 0.01


@pytest.mark.parametrize("connections", [1, 4])
@pytest.mark.parametrize(("rate", "batch"), [(200, 10), (200, 50), (1000, 100)])
def test_s18_messages_come_at_the_rate(rate: int, batch: int, connections: int) -> None:
    records, seen = _fetched(
        RateLimit(messages_per_second=rate),
        messages=40 * batch,
        batch=batch,
        connections=connections,
        work_seconds=0.02,
    )
    times = arrivals(records)
    assert _rate(times, seen) == pytest.approx(rate, rel=0.05)
    for seconds in (0.5, 1.0, 5.0):
        assert most_in_any(seconds, times, seen) <= max(batch, rate * 0.05) + rate * seconds + 0.01


def test_s18_what_flows_in_while_a_large_batch_is_at_work_is_not_lost() -> None:
    """Each batch alone, worth a quarter of a second and 0.2 s of work: waiting is not added to the work."""
    limit = RateLimit(messages_per_second=200)
    records, seen = _fetched(limit, messages=2000, batch=50, connections=1, work_seconds=0.2, depth=1)
    assert _rate(arrivals(records), seen) == pytest.approx(200, rel=0.05)


@pytest.mark.parametrize("connections", [1, 4])
def test_s18_bytes_come_at_the_rate_and_overshoot_by_one_batch(connections: int) -> None:
    rate, batch = 500_000, 5
    records, _ = _fetched(
        RateLimit(bytes_per_second=rate), messages=500, batch=batch, connections=connections, fetch="full"
    )
    times, amounts = arrivals(records), [record.bytes_out for record in records]
    assert _rate(times, amounts) == pytest.approx(rate, rel=0.05)
    for seconds in (1.0, 5.0):
        assert most_in_any(seconds, times, amounts) <= rate * (seconds + 0.05) + max(amounts) * 1.2


@pytest.mark.parametrize("connections", [1, 4])
def test_s19_a_burst_passes_after_a_pause_and_never_more_than_that(connections: int) -> None:
    """Five at once, then one in two seconds; a pause of the consumer earns another burst, and no larger one."""
    shown: list[ProgressSnapshot] = []

    async def run() -> list[float]:
        clock = asyncio.get_running_loop().time
        server = Server(messages=160, clock=clock)
        limit = RateLimit(commands_per_second=0.5, burst=5)
        async with server, imapipe.create_pool(server.url, password="secret", max_size=connections) as pool:
            job = pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(8).use(limit, Progress(shown.append))
            await job.limit(80).run(ignore, connections=connections)
            await asyncio.sleep(60)
            await job.run(ignore, connections=connections)
        return arrivals(fetches(server))

    times = run_in_fake_time(run())
    assert len(times) == 10 + 20
    second = [time - times[10] for time in times[10:]]
    for burst in (times[:10], second):
        assert most_in_any(0.1, burst) in (4, 5)
        assert burst[9] - burst[4] == pytest.approx(5 / 0.5, rel=0.05)
    assert times[10] - times[9] > 58
    assert most_in_any(1.0, times) <= 5
    for seconds in (4.0, 10.0, 40.0):
        assert most_in_any(seconds, times) <= 5 + 0.5 * seconds
    assert shown[-1].waits > 0
