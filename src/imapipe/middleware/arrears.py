"""What a store that writes behind owes: outcomes that were given to it and do not outlive this process yet.

Invariants:

- Beside those in hand, no more messages than may wait have an outcome that a death of the process would undo: where
  more do, the run hands out no further one until enough is written.
- Whoever holds the run back lets it go on, or the run has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from imapipe.store.base import WritesBehind
from imapipe.store.checkpoint_state import CheckpointChange


class Arrears:
    """The arrears of one run.

    Args:
        hold: Has the run hand out no further message; gives what lets it go on.
        store: Tells what waits there, if it can.
        write: Writes what was given to the store, and calls `outlives`; False where that failed, and others go on
            trying.

    Attributes:
        given: Messages whose outcome was given to the store.
    """

    __slots__ = ("_go_on", "_hold", "_is_on", "_may_wait", "_store", "_task", "_write", "_written", "given")

    def __init__(
        self,
        hold: Callable[[], Callable[[], None]],
        store: WritesBehind | None,
        write: Callable[[], Awaitable[bool]],
    ) -> None:
        self._hold = hold
        self._store = store
        self._write = write
        self._is_on = False
        self._may_wait = 0
        self._written = 0
        self._go_on: Callable[[], None] | None = None
        self._task: asyncio.Task[None] | None = None
        self.given = 0

    def begin(self, may_wait: int) -> None:
        """Hold the run back from now on, where the outcomes of more messages than this wait to be written."""
        self._may_wait = may_wait
        self._is_on = True

    def end(self) -> None:
        """Hold nothing back any more."""
        self._is_on = False

    async def stop(self) -> None:
        """Let a write that goes on for the sake of the arrears come to its end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def give(self, count: int) -> None:
        """The outcomes of so many messages were given to the store."""
        self.given += count

    def look(self, changes: Sequence[CheckpointChange] | None) -> None:
        """Hold the run back if too many wait.

        Args:
            changes: What the store was given since its last full save; None where that is not certain.
        """
        if not self._is_on or not self._is_behind():
            return
        if self._store is not None and changes is not None:
            # It has begun with them when they came, and is done with most of them by now.
            first = max(0, len(changes) - self._store.waiting)
            self.outlives(self.given - sum(change.count for change in changes[first:]))
        if not self._is_behind():
            return
        if self._go_on is None:
            self._go_on = self._hold()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._catch_up(), name="imapipe checkpoint, held")

    def outlives(self, given: int) -> None:
        """What had been given by then is written."""
        self._written = max(self._written, given)
        if self._go_on is not None and not self._is_behind():
            go_on, self._go_on = self._go_on, None
            go_on()

    def _is_behind(self) -> bool:
        return self.given - self._written > self._may_wait

    async def _catch_up(self) -> None:
        while self._go_on is not None:
            if not await self._write():
                return
