"""The journal: lines that check themselves."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from imapipe.durable_file import Partial, write_all
from imapipe.store.checkpoint_state import CheckpointChange
from imapipe.store.journal import Journal
from imapipe.wire.uid_set import UidSet


def change(sequence: int, uids: str = "1:5,9", series: str = "s") -> CheckpointChange:
    return CheckpointChange(series=series, sequence=sequence, done=UidSet.parse(uids))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.json.journal"


def filled(path: Path, *changes: CheckpointChange) -> Journal:
    journal = Journal(str(path))
    for each in changes:
        journal.append(each)
    return journal


def test_one_write_for_each_change_and_no_sync(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("write", "fsync"):
        real: Callable[..., object] = getattr(os, name)

        def counted(*args: object, name: str = name, real: Callable[..., object] = real) -> object:
            calls.append(name)
            return real(*args)

        monkeypatch.setattr(os, name, counted)
    journal = filled(path, change(1), change(2))
    assert calls == ["write", "write"]
    journal.sync()
    # The file, and the folder because the name is new; after that the file alone.
    assert calls[2:] == ["fsync", "fsync"]
    journal.sync()
    assert calls[4:] == ["fsync"]
    journal.close()


def test_what_was_appended_is_read(path: Path) -> None:
    changes = [change(1), change(2, "7:900"), change(3, "", series="t")]
    filled(path, *changes).close()
    assert Journal(str(path)).read() == changes
    assert path.read_bytes().count(b"\n") == 3


def test_no_file_is_no_change(path: Path) -> None:
    journal = Journal(str(path))
    assert journal.read() == []
    journal.sync()
    journal.supersede({"s": 1})
    journal.close()
    assert not path.exists()


def test_a_line_cut_anywhere_is_ignored_and_the_rest_is_read(path: Path) -> None:
    filled(path, change(1), change(2), change(3)).close()
    data = path.read_bytes()
    first_two = data.index(b"\n", data.index(b"\n") + 1) + 1
    for end in range(first_two, len(data) - 1):
        path.write_bytes(data[:end])
        assert Journal(str(path)).read() == [change(1), change(2)]
    # Only the line end is missing: the line itself is whole.
    path.write_bytes(data[:-1])
    assert len(Journal(str(path)).read()) == 3


def test_no_changed_byte_is_believed(path: Path) -> None:
    """Each byte of a line in turn becomes another digit or letter; the lines around it are still read."""
    filled(path, change(1), change(2, "100:200,7777"), change(3)).close()
    data = path.read_bytes()
    start = data.index(b"\n") + 1
    for position in range(start, data.index(b"\n", start)):
        for byte in b"09a":
            if data[position] != byte:
                path.write_bytes(data[:position] + bytes([byte]) + data[position + 1 :])
                assert Journal(str(path)).read() == [change(1), change(3)]


def test_damage_in_the_middle_is_logged_and_a_torn_end_is_not(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(path, change(1), change(2)).close()
    data = path.read_bytes()
    with caplog.at_level(logging.WARNING):
        path.write_bytes(data[:-5])
        assert Journal(str(path)).read() == [change(1)]
        assert not caplog.records
        path.write_bytes(b"x" + data)
        assert Journal(str(path)).read() == [change(2)]
    assert "line 1 of" in caplog.text


@pytest.mark.parametrize("rubbish", [b"", b"\n", b"\n\n", bytes(500), b"{}\n", b"00000000 \n", b"\xff" * 99 + b"\n"])
def test_rubbish_is_no_change(path: Path, rubbish: bytes) -> None:
    path.write_bytes(rubbish)
    assert Journal(str(path)).read() == []


def test_an_append_that_fails_by_half_does_not_swallow_the_next(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_half(fd: int, data: bytes) -> None:
        os.write(fd, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    journal = filled(path, change(1), change(2))
    journal.supersede({"s": 1})
    for sequence in (3, 5):
        with monkeypatch.context() as patched:
            patched.setattr("imapipe.store.journal.write_all", write_half)
            with pytest.raises(OSError, match="No space"):
                journal.append(change(sequence))
        assert Journal(str(path)).read()[-1] == change(sequence - 1)
        journal.append(change(sequence + 1))
    # Killed here.
    assert Journal(str(path)).read() == [change(2), change(4), change(6)]
    journal.close()


def test_a_write_that_takes_a_part_goes_on_and_one_that_takes_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[bytes] = []

    def take_three(fd: int, data: bytes) -> int:
        taken.append(bytes(data[:3]))
        return len(taken[-1])

    monkeypatch.setattr(os, "write", take_three)
    write_all(0, b"12345678")
    assert taken == [b"123", b"456", b"78"]
    monkeypatch.setattr(os, "write", lambda fd, data: 0)
    with pytest.raises(OSError, match="No space left"):
        write_all(0, b"1")


def test_supersede_keeps_what_is_newer_and_the_file_follows(path: Path) -> None:
    journal = filled(path, change(1), change(2), change(3))
    journal.supersede({"s": 2})
    assert Journal(str(path)).read() == [change(3)]
    journal.append(change(4))
    assert Journal(str(path)).read() == [change(3), change(4)]
    journal.supersede({"another": 9})
    assert Journal(str(path)).read() == [change(3), change(4)]
    journal.supersede({"s": 4})
    assert path.read_bytes() == b""
    journal.append(change(5))
    assert Journal(str(path)).read() == [change(5)]
    journal.forget("another")
    assert Journal(str(path)).read() == [change(5)]
    journal.forget("s")
    assert path.read_bytes() == b""
    journal.close()
    assert not path.exists()


def test_close_leaves_what_is_needed_and_what_it_does_not_know(path: Path) -> None:
    filled(path, change(1)).close()
    assert Journal(str(path)).read() == [change(1)]
    # Another process that never saved: the line is not superseded, so it stays.
    Journal(str(path)).close()
    assert Journal(str(path)).read() == [change(1)]
    journal = Journal(str(path))
    journal.supersede({"s": 0})
    journal.close()
    assert not path.exists()


def test_the_first_append_cuts_off_what_earlier_processes_left(path: Path) -> None:
    path.write_bytes(b"half a li")
    journal = filled(path, change(1))
    assert Journal(str(path)).read() == [change(1)]
    journal.close()


def test_a_journal_that_cannot_be_shortened_still_works(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, data: bytes) -> Partial:
        raise OSError(28, "No space left on device")

    journal = filled(path, change(1), change(2))
    monkeypatch.setattr("imapipe.store.journal.Partial", refuse)
    journal.supersede({"s": 1})
    journal.append(change(3))
    assert Journal(str(path)).read() == [change(1), change(2), change(3)]
    journal.close()
