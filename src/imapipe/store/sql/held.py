"""A key that is held, as the threads and the event loop share it: what waits to be written, and until when it is ours.

Invariant: the lock of the engine is around every change of what is here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

from imapipe.database import Connection, Row
from imapipe.errors import CheckpointError, CheckpointLost
from imapipe.store.base import Lost
from imapipe.store.checkpoint_state import CheckpointChange, CheckpointState
from imapipe.store.job_key import JobKey
from imapipe.store.sql.tables import Write, key_of

MOST_CHANGES: Final = 50_000
"""So many changes of one key may wait for a database that does not take them."""


@dataclass(slots=True, kw_only=True)
class KeyRequest:
    """Something that a holding was asked for, beside what it appends.

    Attributes:
        state: A state to be saved.
        is_deletion: Whether the state is to go.
        is_release: Whether the key is to be given back.
        is_durable: Whether what is written must survive a loss of power, with all that was written before.
        read: What is to be read when all is written.
        done: Told the end of it.
    """

    state: CheckpointState | None = None
    is_deletion: bool = False
    is_release: bool = False
    is_durable: bool = True
    read: Callable[[Connection], object] | None = None
    done: Future[object] = field(default_factory=Future)

    @property
    def is_release_only(self) -> bool:
        """Whether whoever asks wants nothing but to be rid of the key."""
        return self.is_release and self.state is None

    def __post_init__(self) -> None:
        """It comes to its end, whatever becomes of whoever waits for it."""
        self.done.set_running_or_notify_cancel()


class Held:
    """A key that is held.

    Args:
        key: The key.
        token: The token with which it was taken.
        ends: Until when it counts as ours.
        lost: What to call when it is lost.
        found: What was kept for it when it was taken, as `tables.put_together` takes it.

    Attributes:
        found: The same, until something else is kept or somebody has asked for it; then None.
        error: The news that it was lost, or None.
        failed: What went wrong behind the back of the caller, to be raised at the next call; or None.
        changes: What waits to be written.
        notes: Notes that wait to be written, as JSON.
        request: What is asked for, or None.
        is_volatile: Whether something was written that would not survive a loss of power yet.
    """

    __slots__ = (
        "changes",
        "digest",
        "ends",
        "error",
        "failed",
        "found",
        "is_volatile",
        "key",
        "lost",
        "notes",
        "request",
        "token",
    )

    def __init__(self, key: JobKey, token: int, ends: float, lost: Lost, *, found: Sequence[Row]) -> None:
        self.key = key
        self.digest = key_of(key)
        self.token = token
        self.ends = ends
        self.lost = lost
        self.found: Sequence[Row] | None = found
        self.error: CheckpointLost | None = None
        self.failed: CheckpointError | None = None
        self.changes: list[CheckpointChange] = []
        self.notes: dict[str, bytes] = {}
        self.request: KeyRequest | None = None
        self.is_volatile = False

    @property
    def has_news(self) -> bool:
        """Whether there is something to do for it."""
        return bool(self.changes or self.notes or self.request)

    def check(self) -> None:
        """Raise what there is to be raised."""
        if self.error is not None:
            raise self.error
        if self.failed is not None:
            error, self.failed = self.failed, None
            raise error


class Portion:
    """What is written of a held key in one transaction; what comes meanwhile is for the next one."""

    __slots__ = ("_changes", "_notes", "held", "request")

    def __init__(self, held: Held) -> None:
        self.held = held
        self.request = held.request
        self._changes = list(held.changes)
        self._notes = dict(held.notes)

    @property
    def is_durable(self) -> bool:
        """Whether it must survive a loss of power."""
        return self.request is not None and self.request.is_durable

    @property
    def is_written(self) -> bool:
        """Whether nothing is left to be asked of the database."""
        request = self.request
        asks = request is not None and (
            request.state is not None or request.is_deletion or request.is_release or request.read is not None
        )
        return not (asks or self._changes or self._notes or (self.is_durable and self.held.is_volatile))

    def write(self) -> Write:
        """What is to be done; writing out a large state takes a while."""
        request = self.request or KeyRequest()
        state = request.state
        changes = self._changes
        if request.is_deletion:
            changes = []
        elif state is not None:
            changes = [each for each in changes if each.series == state.series and each.sequence > state.sequence]
        return Write(
            key=self.held.digest,
            token=self.held.token,
            account=self.held.key.account,
            is_deletion=request.is_deletion,
            state=None if state is None else (state.series, state.sequence, state.to_json()),
            changes=changes,
            notes=self._notes,
            is_touch=self.is_durable and self.held.is_volatile,
            is_release=request.is_release,
        )

    def read(self, connection: Connection) -> object:
        """What is asked for, now that all before it is written."""
        return None if self.request is None or self.request.read is None else self.request.read(connection)

    def settle(self, *, durable: bool) -> KeyRequest | None:
        """It was written; gives what was asked for. To be called under the lock."""
        held = self.held
        held.is_volatile = not durable and (held.is_volatile or bool(self._changes or self._notes))
        del held.changes[: len(self._changes)]
        for name, value in self._notes.items():
            if held.notes.get(name) is value:
                del held.notes[name]
        if self.request is not None:
            held.request = None
        return self.request
