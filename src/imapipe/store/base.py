"""The contract between the Checkpoint middleware and where checkpoints are kept.

A store keeps a state for each `JobKey`, and notes for each account. Opening a key gives a *holding*: from then on that
job is the opener's alone until `release`, on this machine or wherever the store can see to it. Jobs of other keys go on
at the same time, on the same store.

Rules that every store keeps (`imapipe.testing.check_store` goes through them with yours):

- What `append` and `put_note` were given is there for whoever opens the key after this process died, or as soon after
  it as the store says of itself; what `save`, `sync` or `delete` returned for survives a loss of power too.
- A state or a change counts once, by its number: of its own series, nothing with a `sequence` at or below that of the
  state kept does anything. `CheckpointState.apply` adds changes up in any order and refuses what it has already.
- A state of another series replaces the one kept: a fresh start, to which changes of the old series do not belong.
- Everything raises `CheckpointError` or a class below it, and then has changed nothing. After `CheckpointLost` nothing
  is written any more.

There are two forms. `CheckpointStore` is async, for what waits on a network. `BlockingCheckpointStore` is for files and
embedded databases. `Checkpoint(store)` takes either, and lets a thread wait for the second
(`store.threaded.ThreadedCheckpointStore`). Who has a place for bytes by name writes three methods of a
`SimpleCheckpointStore`, which is one of the second form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

from imapipe.errors import CheckpointLost
from imapipe.models.json_value import JSON
from imapipe.store.checkpoint_state import CheckpointChange, CheckpointState
from imapipe.store.job_key import JobKey

Lost: TypeAlias = Callable[[CheckpointLost], None]
"""What to call, from any thread, when a holding turns out to be another's."""


class CheckpointHolding(Protocol):
    """One key, held.

    Of the async methods one is called at a time, and none is cancelled: Checkpoint lets a call that is under way come
    to its end (for thirty seconds after a cancellation, not for ever). `append` and `put_note` are called in the event
    loop at any time, also while one of the others waits.
    """

    async def load(self) -> CheckpointState | None:
        """Return the state with all its changes, or None where there is none."""

    async def save(self, state: CheckpointState) -> None:
        """Keep a whole state, and the notes put so far, so that a loss of power does not lose them.

        What was appended up to its `sequence` is contained in it and may be forgotten.

        Writing a large state out takes a while (`state.to_json()`: milliseconds for ten thousand ranges), so do it in
        a thread.
        """

    def append(self, change: CheckpointChange) -> None:
        """Keep a change to the state saved last. Takes microseconds: a store on a network keeps it to be written soon.

        What could not be written raises at the next call, whichever that is. The state has been saved once since the
        key was opened.
        """

    async def sync(self) -> None:
        """Write what was appended so far, if that is still to be done, and make it survive a loss of power."""

    async def delete(self) -> None:
        """Forget the state for good; the notes stay."""

    async def notes(self) -> Mapping[str, JSON]:
        """The notes of the account: values that layers keep for all of its mailboxes and jobs."""

    def put_note(self, name: str, value: JSON) -> None:
        """Give a note a value, as `append` keeps a change; `notes` was awaited before. Whoever comes last is right."""

    async def release(self) -> None:
        """Give the key back; what was appended stays. Raises nothing for a key that was lost."""


class CheckpointStore(Protocol):
    """Keeps checkpoints where keeping them takes waiting."""

    async def open(self, key: JobKey, lost: Lost) -> CheckpointHolding:
        """Take a key.

        Args:
            key: The job.
            lost: To be called, from any thread, when the key was taken away: a lease ran out, and another may have it.
                Checkpoint then ends the run at once. A store that cannot lose a key never calls it. That a call of
                the holding raises `CheckpointLost` has the same effect.

        Raises:
            CheckpointLocked: Another run has it, in this process or in another.
            CheckpointCorrupt: What is there is not a whole checkpoint.
            CheckpointVersion: It was written in another version of the format.
            CheckpointError: It cannot be read.
        """

    async def peek(self, key: JobKey) -> CheckpointState | None:
        """Read a state without taking the key, for looking only; another run may be changing it."""

    async def peek_all(self, keys: Sequence[JobKey]) -> Mapping[JobKey, CheckpointState]:
        """Read the states of several keys, as `peek` does; of keys without one there is nothing in it."""


@runtime_checkable
class ListsKeys(Protocol):
    """What a store of either form has besides, if it can: so the state of a mailbox that was renamed is found.

    Called in a thread.
    """

    def keys(self, account: str) -> Sequence[JobKey]:
        """The keys of an account that have a state."""


@runtime_checkable
class KeepsOpen(Protocol):
    """What a store of either form has besides, if opening and closing it costs more than one run should pay.

    A job of many runs (all mailboxes of an account, or what arrives while it is followed) keeps it open over them.
    """

    def keep_open(self) -> Callable[[], None]:
        """Open it, and give what ends that. Both are called in a thread; raises as `open` does."""


@runtime_checkable
class Foresees(Protocol):
    """What a store of either form has besides, if it takes a while until it can be asked for anything."""

    def foresee(self) -> Callable[[], None]:
        """A key will be opened soon: begin to connect, without waiting for it; give what ends that. Raises nothing."""


@runtime_checkable
class WritesBehind(Protocol):
    """What a holding of an async store has besides, if outliving this process can be had for less than `sync` costs."""

    @property
    def waiting(self) -> int:
        """How many of the changes that were appended are not there yet: so many, the last ones.

        A run looks before it waits with `written`, which costs it more. Of a key that was lost they never are.
        """

    async def written(self) -> None:
        """Wait until what was appended is there for whoever opens the key after the death of this process.

        A run waits for it where more was done than a death may repeat. Raises as `sync` does.
        """


@runtime_checkable
class SavesLast(Protocol):
    """What a holding of an async store has besides, if saving and giving the key back together costs less than both."""

    async def save_last(self, state: CheckpointState) -> None:
        """Save, and give the key back in the same step; `release` is called all the same, and finds that done.

        A run that has nothing left to do calls it. Raises as `save` does; then the key is still held.
        """


class BlockingCheckpointHolding(Protocol):
    """One key, held; every method is a plain function, and means what it means in `CheckpointHolding`.

    `append` and `put_note` are called in the event loop while a thread may be inside of one of the others, which are
    called one at a time; a lock around whatever reads something to change it is enough. At the end of a run the last
    `save` (or `delete`) and `release` come to their end whatever is cancelled meanwhile.
    """

    def load(self) -> CheckpointState | None:
        """Return the state with all its changes, or None where there is none."""

    def save(self, state: CheckpointState) -> None:
        """Keep a whole state so that a loss of power does not lose it."""

    def append(self, change: CheckpointChange) -> None:
        """Keep a change so that the death of this process does not lose it. Takes microseconds."""

    def sync(self) -> None:
        """Make what was appended so far survive a loss of power."""

    def delete(self) -> None:
        """Forget the state for good; the notes stay."""

    def notes(self) -> Mapping[str, JSON]:
        """The notes of the account."""

    def put_note(self, name: str, value: JSON) -> None:
        """Give a note a value. Takes microseconds."""

    def release(self) -> None:
        """Give the key back; what was appended stays."""


class BlockingCheckpointStore(Protocol):
    """Keeps checkpoints where that takes a moment of the disk: a file, an embedded database."""

    def open(self, key: JobKey) -> BlockingCheckpointHolding:
        """Take a key; raises as `CheckpointStore.open` does. Called in a thread."""

    def peek(self, key: JobKey) -> CheckpointState | None:
        """Read a state without taking the key. Called in a thread."""

    def peek_all(self, keys: Sequence[JobKey]) -> Mapping[JobKey, CheckpointState]:
        """Read the states of several keys, of those that have one. Called in a thread."""
