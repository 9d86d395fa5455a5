"""A file that is appended to, in whole groups.

Invariants:

- What a reader finds after a crash and the next `open` is whole groups; see `sinks.record` for how that is known.
- The file has one `Appended` at a time, on this machine; several runs may share that, one call at a time. What one of
  them leaves uncommitted is whole, and is committed with what the next one writes.
- Behind a write that failed nothing is written: where the file ends is not known then, and a sync that failed once may
  succeed the next time without having written anything. Who shares the file ends, too; the next `open` begins anew.
- A group counts only while the file has its name: in one that somebody has removed or moved nobody would find it.
- Where nobody else appends, what is put there are lines, and the first one begins a line whatever stood there before.
- A group is in memory until it is written: its size is bounded by `FLUSH_BYTES`, not by how often it is committed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from imapipe.durable_file import check_name, close, open_in_place, sync_folder, write_all
from imapipe.errors import SinkError
from imapipe.models.batch import NO_UIDS
from imapipe.runtime.lock_file import LockFile
from imapipe.sinks.hold import beside, hold
from imapipe.sinks.place import Place
from imapipe.sinks.record import Record
from imapipe.sinks.staged import make_folder
from imapipe.wire.uid_set import UidSet

FLUSH_BYTES: Final = 1024 * 1024


class Appended:
    """A file that is appended to.

    Args:
        path: The file; made where it is missing.
        kind: What it holds, for its record.
        durable: Whether what is committed must survive a loss of power.
        shared: Whether other programs append to it, too, between the groups: each begins with `begin_group` then.
    """

    __slots__ = (
        "_buffer",
        "_durable",
        "_fd",
        "_has_failed",
        "_kind",
        "_lacks_line_end",
        "_length",
        "_lock",
        "_new",
        "_path",
        "_record",
        "_shared",
        "_users",
    )

    def __init__(self, path: Path, kind: str, *, durable: bool, shared: bool = False) -> None:
        self._path = path
        self._kind = kind
        self._durable = durable
        self._shared = shared
        self._fd = -1
        self._length = 0
        self._buffer = bytearray()
        self._new: dict[Place, list[int]] = {}
        self._lock: LockFile | None = None
        self._record: Record | None = None
        self._users: set[object] = set()
        self._has_failed = False
        # Somebody else has written the last line, and not to its end.
        self._lacks_line_end = False

    @property
    def fd(self) -> int:
        """The open file."""
        return self._fd

    @property
    def is_alone(self) -> bool:
        """Whether one run has it open, and no other."""
        return len(self._users) == 1

    def open(self, user: object) -> int:
        """Open the file, clean up what an earlier run left unfinished; gives its length. Raises OSError, SinkError.

        Where another run has it open, this one joins. In any case `close` follows.

        Args:
            user: The run's own sink.
        """
        if not self._users:
            try:
                self._begin()
            except BaseException:
                self._let_go()
                raise
        self._users.add(user)
        return self.mark()

    def _begin(self) -> None:
        make_folder(self._path.parent, durable=self._durable)
        self._lock = hold(beside(self._path, ".imapipe.lock"), self._path, "file")
        record = Record(self._path, self._kind, durable=self._durable)
        self._fd = open_in_place(os.fspath(self._path), os.O_APPEND)
        size = os.fstat(self._fd).st_size
        if size < record.length:
            reason = (
                f"it has {size} bytes, and {record.length} were written to it; "
                f"restore it, or move it away together with {self._path.name}.imapipe"
            )
            raise SinkError(reason, path=str(self._path))
        if size > record.length and not record.is_closed:
            os.ftruncate(self._fd, record.length)
            size = record.length
        if self._durable:
            os.fsync(self._fd)
            sync_folder(os.fspath(self._path))
        record.begin(size, closed=self._shared)
        self._length = size
        self._lacks_line_end = not self._shared and not _ends_a_line(self._fd)
        self._record = record

    def has(self, place: Place, uid: int) -> bool:
        """Whether a message is in the file already."""
        assert self._record is not None
        return self._record.has(place, uid)

    def known(self, place: Place) -> UidSet:
        """The messages that are in the file already."""
        assert self._record is not None
        return self._record.written.get(place, NO_UIDS)

    def begin_group(self) -> int:
        """What others have appended since the last group stays; gives the length. Raises OSError, SinkError."""
        assert self._record is not None
        self._check()
        size = os.fstat(self._fd).st_size
        if size < self._length:
            raise SinkError("another program has made it shorter meanwhile; run again", path=str(self._path))
        self._has_failed = True
        self._record.append(size, {}, closed=False)
        self._has_failed = False
        self._length = size
        return size

    def put(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes of the group. Raises OSError."""
        self._check()
        if self._lacks_line_end:
            self._buffer += b"\n"
            self._lacks_line_end = False
        if len(data) >= FLUSH_BYTES:
            # Without a copy of it: the text of one mail may have tens of megabytes.
            self._flush()
            self._write(data)
            return
        self._buffer += data
        if len(self._buffer) >= FLUSH_BYTES:
            self._flush()

    def mark(self) -> int:
        """Where the next bytes will stand, for `undo`."""
        return self._length + len(self._buffer)

    def undo(self, mark: int) -> None:
        """Take back what was appended since a mark. Raises OSError."""
        if mark >= self._length:
            del self._buffer[mark - self._length :]
            return
        self._check()
        self._buffer.clear()
        self._has_failed = True
        os.ftruncate(self._fd, mark)
        self._has_failed = False
        self._length = mark

    def note(self, place: Place, *uids: int) -> None:
        """Messages are in the group, whole."""
        self._new.setdefault(place, []).extend(uids)

    def commit(self) -> None:
        """Make the group safe. Raises OSError."""
        assert self._record is not None
        # A group in which no message was whole ends, too.
        if not self._new and self._record.is_closed is self._shared:
            return
        self._check()
        self._flush()
        self._has_failed = True
        if self._durable:
            os.fsync(self._fd)
        check_name(os.fstat(self._fd), os.fspath(self._path))
        new = {place: UidSet.from_numbers(uids) for place, uids in self._new.items()}
        self._record.append(self._length, new, closed=self._shared)
        self._has_failed = False
        self._new.clear()

    def close(self, user: object) -> bool:
        """Let go; the last one takes back what is not committed. Raises OSError: the next `open` does it then.

        Args:
            user: As in `open`; nothing is done for one that did not come to open it.

        Returns:
            Whether this was the last one.
        """
        if user not in self._users:
            return False
        self._users.remove(user)
        if self._users:
            return False
        try:
            # Where the record's last line may not be whole, the next `open` finds out how far the two of them came.
            if self._record is not None and self._record.is_sure:
                if os.fstat(self._fd).st_size > self._record.length and not self._record.is_closed:
                    os.ftruncate(self._fd, self._record.length)
                self._record.note_end()
        finally:
            self._let_go()
        return True

    def _check(self) -> None:
        """Nothing has failed so far. Raises SinkError."""
        if self._has_failed:
            raise SinkError("an earlier write to it failed, and nothing is written behind that", path=str(self._path))

    def _flush(self) -> None:
        self._write(self._buffer)
        self._buffer.clear()

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        self._has_failed = True
        write_all(self._fd, data)
        self._has_failed = False
        self._length += len(data)

    def _let_go(self) -> None:
        record, self._record = self._record, None
        fd, self._fd = self._fd, -1
        lock, self._lock = self._lock, None
        self._buffer.clear()
        self._new.clear()
        self._has_failed = False
        if record is not None:
            record.close()
        if fd >= 0:
            close(fd)
        if lock is not None:
            lock.release()


def _ends_a_line(fd: int) -> bool:
    """Whether what is appended to a file begins a line."""
    return os.lseek(fd, 0, os.SEEK_END) == 0 or (os.lseek(fd, -1, os.SEEK_END) >= 0 and os.read(fd, 1) == b"\n")
