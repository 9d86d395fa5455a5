"""The lock that gives a file to one holder at a time on this machine: a checkpoint, a journal, a sink, a token.

Invariants:

- The system releases the lock when its process dies, however it dies; the file that is left then holds nobody up.
- Two locks of one path exclude each other in one process too.
- A release leaves no file.
- A link in the place of the file is an error, and never followed: filelock opens it so.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from imapipe.durable_file import PRIVATE

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
            OSError: The file cannot be made or locked.
        """
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

    def release(self) -> None:
        """Give it back; does nothing where it is not held."""
        lock, self._lock = self._lock, None
        if lock is not None:
            # Removed while it is held: whoever opened it before finds after locking that it has no name any more.
            with suppress(OSError):
                os.unlink(self.path)  # noqa: PTH108
            lock.release()
