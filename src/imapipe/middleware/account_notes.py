"""What layers want to remember about an account, kept beside the checkpoints of its mailboxes.

It is a state of its own in the same store, under a mailbox name that no mailbox has. So it is shared by all mailboxes
of the account, outlives a checkpoint that is deleted or begun anew, and is as durable as they are: a value survives the
death of the process from the moment `put` returns.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from imapipe.store.base import CheckpointStore
from imapipe.store.checkpoint_state import JSON, CheckpointChange, CheckpointState

NO_MAILBOX: Final = ""


class AccountNotes:
    """Values by name; `open` comes first.

    Attributes:
        path: Where they are kept, for messages.
    """

    __slots__ = ("_state", "_store", "path")

    def __init__(self, store: CheckpointStore, account: str) -> None:
        self._store = store
        self._state = CheckpointState(account=account, mailbox=NO_MAILBOX, uidvalidity=0, fingerprint="")
        self.path = str(getattr(store, "path", ""))

    def open(self) -> None:
        """Read what is there. Blocks; the store is open. Raises CheckpointError."""
        self._state = self._store.load(self._state.account, NO_MAILBOX) or self._state
        # Only to a state that was saved in this run may changes be appended; and an old journal is not read again.
        self._state = replace(self._state, sequence=self._state.sequence + 1)
        self.save(self.snapshot())

    def get(self, name: str) -> JSON:
        """The value of a name, None where there is none."""
        return self._state.extra.get(name)

    def put(self, name: str, value: JSON) -> None:
        """Give a name a value. Takes microseconds. Raises CheckpointError."""
        state = self._state
        change = CheckpointChange(series=state.series, sequence=state.sequence + 1, extra={name: value})
        self._store.append(change)
        self._state = state.apply([change])

    def snapshot(self) -> CheckpointState:
        """All of it, to be saved."""
        return replace(self._state, saved_at=datetime.now(UTC))

    def save(self, state: CheckpointState) -> None:
        """Make a snapshot durable. Blocks; does nothing where nothing is new. Raises CheckpointError."""
        self._store.save(state)
