"""The contract itself: order, passing through, and the layers together."""

from __future__ import annotations

import asyncio
import tempfile

import pytest
from tests.middleware.fakes import FakeRun, done, interrupted, run_in_fake_time, uids

from imapipe import AdaptiveRateLimit, ByteBudget, Checkpoint, Metrics, Middleware, Progress, RateLimit, Retry
from imapipe.errors import ConnectionLost
from imapipe.middleware.base import Call, KeepsNotes, Layer, Limit, Run, chain, check_order
from imapipe.middleware.progress import ProgressSnapshot
from imapipe.models.batch import Batch, BatchResult
from imapipe.models.event import Attempt, Wait


class Marking(Layer):
    def __init__(self, name: str, marks: list[str]) -> None:
        self.name = name
        self.marks = marks

    async def __call__(self, batch: Batch, call_next: Call) -> BatchResult:
        self.marks.append(f"{self.name} in")
        try:
            return await call_next(batch)
        finally:
            self.marks.append(f"{self.name} out")


async def succeed(batch: Batch) -> BatchResult:
    return done(batch)


@pytest.mark.asyncio
async def test_the_first_layer_is_the_outermost() -> None:
    marks: list[str] = []
    call = chain([Marking("a", marks), Layer(), Marking("b", marks)], succeed)
    result = await call(Batch(1, uids("1:3")))
    assert result.done == uids("1:3")
    assert marks == ["a in", "b in", "b out", "a out"]
    assert (await chain([], succeed)(Batch(1, uids("1")))).done == uids("1")


def test_orders_that_cannot_keep_their_promise_are_refused() -> None:
    checkpoint, retry, limit = Checkpoint("x.json"), Retry(), RateLimit(commands_per_second=1)
    progress, metrics = Progress(print), Metrics()
    check_order([progress, metrics, checkpoint, retry, limit])
    check_order([limit])
    check_order([])
    with pytest.raises(ValueError, match="Checkpoint must stand outside of Retry"):
        check_order([progress, retry, checkpoint])
    with pytest.raises(ValueError, match="Retry must stand outside of RateLimit"):
        check_order([limit, progress, retry])


def test_an_order_is_checked_by_type_so_that_a_limit_of_ones_own_counts_too() -> None:
    class Mine(Limit):
        """A limit that nobody here knows of."""

    class Kept(Checkpoint):
        """A Checkpoint by another name."""

    check_order([Retry(), Mine()])
    with pytest.raises(ValueError, match="Retry must stand outside of Mine"):
        check_order([Mine(), Retry()])
    with pytest.raises(ValueError, match="Kept must stand outside of Retry"):
        check_order([Retry(), Kept("x.json")])
    for limit in (RateLimit(commands_per_second=1), AdaptiveRateLimit(), ByteBudget(1)):
        assert isinstance(limit, Limit)


@pytest.mark.asyncio
async def test_a_middleware_without_start_is_told_what_is_missing() -> None:
    class Mine(Middleware):
        """Written for something else."""

    with pytest.raises(TypeError, match=r"Mine has no start\(\)"):
        await FakeRun().start(Mine())


@pytest.mark.asyncio
async def test_a_middleware_that_only_listens_gives_a_plain_layer() -> None:
    class Listening(Middleware):
        async def start(self, run: Run) -> Layer:
            return Layer()

    layer = await FakeRun().start(Listening())
    assert (await layer(Batch(1, uids("1:3")), succeed)).done == uids("1:3")
    await layer.stop()
    assert not isinstance(layer, KeepsNotes)


def test_all_layers_together() -> None:
    """One connection dies, one message is poisoned, every attempt pays, everything is told and kept."""
    shown: list[ProgressSnapshot] = []

    async def scenario(path: str) -> tuple[FakeRun, BatchResult, list[str], Metrics]:
        run = FakeRun("1:16")
        metrics = Metrics()
        middleware = (
            Progress(shown.append),
            metrics,
            Checkpoint(path, save_every_seconds=3_600),
            Retry(attempts=2),
            RateLimit(commands_per_second=1),
        )
        check_order(middleware)
        asked: list[str] = []

        async def innermost(batch: Batch) -> BatchResult:
            asked.append(batch.uids.text())
            # Something comes each time, so the server is up.
            run.bytes_received += 100
            if len(asked) == 1:
                run.ledger.settle(*range(1, 9))
                raise interrupted(batch, ConnectionLost(), done=uids("1:8"))
            if 12 in batch.uids:
                raise interrupted(batch, ConnectionLost())
            run.ledger.settle(*batch.uids)
            return done(batch)

        for one in middleware:
            await run.start(one)
        result = await chain(run.layers, innermost)(Batch(1, run.plan.remaining))
        run.ledger.fail(*result.failed.values())
        await run.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return run, result, asked, metrics

    with tempfile.TemporaryDirectory() as folder:
        run, result, asked, metrics = run_in_fake_time(scenario(f"{folder}/state.json"))
        state = asyncio.run(Checkpoint(f"{folder}/state.json").recall(run.account, run.mailbox))
    assert asked == ["1:16", "9:16", "9:16", "9:12", "9:10", "11:12", "11", "12", "12", "13:16"]
    assert result.done == uids("1:11,13:16")
    assert set(result.failed) == {12}
    assert not result.missing
    assert state is not None
    assert state.done == uids("1:11,13:16")
    assert state.failed == {"ConnectionLost": uids("12")}
    attempts = [event for event in run.heard if isinstance(event, Attempt)]
    waits = [event for event in run.heard if isinstance(event, Wait)]
    # A second for each of the ten commands but the first, some of it spent in the backoff of Retry.
    assert len(attempts) == 6
    assert len(waits) == 9
    assert sum(event.wait_seconds for event in attempts) + sum(event.seconds for event in waits) == pytest.approx(
        9, 0.01
    )
    seen = metrics.snapshot()
    assert (seen.batches, seen.retries, seen.throttle_waits) == (1, 6, 9)
    assert shown[-1].final
    assert (shown[-1].done, shown[-1].failed, shown[-1].waits) == (15, 1, 9)
