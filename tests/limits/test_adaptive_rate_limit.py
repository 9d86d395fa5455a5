"""The adaptive rate limit: the gate on a clock that is made up, and whole runs at a server that throttles.

More of S17 is in tests/seed: rates of commands, the pause that all connections keep, slow answers.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter

import pytest
from tests.middleware.fakes import FakeRun, done, interrupted, run_in_fake_time

import imapipe
from imapipe import AdaptiveRateLimit, FixedBatch, Retry
from imapipe import search as q
from imapipe.errors import CommandNo, ConnectionLost, ServerBye, Throttled
from imapipe.middleware.base import check_order
from imapipe.models.batch import Batch, BatchResult
from imapipe.models.event import Refusal, Throttle, Wait
from imapipe.testing import CommandRecord, Server, SyntheticMailbox
from imapipe.testing import Throttle as HiddenLimit
from imapipe.wire.uid_set import UidSet


def batch_of(messages: int = 1, number: int = 1) -> Batch:
    return Batch(number, UidSet.from_ranges([(1, messages)]))


async def serve(batch: Batch) -> BatchResult:
    return done(batch)


async def times_of(
    limit: AdaptiveRateLimit, sizes: list[int], *, callers: int = 4, run: FakeRun | None = None
) -> list[float]:
    """A run: when each batch is let through, from the first one on."""
    loop = asyncio.get_running_loop()
    run = run or FakeRun()
    layer = await run.start(limit)
    waiting = sizes[::-1]
    passed: list[float] = []

    async def call_next(batch: Batch) -> BatchResult:
        passed.append(loop.time())
        return done(batch)

    async def caller() -> None:
        while waiting:
            await layer(batch_of(waiting.pop()), call_next)

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    await run.stop()
    return [time - passed[0] for time in passed]


# ---------------------------------------------------------------- the gate


@pytest.mark.parametrize("lateness", [0.0, 0.002])
def test_batches_come_at_the_rate_whatever_the_timers_do(lateness: float) -> None:
    limit = AdaptiveRateLimit(200, maximum_per_second=200)
    times = run_in_fake_time(times_of(limit, [7] * 1_000), lateness=lateness)
    assert 999 / times[-1] == pytest.approx(200, rel=0.02)


def test_a_batch_is_paid_for_by_its_messages() -> None:
    limit = AdaptiveRateLimit(100, maximum_per_second=100, unit="messages")
    times = run_in_fake_time(times_of(limit, [50, 100, 10, 10], callers=1))
    # The 50 ms before the first one are made up for.
    assert times == pytest.approx([0, 0.45, 1.45, 1.55], abs=1e-3)


def test_what_the_server_says_by_itself_stops_everybody_for_as_long_as_it_says() -> None:
    async def run() -> list[float]:
        limit, fake = AdaptiveRateLimit(10, maximum_per_second=10), FakeRun()
        asyncio.get_running_loop().call_later(
            0.95, fake.events.emit, Throttle("BAD", "Suggested Backoff Time: 60000 milliseconds", 60.0)
        )
        return await times_of(limit, [1] * 30, run=fake)

    times = run_in_fake_time(run())
    assert [time for time in times if 0.96 < time < 60.95] == []
    assert len(times) == 30


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (Throttle("OK", "Success [THROTTLED]"), 6.0),
        (Throttle("BYE", "Rate limit hit."), 6.0),
        (Throttle("NO", "Rate limit hit."), 10.0),  # its batch will come back and tell more
        (Refusal("Too many simultaneous connections", 2), 9.5),
        (Wait("search", 1.0), 10.0),
    ],
)
def test_events_lower_the_rate(event: Throttle | Refusal | Wait, expected: float) -> None:
    async def run() -> float:
        limit, fake = AdaptiveRateLimit(10), FakeRun()
        layer = await fake.start(limit)
        fake.events.emit(event)
        rate = limit.rate_per_second
        await layer.stop()
        fake.events.emit(event)
        assert limit.rate_per_second == rate
        return rate

    assert run_in_fake_time(run()) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Throttled("UID FETCH", "NO", "LIMIT", "Rate limit hit."), 6.0),
        (CommandNo("UID FETCH", "SERVERBUG", "Internal error"), 9.5),
        (ServerBye("UID FETCH", "", "Session expired"), 9.5),
        (ConnectionLost(), 10.0),
    ],
)
def test_refused_batches_lower_the_rate(error: Exception, expected: float) -> None:
    async def run() -> float:
        limit, fake = AdaptiveRateLimit(10), FakeRun()
        layer = await fake.start(limit)

        async def refuse(batch: Batch) -> BatchResult:
            raise interrupted(batch, error)

        with pytest.raises(imapipe.BatchInterrupted):
            await layer(batch_of(), refuse)
        await layer.stop()
        return limit.rate_per_second

    assert run_in_fake_time(run()) == pytest.approx(expected)


def test_who_is_cancelled_in_the_queue_holds_nobody_up() -> None:
    async def run() -> list[float]:
        limit = AdaptiveRateLimit(1, maximum_per_second=1)
        layer = await FakeRun().start(limit)
        await layer(batch_of(), serve)
        gone = [asyncio.create_task(layer(batch_of(), serve)) for _ in range(50)]
        await asyncio.sleep(0.5)
        for task in gone:
            task.cancel()
        await asyncio.wait(gone)
        began = asyncio.get_running_loop().time()
        await times_of(limit, [1])
        return [asyncio.get_running_loop().time() - began]

    assert run_in_fake_time(run())[0] < 1


# ---------------------------------------------------------------- several runs


def test_runs_on_one_account_share_the_rate_and_hear_of_their_own_waits() -> None:
    async def run() -> None:
        limit = AdaptiveRateLimit(10, maximum_per_second=10)
        fakes = [FakeRun(), FakeRun(), FakeRun()]
        fakes[2].account = "bob@imap.example.org:993"
        times: dict[int, list[float]] = {}

        async def one(number: int, batches: int) -> None:
            times[number] = await times_of(limit, [1] * batches, callers=2, run=fakes[number])

        async with asyncio.TaskGroup() as group:
            group.create_task(one(0, 100))
            group.create_task(one(1, 100))
            group.create_task(one(2, 100))
        assert [times[number][-1] for number in range(3)] == pytest.approx([20, 20, 10], rel=0.03)
        for fake in fakes:
            waits = [event for event in fake.heard if isinstance(event, Wait)]
            assert len(waits) == pytest.approx(100, abs=3)

    run_in_fake_time(run())


def test_what_was_learned_is_kept_for_the_next_run_on_the_account() -> None:
    async def run() -> None:
        limit = AdaptiveRateLimit(10)
        await times_of(limit, [1] * 200)
        learned = limit.rate_per_second
        assert learned > 20
        other = FakeRun()
        other.account = "bob@imap.example.org:993"
        await other.start(limit)
        assert limit.rate_per_second == 10
        await other.stop()
        await FakeRun().start(limit)
        assert limit.rate_per_second == learned

    run_in_fake_time(run())


# ---------------------------------------------------------------- whole runs


def fetches_at(
    hidden: HiddenLimit, limit: AdaptiveRateLimit, *, messages: int, batch: int, connections: int = 4
) -> list[CommandRecord]:
    """The FETCHes of a run on a server that throttles; each message is handled once."""

    async def run() -> list[CommandRecord]:
        hidden.clock = asyncio.get_running_loop().time
        server = Server({"INBOX": SyntheticMailbox(messages)}, throttle=hidden, clock=hidden.clock)
        handled: Counter[int] = Counter()

        async def handle(message: imapipe.Message) -> None:
            handled[message.uid] += 1

        async with server, imapipe.create_pool(server.url, password="secret", max_size=connections) as pool:
            job = pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(FixedBatch(batch)).use(Retry(10), limit)
            report = await job.run(handle)
        assert report.complete
        assert handled == dict.fromkeys(range(1, messages + 1), 1)
        return server.commands.named("UID FETCH")

    return run_in_fake_time(run())


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.parametrize("factor", [4.0, 0.25])
@pytest.mark.parametrize(("rate", "batch"), [(100, 20), (500, 25)])
def test_s17_messages_come_near_what_the_server_bears_and_are_seldom_refused(
    rate: int, batch: int, factor: float
) -> None:
    hidden = HiddenLimit(messages_per_second=rate, style="exchange", commands=frozenset({"UID FETCH"}))
    limit = AdaptiveRateLimit(factor * rate, unit="messages")
    records = fetches_at(hidden, limit, messages=500 * batch, batch=batch)
    end = records[-1].received_at
    middle = (records[0].received_at + end) / 2
    served = sum(batch for record in records if not record.throttled and record.received_at >= middle)
    assert served / (end - middle) >= 0.8 * rate
    assert sum(record.throttled for record in records) < 0.02 * len(records)


def test_s17_a_server_that_shuts_the_door_after_a_refusal_is_left_in_peace() -> None:
    """Every refusal makes the next five seconds refusals too: asking on and on would never end."""
    hidden = HiddenLimit(commands_per_second=10, penalty_seconds=5.0, commands=frozenset({"UID FETCH"}))
    records = fetches_at(hidden, AdaptiveRateLimit(40), messages=1_200, batch=2)
    refused = [record.received_at for record in records if record.throttled]
    assert len(refused) < 0.06 * len(records)
    assert records[-1].received_at - records[0].received_at < 2.5 * 600 / 10


def test_a_long_answer_that_begins_soon_is_not_a_slow_one() -> None:
    async def run() -> tuple[imapipe.RunReport, float]:
        clock = asyncio.get_running_loop().time
        limit = AdaptiveRateLimit(2)

        async def handle(message: imapipe.Message) -> None:
            assert message.size

        server = Server({"INBOX": SyntheticMailbox(60, size=50_000)}, bandwidth_bytes_per_second=100_000, clock=clock)
        async with server, imapipe.create_pool(server.url, password="secret", max_size=1) as pool:
            job = pool.mailbox("INBOX").search(q.ALL).fetch("full").batch(5).use(limit)
            return await job.run(handle), limit.rate_per_second

    report, rate = run_in_fake_time(run())
    assert report.complete
    assert report.batch_seconds.mean > 2
    assert rate >= 2


@pytest.mark.slow
@pytest.mark.asyncio
async def test_s17_for_real() -> None:
    # So low that a busy machine reaches it too.
    hidden = HiddenLimit(
        commands_per_second=20, style="exchange", backoff_milliseconds=200, commands=frozenset({"UID FETCH"})
    )
    handled: Counter[int] = Counter()

    async def handle(message: imapipe.Message) -> None:
        handled[message.uid] += 1

    limit = AdaptiveRateLimit(80)
    async with (
        Server(messages=100, throttle=hidden) as server,
        imapipe.create_pool(server.url, password="secret") as pool,
    ):
        job = pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(1).use(Retry(10), limit)
        report = await job.run(handle)
    assert report.complete
    assert handled == dict.fromkeys(range(1, 101), 1)
    assert limit.ceiling_per_second is not None
    assert limit.rate_per_second < 60
    assert 0 < server.counters.throttled < 0.1 * 100


# ---------------------------------------------------------------- what it refuses


def test_it_stands_inside_of_retry() -> None:
    check_order([Retry(), AdaptiveRateLimit()])
    with pytest.raises(ValueError, match="Retry must stand outside of AdaptiveRateLimit"):
        check_order([AdaptiveRateLimit(), Retry()])


@pytest.mark.parametrize(
    "arguments",
    [
        {"start_per_second": 0},
        {"start_per_second": math.inf},
        {"start_per_second": 5, "minimum_per_second": 6},
        {"start_per_second": 5, "maximum_per_second": 4},
        {"minimum_per_second": 0},
        {"target_seconds": 0},
        {"start_per_second": math.nan},
    ],
)
def test_rates_that_make_no_sense_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"per_second|target_seconds"):
        AdaptiveRateLimit(**arguments)  # type: ignore[arg-type]


def test_an_unknown_unit_is_refused() -> None:
    with pytest.raises(ValueError, match="unit"):
        AdaptiveRateLimit(unit="bytes")  # type: ignore[arg-type]
