"""What lies where something of ours is expected, and is something else: one sentence, and it stays as it is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import orjson
import pytest
from tests.sinks.conftest import Shop, files_below

import imapipe
from imapipe import sinks
from imapipe.durable_file import LINE_BYTES, check_line
from imapipe.errors import CheckpointCorrupt, CheckpointError, JournalError, SinkError
from imapipe.journal.entry import Job
from imapipe.journal.journal import Journal, read_journal
from imapipe.runtime.lock_file import LockFile
from imapipe.sinks.copied import Copied
from imapipe.sinks.place import Place
from imapipe.sinks.record import SET_BYTES, Record
from imapipe.store.job_key import JobKey
from imapipe.store.json_store import JsonCheckpointStore
from imapipe.wire.uid_set import UidSet

KEY = JobKey("ann@imap.example.org:993", "INBOX")


def _record(folder: Path) -> None:
    (folder / "out").touch()
    Record(folder / "out", "mbox", durable=False)


def _beside_a_checkpoint(folder: Path) -> None:
    held = JsonCheckpointStore(folder / "state").open(KEY)
    held.notes()
    held.release()
    (folder / "file").rename(folder / "state.journal")
    try:
        JsonCheckpointStore(folder / "state").open(KEY)
    finally:
        (folder / "state.journal").rename(folder / "file")


READERS: dict[str, tuple[str, Callable[[Path], object], type[Exception]]] = {
    "record": ("out.imapipe", _record, OSError),
    "copied": ("file", lambda folder: Copied(folder / "file").open(), OSError),
    "journal": ("file", lambda folder: Journal(folder / "file").take(), JournalError),
    "undo": ("file", lambda folder: read_journal(folder / "file"), JournalError),
    "beside a checkpoint": ("file", _beside_a_checkpoint, CheckpointError),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_line_without_an_end_is_not_taken_into_memory(tmp_path: Path, reader: str) -> None:
    name, read, error = READERS[reader]
    path = tmp_path / name
    path.touch()
    # A hole: it takes no room.
    os.truncate(path, 1 << 40)
    with pytest.raises(error, match=f"a line of it is longer than {LINE_BYTES:,} bytes"):
        read(tmp_path)
    assert path.stat().st_size == 1 << 40


def test_a_checkpoint_that_cannot_be_one_is_not_taken_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"a" * 70_000)
    with pytest.raises(CheckpointCorrupt, match="no whole JSON document"):
        JsonCheckpointStore(path).open(KEY)
    os.truncate(path, 1 << 40)
    with pytest.raises(CheckpointError, match="it cannot be read: it is longer than"):
        JsonCheckpointStore(path).open(KEY)


def test_a_line_that_could_not_be_read_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").touch()
    record = Record(tmp_path / "out", "mbox", durable=False)
    record.begin(0, closed=True)
    place = Place("ann", "INBOX", 7)
    monkeypatch.setattr("imapipe.sinks.record.check_line", partial(check_line, most_bytes=200))
    with pytest.raises(OSError, match="a line of it is longer"):
        record.append(5, {place: UidSet.from_numbers(range(1, 400, 2))}, closed=True)
    record.append(5, {place: UidSet.parse("7")}, closed=True)
    record.close()
    assert Record(tmp_path / "out", "mbox", durable=False).written == {place: UidSet.parse("7")}


def test_of_a_large_set_each_line_tells_a_part(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    uids = UidSet.from_ranges([(uid, uid) for uid in range(4_000_000_000, 4_000_000_000 + 2 * 110_000, 2)])
    record = Record(tmp_path / "out", "mbox", durable=False)
    record.written = {Place("ann", "INBOX", 7): uids, Place("ann", "Sent", 7): UidSet.parse("1:3")}
    record.begin(0, closed=True)
    record.close()
    again = Record(tmp_path / "out", "mbox", durable=False)
    assert again.written == record.written
    lines = (tmp_path / "out.imapipe").read_bytes().splitlines()
    assert max(map(len, lines)) < SET_BYTES + 100
    assert len(lines) == 5


@pytest.mark.asyncio
async def test_a_pipe_among_the_files_of_a_sink_is_not_waited_for(shop: Shop, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    for kind in (sinks.Parquet, sinks.EmlFolder):
        folder = tmp_path / kind.__name__
        assert (await shop.job().run(kind(folder))).complete
        first = min(path for path in files_below(folder) if path.suffix in (".parquet", ".eml"))
        first.unlink()
        os.mkfifo(first)
    with pytest.raises(SinkError, match="it is no file"):
        await shop.job().run(sinks.Parquet(tmp_path / "Parquet"))
    assert (await shop.job().run(sinks.EmlFolder(tmp_path / "EmlFolder"))).complete
    assert len(files_below(tmp_path / "EmlFolder")) == 60


@pytest.mark.asyncio
async def test_a_damaged_table_is_one_sentence_also_in_a_mirror(shop: Shop, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    await shop.job().run(sinks.Parquet(tmp_path / "out", compression="none"))
    (part,) = (tmp_path / "out").glob("*.parquet")
    data = part.read_bytes()
    # The pages are at the beginning, what tells of them at the end.
    part.write_bytes(data[:4] + b"\xff" * (len(data) // 2) + data[4 + len(data) // 2 :])
    with pytest.raises(SinkError) as caught:
        await shop.pool.mailbox("INBOX").changes(tmp_path / "state").mirror(sinks.Parquet(tmp_path / "out"))
    assert str(part) in str(caught.value)


@pytest.mark.asyncio
async def test_an_attachment_is_written_where_something_else_has_its_name(shop: Shop, tmp_path: Path) -> None:
    """A sender can make two files whose digests begin alike; a leftover may be cut off."""
    content = b"the content\r\n"
    head = b'Content-Type: application/pdf; name="a.pdf"\r\nContent-Disposition: attachment\r\n\r\n'
    shop.add("Files", head + content)
    digest = hashlib.sha256(content).hexdigest()
    taken = tmp_path / digest[:2] / f"{digest[:16]}-a.pdf"
    taken.parent.mkdir()
    taken.write_bytes(b"the con")
    for _ in range(2):
        assert (await shop.job(mailbox="Files").run(sinks.Attachments(tmp_path))).complete
        assert taken.read_bytes() == b"the con"
        assert (taken.parent / f"{digest}-a.pdf").read_bytes() == content
        assert len(list(taken.parent.iterdir())) == 2
        for name in ("attachments.jsonl", "attachments.jsonl.imapipe"):
            (tmp_path / name).unlink()
    (taken.parent / f"{digest}-a.pdf").write_bytes(b"else")
    with pytest.raises(SinkError, match="move it away"):
        await shop.job(mailbox="Files").run(sinks.Attachments(tmp_path))


def test_what_has_the_name_of_a_lock_file_is_not_removed(tmp_path: Path) -> None:
    """`poetry.lock` is not the lock of a state called `poetry`."""
    path = tmp_path / "poetry.lock"
    lock = LockFile(str(path))
    path.write_bytes(b"[[package]]\n")
    with pytest.raises(OSError, match="something else has the name"):
        lock.acquire()
    assert path.read_bytes() == b"[[package]]\n"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="something else has the name"):
        lock.acquire()
    path.unlink()
    path.symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="it is a link"):
        lock.acquire()
    path.unlink()
    # As a killed process leaves it.
    path.touch()
    assert lock.acquire()
    lock.release()
    assert not path.exists()


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["Attachments", "EmlFolder", "Maildir", "Parquet"])
async def test_a_file_where_a_folder_is_expected_is_one_sentence(shop: Shop, tmp_path: Path, kind: str) -> None:
    if kind == "Parquet":
        pytest.importorskip("pyarrow")
    (tmp_path / "out").write_bytes(b"precious")
    sink: imapipe.Sink = getattr(sinks, kind)(tmp_path / "out")
    with pytest.raises(SinkError, match="it is no folder"):
        await shop.job().run(sink)
    assert (tmp_path / "out").read_bytes() == b"precious"


@pytest.mark.asyncio
@pytest.mark.parametrize("ending", ["-wal", "-shm"])
async def test_what_has_the_name_of_the_log_of_an_archive_is_not_touched(
    shop: Shop, tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"mail.db{ending}"
    os.mkfifo(path)
    before = path.lstat()
    with pytest.raises(SinkError, match="is no file; remove that"):
        await shop.job().run(sinks.Sqlite(tmp_path / "mail.db"))
    assert path.lstat().st_mode == before.st_mode
    assert not (tmp_path / "mail.db").stat().st_size


@pytest.mark.asyncio
async def test_names_in_a_maildir_that_no_message_can_have_are_others(shop: Shop, tmp_path: Path) -> None:
    """Numbers that are no UID, and a folder with the name of a message that is to be written."""
    sink = sinks.Maildir(tmp_path / "out")
    assert (await shop.job().run(sink)).complete
    ours = sorted((tmp_path / "out" / "cur").iterdir())
    numbers = [name.name.partition(".U")[2].partition("M")[0] for name in ours]
    for number in ("0", "4294967296", "9" * 30):
        (ours[0].parent / ours[0].name.replace(f".U{numbers[0]}M", f".U{number}M")).write_bytes(b"x")
    assert (await shop.job().run(sinks.Maildir(tmp_path / "out"))).complete
    await shop.pool.mailbox("INBOX").changes(tmp_path / "state").mirror(sinks.Maildir(tmp_path / "out"))
    ours[0].unlink()
    ours[0].mkdir()
    with pytest.raises(SinkError, match="directory"):
        await shop.job().run(sinks.Maildir(tmp_path / "out"))
    assert ours[0].is_dir()


@pytest.mark.asyncio
@pytest.mark.parametrize("column", [[None, 2], [0, 2], [1 << 40, 2]])
async def test_rows_of_a_table_without_a_uid_are_one_sentence(
    shop: Shop, tmp_path: Path, column: list[int | None]
) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    await shop.job().run(sinks.Parquet(tmp_path / "out"))
    (part,) = (tmp_path / "out").glob("*.parquet")
    table = pa.table({"uid": pa.array(column, pa.int64()), "flags": pa.array([["\\Seen"], []], pa.list_(pa.string()))})
    pq.write_table(table.replace_schema_metadata(pq.read_metadata(part).metadata), part)
    with pytest.raises(SinkError, match="what is in it cannot be read"):
        await shop.pool.mailbox("INBOX").changes(tmp_path / "state").mirror(sinks.Parquet(tmp_path / "out"))


def test_a_state_of_a_copy_names_messages(tmp_path: Path) -> None:
    for number in (0, -1, 1 << 32):
        lines = [
            {"version": 1, "kind": "copied"},
            {"from": ["a", "INBOX", 7], "to": ["b", "INBOX", 9], "uids": [[number, 5]], "settled": 5},
        ]
        (tmp_path / "state").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
        with pytest.raises(SinkError, match="it does not tell what was copied"):
            Copied(tmp_path / "state").look()


def test_what_a_file_says_of_itself_is_told_shortly_and_does_not_act(tmp_path: Path) -> None:
    job = Job("ann\x1b[2J" + "x" * 5000, "INBOX", 7, "move", "Archive")
    (tmp_path / "journal").write_bytes(orjson.dumps(job.line()) + b"\n")
    journal = Journal(tmp_path / "journal")
    journal.take()
    with pytest.raises(JournalError, match="it is of another change") as caught:
        journal.begin(Job("bob", "INBOX", 7, "move", "Archive"))
    journal.close()
    assert str(caught.value).isprintable()
    assert len(caught.value.reason) <= 1000
