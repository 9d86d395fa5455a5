"""A file that several runs append to: each call of the system fails once, at any point of its work."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

import imapipe
from imapipe.sinks.appended import Appended
from imapipe.sinks.place import Place

PLACES: Final = (Place("ann", "INBOX", 1), Place("ann", "Archive", 1))
UIDS: Final = range(1, 6)


class _Died(BaseException):
    """The process has been killed."""


class Failing:
    """The functions of `os` that write; one call of them fails, or is the last one of its process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, how: str) -> None:
        self.calls = 0
        self._at = at
        self._how = how
        self._write, self._ftruncate = os.write, os.ftruncate
        monkeypatch.setattr(os, "write", self.write)
        monkeypatch.setattr(os, "fsync", lambda _: self._around(lambda: None))
        monkeypatch.setattr(os, "ftruncate", lambda fd, size: self._around(lambda: self._ftruncate(fd, size)))

    def write(self, fd: int, data: memoryview) -> int:
        """Write; half of it where it fails in the middle."""
        if self.calls + 1 == self._at and self._how.startswith("half"):
            self._write(fd, data[: len(data) // 2])
        written = [0]

        def real() -> None:
            written[0] = self._write(fd, data)

        self._around(real)
        return written[0]

    def _around(self, real: Callable[[], None]) -> None:
        self.calls += 1
        if self.calls == self._at:
            if self._how.startswith("after"):
                real()
            if self._how.endswith("dies"):
                raise _Died
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real()


def _write(file: Appended, safe: set[tuple[Place, int]], theirs: list[Path]) -> None:
    """Two runs on two mailboxes in turn; one that meets an error has ended, and the other goes on.

    Args:
        file: Where to.
        safe: Gets what was committed.
        theirs: Where others append a line after each group, once for each time that it stands here.
    """
    users: dict[Place, object] = {place: object() for place in PLACES}
    for user in users.values():
        try:
            file.open(user)
        except OSError:
            return
    for uid in UIDS:
        for place in list(users):
            try:
                if not file.has(place, uid):
                    if theirs:
                        file.begin_group()
                    file.put(f"{place.mailbox} {uid}\n".encode())
                    file.note(place, uid)
                file.commit()
                safe.add((place, uid))
                if theirs:
                    with theirs[0].open("ab") as others:
                        others.write(b"theirs\n")
                    theirs.append(theirs[0])
            except OSError:
                user = users.pop(place)
                with contextlib.suppress(OSError):
                    file.close(user)
    for user in users.values():
        try:
            file.close(user)
        except OSError:
            return


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("how", ["before", "half", "after", "before it dies", "half, and it dies", "after it dies"])
def test_whatever_fails_once_what_is_safe_is_there_and_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, shared: bool
) -> None:
    everything = sorted(f"{place.mailbox} {uid}" for place in PLACES for uid in UIDS)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    at = 0
    while True:
        at += 1
        path = tmp_path / f"{at}.txt"
        safe: set[tuple[Place, int]] = set()
        file = Appended(path, "test", durable=True, shared=shared)
        theirs = [path] if shared else []
        with monkeypatch.context() as patch:
            failing = Failing(patch, at, how)
            try:
                _write(file, safe, theirs)
            except _Died:
                # What the system does: descriptors are closed, and locks are free.
                file._let_go()
        # The same file in the same process, and in another one.
        again = file if at % 2 and not how.endswith("dies") else Appended(path, "test", durable=True, shared=shared)
        user = object()
        again.open(user)
        there = path.read_text().splitlines()
        for place, uid in safe:
            assert f"{place.mailbox} {uid}" in there, at
        for place in PLACES:
            assert [uid for uid in UIDS if again.has(place, uid)] == [
                uid for uid in UIDS if f"{place.mailbox} {uid}" in there
            ], at
        again.close(user)
        _write(again, safe, theirs)
        assert sorted(path.read_text().splitlines()) == [*everything, *["theirs"] * len(theirs[1:])], at
        if failing.calls < at:
            break
    assert at > 20


def test_whoever_joins_a_file_that_could_not_be_opened_is_told(tmp_path: Path) -> None:
    held = Appended(tmp_path / "all.txt", "test", durable=False)
    held.open("first")
    file = Appended(tmp_path / "all.txt", "test", durable=False)
    for user in ("second", "third"):
        with pytest.raises(imapipe.SinkError, match="another run of imapipe writes to it"):
            file.open(user)
    file.close("second")
    held.close("first")
    file.open("third")
    file.close("third")
    assert not list(tmp_path.glob("*.lock"))


def test_a_user_that_never_came_to_open_it_closes_nothing(tmp_path: Path) -> None:
    file = Appended(tmp_path / "all.txt", "test", durable=False)
    file.close("never")
    file.open("one")
    file.close("never")
    file.put(b"line\n")
    file.note(PLACES[0], 1)
    file.commit()
    assert file.close("one")
    assert not list(tmp_path.glob("*.lock"))


@pytest.mark.parametrize(("before", "after"), [(b"", b"one\n"), (b"x\n", b"x\none\n"), (b"x", b"x\none\n")])
def test_the_first_line_begins_a_line_whatever_was_there(tmp_path: Path, before: bytes, after: bytes) -> None:
    path = tmp_path / "lines"
    path.write_bytes(before)
    file = Appended(path, "lines", durable=True)
    file.open("us")
    assert path.read_bytes() == before
    file.put(b"one\n")
    file.note(PLACES[0], 1)
    file.commit()
    file.close("us")
    assert path.read_bytes() == after


@pytest.mark.parametrize("entry", ['{"length":-3,"closed":false}', '{"length":"3 MB"}', '{"length":null}', "[]", "7"])
def test_a_record_that_is_none_shortens_nothing(tmp_path: Path, entry: str) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"of somebody\n")
    (tmp_path / "lines.imapipe").write_text(f'{{"version":1,"kind":"lines"}}\n{entry}\n')
    with pytest.raises(imapipe.SinkError, match="it is no record of what was written"):
        Appended(path, "lines", durable=True).open("us")
    assert path.read_bytes() == b"of somebody\n"
