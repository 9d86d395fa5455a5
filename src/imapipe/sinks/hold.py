"""One writer at a time: the lock beside what a sink writes."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from imapipe.errors import SinkError
from imapipe.runtime.lock_file import LockFile


def beside(file: Path, ending: str) -> Path:
    """What is kept beside a file, under its name with an ending. Raises IsADirectoryError: `.` and `/` have no name."""
    if not file.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(file))
    return file.with_name(f"{file.name}{ending}")


def hold(lock_file: Path, place: Path, kind: str, *, of: str = "") -> LockFile:
    """Take the lock of a place, without waiting.

    Args:
        lock_file: The file that is locked.
        place: What is written to.
        kind: What that is, for the advice: a file or a folder.
        of: What of it the lock is for, where it is not the whole.

    Raises:
        SinkError: Another run has it.
        OSError: It cannot be made.
    """
    lock = LockFile(os.fspath(lock_file))
    if not lock.acquire():
        what = f"{of} to it" if of else "to it"
        raise SinkError(
            f"another run of imapipe writes {what}; wait for that, or choose another {kind}", path=str(place)
        )
    return lock
