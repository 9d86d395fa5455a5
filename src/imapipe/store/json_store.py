"""Checkpoints in one JSON file, with a journal beside it.

::

    state.json            every state, whole: {"format", "version", "crc32", "entries": [...]}
    state.json.journal    changes since the last full save, while a run is on or after it was killed
    state.json.lock       held by the run that has the checkpoint
    state.json.tmp        the next state.json, for a moment

A full save costs as much as the state is large and waits for the disk; a line in the journal costs microseconds.
So a run appends each group of messages at once and saves in full from time to time, in a thread.

Invariants, whatever moment a crash chooses:

- What `append` returned for is in the journal or in `state.json`: a line leaves the journal only after a state that
  contains it is durable under its name.
- Order between the thread that saves and the loop that appends does not matter: a line is recognised by series and
  sequence. A state saved late, after a newer one, is dropped by its sequence under a lock.
- The file is never written in place. Other mailboxes in it are carried over byte for byte.
- A journal without its `state.json` (someone removed that) belongs to no series, and is ignored.
- Nothing is removed or shortened before the first full save of a run has succeeded.
"""

from __future__ import annotations

import os
import threading
import zlib
from pathlib import Path
from typing import Final

import orjson

from imapipe.durable_file import remove, replace_durably, sync_folder, temporary
from imapipe.errors import CheckpointCorrupt, CheckpointError, CheckpointLocked, CheckpointVersion
from imapipe.store.checkpoint_state import FORMAT_VERSION, CheckpointChange, CheckpointState, printable
from imapipe.store.journal import Journal
from imapipe.store.run_lock import RunLock

_FORMAT: Final = "imapipe-checkpoint"

_Key = tuple[str, str]


class JsonCheckpointStore:
    """Keeps checkpoints in the file `path`; its folder must be there, the file need not."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        # Through links: what replaces the file must replace the real one, and two names of it share one lock.
        self._real = os.path.realpath(path)
        self._entries: dict[_Key, bytes] = {}
        self._saved: dict[str, int] = {}
        self._saving = threading.Lock()
        self._journal: Journal | None = None
        self._lock: RunLock | None = None

    def __repr__(self) -> str:
        return f"JsonCheckpointStore({str(self.path)!r})"

    def open(self) -> None:
        """Lock the file and read it; see `CheckpointStore.open`."""
        if self._lock is not None:
            raise CheckpointLocked("this very store is in use by another run", path=str(self.path))
        self._check_place()
        lock = self._acquire()
        try:
            journal = Journal(f"{self._real}.journal")
            self._entries = {_key(state): state.to_json() for state in self._read(journal)}
            remove(temporary(self._real))
            remove(temporary(f"{self._real}.journal"))
        except BaseException:
            lock.release()
            raise
        self._saved = {}
        self._journal = journal
        self._lock = lock

    def load(self, account: str, mailbox: str) -> CheckpointState | None:
        """Return the state with all its changes, or None."""
        self._opened()
        entry = self._entries.get((printable(account), printable(mailbox)))
        return None if entry is None else CheckpointState.from_fields(orjson.loads(entry))

    def save(self, state: CheckpointState) -> None:
        """Write the file anew; see `CheckpointStore.save`."""
        entry = state.to_json()
        with self._saving:
            journal = self._opened()
            if state.sequence <= self._saved.get(state.series, -1):
                return
            entries = {**self._entries, _key(state): entry}
            self._write(entries)
            self._entries = entries
            self._saved[state.series] = state.sequence
            journal.supersede(state.series, state.sequence)

    def append(self, change: CheckpointChange) -> None:
        """Add a line to the journal; see `CheckpointStore.append`."""
        journal = self._opened()
        if change.series not in self._saved:
            raise CheckpointError("a change came before its state was saved", path=str(self.path))
        try:
            journal.append(change)
        except OSError as error:
            raise self._failed("its journal cannot be written", error) from error

    def sync(self) -> None:
        """Make the journal survive a loss of power."""
        with self._saving:
            try:
                self._opened().sync()
            except OSError as error:
                raise self._failed("its journal cannot be written", error) from error

    def delete(self, account: str, mailbox: str) -> None:
        """Take a state out of the file; the last one takes the file along."""
        with self._saving:
            journal = self._opened()
            entries = dict(self._entries)
            entry = entries.pop((printable(account), printable(mailbox)), None)
            if entry is None:
                return
            state = CheckpointState.from_fields(orjson.loads(entry))
            if entries:
                self._write(entries)
            else:
                self._remove()
            self._entries = entries
            self._saved.pop(state.series, None)
            journal.forget(state.series)

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

    def peek(self, account: str, mailbox: str) -> CheckpointState | None:
        """Read a state without the lock, for looking only."""
        self._check_place()
        wanted = (printable(account), printable(mailbox))
        states = self._read(Journal(f"{self._real}.journal"))
        return next((state for state in states if _key(state) == wanted), None)

    def _acquire(self) -> RunLock:
        lock = RunLock(f"{self._real}.lock")
        try:
            free = lock.acquire()
        except OSError as error:
            raise self._failed(f"its lock file {lock.path} cannot be made", error) from error
        if not free:
            raise CheckpointLocked(f"another run holds it (by {lock.path})", path=str(self.path))
        return lock

    def _check_place(self) -> None:
        if os.path.isdir(self._real):  # noqa: PTH112
            raise CheckpointError("it is a folder, not a file", path=str(self.path))
        if not os.path.isdir(os.path.dirname(self._real)):  # noqa: PTH112, PTH120
            raise CheckpointError("its folder does not exist", path=str(self.path))

    def _read(self, journal: Journal) -> list[CheckpointState]:
        """Read all states, with what the journal adds to them."""
        try:
            data = Path(self._real).read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._failed("it cannot be read", error) from error
        states = self._parse(data)
        try:
            changes = journal.read()
        except OSError as error:
            raise self._failed("its journal cannot be read", error) from error
        return [state.apply(changes) for state in states]

    def _parse(self, data: bytes) -> list[CheckpointState]:
        path = str(self.path)
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise CheckpointCorrupt(f"it is no whole JSON document ({error})", path=path) from error
        if not isinstance(document, dict) or document.get("format") != _FORMAT:
            raise CheckpointCorrupt("it is some other JSON file", path=path)
        version = document.get("version")
        if not isinstance(version, int):
            raise CheckpointCorrupt("it does not tell its version", path=path)
        if version != FORMAT_VERSION:
            raise CheckpointVersion(
                f"it has format version {version}; this version of imapipe reads {FORMAT_VERSION}", path=path
            )
        entries = document.get("entries")
        if not isinstance(entries, list) or document.get("crc32") != _checksum(orjson.dumps(entries)):
            raise CheckpointCorrupt("its checksum does not fit its content", path=path)
        try:
            states = [CheckpointState.from_fields(entry) for entry in entries]
        except ValueError as error:
            raise CheckpointCorrupt(f"an entry is not whole: {error}", path=path) from error
        if len({_key(state) for state in states}) != len(states):
            raise CheckpointCorrupt("a mailbox is in it twice", path=path)
        return states

    def _write(self, entries: dict[_Key, bytes]) -> None:
        body = b"[%b]" % b",".join(entries.values())
        head = orjson.dumps({"format": _FORMAT, "version": FORMAT_VERSION, "crc32": _checksum(body)})
        try:
            replace_durably(self._real, b'%b,"entries":%b}\n' % (head[:-1], body))
        except OSError as error:
            raise self._failed("it cannot be written", error) from error

    def _remove(self) -> None:
        try:
            os.unlink(self._real)  # noqa: PTH108
            sync_folder(self._real)
        except OSError as error:
            raise self._failed("it cannot be removed", error) from error

    def _opened(self) -> Journal:
        if self._journal is None:
            raise CheckpointError("its store is not open", path=str(self.path))
        return self._journal

    def _failed(self, what: str, error: OSError) -> CheckpointError:
        return CheckpointError(f"{what}: {error.strerror or error}", path=str(self.path))


def _key(state: CheckpointState) -> _Key:
    return printable(state.account), printable(state.mailbox)


def _checksum(body: bytes) -> str:
    return f"{zlib.crc32(body):08x}"
