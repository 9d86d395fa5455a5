"""Somebody else flags, removes and moves messages while they are changed: nothing of theirs is undone or lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.integration.changing_job import change
from tests.integration.mail_state import open_account, read_mail

import imapipe
from dovecot_server import DovecotServer
from imapipe import search as q
from imapipe.journal.entry import Intent
from imapipe.journal.journal import Journal
from imapipe.pipeline.operation import flagging
from imapipe.wire.command.store import FlagChange

pytestmark = pytest.mark.asyncio

COUNT = 40
FLAGGED, REMOVED, MOVED = (imapipe.UidSet.from_numbers([uid]) for uid in (5, 6, 7))


async def _meddle(other: imapipe.Pool) -> None:
    async with other.acquire() as connection:
        await connection.select("INBOX")
        await connection.uid_store(FLAGGED, FlagChange.ADD, ["$Theirs"])
        await connection.uid_copy(MOVED, "Other")
        await connection.uid_store(REMOVED | MOVED, FlagChange.ADD, ["\\Deleted"])
        await connection.uid_expunge(REMOVED | MOVED)


@pytest.mark.parametrize("server", ["dovecot", "embedded"])
@pytest.mark.parametrize(
    ("kind", "most_conditional"),
    [("flag", 1_000), ("flag", 0), ("set", 1_000), ("move", 1_000), ("copy", 1_000), ("delete", 1_000)],
)
async def test_what_somebody_else_does_meanwhile_stays(
    dovecot: DovecotServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    server: str,
    kind: str,
    most_conditional: int,
) -> None:
    """They come between the look at the messages and the command."""
    monkeypatch.setattr(flagging, "MOST_CONDITIONAL", most_conditional)
    intend = Journal.intend
    async with (
        open_account(server, dovecot, COUNT, missing=("MOVE",)) as account,
        imapipe.create_pool(account.url, password=account.password) as pool,
        imapipe.create_pool(account.url, password=account.password) as other,
    ):

        async def intend_and_meddle(journal: Journal, intent: Intent) -> None:
            await intend(journal, intent)
            if intent.number == 1:
                await _meddle(other)

        before = {
            message.uid: message.headers.get("Message-ID", "")
            async for message in pool.mailbox("INBOX").search(q.ALL).fetch("headers")
        }
        monkeypatch.setattr(Journal, "intend", intend_and_meddle)
        report = await change(pool, kind, str(tmp_path / "journal"), COUNT)
        monkeypatch.setattr(Journal, "intend", intend)
        assert (report.done, report.vanished, report.failed, report.unsettled) == (COUNT - 2, 2, 0, 0)
        inbox, archive, others = [await read_mail(pool, name) for name in ("INBOX", "Archive", "Other")]
        assert [mail.message_id for mail in others] == [before[7]]
        left = sorted(message_id for uid, message_id in before.items() if uid not in (6, 7))
        assert [mail.message_id for mail in inbox] == ([] if kind in ("move", "delete") else left)
        assert [mail.message_id for mail in archive] == (left if kind in ("move", "copy") else [])
        flags = {mail.message_id: mail.flags for mail in inbox + archive}
        if kind not in ("set", "delete"):
            assert "$Theirs" in flags[before[5]]
        notes = {note.kind: count for note, count in report.notes.items()}
        # Of few messages it is known whose doing each flag is: those that somebody else changed are read again.
        assert notes == ({"contested": 1} if (kind, most_conditional) == ("flag", 0) else {})
        if kind in ("flag", "set"):
            back = await imapipe.undo(tmp_path / "journal", pool)
            assert sum(back.lost.values()) == notes.get("contested", 0)
            flags = {mail.message_id: mail.flags for mail in await read_mail(pool, "INBOX")}
            assert "$Theirs" in flags[before[5]]
            assert {"$Work", "$Only"}.isdisjoint(flags[before[4]])
