"""What a sink remembers of the file that it appends to: how long it was when it was last safe, and what is in it.

A checkpoint is written behind, so it cannot tell which bytes of a file belong to messages that count. This record is
written after the file and before the messages count, so that the two can never disagree for long:

    FILE.imapipe    {"version":1,"kind":"mbox"}
                    {"length":1234,"written":[["ann@imap.example.org:993","INBOX",7,"1:500"]],"closed":false}
                    {"length":1234,"closed":true}

Invariants:

- A line says what is safe in the file: its length, and the messages in it since the line before.
- What lies behind the last length is of a run that was cut off and is removed, unless the line says that the record is
  closed: then somebody else has appended to the file, and it stays.
- A file that is gone takes its record with it; a file without a record is appended to.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import orjson

from imapipe.durable_file import (
    PLAIN,
    check_line,
    check_name,
    close,
    remove_leftovers,
    save_file,
    whole_lines,
    write_all,
)
from imapipe.errors import SinkError
from imapipe.sinks.hold import beside
from imapipe.sinks.place import Place
from imapipe.wire.uid_set import UidSet

_VERSION: Final = 1
SET_BYTES: Final = 1024 * 1024
"""So long the text of a set is at most where several lines may tell it."""


class Record:
    """The record beside a file.

    Attributes:
        length: How many bytes of the file are safe.
        is_closed: Whether nothing of ours lies behind that length.
        is_sure: Whether the last line is known to be written; behind one that may not be nothing is written.
        written: The messages that are in the file.
    """

    __slots__ = ("_durable", "_fd", "_kind", "_path", "is_closed", "is_sure", "length", "written")

    def __init__(self, file: Path, kind: str, *, durable: bool) -> None:
        self._path = beside(file, ".imapipe")
        self._kind = kind
        self._durable = durable
        self._fd = -1
        self.length = 0
        self.is_closed = True
        self.is_sure = True
        self.written: dict[Place, UidSet] = {}
        if file.exists():
            self.length = file.stat().st_size
            self._read()

    def begin(self, length: int, *, closed: bool) -> None:
        """Write the whole record anew, and keep it open. Raises OSError."""
        self.length = length
        self.is_closed = closed
        remove_leftovers(os.fspath(self._path))
        save_file(os.fspath(self._path), self._whole(length, closed=closed), durable=self._durable)
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | PLAIN)

    def append(self, length: int, written: dict[Place, UidSet], *, closed: bool) -> None:
        """Note that the file is safe up to a length, with these messages in it. Raises OSError.

        Args:
            length: The length.
            written: The messages since the line before.
            closed: Whether what comes behind it, until the next line, is of others and stays.
        """
        # Before anything is written: the group is taken back then.
        check_name(os.fstat(self._fd), os.fspath(self._path))
        rows = [[*place, uids.text()] for place, uids in written.items()]
        self._append({"length": length, "written": rows, "closed": closed})
        self.length = length
        self.is_closed = closed
        for place, uids in written.items():
            self.written[place] = self.written.get(place, UidSet()) | uids

    def note_end(self) -> None:
        """Note that the file ends in order. Raises OSError."""
        self._append({"length": self.length, "closed": True})

    def close(self) -> None:
        """Let go."""
        if self._fd >= 0:
            close(self._fd)
            self._fd = -1

    def has(self, place: Place, uid: int) -> bool:
        """Whether a message is in the file."""
        return uid in self.written.get(place, ())

    def _append(self, entry: dict[str, object]) -> None:
        line = _line(entry)
        check_line(line, os.fspath(self._path))
        self.is_sure = False
        write_all(self._fd, line)
        if self._durable:
            os.fsync(self._fd)
        self.is_sure = True

    def _whole(self, length: int, *, closed: bool) -> Iterator[bytes]:
        """All lines of a record: of a large set, each tells a part."""
        yield _line({"version": _VERSION, "kind": self._kind})
        yield _line({"length": length, "written": [], "closed": closed})
        for place, uids in self.written.items():
            for text in uids.texts(SET_BYTES):
                yield _line({"length": length, "written": [[*place, text]], "closed": closed})

    def _read(self) -> None:
        try:
            lines = _entries(whole_lines(os.fspath(self._path)))
            head = next(lines)
            if head["version"] != _VERSION or head["kind"] != self._kind:
                raise ValueError("it is of another kind or version")
            for entry in lines:
                self.length = int(str(entry["length"]))
                if self.length < 0:
                    raise ValueError("a length is below 0")
                self.is_closed = bool(entry.get("closed"))
                self._add(entry.get("written") or [])
        except FileNotFoundError:
            return
        except (KeyError, StopIteration, TypeError, ValueError) as error:
            reason = "it is no record of what was written, or of another version; move it away to append without one"
            raise SinkError(reason, path=str(self._path)) from error

    def _add(self, rows: object) -> None:
        if not isinstance(rows, list):
            raise TypeError("written is no list")
        for account, mailbox, uidvalidity, uids in rows:
            place = Place(str(account), str(mailbox), int(uidvalidity))
            self.written[place] = self.written.get(place, UidSet()) | UidSet.parse(uids)


def _entries(lines: Iterable[bytes]) -> Iterator[dict[str, object]]:
    """What stands in lines."""
    for line in lines:
        entry = orjson.loads(line)
        if not isinstance(entry, dict):
            raise ValueError("a line is no object")
        yield entry


def _line(entry: dict[str, object]) -> bytes:
    return orjson.dumps(entry) + b"\n"
