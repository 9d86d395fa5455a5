"""Checkpoint: runs that go on where the last one stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.middleware.fakes import FakeRun, done, uids

from imapipe.errors import CheckpointCorrupt, CheckpointError, CheckpointLocked, CheckpointMismatch, UidValidityChanged
from imapipe.middleware.checkpoint import Checkpoint
from imapipe.models.batch import Batch, BatchResult, Failure
from imapipe.store.checkpoint_state import CheckpointChange, CheckpointState
from imapipe.store.json_store import JsonCheckpointStore
from imapipe.wire.uid_set import UidSet

NEVER = 3_600.0


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.001)


async def succeed(batch: Batch) -> BatchResult:
    return done(batch)


def kept(path: Path, run: FakeRun | None = None) -> CheckpointState | None:
    """What another process would find."""
    run = run or FakeRun()
    return JsonCheckpointStore(path).peek(run.account, run.mailbox)


def kept_done(path: Path) -> str:
    state = kept(path)
    return state.done.text() if state else "no state"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.json"


async def complete_run(checkpoint: Checkpoint, run: FakeRun, *settled: int, failed: str = "") -> None:
    """A run in which these messages come to an outcome."""
    await checkpoint.start(run)
    run.ledger.settle(*settled)
    run.ledger.fail(*(Failure(uid, "ValueError") for uid in uids(failed)))
    await checkpoint.stop()


def damage(path: Path) -> None:
    path.write_text("{")


def kept_text(path: Path) -> str:
    return path.read_text()


def names(path: Path) -> list[str]:
    """What is in the folder of the checkpoint."""
    return sorted(entry.name for entry in path.parent.iterdir())


def die(checkpoint: Checkpoint) -> None:
    """Leave everything as a killed process leaves it, but for the lock, which the system takes back."""
    life, checkpoint._life = checkpoint._life, None
    assert life is not None
    life.ticker.cancel()
    life._unsubscribe()
    life._saver.shutdown()
    assert isinstance(checkpoint.store, JsonCheckpointStore)
    assert checkpoint.store._lock is not None
    checkpoint.store._lock.release()


# ---------------------------------------------------------------- resuming


@pytest.mark.asyncio
async def test_a_second_run_skips_what_is_done_and_tries_again_what_failed(path: Path) -> None:
    await complete_run(Checkpoint(path), FakeRun(), *range(1, 401), failed="401:410")
    run = FakeRun()
    checkpoint = Checkpoint(path)
    await checkpoint.start(run)
    assert run.plan.remaining == uids("401:1000")
    result = await checkpoint(Batch(1, uids("401:410")), succeed)
    assert result.done == uids("401:410")
    run.ledger.settle(*range(401, 406))
    run.ledger.fail(Failure(406, "TypeError"))
    await checkpoint.stop()
    state = kept(path)
    assert state is not None
    assert state.done == uids("1:405")
    # Done leaves failed, another reason replaces the old one, what was not tried stays.
    assert state.failed == {"TypeError": uids("406"), "ValueError": uids("407:410")}


@pytest.mark.asyncio
async def test_what_failed_can_be_left_failed(path: Path) -> None:
    await complete_run(Checkpoint(path), FakeRun(), *range(1, 11), failed="11:15,2000")
    run = FakeRun("1:30")
    checkpoint = Checkpoint(path, retry_failed=False)
    await checkpoint.start(run)
    asked: list[str] = []

    async def call_next(batch: Batch) -> BatchResult:
        asked.append(batch.uids.text())
        return done(batch)

    result = await checkpoint(Batch(1, uids("11:18"), size_bytes=9), call_next)
    assert asked == ["16:18"]
    assert result.done == uids("16:18")
    assert set(result.failed) == {11, 12, 13, 14, 15}
    assert result.failed[11].reason == "ValueError"
    assert result.batch == Batch(1, uids("11:18"), size_bytes=9)
    only_failed = await checkpoint(Batch(2, uids("12:13")), call_next)
    assert len(asked) == 1
    assert set(only_failed.failed) == {12, 13}
    # The pipeline enters these failures; they are no new tries.
    run.ledger.fail(*result.failed.values())
    await checkpoint.stop()
    state = kept(path)
    assert state is not None
    assert state.failed == {"ValueError": uids("11:15,2000")}
    assert state.counters.failed == 6


@pytest.mark.asyncio
async def test_counters_go_on_over_runs(path: Path) -> None:
    run = FakeRun()
    checkpoint = Checkpoint(path)
    await checkpoint.start(run)
    run.bytes_received = 5_000
    run.ledger.settle(*range(1, 101))
    assert checkpoint.done_all_runs == 0
    run.ledger.vanish(uids("500:509"))
    assert checkpoint.done_all_runs == 100
    now = checkpoint.state
    assert now is not None
    assert now.done == uids("1:100")
    await checkpoint.stop()
    second = FakeRun()
    await checkpoint.start(second)
    second.ledger.settle(101, 102)
    second.ledger.fail(Failure(103, "E"))
    second.bytes_received = 100
    await checkpoint.stop()
    assert checkpoint.done_all_runs == 102
    state = kept(path)
    assert state is not None
    assert state == checkpoint.state
    counters = state.counters
    assert (counters.runs, counters.done, counters.failed, counters.vanished) == (2, 102, 1, 10)
    assert counters.bytes_received == 5_100
    assert counters.elapsed_seconds > 0
    assert state.saved_at > state.started_at


@pytest.mark.asyncio
async def test_extra_values_are_carried_along(path: Path) -> None:
    run = FakeRun()
    store = JsonCheckpointStore(path)
    store.open()
    store.save(
        CheckpointState(
            account=run.account, mailbox=run.mailbox, uidvalidity=42, fingerprint="ALL full", extra={"bytes today": 7}
        )
    )
    store.close()
    await complete_run(Checkpoint(path), run, 1)
    await complete_run(Checkpoint(path, on_uidvalidity="restart"), FakeRun(uidvalidity=43), 2)
    state = kept(path)
    assert state is not None
    assert state.extra == {"bytes today": 7}


# ---------------------------------------------------------------- whose checkpoint it is


@pytest.mark.asyncio
async def test_another_uidvalidity_is_refused_or_a_fresh_start(path: Path) -> None:
    await complete_run(Checkpoint(path), FakeRun(), *range(1, 11), failed="11")
    changed = FakeRun(uidvalidity=43)
    with pytest.raises(UidValidityChanged) as caught:
        await Checkpoint(path).start(changed)
    assert (caught.value.expected, caught.value.found) == (42, 43)
    assert changed.plan.remaining == changed.plan.planned
    assert kept_done(path) == "1:10"
    checkpoint = Checkpoint(path, on_uidvalidity="restart")
    await complete_run(checkpoint, changed, 20)
    assert changed.plan.remaining == changed.plan.planned
    state = kept(path)
    assert state is not None
    assert (state.uidvalidity, state.done, state.failed) == (43, uids("20"), {})
    assert state.counters.runs == 1


@pytest.mark.asyncio
async def test_another_job_is_refused_unless_it_is_named_or_accepted(path: Path) -> None:
    await complete_run(Checkpoint(path), FakeRun(), 1, 2, 3)
    other = FakeRun(fingerprint="UNSEEN envelope")
    with pytest.raises(CheckpointMismatch, match=r"state\.json.*another search or fetch"):
        await Checkpoint(path).start(other)
    with pytest.raises(CheckpointMismatch, match="another name"):
        await Checkpoint(path, name="export").start(FakeRun())
    accepting = Checkpoint(path, name="export", on_mismatch="accept")
    await complete_run(accepting, other, 4)
    assert kept_done(path) == "1:4"
    # It has the name now, and the name alone counts.
    await complete_run(Checkpoint(path, name="export"), FakeRun(), 5)
    assert kept_done(path) == "1:5"
    with pytest.raises(CheckpointMismatch, match="another name"):
        await Checkpoint(path).start(FakeRun())
    await complete_run(Checkpoint(path, on_mismatch="accept"), other, 6)
    await complete_run(Checkpoint(path), other, 7)
    assert kept_done(path) == "1:7"


@pytest.mark.asyncio
async def test_one_run_at_a_time(path: Path) -> None:
    first = Checkpoint(path)
    await first.start(FakeRun())
    with pytest.raises(CheckpointLocked):
        await Checkpoint(path).start(FakeRun())
    with pytest.raises(CheckpointLocked):
        await Checkpoint(first.store).start(FakeRun())
    with pytest.raises(CheckpointError, match="serves another run"):
        await first.start(FakeRun())
    # None of the refused took anything from the first.
    await first(Batch(1, uids("1")), succeed)
    await first.stop()
    await first.stop()
    await complete_run(Checkpoint(path), FakeRun(), 1)
    assert names(path) == ["state.json"]


@pytest.mark.asyncio
async def test_a_refused_start_leaves_nothing_behind(path: Path) -> None:
    damage(path)
    with pytest.raises(CheckpointCorrupt):
        await Checkpoint(path).start(FakeRun())
    assert kept_text(path) == "{"
    with pytest.raises(CheckpointError, match="folder does not exist"):
        await Checkpoint(path / "missing" / "state.json").start(FakeRun())
    assert names(path) == ["state.json"]
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not [thread for thread in threading.enumerate() if "checkpoint" in thread.name]


@pytest.mark.asyncio
async def test_it_must_be_started(path: Path) -> None:
    with pytest.raises(CheckpointError, match="not started"):
        await Checkpoint(path)(Batch(1, uids("1")), succeed)
    assert Checkpoint(path).peek("nobody", "INBOX") is None
    assert Checkpoint(path).state is None
    assert Checkpoint(path).done_all_runs is None


def test_arguments_are_checked(path: Path) -> None:
    for options in (
        {"save_every_seconds": 0},
        {"save_every_messages": 0},
        {"on_uidvalidity": "ignore"},
        {"on_mismatch": "yes"},
        {"when_complete": "burn"},
    ):
        with pytest.raises(ValueError):
            Checkpoint(path, **options)
    assert isinstance(Checkpoint("state.json").store, JsonCheckpointStore)
    assert isinstance(Checkpoint(Path("state.json")).store, JsonCheckpointStore)


# ---------------------------------------------------------------- what a death leaves


@pytest.mark.asyncio
async def test_each_group_is_kept_at_once_and_synchronously(path: Path) -> None:
    run = FakeRun("1:5000")
    checkpoint = Checkpoint(path, save_every_messages=500, save_every_seconds=NEVER)
    await checkpoint.start(run)
    for uid in range(1, 2_000):
        run.ledger.settle(uid)
        # No await here: nothing but the callback can have done it.
        assert len(checkpoint.state.done if checkpoint.state else ()) == uid // 500 * 500
        if uid % 499 == 0:
            assert kept_done(path) == (f"1:{uid // 500 * 500}" if uid >= 500 else "")
    die(checkpoint)
    run = FakeRun("1:5000")
    checkpoint = Checkpoint(path)
    await checkpoint.start(run)
    assert run.plan.remaining == uids("1501:5000")
    await checkpoint.stop()


@pytest.mark.asyncio
async def test_a_journal_is_counted_once_however_many_deaths_follow(path: Path) -> None:
    for _ in range(3):
        run = FakeRun()
        checkpoint = Checkpoint(path, save_every_messages=10, save_every_seconds=NEVER)
        await checkpoint.start(run)
        if not checkpoint.done_all_runs:
            run.ledger.settle(*range(1, 31))
        die(checkpoint)
    state = kept(path)
    assert state is not None
    assert (state.counters.done, state.counters.runs) == (30, 3)


@pytest.mark.asyncio
async def test_what_is_less_than_a_group_is_kept_by_the_timer(path: Path) -> None:
    run = FakeRun()
    checkpoint = Checkpoint(path, save_every_seconds=0.01)
    await checkpoint.start(run)
    run.ledger.settle(1, 2, 3)
    run.ledger.fail(Failure(4, "ValueError"))
    assert kept_done(path) == ""
    await until(lambda: kept_done(path) == "1:3")
    # In full, not only in the journal, and the journal is empty again.
    journal = path.with_name("state.json.journal")
    await until(lambda: b'"1:3"' in path.read_bytes() and journal.read_bytes() == b"")
    state = kept(path)
    assert state is not None
    assert state.failed == {"ValueError": uids("4")}
    die(checkpoint)
    again = FakeRun()
    checkpoint = Checkpoint(path)
    await checkpoint.start(again)
    assert again.plan.remaining == uids("4:1000")
    await checkpoint.stop()


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("settle"), st.integers(1, 30)),
        st.tuples(st.just("fail"), st.integers(1, 5)),
        st.tuples(st.just("vanish"), st.integers(1, 5)),
        st.tuples(st.just("tick"), st.just(0)),
    ),
    max_size=25,
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lives=st.lists(st.tuples(EVENTS, st.booleans()), min_size=1, max_size=4), every=st.integers(1, 40))
def test_any_lives_lose_nothing_and_repeat_less_than_a_group(
    tmp_path_factory: pytest.TempPathFactory, lives: list[tuple[list[tuple[str, int]], bool]], every: int
) -> None:
    path = tmp_path_factory.mktemp("lives") / "state.json"
    handled: set[int] = set()
    vanished: set[int] = set()

    async def live(events: list[tuple[str, int]], killed: bool) -> None:
        run = FakeRun(UidSet.from_numbers(set(range(1, 2_000)) - vanished))
        checkpoint = Checkpoint(path, save_every_messages=every, save_every_seconds=NEVER)
        await checkpoint.start(run)
        # Whatever came before, at most one group is done again, and nothing is taken for done that was not.
        skipped = set(run.plan.planned - run.plan.remaining)
        assert skipped <= handled
        assert len(handled - skipped) < every
        handled.clear()
        handled.update(skipped)
        left = iter(run.plan.remaining)
        for name, count in events:
            some = [uid for uid, _ in zip(left, range(count), strict=False)]
            if name == "settle":
                run.ledger.settle(*some)
                handled.update(some)
            elif name == "fail":
                run.ledger.fail(*(Failure(uid, f"E{uid % 3}") for uid in some))
            elif name == "vanish":
                run.ledger.vanish(UidSet.from_numbers(some))
                vanished.update(some)
            else:
                assert checkpoint._life is not None
                await checkpoint._life._tick()
        if killed:
            die(checkpoint)
        else:
            await checkpoint.stop()

    for events, killed in lives:
        asyncio.run(live(events, killed))


KILLED = """
import asyncio, os, sys
from imapipe.middleware.checkpoint import Checkpoint
from tests.middleware.fakes import FakeRun
from imapipe.wire.uid_set import UidSet

async def main():
    run = FakeRun(UidSet.from_ranges([(1, 1_000_000)]))
    checkpoint = Checkpoint(sys.argv[1], save_every_messages=50, save_every_seconds=0.02)
    await checkpoint.start(run)
    for number, uid in enumerate(run.plan.remaining):
        # The handler has returned; what it did is in the pipe, whatever happens to this process.
        os.write(1, b"%d\\n" % uid)
        run.ledger.settle(uid)
        if number % 20 == 0:
            await asyncio.sleep(0)

asyncio.run(main())
"""


@pytest.mark.slow
def test_kill_minus_nine_loses_nothing_and_repeats_at_most_a_group(path: Path) -> None:
    """A real process, killed at five different moments; saves every 20 ms go on in its thread."""
    root = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(root)])}
    handled: list[int] = []
    for life in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, env=env, cwd=root
        ) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(700 + 313 * life)]
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.readlines()
        handled += [int(line) for line in lines if line.endswith(b"\n")]
    state = kept(path)
    assert state is not None
    # Nothing is taken for done that was not handled, and no UID up to there was left out.
    assert set(state.done) <= set(handled)
    assert set(handled) == set(range(1, max(handled) + 1))
    assert len(handled) - len(set(handled)) <= 4 * 51
    assert len(set(handled)) - len(state.done) <= 51
    assert state.counters.runs == 5


# ---------------------------------------------------------------- saves that fail, or take long


class ScriptedStore:
    """A store in memory that may fail or hang, and remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.saved: list[CheckpointState] = []
        self.fail: set[str] = set()
        self.hang: threading.Event | None = None
        self.hanging = threading.Event()
        self.burn_seconds = 0.0
        self.threads: set[str] = set()

    def _call(self, name: str) -> None:
        self.calls.append(name)
        self.threads.add(f"{name}:{threading.current_thread().name.rpartition('_')[0]}")
        if name in self.fail:
            raise CheckpointError("No space left on device", path="memory")

    def open(self) -> None:
        self._call("open")

    def load(self, account: str, mailbox: str) -> CheckpointState | None:
        return self.saved[-1] if self.saved else None

    def save(self, state: CheckpointState) -> None:
        self._call("save")
        burn_until = time.thread_time() + self.burn_seconds
        while time.thread_time() < burn_until:
            pass
        if self.hang is not None:
            self.hanging.set()
            assert self.hang.wait(10)
        self.saved.append(state)

    def append(self, change: CheckpointChange) -> None:
        self._call("append")

    def sync(self) -> None:
        self._call("sync")

    def delete(self, account: str, mailbox: str) -> None:
        self._call("delete")

    def close(self) -> None:
        self._call("close")

    def peek(self, account: str, mailbox: str) -> CheckpointState | None:
        return self.load(account, mailbox)


@pytest.mark.asyncio
async def test_reading_and_saving_happen_in_a_thread_and_the_rest_in_the_loop() -> None:
    store, run = ScriptedStore(), FakeRun()
    checkpoint = Checkpoint(store, save_every_seconds=0.01, save_every_messages=1)
    await checkpoint.start(run)
    run.ledger.settle(1)
    await until(lambda: len(store.saved) == 2)
    assert store.threads == {"open:imapipe-checkpoint", "save:imapipe-checkpoint", "append:"}
    await checkpoint.stop()
    assert store.calls == ["open", "save", "append", "save", "save", "close"]
    assert [state.sequence for state in store.saved] == sorted({state.sequence for state in store.saved})
    assert not [thread for thread in threading.enumerate() if "imapipe-checkpoint" in thread.name]
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.asyncio
async def test_nothing_new_is_not_saved() -> None:
    store = ScriptedStore()
    checkpoint = Checkpoint(store, save_every_seconds=0.001)
    run = FakeRun()
    await checkpoint.start(run)
    await asyncio.sleep(0.02)
    assert store.calls == ["open", "save"]
    run.ledger.settle(1)
    await until(lambda: len(store.saved) == 2)
    await asyncio.sleep(0.02)
    assert store.calls == ["open", "save", "append", "save"]
    await checkpoint.stop()


@pytest.mark.asyncio
async def test_an_expensive_state_is_synced_and_seldom_saved_in_full() -> None:
    store, run = ScriptedStore(), FakeRun()
    checkpoint = Checkpoint(store, save_every_seconds=0.005, save_every_messages=1)
    await checkpoint.start(run)
    # A full save costs 20 ms of processor: the next one is due after 400 ms, and ticks come every 5.
    store.burn_seconds = 0.02
    for uid in range(1, 400):
        run.ledger.settle(uid)
        if store.calls.count("sync") >= 10:
            break
        await asyncio.sleep(0.005)
    assert store.calls.count("sync") >= 10
    assert store.calls.count("save") <= 3
    await checkpoint.stop()
    assert len(store.saved[-1].done) == run.ledger.done_count


@pytest.mark.asyncio
async def test_a_failed_append_ends_the_run_at_the_next_batch_and_is_healed_by_a_save() -> None:
    store, run = ScriptedStore(), FakeRun()
    checkpoint = Checkpoint(store, save_every_seconds=NEVER, save_every_messages=10)
    await checkpoint.start(run)
    store.fail = {"append", "save"}
    # The message that fills the group does not get the error: it was handled.
    run.ledger.settle(*range(1, 31))
    with pytest.raises(CheckpointError, match="No space left"):
        await checkpoint(Batch(1, uids("31")), succeed)
    assert checkpoint._life is not None
    await checkpoint._life._tick()
    with pytest.raises(CheckpointError, match="No space left"):
        await checkpoint(Batch(1, uids("31")), succeed)
    store.fail = set()
    await checkpoint._life._tick()
    await checkpoint(Batch(1, uids("31")), succeed)
    assert store.saved[-1].done == uids("1:30")
    await checkpoint.stop()


@pytest.mark.asyncio
async def test_a_disk_that_stays_full_ends_stop_with_the_error_and_still_lets_go() -> None:
    store, run = ScriptedStore(), FakeRun()
    checkpoint = Checkpoint(store, save_every_seconds=0.005, save_every_messages=1)
    await checkpoint.start(run)
    store.fail = {"save", "sync"}
    run.ledger.settle(1)
    await until(lambda: store.calls.count("save") > 3)
    with pytest.raises(CheckpointError, match="No space left"):
        await checkpoint(Batch(1, uids("31")), succeed)
    with pytest.raises(CheckpointError, match="No space left"):
        await checkpoint.stop()
    assert store.calls[-1] == "close"
    assert asyncio.all_tasks() == {asyncio.current_task()}
    store.fail = set()
    await complete_run(checkpoint, FakeRun(), 2)


@pytest.mark.asyncio
async def test_a_full_disk_on_the_real_file_loses_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = FakeRun()
    checkpoint = Checkpoint(path, save_every_seconds=NEVER, save_every_messages=10)
    await checkpoint.start(run)
    run.ledger.settle(*range(1, 21))

    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    run.ledger.settle(*range(21, 31))
    with pytest.raises(CheckpointError, match="journal cannot be written: No space left"):
        await checkpoint(Batch(1, uids("31")), succeed)
    with pytest.raises(CheckpointError, match="cannot be written: No space left"):
        await checkpoint.stop()
    monkeypatch.undo()
    assert names(path) == ["state.json", "state.json.journal"]
    again = FakeRun()
    await checkpoint.start(again)
    assert again.plan.remaining == uids("21:1000")
    await checkpoint.stop()
    assert names(path) == ["state.json"]


@pytest.mark.asyncio
async def test_a_save_under_way_in_the_thread_is_waited_for_and_followed_by_the_last() -> None:
    store, run = ScriptedStore(), FakeRun()
    checkpoint = Checkpoint(store, save_every_seconds=0.005, save_every_messages=1)
    await checkpoint.start(run)
    store.hang = threading.Event()
    run.ledger.settle(1)
    await until(store.hanging.is_set)
    run.ledger.settle(2)
    # Let go while stop() waits, which blocks the loop.
    threading.Timer(0.05, store.hang.set).start()
    await checkpoint.stop()
    assert [state.done.text() for state in store.saved] == ["", "1", "1:2"]
    assert store.calls[-2:] == ["save", "close"]


@pytest.mark.asyncio
async def test_a_cancelled_stop_has_saved_and_let_go(path: Path) -> None:
    run = FakeRun()
    checkpoint = Checkpoint(path)
    await checkpoint.start(run)
    run.ledger.settle(1, 2, 3)
    stopping = asyncio.create_task(checkpoint.stop())
    await asyncio.sleep(0)
    # It has run up to its first await: by then everything is done.
    assert names(path) == ["state.json"]
    stopping.cancel()
    await asyncio.wait([stopping])
    assert kept_done(path) == "1:3"
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.asyncio
async def test_a_cancelled_start_lets_go(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, go_on = threading.Event(), threading.Event()
    load = JsonCheckpointStore.load

    def slow(self: JsonCheckpointStore, account: str, mailbox: str) -> CheckpointState | None:
        inside.set()
        assert go_on.wait(10)
        return load(self, account, mailbox)

    monkeypatch.setattr(JsonCheckpointStore, "load", slow)
    starting = asyncio.create_task(Checkpoint(path).start(FakeRun()))
    await until(inside.is_set)
    threading.Timer(0.05, go_on.set).start()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert names(path) == []
    assert not [thread for thread in threading.enumerate() if "imapipe-checkpoint" in thread.name]
    await complete_run(Checkpoint(path), FakeRun(), 1)


@pytest.mark.asyncio
async def test_errors_and_cancellations_of_a_batch_go_through(path: Path) -> None:
    checkpoint = Checkpoint(path)
    await checkpoint.start(FakeRun())

    async def cancelled(batch: Batch) -> BatchResult:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await checkpoint(Batch(1, uids("1")), cancelled)
    await checkpoint.stop()


# ---------------------------------------------------------------- when everything is done


@pytest.mark.parametrize("when_complete", ["keep", "delete"])
@pytest.mark.asyncio
async def test_a_complete_checkpoint_is_kept_or_deleted(path: Path, when_complete: str) -> None:
    run = FakeRun("1:10")
    checkpoint = Checkpoint(path, when_complete=when_complete, save_every_messages=3)  # type: ignore[arg-type]
    await checkpoint.start(run)
    run.ledger.settle(*range(1, 9))
    run.ledger.vanish(uids("9:10"))
    await checkpoint.stop()
    assert names(path) == (["state.json"] if when_complete == "keep" else [])
    assert checkpoint.done_all_runs == 8


@pytest.mark.asyncio
async def test_what_is_not_complete_is_never_deleted(path: Path) -> None:
    await complete_run(Checkpoint(path, when_complete="delete"), FakeRun("1:10"), *range(1, 10))
    assert kept_done(path) == "1:9"
    await complete_run(Checkpoint(path, when_complete="delete"), FakeRun("1:10"), failed="10")
    assert kept_done(path) == "1:9"
    run = FakeRun("1:10")
    run.ledger.skipped_count = 9
    # The server showed fewer messages than it holds.
    run.unaccounted = 1
    await complete_run(Checkpoint(path, when_complete="delete"), run, 10)
    assert kept_done(path) == "1:10"
    run = FakeRun("1:10")
    run.ledger.skipped_count = 10
    await complete_run(Checkpoint(path, when_complete="delete"), run)
    assert names(path) == []


@pytest.mark.asyncio
async def test_an_empty_mailbox_is_complete(path: Path) -> None:
    await complete_run(Checkpoint(path, when_complete="delete"), FakeRun(""))
    assert names(path) == []
    await complete_run(Checkpoint(path), FakeRun(""))
    assert kept_done(path) == ""
