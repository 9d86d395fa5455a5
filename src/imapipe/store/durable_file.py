"""Files that survive the death of the process, and of the machine.

Invariants:

- `replace_durably` leaves the old content or the new one under the name, never a part or a mixture, whenever it is
  interrupted; when it returns, the new one survives a loss of power.
- Only functions of `os` touch a file here, so that tests can stop the world before and after each of them.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import Final

_PRIVATE: Final = 0o600
# Windows would otherwise turn line ends into its own.
BINARY: Final = getattr(os, "O_BINARY", 0)
# A folder can be synced on POSIX; some file systems answer that it means nothing there.
_MEANINGLESS: Final = frozenset({errno.EINVAL, errno.ENOTSUP})


def replace_durably(path: str, data: bytes) -> None:
    """Put `data` under a name: a temporary file in the same folder, synced, renamed, and the folder synced.

    Raises:
        OSError: The old content is there still, or the new one where only the folder could not be synced. The
            temporary file is gone if it could be removed.
    """
    fd = write_temporary(path, data)
    try:
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temporary(path), path)  # noqa: PTH105
    except OSError:
        remove(temporary(path))
        raise
    sync_folder(path)


def write_temporary(path: str, data: bytes) -> int:
    """Write the temporary file of a name; returns its open descriptor, which appends.

    Raises:
        OSError: Nothing is left behind, if it could be removed.
    """
    # A leftover of a killed process would belong to nobody; made anew, the file is ours and no link.
    remove(temporary(path))
    fd = os.open(temporary(path), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | BINARY, _mode(path))
    try:
        write_all(fd, data)
    except OSError:
        os.close(fd)
        remove(temporary(path))
        raise
    return fd


def write_all(fd: int, data: bytes) -> None:
    """Write all bytes; several calls only where the system took less than it was given.

    Raises:
        OSError: Not everything was written.
    """
    rest = memoryview(data)
    while rest:
        written = os.write(fd, rest)
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rest = rest[written:]


def temporary(path: str) -> str:
    """The name under which the next content of a file is written."""
    return f"{path}.tmp"


def remove(path: str) -> None:
    """Remove a file that need not be there and that nothing depends on."""
    with suppress(OSError):
        os.unlink(path)  # noqa: PTH108


def sync_folder(path: str) -> None:
    """Make the name of a file survive a loss of power.

    Raises:
        OSError: It may not.
    """
    if os.name == "nt":
        # Windows opens no folders; it keeps names in its own journal.
        return
    fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY)  # noqa: PTH120
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _MEANINGLESS:
            raise
    finally:
        os.close(fd)


def _mode(path: str) -> int:
    """The permissions of the file that is replaced; a new one is for its owner only."""
    try:
        return os.stat(path).st_mode & 0o777  # noqa: PTH116
    except OSError:
        return _PRIVATE
