"""The checkpoint file of this process, shared by all runs that use it.

::

    state.json            every state and all notes, whole (`json_document`)
    state.json.journal    what came after it, while a run is on or after a process was killed
    state.json.lock       held by the process as long as one of its runs uses the file
    .89abcdef-….part      the next state.json or journal, for a moment; what is left of one goes when the file is opened

Writing the file costs as much as it is large and waits for the disk; a line in the journal costs microseconds. So a
run appends each group of messages at once, and saves its state from time to time, in a thread. Where several runs
share the file, or one job keeps it open for its runs, a state that is saved is a line in the journal too, synced, and
the file is written when the journal has become as large, and by the last one who leaves: a job on a thousand mailboxes
writes in proportion to them, not to their square.

Invariants, whatever moment a crash chooses:

- What `append` returned for is in the journal or in `state.json`: a line leaves the journal only after a state that
  contains it is durable under its name. A line that was synced never becomes less durable.
- Order between the threads that save and the loops that append does not matter: a line is recognised by series and
  sequence. A state saved late, after a newer one, is dropped by its sequence under a lock.
- The file is never written in place. Each time all that is known is written, also of jobs that no run has now.
- A journal without its `state.json` (someone removed that) belongs to no series and to no document, and is ignored.
- Nothing is removed or shortened before the file was written for the first time since it was opened; what that has
  contains what earlier processes left in the journal, of all jobs.
- A state in the journal is read only with the document that it was saved after, and all of them are in the next one.
- One `JsonFile` for each real path and process (`json_files`); a key has one holder.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
from typing import Final, NamedTuple

from imapipe.durable_file import LINE_BYTES, kept_mode, read_object, remove_leftovers, save_file, sync_folder
from imapipe.errors import CheckpointError, CheckpointLocked
from imapipe.models.json_value import JSON
from imapipe.runtime.lock_file import LockFile
from imapipe.store.checkpoint_state import CheckpointChange, CheckpointState
from imapipe.store.job_key import JobKey
from imapipe.store.journal import Journal, SavedState
from imapipe.store.json_document import read_document, write_document
from imapipe.store.notes_state import NotesState

_log = logging.getLogger(__name__)

# What is longer is none of ours: of a million messages with gaps between them a state has nine megabytes.
_MOST_BYTES: Final = 1024 * 1024 * 1024
# A journal that is shorter is never too long.
_SHORT_JOURNAL_BYTES: Final = 65_536
_NAME_BYTES: Final = 8


class _Entry(NamedTuple):
    """A state as it is in the file."""

    series: str
    sequence: int
    data: bytes

    @classmethod
    def of(cls, state: CheckpointState) -> _Entry:
        return cls(state.series, state.sequence, state.to_json())

    def contains(self, change: CheckpointChange) -> bool:
        """Whether a change is in it."""
        return change.series == self.series and change.sequence <= self.sequence


class JsonFile:
    """A checkpoint file, held by this process while `users` is not 0.

    `busy` is held by whoever opens, writes, syncs or closes; `append` and `put_note` do not wait for it.
    """

    def __init__(self, path: str, real: str) -> None:
        self.path = path
        self.real = real
        self.users = 0
        self.held: set[JobKey] = set()
        self.busy = threading.Lock()
        self._noting = threading.Lock()
        self._entries: dict[JobKey, _Entry] = {}
        self._notes: dict[str, NotesState] = {}
        # The series that were saved since the file was opened; only to these may be appended.
        self._saved: set[str] = set()
        # The name of what this process has written, and how large that is; "" before the first time.
        self._document = ""
        self._size = 0
        self._journal: Journal | None = None
        self._lock: LockFile | None = None

    @property
    def is_open(self) -> bool:
        """Whether its content is known; asked by whoever has `busy`."""
        return self._journal is not None

    def join(self, key: JobKey | None) -> None:
        """Open it where it is not open, and give a key to a run."""
        with self.busy:
            if self._lock is None:
                self._open()
            if key is None:
                return
            if key in self.held:
                raise CheckpointLocked(f"another run of this process has this job ({_called(key)})", path=self.path)
            self.held.add(key)

    def _open(self) -> None:
        check_place(self.path, self.real)
        lock = self._acquire()
        try:
            journal = Journal(f"{self.real}.journal")
            states, self._notes = read_whole(journal, self.path, self.real)
            self._entries = {state.key.printable(): _Entry.of(state) for state in states}
            remove_leftovers(self.real)
            remove_leftovers(f"{self.real}.journal")
        except BaseException:
            lock.release()
            raise
        self._saved = set()
        self._document = ""
        self._journal = journal
        self._lock = lock

    def _acquire(self) -> LockFile:
        lock = LockFile(f"{self.real}.lock")
        try:
            free = lock.acquire()
        except OSError as error:
            raise _failed(self.path, f"its lock file {lock.path} cannot be made", error) from error
        if not free:
            raise CheckpointLocked(f"another process holds it (by {lock.path})", path=self.path)
        return lock

    def load(self, key: JobKey) -> CheckpointState | None:
        """A state with all its changes, or None."""
        with self.busy:
            return self.current(key)

    def current(self, key: JobKey) -> CheckpointState | None:
        """The same, for whoever has `busy`."""
        journal = self._opened()
        entry = self._entries.get(key)
        if entry is None:
            return None
        # An earlier run of this process may have appended, and failed to save at its end.
        return CheckpointState.from_json(entry.data).apply(journal.changes(entry.series))

    def keys(self) -> list[JobKey]:
        """The keys that have a state."""
        return list(self._entries)

    def save(self, key: JobKey, state: CheckpointState) -> None:
        """Keep this state, in a line of the journal or by writing the file anew; see `CheckpointHolding.save`."""
        entry = _Entry.of(state)
        with self.busy:
            journal = self._opened()
            kept = self._entries.get(key)
            if kept is not None and kept.series == entry.series and kept.sequence >= entry.sequence:
                return
            gone = kept.series if kept is not None and kept.series != entry.series else ""
            if self._suits_journal(entry):
                self._add(key, entry, gone)
            else:
                self._write({**self._entries, key: entry}, self._all_notes())
                if gone:
                    journal.forget(gone)
            self._saved.add(entry.series)
            self._saved.discard(gone)

    def _suits_journal(self, entry: _Entry) -> bool:
        """Whether a state is to be a line of the journal: not where that would be the longer of the two files.

        Nor where the line could be longer than any that is read.
        Whoever has the file alone writes that: there is nothing in it of others, and nothing to be tidied up later.
        """
        limit = min(max(self._size, _SHORT_JOURNAL_BYTES), LINE_BYTES // 2)
        return bool(self._document) and self.users > 1 and self._opened().size + len(entry.data) <= limit

    def _add(self, key: JobKey, entry: _Entry, gone: str) -> None:
        journal = self._opened()
        try:
            journal.save(self._document, entry.data)
        except OSError as error:
            raise _failed(self.path, "its journal cannot be written", error) from error
        self._entries[key] = entry
        journal.drop(lambda change: change.series == gone or entry.contains(change))

    def append(self, key: JobKey, change: CheckpointChange) -> None:
        """Add a line to the journal; see `CheckpointHolding.append`."""
        journal = self._opened()
        entry = self._entries.get(key)
        if entry is None or entry.series != change.series or entry.series not in self._saved:
            raise CheckpointError("a change came before its state was saved", path=self.path)
        try:
            journal.append(change)
        except OSError as error:
            raise _failed(self.path, "its journal cannot be written", error) from error

    def sync(self) -> None:
        """Make the journal survive a loss of power."""
        with self.busy:
            try:
                self._opened().sync()
            except OSError as error:
                raise _failed(self.path, "its journal cannot be written", error) from error

    def delete(self, key: JobKey) -> None:
        """Take a state out of the file; the last thing in it takes the file along."""
        with self.busy:
            journal = self._opened()
            entries = dict(self._entries)
            gone = entries.pop(key, None)
            if gone is None:
                return
            notes = self._all_notes()
            if entries or notes:
                self._write(entries, notes)
            else:
                self._remove()
            self._saved.discard(gone.series)
            journal.forget(gone.series)

    def notes(self, account: str) -> dict[str, JSON]:
        """The notes of an account; from now on they may be changed."""
        with self.busy:
            self._opened()
            notes = self._all_notes()
            if account not in notes or not self._document:
                notes.setdefault(account, NotesState())
                self._write(self._entries, notes)
                with self._noting:
                    self._notes.setdefault(account, notes[account])
            return dict(notes[account].values)

    def put_note(self, account: str, name: str, value: JSON) -> None:
        """Add a line to the journal that gives a note a value."""
        journal = self._opened()
        with self._noting:
            notes = self._notes.get(account)
            if notes is None or not self._document:
                raise CheckpointError("a note came before the notes were read", path=self.path)
            change = notes.change(name, value)
            try:
                journal.append(change)
            except OSError as error:
                raise _failed(self.path, "its journal cannot be written", error) from error
            self._notes[account] = notes.apply([change])

    def close(self) -> None:
        """Write what is in the journal only, close that and release the lock."""
        try:
            if self._journal is not None and self._journal.has_states:
                self._write(self._entries, self._all_notes())
        except CheckpointError as error:
            # Nothing is lost: the journal has it, and the next one to open the file reads it there.
            _log.warning("%s", error)
        lock, self._lock = self._lock, None
        journal, self._journal = self._journal, None
        try:
            if journal is not None:
                journal.close()
        finally:
            if lock is not None:
                lock.release()

    def _all_notes(self) -> dict[str, NotesState]:
        with self._noting:
            return dict(self._notes)

    def _write(self, entries: dict[JobKey, _Entry], notes: dict[str, NotesState]) -> None:
        """Make this the file, and let the journal forget what is in it."""
        name = secrets.token_hex(_NAME_BYTES)
        document = write_document(name, (entry.data for entry in entries.values()), notes)
        try:
            save_file(self.real, (document,), mode=kept_mode(self.real))
        except OSError as error:
            raise _failed(self.path, "it cannot be written", error) from error
        self._entries = entries
        self._document, self._size = name, len(document)
        durable = {entry.series: entry.sequence for entry in entries.values()}
        self._opened().supersede({**durable, **{each.series: each.sequence for each in notes.values()}})

    def _remove(self) -> None:
        try:
            os.unlink(self.real)  # noqa: PTH108
            sync_folder(self.real)
        except OSError as error:
            raise _failed(self.path, "it cannot be removed", error) from error
        self._entries = {}
        # What comes next has no document that it could belong to.
        self._document = ""

    def _opened(self) -> Journal:
        if self._journal is None:
            raise CheckpointError("it is not open", path=self.path)
        return self._journal


def check_place(path: str, real: str) -> None:
    """Raise CheckpointError where there can be no file."""
    if os.path.isdir(real):  # noqa: PTH112
        raise CheckpointError("it is a folder, not a file", path=path)
    if not os.path.isdir(os.path.dirname(real)):  # noqa: PTH112, PTH120
        raise CheckpointError("its folder does not exist", path=path)


def read_whole(journal: Journal, path: str, real: str) -> tuple[list[CheckpointState], dict[str, NotesState]]:
    """Read everything, with what the journal adds to it; raises CheckpointError."""
    try:
        data = read_object(real, _MOST_BYTES)
    except FileNotFoundError:
        return [], {}
    except OSError as error:
        raise _failed(path, "it cannot be read", error) from error
    document = read_document(data, path)
    try:
        lines = journal.read()
    except OSError as error:
        raise _failed(path, "its journal cannot be read", error) from error
    states = {state.key: state for state in document.states}
    changes: dict[str, list[CheckpointChange]] = {}
    for line in lines:
        if not isinstance(line, SavedState):
            changes.setdefault(line.series, []).append(line)
        elif line.document == document.name:
            states[line.state.key] = line.state
    return (
        [state.apply(changes.get(state.series, ())) for state in states.values()],
        {account: notes.apply(changes.get(notes.series, ())) for account, notes in document.notes.items()},
    )


def _called(key: JobKey) -> str:
    return ", ".join(part for part in (repr(key.mailbox), key.name, key.shard) if part)


def _failed(path: str, what: str, error: OSError) -> CheckpointError:
    return CheckpointError(f"{what}: {error.strerror or error}", path=path)
