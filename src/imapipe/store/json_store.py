"""Checkpoints in one JSON file, with a journal beside it: `json_file` says what is in them and what holds.

Any number of runs of one process use one file at the same time, each for a job of its own, however many stores of that
path there are. The file is the process's as long as one of them does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from imapipe.errors import CheckpointError
from imapipe.models.document import printable
from imapipe.models.json_value import JSON
from imapipe.store.checkpoint_state import CheckpointChange, CheckpointState
from imapipe.store.job_key import JobKey
from imapipe.store.json_file import JsonFile
from imapipe.store.json_files import hold, keep, keys_in, leave, let_go, peek


class JsonCheckpointStore:
    """Keeps checkpoints in the file `path`; its folder must be there, the file need not."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"JsonCheckpointStore({str(self.path)!r})"

    def open(self, key: JobKey) -> JsonCheckpointHolding:
        """Take a key, and the file for this process; see `BlockingCheckpointStore.open`.

        Raises:
            CheckpointLocked: Another run has the key, or another process the file.
            CheckpointCorrupt: It is not a whole checkpoint.
            CheckpointVersion: It was written in another version of the format.
            CheckpointError: It cannot be read.
        """
        key = key.printable()
        return JsonCheckpointHolding(hold(self.path, key), key)

    def peek(self, key: JobKey) -> CheckpointState | None:
        """Read a state without taking the key or the file, for looking only."""
        return self.peek_all([key]).get(key)

    def peek_all(self, keys: Sequence[JobKey]) -> Mapping[JobKey, CheckpointState]:
        """Read several states, and the file at most once."""
        states = peek(self.path, {key.printable() for key in keys})
        return {key: states[name] for key in keys if (name := key.printable()) in states}

    def keys(self, account: str) -> Sequence[JobKey]:
        """The keys of an account that have a state; see `ListsKeys`."""
        return [key for key in keys_in(self.path) if key.account == printable(account)]

    def keep_open(self) -> Callable[[], None]:
        """Have the file open over several runs; see `KeepsOpen`. Raises as `open` does."""
        return partial(leave, keep(self.path))


class JsonCheckpointHolding:
    """A key of a checkpoint file; see `BlockingCheckpointHolding`."""

    __slots__ = ("_file", "_key", "_path")

    def __init__(self, file: JsonFile, key: JobKey) -> None:
        self._path = file.path
        self._key = key
        self._file: JsonFile | None = file

    def load(self) -> CheckpointState | None:
        """Return the state with all its changes, or None."""
        return self._held().load(self._key)

    def save(self, state: CheckpointState) -> None:
        """Write the file anew, with this state in it."""
        self._held().save(self._key, state)

    def append(self, change: CheckpointChange) -> None:
        """Add a line to the journal."""
        self._held().append(self._key, change)

    def sync(self) -> None:
        """Make the journal survive a loss of power."""
        self._held().sync()

    def delete(self) -> None:
        """Take the state out of the file; the last thing in it takes the file along."""
        self._held().delete(self._key)

    def notes(self) -> dict[str, JSON]:
        """The notes of the account."""
        return self._held().notes(self._key.account)

    def put_note(self, name: str, value: JSON) -> None:
        """Add a line to the journal that gives a note a value."""
        self._held().put_note(self._key.account, name, value)

    def release(self) -> None:
        """Give the key back; the last run of the process gives the file back. Does nothing the second time."""
        file, self._file = self._file, None
        if file is not None:
            let_go(file, self._key)

    def _held(self) -> JsonFile:
        if self._file is None:
            raise CheckpointError("its key was given back", path=self._path)
        return self._file
