"""Servers that do less than they say, or say what cannot be: nothing is done that was not, and undo takes only ours."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.pipeline.world import OpenWorld, World

import imapipe
from imapipe.journal.entry import Intent
from imapipe.journal.journal import read_journal
from imapipe.pipeline.operation import changing, transfer
from imapipe.testing import CommandRecord, GmailMailboxes, Mailbox, Reply, Rewrite
from imapipe.testing.messages import make_messages
from imapipe.wire.response.code import CopyUid
from imapipe.wire.uid_set import UidSet

pytestmark = pytest.mark.asyncio

COUNT = 30
_CHANGES = {"flags": "UID STORE", "move": "UID MOVE", "copy": "UID COPY", "without MOVE": "UID COPY"}
_COPYUID = re.compile(rb"\[COPYUID (\d+) (\S+) (\S+)\]")


async def _open(open_world: OpenWorld, **server: object) -> World:
    boxes = {"INBOX": Mailbox(make_messages(COUNT)), "Archive": Mailbox(make_messages(2, seed=5))}
    return await open_world(boxes, **server)


def _held(world: World, mailbox: str) -> Counter[bytes]:
    return Counter(bytes(message.content.raw) for message in world.server.mailboxes[mailbox])


@pytest.mark.parametrize("is_announced", [True, False])
@pytest.mark.parametrize("remove", [(), ("CONDSTORE", "MOVE")], ids=["modern", "without MOVE"])
async def test_what_a_limit_of_messages_leaves_out_is_not_taken_for_done(
    open_world: OpenWorld, tmp_path: Path, remove: tuple[str, ...], is_announced: bool
) -> None:
    """RFC 9738: STORE and UID EXPUNGE stop after so many messages, with OK, and COPY is refused."""
    world = await _open(open_world, message_limit=10, remove_extensions=remove)
    if not is_announced:
        number = re.compile(rb" MESSAGELIMIT=10\b")
        world.server.faults.add(Rewrite(lambda line: number.sub(b"", line), command="LOGIN", times=99))
        world.server.faults.add(Rewrite(lambda line: number.sub(b"", line), command="CAPABILITY", times=99))
    inbox, box = world.pool.mailbox("INBOX").search(), world.server.mailboxes["INBOX"]
    for change in (
        inbox.add_flags("\\Seen"),
        inbox.set_flags("\\Flagged", "$New"),
        inbox.change_flags("+$Both", "-\\Flagged"),
    ):
        assert (await change.run()).complete
    assert [box.count_with(flag) for flag in ("\\Seen", "\\Flagged", "$New", "$Both")] == [0, 0, COUNT, COUNT]
    if is_announced:
        assert (await inbox.copy_to("Archive").run()).complete
        assert len(world.server.mailboxes["Archive"]) == 2 + COUNT
        assert (await inbox.move_to("Archive").run(journal=tmp_path / "move")).complete
        assert (await imapipe.undo(tmp_path / "move", world.pool)).complete
        assert len(world.server.mailboxes["Archive"]) == 2 + COUNT
    report = await inbox.delete(permanently=True).run()
    assert (report.done, report.complete, len(world.server.mailboxes["INBOX"])) == (COUNT, True, 0)


@pytest.mark.parametrize("remove", [(), ("MOVE",)], ids=["MOVE", "COPY"])
@pytest.mark.parametrize(
    "says",
    [
        lambda validity, here, there: (validity, b"1:2", b"1:2"),
        lambda validity, here, there: (validity, here, b"1:30"),
        lambda validity, here, there: (validity, b"1:3", b"3,3,3"),
        lambda validity, here, there: (validity, b"101:130", there),
        lambda validity, here, there: (validity, here, b"3:12"),
        lambda validity, here, there: (b"99", here, there),
        lambda validity, here, there: (validity, b"1:4294967295", b"1:4294967295"),
        lambda validity, here, there: (validity, here, b"3:4294967295"),
        lambda validity, here, there: (validity, b"1:12", there),
    ],
    ids=[
        "of others",
        "one too low",
        "one for all",
        "of none",
        "too few",
        "of another time",
        "of everything",
        "too many",
        "of some",
    ],
)
async def test_an_undo_takes_nothing_for_ours_that_a_wrong_copyuid_names(
    open_world: OpenWorld,
    tmp_path: Path,
    says: Callable[[bytes, bytes, bytes], tuple[bytes, bytes, bytes]],
    remove: tuple[str, ...],
) -> None:
    world = await _open(open_world, remove_extensions=remove)
    before = _held(world, "INBOX"), _held(world, "Archive")

    def lie(line: bytes) -> bytes:
        return _COPYUID.sub(lambda match: b"[COPYUID %b %b %b]" % says(match[1], match[2], match[3]), line)

    world.server.faults.add(*[Rewrite(lie, command=name) for name in ("UID MOVE", "UID COPY")])
    report = await world.pool.mailbox("INBOX").search().move_to("Archive").run(journal=tmp_path / "move")
    assert (report.done, report.complete) == (COUNT, True)
    assert _held(world, "Archive") == before[0] + before[1]
    assert (await imapipe.undo(tmp_path / "move", world.pool)).complete
    assert (_held(world, "INBOX"), _held(world, "Archive")) == before


@pytest.mark.parametrize("remove", [(), ("MOVE",)], ids=["MOVE", "COPY"])
async def test_what_is_said_to_be_moved_and_is_not_is_neither_done_nor_removed(
    open_world: OpenWorld, tmp_path: Path, remove: tuple[str, ...]
) -> None:
    """COPYUID for all of them, and nothing was done."""
    world = await _open(open_world, remove_extensions=remove)
    before = _held(world, "INBOX"), _held(world, "Archive")
    code = f"COPYUID {world.server.mailboxes['Archive'].uidvalidity} 1:30 3:32"
    world.server.faults.add(*[Reply("OK", "Done", code, command=name, times=9) for name in ("UID MOVE", "UID COPY")])
    report = await world.pool.mailbox("INBOX").search().move_to("Archive").run(journal=tmp_path / "move")
    assert (report.done, report.failed) == (0, COUNT)
    assert (_held(world, "INBOX"), _held(world, "Archive")) == before


async def test_a_copyuid_that_names_each_message_many_times_is_not_believed() -> None:
    """A text of some kilobytes could name millions."""
    told = CopyUid(7, UidSet.parse("1:30"), UidSet.parse("1:4294967295"), (b"1:30,30:1", b"1:4294967295"))
    intent = Intent(1, UidSet.parse("1:30"), 7, 3, ("1",) * COUNT)
    assert transfer._believed(told, intent, may_be_old=True) == {}
    long = told._replace(arguments=(b",".join([b"1:30"] * 1000), b"3:32"))
    assert transfer._believed(long, intent, may_be_old=True) == {}


@pytest.mark.parametrize(
    ("kept", "refused"),
    [
        (b"()", ["add", "remove", "delete", "move"]),
        (rb"(\Seen $Old)", ["keyword", "remove", "delete", "move"]),
        (rb"(\Seen \*)", ["remove", "delete", "move"]),
        (rb"(\Seen \Deleted \Flagged \*)", []),
    ],
)
async def test_what_a_mailbox_does_not_keep_is_refused_before_anything_is_sent(
    open_world: OpenWorld, kept: bytes, refused: list[str]
) -> None:
    """An empty list is an answer, too; and without MOVE a message has to be marked, so that it goes."""
    world = await _open(open_world, remove_extensions=["MOVE"])
    inbox = world.pool.mailbox("INBOX").search()
    changes = {
        "add": inbox.add_flags("\\Seen"),
        "keyword": inbox.add_flags("$New"),
        "remove": inbox.remove_flags("\\Flagged"),
        "move": inbox.move_to("Archive"),
        "delete": inbox.delete(permanently=True),
    }
    words = re.compile(rb"\[PERMANENTFLAGS \([^)]*\)\]")
    world.server.faults.add(
        Rewrite(lambda line: words.sub(lambda _: b"[PERMANENTFLAGS %b]" % kept, line), command="SELECT", times=99)
    )
    if kept == b"()":
        refused = [*refused, "keyword"]
    for name, change in changes.items():
        if name in refused:
            with pytest.raises(imapipe.CommandNo, match="PERMANENTFLAGS"):
                await change.run()
    assert not world.server.commands.named("UID STORE")
    assert not world.server.commands.named("UID COPY")
    for name, change in changes.items():
        if name not in refused:
            assert (await change.run()).complete


@pytest.mark.parametrize("poisoned", [{1}, {7, 8, 30}, {16}], ids=str)
@pytest.mark.parametrize("kind", ["flags", "move", "copy", "without MOVE"])
async def test_a_message_that_is_refused_keeps_no_other_from_its_change(
    open_world: OpenWorld, tmp_path: Path, kind: str, poisoned: set[int]
) -> None:
    """One that is damaged, or locked: the command is halved until it is found, with or without a Retry."""
    world = await _open(open_world, remove_extensions=["MOVE"] if kind == "without MOVE" else [])
    before = _held(world, "INBOX") + _held(world, "Archive")

    def is_poisoned(record: CommandRecord) -> bool:
        return bool(imapipe.UidSet.parse(record.message_set) & imapipe.UidSet.from_numbers(poisoned))

    refusal = Reply("NO", "Some of the messages cannot be read", command=_CHANGES[kind], when=is_poisoned)
    world.server.faults.add(refusal)
    inbox, boxes = world.pool.mailbox("INBOX").search(), world.server.mailboxes
    change = {"flags": inbox.add_flags("$New"), "copy": inbox.copy_to("Archive")}.get(kind, inbox.move_to("Archive"))
    report = await change.run(journal=tmp_path / "journal")
    assert set(report.failures) == poisoned
    assert (report.done, {failure.reason for failure in report.failures.values()}) == (
        COUNT - len(poisoned),
        {"CommandNo"},
    )
    assert refusal.fired <= 6 * len(poisoned)
    if kind == "flags":
        assert boxes["INBOX"].count_with("$New") == report.done
    else:
        assert len(boxes["Archive"]) == 2 + report.done
    if kind not in ("flags", "copy"):
        assert _held(world, "INBOX") + _held(world, "Archive") == before


async def test_a_server_that_refuses_everything_is_not_asked_for_each_message(open_world: OpenWorld) -> None:
    """Nor is one that says that it is not the messages."""
    for code, most in (("", changing.MAX_FRUITLESS + 3), ("NOPERM", 3), ("TRYCREATE", 3)):
        world = await _open(open_world)
        refusal = Reply("NO", "It does not please me", code, command="UID MOVE")
        world.server.faults.add(refusal)
        report = await world.pool.mailbox("INBOX").search().batch(10).move_to("Archive").run()
        assert (report.done, report.failed) == (0, COUNT)
        assert refusal.fired <= most
        assert len(world.server.mailboxes["INBOX"]) == COUNT


async def test_gmail_may_name_a_message_that_was_there_before(open_world: OpenWorld, tmp_path: Path) -> None:
    """It only gives a label: what has that already stays what it is."""
    account = GmailMailboxes()
    account.add("Archive", Mailbox())
    account.deliver(b"Subject: one\r\n\r\n1\r\n", labels=["\\Inbox", "Archive"])
    world = await open_world(account, extensions="gmail")
    (uid,) = [message.uid for message in account["Archive"]]

    def tell_old(line: bytes) -> bytes:
        return _COPYUID.sub(lambda match: b"[COPYUID %b %b %d]" % (match[1], match[2], uid), line)

    world.server.faults.add(Rewrite(tell_old, command="UID MOVE"))
    report = await world.pool.mailbox("INBOX").search().move_to("Archive").run(journal=tmp_path / "move")
    assert (report.done, report.vanished, len(account["INBOX"])) == (1, 0, 0)
    assert read_journal(tmp_path / "move").steps[0][1].pairs == ((1, uid, 1),)


@pytest.mark.parametrize("told", [None, b"UIDVALIDITY 7", b""])
@pytest.mark.parametrize("remove", [(), ("MOVE", "UIDPLUS")], ids=["MOVE", "plain"])
async def test_a_target_of_which_status_does_not_tell_is_opened(
    open_world: OpenWorld, tmp_path: Path, remove: tuple[str, ...], told: bytes | None
) -> None:
    """php-imap 570."""
    world = await _open(open_world, remove_extensions=remove)

    def rewrite(line: bytes) -> bytes:
        return b"* STATUS Archive (%b)\r\n" % told if told is not None and line[:1] == b"*" else line

    bad = Reply("BAD", "what is that", command="STATUS", times=99)
    world.server.faults.add(bad if told is None else Rewrite(rewrite, command="STATUS", times=99))
    before = _held(world, "INBOX"), _held(world, "Archive")
    change = world.pool.mailbox("INBOX").search().batch(10).move_to("Archive")
    assert (await change.plan()).messages == COUNT
    assert (await change.run(journal=tmp_path / "move")).complete
    assert _held(world, "Archive") == before[0] + before[1]
    world.server.faults.clear()
    if "UIDPLUS" not in remove:
        assert (await imapipe.undo(tmp_path / "move", world.pool)).complete
        assert (_held(world, "INBOX"), _held(world, "Archive")) == before
