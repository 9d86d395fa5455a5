"""Retry against servers that fail in scripted ways."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tenacity import wait_fixed
from tests.middleware.fakes import FakeRun, done, interrupted, uids

from imapipe.errors import (
    CommandBad,
    CommandNo,
    CommandTimeout,
    ConnectionFailed,
    ConnectionLost,
    ResponseTooLarge,
    ServerBye,
    Throttled,
)
from imapipe.middleware.base import Call
from imapipe.middleware.retry import Retry
from imapipe.models.batch import Batch, BatchInterrupted, BatchResult, Failure
from imapipe.models.event import Attempt
from imapipe.wire.uid_set import UidSet

UNAVAILABLE = CommandNo("UID FETCH", "UNAVAILABLE", "Server error")
DOWN = ConnectionFailed("connection refused")


class Waits(list[float]):
    """A sleep that takes no time and remembers."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)


class Server:
    """Answers what it is asked with what a script says: nothing for success, an error otherwise."""

    def __init__(self, answer: Callable[[Server, Batch], BatchResult]) -> None:
        self.answer = answer
        self.asked: list[Batch] = []

    async def __call__(self, batch: Batch) -> BatchResult:
        self.asked.append(batch)
        return self.answer(self, batch)

    @property
    def texts(self) -> list[str]:
        return [batch.uids.text() for batch in self.asked]


def failing(*errors: BaseException | None) -> Server:
    """Fails with these errors in turn, then succeeds."""
    left = list(errors)

    def answer(_: Server, batch: Batch) -> BatchResult:
        error = left.pop(0) if left else None
        if error is not None:
            raise interrupted(batch, error)
        return done(batch)

    return Server(answer)


def poisoned(bad: Iterable[int], error: BaseException = UNAVAILABLE) -> Server:
    """Fails whenever one of these UIDs is asked for."""
    poison = UidSet.from_numbers(bad)

    def answer(_: Server, batch: Batch) -> BatchResult:
        if batch.uids & poison:
            raise interrupted(batch, error)
        return done(batch)

    return Server(answer)


def retry(waits: Waits | None = None, attempts: int = 5, **options: float) -> Retry:
    return Retry(attempts, sleep=waits if waits is not None else Waits(), random=lambda: 1.0, **options)  # type: ignore[arg-type]


async def ask(middleware: Retry, batch: Batch, call_next: Call, run: FakeRun | None = None) -> BatchResult:
    """Send a batch through the layer of a run."""
    layer = await (run or FakeRun()).start(middleware)
    return await layer(batch, call_next)


BATCH = Batch(7, uids("1:8"), lane=2, size_bytes=800)


@pytest.mark.asyncio
async def test_success_is_one_call_with_the_batch_itself() -> None:
    waits, server = Waits(), failing()
    result = await ask(retry(waits), BATCH, server)
    assert server.asked == [BATCH]
    assert result.done == BATCH.uids
    assert not result.missing
    assert waits == []


@pytest.mark.asyncio
async def test_waits_double_up_to_the_longest_and_attempts_are_numbered() -> None:
    waits, server = Waits(), failing(DOWN, DOWN, DOWN, DOWN, DOWN)
    run = FakeRun()
    layer = await run.start(retry(waits, attempts=6, wait_initial_seconds=1.0, wait_max_seconds=5.0))
    result = await layer(BATCH, server)
    assert result.done == BATCH.uids
    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert [batch.attempt for batch in server.asked] == [1, 2, 3, 4, 5, 6]
    assert {(batch.number, batch.lane) for batch in server.asked} == {(7, 2)}
    assert run.heard[0] == Attempt(7, 2, 1.0, "ConnectionFailed")
    assert [event.attempt for event in run.heard if isinstance(event, Attempt)] == [2, 3, 4, 5, 6]


@pytest.mark.asyncio
async def test_jitter_takes_up_to_half_away() -> None:
    for number, expected in ((0.0, [0.5, 1.0]), (0.5, [0.75, 1.5]), (1.0, [1.0, 2.0])):
        waits = Waits()
        layer = Retry(5, wait_initial_seconds=1.0, sleep=waits, random=lambda number=number: number)  # type: ignore[misc]
        await ask(layer, BATCH, failing(DOWN, DOWN))
        assert waits == expected


@pytest.mark.asyncio
async def test_a_server_that_asks_for_time_gets_at_least_that() -> None:
    waits = Waits()
    throttled = Throttled("UID FETCH", "NO", retry_after_seconds=300.0)
    await ask(retry(waits), BATCH, failing(throttled, Throttled("UID FETCH", "NO", retry_after_seconds=0.1)))
    assert waits[0] == pytest.approx(330.0)
    assert waits[1] == 1.0


@pytest.mark.asyncio
async def test_a_strategy_of_tenacity_is_used_as_it_is() -> None:
    waits = Waits()
    await ask(Retry(wait=wait_fixed(7), sleep=waits), BATCH, failing(DOWN, DOWN))
    assert waits == [7.0, 7.0]


@pytest.mark.asyncio
async def test_only_what_is_missing_is_asked_for_again_and_all_results_are_joined() -> None:
    def answer(server: Server, batch: Batch) -> BatchResult:
        if len(server.asked) == 1:
            failed = {3: Failure(3, "ValueError")}
            error = interrupted(batch, ConnectionLost(), done=uids("1:2"), failed=failed)
            error.result = BatchResult(batch, uids("1:2"), uids("4"), failed, uids("5:8"), 2.0, 100)
            raise error
        return BatchResult(batch, done=uids("5:7"), vanished=uids("8"), elapsed_seconds=1.0, bytes_received=50)

    server = Server(answer)
    result = await ask(retry(), BATCH, server)
    assert server.texts == ["1:8", "5:8"]
    # The known size was that of the whole.
    assert [batch.size_bytes for batch in server.asked] == [800, None]
    assert result == BatchResult(BATCH, uids("1:2,5:7"), uids("4,8"), {3: Failure(3, "ValueError")}, UidSet(), 3.0, 150)


@pytest.mark.asyncio
async def test_progress_costs_no_attempt() -> None:
    """One message comes with each try: twenty tries for twenty messages, with attempts for two."""

    def answer(_: Server, batch: Batch) -> BatchResult:
        if len(batch) > 1:
            raise interrupted(batch, DOWN, done=batch.uids[:1])
        return done(batch)

    waits, server = Waits(), Server(answer)
    layer = await FakeRun().start(retry(waits, attempts=2, budget=0))
    batch = Batch(1, uids("1:20"))
    result = await layer(batch, server)
    assert result.done == batch.uids
    assert len(server.asked) == 20
    assert set(waits) == {0.5}


@pytest.mark.asyncio
async def test_progress_takes_nothing_from_the_patience_with_a_poisoned_message() -> None:
    def answer(_: Server, batch: Batch) -> BatchResult:
        good = UidSet.from_numbers(uid for uid in batch.uids if uid < 100)
        if 100 in batch.uids:
            raise interrupted(batch, ConnectionLost(), done=good[:1])
        return done(batch)

    batch = Batch(1, uids("1:120"))
    result = await ask(retry(attempts=2), batch, Server(answer))
    assert set(result.failed) == {100}
    assert len(result.done) == 119


@pytest.mark.asyncio
async def test_everything_delivered_before_the_end_is_success() -> None:
    def answer(_: Server, batch: Batch) -> BatchResult:
        raise interrupted(batch, ConnectionLost(), done=batch.uids)

    waits, server = Waits(), Server(answer)
    result = await ask(retry(waits), BATCH, server)
    assert result.done == BATCH.uids
    assert (len(server.asked), waits) == (1, [])


@pytest.mark.asyncio
async def test_a_server_that_is_down_is_given_up_with_everything_that_is_missing() -> None:
    waits, server = Waits(), failing(ConnectionLost(), *[DOWN] * 50)
    with pytest.raises(BatchInterrupted) as caught:
        await ask(retry(waits), BATCH, server)
    assert len(server.asked) == 5
    assert set(server.texts) == {"1:8"}
    assert caught.value.batch is BATCH
    assert caught.value.result.missing == BATCH.uids
    assert caught.value.__cause__ is DOWN
    assert waits == [0.5, 1.0, 2.0, 4.0]


@pytest.mark.asyncio
async def test_what_was_reached_is_in_the_result_of_what_is_given_up() -> None:
    def answer(server: Server, batch: Batch) -> BatchResult:
        raise interrupted(batch, DOWN, done=batch.uids[:1] if len(server.asked) < 3 else UidSet())

    with pytest.raises(BatchInterrupted) as caught:
        await ask(retry(), BATCH, Server(answer))
    assert caught.value.result.done == uids("1:2")
    assert caught.value.result.missing == uids("3:8")


@pytest.mark.parametrize("error", [CommandNo("UID FETCH", "NOPERM"), CommandBad("STORE", "", "what?"), ValueError()])
@pytest.mark.asyncio
async def test_what_does_not_pass_is_not_asked_again(error: Exception) -> None:
    def answer(_: Server, batch: Batch) -> BatchResult:
        raise interrupted(batch, error, done=uids("1"))

    server = Server(answer)
    with pytest.raises(BatchInterrupted) as caught:
        await ask(retry(), BATCH, server)
    assert len(server.asked) == 1
    assert caught.value.__cause__ is error
    assert caught.value.result.done == uids("1")


@pytest.mark.asyncio
async def test_an_interruption_without_a_cause_and_other_errors_go_through() -> None:
    async def uncaused(batch: Batch) -> BatchResult:
        raise BatchInterrupted(batch, BatchResult(batch, missing=batch.uids))

    async def handler_error(batch: Batch) -> BatchResult:
        raise ConnectionResetError("a handler's own")

    with pytest.raises(BatchInterrupted):
        await ask(retry(), BATCH, uncaused)
    with pytest.raises(ConnectionResetError):
        await ask(retry(), BATCH, handler_error)


@pytest.mark.asyncio
async def test_a_layer_below_that_left_messages_out_is_not_asked_for_them() -> None:
    async def half(batch: Batch) -> BatchResult:
        return BatchResult(batch, done=uids("1:4"), missing=uids("5:8"))

    result = await ask(retry(), BATCH, half)
    assert (result.done, result.missing) == (uids("1:4"), uids("5:8"))


# ---------------------------------------------------------------- the poisoned message


@pytest.mark.asyncio
async def test_the_poisoned_message_is_found_and_the_rest_goes_on() -> None:
    waits, server = Waits(), poisoned([6])
    result = await ask(retry(waits), BATCH, server)
    assert result.done == uids("1:5,7:8")
    assert result.failed == {6: Failure(6, "UNAVAILABLE", str(UNAVAILABLE))}
    assert not result.missing
    assert server.texts == [*["1:8"] * 5, "1:4", "5:8", "5:6", "5", "6", "6", "7:8"]
    # Halving begins with the short waits again: the server does answer.
    assert waits == [0.5, 1.0, 2.0, 4.0, 0.5, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("position", [1, 2, 250, 499, 500])
@pytest.mark.asyncio
async def test_finding_one_in_five_hundred_takes_few_calls(position: int) -> None:
    server = poisoned([position], ConnectionLost())
    batch = Batch(1, uids("1:500"))
    result = await ask(retry(), batch, server)
    assert set(result.failed) == {position}
    assert result.failed[position].reason == "ConnectionLost"
    assert len(result.done) == 499
    assert len(server.asked) <= 5 + 2 * math.ceil(math.log2(500)) + 2


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 200), bad=st.data(), attempts=st.integers(1, 6))
def test_every_message_has_one_outcome(size: int, bad: st.DataObject, attempts: int) -> None:
    """Up to three poisoned ones anywhere: exactly they fail, all others are done, nothing is asked twice."""
    batch = Batch(1, UidSet.from_ranges([(10, 10 + size - 1)]))
    poison = bad.draw(st.frozensets(st.integers(10, 10 + size - 1), max_size=3))
    server = poisoned(poison)
    result = asyncio.run(ask(retry(attempts=attempts), batch, server))
    assert set(result.failed) == poison
    assert set(result.done) == set(batch.uids) - poison
    assert not result.missing
    delivered = [asked.uids for asked in server.asked if not poison & set(asked.uids)]
    assert sum(map(len, delivered)) == len(result.done)


@pytest.mark.asyncio
async def test_a_server_that_fails_always_is_not_halved_to_the_end() -> None:
    server = failing(*[UNAVAILABLE] * 10_000)
    batch = Batch(1, uids("1:500"))
    with pytest.raises(BatchInterrupted) as caught:
        await ask(retry(), batch, server)
    assert len(server.asked) < 40
    result = caught.value.result
    assert set(result.failed) | set(result.missing) == set(batch.uids)
    assert len(result.missing) > 480


@pytest.mark.asyncio
async def test_halving_stops_when_the_server_turns_out_to_be_down() -> None:
    server, run = failing(*[ConnectionLost()] * 6, *[DOWN] * 50), FakeRun()

    async def call_next(batch: Batch) -> BatchResult:
        # Something comes before the connection ends, but no whole message.
        run.bytes_received += 100
        return await server(batch)

    with pytest.raises(BatchInterrupted) as caught:
        await ask(retry(), BATCH, call_next, run)
    assert server.texts[5:7] == ["1:4", "1:2"]
    assert caught.value.result.missing == BATCH.uids
    assert not caught.value.result.failed


@pytest.mark.asyncio
async def test_a_lonely_message_has_all_its_attempts() -> None:
    server = poisoned([9])
    result = await ask(retry(), Batch(1, uids("9")), server)
    assert len(server.asked) == 5
    assert set(result.failed) == {9}


@pytest.mark.asyncio
async def test_too_much_is_split_at_once_and_costs_nothing() -> None:
    def answer(_: Server, batch: Batch) -> BatchResult:
        if len(batch) > 2:
            raise interrupted(batch, CommandBad("UID FETCH", "", "Command line too long"))
        return done(batch)

    waits, server, run = Waits(), Server(answer), FakeRun()
    layer = await run.start(retry(waits, attempts=1, budget=0))
    result = await layer(BATCH, server)
    assert result.done == BATCH.uids
    assert server.texts == ["1:8", "1:4", "1:2", "3:4", "5:8", "5:6", "7:8"]
    assert waits == []
    assert len(run.heard) == 3


@pytest.mark.asyncio
async def test_a_single_message_that_is_too_much_fails() -> None:
    error = ResponseTooLarge("a literal", size=10**12, limit=10**9)
    server = poisoned([3], error)
    result = await ask(retry(), BATCH, server)
    assert set(result.failed) == {3}
    assert result.failed[3].reason == "ResponseTooLarge"
    assert server.texts == ["1:8", "1:4", "1:2", "3:4", "3", "4", "5:8"]


# ---------------------------------------------------------------- an outage is no poison

SILENCE = CommandTimeout("UID FETCH", timeout_seconds=60.0)


@pytest.mark.parametrize(
    ("error", "fruitless"),
    [
        (DOWN, 5),  # A port that refuses.
        (SILENCE, 5),  # A server that says nothing.
        (ConnectionLost(host="imap.example.org", port=993), 5),  # A proxy that accepts and closes.
        (CommandTimeout("LOGIN", timeout_seconds=60.0), 5),
        (ServerBye("UID FETCH", "", "Shutting down"), 10),
        (ConnectionLost(), 10),  # In the middle of a FETCH: five pieces more, to see whether it is a message.
    ],
)
@pytest.mark.asyncio
async def test_where_no_byte_comes_nothing_is_poisoned(error: Exception, fruitless: int) -> None:
    server = failing(*[error] * 1_000)
    batch = Batch(1, uids("1:500"))
    with pytest.raises(BatchInterrupted) as caught:
        await ask(retry(), batch, server)
    assert len(server.asked) == fruitless
    assert caught.value.result.missing == batch.uids
    assert not caught.value.result.failed
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8])
@pytest.mark.asyncio
async def test_small_batches_are_not_poisoned_by_an_outage(size: int) -> None:
    batch = Batch(1, UidSet.from_ranges([(1, size)]))
    with pytest.raises(BatchInterrupted) as caught:
        await ask(retry(attempts=2), batch, failing(*[ConnectionLost()] * 1_000))
    assert caught.value.result.missing == batch.uids


@pytest.mark.parametrize("error", [SILENCE, ConnectionLost()])
@pytest.mark.asyncio
async def test_a_server_that_works_for_other_batches_is_up(error: Exception) -> None:
    """So this batch holds what it cannot deliver, however silently."""
    server, run = poisoned([6], error), FakeRun()

    async def call_next(batch: Batch) -> BatchResult:
        run.bytes_received += 5_000
        return await server(batch)

    result = await ask(retry(), BATCH, call_next, run)
    assert set(result.failed) == {6}
    assert result.done == BATCH.uids - uids("6")


@settings(max_examples=60, deadline=None)
@given(size=st.integers(8, 200), bad=st.data(), attempts=st.integers(1, 6))
def test_two_messages_that_end_connections_without_a_byte_are_found(
    size: int, bad: st.DataObject, attempts: int
) -> None:
    batch = Batch(1, UidSet.from_ranges([(1, size)]))
    poison = bad.draw(st.frozensets(st.integers(1, size), min_size=1, max_size=2))
    result = asyncio.run(ask(retry(attempts=attempts), batch, poisoned(poison, ConnectionLost())))
    assert set(result.failed) == poison
    assert set(result.done) == set(batch.uids) - poison


BAD = CommandBad("UID FETCH", "", "Cannot do that")


@pytest.mark.asyncio
async def test_a_bad_to_a_command_that_was_understood_before_is_a_candidate_for_halving() -> None:
    layer = await FakeRun().start(retry())
    await layer(Batch(1, uids("20")), failing())
    server = poisoned([6], BAD)
    result = await layer(BATCH, server)
    assert set(result.failed) == {6}
    assert result.done == BATCH.uids - uids("6")
    assert server.texts[:5] == ["1:8"] * 5


@pytest.mark.parametrize("bad", [[1], [5], [8], [5, 6], [2, 5]])
@pytest.mark.asyncio
async def test_a_first_bad_is_tried_with_one_message_before_the_kind_is_given_up(bad: list[int]) -> None:
    """Defect: one message that a server cannot deliver failed the first batch of a run as a whole."""
    server = poisoned(bad, BAD)
    result = await ask(retry(), BATCH, server)
    assert set(result.failed) == set(bad)
    assert result.done == BATCH.uids - UidSet.from_numbers(bad)
    assert server.texts[:2] == ["1:8", "5"]


@pytest.mark.asyncio
async def test_a_kind_of_command_that_is_not_understood_is_given_up_after_a_few_messages() -> None:
    def answer(_: Server, batch: Batch) -> BatchResult:
        raise interrupted(batch, BAD)

    server = Server(answer)
    layer = await FakeRun().start(retry())
    for number in range(5):
        with pytest.raises(BatchInterrupted) as caught:
            await layer(Batch(number, uids("1:8")), server)
        assert caught.value.result.missing == uids("1:8")
    # Three in a run, and each batch once.
    assert server.texts == ["1:8", "5", "4", "6", "1:8", "1:8", "1:8", "1:8"]


@pytest.mark.asyncio
async def test_small_batches_are_tried_once_for_each_message() -> None:
    server = poisoned([1, 2], BAD)
    with pytest.raises(BatchInterrupted):
        await ask(retry(), Batch(1, uids("1:2")), server)
    assert server.texts == ["1:2", "2", "1"]
    alone = poisoned([1], BAD)
    with pytest.raises(BatchInterrupted):
        await ask(retry(), Batch(1, uids("1")), alone)
    assert alone.texts == ["1"]


@pytest.mark.asyncio
async def test_a_bad_behind_messages_is_no_matter_of_the_kind() -> None:
    def answer(server: Server, batch: Batch) -> BatchResult:
        if len(server.asked) == 1:
            raise interrupted(batch, BAD, done=uids("1:2"))
        return done(batch)

    server = Server(answer)
    assert (await ask(retry(), BATCH, server)).done == BATCH.uids
    assert server.texts == ["1:8", "3:8"]


# ---------------------------------------------------------------- the budget, cancellation, arguments


@pytest.mark.asyncio
async def test_runs_that_share_a_retry_have_budgets_of_their_own() -> None:
    """Defect: the faulty server's tries were told to, and paid by, whichever run had begun last."""
    middleware = retry(attempts=4, budget=5)
    faulty, healthy = FakeRun(), FakeRun()
    layers = [await run.start(middleware) for run in (faulty, healthy)]
    with pytest.raises(BatchInterrupted):
        await layers[0](BATCH, failing(*[DOWN] * 9))
    await layers[1](BATCH, failing())
    assert [len(run.heard) for run in (faulty, healthy)] == [3, 0]
    assert [layer.budget_left for layer in layers] == [1, 5]
    await healthy.stop()
    with pytest.raises(BatchInterrupted):
        await layers[0](BATCH, failing(*[DOWN] * 9))
    assert len(faulty.heard) == 4


@pytest.mark.asyncio
async def test_the_budget_is_that_of_all_batches_of_a_run() -> None:
    middleware = retry(attempts=4, budget=5)
    layer = await FakeRun().start(middleware)
    first, second, third = failing(*[DOWN] * 9), failing(*[DOWN] * 9), failing(*[DOWN] * 9)
    for server in (first, second, third):
        with pytest.raises(BatchInterrupted):
            await layer(BATCH, server)
    assert [len(server.asked) for server in (first, second, third)] == [4, 2, 1]
    assert layer.budget_left == 0
    await layer.stop()
    assert (await FakeRun().start(middleware)).budget_left == 5


@pytest.mark.asyncio
async def test_a_cancellation_ends_the_wait_and_is_not_swallowed() -> None:
    waiting = asyncio.Event()

    async def sleep(seconds: float) -> None:
        waiting.set()
        await asyncio.sleep(3_600)

    task = asyncio.create_task(ask(Retry(sleep=sleep), BATCH, failing(DOWN)))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.asyncio
async def test_a_cancelled_call_is_not_repeated() -> None:
    calls = 0

    async def cancelled(batch: Batch) -> BatchResult:
        nonlocal calls
        calls += 1
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await ask(retry(), BATCH, cancelled)
    assert calls == 1


def test_arguments_are_checked() -> None:
    for options in ({"attempts": 0}, {"wait_initial_seconds": -1}, {"wait_max_seconds": 0.1}, {"budget": -1}):
        with pytest.raises(ValueError):
            Retry(**options)
