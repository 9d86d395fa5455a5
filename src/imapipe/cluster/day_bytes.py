"""The bytes of accounts within a day, in rows of the database that all processes share (for `ByteBudget`).

A row is what a file would hold (`limits.shared_bytes`): what was received by the hour, and what each process has under
way. Who looks at it has it for himself until he has written it back.

Invariants:

- Whether a batch fits is decided, and the batch written down, while the row is locked.
- What a process had under way when its lease ended counts as received.
- The event loop waits for nothing but the answer of a thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager
from functools import partial
from typing import Final, TypeVar

import orjson

from imapipe.cluster.outage import Outage
from imapipe.cluster.slot_rows import Worker
from imapipe.database import Connection, Database
from imapipe.errors import DatabaseError
from imapipe.limits.byte_usage import ByteUsage
from imapipe.limits.shared_bytes import SharedRow
from imapipe.runtime.completion import to_the_end

T = TypeVar("T")

_EMPTY: Final = orjson.dumps(SharedRow().to_json())

_MAKE: Final = """INSERT INTO imapipe_bytes (account, content, used_ms)
    VALUES (:account, :content, now_ms()) ON CONFLICT (account) DO NOTHING"""
_READ: Final = "SELECT content, now_ms() FROM imapipe_bytes WHERE account = :account FOR UPDATE"
_WRITE: Final = "UPDATE imapipe_bytes SET content = :content, used_ms = now_ms() WHERE account = :account"


class DayBytes:
    """The rows, as one process sees them (a `limits.shared_bytes.SharedPlace`).

    Args:
        database: Where they are.
        worker: Who has things under way.
        be_there: Sees to it that the worker has a lease, which is renewed from then on; blocking.
        wait_seconds: How long a database that does not work is waited for.
    """

    def __init__(
        self, database: Database, worker: Worker, *, be_there: Callable[[], None], wait_seconds: float
    ) -> None:
        self.worker = worker
        self._database = database
        self._be_there = be_there
        self._wait_seconds = wait_seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="imapipe bytes")
        self._queue: asyncio.Lock | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: Connection | None = None
        self._transaction: AbstractContextManager[None] | None = None
        self._offset_seconds = 0.0

    def of(self, account: str) -> AccountBytes:
        """One account."""
        return AccountBytes(self, account)

    def now(self) -> float:
        """The time of the database, in seconds since 1970, as far as it is known."""
        return time.time() + self._offset_seconds

    def close(self) -> None:
        """End the thread; blocks until it has ended."""
        self._thread.shutdown(wait=True)
        self._drop()

    # -- for accounts ----------------------------------------------------------------------------

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One at a time: there is one connection."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._queue = loop, asyncio.Lock()
        assert self._queue is not None
        async with self._queue:
            yield

    async def read(self, account: str, now: float) -> tuple[bytes, SharedRow]:
        """Lock the row of an account and read it; `write` or `forget` is to follow.

        Raises:
            DatabaseError: The database does not work, and it was waited long enough.
        """
        content, alive = await self._patiently(partial(self._lock, account))
        row = SharedRow.from_json(orjson.loads(content), now)
        for token in [token for token in row.under_way if token != self.worker.name and token not in alive]:
            row.usage.add(now, row.under_way.pop(token)[1])
        return content, row

    async def write(self, account: str, before: bytes, after: bytes, again: Callable[[bytes], bytes]) -> None:
        """Write the row that was locked.

        Args:
            account: The account.
            before: What it held.
            after: What it is to hold.
            again: Does the same change to a row that others have changed, for the lock was lost in between.
        """

        def save() -> None:
            if self._transaction is None:
                content, _ = self._lock(account)
                changed = content if content == after else after if content == before else again(content)
            else:
                changed = after
            assert self._connection is not None
            self._connection.execute(_WRITE, {"account": account, "content": changed})
            self._end()

        await self._patiently(save)

    async def forget(self) -> None:
        """Let the row go as it was."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._drop)

    # -- in the thread ---------------------------------------------------------------------------

    def _lock(self, account: str) -> tuple[bytes, set[str]]:
        connection = self._connection
        if connection is None:
            connection = self._connection = self._database.connect()
        self._be_there()
        transaction = connection.transaction()
        transaction.__enter__()
        self._transaction = transaction
        parameters = {"account": account}
        rows = connection.query(_READ, parameters)
        if not rows:
            connection.execute(_MAKE, {"account": account, "content": _EMPTY})
            rows = connection.query(_READ, parameters)
        content, now_ms = rows[0]
        self._offset_seconds = now_ms / 1_000 - time.time()
        return bytes(content), {name for (name,) in connection.query("SELECT worker FROM imapipe_workers")}

    def _end(self) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            transaction.__exit__(None, None, None)

    def _drop(self) -> None:
        """Nothing of it took place."""
        self._transaction = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def _patiently(self, work: Callable[[], T]) -> T:
        """Do something in the thread, again as long as the database may come back."""
        outage = Outage("batches", self._wait_seconds)
        while True:
            try:
                return await asyncio.get_running_loop().run_in_executor(self._thread, work)
            except DatabaseError as error:
                await self.forget()
                if not outage.failed(error):
                    raise
                pause_seconds = outage.pause_seconds(error)
            await asyncio.sleep(pause_seconds)


class AccountBytes:
    """One account (a `limits.shared_bytes.SharedCount`).

    Attributes:
        token: What this process is called.
        pending: What was received and is not in the row yet.
    """

    def __init__(self, place: DayBytes, account: str) -> None:
        self.token = place.worker.name
        self.pending = ByteUsage()
        self._place = place
        self._account = account

    def open(self) -> None:
        """A run begins."""

    def close(self) -> None:
        """No run is left, and nothing is under way."""

    @asynccontextmanager
    async def hold(self, now: float) -> AsyncIterator[SharedRow]:
        """Look at the account and change it, alone; there is to be no `await` in the block.

        Raises:
            DatabaseError: The database did not work for too long; then nothing has changed.
        """
        async with self._place.turn():
            try:
                before, row = await to_the_end(self._place.read(self._account, now))
                received, self.pending = self.pending, ByteUsage()
                row.usage.add_all(received)
                try:
                    yield row
                    mine = row.under_way.get(self.token)

                    def again(content: bytes) -> bytes:
                        other = SharedRow.from_json(orjson.loads(content), now)
                        other.usage.add_all(received)
                        other.under_way.pop(self.token, None)
                        if mine is not None:
                            other.under_way[self.token] = mine
                        return orjson.dumps(other.to_json())

                    await to_the_end(self._place.write(self._account, before, orjson.dumps(row.to_json()), again))
                except BaseException:
                    self.pending.add_all(received)
                    raise
            except BaseException:
                await to_the_end(self._place.forget())
                raise
