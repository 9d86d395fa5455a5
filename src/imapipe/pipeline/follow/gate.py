"""Who may use a connection: runs and looks at the account on one side, those who wait for news on the other.

Invariants:

- No more runs and looks are on at a time than there are connections beside those that wait for news.
- Whoever waits for news steps aside where somebody else waits for a connection of the pool in vain: with a pool of one,
  IDLE and the runs take turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from imapipe.net.connection import Connection
from imapipe.net.pool.pool import ConnectionPool

_LOOK_SECONDS: Final = 0.1
# Who stepped aside comes back when nobody had to wait for so long.
_CALM_SECONDS: Final = 0.5


class Gate:
    """The connections of a pool, divided.

    Attributes:
        step_aside: Set while those who wait for news are to give their connections back.
        watchers: How many connections wait for news, or are to.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._in_use = 0
        self._wanted = 0
        self._own_waits = 0
        self._free = asyncio.Event()
        self._calm = asyncio.Event()
        self._calm.set()
        self.step_aside = asyncio.Event()
        self.watchers = 0

    @property
    def limit(self) -> int:
        """How many connections the server allows."""
        return max(1, min(self._pool.stats.limit, self._pool.max_size))

    @property
    def room(self) -> int:
        """How many runs may be on at a time."""
        return max(1, self.limit - self.watchers)

    @property
    def _must_share(self) -> bool:
        return self.watchers >= self.limit

    @asynccontextmanager
    async def use(self) -> AsyncIterator[None]:
        """Be one of those who use a connection."""
        self._wanted += 1
        self._look()
        try:
            while self._in_use >= self.room:
                self._free.clear()
                await self._free.wait()
            self._in_use += 1
        except BaseException:
            self._wanted -= 1
            self._look()
            raise
        try:
            yield
        finally:
            self._in_use -= 1
            self._wanted -= 1
            self._free.set()
            self._look()

    async def take(self, mailbox: str | None) -> Connection:
        """A connection for waiting on, when nobody else needs it; raises as `ConnectionPool.take` does."""
        while self.step_aside.is_set():
            await self._calm.wait()
        self._own_waits += 1
        try:
            return await self._pool.take(mailbox)
        finally:
            self._own_waits -= 1

    async def attend(self) -> None:
        """See to it that others are not kept waiting, for ever."""
        calm_for = 0.0
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            stats = self._pool.stats
            if stats.waiting > self._own_waits and not stats.idle and stats.leased >= stats.limit:
                calm_for = 0.0
                self._turn(aside=True)
            elif self.step_aside.is_set() and not (self._must_share and self._wanted):
                calm_for += _LOOK_SECONDS
                if calm_for >= _CALM_SECONDS:
                    self._turn(aside=False)

    def _look(self) -> None:
        if self._must_share:
            self._turn(aside=bool(self._wanted))

    def _turn(self, *, aside: bool) -> None:
        if aside:
            self.step_aside.set()
            self._calm.clear()
        else:
            self.step_aside.clear()
            self._calm.set()
