"""A change is taken back by its journal: what it did, and nothing that somebody else did."""

from __future__ import annotations

from pathlib import Path

import pytest

import imapipe
from imapipe import search as q
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
        again = await imapipe.undo(journal, pool)
        assert (again.undone, sum(run.done for run in again.reports)) == (20, 0)


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
