"""The state of a copy, as several mailboxes that are copied at the same time use it."""

from __future__ import annotations

import errno
import os
import random
import threading
from pathlib import Path

import orjson
import pytest

from imapipe import durable_file
from imapipe.errors import SinkError
from imapipe.sinks import copied
from imapipe.sinks.copied import MAX_PAIRS, Copied, Way
from imapipe.sinks.place import Place
from imapipe.wire.uid_set import UidSet

WAY = Way(Place("ann@a:993", "Sent", 7), Place("ann@b:993", "Sent", 9))


def test_who_comes_while_another_opens_it_writes_to_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = Copied(tmp_path / "state")
    save = durable_file.save_file

    def second() -> None:
        state.open()
        state.save(state.add(WAY, [(1, 2)], 2))

    other = threading.Thread(target=second)

    def save_file(*given: object, **named: object) -> None:
        other.start()
        other.join(0.2)
        save(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(copied, "save_file", save_file)
    state.open()
    other.join()
    state.close()
    state.close()
    state.look()
    assert state.has(WAY, 1)


def test_a_line_holds_up_nobody_however_much_was_copied(tmp_path: Path) -> None:
    """Whoever reads or writes a line of JSON holds the interpreter until it is over."""
    path, count = tmp_path / "state", 5 * MAX_PAIRS
    state = Copied(path)
    state.open()
    pairs = [(2 * number, number) for number in range(1, count + 1)]
    random.Random(1).shuffle(pairs)
    for first in range(0, count, 50):
        state.save(state.add(WAY, pairs[first : first + 50], first))
    state.close()
    for _ in range(2):
        state.open()
        state.close()
        lines = [orjson.loads(line) for line in path.read_bytes().splitlines()[1:]]
        assert [len(line["uids"]) for line in lines] == [MAX_PAIRS] * 5
        assert [pair for line in lines for pair in line["uids"]] == [[*pair] for pair in pairs]
    assert all(state.has(WAY, here) and not state.has(WAY, here + 1) for here, _ in pairs)
    assert state.claims(WAY.target).uids.all() == UidSet.from_ranges([(1, count)])
    assert state.settled(WAY) == count - 50


def test_behind_a_line_that_could_not_be_written_whole_others_write_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = Copied(tmp_path / "state")
    state.open()
    first, second = state.add(WAY, [(1, 2)], 2), state.add(WAY, [(3, 4)], 4)

    def fill(fd: int, line: bytes) -> None:
        os.write(fd, line[:10])
        raise OSError(errno.ENOSPC, "no room")

    with monkeypatch.context() as full:
        full.setattr(copied, "write_all", fill)
        with pytest.raises(OSError, match="no room"):
            state.save(first)
    state.save(second)
    state.close()
    state.open()
    assert (state.has(WAY, 1), state.has(WAY, 3)) == (False, True)
    state.close()


def test_where_it_cannot_be_opened_nobody_writes_without_it(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_text("no state\n")
    state = Copied(path)
    for _ in range(2):
        with pytest.raises(SinkError, match="does not tell what was copied"):
            state.open()
    state.close()
    state.close()
    path.unlink()
    state.open()
    state.close()
