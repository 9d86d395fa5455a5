"""Sqlite: one file with what a local index knows of each message, its text and its bytes.

Invariants:

- A message that is there by mailbox, UIDVALIDITY and UID is not written again.
- The file has one program of ours that writes at a time; others may read it meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from imapipe.catalog.archive_file import ArchiveFile
from imapipe.catalog.index_entry import flags_text, to_row
from imapipe.changes.mirror import Held
from imapipe.errors import NotFetched, ProtocolError
from imapipe.middleware.base import Run
from imapipe.models.message import Message
from imapipe.runtime.lock_file import LockFile
from imapipe.sinks.content import body_size, chunks_of_body
from imapipe.sinks.hold import beside, hold
from imapipe.sinks.mirrored import MirrorSink, Pending
from imapipe.sinks.place import Place
from imapipe.sinks.staged import make_folder
from imapipe.wire.uid_set import UidSet

_NEEDED: Final = ({"FLAGS"}, {"RFC822.SIZE"}, {"INTERNALDATE"}, {"ENVELOPE", "BODY[HEADER]", "BODY[]"})


class Sqlite(MirrorSink):
    """Writes each message into an SQLite file: who, what, when, flags, its text, and its bytes as they are.

    The table `messages` is that of a local index, so `MessageIndex.find` and `imapipe find` work on the file; text and
    bytes are in `contents`. What the job does not fetch is null there.

    Args:
        path: The file; made, readable for its owner only, where it is missing.
        durable: Whether a message must survive a loss of power before it counts as done.
    """

    needs_body = False

    def __init__(self, path: str | os.PathLike[str], *, durable: bool = True) -> None:
        super().__init__(path, durable=durable)
        self._shared = _Shared(ArchiveFile(self.path, durable=durable))
        self._there = UidSet()
        self._written: list[int] = []
        self._mailbox = 0
        self._has_text = self._has_body = False

    def for_mailbox(self, name: str, delimiter: str | None) -> Sqlite:
        """The sink for one mailbox of a whole account: the same file."""
        sink = Sqlite(self.path, durable=self._durable)
        sink._share(self)
        sink._shared = self._shared
        return sink

    def _open(self, run: Run) -> None:
        if not all(items & run.items for items in _NEEDED):
            raise ValueError('Sqlite writes who, what and when: put .fetch("full") or .fetch("envelope") into the job')
        self._has_text = bool(run.items & {"BODY[]", "TEXT"})
        self._has_body = "BODY[]" in run.items
        self._begin(Place.of(run))

    def _begin(self, place: Place) -> None:
        self._place = place
        self._written.clear()
        if self._shared.lock is None:
            make_folder(self.path.parent, durable=self._durable)
            self._shared.lock = hold(beside(self.path, ".imapipe.lock"), self.path, "file")
        self._shared.file.open(self)
        self._mailbox = self._shared.file.mailbox(*place)
        self._there = self._shared.file.flags(self._mailbox).uids

    def _known(self) -> UidSet:
        return self._there

    def _write_one(self, message: Message) -> None:
        if message.uid in self._there:
            return
        size = body_size(message) if self._has_body else None
        row = to_row(message, size)
        text: bytes | None = None
        if self._has_text:
            try:
                text = message.read_text().encode("utf-8", "replace")
            except (NotFetched, ProtocolError):
                # What is sent as text and cannot be read as such is in the bytes still.
                if not self._has_body:
                    raise
        if size is not None:
            if size > self._shared.file.max_bytes:
                raise OverflowError(f"it has {size} bytes, more than a value in SQLite can have")
            self._shared.file.add(self._mailbox, row, text, chunks_of_body(message), size)
        else:
            self._shared.file.add(self._mailbox, row, text, None, 0)
        self._written.append(message.uid)

    def kept_flags(self, flags: frozenset[str]) -> frozenset[str]:
        """See `Mirror`: all of them."""
        return frozenset(filter(None, flags_text(flags).split(" ")))

    def _open_mirror(self, place: Place) -> Held:
        self._begin(place)
        return Held(self._shared.file.flags(self._mailbox).sets, self._shared.file.earlier(*place))

    def _follow(self, pending: Pending) -> None:
        self._shared.file.set_flags(self._mailbox, pending.flags.items())
        self._shared.file.remove(self._mailbox, pending.removed)
        if pending.earlier:
            self._shared.file.remove_earlier(*self._place)
        self._shared.file.commit()

    def _set_apart(self, apart: int) -> None:
        self._shared.file.set_apart(*self._place, apart)
        self._shared.file.commit()
        self._mailbox = self._shared.file.mailbox(*self._place)

    def _move(self, before: int, uids: Mapping[int, int]) -> None:
        self._shared.file.move(*self._place, before, uids)
        self._shared.file.commit()
        self._there = self._shared.file.flags(self._mailbox).uids

    def _commit(self) -> None:
        self._shared.file.commit()
        self._there |= UidSet.from_numbers(self._written)
        self._written.clear()

    def _close(self) -> None:
        if not self._shared.file.close(self):
            return
        lock, self._shared.lock = self._shared.lock, None
        if lock is not None:
            lock.release()


class _Shared:
    """What the sinks of all mailboxes have together."""

    __slots__ = ("file", "lock")

    def __init__(self, file: ArchiveFile) -> None:
        self.file = file
        self.lock: LockFile | None = None
