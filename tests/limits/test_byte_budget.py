"""The byte budget: within a day, over restarts, at a server."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.middleware.fakes import FakeRun, done, interrupted, run_in_fake_time

import imapipe
from imapipe import ByteBudget, Checkpoint, Retry
from imapipe import search as q
from imapipe.errors import CheckpointCorrupt, ConnectionLost
from imapipe.middleware.base import Layer, Notes, check_order
from imapipe.models.batch import Batch, BatchResult
from imapipe.models.event import Wait
from imapipe.models.json_value import JSON
from imapipe.testing import Server, SyntheticMailbox
from imapipe.wire.uid_set import UidSet

HOUR = 3_600
DAY = 24 * HOUR
NOW = 1_700_000_000.0


def batch_of(messages: int, number: int = 1, size_bytes: int | None = None) -> Batch:
    return Batch(number, UidSet.from_ranges([(1, messages)]), size_bytes=size_bytes)


class Clock:
    """The time of day, which only sleeping moves on."""

    def __init__(self) -> None:
        self.now = NOW
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


def bring(run: FakeRun, count: int, *, asked: list[Batch] | None = None) -> Callable[[Batch], Awaitable[BatchResult]]:
    """A call that brings `count` bytes for each message."""

    async def call_next(batch: Batch) -> BatchResult:
        if asked is not None:
            asked.append(batch)
        run.bytes_received += count * len(batch)
        return done(batch, bytes_received=count * len(batch))

    return call_next


async def spend(budget: ByteBudget, run: FakeRun, batches: int, *, count: int = 100) -> list[BatchResult]:
    """A run of batches of ten messages, each worth `count` bytes."""
    layer = await run.start(budget)
    results = [await layer(batch_of(10, number), bring(run, count)) for number in range(1, batches + 1)]
    await layer.stop()
    return results


def sent(results: list[BatchResult]) -> int:
    return sum(bool(result.done) for result in results)


# ---------------------------------------------------------------- within a day


@pytest.mark.asyncio
async def test_a_budget_that_is_used_up_ends_the_run() -> None:
    began = datetime.now(UTC)
    clock, run = Clock(), FakeRun()
    budget = ByteBudget(10_000, on_exhausted="stop", clock=clock)
    results = await spend(budget, run, 15)
    assert sent(results) == 10
    assert [result.missing for result in results[10:]] == [batch_of(10).uids] * 5
    assert run.gave_up_because == "the budget of 10,000 bytes in 24 hours is used up"
    # When what was received in the first hour is a day old.
    assert run.retry_at is not None
    # As this machine counts, whatever the clock of the budget is.
    assert began + timedelta(hours=24) <= run.retry_at <= datetime.now(UTC) + timedelta(hours=25)
    assert budget.used_bytes == 10_000


@pytest.mark.asyncio
async def test_what_was_used_is_free_again_a_day_later() -> None:
    clock = Clock()
    budget = ByteBudget(10_000, on_exhausted="stop", clock=clock)
    assert sent(await spend(budget, FakeRun(), 6)) == 6
    clock.now += 12 * HOUR
    assert sent(await spend(budget, FakeRun(), 10)) == 4
    clock.now += 12 * HOUR
    # The first six were received in an hour of which something is not yet a day old.
    assert sent(await spend(budget, FakeRun(), 10)) == 0
    clock.now += HOUR
    assert sent(await spend(budget, FakeRun(), 10)) == 6


@pytest.mark.asyncio
async def test_a_budget_that_waits_tells_so_and_goes_on_a_day_later() -> None:
    clock, run = Clock(), FakeRun()
    budget = ByteBudget(10_000, clock=clock, sleep=clock.sleep)
    assert sent(await spend(budget, run, 15)) == 15
    (wait,) = [event for event in run.heard if isinstance(event, Wait)]
    assert wait.layer == "ByteBudget"
    assert wait.seconds == pytest.approx(sum(clock.slept))
    assert DAY < sum(clock.slept) <= DAY + HOUR
    # A clock that is set meanwhile is noticed.
    assert max(clock.slept) == 60


@pytest.mark.slow
def test_in_no_24_hours_more_than_the_budget_is_received() -> None:
    async def scenario() -> list[tuple[float, int]]:
        loop = asyncio.get_running_loop()
        budget, run = ByteBudget(100_000, clock=loop.time), FakeRun()
        received: list[tuple[float, int]] = []
        waiting = [(number, 1 + number * 7 % 20) for number in range(1, 400)]

        async def call_next(batch: Batch) -> BatchResult:
            await asyncio.sleep(len(batch) * 20)
            received.append((loop.time(), 100 * len(batch)))
            run.bytes_received += 100 * len(batch)
            return done(batch, bytes_received=100 * len(batch))

        async def worker() -> None:
            while waiting:
                number, size = waiting.pop()
                await layer(batch_of(size, number), call_next)

        layer = await run.start(budget)
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(worker())
        await layer.stop()
        return received

    received = run_in_fake_time(scenario())
    assert len(received) == 399
    for start, _ in received:
        assert sum(count for when, count in received if start <= when < start + DAY) <= 100_000
    # It is used, too.
    assert received[-1][0] - received[0][0] < 1.15 * DAY * sum(count for _, count in received) / 100_000


@pytest.mark.asyncio
async def test_while_nothing_is_known_one_batch_goes_alone() -> None:
    clock, run = Clock(), FakeRun()
    budget = ByteBudget(10_000, on_exhausted="stop", clock=clock)
    under_way: list[int] = []
    go = asyncio.Event()

    async def call_next(batch: Batch) -> BatchResult:
        under_way.append(batch.number)
        await go.wait()
        return await bring(run, 300)(batch)

    layer = await run.start(budget)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(layer(batch_of(10, number), call_next)) for number in range(1, 6)]
        await asyncio.sleep(0.01)
        assert under_way == [1]
        go.set()
    await layer.stop()
    assert sent([task.result() for task in tasks]) == 3


@pytest.mark.asyncio
async def test_batches_under_way_count_with_what_they_are_thought_to_bring() -> None:
    clock, run = Clock(), FakeRun()
    budget = ByteBudget(10_000, on_exhausted="stop", clock=clock)
    under_way = 0
    most = 0

    async def call_next(batch: Batch) -> BatchResult:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001)
        under_way -= 1
        # Only half of what was known beforehand.
        return await bring(run, 50)(batch)

    layer = await run.start(budget)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(layer(batch_of(10, number, 1_000), call_next)) for number in range(1, 40)]
    await layer.stop()
    assert most == 10
    assert sent([task.result() for task in tasks]) == 19
    assert budget.used_bytes == 9_500


@pytest.mark.asyncio
async def test_a_batch_larger_than_the_budget_goes_alone_on_an_untouched_day() -> None:
    budget, run = ByteBudget(500, on_exhausted="stop", clock=Clock()), FakeRun()
    layer = await run.start(budget)
    assert (await layer(batch_of(10, 1, 1_000), bring(run, 100))).done
    assert (await layer(batch_of(1, 2, 10), bring(run, 10))).missing
    await layer.stop()


@pytest.mark.asyncio
async def test_what_a_batch_brought_before_it_was_interrupted_or_cancelled_counts() -> None:
    clock, run = Clock(), FakeRun()
    budget = ByteBudget(10_000, on_exhausted="stop", clock=clock)

    async def half(batch: Batch) -> BatchResult:
        run.bytes_received += 500
        raise interrupted(batch, ConnectionLost())

    async def never(batch: Batch) -> BatchResult:
        run.bytes_received += 300
        await asyncio.sleep(3_600)
        return done(batch)

    layer = await run.start(budget)
    with pytest.raises(imapipe.BatchInterrupted):
        await layer(batch_of(10), half)
    task = asyncio.create_task(layer(batch_of(10), never))
    await asyncio.sleep(0.01)
    assert budget.used_bytes == 800
    task.cancel()
    await asyncio.wait([task])
    assert (await layer(batch_of(92), bring(run, 100))).done
    await layer.stop()
    assert budget.used_bytes == 10_000


@pytest.mark.asyncio
async def test_accounts_have_budgets_of_their_own_and_runs_of_one_account_share_it() -> None:
    budget = ByteBudget(10_000, on_exhausted="stop", clock=Clock())
    other = FakeRun()
    other.account = "bob@imap.example.org:993"
    assert sent(await spend(budget, FakeRun(), 7)) == 7
    assert sent(await spend(budget, other, 15)) == 10
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(spend(budget, FakeRun(), 5)) for _ in range(2)]
    assert sum(sent(task.result()) for task in tasks) == 3


# ---------------------------------------------------------------- over restarts


async def restart(path: Path, batches: int, clock: Clock, mailbox: str = "INBOX", *, delete: bool = False) -> int:
    """A run of a new process; gives how many batches were sent."""
    run = FakeRun("1:10")
    run.mailbox = mailbox
    budget = ByteBudget(10_000, on_exhausted="stop", clock=clock)
    checkpoint = Checkpoint(path, when_complete="delete" if delete else "keep")
    keeper = await run.start(checkpoint)
    results = await spend(budget, run, batches)
    if delete:
        run.ledger.settle(*range(1, 11))
    await keeper.stop()
    return sent(results)


@pytest.mark.asyncio
async def test_a_restart_does_not_give_the_budget_anew(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "state.json"
    assert await restart(path, 7, clock) == 7
    clock.now += HOUR
    assert await restart(path, 7, clock) == 3
    assert await restart(path, 7, clock) == 0
    clock.now += 24 * HOUR
    assert await restart(path, 10, clock) == 7
    assert os.listdir(tmp_path) == ["state.json"]  # noqa: PTH208 - pathlib is not for coroutines


@pytest.mark.asyncio
async def test_it_is_the_budget_of_the_account_not_of_a_mailbox(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "state.json"
    assert await restart(path, 7, clock) == 7
    assert await restart(path, 7, clock, "Sent") == 3


@pytest.mark.asyncio
async def test_it_outlives_a_checkpoint_that_is_deleted_when_complete(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "state.json"
    assert await restart(path, 7, clock, delete=True) == 7
    assert await Checkpoint(path).recall(FakeRun().account, "INBOX") is None
    assert await restart(path, 7, clock, delete=True) == 3


class Keeper(Layer):
    """Keeps notes, for as long as they are given from run to run."""

    path = "state.json"

    def __init__(self, kept: dict[str, JSON]) -> None:
        self.kept = kept

    async def notes(self) -> Notes:
        return self

    def get(self, name: str) -> JSON:
        return self.kept.get(name)

    def put(self, name: str, value: JSON) -> None:
        self.kept[name] = value


def kept_run(kept: dict[str, JSON], mailbox: str = "INBOX") -> FakeRun:
    """A run with a layer that keeps notes, among layers that do not."""
    run = FakeRun()
    run.mailbox = mailbox
    run.layers = (Layer(), Keeper(kept), Layer())
    return run


@pytest.mark.asyncio
async def test_any_layer_that_keeps_notes_will_do() -> None:
    clock, kept = Clock(), dict[str, JSON]()
    for mailbox, expected in (("INBOX", 7), ("Sent", 3)):
        # As after a restart: nothing but the notes is left.
        budget = ByteBudget(10_000, on_exhausted="stop", clock=clock)
        assert sent(await spend(budget, kept_run(kept, mailbox), 7)) == expected


@pytest.mark.asyncio
async def test_a_note_that_is_none_is_a_corrupt_checkpoint() -> None:
    with pytest.raises(CheckpointCorrupt, match=r"state\.json.*byte budget"):
        await kept_run({"byte_budget": "much"}).start(ByteBudget(1))


@pytest.mark.asyncio
async def test_runs_at_the_same_time_write_down_what_all_of_them_have_under_way() -> None:
    """And one that begins meanwhile does not count again what it finds written there."""
    kept, clock = dict[str, JSON](), Clock()
    budget = ByteBudget(10_000, on_exhausted="stop", clock=clock)
    first, second = kept_run(kept), kept_run(kept, "Sent")
    go = asyncio.Event()

    async def call_next(batch: Batch) -> BatchResult:
        await go.wait()
        return await bring(first, 100)(batch)

    layer = await first.start(budget)
    await layer(batch_of(10), bring(first, 100))
    under_way = asyncio.create_task(layer(batch_of(10), call_next))
    await asyncio.sleep(0.01)
    other = await second.start(budget)
    assert budget.used_bytes == 1_000
    assert kept["byte_budget"] == {"by_hour": {str(int(NOW // HOUR)): 1_000}, "under_way": 1_000}
    go.set()
    await under_way
    await layer.stop()
    await other.stop()
    assert kept["byte_budget"] == {"by_hour": {str(int(NOW // HOUR)): 2_000}, "under_way": 0}


_KILLED = """
import asyncio, os, signal, sys
from tests.limits.test_byte_budget import *

async def main():
    clock, run = Clock(), FakeRun("1:10")
    budget = ByteBudget(10_000, on_exhausted="stop", clock=clock)
    checkpoint = Checkpoint(sys.argv[1], save_every_seconds=3600)
    await run.start(checkpoint)
    layer = await run.start(budget)

    async def killed(batch):
        os.kill(os.getpid(), signal.SIGKILL)

    for number in range(5):
        await layer(batch_of(10, number), bring(run, 100))
    await layer(batch_of(10, 6), killed)

asyncio.run(main())
"""


def test_kill_minus_nine_forgets_nothing_and_counts_what_was_under_way(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", _KILLED, str(path)],
        check=False,
        cwd=root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(root)])},
        timeout=60,
    )
    assert result.returncode == -signal.SIGKILL
    # Five batches came back, one may have.
    assert asyncio.run(restart(path, 7, Clock())) == 4


# ---------------------------------------------------------------- at a server


@pytest.mark.asyncio
async def test_a_job_of_three_days_at_a_server(tmp_path: Path) -> None:
    """On each day a part is done; the report says what is left and why, and the next day goes on with it."""
    clock = Clock()
    handled: list[int] = []
    reports: list[imapipe.RunReport] = []

    async def handle(message: imapipe.Message) -> None:
        handled.append(message.uid)

    async with Server({"INBOX": SyntheticMailbox(300, size=10_000)}) as server:
        for _ in range(3):
            async with imapipe.create_pool(server.url, password=server.password) as pool:
                budget = ByteBudget(1_300_000, on_exhausted="stop", clock=clock)
                job = pool.mailbox("INBOX").search(q.ALL).fetch("full").batch(10)
                reports.append(await job.use(Checkpoint(tmp_path / "state.json"), Retry(), budget).run(handle))
                clock.now += 25 * HOUR
    assert sorted(handled) == list(range(1, 301))
    assert [report.complete for report in reports] == [False, False, True]
    assert all(1_100_000 < report.bytes_received <= 1_300_000 for report in reports[:2])
    for report in reports:
        assert report.planned == report.done + report.skipped + report.failed == 300
        assert {failure.reason for failure in report.failures.values()} <= {"not-tried"}
    details = {failure.detail for failure in reports[0].failures.values()}
    assert details == {"the budget of 1,300,000 bytes in 24 hours is used up"}


def test_it_stands_inside_of_checkpoint_and_retry() -> None:
    check_order([Checkpoint("state.json"), Retry(), ByteBudget(1)])
    with pytest.raises(ValueError, match="Checkpoint must stand outside of ByteBudget"):
        check_order([ByteBudget(1), Checkpoint("state.json")])
    with pytest.raises(ValueError, match="Retry must stand outside of ByteBudget"):
        check_order([ByteBudget(1), Retry()])


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="bytes_per_day"):
        ByteBudget(0)
    with pytest.raises(ValueError, match="on_exhausted"):
        ByteBudget(1, on_exhausted="panic")  # type: ignore[arg-type]
