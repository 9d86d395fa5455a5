"""Checkpoints in memory: for tests, and to show how little a store needs.

Invariant: what is kept dies with the store object. Holding a key is all that two runs have to agree on here; a store
that outlives its process also has to see to it that a lock dies with whoever holds it.
"""

from __future__ import annotations

from collections.abc import Mapping

from imapipe.errors import CheckpointError, CheckpointLocked
from imapipe.store.checkpoint_state import JSON, CheckpointChange, CheckpointState
from imapipe.store.job_key import JobKey


class MemoryCheckpointStore:
    """Keeps checkpoints as long as it lives.

    Attributes:
        states: What is kept, by key.
        account_notes: The notes, by account.
        held: The keys that runs have now.
    """

    def __init__(self) -> None:
        self.states: dict[JobKey, CheckpointState] = {}
        self.account_notes: dict[str, dict[str, JSON]] = {}
        self.held: set[JobKey] = set()

    def open(self, key: JobKey) -> MemoryCheckpointHolding:
        """Take a key; see `BlockingCheckpointStore.open`."""
        if key in self.held:
            raise CheckpointLocked("another run has this job", path="memory")
        self.held.add(key)
        return MemoryCheckpointHolding(self, key)

    def peek(self, key: JobKey) -> CheckpointState | None:
        """What is kept for a key."""
        return self.states.get(key)


class MemoryCheckpointHolding:
    """A key of a `MemoryCheckpointStore`; see `BlockingCheckpointHolding`."""

    def __init__(self, store: MemoryCheckpointStore, key: JobKey) -> None:
        self._store = store
        self._key = key

    def load(self) -> CheckpointState | None:
        """What is kept."""
        return self._store.states.get(self._key)

    def save(self, state: CheckpointState) -> None:
        """Keep a state, unless it is old news."""
        kept = self.load()
        if kept is None or kept.series != state.series or kept.sequence < state.sequence:
            self._store.states[self._key] = state

    def append(self, change: CheckpointChange) -> None:
        """Add a change to what is kept."""
        kept = self.load()
        if kept is None or kept.series != change.series:
            raise CheckpointError("a change came before its state was saved", path="memory")
        self._store.states[self._key] = kept.apply([change])

    def sync(self) -> None:
        """Nothing is safer than it is already."""

    def delete(self) -> None:
        """Forget the state."""
        self._store.states.pop(self._key, None)

    def notes(self) -> Mapping[str, JSON]:
        """The notes of the account."""
        return dict(self._store.account_notes.get(self._key.account, {}))

    def put_note(self, name: str, value: JSON) -> None:
        """Give a note a value."""
        self._store.account_notes.setdefault(self._key.account, {})[name] = value

    def release(self) -> None:
        """Give the key back."""
        self._store.held.discard(self._key)
