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
from array import array
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from imapipe.durable_file import (
    PLAIN,
    check_name,
    close,
    remove_leftovers,
    save_file,
    whole_lines,
    write_all,
)
from imapipe.errors import SinkError
from imapipe.runtime.large_sets import beside_the_loop
from imapipe.runtime.lock_file import LockFile
from imapipe.sinks.growing_set import GrowingSet
from imapipe.sinks.hold import beside, hold
from imapipe.sinks.likeness import Likeness
from imapipe.sinks.place import Place
from imapipe.sinks.record import SET_BYTES
from imapipe.wire.uid_set import UidSet

MAX_PAIRS: Final = 1_000
"""So many are told by a line at most."""
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

    uids: GrowingSet
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
        "_opening",
        "_settled",
        "_taken",
        "_users",
        "_whole",
        "_whole_new",
        "_writing",
        "is_full",
        "path",
    )

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._fd = -1
        self._lock: LockFile | None = None
        self._settled: dict[Way, int] = {}
        # Asked for each message, whatever UIDVALIDITY the target had: what was copied there stays copied.
        self._copied: dict[tuple[Place, str, str], GrowingSet] = {}
        # What is known to be a copy of something.
        self._taken: dict[Place, GrowingSet] = {}
        self._whole: dict[Place, GrowingSet] = {}
        self._whole_new: dict[Place, set[int]] = {}
        self._claims: dict[Place, Claims] = {}
        self.is_full: SinkError | None = None
        self._users = 0
        self._opening = threading.Lock()
        self._writing = threading.Lock()

    def open(self) -> None:
        """Read the file, and hold it until as many `close` as `open` were called; for any thread.

        Whoever comes while another reads it waits for that. Raises OSError, SinkError; `close` follows in any case.
        """
        with self._opening:
            self._users += 1
            if self._fd >= 0 or self.path is None:
                return
            lock = hold(beside(self.path, ".lock"), self.path, "state")
            try:
                self._begin(self.path)
            except BaseException:
                lock.release()
                raise
            self._lock = lock

    def _begin(self, path: Path) -> None:
        self._forget()
        uids = self._read(path)
        remove_leftovers(os.fspath(path))
        lines = [
            _line(_HEAD),
            *(self._entries(way, pairs) for way, pairs in uids.items()),
            *(_whole_entries(source, whole.all()) for source, whole in self._whole.items()),
        ]
        save_file(os.fspath(path), lines, durable=True)
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | PLAIN)

    def look(self) -> None:
        """Read the file, where there is one and nobody has it open; nothing is written. Raises OSError, SinkError."""
        with self._opening:
            if not self._users and self.path is not None:
                self._forget()
                self._read(self.path)

    def _forget(self) -> None:
        self._taken.clear()
        self._settled.clear()
        self._copied.clear()
        self._whole.clear()

    def close(self) -> None:
        """Let go, if nobody else has it open."""
        with self._opening:
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

    async def known(self, source: Place) -> UidSet:
        """The messages that were copied, wherever to."""
        parts = [uids.all() for names, uids in self._copied.items() if names[0] == source]
        return await beside_the_loop(partial(UidSet.union, parts), *parts)

    def whole(self, source: Place) -> UidSet:
        """The messages that are in all mailboxes that they belong into."""
        return self._whole[source].all() if source in self._whole else UidSet()

    def note_whole(self, source: Place, uids: Iterable[int]) -> None:
        """These messages will be, with what the next line says."""
        self._whole_new.setdefault(source, set()).update(uids)

    def whole_line(self, source: Place) -> bytes:
        """The line for those that were noted, for `save`; nothing where there are none."""
        uids = self._whole_new.pop(source, set())
        if not uids:
            return b""
        self._whole.setdefault(source, GrowingSet()).update(uids)
        return _whole_entries(source, UidSet.from_numbers(uids))

    def claims(self, target: Place) -> Claims:
        """What is known of a mailbox of the target, for as long as somebody has this open."""
        if target not in self._claims:
            taken = self._taken.get(target)
            self._claims[target] = Claims(GrowingSet(taken.all() if taken is not None else None))
        return self._claims[target]

    def settled(self, way: Way) -> int | None:
        """The UID above which the target may hold messages that no line tells of; None where nothing is known."""
        return self._settled.get(way)

    def add(self, way: Way, pairs: list[tuple[int, int]], settled: int) -> bytes:
        """Know what was copied; gives the line of it, for `save`.

        Args:
            way: From where to where.
            pairs: The UIDs here and there, at most `MAX_PAIRS`; 0 where the server did not tell.
            settled: See above.
        """
        self._know(way, pairs, settled)
        return self._entry(way, pairs, settled)

    def save(self, line: bytes) -> None:
        """Write a line, durably; for any thread. Raises OSError."""
        if self._fd >= 0:
            with self._writing:
                length = os.fstat(self._fd).st_size
                try:
                    write_all(self._fd, line)
                except OSError:
                    # Others write to it, too: they would go on in the middle of this line.
                    with suppress(OSError):
                        os.ftruncate(self._fd, length)
                    raise
                os.fsync(self._fd)
                check_name(os.fstat(self._fd), os.fspath(self.path or ""))

    def _know(self, way: Way, pairs: list[tuple[int, int]], settled: int) -> None:
        self._settled[way] = settled
        self._copied.setdefault(_names(way), GrowingSet()).update(here for here, _ in pairs)
        self._taken.setdefault(way.target, GrowingSet()).update(there for _, there in pairs if there)

    def _entry(self, way: Way, pairs: list[tuple[int, int]], settled: int) -> bytes:
        return _line({"from": [*way.source], "to": [*way.target], "uids": pairs, "settled": settled})

    def _entries(self, way: Way, numbers: array[int]) -> bytes:
        """Lines of pairs that follow each other: whoever reads a line holds up all others until it is over.

        Nothing is settled before the last of them: a file that lost its end tells so of what is looked at again.
        """
        pairs, rest = zip(numbers[::2], numbers[1::2], strict=True), len(numbers) // 2
        lines: list[bytes] = []
        while part := [*islice(pairs, MAX_PAIRS)]:
            rest -= len(part)
            lines.append(self._entry(way, part, 0 if rest else self._settled[way]))
        return b"".join(lines)

    def _read(self, path: Path) -> dict[Way, array[int]]:
        """Know what it tells; gives the pairs, one after the other."""
        found: dict[Way, array[int]] = {}
        try:
            lines = whole_lines(os.fspath(path))
            if orjson.loads(next(lines, b"")) != _HEAD:
                raise ValueError("it is of another kind or version")
            for entry in map(orjson.loads, lines):
                source = _place(entry["from"])
                if "whole" in entry:
                    self._whole.setdefault(source, GrowingSet()).update(UidSet.parse(entry["whole"]))
                    continue
                way = Way(source, _place(entry["to"]))
                pairs = [(int(here), int(there)) for here, there in entry["uids"]]
                if min((here for here, _ in pairs), default=1) < 1:
                    raise ValueError("a message has no UID")
                self._know(way, pairs, int(entry["settled"]))
                found.setdefault(way, array("I")).extend(chain.from_iterable(pairs))
        except FileNotFoundError:
            return found
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            reason = (
                "it does not tell what was copied, or is of another version; "
                "move it away to find that out from the mailboxes"
            )
            raise SinkError(reason, path=str(path)) from error
        return found


def _names(way: Way) -> tuple[Place, str, str]:
    return way.source, way.target.account, way.target.mailbox


def _whole_entries(source: Place, uids: UidSet) -> bytes:
    return b"".join(_line({"from": [*source], "whole": text}) for text in uids.texts(SET_BYTES))


def _place(words: list[object]) -> Place:
    account, mailbox, uidvalidity = words
    return Place(str(account), str(mailbox), int(str(uidvalidity)))


def _line(entry: object) -> bytes:
    return orjson.dumps(entry) + b"\n"
