"""Files of one folder tree that appear together: written under temporary names, synced, then renamed.

Invariants:

- Nothing has its final name before it is whole, and, where it is to be durable, on the disk.
- `publish` has made files and names safe when it returns; interrupted, it leaves whole files only.
- Temporary names have a form of their own, by which `remove_leftovers` knows them.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Final

from imapipe.durable_file import PLAIN, open_new, remove, sync_folder, write_all

# Maildir makes one with flags in its name, to see whether the file system takes them.
_LEFTOVER: Final = re.compile(r"\.[0-9a-f]{16}\.imapipe-part(?::2,S)?\Z")
# Syncs that wait for the disk at the same time are answered by one write of the file system's journal.
_SYNCS_AT_ONCE: Final = 16


class Staged:
    """Files that wait to appear.

    Args:
        durable: Whether they must survive a loss of power once they have appeared.
    """

    __slots__ = ("_durable", "_files", "_folders")

    def __init__(self, *, durable: bool) -> None:
        self._durable = durable
        self._files: dict[Path, Path] = {}
        self._folders: set[Path] = set()

    def __contains__(self, path: Path) -> bool:
        return path in self._files

    def write(
        self,
        path: Path,
        chunks: Iterable[bytes | bytearray],
        *,
        staging: Path | None = None,
        mtime: datetime | None = None,
    ) -> None:
        """Write a file that will appear at `path`.

        Args:
            path: Where.
            chunks: Its content.
            staging: The folder for the temporary file, on the same file system; that of `path` unless given.
            mtime: When it counts as changed; None is now.

        Raises:
            OSError: It could not be written; nothing is left behind.
        """
        partial = (staging or path.parent) / f".{os.urandom(8).hex()}.imapipe-part"
        fd = open_new(partial)
        try:
            try:
                for chunk in chunks:
                    write_all(fd, chunk)
            finally:
                os.close(fd)
            if mtime is not None:
                seconds = mtime.timestamp()
                os.utime(partial, (seconds, seconds))
        except BaseException:
            remove(os.fspath(partial))
            raise
        self._files[path] = partial

    def partial(self, path: Path) -> Path:
        """Where a file that has not appeared yet can be read."""
        return self._files[path]

    def sync_later(self, folder: Path) -> None:
        """Make the names in a folder safe with the next `publish`."""
        self._folders.add(folder)

    def publish(self) -> None:
        """Let all of them appear, and make that safe. Raises OSError: some may have appeared, each of them whole."""
        if self._durable:
            with ThreadPoolExecutor(min(_SYNCS_AT_ONCE, max(1, len(self._files)))) as threads:
                for _ in threads.map(_sync, self._files.values()):
                    pass
        while self._files:
            path, partial = next(iter(self._files.items()))
            partial.replace(path)
            del self._files[path]
            self._folders.add(path.parent)
        if self._durable:
            for folder in self._folders:
                sync_folder(os.path.join(folder, ""))  # noqa: PTH118  # a folder, not the one above it
        self._folders.clear()

    def discard(self) -> None:
        """Remove what has not appeared."""
        for partial in self._files.values():
            remove(os.fspath(partial))
        self._files.clear()


def make_folder(path: Path, *, durable: bool) -> None:
    """Make a folder and those above it, readable for their owner only. Raises OSError."""
    missing: list[Path] = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(errno.ENOTDIR, "it is no folder", os.fspath(folder)) from error
        if durable:
            sync_folder(os.fspath(folder))


def remove_leftovers(folder: Path) -> None:
    """Remove what a process left that was killed while it wrote. The folder is held by us alone."""
    for name in list(filter(_LEFTOVER.match, names_in(folder))):
        remove(os.fspath(folder / name))


def names_in(folder: Path, *, of_files: bool = False) -> Iterator[str]:
    """The names in a folder, as they are met; of files, and links to them, only, where that is said. Raises OSError."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not of_files or entry.is_file():
                yield entry.name


def _sync(path: Path) -> None:
    # Windows syncs only what is open for writing.
    fd = os.open(path, os.O_RDWR | PLAIN)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
