r"""The journal beside a checkpoint: what changed since its last full save, one line for each change.

A line is the CRC-32 of a JSON object in eight hexadecimal digits, a space, the object, and a line end. The object is a
change, which names its series and sequence, so one that a full save contains already is recognised and ignored; or a
whole state, which names the document that it is to be read with, and means nothing beside any other.

Invariants:

- A change is in the file, by one `write`, when `append` returns: the death of the process does not lose it.
- Nothing is removed from the file before a full save that contains it is durable; `supersede` is called after that.
- A line that was synced stays durable when the file is written anew without others: there may be lines of several
  series in it, and one of them does not undo what another was promised.
- All states in the file are in the next document: where that is durable they may go, and not before.
- A line that cannot be read is ignored: only a death or a loss of power in the middle of a write makes one, and its
  change was never promised. No reading of damaged bytes can claim a message: the CRC guards each line by itself.
- What this process did not write is replaced by a new file at its first `append`, never before; by then it has been
  superseded. So nothing that somebody else has open, or linked to the name, is ever written to.

Every method but `append` is called by one thread at a time; `append` may run beside any of them.
"""

from __future__ import annotations

import logging
import os
import threading
import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import orjson

from imapipe.durable_file import (
    Partial,
    check_line,
    check_name,
    close,
    read_lines,
    remove,
    sync_folder,
    write_all,
)
from imapipe.store.checkpoint_state import CheckpointChange, CheckpointState

_log = logging.getLogger(__name__)


class SavedState(NamedTuple):
    """A state that was saved since the last document.

    Attributes:
        document: Names that document.
        state: The state.
    """

    document: str
    state: CheckpointState


class Journal:
    """The journal of one checkpoint file, for one process.

    Attributes:
        size: Bytes in the file.
        has_states: Whether there are states in it that no document contains.
    """

    __slots__ = (
        "_durable",
        "_fd",
        "_kept",
        "_lock",
        "_name_is_durable",
        "_path",
        "_superseded",
        "_torn",
        "has_states",
        "size",
    )

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        self.size = 0
        self.has_states = False
        self._kept: list[tuple[CheckpointChange, bytes]] = []
        # So many of them, the first, were synced.
        self._durable = 0
        self._lock = threading.Lock()
        self._name_is_durable = False
        self._superseded = False
        self._torn = False

    def read(self) -> list[CheckpointChange | SavedState]:
        """Read every whole line, in order.

        Raises:
            OSError: The file is there and cannot be read, or a link is in its place.
        """
        found: list[CheckpointChange | SavedState] = []
        damaged, first = 0, 0
        try:
            for number, line in enumerate(read_lines(self._path), 1):
                read = _parse(line.removesuffix(b"\n"))
                if read is not None:
                    found.append(read)
                elif line.endswith(b"\n") and len(line) > 1:
                    damaged += 1
                    first = first or number
        except FileNotFoundError:
            return []
        if damaged:
            others = f", as are {damaged - 1} others" if damaged > 1 else ""
            _log.warning("line %d of %s is damaged and ignored%s", first, self._path, others)
        return found

    def append(self, change: CheckpointChange) -> None:
        """Add a change.

        Raises:
            OSError: It is not in the file; what was there before is whole.
        """
        line = _line(change.to_json())
        with self._lock:
            self._write(line)
            self._kept.append((change, line))

    def save(self, document: str, state: bytes) -> None:
        """Add a whole state, and make it and all before it survive a loss of power.

        Args:
            document: Names the last document.
            state: The state as JSON.

        Raises:
            OSError: It may not; what was there before is whole.
        """
        line = _line(b'{"document":%b,"state":%b}' % (orjson.dumps(document), state))
        with self._lock:
            self._write(line)
            self.has_states = True
        self.sync()

    def drop(self, contained: Callable[[CheckpointChange], bool]) -> None:
        """Forget what need not be written again, because a state in the file contains it. The file stays as it is."""
        with self._lock:
            needed = [not contained(change) for change, _ in self._kept]
            self._durable = sum(needed[: self._durable])
            self._kept = [kept for kept, need in zip(self._kept, needed, strict=True) if need]

    def _write(self, line: bytes) -> None:
        check_line(line, self._path)
        if self._fd < 0:
            self._fd = self._begin(Partial(self._path))
            self.size = 0
        if self._torn:
            # What failed left something behind that would swallow the beginning of this line.
            os.ftruncate(self._fd, self.size)
        self._torn = True
        write_all(self._fd, line)
        self._torn = False
        self.size += len(line)

    def changes(self, series: str) -> list[CheckpointChange]:
        """What this process appended to a series and no full save contains."""
        with self._lock:
            return [change for change, _ in self._kept if change.series == series]

    def sync(self) -> None:
        """Make the lines survive a loss of power.

        Raises:
            OSError: They may not.
        """
        with self._lock:
            fd, count = self._fd, len(self._kept)
        # Without the lock: an append must not wait for the disk. Nobody else closes the descriptor meanwhile.
        if fd >= 0:
            os.fsync(fd)
            check_name(os.fstat(fd), self._path)
            if not self._name_is_durable:
                sync_folder(self._path)
                self._name_is_durable = True
            self._durable = count

    def supersede(self, contained: Mapping[str, int]) -> None:
        """Forget what a durable document contains: all states, changes by series and sequence, and what others left."""
        self._keep(lambda change: change.sequence > contained.get(change.series, -1))

    def forget(self, series: str) -> None:
        """Forget the lines of a series that is durably gone."""
        self._keep(lambda change: change.series != series)

    def _keep(self, needed: Callable[[CheckpointChange], bool]) -> None:
        with self._lock:
            self._superseded = True
            self.has_states = False
            durable = sum(needed(change) for change, _ in self._kept[: self._durable])
            self._kept = [(change, line) for change, line in self._kept if needed(change)]
            self._durable = 0
            if self._fd < 0:
                return
            count = len(self._kept)
            try:
                if not durable:
                    self._rewrite()
                    return
                partial = Partial(self._path, self._data(0))
            except OSError as error:
                self._not_shortened(error)
                self._durable = durable
                return
        # Again without the lock.
        try:
            try:
                os.fsync(partial.fd)
                with self._lock:
                    write_all(partial.fd, self._data(count))
                    self._replace(partial)
            except OSError:
                partial.discard()
                raise
            sync_folder(self._path)
            self._name_is_durable = True
        except OSError as error:
            self._not_shortened(error)
        self._durable = durable

    def close(self) -> None:
        """Close the file; remove it where nothing in it is needed."""
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                close(fd)
            if self._superseded and not self._kept and not self.has_states:
                remove(self._path)

    def _rewrite(self) -> None:
        """Let the file hold the lines only that are kept; none of them was durable."""
        if not self._kept:
            os.ftruncate(self._fd, 0)
            self.size = 0
            self._torn = False
            return
        self._replace(Partial(self._path, self._data(0)))

    def _begin(self, partial: Partial) -> int:
        """Let a new file be the journal, whatever has its name now; gives its descriptor."""
        try:
            partial.put()
        except OSError:
            partial.discard()
            raise
        return partial.release()

    def _replace(self, partial: Partial) -> None:
        """Let a new file with the lines that are kept be the journal."""
        old, self._fd = self._fd, self._begin(partial)
        self._name_is_durable = False
        close(old)
        self.size = len(self._data(0))
        self._torn = False

    def _data(self, begin: int) -> bytes:
        return b"".join(line for _, line in self._kept[begin:])

    def _not_shortened(self, error: OSError) -> None:
        # What is in the file too much is ignored by its sequence; a full disk shows at the next save.
        _log.debug("the journal %s could not be shortened", self._path, exc_info=error)


def _line(data: bytes) -> bytes:
    return b"%08x %b\n" % (zlib.crc32(data), data)


def _parse(line: bytes) -> CheckpointChange | SavedState | None:
    """Read a line without its end, or return None where it is not whole."""
    digits, _, data = line.partition(b" ")
    if len(digits) != 8 or digits != b"%08x" % zlib.crc32(data):
        return None
    try:
        fields = orjson.loads(data)
        if isinstance(fields, dict) and "state" in fields:
            return SavedState(str(fields.get("document")), CheckpointState.from_fields(fields["state"]))
        return CheckpointChange.from_fields(fields)
    except ValueError:
        return None
