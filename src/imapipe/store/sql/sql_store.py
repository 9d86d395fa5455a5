"""Checkpoints in a database that many processes share: `SqlCheckpointStore`.

`sql.tables` has the tables and the transactions, `sql.engine` the threads that go through them.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import timedelta
from functools import partial
from typing import Final, TypeVar

from imapipe.database import Connection, Database
from imapipe.errors import CheckpointError
from imapipe.models.document import printable
from imapipe.store.base import CheckpointHolding, CheckpointStore, Lost
from imapipe.store.checkpoint_state import CheckpointState
from imapipe.store.job_key import JobKey
from imapipe.store.sql import tables
from imapipe.store.sql.engine import Engine
from imapipe.store.sql.held import Held, KeyRequest
from imapipe.store.sql.holding import SqlHolding

T = TypeVar("T")

_SHORTEST_LEASE_SECONDS: Final = 0.1
_LEAST_LIMIT_SECONDS: Final = 1.0


class SqlCheckpointStore(CheckpointStore):
    """Keeps checkpoints in PostgreSQL, for workers on any number of machines; or in an SQLite file, for those of one.

    A key is held by a lease, which a thread prolongs; whoever takes a key gets a number that is higher than all before
    it, and each write looks for its number in the same transaction. So a worker that was cut off, or stopped for longer
    than its lease while another took over, can record nothing any more: its run ends with `CheckpointLost`. A blocked
    event loop loses nothing. While the database is away, for less than the lease, a run goes on, and what it has done
    is written when the database is back.

    What was appended is in the database some milliseconds later, and is kept as soon as `sync` returns. A key that was
    given back is free at once; one whose holder died is when its lease ends, or at once where the new holder can prove
    the death, on the same machine (Linux).

    The times are those of the database. Tables are made when they are first needed, by whoever may do so; a pool of
    connections like PgBouncer may stand between, in any mode. A store in use has two connections.

    Args:
        dsn: `postgresql://user:password@host:port/name` (needs `pip install 'imapipe[cluster]'`), `sqlite:///path`, or
            the path of an SQLite file.
        lease_seconds: How long a key stays its holder's without word of it, and the longest that a database may be
            away without ending runs. A short one costs a small write for each third of it.

    Raises:
        ValueError: `dsn` is no such address, or the lease is shorter than 0.1 s.

    Attributes:
        name: The address without its password.
    """

    def __init__(self, dsn: str | os.PathLike[str], *, lease_seconds: float = 30.0) -> None:
        if lease_seconds < _SHORTEST_LEASE_SECONDS:
            raise ValueError(f"lease_seconds must be at least {_SHORTEST_LEASE_SECONDS}")
        self._lease_seconds = lease_seconds
        self._database, self._keeping = (
            Database(dsn, statement_seconds=limit, connect_seconds=limit)
            for limit in (max(_LEAST_LIMIT_SECONDS, lease_seconds / part) for part in (3, 6))
        )
        self.name = self._database.name
        self._engine: Engine | None = None
        self._entering = threading.Lock()

    def __repr__(self) -> str:
        return f"SqlCheckpointStore({self.name!r})"

    async def open(self, key: JobKey, lost: Lost) -> CheckpointHolding:
        """Take a key; see `CheckpointStore.open`. Cancelled, it gives the key back as soon as it has it.

        Raises:
            CheckpointLocked: Another run has it; the text says which one, and until when.
            CheckpointError: The database cannot be used; or it was away for as long as a lease.
            ModuleNotFoundError: PostgreSQL needs psycopg: `pip install 'imapipe[cluster]'`.
        """
        key = key.printable()
        engine = self._enter()
        taking = engine.ask(partial(engine.take, key, lost))
        try:
            held = await asyncio.wrap_future(taking)
        except asyncio.CancelledError:
            taking.add_done_callback(partial(self._give_back, engine))
            raise
        except BaseException:
            self._leave(engine)
            raise
        return SqlHolding(held, engine, partial(self._leave, engine))

    async def peek(self, key: JobKey) -> CheckpointState | None:
        """Read a state without taking the key. Raises CheckpointError."""
        return (await self.peek_all([key])).get(key)

    async def peek_all(self, keys: Sequence[JobKey]) -> Mapping[JobKey, CheckpointState]:
        """Read several states, of those that have one. Raises CheckpointError."""
        names = {key: key.printable() for key in keys}
        states = await asyncio.wrap_future(
            self._ask(partial(tables.read, keys=list(set(names.values())), path=self.name))
        )
        return {key: states[name] for key, name in names.items() if name in states}

    def keys(self, account: str) -> Sequence[JobKey]:
        """The keys of an account that have a state; see `ListsKeys`. Raises CheckpointError."""
        return self._ask(partial(tables.read_keys, account=printable(account))).result()

    def keep_open(self) -> Callable[[], None]:
        """Have the connections open over several runs; see `KeepsOpen`. Raises as `open` does."""
        engine = self._enter()
        try:
            engine.ask(_nothing).result()
        except BaseException:
            self._leave(engine)
            raise
        return partial(self._leave, engine)

    def foresee(self) -> Callable[[], None]:
        """Connect while a run looks at its mailbox; see `Foresees`."""
        return partial(self._leave, self._enter())

    async def clean(self, older_than: timedelta) -> int:
        """Remove the states that nobody has held for so long, and the notes of accounts that have none any more.

        Args:
            older_than: How long nobody took, held or gave back what is removed.

        Returns:
            How many keys were removed.

        Raises:
            CheckpointError: The database cannot be used; what was removed until then stays removed.
        """
        age_ms = round(older_than.total_seconds() * 1_000)
        return await asyncio.wrap_future(self._ask(partial(tables.clean, age_ms=age_ms)))

    def _ask(self, function: Callable[[Connection], T]) -> Future[T]:
        engine = self._enter()
        asked = engine.ask(function)
        asked.add_done_callback(lambda _: self._leave(engine))
        return asked

    def _enter(self) -> Engine:
        """The engine, which is kept until `_leave`."""
        with self._entering:
            engine = self._engine
            if engine is None or engine.pid != os.getpid():
                engine = self._engine = Engine(self._database, self._keeping, self._lease_seconds)
                engine.start()
            engine.users += 1
        return engine

    def _leave(self, engine: Engine) -> None:
        with self._entering:
            engine.users -= 1
            if engine.users:
                return
            if self._engine is engine:
                self._engine = None
        engine.end()

    def _give_back(self, engine: Engine, taking: Future[Held]) -> None:
        """Nobody waits for the key any more."""
        if taking.cancelled() or taking.exception() is not None:
            self._leave(engine)
            return
        try:
            released = engine.request(taking.result(), KeyRequest(is_release=True))
        except CheckpointError:
            self._leave(engine)
        else:
            released.add_done_callback(lambda _: self._leave(engine))


def _nothing(connection: Connection) -> None:
    return
