"""A key of a `SqlCheckpointStore`, as `Checkpoint` uses it: what is asked goes to the threads of `sql.engine`.

Invariant: nothing here waits but in the event loop, and `append` and `put_note` not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final, cast

import orjson

from imapipe.errors import CheckpointError, CheckpointLost
from imapipe.models.json_value import JSON
from imapipe.store.base import CheckpointHolding, SavesLast, WritesBehind
from imapipe.store.checkpoint_state import CheckpointChange, CheckpointState
from imapipe.store.job_key import JobKey
from imapipe.store.sql import tables
from imapipe.store.sql.engine import Engine
from imapipe.store.sql.held import MOST_CHANGES, Held, KeyRequest

_JOIN_SECONDS: Final = 1.0


class SqlHolding(CheckpointHolding, WritesBehind, SavesLast):
    """A key of a `SqlCheckpointStore`; see `CheckpointHolding`.

    A call waits while the database is away, until that is back or the key is lost.
    """

    __slots__ = ("_engine", "_held", "_is_free", "_leave", "_series")

    def __init__(self, held: Held, engine: Engine, leave: Callable[[], None]) -> None:
        self._held = held
        self._engine: Engine | None = engine
        self._leave = leave
        self._is_free = False
        self._series = ""

    async def load(self) -> CheckpointState | None:
        """Return the state with all its changes, or None."""
        key, path = self._held.key, self._running().name
        found, self._held.found = self._held.found, None
        if found is None:
            read = partial(tables.read, keys=[key], path=path)
            states = cast(dict[JobKey, CheckpointState], await self._request(KeyRequest(read=read)))
        elif not found:
            self._held.check()
            return None
        else:
            self._held.check()
            states = await asyncio.to_thread(tables.put_together, found, [key], path=path)
        state = states.get(key)
        if state is not None:
            self._series = state.series
        return state

    async def save(self, state: CheckpointState) -> None:
        """Keep a whole state; it is written out in the thread."""
        self._series = state.series
        self._held.found = None
        await self._request(KeyRequest(state=state))

    async def save_last(self, state: CheckpointState) -> None:
        """Keep a whole state and give the key back, in one transaction; see `SavesLast`."""
        await self._request(KeyRequest(state=state, is_release=True))
        self._is_free = True

    def append(self, change: CheckpointChange) -> None:
        """Let a change be written with the next transaction, which begins at once."""
        self._running().tell(self._held, partial(self._add, change))

    def _add(self, change: CheckpointChange) -> None:
        if change.series != self._series:
            raise CheckpointError("a change came before its state was saved", path=self._running().name)
        if len(self._held.changes) >= MOST_CHANGES:
            raise CheckpointError("the database does not take what is to be kept", path=self._running().name)
        self._held.changes.append(change)

    async def sync(self) -> None:
        """Wait until all that was appended is committed, and survives a loss of power."""
        if self._held.has_news or self._held.is_volatile:
            await self._request(KeyRequest())
        else:
            self._held.check()

    @property
    def waiting(self) -> int:
        """How many of the changes that were appended are not committed yet; see `WritesBehind`."""
        return len(self._held.changes)

    async def written(self) -> None:
        """Wait until all that was appended is committed; see `WritesBehind`."""
        if self._held.has_news:
            await self._request(KeyRequest(is_durable=False))
        else:
            self._held.check()

    async def delete(self) -> None:
        """Forget the state."""
        self._held.found = None
        await self._request(KeyRequest(is_deletion=True))

    async def notes(self) -> dict[str, JSON]:
        """The notes of the account."""
        notes = await self._request(KeyRequest(read=partial(tables.read_notes, account=self._held.key.account)))
        return cast(dict[str, JSON], notes)

    def put_note(self, name: str, value: JSON) -> None:
        """Let a note be written with the next transaction."""
        self._running().tell(self._held, partial(self._held.notes.__setitem__, name, orjson.dumps(value)))

    async def release(self) -> None:
        """Write what is left, and give the key back; it is free at once."""
        engine, self._engine = self._engine, None
        if engine is None:
            return
        try:
            failed, self._held.failed = self._held.failed, None
            if not self._is_free:
                # Should a database that crashes forget it, the key is free when its lease ends.
                await asyncio.wrap_future(engine.request(self._held, KeyRequest(is_release=True, is_durable=False)))
        except CheckpointLost:
            self._leave()
            return
        except BaseException:
            self._leave()
            raise
        self._leave()
        if not engine.users:
            await asyncio.to_thread(engine.join, _JOIN_SECONDS)
        if failed is not None:
            raise failed

    async def _request(self, request: KeyRequest) -> object:
        return await asyncio.wrap_future(self._running().request(self._held, request))

    def _running(self) -> Engine:
        if self._engine is None:
            raise CheckpointError("its key was given back")
        return self._engine
