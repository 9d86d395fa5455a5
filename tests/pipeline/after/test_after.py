"""`on_done=` and `on_failed=`: each message is changed once, after its outcome, whatever happens on the way."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from tests.pipeline.world import OpenWorld, World, check_sums

import imapipe
from imapipe import search as q
from imapipe.models.json_value import JSON
from imapipe.pipeline.after import duty, layer
from imapipe.pipeline.after.layer import AfterLayer
from imapipe.pipeline.operation import recovery
from imapipe.store.json_store import JsonCheckpointHolding
from imapipe.testing import Act, CutAfterBytes, CutInput, Delay, Fault, Mailbox, Reply, Stall
from imapipe.testing.messages import make_messages

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("impatient")]

COUNT = 60
_TARGETS = ("Processed", "Failed")
BAD = set(range(10, COUNT + 1, 10))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of these tests does nothing any more when a connection has ended."""
    monkeypatch.setattr(recovery, "LOOK_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(layer, "GROUP_SECONDS", 0.01)


async def _open(open_world: OpenWorld, size: int = 2, **server: object) -> World:
    boxes = {"INBOX": Mailbox(make_messages(COUNT)), "Processed": Mailbox(), "Failed": Mailbox()}
    return await open_world(boxes, options={"max_size": size}, **server)


def _job(
    world: World, state: Path | None = None, *, renumbered: Literal["raise", "restart", "match"] = "raise"
) -> imapipe.Pipeline:
    job = world.pool.mailbox("INBOX").search(q.ALL).batch(10).fetch("flags")
    if state is not None:
        job = job.use(imapipe.Checkpoint(state, on_uidvalidity=renumbered))
    return job.use(imapipe.Retry(wait_initial_seconds=0))


def _where(world: World) -> dict[str, int]:
    return {name: len(world.server.mailboxes[name]) for name in ("INBOX", "Processed", "Failed")}


def _contents(world: World) -> Counter[bytes]:
    """How often each message is anywhere."""
    boxes = (world.server.mailboxes[name] for name in ("INBOX", "Processed", "Failed"))
    return Counter(bytes(message.content.raw) for box in boxes for message in box)


def _check_changes(report: imapipe.RunReport) -> None:
    check = report.changed + report.change_vanished + report.change_failed
    assert (report.changes_due, report.changes_owed) == (check, 0)


class Handler:
    """Fails with some messages, and counts its calls."""

    def __init__(self, bad: set[int] | None = None) -> None:
        self.bad = BAD if bad is None else bad
        self.calls: Counter[int] = Counter()

    async def __call__(self, message: imapipe.Message) -> None:
        self.calls[message.uid] += 1
        if message.uid in self.bad:
            raise ValueError("no")


class Lines:
    """A sink that refuses some messages."""

    async def open(self, run: object) -> None:
        """Nothing is opened."""

    async def write(self, messages: Sequence[imapipe.Message]) -> Mapping[int, Exception]:
        return {message.uid: ValueError("no") for message in messages if message.uid in BAD}

    async def commit(self) -> None:
        """Nothing is kept."""

    async def close(self) -> None:
        """Nothing is open."""


async def _by_handler(job: imapipe.Pipeline, **changes: imapipe.MessageChange) -> imapipe.RunReport:
    return await job.run(Handler(), **changes)  # type: ignore[arg-type]


async def _by_sink(job: imapipe.Pipeline, **changes: imapipe.MessageChange) -> imapipe.RunReport:
    return await job.run(Lines(), commit_every_messages=7, **changes)  # type: ignore[arg-type]


async def _by_iteration(job: imapipe.Pipeline, **changes: imapipe.MessageChange) -> imapipe.RunReport:
    async with job.stream(**changes) as stream:  # type: ignore[arg-type]
        async for message in stream:
            if message.uid in BAD:
                stream.fail(message, ValueError("no"))
    return stream.report


async def _by_batches(job: imapipe.Pipeline, **changes: imapipe.MessageChange) -> imapipe.RunReport:
    async with job.batches(on_error="record", **changes) as stream:  # type: ignore[arg-type]
        async for messages in stream:
            for message in messages:
                if message.uid in BAD:
                    stream.fail(message, ValueError("no"))
    return stream.report


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("face", [_by_handler, _by_sink, _by_iteration, _by_batches])
async def test_each_message_is_changed_after_its_outcome(
    open_world: OpenWorld, tmp_path: Path, face: Callable[..., Awaitable[imapipe.RunReport]], size: int
) -> None:
    world = await _open(open_world, size)
    job = _job(world, tmp_path / "state.json" if size > 1 else None)
    report = await face(job, on_done=imapipe.move_to("Processed"), on_failed=imapipe.add_flags("$Failed"))
    check_sums(report)
    _check_changes(report)
    assert (report.done, report.failed, report.changes_due, report.changed) == (54, 6, COUNT, COUNT)
    assert _where(world) == {"INBOX": 6, "Processed": 54, "Failed": 0}
    inbox = world.server.mailboxes["INBOX"]
    assert {message.uid for message in inbox if "$Failed" in inbox.flags_of(message.uid)} == BAD
    # What is read is read in EXAMINE, and no message is marked as seen.
    assert not any("\\Seen" in inbox.flags_of(message.uid) for message in inbox)
    told = report.to_dict()
    assert (told["changes_due"], told["changes_owed"], told["change_failures"]) == (COUNT, 0, {})
    assert "60 of 60 made" in report.table()


async def test_following_and_all_mailboxes_change_their_messages_too(open_world: OpenWorld, tmp_path: Path) -> None:
    world = await _open(open_world, 3)
    every = world.pool.each("*", exclude=["Processed"]).search(q.ALL).fetch("flags")
    report = await every.run(Handler(), on_done=imapipe.move_to("Processed"))
    assert (report.done, report.changed, report.change_failed) == (54, 54, 0)
    assert _where(world) == {"INBOX": 6, "Processed": 54, "Failed": 0}
    world.server.mailboxes["INBOX"].expunge(sorted(BAD))
    follow = _job(world, tmp_path / "state.json").follow(Handler(), on_done=imapipe.move_to("Failed"))
    task = asyncio.ensure_future(_ended(follow))
    world.server.mailboxes["INBOX"].extend(make_messages(3, seed=5))
    while len(world.server.mailboxes["Failed"]) < 3:  # noqa: ASYNC110 - the server has no event for it
        await asyncio.sleep(0.01)
    follow.stop()
    followed = await task
    assert (followed.done, followed.changed, followed.change_failed) == (3, 3, 0)


async def _ended(follow: imapipe.Follow) -> imapipe.FollowReport:
    return await follow


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("renumber", [False, True])
@pytest.mark.parametrize("kind", ["move", "copy", "add"])
@pytest.mark.parametrize(
    "moment", ["before the intent", "after it", "after the reply", "before the result", "after it all"]
)
async def test_a_crash_between_handler_and_change_ends_in_the_change(
    open_world: OpenWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, moment: str, renumber: bool
) -> None:
    """What is on the disk at that moment is what the next run finds; the server goes no further, or numbers anew."""
    world = await _open(open_world, extensions={"UIDPLUS", "MOVE", "CONDSTORE", "ENABLE"})
    change = {
        "move": imapipe.move_to("Processed"),
        "copy": imapipe.copy_to("Processed"),
        "add": imapipe.add_flags("$Done"),
    }[kind]
    state, handler = tmp_path / "state.json", Handler(set())
    job = _job(world, state, renumbered="match")
    saved = tmp_path / "saved"

    def die() -> None:
        shutil.copytree(tmp_path, saved, ignore=shutil.ignore_patterns("saved"))
        raise Killed

    intend, answered = duty.KeptJournal.intend, duty.KeptJournal.answered
    command = {"move": "uid_move", "copy": "uid_copy", "add": "uid_store"}[kind]
    send = getattr(imapipe.Connection, command)

    async def dying_intend(self: duty.KeptJournal, intent: object) -> None:
        if moment == "before the intent":
            die()
        await intend(self, intent)  # type: ignore[arg-type]
        if moment == "after it":
            die()

    def dying_answered(self: duty.KeptJournal, result: object) -> None:
        if moment == "before the result":
            die()
        answered(self, result)  # type: ignore[arg-type]
        die()

    async def dying_send(self: imapipe.Connection, *given: object, **named: object) -> object:
        result = await send(self, *given, **named)
        if moment == "after the reply":
            die()
        return result

    with monkeypatch.context() as patched:
        patched.setattr(duty.KeptJournal, "intend", dying_intend)
        patched.setattr(duty.KeptJournal, "answered", dying_answered)
        patched.setattr(imapipe.Connection, command, dying_send)
        with pytest.raises((Killed, BaseExceptionGroup)):
            await job.run(handler, on_done=change)
    for file in saved.iterdir():
        shutil.copy(file, tmp_path / file.name)
    if renumber:
        # Most of the old numbers are those of other messages now.
        world.server.mailboxes["INBOX"].renumber(1_700_000_000, first_uid=31)
    report = await job.run(handler, on_done=change)
    check_sums(report)
    _check_changes(report)
    assert report.complete, report.table()
    inbox = world.server.mailboxes["INBOX"]
    # A message that was handled and not recorded may be handled again; none is changed twice, none is left out.
    if kind == "move":
        assert _where(world) == {"INBOX": 0, "Processed": COUNT, "Failed": 0}
        assert set(_contents(world).values()) == {1}
    elif kind == "copy":
        assert _where(world) == {"INBOX": COUNT, "Processed": COUNT, "Failed": 0}
        assert set(_contents(world).values()) == {2}
    else:
        assert all("$Done" in inbox.flags_of(message.uid) for message in inbox)
    if not renumber:
        assert set(handler.calls) == set(range(1, COUNT + 1))


async def test_what_is_kept_with_each_group_of_outcomes_is_small(
    open_world: OpenWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The intent of a command under way names each of its messages: it is written once, not with every outcome."""
    changes: list[imapipe.CheckpointChange] = []
    append = JsonCheckpointHolding.append

    def watch(self: JsonCheckpointHolding, change: imapipe.CheckpointChange) -> None:
        changes.append(change)
        append(self, change)

    monkeypatch.setattr(JsonCheckpointHolding, "append", watch)
    world = await _open(open_world)
    under_way = asyncio.Event()
    world.server.faults.add(Act(lambda record: under_way.set(), command="UID MOVE"), Delay(0.2, command="UID MOVE"))

    async def handle(message: imapipe.Message) -> None:
        if message.uid > 20:
            await under_way.wait()

    layers = (imapipe.Checkpoint(tmp_path / "state.json", save_every_messages=5), imapipe.Retry())
    job = world.pool.mailbox("INBOX").search(q.ALL).batch(10).fetch("flags").use(*layers)
    report = await job.run(handle, on_done=imapipe.move_to("Processed"))
    assert (report.changed, report.complete) == (COUNT, True)
    with_outcomes = [change for change in changes if change.done]
    assert len(with_outcomes) >= COUNT // 5
    assert all("after" in change.extra and "after commands" not in change.extra for change in with_outcomes)
    assert max(len(change.to_json()) for change in with_outcomes) < 500
    assert sum("after commands" in change.extra for change in changes) <= 2 * len(
        world.server.commands.named("UID MOVE")
    )


@pytest.mark.parametrize("cut", [CutInput, lambda **given: CutAfterBytes(0, **given)])
async def test_a_connection_that_is_cut_in_the_command_is_followed_by_the_truth(
    open_world: OpenWorld, cut: Callable[..., Fault]
) -> None:
    world = await _open(open_world)
    for name in ("UID MOVE", "UID STORE"):
        world.server.faults.add(cut(command=name, nth=1))
    report = await _by_handler(
        _job(world), on_done=imapipe.move_to("Processed"), on_failed=imapipe.add_flags("$Failed")
    )
    _check_changes(report)
    assert (report.changed, report.change_failed) == (COUNT, 0)
    assert report.reconnects >= 1
    assert (_where(world)["Processed"], set(_contents(world).values())) == (54, {1})


async def test_what_cannot_be_changed_is_told_kept_and_changed_by_the_next_run(
    open_world: OpenWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer, "MOST_FRUITLESS", 2)
    monkeypatch.setattr(layer, "GROUP_MESSAGES", 10)
    world = await _open(open_world)
    fault = Reply("NO", "Not now", "CANNOT", command="UID MOVE")
    world.server.faults.add(fault)
    handler = Handler(set())
    report = await _job(world, tmp_path / "state.json").run(handler, on_done=imapipe.move_to("Processed"))
    check_sums(report)
    assert not report.complete
    assert report.changed == 0
    assert report.change_failed >= 10
    assert {failure.reason for failure in report.change_failures.values()} == {"CANNOT"}
    assert report.changes_due == report.change_failed + report.changes_owed
    assert "change failed: CANNOT" in report.table()
    world.server.faults.remove(fault)
    again = await _job(world, tmp_path / "state.json").run(handler, on_done=imapipe.move_to("Processed"))
    _check_changes(again)
    assert (again.changed, again.complete) == (COUNT, True)
    assert set(handler.calls.values()) == {1}
    assert _where(world)["Processed"] == COUNT


async def test_the_run_stops_asking_where_changes_cannot_be_made(
    open_world: OpenWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more are handled than may be owed, and what was not tried says why."""
    monkeypatch.setattr(layer, "MOST_OWED", 10)
    monkeypatch.setattr(layer, "GROUP_MESSAGES", 5)
    world = await _open(open_world)
    world.server.faults.add(Reply("NO", "Not now", "CANNOT", command="UID MOVE"))
    report = await _job(world).depth(1).run(Handler(set()), connections=1, on_done=imapipe.move_to("Processed"))
    check_sums(report)
    assert report.done < COUNT
    assert "changes that follow messages cannot be made: CANNOT" in report.failures[COUNT].detail


async def test_a_failed_message_whose_move_is_owed_is_moved_and_not_tried_again(
    open_world: OpenWorld, tmp_path: Path
) -> None:
    world = await _open(open_world)
    fault = Reply("NO", "Not now", "CANNOT", command="UID MOVE")
    world.server.faults.add(fault)
    handler = Handler()
    state = tmp_path / "state.json"
    first = await _job(world, state).run(handler, on_failed=imapipe.move_to("Failed"))
    assert (first.failed, first.change_failed) == (6, 6)
    world.server.faults.remove(fault)
    second = await _job(world, state).run(handler, on_failed=imapipe.move_to("Failed"))
    check_sums(second)
    assert (second.planned, second.skipped, second.failed, second.changed) == (COUNT, 54, 6, 6)
    assert {failure.reason for failure in second.failures.values()} == {"changed-now"}
    assert set(handler.calls.values()) == {1}
    third = await _job(world, state).run(handler, on_failed=imapipe.move_to("Failed"))
    assert (third.planned, third.changes_due, third.complete) == (54, 0, True)
    assert _where(world)["Failed"] == 6


async def test_a_failed_message_that_stays_is_flagged_tried_again_and_done(
    open_world: OpenWorld, tmp_path: Path
) -> None:
    world = await _open(open_world)
    changes = {"on_done": imapipe.move_to("Processed"), "on_failed": imapipe.add_flags("$Failed")}
    state = tmp_path / "state.json"
    await _job(world, state).run(Handler(), **changes)  # type: ignore[arg-type]
    report = await _job(world, state).run(Handler(set()), **changes)  # type: ignore[arg-type]
    assert (report.done, report.changed, report.complete) == (6, 6, True)
    assert _where(world)["Processed"] == COUNT
    processed = world.server.mailboxes["Processed"]
    assert sum("$Failed" in processed.flags_of(message.uid) for message in processed) == 6


async def test_what_an_outage_kept_from_being_tried_is_not_changed(open_world: OpenWorld) -> None:
    world = await _open(open_world)
    world.server.faults.add(Reply("NO", "Busy", "LIMIT", command="UID FETCH"))
    job = world.pool.mailbox("INBOX").search(q.ALL).batch(10).fetch("flags")
    report = await job.run(Handler(), on_failed=imapipe.move_to("Failed"))
    assert report.failed == COUNT
    assert (report.changes_due, _where(world)["Failed"]) == (0, 0)


async def test_somebody_elses_removal_is_no_failure(open_world: OpenWorld) -> None:
    world = await _open(open_world)
    inbox = world.server.mailboxes["INBOX"]
    world.server.faults.add(Act(lambda record: inbox.expunge([1, 2]), command="UID MOVE", nth=1))
    report = await _job(world).run(Handler(set()), on_done=imapipe.move_to("Processed"))
    _check_changes(report)
    assert (report.done, report.change_vanished, report.change_failed) == (COUNT, 2, 0)


async def test_cancelling_waits_for_the_change_under_way(open_world: OpenWorld, tmp_path: Path) -> None:
    world = await _open(open_world)
    world.server.faults.add(Delay(0.2, command="UID MOVE", nth=1))
    under_way = asyncio.Event()
    world.server.faults.add(Act(lambda record: under_way.set(), command="UID MOVE"))
    seen: list[int] = []

    async def handle(message: imapipe.Message) -> None:
        if message.uid > 5:
            await asyncio.sleep(3600)
        seen.append(message.uid)

    state = tmp_path / "state.json"
    task = asyncio.create_task(_job(world, state).run(handle, concurrency=6, on_done=imapipe.move_to("Processed")))
    await under_way.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert _where(world) == {"INBOX": COUNT - 5, "Processed": 5, "Failed": 0}
    report = await _job(world, state).run(Handler(set()), on_done=imapipe.move_to("Processed"))
    assert (report.changes_due, report.changed, report.complete) == (COUNT - 5, COUNT - 5, True)


@pytest.mark.parametrize("is_cancelled_again", [False, True])
async def test_a_change_that_does_not_come_back_is_waited_for_only_so_long_and_the_next_run_makes_it(
    open_world: OpenWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_cancelled_again: bool
) -> None:
    """Shorter where all tasks are cancelled, as at the end of a loop."""
    monkeypatch.setattr("imapipe.pipeline.after.layer.DRAIN_SECONDS", 3600.0 if is_cancelled_again else 0.01)
    boxes = {"INBOX": Mailbox(make_messages(COUNT)), "Processed": Mailbox(), "Failed": Mailbox()}
    patient = {"stall_timeout_seconds": 3600, "command_timeout_seconds": 3600}
    world = await open_world(boxes, options=patient)
    world.server.faults.add(Stall(command="UID MOVE", nth=1))
    under_way, stopping = asyncio.Event(), asyncio.Event()
    stop = AfterLayer.stop

    async def tell_and_stop(layer: AfterLayer) -> None:
        stopping.set()
        await stop(layer)

    monkeypatch.setattr(AfterLayer, "stop", tell_and_stop)
    world.server.faults.add(Act(lambda record: under_way.set(), command="UID MOVE"))

    async def handle(message: imapipe.Message) -> None:
        if message.uid > 5:
            await asyncio.sleep(3600)

    state = tmp_path / "state.json"
    task = asyncio.create_task(_job(world, state).run(handle, concurrency=6, on_done=imapipe.move_to("Processed")))
    await under_way.wait()
    task.cancel()
    if is_cancelled_again:
        await stopping.wait()
        (driver,) = [each for each in asyncio.all_tasks() if each.get_name() == "imapipe run INBOX"]
        driver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.pool.stats.leased == 0
    world.server.release_stalls()
    report = await _job(world, state).run(Handler(set()), on_done=imapipe.move_to("Processed"))
    assert report.complete
    assert _where(world) == {"INBOX": 0, "Processed": COUNT, "Failed": 0}


async def test_an_iteration_that_is_left_has_changed_what_was_done(open_world: OpenWorld) -> None:
    world = await _open(open_world)
    async with _job(world).stream(on_done=imapipe.move_to("Processed")) as stream:
        async for message in stream:
            if message.uid == 8:
                break
    assert _where(world) == {"INBOX": COUNT - 7, "Processed": 7, "Failed": 0}


async def test_limits_and_retry_stand_around_changes(open_world: OpenWorld) -> None:
    world = await _open(open_world)
    world.server.faults.add(Reply("NO", "Too many", "LIMIT", command="UID MOVE", times=2))
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    job = world.pool.mailbox("INBOX").search(q.ALL).fetch("flags").use(imapipe.Retry(sleep=sleep))
    report = await job.run(Handler(set()), on_done=imapipe.move_to("Processed"))
    assert (report.changed, report.retries, report.complete) == (COUNT, 2, True)
    assert waited == [5.0, 5.0] or min(waited) >= 5.0


async def test_what_cannot_be_done_is_refused_before_anything_is_fetched(open_world: OpenWorld, tmp_path: Path) -> None:
    world = await _open(open_world)
    job, handler = _job(world), Handler()
    with pytest.raises(TypeError, match=r"takes a change such as imapipe.move_to"):
        await job.run(handler, on_done="Processed")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"takes a change such as imapipe.move_to"):
        job.follow(handler, on_failed=print)  # type: ignore[call-overload]
    for text in ("1:10", "UNSEEN 5", "OR 7 SEEN", "(2,4)", "FROM ann 3:*"):
        with pytest.raises(ValueError, match="place in it"):
            await job.search(q.raw(text)).run(handler, on_done=imapipe.move_to("Processed"))
    assert not any(q.raw(text).uses_sequence for text in ("UID 1:10", "LARGER 10", 'SUBJECT "1:10"', "UNSEEN"))
    with pytest.raises(ValueError, match="exclude="):
        await world.pool.each("*").search(q.ALL).run(handler, on_done=imapipe.move_to("Processed"))
    for change, error in (
        (imapipe.move_to("inbox"), "already"),
        (imapipe.move_to("No such"), "No such"),
        (imapipe.delete(), "Trash"),
    ):
        with pytest.raises(imapipe.CommandNo, match=error):
            await job.run(handler, on_done=change)
    world.server.mailboxes["INBOX"].read_only = True
    with pytest.raises(imapipe.CommandNo, match="READ-ONLY"):
        await job.run(handler, on_failed=imapipe.add_flags("$Failed"))
    with pytest.raises(TypeError, match="on_done"):
        await job.move_to("Processed").run(on_done=imapipe.delete())  # type: ignore[call-arg]
    assert not world.asked
    assert not handler.calls


@pytest.mark.parametrize("how", ["match", "restart"])
@pytest.mark.parametrize("uidvalidity", [None, 1_700_000_000])
async def test_what_is_owed_follows_its_messages_into_a_new_numbering(
    open_world: OpenWorld, tmp_path: Path, how: Literal["match", "restart"], uidvalidity: int | None
) -> None:
    """Also where UIDVALIDITY stays and UIDNEXT fell; who is not found again is told of, and nobody else is changed."""
    world = await _open(open_world)
    fault = Reply("NO", "Not now", "CANNOT", command="UID MOVE")
    world.server.faults.add(fault)
    job = _job(world, tmp_path / "state.json", renumbered=how)
    changes = {"on_done": imapipe.move_to("Processed"), "on_failed": imapipe.move_to("Failed")}
    first = await _by_handler(job, **changes)
    assert (first.done, first.failed, first.changed, first.change_failed) == (54, 6, 0, COUNT)
    world.server.faults.remove(fault)
    old = world.server.mailboxes.remove("INBOX")
    mails = [bytes(message.content.raw) for message in old]
    # Three are gone, and the rest is in another order.
    left = [*mails[40:57], *mails[:40]]
    world.server.mailboxes.add("INBOX", Mailbox(left, uidvalidity=uidvalidity or old.uidvalidity))
    report = await job.run(Handler(set(range(1, COUNT + 1))), on_done=imapipe.move_to("Processed"))
    _check_changes(report)
    assert {failure.reason for failure in report.change_failures.values()} == {"renumbered"}
    processed, failed = ([bytes(mail.content.raw) for mail in world.server.mailboxes[name]] for name in _TARGETS)
    if how == "restart":
        # What was owed to messages under their old numbers is owed to nobody.
        assert (report.changed, report.change_failed, report.failed, processed, failed) == (0, COUNT, 57, [], [])
    else:
        assert (report.changed, report.change_failed) == (57, 3)
        assert sorted(processed) == sorted(mail for number, mail in enumerate(mails[:57], 1) if number % 10)
        assert sorted(failed) == sorted(mails[9:57:10])
    again = await job.run(Handler(set()), on_done=imapipe.move_to("Processed"))
    assert (again.change_failed, again.complete) == (0, True)


async def test_what_is_owed_is_read_with_care(open_world: OpenWorld, tmp_path: Path) -> None:
    """What is no list of duties is refused; a mailbox that was renumbered has nobody left to be changed."""
    world = await _open(open_world)
    fault = Reply("NO", "Not now", "CANNOT", command="UID MOVE")
    world.server.faults.add(fault)
    state = tmp_path / "state.json"
    await _job(world, state).run(Handler(set()), on_done=imapipe.move_to("Processed"))
    world.server.faults.remove(fault)
    world.server.mailboxes["INBOX"].renumber(1_700_000_000)
    restarting = (
        world.pool.mailbox("INBOX")
        .search(q.ALL)
        .fetch("flags")
        .use(imapipe.Checkpoint(state, on_uidvalidity="restart"))
    )
    report = await restarting.run(Handler(set()), on_done=imapipe.move_to("Processed"))
    _check_changes(report)
    assert (report.done, report.changed, report.change_failed) == (COUNT, COUNT, COUNT)
    assert {failure.reason for failure in report.change_failures.values()} == {"renumbered"}
    assert (await restarting.run(Handler(set()), on_done=imapipe.move_to("Processed"))).complete
    assert (await restarting.run(Handler(set()))).complete
    store = imapipe.JsonCheckpointStore(state)
    holding = store.open(imapipe.JobKey(world.pool.account, "INBOX"))
    found = holding.load()
    assert found is not None
    damaged: list[JSON] = [3, [3], [{"outcome": "done", "job": {}, "owed": ""}]]
    for wrong in damaged:
        found = replace(found, sequence=found.sequence + 1, extra={"after": wrong})
        holding.save(found)
        holding.release()
        with pytest.raises(imapipe.CheckpointCorrupt, match="owes to messages"):
            await restarting.run(Handler(set()), on_done=imapipe.move_to("Processed"))
        holding = store.open(imapipe.JobKey(world.pool.account, "INBOX"))
    holding.release()
