"""The rate limit of several processes on a clock that is made up: how much passed in all, when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.limits.test_rate_limit import Passed, Server, batch_of, fetch_all, most_in_any_window, rate_of
from tests.middleware.fakes import FakeRun, done, run_in_fake_time

from imapipe.limits.shared_rate_limit import Listener, Reservation, SharedRateLimit
from imapipe.middleware.base import GivesTurns
from imapipe.models.batch import Batch, BatchResult
from imapipe.models.event import LimitAwaited


@dataclass
class Rows:
    """What the database does, with the time that asking takes."""

    latency: float = 0.001
    due: dict[tuple[str, str], float] = field(default_factory=dict)
    asked: int = 0
    listeners: list[Listener] = field(default_factory=list)

    async def reserve(self, account: str, name: str, *, cost_seconds: float, credit_seconds: float) -> Reservation:
        await asyncio.sleep(self.latency)
        now = asyncio.get_running_loop().time()
        self.asked += 1
        self.due[account, name] = max(self.due.get((account, name), 0.0), now - credit_seconds) + cost_seconds
        seconds = self.due[account, name] - now
        await asyncio.sleep(self.latency)
        return Reservation(now, seconds)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)


async def drive(
    rows: Rows,
    sizes: Sequence[int],
    *,
    workers: int = 1,
    callers: int = 4,
    seconds: float = 1e9,
    work_seconds: float = 0.0,
    account: str = "ann",
    **rates: float | None,
) -> list[Passed]:
    """Workers that send the batches, each from several callers; what passed of each."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    passed: list[Passed] = [[] for _ in range(workers)]
    waiting = list(enumerate(sizes))[::-1]

    async def worker(mine: Passed) -> None:
        run = FakeRun()
        run.account = account
        layer = await run.start(SharedRateLimit(rows, **rates))

        async def call_next(batch: Batch) -> BatchResult:
            mine.append((loop.time() - began, len(batch)))
            await asyncio.sleep(work_seconds)
            return done(batch)

        async def caller() -> None:
            while waiting and loop.time() - began < seconds:
                number, size = waiting.pop()
                await layer(batch_of(size, number), call_next)

        await asyncio.gather(*(caller() for _ in range(callers)))
        await run.stop()

    await asyncio.gather(*(worker(mine) for mine in passed))
    return passed


def together(passed: list[Passed]) -> Passed:
    return sorted(entry for mine in passed for entry in mine)


@pytest.mark.no_cover
@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("callers", [1, 8])
@pytest.mark.parametrize(("rate", "size"), [(2, 1), (15, 1), (30, 1), (200, 1), (200, 7), (200, 500), (2_000, 100)])
def test_workers_together_keep_the_rate(rate: float, size: int, callers: int, workers: int) -> None:
    rows = Rows()
    count = max(60, int(rate * 10 / size))
    passed = together(
        run_in_fake_time(
            drive(rows, [size] * count, workers=workers, callers=callers, messages_per_second=rate), lateness=0.001
        )
    )
    assert len(passed) == count
    # From the beginning on: batches of all workers are paid for at the same time, and pass at their end.
    assert sum(amount for _, amount in passed) / passed[-1][0] == pytest.approx(rate, rel=0.05)
    bucket = max(1.0, rate * 0.1)
    for seconds in (0.01, 0.1, 1.0, 5.0):
        # A batch counts when it passes, at the end of what it was paid for.
        assert most_in_any_window(passed, seconds) <= bucket + size * workers + rate * seconds + 1e-3
    assert rows.listeners == []


def test_what_waits_behind_a_batch_is_reserved_with_it() -> None:
    rows = Rows()
    run_in_fake_time(drive(rows, [1] * 400, callers=40, commands_per_second=200))
    assert rows.asked <= 400 / 10 + 10
    rows = Rows()
    run_in_fake_time(drive(rows, [1] * 40, callers=1, commands_per_second=200))
    assert rows.asked == 40


@pytest.mark.parametrize("size", [10, 300])
def test_a_slow_worker_does_not_make_the_rate_slower(size: int) -> None:
    sizes = [size] * max(40, 3_000 // size)
    took = size / 200
    (passed,) = run_in_fake_time(drive(Rows(), sizes, callers=1, work_seconds=0.8 * took, messages_per_second=200))
    assert rate_of(passed) == pytest.approx(200, rel=0.05)


def test_workers_get_equal_parts_whatever_their_batches_are() -> None:
    async def scenario() -> list[Passed]:
        rows = Rows()
        small, large = await asyncio.gather(
            drive(rows, [5] * 10_000, seconds=20.0, messages_per_second=200),
            drive(rows, [400] * 100, seconds=20.0, messages_per_second=200),
        )
        return small + large

    small, large = run_in_fake_time(scenario())
    shares = [sum(amount for time, amount in passed if time <= 20) for passed in (small, large)]
    assert shares[0] == pytest.approx(2_000, abs=400)
    assert sum(shares) == pytest.approx(4_000, rel=0.1)


def test_accounts_have_rates_of_their_own() -> None:
    async def scenario() -> list[list[Passed]]:
        rows = Rows()
        return await asyncio.gather(
            *(drive(rows, [1] * 30, commands_per_second=10, account=account) for account in ("ann", "bob"))
        )

    for (passed,) in run_in_fake_time(scenario()):
        assert rate_of(passed) == pytest.approx(10, rel=0.05)


def test_a_burst_passes_after_a_pause_and_only_then() -> None:
    passed = together(run_in_fake_time(drive(Rows(), [1] * 120, callers=120, messages_per_second=10, burst=50)))
    assert sum(1 for time, _ in passed if time < 0.1) == pytest.approx(40, abs=2)
    assert most_in_any_window(passed, 1.0) <= 50


@pytest.mark.parametrize("known", [False, True])
def test_bytes_come_at_the_rate(known: bool) -> None:
    limit = SharedRateLimit(Rows(), bytes_per_second=50_000)
    received = run_in_fake_time(fetch_all(limit, Server(spread=0.5), 150, callers=8, known=known))
    total = sum(amount for _, amount in received[1:])
    assert total / (received[-1][0] - received[0][0]) == pytest.approx(50_000, rel=0.05)


def test_a_turn_that_was_slept_through_is_given_up() -> None:
    """The process stood still while its batch waited: by now others have what it had reserved."""

    async def scenario() -> tuple[Passed, int]:
        loop = asyncio.get_running_loop()
        rows = Rows()
        layer = await FakeRun().start(SharedRateLimit(rows, messages_per_second=100))
        passed: Passed = []

        async def call_next(batch: Batch) -> BatchResult:
            passed.append((loop.time(), len(batch)))
            return done(batch)

        sleep = asyncio.sleep

        async def oversleep(seconds: float) -> None:
            await sleep(seconds + (3.0 if seconds > 0.01 else 0.0))

        await layer(batch_of(10), call_next)
        asyncio.sleep = oversleep  # type: ignore[assignment]
        try:
            await layer(batch_of(5), call_next)
        finally:
            asyncio.sleep = sleep
        return passed, rows.asked

    passed, asked = run_in_fake_time(scenario())
    assert len(passed) == 2
    # Two parts of the first one, then the missed one and another instead of it.
    assert asked == 4


@pytest.mark.parametrize("rates", [{"messages_per_second": 100}, {"commands_per_second": 4}], ids=str)
def test_a_turn_is_for_now(rates: dict[str, float]) -> None:
    """Batches of several processes are through the gate, and wait for connections that come all at once."""

    async def scenario() -> Passed:
        loop = asyncio.get_running_loop()
        rows, sent = Rows(), list[tuple[float, int]]()
        has_connections = asyncio.Event()

        async def process() -> None:
            layer = await FakeRun().start(SharedRateLimit(rows, **rates))
            assert isinstance(layer, GivesTurns)

            async def call_next(batch: Batch) -> BatchResult:
                await has_connections.wait()
                await layer.renew(batch)
                sent.append((loop.time(), len(batch)))
                # What goes on at once is not paid for again.
                asked = rows.asked
                await layer.renew(batch)
                assert rows.asked == asked
                return done(batch)

            await asyncio.gather(*(layer(batch_of(25, number), call_next) for number in range(4)))

        loop.call_later(60.0, has_connections.set)
        await asyncio.gather(*(process() for _ in range(3)))
        return sent

    sent = run_in_fake_time(scenario())
    assert len(sent) == 12
    assert rate_of(sent) == pytest.approx(100, rel=0.25)
    # One of each process counts at its end.
    assert most_in_any_window(sent, 0.15) <= 3 * 25


def test_a_cancelled_waiter_holds_nobody_up() -> None:
    async def scenario() -> float:
        loop = asyncio.get_running_loop()
        layer = await FakeRun().start(SharedRateLimit(Rows(), messages_per_second=10))

        async def call_next(batch: Batch) -> BatchResult:
            return done(batch)

        large = asyncio.create_task(layer(batch_of(1_000), call_next))
        await asyncio.sleep(1.0)
        large.cancel()
        began = loop.time()
        await layer(batch_of(1), call_next)
        return loop.time() - began

    assert run_in_fake_time(scenario()) <= 0.3


def test_a_run_hears_what_is_waited_for() -> None:
    async def scenario() -> list[object]:
        rows, run = Rows(), FakeRun()
        await run.start(SharedRateLimit(rows, messages_per_second=10))
        rows.listeners[0]("the database is away", 3.0)
        await run.stop()
        assert not rows.listeners
        return list(run.heard)

    assert run_in_fake_time(scenario()) == [LimitAwaited("rate", "the database is away", 3.0)]


@pytest.mark.no_cover
@settings(max_examples=30, deadline=None)
@given(
    rate=st.floats(1, 500),
    burst=st.none() | st.integers(1, 1_000),
    sizes=st.lists(st.integers(1, 60), min_size=5, max_size=40),
    callers=st.integers(1, 6),
    workers=st.integers(1, 4),
)
def test_never_more_than_the_bucket_in_any_window(
    rate: float, burst: int | None, sizes: list[int], callers: int, workers: int
) -> None:
    passed = together(
        run_in_fake_time(drive(Rows(), sizes, workers=workers, callers=callers, messages_per_second=rate, burst=burst))
    )
    assert sum(amount for _, amount in passed) == sum(sizes)
    bucket = max(1.0, rate * 0.1)
    if burst is not None:
        bucket = min(burst, max(bucket, burst - rate))
    # A batch passes when its last part was reserved, so that of each worker counts at its end.
    at_once = bucket + workers * max(sizes)
    for seconds in (0.001, 0.1, 1.0, 7.0):
        assert most_in_any_window(passed, seconds) <= at_once + rate * seconds + 1e-2
