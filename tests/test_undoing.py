"""A change is taken back by its journal: what it did, and nothing that somebody else did."""

from __future__ import annotations

from pathlib import Path

import pytest

import imapipe
from imapipe import search as q
from imapipe.journal.journal import Journal
from imapipe.testing import Mailbox, Server
from imapipe.testing.messages import make_messages

pytestmark = pytest.mark.asyncio


async def test_flags_become_what_they_were_and_those_of_others_stay(tmp_path: Path) -> None:
    box = Mailbox(make_messages(20))
    for uid in range(1, 21):
        box.set_flags(uid, {"\\Seen", "$Old"} if uid % 2 else {"$Ours"})
    before = {uid: box.flags_of(uid) for uid in range(1, 21)}
    async with Server({"INBOX": box}) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        journal = tmp_path / "flags.jsonl"
        await pool.mailbox("INBOX").search().set_flags("$Ours", "$New").run(journal=journal)
        assert {box.flags_of(uid) for uid in range(1, 21)} == {frozenset({"$Ours", "$New"})}
        box.set_flags(3, box.flags_of(3) | {"$Theirs"})
        report = await imapipe.undo(journal, pool)
        assert isinstance(report, imapipe.UndoReport)
        assert (report.undone, report.complete) == (20, True)
        assert {uid: box.flags_of(uid) for uid in range(1, 21)} == {**before, 3: before[3] | {"$Theirs"}}
        assert (report.undone_now, report.table()) == (20, "undone  20")
        again = await imapipe.undo(journal, pool)
        assert (again.undone, again.undone_now, again.complete) == (20, 0, True)
        assert again.table() == "nothing was left to undo; an earlier run has undone 20"


async def test_an_undo_of_what_grew_since_tells_what_is_new(tmp_path: Path) -> None:
    boxes = {"INBOX": Mailbox(make_messages(9)), "Archive": Mailbox([])}
    async with Server(boxes) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        journal, inbox = tmp_path / "move.jsonl", pool.mailbox("INBOX")
        await inbox.search(q.uid("1:4")).move_to("Archive").run(journal=journal)
        assert (await imapipe.undo(journal, pool)).table() == "undone  4"
        await inbox.search(q.uid("5:9")).move_to("Archive").run(journal=journal)
        report = await imapipe.undo(journal, pool)
        assert (report.undone, report.undone_now, report.complete) == (9, 5, True)
        assert report.table() == "undone  9, 4 of them by an earlier run"
        assert '"undone_now": 5' in report.to_json()


async def test_an_undo_of_a_change_of_nothing_says_so(tmp_path: Path) -> None:
    boxes = {"INBOX": Mailbox([]), "Archive": Mailbox([])}
    async with Server(boxes) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        await pool.mailbox("INBOX").search().move_to("Archive").run(journal=tmp_path / "j")
        report = await imapipe.undo(tmp_path / "j", pool)
        assert (report.undone, report.complete, report.table()) == (0, True, "nothing was left to undo")


async def test_flags_that_no_server_takes_are_left_out(tmp_path: Path) -> None:
    box = Mailbox(make_messages(3))
    box.set_flags(1, {"\\Seen", "x[y]"})
    box.set_flags(2, {"x[y]"})
    async with Server({"INBOX": box}) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        await pool.mailbox("INBOX").search().set_flags().run(journal=tmp_path / "flags.jsonl")
        await imapipe.undo(tmp_path / "flags.jsonl", pool)
        assert [box.flags_of(uid) for uid in (1, 2, 3)] == [{"\\Seen"}, set(), set()]


async def test_messages_go_back_and_what_somebody_removed_is_told(tmp_path: Path) -> None:
    boxes = {"INBOX": Mailbox(make_messages(30)), "Archive": Mailbox(make_messages(2, seed=5))}
    async with Server(boxes) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        journal = tmp_path / "move.jsonl"
        await pool.mailbox("INBOX").search().move_to("Archive").run(journal=journal, max_messages=30)
        boxes["Archive"].expunge([1, 5])
        report = await imapipe.undo(journal, pool)
        assert (report.undone, dict(report.lost)) == (29, {"somebody removed the message since": 1})
        assert (len(boxes["INBOX"]), len(boxes["Archive"])) == (29, 1)
        assert "not undone  1" in report.table()
        assert '"undone": 29' in report.to_json()
        # Moved and moved back once more: the second undo does not look for what the first one brought.
        await pool.mailbox("INBOX").search(q.ALL).move_to("Archive").run(journal=journal)
        assert (await imapipe.undo(journal, pool)).lost == {"somebody removed the message since": 1}
        assert (len(boxes["INBOX"]), len(boxes["Archive"])) == (29, 1)


async def test_what_cannot_be_undone_is_told_and_stays(tmp_path: Path) -> None:
    boxes = {"INBOX": Mailbox(make_messages(4)), "Archive": Mailbox()}
    async with Server(boxes) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        inbox = pool.mailbox("INBOX").search(q.ALL)
        await inbox.copy_to("Archive").run(journal=tmp_path / "copy")
        assert list((await imapipe.undo(tmp_path / "copy", pool)).lost.values()) == [4]
        await inbox.limit(1).delete(permanently=True).run(journal=tmp_path / "delete")
        assert not (await imapipe.undo(tmp_path / "delete", pool)).complete
        assert (len(boxes["INBOX"]), len(boxes["Archive"])) == (3, 4)
        other = imapipe.create_pool("imap://bob@127.0.0.1:1", password="")
        with pytest.raises(imapipe.JournalError, match="it is of"):
            await imapipe.undo(tmp_path / "copy", other)
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(imapipe.JournalError, match="empty"):
        await imapipe.undo(tmp_path / "empty", other)


async def test_without_uidplus_marks_are_taken_back_and_copies_stay(tmp_path: Path) -> None:
    boxes = {"INBOX": Mailbox(make_messages(4)), "Archive": Mailbox()}
    async with (
        Server(boxes, extensions="plain") as server,
        imapipe.create_pool(server.url, password=server.password) as pool,
    ):
        await pool.mailbox("INBOX").search().move_to("Archive").run(journal=tmp_path / "move")
        assert boxes["INBOX"].count_with("\\Deleted") == 4
        assert (await imapipe.undo(tmp_path / "move", pool)).undone == 4
        assert (boxes["INBOX"].count_with("\\Deleted"), len(boxes["Archive"])) == (0, 4)


@pytest.mark.parametrize("kind", ["move", "flags"])
async def test_an_undo_that_was_undone_does_not_say_that_all_is_as_it_was(tmp_path: Path, kind: str) -> None:
    boxes = {"INBOX": Mailbox(make_messages(4)), "Archive": Mailbox()}
    async with Server(boxes) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        inbox, journal = pool.mailbox("INBOX").search(), tmp_path / "j"
        change = inbox.move_to("Archive") if kind == "move" else inbox.add_flags("$New")

        def changed() -> int:
            return len(boxes["Archive"]) if kind == "move" else boxes["INBOX"].count_with("$New")

        await change.run(journal=journal)
        for path, count in (("j", 0), ("j.undo", 4)):
            assert (await imapipe.undo(tmp_path / path, pool)).undone == 4
            assert changed() == count
        with pytest.raises(imapipe.JournalError, match=r"undo the undo of that, .*j\.undo\.undo"):
            await imapipe.undo(journal, pool)
        assert (await imapipe.undo(tmp_path / "j.undo.undo", pool)).undone == 4
        assert changed() == 0


async def test_an_undo_waits_for_no_run(tmp_path: Path) -> None:
    boxes = {"INBOX": Mailbox(make_messages(4)), "Archive": Mailbox()}
    async with Server(boxes) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        change = pool.mailbox("INBOX").search().move_to("Archive")
        await change.run(journal=tmp_path / "j")
        going_on = Journal(tmp_path / "j")
        going_on.take()
        with pytest.raises(imapipe.JournalError, match="a run has it"):
            await imapipe.undo(tmp_path / "j", pool)
        going_on.close()
        assert (await imapipe.undo(tmp_path / "j", pool)).undone == 4
