"""What has been copied to another account: which message became which, in a file that outlives the process.

    STATE    {"version":1,"kind":"copied"}
             {"from":["ann@a.example:993","INBOX",7],"to":["ann@b.example:993","INBOX",9],"uids":[[1,101],[2,102]],"settled":102}
             {"from":["ann@a.example:993","[Gmail]/All Mail",7],"whole":"1:2"}

Invariants:

- A line is written, and safe, after the server said that it has the messages, and before they count.
- Above `settled` there may be messages of ours that no line tells of: those of a process that was killed in between.
- Of a message that goes to several mailboxes a line says `whole` when it is in all of them.
- A mailbox whose UIDVALIDITY is another one is another place, on both sides; what was copied there stays copied.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from imapipe.durable_file import PLAIN, close, read_file, remove_leftovers, save_file, whole_lines, write_all
from imapipe.errors import SinkError
from imapipe.sinks.hold import hold
from imapipe.sinks.likeness import Likeness
from imapipe.sinks.place import Place
from imapipe.store.run_lock import RunLock
from imapipe.wire.uid_set import UidSet

_VERSION: Final = 1
_HEAD: Final = {"version": _VERSION, "kind": "copied"}


class Way(NamedTuple):
    """From which mailbox into which one."""

    source: Place
    target: Place


_Met = Callable[[int], None]


@dataclass(slots=True)
class Claims:
    """What is known of a mailbox of the target by all who copy into it.

    Attributes:
        uids: The copies in it.
        turn: Who holds it looks at the mailbox, or appends to it.
    """

    uids: set[int]
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _expected: dict[Likeness, list[tuple[object, _Met]]] = field(default_factory=dict)

    def expect(self, likeness: Likeness, owner: object, met: _Met) -> None:
        """A copy is there, nobody knows where; `met` is called with its UID when it is met."""
        self._expected.setdefault(likeness, []).append((owner, met))

    def place(self, likeness: Likeness, uid: int) -> bool:
        """A message was met there; whether it is one that was expected."""
        expected = self._expected.get(likeness)
        if not expected:
            return False
        expected.pop(0)[1](uid)
        return True

    def forget(self, owner: object) -> None:
        """Those of an owner are expected no more."""
        for likeness, expected in list(self._expected.items()):
            self._expected[likeness] = [each for each in expected if each[0] is not owner]


class Copied:
    """The file, or nothing but memory where there is none.

    Args:
        path: The file; None keeps nothing beyond the process.

    Attributes:
        is_full: What ended a run because the other account is full, until nobody has this open any more.
    """

    __slots__ = (
        "_claims",
        "_copied",
        "_fd",
        "_lock",
        "_path",
        "_settled",
        "_uids",
        "_users",
        "_whole",
        "_whole_new",
        "_writing",
        "is_full",
    )

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._fd = -1
        self._lock: RunLock | None = None
        self._uids: dict[Way, dict[int, int]] = {}
        self._settled: dict[Way, int] = {}
        # Asked for each message, whatever UIDVALIDITY the target had: what was copied there stays copied.
        self._copied: dict[tuple[Place, str, str], set[int]] = {}
        self._whole: dict[Place, set[int]] = {}
        self._whole_new: dict[Place, set[int]] = {}
        self._claims: dict[Place, Claims] = {}
        self.is_full: SinkError | None = None
        self._users = 0
        self._writing = threading.Lock()

    def open(self) -> None:
        """Read the file, and hold it until as many `close` as `open` were called. Raises OSError, SinkError."""
        self._users += 1
        if self._users > 1 or self._path is None:
            return
        self._lock = hold(self._path.with_name(f"{self._path.name}.lock"), self._path, "state")
        self._forget()
        self._read(self._path)
        remove_leftovers(os.fspath(self._path))
        lines = [
            _line(_HEAD),
            *(self._entry(way, list(uids.items())) for way, uids in self._uids.items()),
            *(_whole_entry(source, uids) for source, uids in self._whole.items()),
        ]
        save_file(os.fspath(self._path), lines, durable=True)
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | PLAIN)

    def look(self) -> None:
        """Read the file, where there is one and nobody has it open; nothing is written. Raises OSError, SinkError."""
        if not self._users and self._path is not None:
            self._forget()
            self._read(self._path)

    def _forget(self) -> None:
        self._uids.clear()
        self._settled.clear()
        self._copied.clear()
        self._whole.clear()

    def close(self) -> None:
        """Let go, if nobody else has it open."""
        self._users -= 1
        if self._users:
            return
        self._claims.clear()
        self._whole_new.clear()
        self.is_full = None
        if self._fd >= 0:
            close(self._fd)
            self._fd = -1
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def has(self, way: Way, uid: int) -> bool:
        """Whether a message was copied into a mailbox of that name."""
        return uid in self._copied.get(_names(way), ())

    def known(self, source: Place) -> UidSet:
        """The messages that were copied, wherever to."""
        return UidSet.from_numbers({uid for names, uids in self._copied.items() if names[0] == source for uid in uids})

    def whole(self, source: Place) -> UidSet:
        """The messages that are in all mailboxes that they belong into."""
        return UidSet.from_numbers(self._whole.get(source, ()))

    def note_whole(self, source: Place, uids: Iterable[int]) -> None:
        """These messages will be, with what the next line says."""
        self._whole_new.setdefault(source, set()).update(uids)

    def whole_line(self, source: Place) -> bytes:
        """The line for those that were noted, for `save`; nothing where there are none."""
        uids = self._whole_new.pop(source, set())
        if not uids:
            return b""
        self._whole.setdefault(source, set()).update(uids)
        return _whole_entry(source, uids)

    def claims(self, target: Place) -> Claims:
        """What is known of a mailbox of the target, for as long as somebody has this open."""
        if target not in self._claims:
            self._claims[target] = Claims(self.taken(target))
        return self._claims[target]

    def settled(self, way: Way) -> int | None:
        """The UID above which the target may hold messages that no line tells of; None where nothing is known."""
        return self._settled.get(way)

    def taken(self, target: Place) -> set[int]:
        """The UIDs in a target that are known to be copies of something."""
        return {uid for way, uids in self._uids.items() if way.target == target for uid in uids.values() if uid}

    def add(self, way: Way, pairs: list[tuple[int, int]], settled: int) -> bytes:
        """Know what was copied; gives the line of it, for `save`.

        Args:
            way: From where to where.
            pairs: The UIDs here and there; 0 where the server did not tell.
            settled: See above.
        """
        self._know(way, pairs, settled)
        return self._entry(way, pairs)

    def save(self, line: bytes) -> None:
        """Write a line, durably; for any thread. Raises OSError."""
        if self._fd >= 0:
            with self._writing:
                write_all(self._fd, line)
                os.fsync(self._fd)

    def _know(self, way: Way, pairs: list[tuple[int, int]], settled: int) -> None:
        self._settled[way] = settled
        self._uids.setdefault(way, {}).update(pairs)
        self._copied.setdefault(_names(way), set()).update(here for here, _ in pairs)

    def _entry(self, way: Way, pairs: list[tuple[int, int]]) -> bytes:
        return _line({"from": [*way.source], "to": [*way.target], "uids": pairs, "settled": self._settled[way]})

    def _read(self, path: Path) -> None:
        try:
            data = read_file(os.fspath(path))
        except FileNotFoundError:
            return
        lines = whole_lines(data).splitlines()
        try:
            if orjson.loads(lines[0]) != _HEAD:
                raise ValueError("it is of another kind or version")
            for entry in map(orjson.loads, lines[1:]):
                source = _place(entry["from"])
                if "whole" in entry:
                    self._whole.setdefault(source, set()).update(UidSet.parse(entry["whole"]))
                    continue
                way = Way(source, _place(entry["to"]))
                pairs = [(int(here), int(there)) for here, there in entry["uids"]]
                self._know(way, pairs, int(entry["settled"]))
        except (IndexError, KeyError, TypeError, ValueError) as error:
            reason = f"it does not tell what was copied ({error}); move it away to find that out from the mailboxes"
            raise SinkError(reason, path=str(path)) from error


def _names(way: Way) -> tuple[Place, str, str]:
    return way.source, way.target.account, way.target.mailbox


def _whole_entry(source: Place, uids: Iterable[int]) -> bytes:
    return _line({"from": [*source], "whole": UidSet.from_numbers(uids).text()})


def _place(words: list[object]) -> Place:
    account, mailbox, uidvalidity = words
    return Place(str(account), str(mailbox), int(str(uidvalidity)))


def _line(entry: object) -> bytes:
    return orjson.dumps(entry) + b"\n"
