"""The contract between the Checkpoint middleware and where checkpoints are kept."""

from __future__ import annotations

from typing import Protocol

from imapipe.store.checkpoint_state import CheckpointChange, CheckpointState


class CheckpointStore(Protocol):
    """Keeps the states of any number of (account, mailbox) pairs.

    All methods are synchronous. `save` and `sync` may be called from one thread while `append` is called from
    another; of the others, one at a time. Everything raises `CheckpointError` or a class below it, and then has
    changed nothing.
    """

    def open(self) -> None:
        """Take the store for one run and read it.

        Raises:
            CheckpointLocked: Another run has it, in this process or in another.
            CheckpointCorrupt: What is there is not a whole checkpoint.
            CheckpointVersion: It was written by another version of the format.
            CheckpointError: It cannot be read.
        """

    def load(self, account: str, mailbox: str) -> CheckpointState | None:
        """Return the state with all its changes, or None where there is none."""

    def save(self, state: CheckpointState) -> None:
        """Keep a whole state so that a loss of power does not lose it.

        A state whose `sequence` is not above that of the last one saved is old news, and does nothing.
        """

    def append(self, change: CheckpointChange) -> None:
        """Keep a change to the state saved last so that the death of this process does not lose it.

        Takes microseconds: it is called in the event loop. The state has been saved once since `open`.
        """

    def sync(self) -> None:
        """Make the changes appended so far survive a loss of power too."""

    def delete(self, account: str, mailbox: str) -> None:
        """Forget a state for good."""

    def close(self) -> None:
        """Give the store back; what was appended stays. Does nothing on a store that is not open."""

    def peek(self, account: str, mailbox: str) -> CheckpointState | None:
        """Read a state without taking the store, for looking only; another run may be changing it."""
