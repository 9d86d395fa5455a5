"""Files that appear whole: under any name, by any number of writers, and synced before they count."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

import imapipe
from imapipe.catalog.archive_file import ArchiveFile
from imapipe.catalog.index_file import IndexFile
from imapipe.database import Database
from imapipe.durable_file import Partial, open_to_read, read_lines, read_object, save_file
from imapipe.journal.entry import Intent, Job
from imapipe.journal.journal import Journal as ChangeJournal
from imapipe.models.cursor import Cursor
from imapipe.sinks.appended import Appended
from imapipe.sinks.copied import Copied, Way
from imapipe.sinks.place import Place
from imapipe.sinks.record import Record
from imapipe.store.checkpoint_state import CheckpointChange
from imapipe.store.journal import Journal as CheckpointJournal
from imapipe.wire.uid_set import UidSet

PLACE = Place("ann@host:993", "INBOX", 7)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done to files, in order."""
    done: list[str] = []
    for name in ("open", "fsync", "replace"):
        real = getattr(os, name)

        def call(*arguments: object, real: object = real, name: str = name, **options: object) -> object:
            folder = name == "fsync" and stat.S_ISDIR(os.fstat(arguments[0]).st_mode)  # type: ignore[arg-type]
            done.append("fsync folder" if folder else name)
            return real(*arguments, **options)  # type: ignore[operator]

        monkeypatch.setattr(os, name, call)
    return done


def test_content_is_synced_before_the_name_and_the_name_before_it_returns(tmp_path: Path, calls: list[str]) -> None:
    save_file(str(tmp_path / "a"), [b"one", bytearray(b"two")])
    assert (tmp_path / "a").read_bytes() == b"onetwo"
    assert calls == ["open", "fsync", "replace", "open", "fsync folder"]
    assert names(tmp_path) == ["a"]


def test_without_durable_nothing_is_synced(tmp_path: Path, calls: list[str]) -> None:
    save_file(str(tmp_path / "a"), [b"x"], durable=False)
    assert calls == ["open", "replace"]


def test_modes_and_times(tmp_path: Path) -> None:
    when = datetime(1996, 7, 17, tzinfo=UTC)
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o666)
    save_file(str(path), [b"new"], mtime=when)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_mtime == when.timestamp()
    before = os.umask(0o077)
    try:
        save_file(str(path), [b"new"], mode=0o644)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_names_as_long_as_the_system_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "n" * os.pathconf(tmp_path, "PC_NAME_MAX")
    save_file(str(tmp_path / name), [b"x"])
    monkeypatch.chdir(tmp_path)
    save_file("here", [b"x"])
    assert names(tmp_path) == ["here", name]


def test_a_link_in_the_way_is_replaced_and_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"other")
    (tmp_path / "link").symlink_to(other)
    save_file(str(tmp_path / "link"), [b"new"])
    assert other.read_bytes() == b"other"
    assert (tmp_path / "link").read_bytes() == b"new"
    assert not (tmp_path / "link").is_symlink()


def test_writers_of_one_name_never_mix(tmp_path: Path) -> None:
    path = tmp_path / "a"
    barrier = threading.Barrier(8)

    def write(number: int) -> None:
        def chunks() -> Iterator[bytes]:
            for _ in range(20):
                barrier.wait()
                yield bytes([number]) * 1000

        save_file(str(path), chunks(), durable=False)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    content = path.read_bytes()
    assert len(content) == 20_000
    assert len(set(content)) == 1
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("step", ["open", "write", "fsync", "replace"])
def test_what_cannot_be_written_leaves_what_was_there(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(OSError, match="disk full"):
            save_file(str(path), [b"new"])
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


# Where else a file is made, and why that is another matter.
_OTHERS = {
    "durable_file.py": "the one way",
    "net/spool.py": "temporary files without a name",
    "cli/execute.py": "the null device",
    "cli/demo.py": "in a temporary folder of its own",
    "cli/demo_job.py": "in the temporary folder of the demo",
    "sinks/maildir.py": "an empty mark, and a probe of what names may be, gone at once",
    "sinks/copied.py": "made by save_file, appended to since",
    "sinks/record.py": "made by save_file, appended to since",
    "sinks/staged.py": "many files that appear, and are synced, together",
}
_MAKES = re.compile(
    r"os\.(?:open|mkdir|makedirs|symlink|link)\(|\.(?:write_text|write_bytes|touch|mkdir|open)\(\s*(?:exist_ok|mode=|[\"'][wax])"
    r"|\bopen\([^)]*,\s*[\"'][wax+]|\.touch\(|\.write_(?:text|bytes)\(|tempfile\.|shutil\."
)


def test_files_are_made_in_one_place() -> None:
    """Whoever adds a second way finds this test, and the rules at the head of `durable_file`."""
    source = Path(imapipe.__file__).parent
    making = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        if _MAKES.search(path.read_text(encoding="utf-8"))
    }
    assert making == set(_OTHERS)


def test_a_file_is_never_open_for_others_while_it_is_written(tmp_path: Path) -> None:
    modes: list[int] = []

    def chunks() -> Iterator[bytes]:
        (partial,) = tmp_path.iterdir()
        modes.append(stat.S_IMODE(partial.stat().st_mode))
        yield b"x"

    before = os.umask(0)
    try:
        save_file(str(tmp_path / "a"), chunks(), mode=0o666)
    finally:
        os.umask(before)
    assert modes == [0o600]
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666


def test_what_is_in_the_way_of_a_partial_file_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever guesses the name cannot make it another file's."""
    monkeypatch.setattr(os, "urandom", bytes)
    other = tmp_path / "other"
    other.write_bytes(b"precious")
    partial = Partial(str(tmp_path / "a"))
    partial.discard()
    Path(partial.path).symlink_to(other)
    with pytest.raises(FileExistsError):
        save_file(str(tmp_path / "a"), [b"x"])
    assert other.read_bytes() == b"precious"
    assert Path(partial.path).is_symlink()


@pytest.mark.parametrize("name", ["link", "pipe", "socket", "missing", "."])
def test_only_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "a")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
    path = str(tmp_path / name)
    with pytest.raises(OSError, match=r"a link|no file|No such") as caught:
        read_object(path)
    assert caught.value.filename == path
    with pytest.raises(OSError, match=r"a link|no file|No such"):
        next(read_lines(path))


def test_a_link_is_followed_where_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with open_to_read(str(tmp_path / "link"), through_links=True) as file:
        assert file.read() == b"x"


@pytest.mark.parametrize(
    ("content", "is_read"),
    [
        (b"a" * 100_000, False),
        (b"{" * 100_000, False),
        (b"{" + b" " * 200_000 + b"}\r\n", True),
        (b'\n {"a": "' + b"x" * 70_000 + b'"}', True),
        (b"a" * 60_000, True),
    ],
)
def test_a_long_file_is_read_where_it_may_be_an_object(tmp_path: Path, content: bytes, is_read: bool) -> None:
    (tmp_path / "a").write_bytes(content)
    assert read_object(str(tmp_path / "a")) == (content if is_read else content[:65536])


def test_what_is_too_long_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one\n" + b"x" * 30)
    with pytest.raises(OSError, match="it is longer than 33 bytes"):
        read_object(str(tmp_path / "a"), 33)
    lines = read_lines(str(tmp_path / "a"), 29)
    assert next(lines) == b"one\n"
    with pytest.raises(OSError, match="a line of it is longer than 29 bytes"):
        next(lines)
    assert list(read_lines(str(tmp_path / "a"), 30)) == [b"one\n", b"x" * 30]


# ---------------------------------------------------------------- what is written in place

# Writes something that is to be safe; closes.
Opened = tuple[Callable[[], object], Callable[[], object]]


def _sink(path: Path) -> Opened:
    file = Appended(path, "lines", durable=True)
    file.open("us")

    def write() -> None:
        file.put(b"line\n")
        file.note(PLACE, 1)
        file.commit()

    return write, lambda: file.close("us")


def _record(path: Path) -> Opened:
    record = Record(path, "lines", durable=True)
    record.begin(0, closed=False)
    return lambda: record.append(5, {PLACE: UidSet.parse("1")}, closed=False), record.close


def _copied(path: Path) -> Opened:
    state = Copied(path)
    state.open()
    return lambda: state.save(state.add(Way(PLACE, PLACE), [(1, 2)], 2)), state.close


def _change(path: Path) -> Opened:
    journal = ChangeJournal(path)
    journal.take()
    journal.begin(Job("ann@host:993", "INBOX", 7, "delete"))
    return lambda: asyncio.run(journal.intend(Intent(1, UidSet.parse("1")))), journal.close


def _checkpoint(path: Path) -> Opened:
    journal = CheckpointJournal(str(path))
    journal.append(CheckpointChange(series="s", sequence=1))
    return journal.sync, journal.close


def _index(path: Path) -> Opened:
    file = IndexFile(path)
    return lambda: file.open_mailbox("ann@host:993", "INBOX", 7, Cursor()), file.close


def _archive(path: Path) -> Opened:
    file = ArchiveFile(path, durable=True)
    file.open("us")

    def write() -> None:
        file.mailbox("ann@host:993", "INBOX", 7)
        file.commit()

    return write, lambda: file.close("us")


def _database(path: Path) -> Opened:
    connection = Database(str(path)).connect()
    connection.transact([("CREATE TABLE others (name TEXT)", {})])
    return lambda: connection.transact([("CREATE TABLE things (name TEXT)", {})]), connection.close


@pytest.mark.parametrize("how", ["removed", "moved", "replaced"])
@pytest.mark.parametrize(
    "opened", [_sink, _record, _copied, _change, _checkpoint, _index, _archive, _database], ids=lambda one: one.__name__
)
def test_nothing_counts_that_was_written_to_a_file_without_its_name(
    tmp_path: Path, opened: Callable[[Path], Opened], how: str
) -> None:
    path = tmp_path / "file"
    write, close = opened(path)
    if opened is _record:
        path = tmp_path / "file.imapipe"
    if how == "removed":
        path.unlink()
    else:
        path.rename(tmp_path / "moved")
    if how == "replaced":
        path.touch()
    with pytest.raises((OSError, imapipe.ImapipeError), match="somebody removed, moved or replaced it"):
        write()
    with suppress(OSError, imapipe.ImapipeError):
        close()
