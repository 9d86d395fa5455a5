"""An index that somebody else made, or made ready: nothing in it is run, believed or shown to others."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from imapipe.catalog.index_file import IndexFile
from imapipe.catalog.index_query import IndexQuery
from imapipe.errors import MessageIndexError
from imapipe.models.cursor import Cursor

ROW = (1, "ann@example.org", "Ann", "Hello", 0, 0, 500, 0, "", "<1@example.org>")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An index with one message."""
    with IndexFile(tmp_path / "mail.index") as file:
        file.add(file.open_mailbox("ann@host:993", "INBOX", 7, Cursor(uidnext=2)), [ROW])
    return tmp_path / "mail.index"


def change(path: Path, *statements: str) -> None:
    database = sqlite3.connect(path)
    try:
        for statement in statements:
            database.execute(statement)
        database.commit()
    finally:
        database.close()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON messages BEGIN DELETE FROM messages; END",
        "CREATE VIEW v AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
        "CREATE TABLE more (a)",
        "CREATE INDEX i ON messages (lower(subject))",
        "CREATE VIRTUAL TABLE w USING fts5 (a)",
        "ALTER TABLE messages ADD COLUMN more TEXT DEFAULT 'x'",
        "DROP INDEX messages_by_date",
        "DROP TABLE words",
    ],
)
def test_a_schema_that_is_not_ours_is_refused(path: Path, statement: str) -> None:
    change(path, statement)
    before = path.read_bytes()
    for must_exist in (False, True):
        with pytest.raises(MessageIndexError, match="its tables are not those") as caught:
            IndexFile(path, must_exist=must_exist)
        assert caught.value.path == str(path)
    assert path.read_bytes() == before


def test_an_endless_view_in_the_place_of_a_table_is_never_read(path: Path) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS id, i AS mailbox FROM n"
    change(path, "DROP TABLE messages", f"CREATE VIEW messages AS {endless}")
    with pytest.raises(MessageIndexError, match="its tables are not those"):
        IndexFile(path)


def test_one_that_was_analysed_is_still_ours(path: Path) -> None:
    with IndexFile(path) as file:
        file.analyse()
    with IndexFile(path, must_exist=True) as file:
        assert len(file.find(IndexQuery())) == 1


def test_sqlite_is_told_not_to_trust_it(path: Path) -> None:
    with IndexFile(path) as file:
        for pragma, value in (("trusted_schema", 0), ("cell_size_check", 1)):
            assert file._database.execute(f"PRAGMA {pragma}").fetchone() == (value,)


@pytest.mark.parametrize(
    "setting",
    [
        "uid = 'x'",
        "uid = -5",
        "uid = 4294967296",
        "sender = x'00ff'",
        "subject = x'37'",
        "subject = CAST(x'ff' AS TEXT)",
        "date = 9223372036854775807",
        "date = 'soon'",
        "internal_date = 1.5",
        "size = 'big'",
        "size = -1",
        "size_class = 5",
        "size_class = -1",
        "size_class = 'huge'",
        "flags = x'33'",
        "message_id = x'31'",
    ],
)
def test_a_message_of_wrong_types_is_refused(path: Path, setting: str) -> None:
    change(path, f"UPDATE messages SET {setting}")
    with IndexFile(path, must_exist=True) as file, pytest.raises(MessageIndexError) as caught:
        file.find(IndexQuery())
    assert caught.value.path == str(path)


@pytest.mark.parametrize(
    "setting",
    [
        "uidvalidity = 'x'",
        "uidvalidity = 7.5",
        "uidnext = 'x'",
        "highest_uid = 1.5",
        "highestmodseq = x'00'",
        "mailboxid = x'37'",
        "generation = 'x'",
    ],
)
def test_a_mailbox_of_wrong_types_is_refused(path: Path, setting: str) -> None:
    change(path, f"UPDATE mailboxes SET {setting}")
    with IndexFile(path) as file:
        with pytest.raises(MessageIndexError):
            # UIDNEXT that fell begins it anew, so that its generation is looked at too.
            file.open_mailbox("ann@host:993", "INBOX", 7, Cursor(uidnext=1))
        if not setting.startswith("generation"):
            with pytest.raises(MessageIndexError):
                file.find(IndexQuery())


def test_a_file_that_is_full_by_its_numbers_is_refused(path: Path) -> None:
    change(path, f"UPDATE messages SET id = {2**63 - 1}")
    with IndexFile(path) as file:
        mailbox = file.open_mailbox("ann@host:993", "INBOX", 7, Cursor())
        with pytest.raises(MessageIndexError):
            file.add(mailbox, [(2, *ROW[1:])])


def test_a_damaged_file_is_refused(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for start in range(4096, len(data), 64):
        data[start : start + 16] = b"\xff" * 16
    path.write_bytes(data)
    with pytest.raises(MessageIndexError) as caught, IndexFile(path) as file:
        file.find(IndexQuery(subject="hello"))
    assert caught.value.path == str(path)


def test_an_empty_file_made_beforehand_does_not_keep_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "mail.index"
    path.touch()
    path.chmod(0o666)
    with IndexFile(path) as file:
        file.open_mailbox("ann@host:993", "INBOX", 7, Cursor())
        modes = {made.name: stat.S_IMODE(made.stat().st_mode) for made in tmp_path.iterdir()}
    assert modes
    assert set(modes.values()) == {0o600}


def test_a_mode_that_its_owner_chose_is_kept(path: Path) -> None:
    path.chmod(0o640)
    IndexFile(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_nothing_is_put_into_a_file_of_another_user(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(MessageIndexError, match="it belongs to another user"):
        IndexFile(path)
    with IndexFile(path, must_exist=True) as file:
        assert len(file.find(IndexQuery())) == 1


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    for target in (empty, path):
        link = tmp_path / "link"
        link.symlink_to(target)
        for must_exist in (False, True):
            with pytest.raises(MessageIndexError, match="it is a link; name the file"):
                IndexFile(link, must_exist=must_exist)
        link.unlink()
    assert not empty.stat().st_size


def test_a_pipe_or_a_folder_is_no_index(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with pytest.raises(MessageIndexError, match="it is no file"):
        IndexFile(tmp_path / "pipe")
    with pytest.raises(MessageIndexError, match="Is a directory"):
        IndexFile(tmp_path / "folder")


@pytest.mark.parametrize("beside", ["-wal", "-shm", "-journal"])
def test_links_in_the_place_of_the_files_beside_it_are_not_followed(tmp_path: Path, beside: str) -> None:
    """They are SQLite's own, made under names that everybody can tell beforehand."""
    other = tmp_path / "other"
    other.write_bytes(b"precious")
    path = tmp_path / "mail.index"
    Path(f"{path}{beside}").symlink_to(other)
    with suppress(MessageIndexError), IndexFile(path) as file:
        file.add(file.open_mailbox("ann@host:993", "INBOX", 7, Cursor()), [ROW])
    assert other.read_bytes() == b"precious"


def test_a_rollback_journal_beside_it_is_not_obeyed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may undo changes, and name a file that SQLite removes."""
    monkeypatch.setattr("imapipe.catalog.database._JOURNAL_SECONDS", 0.0)
    journal = Path(f"{path}-journal")
    journal.write_bytes(bytes.fromhex("d9d505f920a163d7") + bytes(5000))
    for must_exist in (False, True):
        with pytest.raises(MessageIndexError, match="a journal lies beside it"):
            IndexFile(path, must_exist=must_exist)
    assert journal.stat().st_size == 5008


def test_who_dies_while_a_file_is_made_leaves_nothing_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The switch to a log is written through a journal: a file of one page, without tables."""
    monkeypatch.setattr("imapipe.catalog.database._JOURNAL_SECONDS", 0.0)
    path = tmp_path / "mail.index"
    database = sqlite3.connect(path)
    database.execute("PRAGMA journal_mode = WAL")
    database.close()
    assert path.stat().st_size
    journal = Path(f"{path}-journal")
    journal.write_bytes(bytes.fromhex("d9d505f920a163d7") + bytes(5000))
    with IndexFile(path) as file:
        file.add(file.open_mailbox("ann@host:993", "INBOX", 7, Cursor()), [ROW])
    assert not journal.exists()


def test_a_journal_that_goes_in_a_moment_is_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Path(f"{path}-journal")
    journal.write_bytes(b"x")
    monkeypatch.setattr("imapipe.catalog.database.time.sleep", lambda _: journal.unlink())
    with IndexFile(path) as file:
        assert len(file.find(IndexQuery())) == 1
