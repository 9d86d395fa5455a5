"""The checkpoint file of this process, shared by all runs that use it.

::

    state.json            every state and all notes, whole (`json_document`)
    state.json.journal    changes since the last full save, while a run is on or after a process was killed
    state.json.lock       held by the process as long as one of its runs uses the file
    .89abcdef-….part      the next state.json or journal, for a moment; what is left of one goes when the file is opened

A full save costs as much as the file is large and waits for the disk; a line in the journal costs microseconds.
So a run appends each group of messages at once and saves in full from time to time, in a thread.

Invariants, whatever moment a crash chooses:

- What `append` returned for is in the journal or in `state.json`: a line leaves the journal only after a state that
  contains it is durable under its name. A line that was synced never becomes less durable.
- Order between the threads that save and the loops that append does not matter: a line is recognised by series and
  sequence. A state saved late, after a newer one, is dropped by its sequence under a lock.
- The file is never written in place. Each full save writes all that is known, also of jobs that no run has now.
- A journal without its `state.json` (someone removed that) belongs to no series, and is ignored.
- Nothing is removed or shortened before the first full save since the file was opened has succeeded; that one
  contains what earlier processes left in the journal, of all jobs.
- One `JsonFile` for each real path and process; a key has one holder.
"""

from __future__ import annotations

import os
import threading
from typing import Final, NamedTuple

from imapipe.durable_file import kept_mode, read_file, remove_leftovers, save_file, sync_folder
from imapipe.errors import CheckpointError, CheckpointLocked
from imapipe.models.json_value import JSON
from imapipe.store.checkpoint_state import CheckpointChange, CheckpointState
from imapipe.store.job_key import JobKey
from imapipe.store.journal import Journal
from imapipe.store.json_document import read_document, write_document
from imapipe.store.notes_state import NotesState
from imapipe.store.run_lock import RunLock

# By process too: what a forked child inherits is not its own.
_files: Final[dict[tuple[int, str], JsonFile]] = {}
_counting = threading.Lock()


def hold(path: str | os.PathLike[str], key: JobKey) -> JsonFile:
    """Take a key of a file, opening that where this process has not done so yet. Ended by `let_go`.

    Raises:
        CheckpointError: It could not be; see `CheckpointStore.open`.
    """
    # Through links: what replaces the file must replace the real one, and two names of it are one file.
    real = os.path.realpath(path)
    with _counting:
        file = _files.setdefault((os.getpid(), real), JsonFile(str(path), real))
        file.users += 1
    try:
        file.take(key)
    except BaseException:
        _leave(file)
        raise
    return file


def let_go(file: JsonFile, key: JobKey) -> None:
    """Give a key back; the last one closes the file."""
    file.held.discard(key)
    _leave(file)


def peek(path: str | os.PathLike[str]) -> dict[JobKey, CheckpointState]:
    """Read all states without the lock, for looking only."""
    real = os.path.realpath(path)
    _check_place(str(path), real)
    states, _ = _read(Journal(f"{real}.journal"), str(path), real)
    return {state.key.printable(): state for state in states}


def _leave(file: JsonFile) -> None:
    with file.busy:
        with _counting:
            file.users -= 1
            last = not file.users
        try:
            if last:
                file.close()
        finally:
            with _counting:
                # Whoever came meanwhile waits for `busy` and opens the file again.
                if not file.users:
                    _files.pop((os.getpid(), file.real), None)


class _Entry(NamedTuple):
    """A state as it is in the file."""

    series: str
    sequence: int
    data: bytes

    @classmethod
    def of(cls, state: CheckpointState) -> _Entry:
        return cls(state.series, state.sequence, state.to_json())


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
        self._was_written = False
        self._journal: Journal | None = None
        self._lock: RunLock | None = None

    def take(self, key: JobKey) -> None:
        """Give a key to a run."""
        with self.busy:
            if self._lock is None:
                self._open()
            if key in self.held:
                raise CheckpointLocked(f"another run of this process has this job ({_called(key)})", path=self.path)
            self.held.add(key)

    def _open(self) -> None:
        _check_place(self.path, self.real)
        lock = self._acquire()
        try:
            journal = Journal(f"{self.real}.journal")
            states, self._notes = _read(journal, self.path, self.real)
            self._entries = {state.key.printable(): _Entry.of(state) for state in states}
            remove_leftovers(self.real)
            remove_leftovers(f"{self.real}.journal")
        except BaseException:
            lock.release()
            raise
        self._saved = set()
        self._was_written = False
        self._journal = journal
        self._lock = lock

    def _acquire(self) -> RunLock:
        lock = RunLock(f"{self.real}.lock")
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
            journal = self._opened()
            entry = self._entries.get(key)
            if entry is None:
                return None
            # An earlier run of this process may have appended, and failed to save at its end.
            return CheckpointState.from_json(entry.data).apply(journal.changes(entry.series))

    def save(self, key: JobKey, state: CheckpointState) -> None:
        """Write the file anew, with this state in it; see `CheckpointHolding.save`."""
        entry = _Entry.of(state)
        with self.busy:
            journal = self._opened()
            kept = self._entries.get(key)
            if kept is not None and kept.series == entry.series and kept.sequence >= entry.sequence:
                return
            self._write({**self._entries, key: entry}, self._all_notes())
            self._saved.add(entry.series)
            if kept is not None and kept.series != entry.series:
                self._saved.discard(kept.series)
                journal.forget(kept.series)

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
            if account not in notes or not self._was_written:
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
            if notes is None or not self._was_written:
                raise CheckpointError("a note came before the notes were read", path=self.path)
            change = notes.change(name, value)
            try:
                journal.append(change)
            except OSError as error:
                raise _failed(self.path, "its journal cannot be written", error) from error
            self._notes[account] = notes.apply([change])

    def close(self) -> None:
        """Close the journal and release the lock."""
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
        try:
            document = write_document((entry.data for entry in entries.values()), notes)
            save_file(self.real, (document,), mode=kept_mode(self.real))
        except OSError as error:
            raise _failed(self.path, "it cannot be written", error) from error
        self._entries = entries
        self._was_written = True
        durable = {entry.series: entry.sequence for entry in entries.values()}
        self._opened().supersede({**durable, **{each.series: each.sequence for each in notes.values()}})

    def _remove(self) -> None:
        try:
            os.unlink(self.real)  # noqa: PTH108
            sync_folder(self.real)
        except OSError as error:
            raise _failed(self.path, "it cannot be removed", error) from error
        self._entries = {}

    def _opened(self) -> Journal:
        if self._journal is None:
            raise CheckpointError("it is not open", path=self.path)
        return self._journal


def _check_place(path: str, real: str) -> None:
    if os.path.isdir(real):  # noqa: PTH112
        raise CheckpointError("it is a folder, not a file", path=path)
    if not os.path.isdir(os.path.dirname(real)):  # noqa: PTH112, PTH120
        raise CheckpointError("its folder does not exist", path=path)


def _read(journal: Journal, path: str, real: str) -> tuple[list[CheckpointState], dict[str, NotesState]]:
    """Read everything, with what the journal adds to it."""
    try:
        data = read_file(real)
    except FileNotFoundError:
        return [], {}
    except OSError as error:
        raise _failed(path, "it cannot be read", error) from error
    states, notes = read_document(data, path)
    try:
        changes = journal.read()
    except OSError as error:
        raise _failed(path, "its journal cannot be read", error) from error
    return [state.apply(changes) for state in states], {name: each.apply(changes) for name, each in notes.items()}


def _called(key: JobKey) -> str:
    return ", ".join(part for part in (repr(key.mailbox), key.name, key.shard) if part)


def _failed(path: str, what: str, error: OSError) -> CheckpointError:
    return CheckpointError(f"{what}: {error.strerror or error}", path=path)
