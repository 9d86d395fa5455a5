"""Sqlite: an index with texts and bodies, in one file for all mailboxes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.sinks.conftest import Shop, files_below

import imapipe
from imapipe import search as q
from imapipe import sinks
from imapipe.catalog import archive_file
from imapipe.catalog.database import Database
from imapipe.testing.messages import make_messages


def ask(path: Path, select: str) -> list[tuple[object, ...]]:
    database = sqlite3.connect(path)
    try:
        return database.execute(select).fetchall()
    finally:
        database.close()


@pytest.mark.asyncio
async def test_every_message_with_text_and_bytes_and_found_like_in_an_index(shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "new" / "mail.sqlite"
    for _ in range(2):
        assert (await shop.job().run(sinks.Sqlite(path))).done == 60
    rows = ask(path, "SELECT uid, subject, flags, size, raw, text FROM messages JOIN contents ON message = messages.id")
    assert len(rows) == 60
    by_uid = {row[0]: row[1:] for row in rows}
    async for message in shop.job():
        flags = " ".join(sorted(message.flags))
        assert by_uid[message.uid] == (message.subject, flags, message.size, message.body, message.text)
    async with imapipe.MessageIndex(path, must_exist=True) as index:
        assert [entry.uid for entry in await index.find(subject="umlaute")] == [4]
        assert [entry.uid for entry in await index.find(text="example", limit=1000)][-1:] == [1]
        with pytest.raises(imapipe.MessageIndexError, match="index into another file"):
            await index.update(shop.pool.mailbox("INBOX"))
    with pytest.raises(imapipe.MessageIndexError, match="it is an archive of imapipe, not an index"):
        async with imapipe.MessageIndex(path):
            pass
    async with imapipe.MessageIndex(tmp_path / "mail.index"):
        pass
    with pytest.raises(imapipe.SinkError, match="it is an index of imapipe, not an archive"):
        await shop.job().run(sinks.Sqlite(tmp_path / "mail.index"))
    assert {file.name for file in files_below(tmp_path)} == {"mail.sqlite", "mail.index"}


@pytest.mark.asyncio
async def test_one_file_for_all_mailboxes_and_whatever_is_fetched(shop: Shop, tmp_path: Path) -> None:
    shop.add("Other", *make_messages(30, seed=4))
    path = tmp_path / "mail.sqlite"
    account = shop.pool.each("*").search(q.ALL)
    report = await account.fetch("full").run(sinks.Sqlite(path), commit_every_messages=7)
    assert (report.done, report.complete) == (90, True)
    select = (
        "SELECT name, count(*), count(raw) FROM mailboxes JOIN messages ON mailbox = mailboxes.id "
        "JOIN contents ON message = messages.id GROUP BY 1"
    )
    assert ask(path, select) == [("INBOX", 60, 60), ("Other", 30, 30)]
    assert (await account.fetch("envelope").run(sinks.Sqlite(tmp_path / "two"))).complete
    assert ask(tmp_path / "two", "SELECT count(*), count(text), count(raw) FROM contents") == [(90, 0, 0)]
    with pytest.raises(ValueError, match="who, what and when"):
        await shop.job("flags").run(sinks.Sqlite(tmp_path / "three"))


@pytest.mark.asyncio
async def test_what_was_written_under_another_uidvalidity_stays(shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "mail.sqlite"
    await shop.job().run(sinks.Sqlite(path))
    shop.server.mailboxes["INBOX"].change_uidvalidity()
    assert (await shop.job().run(sinks.Sqlite(path))).done == 60
    assert ask(path, "SELECT count(*), count(DISTINCT mailbox) FROM messages") == [(120, 2)]


@pytest.mark.asyncio
async def test_a_full_disk_ends_all_who_share_the_file_and_loses_nothing(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.add("Other", *make_messages(30, seed=4))
    path = tmp_path / "mail.sqlite"
    real: Callable[..., None] = Database.__init__

    def small(self: Database, *arguments: object, **options: object) -> None:
        real(self, *arguments, **options)
        self.connection.execute("PRAGMA max_page_count = 60")

    state = tmp_path / "state.json"
    job = shop.pool.each("*").search(q.ALL).fetch("full").use(imapipe.Checkpoint(state))
    with monkeypatch.context() as patch:
        patch.setattr(Database, "__init__", small)
        with pytest.raises(imapipe.SinkError, match="database or disk is full"):
            await job.run(sinks.Sqlite(path), commit_every_messages=5)
    # Whatever counts as done is there.
    assert (await job.run(sinks.Sqlite(path))).complete
    assert ask(path, "SELECT count(*) FROM messages JOIN contents ON message = id WHERE raw IS NOT NULL") == [(90,)]
    assert ask(path, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.asyncio
async def test_a_message_that_sqlite_cannot_hold_costs_itself(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_file.ArchiveFile, "max_bytes", 100_000)
    report = await shop.job().run(sinks.Sqlite(tmp_path / "mail.sqlite"))
    assert (report.done, report.failed) == (59, 1)
    ((_, failure),) = report.failures.items()
    assert "more than a value in SQLite can have" in failure.detail


def test_a_long_text_is_kept_by_nobody_once_it_is_written(tmp_path: Path) -> None:
    """The statement has a copy of what it was given last: ten megabytes more beside the next text of ten."""
    archive = archive_file.ArchiveFile(tmp_path / "mail.sqlite", durable=False)
    archive.open(None)
    statements: list[str] = []
    archive._open.connection.set_trace_callback(statements.append)
    mailbox = archive.mailbox("ann@imap.example.org:993", "INBOX", 1)
    texts = ["ä" * 100_000, "short"]
    for uid, text in enumerate(texts, 1):
        archive.add(mailbox, (uid, "", "", "", None, None, 1, 0, "", ""), text.encode(), [b"raw"], 3)
    archive.commit()
    archive.close(None)
    given = ["c3a4" * 9 in one.lower() for one in statements if "INTO contents" in one]
    assert given == [True, False, False]
    rows = ask(tmp_path / "mail.sqlite", "SELECT text, typeof(text), raw FROM contents ORDER BY message")
    assert rows == [(text, "text", b"raw") for text in texts]
