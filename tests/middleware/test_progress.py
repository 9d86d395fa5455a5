"""Progress on a clock that is made up."""

from __future__ import annotations

import asyncio
import logging

import pytest
from tests.middleware.fakes import FakeRun, done, run_in_fake_time, uids

from imapipe.middleware.progress import Progress, ProgressSnapshot
from imapipe.models.batch import Batch, BatchResult, Failure
from imapipe.models.event import Attempt, Event, LimitAwaited, Reconnect, Refusal, Wait


def test_snapshots_come_five_times_a_second_and_at_the_end() -> None:
    shown: list[ProgressSnapshot] = []

    async def scenario() -> None:
        progress = Progress(shown.append)
        layer = await FakeRun().start(progress)
        await asyncio.sleep(1.05)
        await layer.stop()
        await asyncio.sleep(5)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_in_fake_time(scenario())
    assert len(shown) == 6
    assert [snapshot.final for snapshot in shown] == [False] * 5 + [True]
    assert [snapshot.elapsed_seconds for snapshot in shown] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.05], abs=1e-3)


def test_a_snapshot_tells_what_the_run_knows() -> None:
    shown: list[ProgressSnapshot] = []

    async def scenario() -> None:
        run = FakeRun("1:100")
        progress = Progress(shown.append, every_seconds=1)
        run.events.emit(Wait("RateLimit", 1.0))
        layer = await run.start(progress)
        run.ledger.skipped_count = 20
        run.ledger.settle(*range(21, 61))
        run.ledger.fail(Failure(61, "E"), Failure(62, "E"))
        run.ledger.vanish(uids("63:65"))
        run.bytes_received = 4_500
        run.plan.batch_size = 77
        run.events.emit(Wait("RateLimit", 1.0))
        run.events.emit(Wait("RateLimit", 1.0))
        run.events.emit(Attempt(1, 2, 0.5, "ConnectionLost"))
        assert (await layer(Batch(1, uids("66:70")), fetch)).done == uids("66:70")
        await asyncio.sleep(1.5)
        await layer.stop()
        # The run's own listener is the only one left.
        assert len(run.events._listeners) == 1

    async def fetch(batch: Batch) -> BatchResult:
        return done(batch)

    run_in_fake_time(scenario())
    first, last = shown
    assert (first.planned, first.done, first.skipped, first.vanished, first.failed) == (100, 40, 20, 3, 2)
    assert first.settled == 65
    assert (first.bytes_received, first.batch_size, first.connections, first.waits) == (4_500, 77, 4, 2)
    # 45 messages in the first second, 35 to go.
    assert first.messages_per_second == pytest.approx(45, rel=1e-3)
    assert first.bytes_per_second == pytest.approx(4_500, rel=1e-3)
    assert first.eta_seconds == pytest.approx(35 / 45, rel=1e-3)
    assert last.final
    assert last.messages_per_second == pytest.approx(30, rel=0.1)


def test_what_is_not_tried_makes_no_speed() -> None:
    shown: list[ProgressSnapshot] = []

    async def scenario() -> None:
        run = FakeRun("1:1000")
        layer = await run.start(Progress(shown.append, every_seconds=1.0))
        await run.refuse(uids("1:900"), "ValueError", "failed in an earlier run")
        run.ledger.settle(*range(901, 911))
        await asyncio.sleep(1.5)
        await layer.stop()

    run_in_fake_time(scenario())
    assert (shown[0].done, shown[0].failed) == (10, 900)
    assert shown[0].messages_per_second == pytest.approx(10, rel=1e-3)
    assert shown[0].eta_seconds == pytest.approx(90 / 10, rel=1e-3)


@pytest.mark.parametrize("every", [0.1, 1.0])
def test_speed_follows_within_seconds_however_often_it_is_shown(every: float) -> None:
    shown: list[ProgressSnapshot] = []

    async def scenario() -> None:
        run = FakeRun("1:100000")
        progress = Progress(shown.append, every_seconds=every)
        layer = await run.start(progress)
        uid = iter(range(1, 100_000))
        for rate in (100, 300):
            for _ in range(20 * 10):
                await asyncio.sleep(0.1)
                run.ledger.settle(*(next(uid) for _ in range(rate // 10)))
        await layer.stop()

    run_in_fake_time(scenario())
    by_second = {round(snapshot.elapsed_seconds): snapshot.messages_per_second for snapshot in shown}
    assert by_second[19] == pytest.approx(100, rel=0.1)
    assert 180 < by_second[23] < 270
    assert by_second[39] == pytest.approx(300, rel=0.05)


def test_no_speed_no_estimate_and_nothing_left_no_wait() -> None:
    shown: list[ProgressSnapshot] = []

    async def scenario(planned: str, settled: int) -> None:
        run = FakeRun(planned)
        progress = Progress(shown.append)
        layer = await run.start(progress)
        run.ledger.settle(*range(1, settled + 1))
        await layer.stop()

    run_in_fake_time(scenario("1:10", 0))
    run_in_fake_time(scenario("1:10", 10))
    run_in_fake_time(scenario("", 0))
    assert [snapshot.eta_seconds for snapshot in shown] == [None, 0.0, 0.0]


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (Attempt(1, 2, 5.5, "LIMIT"), "the server (LIMIT)"),
        (Refusal("too many", 1), "a connection (too many)"),
        (LimitAwaited("connections", "it is reached", 0.0), "a limit of connections (it is reached)"),
    ],
)
def test_what_a_batch_waits_for_is_told_while_nothing_else_goes_on(event: Event, told: str) -> None:
    shown: list[ProgressSnapshot] = []

    async def scenario() -> None:
        run = FakeRun("1:100")
        layer = await run.start(Progress(shown.append, every_seconds=1))
        run.events.emit(event)
        # Others are done meanwhile.
        run.ledger.settle(*range(1, 11))
        await asyncio.sleep(5.8)
        run.events.emit(Reconnect(0, "LIMIT"))
        await asyncio.sleep(1)
        await layer.stop()

    run_in_fake_time(scenario())
    assert [snapshot.waiting_for for snapshot in shown] == ["", *[told] * 4, "", ""]


def test_coroutine_functions_are_awaited_and_never_overlap() -> None:
    inside = most = calls = 0
    finals: list[bool] = []

    async def show(snapshot: ProgressSnapshot) -> None:
        nonlocal inside, most, calls
        inside += 1
        most = max(most, inside)
        calls += 1
        try:
            await asyncio.sleep(0.7)
        finally:
            inside -= 1
        finals.append(snapshot.final)

    async def scenario() -> None:
        progress = Progress(show)
        layer = await FakeRun().start(progress)
        await asyncio.sleep(1.5)
        # In the middle of a call, which is cancelled for the last one.
        await layer.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_in_fake_time(scenario())
    assert calls == 3
    assert finals == [False, True]
    assert (inside, most) == (0, 1)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_display_that_fails_is_logged_once_and_not_called_again(
    caplog: pytest.LogCaptureFixture, asynchronous: bool
) -> None:
    calls = 0

    def show(snapshot: ProgressSnapshot) -> None:
        nonlocal calls
        calls += 1
        raise ZeroDivisionError("no terminal")

    async def show_later(snapshot: ProgressSnapshot) -> None:
        show(snapshot)

    async def scenario() -> None:
        progress = Progress(show_later if asynchronous else show)
        layer = await FakeRun().start(progress)
        await asyncio.sleep(3)
        await layer.stop()
        # A new run gives it another chance.
        layer = await FakeRun().start(progress)
        await layer.stop()

    with caplog.at_level(logging.ERROR):
        run_in_fake_time(scenario())
    assert calls == 2
    assert len(caplog.records) == 2


def test_cancelling_stop_shows_the_end_and_leaves_no_task() -> None:
    shown: list[ProgressSnapshot] = []

    async def scenario() -> None:
        progress = Progress(shown.append)
        layer = await FakeRun().start(progress)
        stopping = asyncio.create_task(layer.stop())
        await asyncio.sleep(0)
        stopping.cancel()
        await asyncio.wait([stopping])
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await layer.stop()

    run_in_fake_time(scenario())
    assert [snapshot.final for snapshot in shown] == [True]


def test_a_cancelled_batch_is_cancelled() -> None:
    async def scenario() -> None:
        async def cancelled(batch: Batch) -> BatchResult:
            raise asyncio.CancelledError

        layer = await FakeRun().start(Progress(print))
        try:
            await layer(Batch(1, uids("1")), cancelled)
        finally:
            await layer.stop()

    with pytest.raises(asyncio.CancelledError):
        run_in_fake_time(scenario())


def test_arguments_are_checked() -> None:
    with pytest.raises(TypeError, match="something to call"):
        Progress(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="above 0"):
        Progress(print, every_seconds=0)
