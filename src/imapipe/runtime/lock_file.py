"""The lock that gives a file to one holder at a time on this machine: a checkpoint, a journal, a sink, a token.

Invariants:

- The system releases the lock when its process dies, however it dies; the file that is left then holds nobody up.
- Two locks of one path exclude each other in one process too.
- A release leaves no file.
- A link in the place of the file is an error, and never followed: filelock opens it so.
- Nor is anything else that is there taken for a lock, to be removed at the end: `poetry.lock` is not that of `poetry`.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from imapipe.durable_file import PRIVATE, open_to_read

if TYPE_CHECKING:
    from filelock import BaseFileLock


class LockFile:
    """A lock file at `path`."""

    __slots__ = ("_lock", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock: BaseFileLock | None = None

    def acquire(self) -> bool:
        """Take the lock, without waiting; returns whether it was free.

        Raises:
            OSError: The file cannot be made or locked, or something else has its name.
        """
        self._check_name()
        # Here, because it takes longer to import than all of this package and many programs never lock.
        from filelock import FileLock, Timeout  # noqa: PLC0415

        # Not one thread's: a run opens its checkpoint in a thread and closes it in the loop.
        lock = FileLock(self.path, mode=PRIVATE, thread_local=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return False
        self._lock = lock
        return True

    def _check_name(self) -> None:
        try:
            status = os.lstat(self.path)
        except OSError:
            # None is there, or the lock tells why it cannot be.
            return
        if stat.S_ISLNK(status.st_mode):
            raise OSError(errno.ELOOP, "it is a link; remove it", self.path)
        # Where a file system cannot lock, filelock writes a number there.
        if not stat.S_ISREG(status.st_mode) or (status.st_size and not _begins_with_a_digit(self.path)):
            raise OSError(errno.EEXIST, "something else has the name of the lock file; move it away", self.path)

    def release(self) -> None:
        """Give it back; does nothing where it is not held."""
        lock, self._lock = self._lock, None
        if lock is not None:
            # Removed while it is held: whoever opened it before finds after locking that it has no name any more.
            with suppress(OSError):
                os.unlink(self.path)  # noqa: PTH108
            lock.release()


def _begins_with_a_digit(path: str) -> bool:
    try:
        with open_to_read(path) as file:
            return file.read(1).isdigit()
    except FileNotFoundError:
        # Just released.
        return True
