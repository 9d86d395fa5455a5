"""The one way to write a file that is to be there afterwards, and to read one back.

Invariants:

- What is written goes into a file of its own first: new, without a link in the way, under a short random name, for its
  owner only unless it is told otherwise. Under its own name there is the old content or the new one, never a part or a
  mixture, whenever it is interrupted; of several writers of one name each writes a whole file, and the last one stays.
- When `save_file` returns, the new content survives a loss of power, unless it is told that the machine will not fail.
- A link that somebody put in the place of a file is replaced, never followed; where a file is read, or written in place
  because it grows or is a database, it is an error.
- What is read may be anything: no folder, pipe or device is waited for, and no more is in memory than a file or a line
  of ours may have.
- What is written in place counts only while the file has its name (`check_name`): one that is gone takes bytes still.
- Only functions of `os` touch a file here, so that tests can stop the world before and after each of them.
"""

from __future__ import annotations

import errno
import io
import os
import sqlite3
import stat
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from itertools import takewhile
from typing import Final

PRIVATE: Final = 0o600
# Windows would otherwise turn line ends into its own.
_BINARY: Final = getattr(os, "O_BINARY", 0)
# A link that somebody put in the way is an error, not a way to another file. Windows has no such flag.
_NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0)
PLAIN: Final = _NO_LINK | _BINARY
"""Flags for whoever opens a file otherwise: bytes as they are, and no link followed."""
# A pipe that somebody put in the way would be waited for.
_NO_WAIT: Final = getattr(os, "O_NONBLOCK", 0)
# A folder can be synced on POSIX; some file systems answer that it means nothing there.
_MEANINGLESS: Final = frozenset({errno.EINVAL, errno.ENOTSUP})
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


_NO_FILE: Final = "it is no file"
_LOOK_BYTES: Final = 64 * 1024
MOST_BYTES: Final = 64 * 1024 * 1024
"""What is read as a whole is no longer, unless more is allowed."""
LINE_BYTES: Final = 32 * 1024 * 1024
"""No line that is written is longer, and none is read."""
MOST_SECRET_BYTES: Final = 64 * 1024
"""No file with a secret in its first line is longer."""


def save_file(
    path: str,
    chunks: Iterable[bytes | bytearray],
    *,
    durable: bool = True,
    mode: int = PRIVATE,
    mtime: datetime | None = None,
) -> None:
    """Put content under a name.

    Args:
        path: Where.
        chunks: The content.
        durable: Whether it must survive a loss of power when this returns; it costs two syncs.
        mode: The permissions, whatever the umask.
        mtime: When the file counts as changed; None is now.

    Raises:
        OSError: The old content is there still, or the new one where only the folder could not be synced. The
            temporary file is gone if it could be removed.
    """
    partial = Partial(path)
    try:
        for chunk in chunks:
            write_all(partial.fd, chunk)
        if mode != PRIVATE and hasattr(os, "fchmod"):
            os.fchmod(partial.fd, mode)
        if mtime is not None:
            seconds = mtime.timestamp()
            os.utime(partial.fd if os.utime in os.supports_fd else partial.path, (seconds, seconds))
        if durable:
            os.fsync(partial.fd)
        os.close(partial.release())
        partial.put()
    except BaseException:
        partial.discard()
        raise
    if durable:
        sync_folder(path)


class Partial:
    """What a name is to hold next, in a file of its own in the same folder. It becomes that by `put`, or is discarded.

    Args:
        target: The name.
        data: How the content begins.

    Raises:
        OSError: Nothing is left behind, if it could be removed.

    Attributes:
        fd: Its open descriptor, which appends.
        path: Where it is until then.
    """

    __slots__ = ("_target", "fd", "path")

    def __init__(self, target: str, data: bytes = b"") -> None:
        self._target = target
        # The name is short, since that of the target may be as long as the file system allows.
        self.path = os.path.join(os.path.dirname(target), f"{_prefix(target)}{os.urandom(8).hex()}{_SUFFIX}")  # noqa: PTH118, PTH120
        self.fd = open_new(self.path, os.O_APPEND)
        try:
            write_all(self.fd, data)
        except BaseException:
            self.discard()
            raise

    def release(self) -> int:
        """Give the descriptor away; it is no more this one's to close."""
        fd, self.fd = self.fd, -1
        return fd

    def put(self) -> None:
        """Let it be what its name holds.

        Raises:
            OSError: It is not.
        """
        os.replace(self.path, self._target)  # noqa: PTH105

    def discard(self) -> None:
        """Close and remove it."""
        if self.fd >= 0:
            close(self.release())
        remove(self.path)


_SUFFIX: Final = ".part"


def _prefix(target: str) -> str:
    """How the names of all partial files of a target begin."""
    return f".{zlib.crc32(os.fsencode(os.path.basename(target))):08x}-"  # noqa: PTH119


def remove_leftovers(path: str) -> None:
    """Remove the partial files of a name that killed processes left; nobody may be writing it now."""
    folder, prefix = os.path.dirname(path), _prefix(path)  # noqa: PTH120
    with suppress(OSError):
        for name in os.listdir(folder or "."):  # noqa: PTH208
            if name.startswith(prefix) and name.endswith(_SUFFIX):
                remove(os.path.join(folder, name))  # noqa: PTH118


def open_to_read(path: str, *, through_links: bool = False) -> io.BufferedReader:
    """Open a file for reading, and nothing that would be waited for.

    Args:
        path: Where.
        through_links: Whether a link is followed.

    Raises:
        OSError: It cannot be read, is a folder, a pipe or a device, or a link where none is followed.
    """
    fd = _open(path, os.O_RDONLY | _NO_WAIT | (_BINARY if through_links else PLAIN))
    try:
        _check_regular(os.fstat(fd), path)
    except BaseException:
        close(fd)
        raise
    return os.fdopen(fd, "rb")


def read_object(path: str, most_bytes: int = MOST_BYTES) -> bytes:
    """Read a file that is to hold one object of JSON, as a whole.

    Returns:
        What is in it. Of a long one that does not begin and end as an object does, the beginning, which is none either.

    Raises:
        OSError: As in `open_to_read`, or it is longer than `most_bytes`.
    """
    with open_to_read(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most_bytes:
            raise OSError(errno.EFBIG, f"it is longer than {most_bytes:,} bytes", path)
        beginning = file.read(_LOOK_BYTES)
        if size <= _LOOK_BYTES:
            return beginning
        file.seek(-_LOOK_BYTES, os.SEEK_END)
        if not (beginning.lstrip().startswith(b"{") and file.read().rstrip().endswith(b"}")):
            return beginning
        file.seek(0)
        return file.read()


def read_lines(path: str, most_bytes: int = LINE_BYTES) -> Iterator[bytes]:
    """Read a file that grows by lines: each of them with its end. The last one has none where a process was killed.

    Raises:
        OSError: As in `open_to_read`, or a line is longer than `most_bytes`.
    """
    with open_to_read(path) as file:
        while line := file.readline(most_bytes + 1):
            check_line(line, path, most_bytes)
            yield line


def whole_lines(path: str) -> Iterator[bytes]:
    """The lines of such a file that have an end: one without is of a killed process. Raises as `read_lines` does."""
    return takewhile(lambda line: line.endswith(b"\n"), read_lines(path))


def check_line(line: bytes, path: str, most_bytes: int = LINE_BYTES) -> None:
    """Raises OSError where a line is, or would be, too long to be read again."""
    if len(line) > most_bytes:
        raise OSError(errno.EFBIG, f"a line of it is longer than {most_bytes:,} bytes", path)


def read_small(path: str, most_bytes: int) -> bytes:
    """Read what cannot be long, whatever it is that has the name: a file, or a pipe that a program writes to.

    Raises:
        OSError: It cannot be read, or is longer.
    """
    fd = os.open(path, os.O_RDONLY | _BINARY)
    with os.fdopen(fd, "rb") as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise OSError(errno.EFBIG, f"it is longer than {most_bytes:,} bytes")
    return data


def open_new(path: str | os.PathLike[str], flags: int = 0) -> int:
    """Open a file that is not there yet, to write to it; for its owner only, and no link in its place is followed.

    Args:
        path: Where.
        flags: More flags for `os.open`.

    Returns:
        Its descriptor.

    Raises:
        OSError: There is something of that name, or it cannot be made.
    """
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags | PLAIN, PRIVATE)


def open_in_place(path: str, flags: int = 0, *, only_ours: bool = True) -> int:
    """Open a file that is read and written where it is, such as a database; it is made where there is none.

    Args:
        path: Where. A new file is for its owner only, also where somebody made the empty file beforehand.
        flags: More flags for `os.open`.
        only_ours: Refuse the file of another user, who could read what is put into it.

    Returns:
        Its descriptor.

    Raises:
        OSError: It cannot be opened, it is a link, a pipe or a device, or another user's.
    """
    fd = _open(path, os.O_RDWR | os.O_CREAT | flags | _NO_WAIT | PLAIN)
    try:
        status = os.fstat(fd)
        _check_regular(status, path)
        if only_ours and not is_ours(status):
            reason = "it belongs to another user, who could read what is put there; name another file"
            raise OSError(errno.EPERM, reason, path)
        if not status.st_size and hasattr(os, "fchmod"):
            os.fchmod(fd, PRIVATE)
    except BaseException:
        close(fd)
        raise
    return fd


def _open(path: str, flags: int) -> int:
    """Open something that has a name already, or is made for its owner only; what it is, is looked at behind that."""
    try:
        return os.open(path, flags, PRIVATE)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a link; name the file that it leads to", path) from error
        if error.errno == errno.ENXIO:
            # A socket, or a pipe that nobody reads.
            raise OSError(errno.EINVAL, _NO_FILE, path) from error
        raise


def _check_regular(status: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, _NO_FILE, path)


def check_name(opened: os.stat_result, path: str) -> None:
    """See to it that a file which is written in place has its name still: else nobody would find what is put there.

    Args:
        opened: What `os.fstat` says of the open file.
        path: The name by which it was opened.

    Raises:
        OSError: Somebody has removed or moved it, or the name is that of another file now.
    """
    try:
        is_there = os.path.samestat(opened, os.lstat(path))
    except FileNotFoundError:
        is_there = False
    if not is_there:
        raise OSError(errno.ENOENT, "somebody removed, moved or replaced it while it was written to", path)


def kept_mode(path: str) -> int:
    """The permissions of a file of ours that is replaced; those of anybody else's are no choice of ours."""
    try:
        status = os.lstat(path)
    except OSError:
        return PRIVATE
    return status.st_mode & 0o777 if stat.S_ISREG(status.st_mode) and is_ours(status) else PRIVATE


def is_ours(status: os.stat_result) -> bool:
    """Whether a file belongs to the user that this process runs as; always where the system has no such thing."""
    return not hasattr(os, "geteuid") or status.st_uid == os.geteuid()


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all bytes; several calls only where the system took less than it was given.

    Raises:
        OSError: Not everything was written.
    """
    rest = memoryview(data)
    try:
        while rest:
            written = os.write(fd, rest)
            if not written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            rest = rest[written:]
    finally:
        # An error keeps this frame, and its caller could not empty a buffer that is still looked at.
        rest.release()


def close(fd: int) -> None:
    """Close a descriptor on whose answer nothing depends: it is gone whatever that says."""
    with suppress(OSError):
        os.close(fd)


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


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or what it was raised from, says that there is no room left."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _NO_ROOM:
            return True
        # Above eight bits is a closer description.
        if isinstance(cause, sqlite3.Error) and getattr(cause, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            return True
        cause = cause.__cause__
    return False


def named_in(error: OSError) -> str:
    """The file or folder that the system names in an error, "" where it names none, or the number of an open one."""
    return error.filename if isinstance(error.filename, str) else ""
