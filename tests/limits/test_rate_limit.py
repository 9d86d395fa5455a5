"""The rate limit on a clock that is made up: how much passed, when."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.middleware.fakes import FakeRun, done, interrupted, run_in_fake_time

from imapipe.errors import ConnectionLost
from imapipe.limits import rate_limit
from imapipe.limits.rate_limit import RateLimit
from imapipe.models.batch import Batch, BatchResult
from imapipe.models.event import Wait
from imapipe.wire.uid_set import UidSet

Passed = list[tuple[float, int]]
"""The time and the amount of each batch that was let through."""


def batch_of(messages: int, number: int = 1, size_bytes: int | None = None) -> Batch:
    return Batch(number, UidSet.from_ranges([(1, messages)]), size_bytes=size_bytes)


async def drive(
    limit: RateLimit,
    sizes: Sequence[int],
    *,
    callers: int,
    seconds: float = 10_000.0,
    pauses: Sequence[float] = (),
    work_seconds: float = 0.0,
    run: FakeRun | None = None,
) -> Passed:
    """A run that sends batches from several callers at the same time, until they are sent or the time is over."""
    loop = asyncio.get_running_loop()
    layer = await (run or FakeRun()).start(limit)
    began = loop.time()
    passed: Passed = []
    waiting = list(enumerate(sizes))[::-1]

    async def call_next(batch: Batch) -> BatchResult:
        passed.append((loop.time() - began, len(batch)))
        await asyncio.sleep(work_seconds)
        return done(batch)

    async def caller() -> None:
        while waiting and loop.time() - began < seconds:
            number, size = waiting.pop()
            if pauses:
                await asyncio.sleep(pauses[number % len(pauses)])
            await layer(batch_of(size, number), call_next)

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return passed


def most_in_any_window(passed: Passed, seconds: float) -> int:
    """The largest amount in any span of time, its ends included but for a hair."""
    most = total = first = 0
    for time, amount in passed:
        total += amount
        while time - passed[first][0] >= seconds - 1e-6:
            total -= passed[first][1]
            first += 1
        most = max(most, total)
    return most


def rate_of(passed: Passed) -> float:
    """The long-run rate: what passed after the first batch, by the time it took."""
    return sum(amount for _, amount in passed[1:]) / (passed[-1][0] - passed[0][0])


# ---------------------------------------------------------------- the rate


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.parametrize("lateness", [0.0, 0.001])
@pytest.mark.parametrize("callers", [1, 16])
@pytest.mark.parametrize("rate", [0.5, 10, 30, 200, 2_000])
def test_commands_come_at_the_rate(rate: float, callers: int, lateness: float) -> None:
    limit = RateLimit(commands_per_second=rate)
    # Ten seconds of it, or as many as are enough to see the rate of two.
    count = min(max(60, int(rate * 10)), 4_000)
    passed = run_in_fake_time(drive(limit, [7] * count, callers=callers), lateness=lateness)
    commands = [(time, 1) for time, _ in passed]
    assert rate_of(commands) == pytest.approx(rate, rel=0.05)
    # Not a second's worth at once at the beginning.
    assert most_in_any_window(commands, 1.0) <= max(1.0, rate * 1.05)


@pytest.mark.parametrize("lateness", [0.0, 0.001])
@pytest.mark.parametrize("callers", [1, 16])
@pytest.mark.parametrize(
    ("rate", "size"), [(10, 1), (10, 100), (200, 1), (200, 3), (200, 500), (5_000, 500), (33.3, 7)]
)
def test_messages_come_at_the_rate(rate: float, size: int, callers: int, lateness: float) -> None:
    limit = RateLimit(messages_per_second=rate)
    count = max(40, int(rate * 10 / size))
    passed = run_in_fake_time(drive(limit, [size] * count, callers=callers), lateness=lateness)
    assert len(passed) == count
    assert rate_of(passed) == pytest.approx(rate, rel=0.05)


@pytest.mark.parametrize("size", [1, 10, 300])
def test_a_slow_worker_does_not_make_the_rate_slower(size: int) -> None:
    """The wait comes on top of nothing: the time that the work takes is not slept again."""
    limit = RateLimit(messages_per_second=200)
    took = size / 200
    sizes = [size] * max(40, 3_000 // size)
    passed = run_in_fake_time(drive(limit, sizes, callers=1, work_seconds=0.8 * took), lateness=0.0002)
    assert rate_of(passed) == pytest.approx(200, rel=0.05)


def test_time_in_which_nobody_wanted_anything_is_no_credit() -> None:
    limit = RateLimit(messages_per_second=100)
    passed = run_in_fake_time(drive(limit, [200, 200], callers=1, pauses=[60.0]))
    # Each batch waits for all of itself but for the bucket of five.
    assert [time for time, _ in passed] == pytest.approx([60 + 1.95, 60 + 1.95 + 60 + 1.95], abs=1e-2)


def test_ten_a_second_lets_no_more_than_ten_through_in_the_first_second() -> None:
    for burst in (None, 1, 10):
        limit = RateLimit(commands_per_second=10, burst=burst)
        passed = run_in_fake_time(drive(limit, [1] * 30, callers=30))
        assert sum(1 for time, _ in passed if time < 1.0 - 1e-6) == 10


@pytest.mark.no_cover
@settings(max_examples=60, deadline=None)
@given(
    rate=st.floats(1, 500),
    burst=st.none() | st.integers(1, 1_000),
    sizes=st.lists(st.integers(1, 60), min_size=5, max_size=60),
    pauses=st.lists(st.sampled_from([0.0, 0.0, 0.01, 0.3, 2.0]), max_size=5),
    callers=st.integers(1, 12),
)
def test_never_more_than_the_burst_in_any_window(
    rate: float, burst: int | None, sizes: list[int], pauses: list[float], callers: int
) -> None:
    limit = RateLimit(messages_per_second=rate, burst=burst)
    bucket = max(1.0, rate * 0.05)
    if burst is not None:
        bucket = min(burst, max(bucket, burst - rate))
    passed = run_in_fake_time(drive(limit, sizes, callers=callers, pauses=pauses))
    assert sum(amount for _, amount in passed) == sum(sizes)
    at_once = max(bucket, *sizes)
    for seconds in (0.001, 0.1, 1.0, 7.0):
        assert most_in_any_window(passed, seconds) <= at_once + rate * seconds + 1e-3
    if burst is not None and burst >= 1.05 * rate + 1 and max(sizes) <= bucket:
        assert most_in_any_window(passed, 1.0) <= burst


@pytest.mark.no_cover
@settings(max_examples=25, deadline=None)
@given(
    rate=st.floats(1, 1_000),
    sizes=st.lists(st.integers(1, 60), min_size=15, max_size=30),
    callers=st.integers(1, 12),
)
def test_the_rate_is_right_for_any_sizes(rate: float, sizes: list[int], callers: int) -> None:
    passed = run_in_fake_time(drive(RateLimit(messages_per_second=rate), sizes * 3, callers=callers))
    if sum(sizes) > rate * 3:
        assert rate_of(passed) == pytest.approx(rate, rel=0.05)


def test_a_burst_passes_at_once_after_a_pause_and_only_then() -> None:
    limit = RateLimit(messages_per_second=10, burst=50)
    passed = run_in_fake_time(drive(limit, [1] * 120, callers=120))
    at_once = sum(1 for time, _ in passed if time < 1e-3)
    assert at_once == 40
    assert 49 <= most_in_any_window(passed, 1.0) <= 50
    assert rate_of(passed[at_once:]) == pytest.approx(10, rel=0.05)


# ---------------------------------------------------------------- the queue


def test_first_come_first_served_however_large() -> None:
    """A batch of 500 is not overtaken by batches of one."""

    async def scenario() -> list[int]:
        layer = await FakeRun().start(RateLimit(messages_per_second=100))
        order: list[int] = []

        async def call_next(batch: Batch) -> BatchResult:
            order.append(batch.number)
            return done(batch)

        async with asyncio.TaskGroup() as group:
            for number in range(40):
                group.create_task(layer(batch_of(500 if number == 3 else 1, number), call_next))
        return order

    assert run_in_fake_time(scenario()) == list(range(40))


def test_a_large_batch_is_paid_in_equal_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[float] = []
    pay = rate_limit._Bucket.pay

    async def spy(self: rate_limit._Bucket, part: float) -> None:
        taken.append(part)
        await pay(self, part)

    monkeypatch.setattr(rate_limit._Bucket, "pay", spy)
    passed = run_in_fake_time(drive(RateLimit(messages_per_second=100), [23], callers=1))
    assert taken == pytest.approx([2.3] * 10)
    # Paid before it is sent: all but the bucket of five has had to flow.
    assert passed[0][0] == pytest.approx(0.18, abs=1e-3)


def test_a_cancelled_waiter_gives_nothing_away_and_holds_nobody_up() -> None:
    async def scenario() -> tuple[Passed, list[str]]:
        loop = asyncio.get_running_loop()
        layer = await FakeRun().start(RateLimit(messages_per_second=10))
        passed: Passed = []
        began = loop.time()

        async def call_next(batch: Batch) -> BatchResult:
            passed.append((loop.time() - began, len(batch)))
            return done(batch)

        tasks = [asyncio.create_task(layer(batch_of(1, number), call_next)) for number in range(30)]
        large = asyncio.create_task(layer(batch_of(1_000), call_next))
        last = [asyncio.create_task(layer(batch_of(1, number), call_next)) for number in range(5)]
        await asyncio.sleep(0.05)
        # One that has its turn, some in the queue, and later the large one in the middle of paying.
        for task in tasks[1:25]:
            task.cancel()
        await asyncio.sleep(2.5)
        large.cancel()
        outcomes = await asyncio.gather(*tasks, large, *last, return_exceptions=True)
        return passed, [type(outcome).__name__ for outcome in outcomes]

    passed, outcomes = run_in_fake_time(scenario())
    assert outcomes.count("CancelledError") == 25
    assert len(passed) == 11
    assert all(later - earlier >= 0.1 - 1e-6 for (earlier, _), (later, _) in pairwise(passed))
    # Right after the large one was cancelled, with no more than one message's wait.
    assert passed[6][0] <= 2.55 + 0.1 + 1e-3
    assert passed[-1][0] <= 2.55 + 0.5 + 1e-3


@pytest.mark.no_cover
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**16), rate=st.floats(2, 200), callers=st.integers(2, 20))
def test_cancelling_at_random_never_lets_more_through(seed: int, rate: float, callers: int) -> None:
    chance = random.Random(seed)

    async def scenario() -> Passed:
        loop = asyncio.get_running_loop()
        layer = await FakeRun().start(RateLimit(messages_per_second=rate, commands_per_second=rate))
        passed: Passed = []

        async def call_next(batch: Batch) -> BatchResult:
            passed.append((loop.time(), len(batch)))
            return done(batch)

        waiting: set[asyncio.Task[BatchResult]] = set()
        for number in range(60):
            waiting.add(asyncio.create_task(layer(batch_of(chance.randint(1, 20), number), call_next)))
            await asyncio.sleep(chance.random() * 5 / rate)
            if len(waiting) > callers:
                victim = chance.choice(sorted(waiting, key=id))
                victim.cancel()
                waiting.discard(victim)
        await asyncio.wait(waiting)
        return passed

    passed = run_in_fake_time(scenario())
    for seconds in (0.1, 1.0, 5.0):
        assert most_in_any_window(passed, seconds) <= max(20, rate * 0.05) + rate * seconds + 1e-3
        commands = [(time, 1) for time, _ in passed]
        assert most_in_any_window(commands, seconds) <= max(1.0, rate * 0.05) + rate * seconds + 1e-3


# ---------------------------------------------------------------- bytes


@dataclass
class Server:
    """Answers each batch after a while, with bytes by a rule."""

    bytes_per_message: float = 1_000.0
    spread: float = 0.0
    seconds: float = 0.2
    seed: int = 1

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.received: Passed = []
        self.in_flight = 0
        self.most_in_flight = 0

    async def call_next(self, batch: Batch) -> BatchResult:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.in_flight -= 1
        factor = 1 + self.spread * (2 * self.chance.random() - 1)
        received = int(len(batch) * self.bytes_per_message * factor)
        self.received.append((asyncio.get_running_loop().time(), received))
        return done(batch, bytes_received=received)


async def fetch_all(
    limit: RateLimit, server: Server, batches: int, *, callers: int, known: bool, size: int = 100
) -> Passed:
    layer = await FakeRun().start(limit)
    numbers = iter(range(batches))

    async def caller() -> None:
        for number in numbers:
            size_bytes = int(size * server.bytes_per_message) if known else None
            await layer(batch_of(size, number, size_bytes), server.call_next)

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return server.received


@pytest.mark.no_cover
@pytest.mark.parametrize("callers", [1, 8])
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("spread", [0.0, 0.9])
def test_bytes_come_at_the_rate(callers: int, known: bool, spread: float) -> None:
    limit = RateLimit(bytes_per_second=50_000)
    server = Server(spread=spread)
    received = run_in_fake_time(fetch_all(limit, server, 150, callers=callers, known=known))
    total = sum(amount for _, amount in received[1:])
    assert total / (received[-1][0] - received[0][0]) == pytest.approx(50_000, rel=0.05)


@pytest.mark.parametrize("known", [False, True])
def test_bytes_overshoot_by_one_batch_at_most(known: bool) -> None:
    """Eight callers at once, and nothing known at first: one batch shows what messages are worth."""
    limit = RateLimit(bytes_per_second=50_000)
    server = Server()
    received = run_in_fake_time(fetch_all(limit, server, 60, callers=8, known=known))
    for seconds in (0.5, 1.0, 5.0, 20.0):
        assert most_in_any_window(received, seconds) <= 100_000 + 50_000 * (seconds + 0.05) + 1
    assert server.most_in_flight <= 8


def test_messages_that_grow_are_owed_and_paid_back() -> None:
    limit = RateLimit(bytes_per_second=50_000)
    server = Server(bytes_per_message=100)

    async def scenario() -> Passed:
        await fetch_all(limit, server, 20, callers=4, known=False)
        server.bytes_per_message = 10_000
        return await fetch_all(limit, server, 20, callers=4, known=False)

    received = run_in_fake_time(scenario())
    total = sum(amount for _, amount in received[1:])
    # The last batches are owed still: what was let through with the wrong price is no more than those in flight.
    assert total / (received[-1][0] - received[0][0]) == pytest.approx(50_000, rel=0.25)
    assert total > 20_000_000 - 1


def test_an_interrupted_batch_pays_for_what_came_and_a_cancelled_one_for_nothing() -> None:
    async def scenario() -> list[float]:
        loop = asyncio.get_running_loop()
        layer = await FakeRun().start(RateLimit(bytes_per_second=1_000))
        times: list[float] = []

        async def ends_early(batch: Batch) -> BatchResult:
            error = interrupted(batch, ConnectionLost())
            error.result = BatchResult(batch, bytes_received=3_000, missing=batch.uids)
            raise error

        async def hangs(batch: Batch) -> BatchResult:
            await asyncio.Event().wait()
            raise AssertionError("not reached")

        async def succeeds(batch: Batch) -> BatchResult:
            times.append(loop.time() - began)
            return done(batch)

        began = loop.time()
        with pytest.raises(type(interrupted(batch_of(1), ConnectionLost()))):
            await layer(batch_of(10, size_bytes=1), ends_early)
        await layer(batch_of(10, size_bytes=1), succeeds)
        began = loop.time()
        hanging = asyncio.create_task(layer(batch_of(10, size_bytes=2_000), hangs))
        await asyncio.sleep(5)
        hanging.cancel()
        await asyncio.wait([hanging])
        began = loop.time()
        await layer(batch_of(10, size_bytes=1), succeeds)
        return times

    after_interrupted, after_cancelled = run_in_fake_time(scenario())
    assert after_interrupted == pytest.approx(3.0 - 0.05, abs=0.05)
    assert after_cancelled == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("size_bytes", [1, 9_000])
def test_what_a_cancelled_waiter_paid_of_a_debt_is_not_paid_again(size_bytes: int) -> None:
    async def scenario() -> tuple[float, int]:
        loop = asyncio.get_running_loop()
        layer = await FakeRun().start(RateLimit(bytes_per_second=1_000))

        async def call_next(batch: Batch) -> BatchResult:
            return done(batch, bytes_received=4_000 if batch.number == 1 else 0)

        await layer(batch_of(1, 1, size_bytes=1), call_next)
        waiter = asyncio.create_task(layer(batch_of(1, 2, size_bytes=size_bytes), call_next))
        await asyncio.sleep(1.5)
        waiter.cancel()
        await asyncio.wait([waiter])
        began = loop.time()
        await layer(batch_of(1, 3, size_bytes=1), call_next)
        return loop.time() - began, int(waiter.cancelled())

    waited, cancelled = run_in_fake_time(scenario())
    assert cancelled
    assert waited == pytest.approx(2.5, abs=0.1)


def test_what_a_cancelled_waiter_paid_in_advance_is_no_burst_for_the_next() -> None:
    async def scenario() -> float:
        loop = asyncio.get_running_loop()
        layer = await FakeRun().start(RateLimit(bytes_per_second=1_000))

        async def call_next(batch: Batch) -> BatchResult:
            return done(batch, bytes_received=batch.size_bytes or 0)

        waiter = asyncio.create_task(layer(batch_of(1, size_bytes=9_000), call_next))
        await asyncio.sleep(5)
        waiter.cancel()
        began = loop.time()
        await layer(batch_of(1, size_bytes=3_000), call_next)
        return loop.time() - began

    assert run_in_fake_time(scenario()) == pytest.approx(3.0, abs=0.1)


def test_the_first_batch_of_unknown_size_goes_alone_even_if_it_is_cancelled_or_empty() -> None:
    async def scenario() -> list[tuple[int, int]]:
        layer = await FakeRun().start(RateLimit(bytes_per_second=10_000))
        seen: list[tuple[int, int]] = []
        inside = 0

        async def call_next(batch: Batch) -> BatchResult:
            nonlocal inside
            inside += 1
            seen.append((batch.number, inside))
            try:
                await asyncio.sleep(1)
            finally:
                inside -= 1
            return done(batch, bytes_received=0 if batch.number < 2 else 100)

        tasks = [asyncio.create_task(layer(batch_of(1, number), call_next)) for number in range(6)]
        await asyncio.sleep(0.5)
        tasks[0].cancel()
        await asyncio.wait(tasks)
        return seen

    seen = run_in_fake_time(scenario())
    assert seen[:3] == [(0, 1), (1, 1), (2, 1)]
    assert [number for number, _ in seen] == list(range(6))
    assert max(inside for _, inside in seen[3:]) > 1


# ---------------------------------------------------------------- the rest


@pytest.mark.no_cover
def test_several_limits_at_once_keep_the_strictest() -> None:
    for messages, bytes_ in ((100, 1_000_000), (1_000, 50_000), (50, 50_000)):
        limit = RateLimit(commands_per_second=5, messages_per_second=messages, bytes_per_second=bytes_)
        received = run_in_fake_time(fetch_all(limit, Server(), 60, callers=8, known=True))
        rate = rate_of(received) / 1_000
        assert rate == pytest.approx(min(5 * 100, messages, bytes_ / 1_000), rel=0.05)


def test_waits_are_told_and_short_ones_are_not() -> None:
    async def scenario() -> FakeRun:
        run = FakeRun()
        limit = RateLimit(commands_per_second=2)
        await drive(limit, [1] * 3, callers=1, run=run)
        await run.stop()
        await drive(limit, [1], callers=1)
        return run

    run = run_in_fake_time(scenario())
    waits = [event for event in run.heard if isinstance(event, Wait)]
    assert [wait.layer for wait in waits] == ["RateLimit", "RateLimit"]
    assert [wait.seconds for wait in waits] == pytest.approx([0.5, 0.5], abs=1e-3)


def test_runs_that_share_a_limit_hear_of_their_own_waits() -> None:
    async def scenario() -> tuple[FakeRun, FakeRun]:
        limit = RateLimit(commands_per_second=2)
        one, other = FakeRun(), FakeRun()

        async def serve(run: FakeRun, batches: int) -> None:
            await drive(limit, [1] * batches, callers=1, run=run)
            await run.stop()

        async with asyncio.TaskGroup() as group:
            group.create_task(serve(one, 2))
            group.create_task(serve(other, 8))
        return one, other

    one, other = run_in_fake_time(scenario())
    # The very first batch of all waits for nobody.
    assert len(one.heard) + len(other.heard) == 9
    assert len(one.heard) in (1, 2)


def test_one_instance_serves_one_loop_after_another() -> None:
    limit = RateLimit(messages_per_second=10)
    for _ in range(2):
        passed = run_in_fake_time(drive(limit, [1] * 21, callers=4))
        assert passed[-1][0] == pytest.approx(2.0, abs=1e-2)


@pytest.mark.parametrize("rate", [0, -1, float("inf"), float("nan")])
def test_a_rate_is_a_number_above_0(rate: float) -> None:
    for name in ("commands_per_second", "messages_per_second", "bytes_per_second"):
        with pytest.raises(ValueError, match=name):
            RateLimit(**{name: rate})
    with pytest.raises(ValueError, match="burst"):
        RateLimit(messages_per_second=1, burst=rate)


def test_something_must_be_limited() -> None:
    with pytest.raises(ValueError, match="needs a rate: commands_per_second=, messages_per_second=, bytes_per_second="):
        RateLimit()
    with pytest.raises(ValueError, match="at least 1"):
        RateLimit(messages_per_second=1, burst=0.5)
