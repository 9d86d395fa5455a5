r"""Maildir: a file for each message, its flags in the name (https://cr.yp.to/proto/maildir.html).

A message is called `<UIDVALIDITY>.U<UID>M<tag>.imapipe,S=<bytes>:2,<flags>`; the tag stands for account and mailbox. So
it is recognised when it comes again, whatever became of its flags; what a mail program has moved to another folder, or
removed, is not there, and is written again unless a checkpoint says that it is done.

Invariants:

- A message appears in `cur` whole, by a rename from `tmp`; `S=` is its size in bytes, which are those of the server.
- A UID that is there is not written again. Which ones are there is read from the names when a run begins.
- A folder has one writer of ours at a time. Other programs may read it and change flags meanwhile.
"""

from __future__ import annotations

import errno
import os
import re
from array import array
from collections.abc import Collection
from itertools import chain
from typing import Final, Literal

from imapipe.durable_file import PLAIN, PRIVATE
from imapipe.middleware.base import Run
from imapipe.models.message import Message
from imapipe.sinks.base import FileSink
from imapipe.sinks.content import body_size, chunks_of_body
from imapipe.sinks.hold import hold
from imapipe.sinks.place import Place, folder_names, shortened
from imapipe.sinks.staged import Staged, make_folder, names_in, remove_leftovers
from imapipe.store.run_lock import RunLock
from imapipe.wire.uid_set import UidSet

Layout = Literal["maildir++", "folders"]

_OF_A_MAILDIR: Final = frozenset({"cur", "new", "tmp"})
_LETTERS: Final = {
    "\\draft": "D",
    "\\flagged": "F",
    "$forwarded": "P",
    "\\answered": "R",
    "\\seen": "S",
    "\\deleted": "T",
}
_NAME: Final = re.compile(r"(\d+)\.U(\d+)M([0-9a-f]{8})\.imapipe(?:,[^:;!]*)?(?:[:;!]2,([A-Za-z]*))?\Z")


class Maildir(FileSink):
    """Writes each message to a Maildir, with its flags and the time of its arrival.

    Args:
        path: The folder; made where it is missing.
        layout: How the mailboxes of a whole account lie in it: "maildir++" (`.Archive.2024`, as Dovecot and Courier do)
            or "folders" (`Archive/2024`).
        durable: Whether a message must survive a loss of power before it counts as done.
    """

    def __init__(self, path: str | os.PathLike[str], *, layout: Layout = "maildir++", durable: bool = True) -> None:
        super().__init__(path, durable=durable)
        if layout not in ("maildir++", "folders"):
            raise ValueError(f'layout= takes "maildir++" or "folders", not {layout!r}')
        self._layout: Layout = layout
        self._staged = Staged(durable=durable)
        self._lock: RunLock | None = None

    def for_mailbox(self, name: str, delimiter: str | None) -> Maildir:
        """The sink for one mailbox of a whole account; INBOX is the folder itself under "maildir++"."""
        if self._layout == "folders":
            path = self.path.joinpath(*folder_names(name, delimiter, taken=_OF_A_MAILDIR))
        elif name == "INBOX":
            path = self.path
        else:
            levels = [level.replace(".", "%2E") for level in folder_names(name, delimiter)]
            path = self.path / shortened(f".{'.'.join(levels)}")
        return Maildir(path, layout=self._layout, durable=self._durable)

    def _open(self, run: Run) -> None:
        for name in ("", "tmp", "new", "cur"):
            make_folder(self.path / name, durable=self._durable)
        if self._layout == "maildir++" and self.path.name.startswith("."):
            os.close(os.open(self.path / "maildirfolder", os.O_WRONLY | os.O_CREAT | PLAIN, PRIVATE))
        self._lock = hold(self.path / ".imapipe.lock", self.path, "folder")
        remove_leftovers(self.path / "tmp")
        self._place = Place.of(run)
        self._tag = self._place.tag
        self._separator = self._find_separator()
        self._there = self._find_uids()

    def _known(self) -> UidSet:
        return self._there

    def _write_one(self, message: Message) -> None:
        if message.uid in self._there:
            # Of an earlier run that was cut off: its name may not be safe yet.
            self._staged.sync_later(self.path / "cur")
            return
        # The size stands in the name, so the whole must be known before it gets one.
        base = f"{self._place.uidvalidity}.U{message.uid}M{self._tag}.imapipe,S={body_size(message)}"
        name = f"{base}{self._separator}2,{letters_of(message.flags)}"
        self._staged.write(
            self.path / "cur" / name,
            chunks_of_body(message),
            staging=self.path / "tmp",
            mtime=message.internal_date,
        )
        self._written.append(message.uid)

    def _commit(self) -> None:
        self._staged.publish()
        self._there |= UidSet.from_numbers(self._written)
        self._written.clear()

    def _close(self) -> None:
        self._staged.discard()
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def _find_uids(self) -> UidSet:
        """The UIDs of this mailbox that are there, by their names."""
        self._written: list[int] = []
        found = array("L")
        for name in chain(names_in(self.path / "new"), names_in(self.path / "cur")):
            parts = _NAME.match(name)
            if parts and int(parts[1]) == self._place.uidvalidity and parts[3] == self._tag:
                found.append(int(parts[2]))
        return UidSet.from_numbers(found)

    def _find_separator(self) -> str:
        """What stands before the flags: a colon, or what the file system takes in its place."""
        probe = self.path / "tmp" / f".{os.urandom(8).hex()}.imapipe-part:2,S"
        try:
            os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | PLAIN, PRIVATE))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES, errno.EPERM):
                raise
            return "!"
        # On Windows the colon begins the name of a stream, and the file itself has another name.
        is_taken = probe.name in names_in(probe.parent)
        (probe if is_taken else probe.with_name(probe.name.partition(":")[0])).unlink()
        return ":" if is_taken else "!"


def letters_of(flags: Collection[str]) -> str:
    """The letters of flags, in the order of the alphabet; keywords have none."""
    return "".join(sorted({_LETTERS[flag.lower()] for flag in flags if flag.lower() in _LETTERS}))
