"""Stores that block, used from an event loop: a thread waits for them.

Invariants:

- Each holding has one thread, so its calls never overlap or overtake each other; `append` and `put_note` happen in the
  caller, since they take microseconds.
- A call that was begun comes to its end, whatever becomes of the task that waits for it.
- A thread lives as long as its holding.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from inspect import iscoroutinefunction
from typing import TypeVar, cast

from imapipe.models.json_value import JSON
from imapipe.store.base import (
    BlockingCheckpointHolding,
    BlockingCheckpointStore,
    CheckpointHolding,
    CheckpointStore,
    Lost,
)
from imapipe.store.checkpoint_state import CheckpointChange, CheckpointState
from imapipe.store.job_key import JobKey

T = TypeVar("T")


class ThreadedCheckpointHolding(CheckpointHolding):
    """A key of a blocking store.

    Attributes:
        save_seconds: Seconds of a processor that the last full save took.
    """

    __slots__ = ("_inner", "_thread", "save_seconds")

    def __init__(self, inner: BlockingCheckpointHolding, thread: ThreadPoolExecutor) -> None:
        self._inner = inner
        self._thread = thread
        self.save_seconds = 0.0

    async def load(self) -> CheckpointState | None:
        """Read the state in the thread."""
        return await self._call(self._inner.load)

    async def save(self, state: CheckpointState) -> None:
        """Save the state in the thread."""

        def save() -> float:
            began = time.thread_time()
            self._inner.save(state)
            return time.thread_time() - began

        self.save_seconds = await self._call(save)

    def append(self, change: CheckpointChange) -> None:
        """Append a change, here and now."""
        self._inner.append(change)

    async def sync(self) -> None:
        """Wait for the disk in the thread."""
        await self._call(self._inner.sync)

    async def delete(self) -> None:
        """Delete the state in the thread."""
        await self._call(self._inner.delete)

    async def notes(self) -> Mapping[str, JSON]:
        """Read the notes in the thread."""
        return await self._call(self._inner.notes)

    def put_note(self, name: str, value: JSON) -> None:
        """Put a note, here and now."""
        self._inner.put_note(name, value)

    async def release(self) -> None:
        """Give the key back in the thread, and end that."""
        try:
            await self._call(self._inner.release)
        finally:
            self._thread.shutdown(wait=True)

    async def _call(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)


class ThreadedCheckpointStore(CheckpointStore):
    """Makes a blocking store an async one; `Checkpoint(store)` does so by itself."""

    def __init__(self, store: BlockingCheckpointStore) -> None:
        self.store = store

    def __repr__(self) -> str:
        return f"ThreadedCheckpointStore({self.store!r})"

    async def open(self, key: JobKey, lost: Lost) -> ThreadedCheckpointHolding:
        """Take a key in a thread. Cancelled, it waits for the thread, which may be about to take the key.

        `lost` is not called: a store that blocks has its calls raise `CheckpointLost`.
        """
        thread = ThreadPoolExecutor(1, thread_name_prefix="imapipe-checkpoint")
        opening = thread.submit(self.store.open, key)
        try:
            return ThreadedCheckpointHolding(await asyncio.wrap_future(opening), thread)
        except BaseException:
            thread.shutdown(wait=True)
            if not opening.cancelled() and opening.exception() is None:
                opening.result().release()
            raise

    async def peek(self, key: JobKey) -> CheckpointState | None:
        """Read a state in a thread."""
        return await asyncio.to_thread(self.store.peek, key)

    async def peek_all(self, keys: Sequence[JobKey]) -> Mapping[JobKey, CheckpointState]:
        """Read several states in a thread."""
        return await asyncio.to_thread(self.store.peek_all, keys)


def as_async(store: CheckpointStore | BlockingCheckpointStore) -> CheckpointStore:
    """The store itself where it is async, otherwise with a thread around it."""
    if iscoroutinefunction(store.open):
        return cast(CheckpointStore, store)
    return ThreadedCheckpointStore(cast(BlockingCheckpointStore, store))
