"""Sinks: done is what was committed, whatever happens in between."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from tests.pipeline.world import Always, OpenWorld, check_sums

import imapipe
from imapipe.middleware.base import Call, Layer, Run
from imapipe.pipeline.delivery.sink import Scribe
from imapipe.testing import CutAfterBytes, SyntheticMailbox


class Notes:
    """A sink that writes down what is asked of it."""

    def __init__(self, *, bad: frozenset[int] = frozenset(), fails_in: str = "", parallel: bool = False) -> None:
        self.calls: list[str] = []
        self.written: list[int] = []
        self.committed: list[int] = []
        self.groups: list[int] = []
        self.writing = self.most_writing = 0
        self.parallel = parallel
        self._bad = bad
        self._fails_in = fails_in
        self.has_written = asyncio.Event()
        self.has_committed = asyncio.Event()
        self.has_two_writers = asyncio.Event()
        self.may_write = asyncio.Event()
        self.may_write.set()

    def _note(self, what: str) -> None:
        self.calls.append(what)
        if what == self._fails_in:
            # From something, as whoever looks at what is behind an error needs it.
            raise OSError(28, f"no room in {what}") from KeyError(what)

    async def open(self, run: Run) -> None:
        assert run.plan.planned is not None
        self._note("open")

    async def write(self, messages: Sequence[imapipe.Message]) -> Mapping[int, Exception]:
        self._note("write")
        self.has_written.set()
        self.writing += 1
        self.most_writing = max(self.most_writing, self.writing)
        if self.writing == 2:
            self.has_two_writers.set()
        await self.may_write.wait()
        await asyncio.sleep(0)
        self.writing -= 1
        self.groups.append(len(messages))
        failed: dict[int, Exception] = {}
        for message in messages:
            if message.uid in self._bad:
                failed[message.uid] = ValueError(f"{message.uid} is bad")
            else:
                self.written.append(message.uid)
        return failed

    async def commit(self) -> None:
        assert not self.writing
        self._note("commit")
        await asyncio.sleep(0)
        self.committed = list(self.written)
        self.has_committed.set()

    async def close(self) -> None:
        self.calls.append("close")


class _Watching(Layer):
    """Compares what is done with what is committed, at every change of the ledger."""

    def __init__(self, sink: Notes) -> None:
        self._sink = sink
        self.seen = 0

    def listen(self, run: Run) -> None:
        run.ledger.subscribe(1, self._settled)

    def _settled(self, done: imapipe.UidSet, failed: Mapping[int, imapipe.Failure], vanished: imapipe.UidSet) -> None:
        self.seen += len(done)
        assert set(done) <= set(self._sink.committed)


class _Watch(Always):
    async def start(self, run: Run) -> Layer:
        layer = await super().start(run)
        assert isinstance(layer, _Watching)
        layer.listen(run)
        return layer


@pytest.mark.asyncio
async def test_everything_is_written_once_and_done_only_when_committed(open_world: OpenWorld) -> None:
    world = await open_world(200)
    sink = Notes()
    watching = _Watching(sink)
    report = await world.job().batch(10).use(_Watch(watching)).run(sink, commit_every_messages=30)
    check_sums(report)
    assert report.complete
    assert sorted(sink.written) == sorted(sink.committed) == list(range(1, 201))
    assert watching.seen == 200
    assert max(sink.groups) <= 30
    assert sink.calls.count("commit") >= 200 // 30
    assert (sink.calls[0], sink.calls[-2:]) == ("open", ["commit", "close"])


@pytest.mark.asyncio
async def test_batches_do_not_wait_for_the_commit(open_world: OpenWorld) -> None:
    """One small batch at a time, and a commit that only the end brings: the batches return all the same."""
    world = await open_world(50)
    sink = Notes()
    job = world.job().batch(5).depth(1)
    report = await job.run(sink, connections=1, commit_every_messages=10_000, commit_every_seconds=3600)
    assert report.complete
    assert sink.calls.count("commit") == 1
    assert len(world.asked) == 10


@pytest.mark.asyncio
async def test_a_message_that_fails_in_a_group_fails_alone(open_world: OpenWorld) -> None:
    world = await open_world(40)
    report = await world.job().run(sink := Notes(bad=frozenset({7, 30})))
    check_sums(report)
    assert (report.done, report.failed) == (38, 2)
    assert {uid: failure.reason for uid, failure in report.failures.items()} == {7: "ValueError", 30: "ValueError"}
    assert len(sink.committed) == 38


@pytest.mark.asyncio
async def test_the_first_failure_ends_the_run_where_that_is_wanted(open_world: OpenWorld) -> None:
    world = await open_world(40)
    sink = Notes(bad=frozenset({1}))
    with pytest.raises(ValueError, match="1 is bad"):
        await world.job().run(sink, on_error="raise")
    assert sink.calls[-1] == "close"


@pytest.mark.asyncio
async def test_too_many_failures_end_the_run(open_world: OpenWorld) -> None:
    world = await open_world(100)
    sink = Notes(bad=frozenset(range(1, 101)))
    report = await world.job().batch(5).depth(1).run(sink, max_failures=3, connections=1, commit_every_messages=4)
    check_sums(report)
    assert report.failed == 100
    assert {failure.reason for failure in report.failures.values()} == {"ValueError", "not-tried"}


@pytest.mark.parametrize("where", ["open", "write", "commit"])
@pytest.mark.asyncio
async def test_a_sink_that_raises_ends_the_run_with_that_and_nothing_uncommitted_is_done(
    open_world: OpenWorld, where: str
) -> None:
    world = await open_world(40)
    sink = Notes(fails_in=where)
    watching = _Watching(sink)
    with pytest.raises(OSError, match=f"no room in {where}") as caught:
        await world.job().batch(10).use(_Watch(watching)).run(sink)
    assert isinstance(caught.value.__cause__, KeyError)
    assert sink.calls.count("close") == 1
    assert watching.seen == 0
    assert world.pool.stats.leased == 0


@pytest.mark.asyncio
async def test_cancelling_closes_the_sink_and_acknowledges_nothing_more(open_world: OpenWorld) -> None:
    world = await open_world(40)
    sink = Notes()
    sink.may_write.clear()
    watching = _Watching(sink)
    task = asyncio.create_task(world.job().use(_Watch(watching)).run(sink))
    await sink.has_written.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sink.calls[-1] == "close"
    assert "commit" not in sink.calls
    assert watching.seen == 0


class _Closing(Notes):
    """One that takes its time to open and to close."""

    def __init__(self, *, fails_in: str = "") -> None:
        super().__init__(fails_in=fails_in)
        self.closes, self.may_close = asyncio.Event(), asyncio.Event()
        self.is_closed = False

    async def close(self) -> None:
        await super().close()
        self.closes.set()
        await self.may_close.wait()
        self.is_closed = True


@pytest.mark.asyncio
@pytest.mark.parametrize("fails_in", ["", "open", "write"])
async def test_whoever_cancels_while_the_sink_closes_waits_for_that(open_world: OpenWorld, fails_in: str) -> None:
    """A lock that is left behind would keep everybody out for as long as the process lives."""
    world = await open_world(5)
    sink = _Closing(fails_in=fails_in)
    running = asyncio.create_task(world.job().run(sink))
    await sink.closes.wait()
    for _ in range(2):
        running.cancel()
        await asyncio.sleep(0)
    assert not running.done()
    sink.may_close.set()
    with pytest.raises((asyncio.CancelledError, OSError)):
        await running
    assert sink.is_closed


@pytest.mark.asyncio
async def test_what_is_written_is_made_safe_when_the_server_ends_the_run(open_world: OpenWorld) -> None:
    world = await open_world(SyntheticMailbox(60), faults=[CutAfterBytes(0, command="UID FETCH", nth=3)])
    sink = Notes()
    job = world.job("full").batch(10).depth(1)
    report = await job.run(sink, connections=1, commit_every_messages=10_000, commit_every_seconds=3600)
    check_sums(report)
    assert report.done == len(sink.committed) == 50
    assert report.failed == 10


@pytest.mark.asyncio
async def test_one_writer_at_a_time(open_world: OpenWorld) -> None:
    world = await open_world(300)
    sink = Notes()
    report = await world.job().batch(5).run(sink, concurrency=4, commit_every_messages=20)
    assert report.complete
    assert sink.most_writing == 1


@pytest.mark.asyncio
async def test_several_writers_where_the_sink_says_that_it_takes_them(open_world: OpenWorld) -> None:
    world = await open_world(300)
    sink = Notes(parallel=True)
    sink.may_write.clear()
    task = asyncio.create_task(world.job().batch(5).run(sink, concurrency=3, commit_every_messages=20))
    # Only when a second one writes may the first one go on; `commit` asserts that nobody does meanwhile.
    await sink.has_two_writers.wait()
    sink.may_write.set()
    report = await task
    assert report.complete
    assert sorted(sink.committed) == list(range(1, 301))
    assert 2 <= sink.most_writing <= 3


@pytest.mark.asyncio
async def test_a_commit_comes_in_time_although_no_message_does(open_world: OpenWorld) -> None:
    world = await open_world(20)
    sink = Notes()
    release = asyncio.Event()

    class _Slow(Layer):
        async def __call__(self, batch: imapipe.Batch, call_next: Call) -> imapipe.BatchResult:
            result = await call_next(batch)
            if batch.number == 1:
                await release.wait()
            return result

    job = world.job().batch(10).depth(1).use(Always(_Slow()))
    task = asyncio.create_task(job.run(sink, connections=1, commit_every_seconds=0.01))
    await sink.has_committed.wait()
    assert len(sink.committed) == 10
    release.set()
    assert (await task).complete


@pytest.mark.asyncio
async def test_a_missing_message_is_told_as_with_a_handler(open_world: OpenWorld) -> None:
    world = await open_world(10)
    world.server.mailboxes["INBOX"].expunge([3])
    report = await world.pool.mailbox("INBOX").search().fetch("full").run(Notes())
    check_sums(report)
    assert report.complete


@pytest.mark.parametrize("wrong", [{"commit_every_messages": 0}, {"commit_every_seconds": 0}])
@pytest.mark.asyncio
async def test_bounds_of_a_group_are_checked(open_world: OpenWorld, wrong: dict[str, int]) -> None:
    world = await open_world(1)
    with pytest.raises(ValueError, match="commit_every"):
        await world.job().run(Notes(), **wrong)  # type: ignore[arg-type]


class _Driven:
    """A run that is cancelled in the very moment when its sink is open."""

    mailbox = "INBOX"
    failure = None

    def __init__(self) -> None:
        self.inbox = self
        self.caller: asyncio.Task[None] | None = None

    def close(self) -> None:
        """Nothing will come."""

    async def drive(self, consumer: Scribe) -> None:
        await consumer.begin(None)  # type: ignore[arg-type]  # the sink does not look at it
        assert self.caller is not None
        self.caller.cancel()
        await asyncio.Event().wait()


@pytest.mark.asyncio
async def test_a_sink_is_closed_that_was_opened_when_the_run_was_cancelled() -> None:
    calls: list[str] = []

    class Calls:
        """Notes what is called."""

        async def open(self, run: object) -> None:
            calls.append("open")

        async def write(self, messages: object) -> dict[int, Exception]:
            calls.append("write")
            return {}

        async def commit(self) -> None:
            calls.append("commit")

        async def close(self) -> None:
            calls.append("close")

    run = _Driven()
    scribe = Scribe(
        run,  # type: ignore[arg-type]  # as much of a run as is needed
        Calls(),
        concurrency=1,
        commit_every_messages=1,
        commit_every_seconds=1,
        raise_errors=False,
    )
    run.caller = asyncio.create_task(scribe.work())
    with pytest.raises(asyncio.CancelledError):
        await run.caller
    assert calls == ["open", "close"]
