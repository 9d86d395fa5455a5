"""A store of which three methods are left to write: values by name.

    class MyStore(SimpleCheckpointStore):
        def read(self, name): ...              # the bytes kept under a name, or None
        def write(self, name, value): ...      # keep bytes under a name
        def remove(self, name): ...            # forget a name, which need not be there

That is all where one process at a time uses the place; `lock` and `unlock` are to be written too where several may.

Invariants:

- A name holds a whole state, another one the changes since then (a JSON object a line), a third one the notes of an
  account. A state is written before the changes are removed that it contains; those are known by their number.
- An append writes what is new since the last full save, and never the state.
- `append` and `put_note` happen in the event loop while a thread may be writing a state, which they do not wait for: a
  lock is around what else reads something to change it.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import orjson

from imapipe.errors import CheckpointError, CheckpointLocked
from imapipe.models.json_value import JSON
from imapipe.store.checkpoint_state import CheckpointChange, CheckpointState
from imapipe.store.job_key import JobKey


class SimpleCheckpointStore(ABC):
    """The base of a store that keeps bytes by name; see `BlockingCheckpointStore`.

    A subclass with an `__init__` of its own calls this one's.
    """

    def __init__(self) -> None:
        self.guard = threading.Lock()
        self._held: set[str] = set()

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """What is kept under a name, or None."""

    @abstractmethod
    def write(self, name: str, value: bytes) -> None:
        """Keep a value under a name, in place of the one before; a death leaves the one or the other.

        Called in the event loop with what is small and in a thread with what may be large; at the same time, for
        different names.
        """

    @abstractmethod
    def remove(self, name: str) -> None:
        """Forget a name, which need not be there."""

    def lock(self, name: str) -> bool:
        """Take a name, without waiting; returns whether it was free. As it is, this object alone is asked."""
        with self.guard:
            is_free = name not in self._held
            self._held.add(name)
            return is_free

    def unlock(self, name: str) -> None:
        """Give a name back."""
        with self.guard:
            self._held.discard(name)

    def open(self, key: JobKey) -> SimpleCheckpointHolding:
        """Take a key.

        Raises:
            CheckpointLocked: Another run has it.
        """
        if not self.lock(name_of(key)):
            raise CheckpointLocked("another run has this job", path=repr(self))
        return SimpleCheckpointHolding(self, key)

    def peek(self, key: JobKey) -> CheckpointState | None:
        """Read a state with its changes, without taking the key."""
        state = self.read(name_of(key))
        lines = (self.read(changes_of(key)) or b"").splitlines()
        return CheckpointState.from_json(state).apply(map(CheckpointChange.from_json, lines)) if state else None

    def peek_all(self, keys: Sequence[JobKey]) -> Mapping[JobKey, CheckpointState]:
        """Read several states with their changes, without taking the keys."""
        return {key: state for key in keys if (state := self.peek(key)) is not None}


class SimpleCheckpointHolding:
    """A key of a `SimpleCheckpointStore`; see `BlockingCheckpointHolding`."""

    def __init__(self, store: SimpleCheckpointStore, key: JobKey) -> None:
        self._store = store
        self._key = key
        self._kept: CheckpointState | None = None
        self._changes: list[CheckpointChange] = []

    def load(self) -> CheckpointState | None:
        """Read the state with its changes."""
        with self._store.guard:
            return self._store.peek(self._key)

    def save(self, state: CheckpointState) -> None:
        """Write a state, unless it is old news."""
        kept = self._kept or self.load()
        if kept is not None and kept.series == state.series and kept.sequence >= state.sequence:
            return
        self._store.write(name_of(self._key), state.to_json())
        with self._store.guard:
            self._kept = state
            self._write(
                [each for each in self._changes if each.series == state.series and each.sequence > state.sequence]
            )

    def append(self, change: CheckpointChange) -> None:
        """Write what is new since the last full save."""
        with self._store.guard:
            if self._kept is None or self._kept.series != change.series:
                raise CheckpointError("a change came before its state was saved", path=repr(self._store))
            self._write([*self._changes, change])

    def _write(self, changes: list[CheckpointChange]) -> None:
        if changes:
            self._store.write(changes_of(self._key), b"\n".join(each.to_json() for each in changes))
        else:
            self._store.remove(changes_of(self._key))
        self._changes = changes

    def sync(self) -> None:
        """Nothing: what was written is as safe as this store makes it."""

    def delete(self) -> None:
        """Forget the state."""
        with self._store.guard:
            self._store.remove(name_of(self._key))
            self._kept = None
            self._write([])

    def notes(self) -> Mapping[str, JSON]:
        """The notes of the account."""
        with self._store.guard:
            return self._notes()

    def put_note(self, name: str, value: JSON) -> None:
        """Give a note a value."""
        with self._store.guard:
            notes = orjson.dumps({**self._notes(), name: value})
            self._store.write(notes_of(self._key.account), notes)

    def _notes(self) -> dict[str, JSON]:
        notes: dict[str, JSON] = orjson.loads(self._store.read(notes_of(self._key.account)) or b"{}")
        return notes

    def release(self) -> None:
        """Give the key back."""
        self._store.unlock(name_of(self._key))


def name_of(key: JobKey) -> str:
    """The name of a state; printable, and another one for every key."""
    key = key.printable()
    return orjson.dumps(["state", key.account, key.mailbox, key.name, key.shard]).decode()


def changes_of(key: JobKey) -> str:
    """The name of the changes to a state."""
    return name_of(key).replace("state", "changes", 1)


def notes_of(account: str) -> str:
    """The name of the notes of an account."""
    return orjson.dumps(["notes", JobKey(account, "").printable().account]).decode()
