"""Stores as somebody else may write them: one that blocks, and one behind a network, with leases."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path

from imapipe.errors import CheckpointLocked, CheckpointLost
from imapipe.models.json_value import JSON
from imapipe.store.base import Lost
from imapipe.store.checkpoint_state import CheckpointChange, CheckpointState
from imapipe.store.job_key import JobKey
from imapipe.store.simple_store import SimpleCheckpointStore


class SqliteStore(SimpleCheckpointStore):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.db.execute("CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, value BLOB)")
        self.db.execute("CREATE TABLE IF NOT EXISTS locks (name TEXT PRIMARY KEY)")

    def read(self, name: str) -> bytes | None:
        row = self.db.execute("SELECT value FROM kept WHERE name = ?", [name]).fetchone()
        return bytes(row[0]) if row else None

    def write(self, name: str, value: bytes) -> None:
        self.db.execute("REPLACE INTO kept VALUES (?, ?)", [name, value])

    def remove(self, name: str) -> None:
        self.db.execute("DELETE FROM kept WHERE name = ?", [name])

    def lock(self, name: str) -> bool:
        return self.db.execute("INSERT OR IGNORE INTO locks VALUES (?)", [name]).rowcount == 1

    def unlock(self, name: str) -> None:
        self.db.execute("DELETE FROM locks WHERE name = ?", [name])


class Database:
    """What stands at the other end of a network: rows, leases with fencing tokens, and troubles."""

    def __init__(self) -> None:
        self.states: dict[JobKey, CheckpointState] = {}
        self.notes: defaultdict[str, dict[str, JSON]] = defaultdict(dict)
        self.owners: dict[JobKey, int] = {}
        self.tokens = count(1)
        self.calls: list[str] = []
        self.fail: Callable[[str], Exception | None] = lambda call: None
        self.hold: asyncio.Event | None = None
        self.held: set[str] = set()
        self.under_way = 0

    async def call(self, name: str) -> None:
        """What every call has to go through."""
        self.calls.append(name)
        self.under_way += 1
        assert self.under_way == 1 or name in {"open", "peek"}, "calls of a holding overlap"
        try:
            await asyncio.sleep(0)
            if self.hold is not None:
                self.held.add(name)
                await self.hold.wait()
            if (error := self.fail(name)) is not None:
                raise error
        finally:
            self.under_way -= 1

    async def take_away(self, key: JobKey) -> None:
        self.owners.pop(key)


class LeasedStore:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.holdings: list[LeasedHolding] = []

    async def open(self, key: JobKey, lost: Lost) -> LeasedHolding:
        await self.database.call("open")
        if key in self.database.owners:
            raise CheckpointLocked("another run has it", path="database")
        self.holdings.append(LeasedHolding(self.database, key, lost))
        return self.holdings[-1]

    async def peek(self, key: JobKey) -> CheckpointState | None:
        await self.database.call("peek")
        return self.database.states.get(key)

    async def peek_all(self, keys: Sequence[JobKey]) -> dict[JobKey, CheckpointState]:
        await self.database.call("peek_all")
        return {key: self.database.states[key] for key in keys if key in self.database.states}


class LeasedHolding:
    """Writes behind: what is appended waits for the next call."""

    def __init__(self, database: Database, key: JobKey, lost: Lost) -> None:
        self.database, self.key, self.lost = database, key, lost
        self.token = database.owners[key] = next(database.tokens)
        self.changes: list[CheckpointChange] = []
        self.new_notes: dict[str, JSON] = {}

    async def load(self) -> CheckpointState | None:
        await self._write("load")
        return self.database.states.get(self.key)

    async def save(self, state: CheckpointState) -> None:
        await self._write("save")
        kept = self.database.states.get(self.key)
        if kept is None or kept.series != state.series or kept.sequence < state.sequence:
            self.database.states[self.key] = state

    def append(self, change: CheckpointChange) -> None:
        self._check()
        self.changes.append(change)

    async def sync(self) -> None:
        await self._write("sync")

    async def delete(self) -> None:
        await self._write("delete")
        self.database.states.pop(self.key, None)

    async def notes(self) -> Mapping[str, JSON]:
        await self._write("notes")
        return dict(self.database.notes[self.key.account])

    def put_note(self, name: str, value: JSON) -> None:
        self._check()
        self.new_notes[name] = value

    async def release(self) -> None:
        if self.database.owners.get(self.key) == self.token:
            await self._write("release")
            del self.database.owners[self.key]

    def _check(self) -> None:
        if self.database.owners.get(self.key) != self.token:
            raise CheckpointLost("its lease ran out", path="database")

    async def _write(self, call: str) -> None:
        await self.database.call(call)
        self._check()
        # Together, as in one transaction.
        changes, self.changes = self.changes, []
        kept = self.database.states.get(self.key)
        if kept is not None:
            self.database.states[self.key] = kept.apply(changes)
        self.database.notes[self.key.account].update(self.new_notes)
        self.new_notes = {}
