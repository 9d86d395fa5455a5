"""A database from an event loop: a thread with a connection does one piece of work after the other, in transactions.

Invariants:

- Work that could not be done because the database was away is done again when it is back, for `outage_seconds`; so work
  bears being done twice.
- Cancelled, whoever waits goes; the piece of work that is under way ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from imapipe.database import Connection, Database
from imapipe.errors import DatabaseError
from imapipe.runtime.backoff import Backoff
from imapipe.runtime.rarely import Rarely

_log = logging.getLogger(__name__)

_FIRST_WAIT_SECONDS: Final = 0.1
_LONGEST_WAIT_SECONDS: Final = 2.0
TOLD_EVERY_SECONDS: Final = 30.0
"""How often the log has a line of a database that is away, whatever waits for it."""

T = TypeVar("T")


class Desk:
    """Does work on a database.

    Args:
        database: The database.
        outage_seconds: How long work waits for it.

    Attributes:
        outage_seconds: How long work waits for it.
        waits: How often work had to wait for the database.
        waited_seconds: How long, in all.
    """

    def __init__(self, database: Database, *, outage_seconds: float) -> None:
        self._database = database
        self.outage_seconds = outage_seconds
        self._thread: ThreadPoolExecutor | None = None
        self._connection: Connection | None = None
        self._telling = Rarely(TOLD_EVERY_SECONDS)
        self.waits = 0
        self.waited_seconds = 0.0

    async def do(self, work: Callable[[Connection], T], *, in_transaction: bool = True) -> T:
        """Do a piece of work.

        Args:
            work: What to do; blocking, in the thread.
            in_transaction: All or nothing; else it makes transactions of its own.

        Raises:
            DatabaseError: It could not be done, or the database was away for too long.
        """
        loop = asyncio.get_running_loop()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="imapipe cluster")
        backoff = Backoff(_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS)
        since = loop.time()
        tries = 0
        while True:
            try:
                return await loop.run_in_executor(self._thread, self._do, work, in_transaction)
            except DatabaseError as error:
                tries += 1
                lasted = loop.time() - since
                if not (error.is_transient or error.is_lost) or lasted > self.outage_seconds:
                    raise
                pause = backoff.seconds(tries, error)
                self.waits += 1
                self.waited_seconds += pause
                if tries > 1 and self._telling.is_due():
                    _log.warning("waiting for the database, %.0f s so far: %s", lasted, error)
                await asyncio.sleep(pause)

    async def close(self) -> None:
        """Close the connection, behind the work that is under way."""
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.get_running_loop().run_in_executor(thread, self._drop)
            thread.shutdown(wait=False)

    def _do(self, work: Callable[[Connection], T], in_transaction: bool) -> T:
        if self._connection is None:
            self._connection = self._database.connect()
        try:
            if not in_transaction:
                return work(self._connection)
            with self._connection.transaction():
                return work(self._connection)
        except DatabaseError as error:
            if error.is_lost:
                self._drop()
            raise

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
