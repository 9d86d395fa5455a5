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
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

from imapipe.changes.mirror import Held
from imapipe.durable_file import PLAIN, PRIVATE, open_new, sync_folder
from imapipe.middleware.base import Run
from imapipe.models.attributes import arrival_of
from imapipe.models.flag_table import FlagGatherer
from imapipe.models.message import Message
from imapipe.runtime.lock_file import LockFile
from imapipe.sinks.content import body_size, chunks_of_body
from imapipe.sinks.hold import hold
from imapipe.sinks.mirrored import MirrorSink, Pending
from imapipe.sinks.place import Place, folder_names, shortened
from imapipe.sinks.staged import Staged, make_folder, names_in, remove_leftovers
from imapipe.wire.uid_set import MAX_UID, UidSet

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
_FLAGS: Final = {
    "D": "\\Draft",
    "F": "\\Flagged",
    "P": "$Forwarded",
    "R": "\\Answered",
    "S": "\\Seen",
    "T": "\\Deleted",
}
_INFO: Final = re.compile(r"[:;!]2,[A-Za-z]*\Z")
_NAME: Final = re.compile(r"(\d+)\.U(\d+)M([0-9a-f]{8})\.imapipe(?:,[^:;!]*)?(?:[:;!]2,([A-Za-z]*))?\Z")


class Maildir(MirrorSink):
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
        self._lock: LockFile | None = None

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
        self._begin(Place.of(run))

    def _begin(self, place: Place) -> None:
        for name in ("", "tmp", "new", "cur"):
            make_folder(self.path / name, durable=self._durable)
        if self._layout == "maildir++" and self.path.name.startswith("."):
            os.close(os.open(self.path / "maildirfolder", os.O_WRONLY | os.O_CREAT | PLAIN, PRIVATE))
        self._lock = hold(self.path / ".imapipe.lock", self.path, "folder")
        remove_leftovers(self.path / "tmp")
        self._place = place
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
            mtime=arrival_of(message),
        )
        self._written.append(message.uid)

    def kept_flags(self, flags: frozenset[str]) -> frozenset[str]:
        """See `Mirror`: those that have a letter."""
        return flags_of_letters(letters_of(flags))

    def _open_mirror(self, place: Place) -> Held:
        self._begin(place)
        gatherer, earlier = FlagGatherer(), 0
        for _, _, uid, uidvalidity, letters in self._ours():
            if uidvalidity == place.uidvalidity:
                gatherer.add(uid, flags_of_letters(letters))
            else:
                earlier += 1
        return Held(gatherer.table().sets, earlier)

    def _follow(self, pending: Pending) -> None:
        # A mail program may rename one meanwhile: it is looked for again.
        is_done = False
        while not is_done:
            is_done = self._follow_once(pending)
        self._sync_folders()

    def _follow_once(self, pending: Pending) -> bool:
        """Do what waits; gives whether no file was moved by somebody else between the listing and its turn."""
        is_done = True
        touched = pending.removed | UidSet.from_numbers(pending.flags)
        concerned = [file for file in self._ours() if self._place.uidvalidity != file[3] or file[2] in touched]
        for folder, name, uid, uidvalidity, letters in concerned:
            path = folder / name
            is_here = uidvalidity == self._place.uidvalidity
            try:
                if (is_here and uid in pending.removed) or (not is_here and pending.earlier):
                    path.unlink()
                elif is_here and uid in pending.flags:
                    self._set_letters(path, letters, letters_of(pending.flags[uid]))
            except FileNotFoundError:
                is_done = False
        return is_done

    def _set_letters(self, path: Path, now: str, wanted: str) -> None:
        # Letters in lower case are keywords of the mail program that put them there.
        kept = "".join(letter for letter in now if letter.islower())
        base = _INFO.sub("", path.name)
        name = self.path / "cur" / f"{base}{self._separator}2,{''.join(sorted(wanted + kept))}"
        if name != path:
            path.rename(name)

    def _ours(self) -> Iterator[tuple[Path, str, int, int, str]]:
        """The files of this mailbox: folder, name, UID, UIDVALIDITY, letters."""
        for folder in (self.path / "new", self.path / "cur"):
            for name in names_in(folder, of_files=True):
                parts = _NAME.match(name)
                if parts and parts[3] == self._tag and 0 < int(parts[2]) <= MAX_UID:
                    yield folder, name, int(parts[2]), int(parts[1]), parts[4] or ""

    def _set_apart(self, apart: int) -> None:
        # That it was done is noted: what comes under these UIDs afterwards is there rightly.
        done = self.path / f".imapipe-{self._tag}-{apart}"
        if not done.exists():
            self._rename({self._place.uidvalidity: lambda uid: (apart, uid)})
            os.close(os.open(done, os.O_WRONLY | os.O_CREAT | PLAIN, PRIVATE))
            if self._durable:
                sync_folder(os.fspath(done))

    def _move(self, before: int, uids: Mapping[int, int]) -> None:
        there = self._find_uids()

        def now(uid: int) -> tuple[int, int] | None:
            found = uids.get(uid)
            return None if found is None or found in there else (self._place.uidvalidity, found)

        self._rename({before: now})
        self._there = self._find_uids()

    def _rename(self, wanted: Mapping[int, Callable[[int], tuple[int, int] | None]]) -> None:
        """Give files other UIDs, by their UIDVALIDITY; a mail program may rename one meanwhile."""
        is_done = False
        while not is_done:
            is_done = True
            for folder, name, uid, uidvalidity, _ in list(self._ours()):
                now = wanted[uidvalidity](uid) if uidvalidity in wanted else None
                if now is None:
                    continue
                try:
                    (folder / name).rename(folder / f"{now[0]}.U{now[1]}M{name.partition('M')[2]}")
                except FileNotFoundError:
                    is_done = False
        self._sync_folders()

    def _sync_folders(self) -> None:
        if self._durable:
            for name in ("new", "cur"):
                sync_folder(os.fspath(self.path / name / "_"))

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
        return UidSet.from_numbers(
            array("L", (uid for _, _, uid, validity, _ in self._ours() if validity == self._place.uidvalidity))
        )

    def _find_separator(self) -> str:
        """What stands before the flags: a colon, or what the file system takes in its place."""
        probe = self.path / "tmp" / f".{os.urandom(8).hex()}.imapipe-part:2,S"
        try:
            os.close(open_new(probe))
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


def flags_of_letters(letters: str) -> frozenset[str]:
    """What letters say; those of others say nothing."""
    return frozenset(_FLAGS[letter] for letter in letters if letter in _FLAGS)
