"""Files that survive the death of the process, and of the machine.

Invariants:

- `replace_durably` leaves the old content or the new one under the name, never a part or a mixture, whenever it is
  interrupted; when it returns, the new one survives a loss of power. The same holds for `save_file` unless it is told
  that the machine will not fail; of several writers of one name each writes a whole file, and the last one stays.
- Only functions of `os` touch a file here, so that tests can stop the world before and after each of them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from typing import Final

_PRIVATE: Final = 0o600
# Windows would otherwise turn line ends into its own.
BINARY: Final = getattr(os, "O_BINARY", 0)
# A link that somebody put in the way is an error, not a way to another file. Windows has no such flag.
_NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0)
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


def save_file(
    path: str,
    chunks: Iterable[bytes | bytearray],
    *,
    durable: bool = True,
    mode: int = _PRIVATE,
    mtime: datetime | None = None,
) -> None:
    """Put content under a name by way of a temporary file in the same folder, whose name is short and random.

    Args:
        path: Where.
        chunks: The content.
        durable: Whether it must survive a loss of power when this returns; it costs two syncs.
        mode: The permissions, whatever the umask.
        mtime: When the file counts as changed; None is now.

    Raises:
        OSError: As for `replace_durably`.
    """
    # Not made from the name, which may be as long as the file system allows.
    partial = os.path.join(os.path.dirname(path), f".{os.urandom(8).hex()}.part")  # noqa: PTH118, PTH120
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK | BINARY, _PRIVATE)
    try:
        try:
            for chunk in chunks:
                write_all(fd, chunk)
            if mode != _PRIVATE and hasattr(os, "fchmod"):
                os.fchmod(fd, mode)
            if mtime is not None:
                seconds = mtime.timestamp()
                os.utime(fd if os.utime in os.supports_fd else partial, (seconds, seconds))
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(partial, path)  # noqa: PTH105
    except BaseException:
        remove(partial)
        raise
    if durable:
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


def write_all(fd: int, data: bytes | bytearray) -> None:
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
