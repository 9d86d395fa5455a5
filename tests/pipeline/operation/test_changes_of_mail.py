"""Flags, moves, copies and removals: every message ends in one place, whatever happens on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from tests.pipeline.world import OpenWorld, World, check_sums

import imapipe
from imapipe import search as q
from imapipe.journal.entry import each_pair
from imapipe.journal.journal import read_journal
from imapipe.pipeline.operation import flagging, recovery
from imapipe.testing import Act, CommandRecord, GmailMailboxes, Mailbox, Reply, Rewrite
from imapipe.testing.messages import make_messages

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("impatient")]

COUNT = 60
MOVES = {"UID MOVE"}
COPIES = {"UID COPY", "UID STORE", "UID EXPUNGE"}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of these tests does nothing any more when a connection has ended."""
    monkeypatch.setattr(recovery, "LOOK_AGAIN_SECONDS", 0.0)


async def _open(open_world: OpenWorld, **server: object) -> World:
    boxes = {"INBOX": Mailbox(make_messages(COUNT)), "Archive": Mailbox(make_messages(3, seed=9))}
    return await open_world(boxes, **server)


def _uids(box: Mailbox) -> list[int]:
    return [message.uid for message in box]


def _subjects(world: World, *names: str) -> Counter[bytes]:
    """How often each message is in some mailboxes, by its bytes."""
    boxes = (world.server.mailboxes[name] for name in names)
    return Counter(bytes(box[uid].content.raw) for box in boxes for uid in _uids(box))


def _job(world: World, size: int = 10) -> imapipe.Pipeline:
    return world.pool.mailbox("INBOX").search(q.ALL).batch(size).use(imapipe.Retry(wait_initial_seconds=0))


async def test_flags_are_changed_where_they_differ(open_world: OpenWorld, tmp_path: Path) -> None:
    world = await _open(open_world)
    box = world.server.mailboxes["INBOX"]
    for uid in _uids(box):
        box.set_flags(uid, frozenset({"\\Seen"}) if uid % 2 else frozenset())
    journal = tmp_path / "flags.jsonl"
    report = await _job(world).add_flags("\\Seen", "$Work").run(journal=journal)
    check_sums(report)
    assert (report.planned, report.done, report.complete) == (COUNT, COUNT, True)
    assert all(box.flags_of(uid) == {"\\Seen", "$Work"} for uid in _uids(box))
    again = await _job(world).add_flags("\\Seen", "$Work").run(journal=journal)
    assert (again.done, again.skipped) == (0, COUNT)
    stores = len(world.server.commands.named("UID STORE"))
    assert stores == COUNT // 10
    # Without a journal nothing is skipped, and nothing is sent either: all of them have the flags.
    assert (await _job(world).add_flags("$work").run()).done == COUNT
    assert len(world.server.commands.named("UID STORE")) == stores
    await _job(world).set_flags("$Other").run()
    await _job(world).limit(1).remove_flags("$Other").run()
    assert Counter(box.flags_of(uid) for uid in _uids(box)) == {frozenset({"$Other"}): COUNT - 1, frozenset(): 1}


async def test_a_journal_is_not_taken_for_that_of_messages_that_have_its_uids_now(
    open_world: OpenWorld, tmp_path: Path
) -> None:
    """Under the same UIDVALIDITY, where UIDNEXT fell: they were skipped, as if they were done."""
    world = await _open(open_world)
    box = world.server.mailboxes["INBOX"]
    assert (await _job(world).add_flags("$Work").run(journal=tmp_path / "flags")).done == COUNT
    box.rewind_uidnext(COUNT - 5)
    for _ in range(3):
        box.append(b"Subject: new\r\n\r\nnew\r\n")
    with pytest.raises(imapipe.UidValidityChanged, match="begin another journal"):
        await _job(world).add_flags("$Work").run(journal=tmp_path / "flags")
    assert (await _job(world).add_flags("$Work").run(journal=tmp_path / "other")).complete
    assert all("$Work" in box.flags_of(uid) for uid in _uids(box))


@pytest.mark.parametrize("remove", [(), ("MOVE",), ("OBJECTID",), ("MOVE", "OBJECTID", "CONDSTORE")])
async def test_a_move_loses_nothing_and_doubles_nothing(
    open_world: OpenWorld, tmp_path: Path, remove: Iterable[str]
) -> None:
    world = await _open(open_world, remove_extensions=remove)
    before = _subjects(world, "INBOX", "Archive")
    report = await _job(world).move_to("Archive").run(journal=tmp_path / "move.jsonl")
    check_sums(report)
    assert (report.done, report.complete) == (COUNT, True)
    assert _subjects(world, "INBOX").total() == 0
    assert _subjects(world, "Archive") == before
    story = read_journal(tmp_path / "move.jsonl")
    assert story.pending is None
    pairs = [pair for _, result in story.steps for pair in each_pair(result.pairs)]
    assert pairs == [(uid, uid + 3) for uid in range(1, COUNT + 1)]


async def test_without_uidplus_a_removal_only_marks_and_says_so(open_world: OpenWorld) -> None:
    world = await _open(open_world, extensions="plain")
    report = await _job(world, 3).limit(5).delete(permanently=True).run()
    assert (report.done, {note.kind: count for note, count in report.notes.items()}) == (5, {"only-marked": 5})
    box = world.server.mailboxes["INBOX"]
    assert sum("\\Deleted" in box.flags_of(uid) for uid in _uids(box)) == 5
    assert not {record.name for record in world.server.commands} & {"EXPUNGE", "CLOSE", "UID EXPUNGE"}


async def test_a_removal_goes_to_the_trash_or_for_good(open_world: OpenWorld) -> None:
    boxes = {"INBOX": Mailbox(make_messages(8)), "Bin": Mailbox(special_use="\\Trash")}
    world = await open_world(boxes)
    assert (await _job(world).limit(3).delete().run()).done == 3
    assert len(world.server.mailboxes["Bin"]) == 3
    with pytest.raises(imapipe.CommandNo, match="permanently=True"):
        await world.pool.mailbox("Bin").search().delete().run()
    assert (await world.pool.mailbox("Bin").search().delete(permanently=True).run()).done == 3
    assert (len(world.server.mailboxes["Bin"]), len(world.server.mailboxes["INBOX"])) == (0, 5)


async def test_what_a_server_does_not_tell_of_a_move_is_looked_for(open_world: OpenWorld, tmp_path: Path) -> None:
    """COPYUID names half of them; two are the same mail, and somebody removed one."""
    world = await _open(open_world, remove_extensions=["OBJECTID"])
    box = world.server.mailboxes["INBOX"]
    twin = box[30]
    box.append(bytes(twin.content.raw), internal_date=twin.internal_date)
    before = _subjects(world, "INBOX", "Archive")

    def halve(response: bytes) -> bytes:
        return response.replace(b"COPYUID 1600000000 1:20 4:23", b"COPYUID 1600000000 1:10 4:13")

    world.server.faults.add(Rewrite(halve, command="UID MOVE"))
    world.server.faults.add(Rewrite(lambda response: response.replace(b"COPYUID", b"X-NO"), command="UID MOVE", nth=2))
    world.server.faults.add(Act(lambda record: box.expunge([15]), command="UID MOVE", nth=1))
    report = await _job(world, 20).move_to("Archive").run(journal=tmp_path / "move")
    check_sums(report)
    assert (report.done, report.vanished) == (COUNT, 1)
    assert (before - _subjects(world, "Archive")).total() == 1
    back = await imapipe.undo(tmp_path / "move", world.pool)
    assert (back.undone, back.complete) == (COUNT, True)
    assert (len(box), len(world.server.mailboxes["Archive"])) == (COUNT, 3)


async def test_without_move_what_others_do_to_flags_is_done_to_the_copies(open_world: OpenWorld) -> None:
    world = await _open(open_world, remove_extensions=["MOVE"])
    box, archive = world.server.mailboxes["INBOX"], world.server.mailboxes["Archive"]
    for uid in (1, 2):
        box.set_flags(uid, {"\\Seen", "$Old"})

    def meddle(record: object) -> None:
        box.set_flags(1, {"\\Flagged", "$Old"})

    world.server.faults.add(Act(meddle, command="UID STORE", nth=1))
    # Somebody wants it to stay.
    world.server.faults.add(Act(lambda record: box.set_flags(3, set()), command="UID EXPUNGE"))
    report = await _job(world, COUNT).move_to("Archive").run()
    check_sums(report)
    assert [archive.flags_of(uid) for uid in (4, 5)] == [{"\\Flagged", "$Old"}, {"\\Seen", "$Old"}]
    assert (_uids(box), len(archive)) == ([3], COUNT + 3)
    assert {note.kind: count for note, count in report.notes.items()} == {"in-both": 1}


@pytest.mark.parametrize("remove", [["MOVE"], ["MOVE", "CONDSTORE"], ["MOVE", "UIDPLUS"]])
async def test_without_move_a_flag_set_just_before_the_expunge_is_not_lost(
    open_world: OpenWorld, remove: Iterable[str]
) -> None:
    """It comes behind the answer to the look at the flags; the next look goes out with the EXPUNGE."""
    world = await _open(open_world, remove_extensions=remove)
    box, archive = world.server.mailboxes["INBOX"], world.server.mailboxes["Archive"]
    for uid in (1, 2):
        box.set_flags(uid, {"\\Seen", "$Old"})

    def meddle(record: CommandRecord) -> None:
        if box.flags_of(1) >= {"\\Deleted", "$Old"}:
            box.set_flags(1, {"\\Deleted", "\\Seen", "$Theirs"})
            box.set_flags(3, {"\\Deleted", "$Theirs"})

    world.server.faults.add(Act(meddle, command="UID FETCH", where="reply"))
    report = await _job(world, COUNT).move_to("Archive").run()
    check_sums(report)
    assert report.done == COUNT
    assert [archive.flags_of(uid) for uid in (4, 5, 6, 7)] == [
        {"\\Seen", "$Theirs"},
        {"\\Seen", "$Old"},
        {"$Theirs"},
        frozenset(),
    ]
    assert all(expunge.pipelined for expunge in world.server.commands.named("UID EXPUNGE"))


async def test_flags_that_a_copy_cannot_be_given_are_told(open_world: OpenWorld) -> None:
    world = await _open(open_world, remove_extensions=["MOVE"])
    box = world.server.mailboxes["INBOX"]
    world.server.faults.add(Act(lambda record: box.set_flags(1, {"$Theirs"}), command="UID STORE", nth=1))
    world.server.faults.add(Reply("NO", "Not here", command="UID STORE", nth=2))
    report = await _job(world, COUNT).move_to("Archive").run()
    assert (report.done, {note.kind: count for note, count in report.notes.items()}) == (COUNT, {"flags-lost": 1})


@pytest.mark.parametrize("mailbox", ["INBOX", "[Gmail]/All Mail", "[Gmail]/Trash"])
async def test_gmail_is_asked_to_remove_for_good_only_in_the_trash(open_world: OpenWorld, mailbox: str) -> None:
    account = GmailMailboxes()
    account.deliver(b"Subject: one\r\n\r\n1\r\n", labels=["\\Inbox"])
    account["[Gmail]/Trash"].append(b"Subject: two\r\n\r\n2\r\n")
    world = await open_world(account, extensions="gmail")
    job = world.pool.mailbox(mailbox).search(q.ALL).delete(permanently=True)
    if mailbox == "[Gmail]/Trash":
        assert (await job.run()).done == 1
        assert len(account["[Gmail]/Trash"]) == 0
        return
    for look in (job.plan, job.run):
        with pytest.raises(imapipe.CapabilityMissing, match="Gmail only takes the label away"):
            await look()
    assert not {record.name for record in world.server.commands} & (COPIES | MOVES)


async def test_what_others_do_meanwhile_is_neither_lost_nor_undone(open_world: OpenWorld) -> None:
    world = await _open(open_world)
    box = world.server.mailboxes["INBOX"]

    def meddle(record: object) -> None:
        box.set_flags(1, box.flags_of(1) | {"$Theirs"})
        box.expunge([2])

    world.server.faults.add(Act(meddle, command="UID STORE", nth=1))
    report = await _job(world, COUNT).set_flags("$Ours").run()
    check_sums(report)
    assert (report.done, report.vanished, report.failed) == (COUNT - 1, 1, 0)
    assert box.flags_of(1) == {"$Ours"}
    # The message that they changed was left alone, read again until nothing came between, and changed then.
    assert [record.message_set for record in world.server.commands.named("UID STORE")] == [f"1:{COUNT}", "1", "1"]


async def test_who_changes_a_message_again_and_again_is_told_of(open_world: OpenWorld) -> None:
    world = await _open(open_world)
    box = world.server.mailboxes["INBOX"]

    def meddle(record: object) -> None:
        box.set_flags(1, box.flags_of(1) ^ {"$Theirs"})

    world.server.faults.add(Act(meddle, command="UID STORE"))
    report = await _job(world, COUNT).set_flags("$Ours").run()
    check_sums(report)
    assert (report.done, report.failures[1].reason) == (COUNT - 1, "conflict")
    assert "$Ours" not in box.flags_of(1)


@pytest.mark.parametrize(
    ("remove", "command", "nth", "contested"),
    [((), "UID STORE", 1, {5, 7}), (["ESEARCH"], "UID STORE", 1, {5, 7}), ((), "UID SEARCH", 3, {7})],
)
async def test_an_undo_leaves_alone_what_others_changed_at_the_same_moment(
    open_world: OpenWorld,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    remove: Iterable[str],
    command: str,
    nth: int,
    contested: set[int],
) -> None:
    """Of many messages: nobody can tell whose flag message 5 has; nor that of 7, behind one that went meanwhile."""
    monkeypatch.setattr(flagging, "MOST_CONDITIONAL", 0)
    world = await _open(open_world, remove_extensions=remove)
    box = world.server.mailboxes["INBOX"]

    def meddle(record: object) -> None:
        box.set_flags(5, box.flags_of(5) | {"$Ours"})
        box.set_flags(7, box.flags_of(7) | {"$Theirs"})
        box.expunge([6])

    # The third search is for the flag: it finds that of 5, which is then not ours.
    world.server.faults.add(Act(meddle, command=command, nth=nth))
    report = await _job(world, COUNT // 2).add_flags("$Ours").run(journal=tmp_path / "flags")
    check_sums(report)
    assert (report.done, report.vanished) == (COUNT - 1, 1)
    assert {note.kind: count for note, count in report.notes.items()} == {"contested": len(contested)}
    back = await imapipe.undo(tmp_path / "flags", world.pool)
    assert list(back.lost.values()) == [len(contested)]
    assert {uid for uid in _uids(box) if "$Ours" in box.flags_of(uid)} == {5, 7}
    assert "$Theirs" in box.flags_of(7)


@pytest.mark.parametrize("remove", [(), ["ESEARCH"]])
@pytest.mark.parametrize("job", ["add", "remove", "change"])
async def test_of_few_messages_it_is_known_whose_doing_each_flag_is(
    open_world: OpenWorld, tmp_path: Path, job: str, remove: Iterable[str]
) -> None:
    """UNCHANGEDSINCE: what somebody else changed meanwhile is read again, so an undo takes exactly ours back."""
    world = await _open(open_world, remove_extensions=remove)
    box = world.server.mailboxes["INBOX"]
    had = {"$Old"} if job == "remove" else set()
    for uid in _uids(box):
        box.set_flags(uid, had)

    def meddle(record: object) -> None:
        box.set_flags(5, box.flags_of(5) ^ {"$Old" if job == "remove" else "$Ours"})
        box.set_flags(7, box.flags_of(7) | {"$Theirs"})
        box.expunge([6])

    world.server.faults.add(Act(meddle, command="UID STORE", nth=1))
    pipeline = _job(world, COUNT // 2)
    words = {"add": ["+$Ours"], "remove": ["-$Old"], "change": ["+$Ours", "-$Old"]}[job]
    report = await pipeline.change_flags(*words).run(journal=tmp_path / "flags")
    check_sums(report)
    assert (report.done, report.vanished, dict(report.notes)) == (COUNT - 1, 1, {})
    wanted = {"$Ours"} if job != "remove" else set()
    assert all(box.flags_of(uid) == wanted | ({"$Theirs"} if uid == 7 else set()) for uid in _uids(box))
    stores = world.server.commands.named("UID STORE")
    conditional = [record.message_set for record in stores if "UNCHANGEDSINCE" in record.arguments]
    # Nothing that had changed was touched before it was read again.
    assert conditional[0] == f"1:{COUNT // 2}"
    assert set(conditional[1:-1]) <= {"5,7", "7"}
    back = await imapipe.undo(tmp_path / "flags", world.pool)
    assert back.complete
    # Theirs came before ours, so message 5 has what they gave it; ours is gone from all others.
    assert box.flags_of(5) == had ^ {"$Old" if job == "remove" else "$Ours"}
    assert box.flags_of(7) == had | {"$Theirs"}
    assert all(box.flags_of(uid) == had for uid in _uids(box) if uid not in (5, 7))


async def test_who_flags_a_message_again_and_again_keeps_no_other_flag_from_it(
    open_world: OpenWorld, tmp_path: Path
) -> None:
    world = await _open(open_world)
    box = world.server.mailboxes["INBOX"]
    world.server.faults.add(Act(lambda record: box.set_flags(1, box.flags_of(1) ^ {"$Theirs"}), command="UID STORE"))
    report = await _job(world, COUNT).add_flags("$Ours").run(journal=tmp_path / "flags")
    check_sums(report)
    assert (report.done, "$Ours" in box.flags_of(1)) == (COUNT, True)
    assert {note.kind: count for note, count in report.notes.items()} == {"contested": 1}
    stores = world.server.commands.named("UID STORE")
    assert len(stores) == flagging.MAX_ROUNDS + 1
    assert "UNCHANGEDSINCE" not in stores[-1].arguments


async def test_a_refusal_is_told_and_nothing_is_sent(open_world: OpenWorld, tmp_path: Path) -> None:
    world = await _open(open_world)
    job = _job(world)
    with pytest.raises(imapipe.TooManyMessages, match="max_messages=59"):
        await job.move_to("Archive").run(max_messages=COUNT - 1)
    with pytest.raises(imapipe.CommandNo):
        await job.move_to("No such").run()
    with pytest.raises(imapipe.CommandNo, match="already"):
        await job.move_to("inbox").run()
    with pytest.raises(imapipe.CommandNo, match="Trash"):
        await job.delete().run()
    await job.limit(1).add_flags("$One").run(journal=tmp_path / "one.jsonl")
    with pytest.raises(imapipe.JournalError, match="another change"):
        await job.move_to("Archive").run(journal=tmp_path / "one.jsonl")
    (tmp_path / "mail.txt").write_text("Subject: no journal\n")
    with pytest.raises(imapipe.JournalError, match="no journal"):
        await job.move_to("Archive").run(journal=tmp_path / "mail.txt")
    world.server.mailboxes["INBOX"].read_only = True
    with pytest.raises(imapipe.CommandNo, match="READ-ONLY"):
        await job.add_flags("$One").run()
    with pytest.raises(ValueError, match="before each flag"):
        job.change_flags("$One")
    for wrong in ("", "a\r\nb"):
        with pytest.raises(ValueError, match="name of a mailbox"):
            job.move_to(wrong)
    with pytest.raises(ValueError, match="flag"):
        job.add_flags()
    for text in ("no", 1, None):
        with pytest.raises(TypeError, match="permanently is True or False"):
            job.delete(permanently=text)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="with_messages is True or False"):
            await world.pool.mailbox("Archive").delete(with_messages=text)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="two pipelines"):
        job.add_flags("$One").fetch("full")
    assert not {record.name for record in world.server.commands} & (MOVES | {"UID COPY", "UID EXPUNGE"})


async def test_a_plan_tells_and_changes_nothing(open_world: OpenWorld) -> None:
    world = await _open(open_world, remove_extensions=["MOVE"])
    plan = await world.pool.mailbox("INBOX").search(q.ALL).batch(40).move_to("Archive").plan()
    assert (plan.messages, plan.target, len(plan.sample)) == (COUNT, "Archive", 5)
    assert plan.commands == (
        "UID COPY 1:40 'Archive'",
        "UID STORE 1:40 +FLAGS.SILENT (\\Deleted)",
        "UID EXPUNGE 1:40",
        "UID COPY 41:60 'Archive'",
        "UID STORE 41:60 +FLAGS.SILENT (\\Deleted)",
        "UID EXPUNGE 41:60",
    )
    assert plan.total_bytes == sum(world.server.mailboxes["INBOX"][uid].content.size for uid in range(1, COUNT + 1))
    assert not {record.name for record in world.server.commands} & (MOVES | COPIES)


async def test_a_server_that_throttles_is_waited_for(open_world: OpenWorld) -> None:
    world = await _open(open_world)
    world.server.faults.add(Reply("NO", "Too many", "LIMIT", command="UID MOVE", times=1))
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    job = world.pool.mailbox("INBOX").search(q.ALL).use(imapipe.Retry(sleep=sleep)).move_to("Archive")
    report = await job.run()
    assert (report.done, report.failed) == (COUNT, 0)
    assert waited
    assert waited[0] >= 5.0
