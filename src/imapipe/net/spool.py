"""Large literals in anonymous temporary files.

A file has no name (it is unlinked when made), so nothing is left behind whatever happens to the process. It is
closed when the last holder of its `SpooledFile` goes away. Reads use `pread`, so any number of readers
share one descriptor without sharing a position.

`SpoolBudget` counts the bytes on disk of one connection; the data plane stops reading above its limit.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from typing import BinaryIO, cast

from imapipe.errors import SpoolError


class SpoolBudget:
    """The bytes that spooled literals of one connection hold on disk.

    Attributes:
        held_bytes: What they hold now.
        limit_bytes: Above it reading pauses.
        freed: Called after bytes were given back, or None.
    """

    __slots__ = ("freed", "held_bytes", "limit_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self.freed: Callable[[], None] | None = None

    def give_back(self, count: int) -> None:
        """A spooled literal is gone."""
        self.held_bytes -= count
        if self.freed is not None:
            self.freed()


class _Descriptor:
    """Owns a file descriptor and its share of the budget; closes both when the last holder is gone."""

    __slots__ = ("budget", "number", "size")

    def __init__(self, number: int, size: int, budget: SpoolBudget) -> None:
        self.number = number
        self.size = size
        self.budget = budget
        budget.held_bytes += size

    def __del__(self) -> None:
        os.close(self.number)
        self.budget.give_back(self.size)


class SpooledFile:
    """A finished literal on disk (`wire.literal.SpooledLiteral`)."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: _Descriptor) -> None:
        self._descriptor = descriptor

    def __len__(self) -> int:
        return self._descriptor.size

    def open(self) -> BinaryIO:
        """A new buffered reader at the first byte; it keeps the file alive."""
        return cast(BinaryIO, io.BufferedReader(_Reader(self._descriptor), 256 * 1024))

    def read(self) -> bytes:
        """All bytes, in memory."""
        descriptor = self._descriptor
        try:
            data = os.pread(descriptor.number, descriptor.size, 0)
            while len(data) < descriptor.size:
                more = os.pread(descriptor.number, descriptor.size - len(data), len(data))
                if not more:
                    raise SpoolError(f"the temporary file of a body is short: {len(data)} of {descriptor.size} bytes")
                data += more
        except OSError as error:
            if isinstance(error, SpoolError):
                raise
            raise SpoolError(f"the temporary file of a body could not be read: {error.strerror}") from error
        return data


class _Reader(io.RawIOBase):
    """One reader of a spooled file, with a position of its own."""

    def __init__(self, descriptor: _Descriptor) -> None:
        self._descriptor = descriptor
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._descriptor.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]  # the buffer protocol has no type before 3.12
        count = os.preadv(self._descriptor.number, [view], self._position)
        self._position += count
        return count


class SpoolFile:
    """A literal on its way to disk (`wire.framing.SpoolWriter`)."""

    __slots__ = ("_descriptor",)

    def __init__(self, size: int, folder: str | None, budget: SpoolBudget) -> None:
        try:
            if hasattr(os, "O_TMPFILE"):
                number = _open_unnamed(folder or tempfile.gettempdir())
            else:
                number = _open_unlinked(folder)
        except OSError as error:
            where = folder or tempfile.gettempdir()
            raise SpoolError(f"no temporary file for a large body in {where}: {error.strerror}") from error
        self._descriptor: _Descriptor | None = _Descriptor(number, size, budget)

    def write(self, data: memoryview) -> None:
        """Append; raises SpoolError where the disk is full."""
        assert self._descriptor is not None
        try:
            while data:
                data = data[os.write(self._descriptor.number, data) :]
        except OSError as error:
            raise SpoolError(
                f"a large body could not be written to a temporary file: {error.strerror}; "
                "make room, or name another folder with spool_dir="
            ) from error

    def finish(self) -> SpooledFile:
        """All bytes are there."""
        assert self._descriptor is not None
        finished = SpooledFile(self._descriptor)
        self._descriptor = None
        return finished

    def discard(self) -> None:
        """The rest will not come."""
        self._descriptor = None


def _open_unnamed(folder: str) -> int:
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        # Some file systems (and old overlay mounts) know no O_TMPFILE and say so in different ways.
        if error.errno is None or not os.path.isdir(folder):  # noqa: PTH112
            raise
        return _open_unlinked(folder)


def _open_unlinked(folder: str | None) -> int:
    number, path = tempfile.mkstemp(prefix="imapipe-", dir=folder)
    os.unlink(path)  # noqa: PTH108
    return number
