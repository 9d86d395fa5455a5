"""Large literals in anonymous temporary files.

A file has no name (or one that is gone as soon as it is made), so nothing is left behind whatever happens to
the process. It is closed when the last holder of its `SpooledFile` goes away, in whichever thread that is, or by
whoever knows that nobody will read it. Any number of readers share one file without sharing a position.
"""

from __future__ import annotations

import io
import os
import tempfile
import threading
import weakref
from typing import TYPE_CHECKING, BinaryIO, cast

from imapipe.errors import SpoolError

if TYPE_CHECKING:
    from typing_extensions import Buffer

READ_BYTES = 256 * 1024
_CLOSED = "the temporary file of a body is gone: the run ended before its message was handled"


class _Store:
    """Owns a temporary file; closes it when the last holder is gone.

    The lock is there for `close`: the number of a closed descriptor soon means another file.
    """

    __slots__ = ("__weakref__", "_file", "_lock", "size")

    def __init__(self, size: int, folder: str | None) -> None:
        self.size = size
        self._lock = threading.Lock()
        self._file = tempfile.TemporaryFile(buffering=0, prefix="imapipe-", dir=folder)  # noqa: SIM115 - see below
        # Not in __del__: of a cycle Python may end the file first, which then complains that nobody has closed it.
        weakref.finalize(self, self._file.close)

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def fileno(self) -> int:
        return self._descriptor()

    def write(self, data: memoryview) -> int:
        return self._file.write(data)

    def write_at(self, data: memoryview, position: int) -> int:
        with self._lock:
            descriptor = self._descriptor()
            if hasattr(os, "pwrite"):
                return os.pwrite(descriptor, data, position)
            self._file.seek(position)
            return self._file.write(data)

    def read(self, count: int, position: int) -> bytes:
        with self._lock:
            descriptor = self._descriptor()
            if hasattr(os, "pread"):
                return os.pread(descriptor, count, position)
            self._file.seek(position)
            return self._file.read(count)

    def read_into(self, view: memoryview, position: int) -> int:
        with self._lock:
            descriptor = self._descriptor()
            if hasattr(os, "preadv"):
                return os.preadv(descriptor, [view], position)
            self._file.seek(position)
            return self._file.readinto(view)

    def _descriptor(self) -> int:
        if self._file.closed:
            raise SpoolError(_CLOSED)
        return self._file.fileno()


class SpooledFile:
    """A finished literal on disk (`wire.response.literal.SpooledLiteral`)."""

    __slots__ = ("_store",)

    def __init__(self, store: _Store) -> None:
        self._store = store

    def __len__(self) -> int:
        return self._store.size

    def open(self) -> BinaryIO:
        """A new buffered reader at the first byte; it keeps the file alive."""
        return cast(BinaryIO, io.BufferedReader(_Reader(self._store), READ_BYTES))

    def read(self) -> bytes:
        """All bytes, in memory.

        Raises:
            SpoolError: The file cannot be read, or is short.
        """
        store = self._store
        try:
            data = store.read(store.size, 0)
            while len(data) < store.size:
                more = store.read(store.size - len(data), len(data))
                if not more:
                    raise SpoolError(f"the temporary file of a body is short: {len(data)} of {store.size} bytes")
                data += more
        except OSError as error:
            if isinstance(error, SpoolError):
                raise
            raise SpoolError(f"the temporary file of a body could not be read: {error.strerror}") from error
        return data

    def close(self) -> None:
        """Free the file now, whoever still refers to it."""
        self._store.close()


class _Reader(io.RawIOBase):
    """One reader of a spooled file, with a position of its own."""

    def __init__(self, store: _Store) -> None:
        self._store = store
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._store.size}[whence]
        if base + offset < 0:
            raise ValueError("a position before the first byte")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def fileno(self) -> int:
        # For mmap only: the position of the descriptor is nobody's.
        return self._store.fileno()

    def readinto(self, buffer: Buffer) -> int:
        count = self._store.read_into(memoryview(buffer).cast("B"), self._position)
        self._position += count
        return count


class SpoolFile:
    """A literal on its way to disk (`wire.response.literal.SpoolWriter`).

    Args:
        size: How many bytes are to come.
        folder: Where the file is made; None is the system's folder for temporary files.

    Raises:
        SpoolError: No file can be made there.
    """

    __slots__ = ("_store",)

    def __init__(self, size: int, folder: str | None) -> None:
        try:
            self._store = _Store(size, folder)
        except OSError as error:
            where = folder or tempfile.gettempdir()
            raise SpoolError(f"no temporary file for a large body in {where}: {error.strerror}") from error

    def __len__(self) -> int:
        return self._store.size

    def write(self, data: memoryview) -> None:
        """Append bytes.

        Raises:
            SpoolError: The disk is full, or fails.
        """
        try:
            while data:
                data = data[self._store.write(data) :]
        except OSError as error:
            raise _no_room(error) from error

    def write_at(self, data: memoryview, position: int) -> None:
        """Write bytes that belong there, whatever was written before. Raises SpoolError."""
        try:
            while data:
                count = self._store.write_at(data, position)
                data = data[count:]
                position += count
        except SpoolError:
            raise
        except OSError as error:
            raise _no_room(error) from error

    def read(self, count: int, position: int) -> bytes:
        """Bytes that were written before. Raises SpoolError."""
        try:
            return self._store.read(count, position)
        except SpoolError:
            raise
        except OSError as error:
            raise SpoolError(f"the temporary file of a body could not be read: {error.strerror}") from error

    def finish(self) -> SpooledFile:
        """All bytes are there."""
        return SpooledFile(self._store)

    def discard(self) -> None:
        """The rest will not come."""
        self._store.close()


def _no_room(error: OSError) -> SpoolError:
    return SpoolError(
        f"a large body could not be written to a temporary file: {error.strerror}; "
        "make room, or name another folder with spool_dir="
    )
