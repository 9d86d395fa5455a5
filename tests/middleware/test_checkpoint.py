"""Checkpoint: runs that go on where the last one stopped."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.middleware.fakes import FakeRun, done, uids
from tests.store.stores import Database, LeasedStore

from imapipe import errors
from imapipe.errors import (
    CheckpointCorrupt,
    CheckpointError,
    CheckpointLocked,
    CheckpointLost,
    CheckpointMismatch,
    UidValidityChanged,
)
from imapipe.middleware import checkpoint_layer
from imapipe.middleware.base import Limit, Middleware, check_order
from imapipe.middleware.checkpoint import OUTAGES, Checkpoint
from imapipe.middleware.checkpoint_layer import CheckpointLayer
from imapipe.middleware.retry import Retry
from imapipe.models.batch import Batch, BatchResult, Failure
from imapipe.models.cursor import Cursor
from imapipe.models.json_value import JSON
from imapipe.pipeline.memory import done_all_runs_of, memory_of
from imapipe.store import json_files, threaded
from imapipe.store.checkpoint_state import CheckpointChange, CheckpointState
from imapipe.store.job_key import JobKey
from imapipe.store.json_store import JsonCheckpointHolding, JsonCheckpointStore
from imapipe.store.memory_store import MemoryCheckpointStore
from imapipe.store.threaded import ThreadedCheckpointHolding
from imapipe.wire.uid_set import UidSet

NEVER = 3_600.0


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.001)


async def succeed(batch: Batch) -> BatchResult:
    return done(batch)


def key_of(run: FakeRun, name: str = "", shard: str = "") -> JobKey:
    return JobKey(run.account, run.mailbox, name, shard)


def kept(path: Path, run: FakeRun | None = None, name: str = "") -> CheckpointState | None:
    """What another process would find."""
    return JsonCheckpointStore(path).peek(key_of(run or FakeRun(), name))


def kept_done(path: Path, run: FakeRun | None = None, name: str = "") -> str:
    state = kept(path, run, name)
    return state.done.text() if state else "no state"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.json"


async def complete_run(
    checkpoint: Checkpoint, run: FakeRun, *settled: int, failed: str = "", reason: str = "ValueError"
) -> CheckpointLayer:
    """A run in which these messages come to an outcome."""
    layer = await checkpoint.start(run)
    run.ledger.settle(*settled)
    run.ledger.fail(*(Failure(uid, reason) for uid in uids(failed)))
    await layer.stop()
    return layer


def damage(path: Path) -> None:
    path.write_text("{")


def kept_text(path: Path) -> str:
    return path.read_text()


def names(path: Path) -> list[str]:
    """What is in the folder of the checkpoint."""
    return sorted(entry.name for entry in path.parent.iterdir())


def die(path: Path, *layers: CheckpointLayer) -> None:
    """Leave everything as a killed process leaves it, but for the lock, which the system takes back."""
    for layer in layers:
        assert layer._ticker is not None
        layer._ticker.cancel()
        layer._unsubscribe()
        assert isinstance(layer._holding, ThreadedCheckpointHolding)
        layer._holding._thread.shutdown()
    file = json_files._files.pop((os.getpid(), str(path)))
    assert file._lock is not None
    file._lock.release()


# ---------------------------------------------------------------- resuming


@pytest.mark.asyncio
async def test_a_second_run_skips_what_is_done_and_tries_again_what_failed(path: Path) -> None:
    await complete_run(Checkpoint(path), FakeRun(), *range(1, 401), failed="401:410")
    run = FakeRun()
    layer = await Checkpoint(path).start(run)
    assert run.plan.remaining == uids("401:1000")
    result = await layer(Batch(1, uids("401:410")), succeed)
    assert result.done == uids("401:410")
    run.ledger.settle(*range(401, 406))
    run.ledger.fail(Failure(406, "TypeError"))
    await layer.stop()
    state = kept(path)
    assert state is not None
    assert state.done == uids("1:405")
    # Done leaves failed, another reason replaces the old one, what was not tried stays.
    assert state.failed == {"TypeError": uids("406"), "ValueError": uids("407:410")}


@pytest.mark.asyncio
async def test_what_failed_can_be_left_failed(path: Path) -> None:
    await complete_run(Checkpoint(path), FakeRun(), *range(1, 11), failed="11:15,2000")
    run = FakeRun("1:30")
    layer = await Checkpoint(path, retry_failed=False).start(run)
    assert run.plan.remaining == uids("16:30")
    assert set(run.refused) == {11, 12, 13, 14, 15}
    assert run.refused[11] == Failure(11, "ValueError", "failed in an earlier run and was not tried again")
    await layer.stop()
    state = kept(path)
    assert state is not None
    assert state.failed == {"ValueError": uids("11:15,2000")}
    assert state.counters.failed == 6


@pytest.mark.parametrize(
    ("retry_failed", "tried_again"),
    [
        (True, {"ValueError", "malformed", "Throttled", "UNAVAILABLE", "LIMIT 20"}),
        (False, {"Throttled", "UNAVAILABLE", "LIMIT 20"}),
        ((), {"Throttled", "UNAVAILABLE", "LIMIT 20"}),
        (["ValueError"], {"ValueError", "Throttled", "UNAVAILABLE", "LIMIT 20"}),
        ({"malformed", "other"}, {"malformed", "Throttled", "UNAVAILABLE", "LIMIT 20"}),
    ],
)
@pytest.mark.asyncio
async def test_what_failed_is_tried_again_by_its_reason(
    path: Path, retry_failed: bool | list[str], tried_again: set[str]
) -> None:
    """An outage says nothing of the message, so what failed for it is never left failed."""
    reasons = {11: "ValueError", 12: "malformed", 13: "Throttled", 14: "UNAVAILABLE", 15: "LIMIT 20"}
    for uid, reason in reasons.items():
        await complete_run(Checkpoint(path), FakeRun(), failed=str(uid), reason=reason)
    run = FakeRun("11:15")
    layer = await Checkpoint(path, retry_failed=retry_failed).start(run)
    assert {reasons[uid] for uid in run.plan.remaining} == tried_again
    assert {uid: failure.reason for uid, failure in run.refused.items()} == {
        uid: reason for uid, reason in reasons.items() if reason not in tried_again
    }
    await layer.stop()


def test_outages_are_reasons_that_failures_have() -> None:
    classes = {name for name in OUTAGES if not name.isupper()}
    assert all(issubclass(getattr(errors, name), errors.ImapipeError) for name in classes)
    assert len(classes) == 7


@pytest.mark.asyncio
async def test_counters_go_on_over_runs(path: Path) -> None:
    run = FakeRun()
    layer = await Checkpoint(path).start(run)
    run.bytes_received = 5_000
    run.ledger.settle(*range(1, 101))
    assert layer.done_all_runs == 0
    run.ledger.vanish(uids("500:509"))
    assert layer.done_all_runs == 100
    now = layer.state
    assert now is not None
    assert now.done == uids("1:100")
    await layer.stop()
    assert layer.done_all_runs == 100
    second = FakeRun()
    layer = await Checkpoint(path).start(second)
    second.ledger.settle(101, 102)
    second.ledger.fail(Failure(103, "E"))
    second.bytes_received = 100
    await layer.stop()
    assert layer.done_all_runs == 102
    state = kept(path)
    assert state is not None
    assert state == layer.state
    counters = state.counters
    assert (counters.runs, counters.done, counters.failed, counters.vanished) == (2, 102, 1, 10)
    assert counters.bytes_received == 5_100
    assert counters.elapsed_seconds > 0
    assert state.saved_at > state.started_at


@pytest.mark.asyncio
async def test_extra_values_are_carried_along(path: Path) -> None:
    run = FakeRun()
    holding = JsonCheckpointStore(path).open(key_of(run))
    holding.save(
        CheckpointState(
            account=run.account, mailbox=run.mailbox, uidvalidity=42, fingerprint="ALL full", extra={"bytes today": 7}
        )
    )
    holding.release()
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
async def test_uidnext_that_fell_is_refused_or_a_fresh_start(path: Path) -> None:
    """Seen at GMX: the UIDs of a mailbox begin anew under the same UIDVALIDITY."""
    first = FakeRun("1:100")
    first.cursor = Cursor(uidnext=101, highestmodseq=7, mailboxid="F1", exists=100)
    await complete_run(Checkpoint(path), first, *range(1, 101))
    rewound = FakeRun("1:39")
    rewound.cursor = Cursor(uidnext=40, exists=39)
    with pytest.raises(UidValidityChanged, match=r"UIDNEXT of 'INBOX' fell from 101 to 40 .*UIDVALIDITY 42") as caught:
        await Checkpoint(path).start(rewound)
    assert (caught.value.expected, caught.value.found) == (42, 42)
    assert (caught.value.expected_uidnext, caught.value.found_uidnext) == (101, 40)
    assert rewound.plan.remaining == rewound.plan.planned
    assert kept_done(path) == "1:100"
    await complete_run(Checkpoint(path, on_uidvalidity="restart"), rewound, 1)
    assert rewound.plan.remaining == rewound.plan.planned
    state = kept(path)
    assert state is not None
    assert state.done == uids("1")
    # What was known of the old messages is forgotten with them.
    assert state.cursor == Cursor(uidnext=40, highest_uid=1, exists=39)


@pytest.mark.asyncio
async def test_a_message_that_was_done_proves_it_where_uidnext_was_not_told(path: Path) -> None:
    await complete_run(Checkpoint(path), FakeRun("1:100"), *range(1, 101))
    rewound = FakeRun("1:49")
    rewound.cursor = Cursor(uidnext=50)
    with pytest.raises(UidValidityChanged, match="fell from 101 to 50"):
        await Checkpoint(path).start(rewound)
    silent = FakeRun("1:49")
    await complete_run(Checkpoint(path), silent)
    assert not silent.plan.remaining


@pytest.mark.asyncio
async def test_the_cursor_goes_forward_with_each_run(path: Path) -> None:
    for uidnext, modseq, wanted in [(101, 7, (101, 7)), (None, None, (101, 7)), (120, 9, (120, 9))]:
        run = FakeRun("1:100")
        run.cursor = Cursor(uidnext=uidnext, highestmodseq=modseq)
        await complete_run(Checkpoint(path), run, 5)
        state = kept(path)
        assert state is not None
        assert (state.cursor.uidnext, state.cursor.highestmodseq, state.cursor.highest_uid) == (*wanted, 5)


@pytest.mark.asyncio
async def test_another_search_is_refused_unless_it_is_named_or_accepted(path: Path) -> None:
    await complete_run(Checkpoint(path), FakeRun(), 1, 2, 3)
    other = FakeRun(fingerprint="UNSEEN envelope")
    with pytest.raises(CheckpointMismatch, match=r"state\.json.*another search or fetch"):
        await Checkpoint(path).start(other)
    assert kept_done(path) == "1:3"
    await complete_run(Checkpoint(path, on_mismatch="accept"), other, 4)
    assert kept_done(path) == "1:4"
    # It is the job of that search now.
    await complete_run(Checkpoint(path), other, 5)
    with pytest.raises(CheckpointMismatch):
        await Checkpoint(path).start(FakeRun())
    assert kept_done(path) == "1:5"


@pytest.mark.asyncio
async def test_jobs_of_other_names_and_shards_have_checkpoints_of_their_own(path: Path) -> None:
    await complete_run(Checkpoint(path), FakeRun(), 1, 2, 3)
    named = FakeRun(fingerprint="UNSEEN envelope")
    await complete_run(Checkpoint(path, name="export"), named, 4)
    assert named.plan.remaining == named.plan.planned
    # The name alone counts, whatever is searched.
    again = FakeRun()
    await complete_run(Checkpoint(path, name="export"), again, 5)
    assert again.plan.remaining == uids("1:3,5:1000")
    sharded = FakeRun()
    await complete_run(Checkpoint(path, shard="1/2"), sharded, 6)
    assert sharded.plan.remaining == sharded.plan.planned
    assert (kept_done(path), kept_done(path, name="export")) == ("1:3", "4:5")
    shard = JsonCheckpointStore(path).peek(key_of(FakeRun(), shard="1/2"))
    assert shard is not None
    assert shard.done == uids("6")


# ---------------------------------------------------------------- many runs, one file


def run_on(mailbox: str, planned: str = "1:1000") -> FakeRun:
    run = FakeRun(planned)
    run.mailbox = mailbox
    return run


@pytest.mark.asyncio
async def test_a_job_has_one_run_at_a_time(path: Path) -> None:
    first = Checkpoint(path)
    layer = await first.start(FakeRun())
    for second in (Checkpoint(path), Checkpoint(first.store), first):
        with pytest.raises(CheckpointLocked, match="this process has this job"):
            await second.start(FakeRun())
    # None of the refused took anything from the first.
    await layer(Batch(1, uids("1")), succeed)
    await layer.stop()
    await complete_run(Checkpoint(path), FakeRun(), 1)
    assert names(path) == ["state.json"]


@pytest.mark.parametrize("instances", ["one Checkpoint", "many Checkpoints"])
@pytest.mark.asyncio
async def test_many_mailboxes_at_the_same_time_share_one_file(path: Path, instances: str) -> None:
    shared = Checkpoint(path, save_every_seconds=0.005, save_every_messages=7)

    async def work(number: int) -> None:
        checkpoint = shared
        if instances == "many Checkpoints":
            checkpoint = Checkpoint(path, save_every_seconds=0.005, save_every_messages=7)
        run = run_on(f"m{number}", "1:200")
        layer = await checkpoint.start(run)
        for uid in range(1, 150 + number):
            run.ledger.settle(uid)
            if uid % 20 == 0:
                await asyncio.sleep(0.002)
        await layer.stop()
        assert layer.state.done == uids(f"1:{149 + number}")

    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(work(number))
    for number in range(8):
        assert kept_done(path, run_on(f"m{number}")) == f"1:{149 + number}"
    assert names(path) == ["state.json"]
    assert (os.getpid(), str(path)) not in json_files._files


@pytest.mark.asyncio
async def test_a_death_of_many_runs_loses_nothing_of_any(path: Path) -> None:
    checkpoint = Checkpoint(path, save_every_messages=10, save_every_seconds=NEVER)
    runs = [run_on(f"m{number}") for number in range(4)]
    layers = [await checkpoint.start(run) for run in runs]
    for number, run in enumerate(runs, 1):
        run.ledger.settle(*range(1, 10 * number + 1))
    # One of them saves in full, and one ends.
    await layers[0].save()
    await layers[1].stop()
    runs[2].ledger.settle(*range(31, 41))
    die(path, layers[0], *layers[2:])
    for number, done_so_far in enumerate(["1:10", "1:20", "1:40", "1:40"]):
        assert kept_done(path, run_on(f"m{number}")) == done_so_far


@pytest.mark.asyncio
async def test_what_runs_save_together_is_what_one_would(path: Path) -> None:
    """A full save that costs 20 seconds is due every 400, by all runs of the Checkpoint and not by each."""
    checkpoint = Checkpoint(path, save_every_seconds=NEVER)
    layers = [await checkpoint.start(run_on(f"m{number}")) for number in range(4)]
    now = asyncio.get_running_loop().time()
    for layer in layers:
        layer._save_seconds = 20.0
        layer._saved_at = now - 1_000.0
        assert not layer._may_save_in_full()
        layer._saved_at = now - 1_700.0
        assert layer._may_save_in_full()
    for layer in layers[1:]:
        await layer.stop()
    layers[0]._saved_at = now - 1_000.0
    assert layers[0]._may_save_in_full()
    await layers[0].stop()


@pytest.mark.asyncio
async def test_notes_are_shared_by_the_runs_of_an_account(path: Path) -> None:
    checkpoint = Checkpoint(path, save_every_seconds=NEVER)
    inbox, archive = await checkpoint.start(run_on("INBOX")), await checkpoint.start(run_on("Archive"))
    notes = await inbox.notes()
    assert notes.path == str(path)
    assert notes.get("budget") is None
    notes.put("budget", [1, 2])
    assert notes.get("budget") == [1, 2]
    assert (await archive.notes()).get("budget") == [1, 2]
    die(path, inbox, archive)
    layer = await Checkpoint(path).start(run_on("Sent"))
    assert (await layer.notes()).get("budget") == [1, 2]
    await layer.stop()


@pytest.mark.asyncio
async def test_a_value_is_kept_with_the_outcomes_that_it_belongs_to(path: Path) -> None:
    """Both are there after a death, and as long as there is a value the job is not complete."""
    checkpoint, run = Checkpoint(path, when_complete="delete", save_every_seconds=NEVER), FakeRun("1:3")
    layer = await run.start(checkpoint)
    assert layer.value("owed") is None
    layer.accompany("owed", lambda done, failed, vanished: (done | UidSet.from_numbers(failed)).text() or None)
    run.ledger.settle(1, 2)
    run.ledger.fail(Failure(3, "ValueError"))
    run.ledger.flush()
    await layer.make_durable()
    die(path, layer)
    found = kept(path)
    assert found is not None
    assert (found.done.text(), found.failed_uids.text(), dict(found.extra)) == ("1:2", "3", {"owed": "1:3"})
    again = FakeRun("1:3")
    layer = await again.start(checkpoint)
    assert layer.value("owed") == "1:3"
    again.ledger.settle(3)
    await layer.stop()
    assert kept_done(path) == "1:3", "it was deleted, with something left to do"
    last = FakeRun("1:3")
    layer = await last.start(checkpoint)
    layer.put_values({"owed": None, "other": None})
    last.ledger.skipped_count = 3
    await layer.stop()
    assert kept(path) is None


@pytest.mark.asyncio
async def test_a_value_that_cannot_be_kept_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = FakeRun()
    layer = await run.start(Checkpoint(path, save_every_seconds=NEVER))

    def full(*_: object) -> None:
        raise CheckpointError("the disk is full", path=str(path))

    with monkeypatch.context() as patched:
        patched.setattr(layer._holding, "append", full)
        with pytest.raises(CheckpointError, match="full"):
            layer.put_values({"owed": "1"})
        assert isinstance(run.failure, CheckpointError)
        with pytest.raises(CheckpointError, match="full"):
            await layer.make_durable()
    await layer.stop()


@pytest.mark.asyncio
async def test_a_note_alone_is_made_durable_too() -> None:
    store, run = ScriptedStore(), FakeRun()
    layer = await Checkpoint(store, save_every_seconds=0.001).start(run)
    (await layer.notes()).put("n", 1)
    await until(lambda: "sync" in store.calls)
    await asyncio.sleep(0.01)
    assert store.calls == ["open", "save", "notes", "note", "sync"]
    await layer.stop()


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
async def test_it_is_the_memory_of_the_pipeline(path: Path) -> None:
    checkpoint = Checkpoint(path, name="export")
    memory = memory_of([Retry(), checkpoint])
    assert memory is checkpoint
    assert memory_of([Retry()]) is None
    run = FakeRun("1:10")
    run.cursor = Cursor(uidnext=11)
    assert await memory.recall(run.account, run.mailbox) is None
    layer = await checkpoint.start(run)
    run.ledger.settle(1, 2)
    run.ledger.fail(Failure(3, "ValueError"))
    assert done_all_runs_of([layer]) == 0
    run.ledger.flush()
    assert done_all_runs_of([layer]) == 2
    await layer.stop()
    known = await memory.recall(run.account, run.mailbox)
    assert known is not None
    assert (known.uidvalidity, known.failed_uids, known.cursor) == (42, uids("3"), Cursor(uidnext=11, highest_uid=2))
    assert known == layer.state
    assert done_all_runs_of([]) is None
    assert await Checkpoint(path).recall(run.account, run.mailbox) is None


@pytest.mark.parametrize("outer", [Retry(), Limit()])
def test_it_stands_outside_of_what_tries_again_or_limits(path: Path, outer: Middleware) -> None:
    with pytest.raises(ValueError, match=f"Checkpoint must stand outside of {type(outer).__name__}"):
        check_order([outer, Checkpoint(path)])


def test_arguments_are_checked(path: Path) -> None:
    for options in (
        {"save_every_seconds": 0},
        {"save_every_messages": 0},
        {"on_uidvalidity": "ignore"},
        {"on_mismatch": "yes"},
        {"when_complete": "burn"},
        {"retry_failed": "ValueError"},
    ):
        with pytest.raises(ValueError):
            Checkpoint(path, **options)
    assert isinstance(Checkpoint("state.json").store, JsonCheckpointStore)
    assert isinstance(Checkpoint(Path("state.json")).store, JsonCheckpointStore)


# ---------------------------------------------------------------- what a death leaves


@pytest.mark.asyncio
async def test_each_group_is_kept_at_once_and_synchronously(path: Path) -> None:
    run = FakeRun("1:5000")
    layer = await Checkpoint(path, save_every_messages=500, save_every_seconds=NEVER).start(run)
    for uid in range(1, 2_000):
        run.ledger.settle(uid)
        # No await here: nothing but the callback can have done it.
        assert len(layer.state.done) == uid // 500 * 500
        if uid % 499 == 0:
            assert kept_done(path) == (f"1:{uid // 500 * 500}" if uid >= 500 else "")
    die(path, layer)
    run = FakeRun("1:5000")
    layer = await Checkpoint(path).start(run)
    assert run.plan.remaining == uids("1501:5000")
    await layer.stop()


@pytest.mark.asyncio
async def test_a_journal_is_counted_once_however_many_deaths_follow(path: Path) -> None:
    for _ in range(3):
        run = FakeRun()
        layer = await Checkpoint(path, save_every_messages=10, save_every_seconds=NEVER).start(run)
        if not layer.done_all_runs:
            run.ledger.settle(*range(1, 31))
        die(path, layer)
    state = kept(path)
    assert state is not None
    assert (state.counters.done, state.counters.runs) == (30, 3)


@pytest.mark.asyncio
async def test_what_is_less_than_a_group_is_kept_by_the_timer(path: Path) -> None:
    run = FakeRun()
    layer = await Checkpoint(path, save_every_seconds=0.01).start(run)
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
    die(path, layer)
    again = FakeRun()
    layer = await Checkpoint(path).start(again)
    assert again.plan.remaining == uids("4:1000")
    await layer.stop()


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
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(lives=st.lists(st.tuples(EVENTS, st.booleans()), min_size=1, max_size=4), every=st.integers(1, 40))
def test_any_lives_lose_nothing_and_repeat_less_than_a_group(
    tmp_path_factory: pytest.TempPathFactory, lives: list[tuple[list[tuple[str, int]], bool]], every: int
) -> None:
    path = tmp_path_factory.mktemp("lives") / "state.json"
    handled: set[int] = set()
    vanished: set[int] = set()

    async def live(events: list[tuple[str, int]], killed: bool) -> None:
        run = FakeRun(UidSet.from_numbers(set(range(1, 2_000)) - vanished))
        layer = await Checkpoint(path, save_every_messages=every, save_every_seconds=NEVER).start(run)
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
                await layer._tick()
        if killed:
            die(path, layer)
        else:
            await layer.stop()

    for events, killed in lives:
        asyncio.run(live(events, killed))


KILLED = """
import asyncio, os, sys
from imapipe.middleware.checkpoint import Checkpoint
from tests.middleware.fakes import FakeRun
from imapipe.wire.uid_set import UidSet

async def main():
    run = FakeRun(UidSet.from_ranges([(1, 1_000_000)]))
    await Checkpoint(sys.argv[1], save_every_messages=50, save_every_seconds=0.02).start(run)
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
        self.error: Exception = CheckpointError("No space left on device", path="memory")
        self.hang: threading.Event | None = None
        self.hanging = threading.Event()
        self.save_seconds = 0.0
        self.clock = 0.0
        self.threads: set[str] = set()

    def _call(self, name: str) -> None:
        self.calls.append(name)
        self.threads.add(f"{name}:{threading.current_thread().name.rpartition('_')[0]}")
        if name in self.fail:
            raise self.error

    def open(self, key: JobKey) -> ScriptedStore:
        self._call("open")
        return self

    def load(self) -> CheckpointState | None:
        return self.saved[-1] if self.saved else None

    def save(self, state: CheckpointState) -> None:
        self._call("save")
        self.clock += self.save_seconds
        if self.hang is not None:
            self.hanging.set()
            assert self.hang.wait(60)
        self.saved.append(state)

    def append(self, change: CheckpointChange) -> None:
        self._call("append")

    def sync(self) -> None:
        self._call("sync")

    def delete(self) -> None:
        self._call("delete")

    def notes(self) -> dict[str, JSON]:
        self._call("notes")
        return {}

    def put_note(self, name: str, value: JSON) -> None:
        self._call("note")

    def release(self) -> None:
        self._call("close")

    def peek(self, key: JobKey) -> CheckpointState | None:
        return self.load()

    def peek_all(self, keys: Sequence[JobKey]) -> dict[JobKey, CheckpointState]:
        return {key: state for key in keys if (state := self.load()) is not None}


@pytest.mark.asyncio
async def test_reading_and_saving_happen_in_a_thread_and_the_rest_in_the_loop() -> None:
    store, run = ScriptedStore(), FakeRun()
    layer = await Checkpoint(store, save_every_seconds=0.01, save_every_messages=1).start(run)
    run.ledger.settle(1)
    await until(lambda: len(store.saved) == 2)
    # Where the processor was busy the first save looks dear, and a tick before the second one only syncs.
    synced = {"sync:imapipe-checkpoint"}
    assert store.threads - synced == {"open:imapipe-checkpoint", "save:imapipe-checkpoint", "append:"}
    await layer.stop()
    in_thread = {f"{name}:imapipe-checkpoint" for name in ("open", "save", "close")}
    assert store.threads - synced == in_thread | {"append:"}
    assert [call for call in store.calls if call != "sync"] == ["open", "save", "append", "save", "save", "close"]
    assert [state.sequence for state in store.saved] == sorted({state.sequence for state in store.saved})
    assert not [thread for thread in threading.enumerate() if "imapipe-checkpoint" in thread.name]
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.asyncio
async def test_nothing_new_is_not_saved() -> None:
    store = ScriptedStore()
    run = FakeRun()
    layer = await Checkpoint(store, save_every_seconds=0.001).start(run)
    await asyncio.sleep(0.02)
    assert store.calls == ["open", "save"]
    run.ledger.settle(1)
    await until(lambda: len(store.saved) == 2)
    await asyncio.sleep(0.02)
    # Where the processor was busy the first save looks dear, and a tick before the second one only syncs.
    assert [call for call in store.calls if call != "sync"] == ["open", "save", "append", "save"]
    await layer.stop()


@pytest.mark.asyncio
async def test_an_expensive_state_is_synced_and_seldom_saved_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    store, run = ScriptedStore(), FakeRun()
    for module in (threaded, checkpoint_layer):
        monkeypatch.setattr(module, "time", SimpleNamespace(thread_time=lambda: store.clock))
    layer = await Checkpoint(store, save_every_seconds=0.005, save_every_messages=1).start(run)
    # A full save costs a minute of processor: the next one is due after twenty, and ticks come every 5 ms.
    store.save_seconds = 60.0
    for uid in itertools.count(1):
        run.ledger.settle(uid)
        if store.calls.count("sync") >= 10:
            break
        await asyncio.sleep(0.005)
    # When it began, and at the first tick that found it cheap.
    assert store.calls.count("save") == 2
    await layer.stop()
    assert len(store.saved[-1].done) == run.ledger.done_count


@pytest.mark.asyncio
async def test_a_failed_append_ends_the_run_at_the_next_batch_and_is_healed_by_a_save() -> None:
    store, run = ScriptedStore(), FakeRun()
    layer = await Checkpoint(store, save_every_seconds=NEVER, save_every_messages=10).start(run)
    store.fail = {"append", "save"}
    # The message that fills the group does not get the error: it was handled.
    run.ledger.settle(*range(1, 31))
    # Told at once, not when the next batch comes: the messages of this one are still being handed out.
    assert run.failure is store.error
    with pytest.raises(CheckpointError, match="No space left"):
        await layer(Batch(1, uids("31")), succeed)
    await layer._tick()
    with pytest.raises(CheckpointError, match="No space left"):
        await layer(Batch(1, uids("31")), succeed)
    store.fail = set()
    await layer._tick()
    await layer(Batch(1, uids("31")), succeed)
    assert store.saved[-1].done == uids("1:30")
    await layer.stop()


@pytest.mark.asyncio
async def test_a_disk_that_stays_full_ends_stop_with_the_error_and_still_lets_go() -> None:
    store, run = ScriptedStore(), FakeRun()
    layer = await Checkpoint(store, save_every_seconds=0.005, save_every_messages=1).start(run)
    store.fail = {"save", "sync"}
    run.ledger.settle(1)
    await until(lambda: store.calls.count("save") > 3)
    with pytest.raises(CheckpointError, match="No space left"):
        await layer(Batch(1, uids("31")), succeed)
    with pytest.raises(CheckpointError, match="No space left"):
        await layer.stop()
    assert store.calls[-1] == "close"
    assert asyncio.all_tasks() == {asyncio.current_task()}
    store.fail = set()
    await complete_run(Checkpoint(store), FakeRun(), 2)


@pytest.mark.asyncio
async def test_a_full_disk_on_the_real_file_loses_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = FakeRun()
    layer = await Checkpoint(path, save_every_seconds=NEVER, save_every_messages=10).start(run)
    run.ledger.settle(*range(1, 21))

    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    run.ledger.settle(*range(21, 31))
    assert isinstance(run.failure, CheckpointError)
    with pytest.raises(CheckpointError, match="journal cannot be written: No space left"):
        await layer(Batch(1, uids("31")), succeed)
    with pytest.raises(CheckpointError, match="cannot be written: No space left"):
        await layer.stop()
    monkeypatch.undo()
    assert names(path) == ["state.json", "state.json.journal"]
    again = FakeRun()
    layer = await Checkpoint(path).start(again)
    assert again.plan.remaining == uids("21:1000")
    await layer.stop()
    assert names(path) == ["state.json"]


@pytest.mark.asyncio
async def test_a_save_under_way_in_the_thread_is_waited_for_and_followed_by_the_last() -> None:
    store, run = ScriptedStore(), FakeRun()
    layer = await Checkpoint(store, save_every_seconds=0.005, save_every_messages=1).start(run)
    store.hang = threading.Event()
    run.ledger.settle(1)
    await until(store.hanging.is_set)
    run.ledger.settle(2)
    # Let go while stop() waits.
    threading.Timer(0.05, store.hang.set).start()
    await layer.stop()
    assert [state.done.text() for state in store.saved] == ["", "1", "1:2"]
    assert store.calls[-2:] == ["save", "close"]


@pytest.mark.asyncio
async def test_a_cancelled_stop_has_saved_and_let_go(path: Path) -> None:
    run = FakeRun()
    layer = await Checkpoint(path).start(run)
    run.ledger.settle(1, 2, 3)
    stopping = asyncio.create_task(layer.stop())
    for _ in range(3):
        await asyncio.sleep(0)
        stopping.cancel()
    await asyncio.wait([stopping])
    assert stopping.cancelled()
    # When it has ended, however it did, everything is done.
    assert names(path) == ["state.json"]
    assert kept_done(path) == "1:3"
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not [thread for thread in threading.enumerate() if "imapipe-checkpoint" in thread.name]


@pytest.mark.asyncio
async def test_stopping_holds_up_nothing_else() -> None:
    """Adding up, writing and waiting for the disk are done in the thread: other runs live in the same loop."""
    store, run = ScriptedStore(), FakeRun()
    layer = await Checkpoint(store, save_every_seconds=3600, save_every_messages=1).start(run)
    run.ledger.settle(1)
    store.hang = threading.Event()
    stopping = asyncio.create_task(layer.stop())
    await until(store.hanging.is_set)
    # A handler that was in hand when an error ended the run: it comes to its end.
    run.ledger.settle(2)
    assert not stopping.done()
    store.hang.set()
    await stopping
    assert [state.done.text() for state in store.saved] == ["", "1", "1:2"]
    assert store.calls[-2:] == ["save", "close"]


@pytest.mark.asyncio
async def test_a_cancelled_start_lets_go(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, go_on = threading.Event(), threading.Event()
    load = JsonCheckpointHolding.load

    def slow(self: JsonCheckpointHolding) -> CheckpointState | None:
        inside.set()
        assert go_on.wait(60)
        return load(self)

    monkeypatch.setattr(JsonCheckpointHolding, "load", slow)
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
    layer = await Checkpoint(path).start(FakeRun())

    async def cancelled(batch: Batch) -> BatchResult:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await layer(Batch(1, uids("1")), cancelled)
    await layer.stop()


# ---------------------------------------------------------------- when everything is done


@pytest.mark.parametrize("when_complete", ["keep", "delete"])
@pytest.mark.asyncio
async def test_a_complete_checkpoint_is_kept_or_deleted(path: Path, when_complete: str) -> None:
    run = FakeRun("1:10")
    checkpoint = Checkpoint(path, when_complete=when_complete, save_every_messages=3)  # type: ignore[arg-type]
    layer = await checkpoint.start(run)
    run.ledger.settle(*range(1, 9))
    run.ledger.vanish(uids("9:10"))
    await layer.stop()
    assert names(path) == (["state.json"] if when_complete == "keep" else [])
    assert layer.done_all_runs == 8


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


# ---------------------------------------------------------------- stores that wait on a network


@pytest.mark.asyncio
async def test_an_async_store_is_used_as_it_is_and_its_calls_never_overlap() -> None:
    database, run = Database(), FakeRun()
    checkpoint = Checkpoint(LeasedStore(database), save_every_seconds=0.002, save_every_messages=3)
    layer = await checkpoint.start(run)
    assert (await layer.notes()).get("n") is None
    for uid in range(1, 101):
        run.ledger.settle(uid)
        await asyncio.sleep(0.0005)
    await layer.stop()
    assert {"open", "load", "save", "notes", "sync", "release"} >= set(database.calls)
    assert database.calls[:3] == ["open", "load", "save"]
    assert database.calls[-2:] == ["save", "release"]
    assert database.states[key_of(run)].done == uids("1:100")
    assert database.owners == {}
    assert asyncio.all_tasks() == {asyncio.current_task()}
    known = await checkpoint.recall(run.account, run.mailbox)
    assert known == layer.state
    layer = await checkpoint.start(FakeRun())
    with pytest.raises(CheckpointLocked):
        await checkpoint.start(FakeRun())
    await layer.stop()
    # What an earlier process appended and did not save is there.
    run = FakeRun("1:200")
    await complete_run(checkpoint, run, 150)
    assert run.plan.remaining == uids("101:200")


@pytest.mark.asyncio
async def test_notes_wait_for_a_save_under_way() -> None:
    database, run = Database(), FakeRun()
    layer = await Checkpoint(LeasedStore(database), save_every_seconds=0.002, save_every_messages=1).start(run)
    database.hold = asyncio.Event()
    run.ledger.settle(1)
    await until(lambda: bool(database.held))
    noting = asyncio.create_task(layer.notes())
    await asyncio.sleep(0.01)
    # The database would raise if two calls were on their way.
    assert not noting.done()
    database.hold.set()
    assert (await noting).get("n") is None
    await layer.stop()


@pytest.mark.asyncio
async def test_a_cancelled_stop_of_an_async_store_has_saved_before_it_ends() -> None:
    database, run = Database(), FakeRun()
    layer = await Checkpoint(LeasedStore(database), save_every_seconds=NEVER).start(run)
    run.ledger.settle(1, 2, 3)
    database.hold = asyncio.Event()
    stopping = asyncio.create_task(layer.stop())
    await until(lambda: "save" in database.held)
    for _ in range(3):
        stopping.cancel()
        await asyncio.sleep(0)
    assert not stopping.done()
    database.hold.set()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert database.states[key_of(run)].done == uids("1:3")
    assert database.owners == {}
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.asyncio
async def test_a_save_under_way_on_a_network_is_waited_for_and_followed_by_the_last() -> None:
    database, run = Database(), FakeRun()
    layer = await Checkpoint(LeasedStore(database), save_every_seconds=0.002, save_every_messages=1).start(run)
    database.hold = asyncio.Event()
    run.ledger.settle(1)
    await until(lambda: bool(database.held))
    run.ledger.settle(2)
    stopping = asyncio.create_task(layer.stop())
    await asyncio.sleep(0.01)
    assert not stopping.done()
    database.hold.set()
    await stopping
    assert database.states[key_of(run)].done == uids("1:2")
    assert database.calls[-2:] == ["save", "release"]


@pytest.mark.parametrize("call", ["open", "load", "save"])
@pytest.mark.asyncio
async def test_a_cancelled_or_failed_start_gives_the_key_back(call: str) -> None:
    database, run = Database(), FakeRun()
    database.hold = asyncio.Event()
    starting = asyncio.create_task(Checkpoint(LeasedStore(database)).start(run))
    await until(lambda: "open" in database.held)
    if call != "open":
        database.hold.set()
        await until(lambda: "open" in database.calls)
        database.hold = asyncio.Event()
        await until(lambda: "load" in database.held)
    if call == "save":
        database.hold.set()
        database.hold = asyncio.Event()
        await until(lambda: "save" in database.held)
    starting.cancel()
    await asyncio.sleep(0)
    database.hold.set()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert database.owners == {}
    database.fail = lambda name: CheckpointError("no network") if name == call else None
    with pytest.raises(CheckpointError, match="no network"):
        await Checkpoint(LeasedStore(database)).start(run)
    assert database.owners == {}
    assert run.plan.remaining == run.plan.planned
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.asyncio
async def test_a_lost_key_ends_the_run_and_is_written_to_no_more() -> None:
    database, run = Database(), FakeRun()
    store = LeasedStore(database)
    layer = await Checkpoint(store, save_every_seconds=NEVER, save_every_messages=2).start(run)
    run.ledger.settle(1)
    await database.take_away(key_of(run))
    lost = CheckpointLost("its lease ran out")
    # As the thread does that renews the lease.
    await asyncio.to_thread(store.holdings[0].lost, lost)
    with pytest.raises(CheckpointLost, match="lease ran out"):
        await layer(Batch(1, uids("2")), succeed)
    await asyncio.sleep(0)
    assert run.failure is lost
    assert run.ended_at_once
    calls = list(database.calls)
    # A handler may not hear of its cancellation; what it did is not written.
    run.ledger.settle(2)
    await layer._tick()
    with pytest.raises(CheckpointLost):
        layer._put_note("n", 1)
    with pytest.raises(CheckpointLost, match="lease ran out"):
        await layer.stop()
    assert database.calls == calls
    assert [change.done for change in store.holdings[0].changes] == [uids("1")]


@pytest.mark.parametrize("by", ["append", "sync", "save"])
@pytest.mark.asyncio
async def test_a_call_that_finds_the_key_lost_ends_the_run_too(by: str) -> None:
    database, run = Database(), FakeRun()
    layer = await Checkpoint(LeasedStore(database), save_every_seconds=NEVER, save_every_messages=1).start(run)
    if by != "append":
        run.ledger.settle(1)
    await database.take_away(key_of(run))
    if by == "append":
        run.ledger.settle(1)
    elif by == "sync":
        layer._save_seconds = 1_000.0
        await layer._tick()
    else:
        layer._saved_at = -1_000.0
        await layer._tick()
    await asyncio.sleep(0)
    assert isinstance(run.failure, CheckpointLost)
    with pytest.raises(CheckpointLost):
        await layer(Batch(1, uids("2")), succeed)
    before = dict(database.states)
    with pytest.raises(CheckpointLost):
        await layer.stop()
    assert database.states == before


@pytest.mark.asyncio
async def test_a_key_lost_at_the_very_end_is_an_error_of_stop() -> None:
    database, run = Database(), FakeRun()
    layer = await Checkpoint(LeasedStore(database), save_every_seconds=NEVER).start(run)
    run.ledger.settle(1)
    await database.take_away(key_of(run))
    with pytest.raises(CheckpointLost):
        await layer.stop()
    assert run.failure is None or isinstance(run.failure, CheckpointLost)
    assert database.states[key_of(run)].done == uids("")


@pytest.mark.asyncio
async def test_a_store_that_raises_what_it_should_not_is_told_as_a_checkpoint_error() -> None:
    store, run = ScriptedStore(), FakeRun()
    layer = await Checkpoint(store, save_every_seconds=NEVER, save_every_messages=1).start(run)
    store.error = OSError(5, "Input/output error")
    store.fail = {"append"}
    run.ledger.settle(1)
    assert isinstance(run.failure, CheckpointError)
    assert run.failure.__cause__ is store.error
    with pytest.raises(CheckpointError, match=r"its store failed with OSError: .*Input/output error"):
        await layer(Batch(1, uids("2")), succeed)
    store.fail = set()
    await layer.stop()


@pytest.mark.asyncio
async def test_a_store_in_memory_serves_tests_of_jobs() -> None:
    store = MemoryCheckpointStore()
    run = FakeRun("1:10")
    await complete_run(Checkpoint(store), run, 1, 2)
    state = store.peek(key_of(run))
    assert state is not None
    assert state.done == uids("1:2")
    await complete_run(Checkpoint(store, when_complete="delete"), FakeRun(""))
    assert store.values == {}
