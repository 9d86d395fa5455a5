"""`Pools`: the pools of many accounts. Each is opened when first used, and closed when nobody has used it for long.

Invariants:

- One pool for each account, also where many ask for it in the same moment; one that could not be opened is tried anew
  by whoever asks next.
- A pool that somebody uses is not closed for being idle, whatever it does meanwhile; one that `get` gave is used to the
  end, for nobody says when it is not.
- After `close` has begun no pool is opened, and when it returns none is open.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Final, Self, TypeAlias

from imapipe.client import Pool
from imapipe.contrib.errors import NotServing, ServiceError, UnknownAccount
from imapipe.models.argument import check_number
from imapipe.net.pool.decisions import PoolStats

DEFAULT_IDLE_SECONDS: Final = 600.0

_log = logging.getLogger(__name__)

OpenPool: TypeAlias = Callable[[str], Pool | Awaitable[Pool]]
"""Makes the pool of an account by its name, with the credentials that the application knows; may be async."""


async def opened(open_pool: OpenPool, account: str) -> Pool:
    """The pool of an account, from a function or a coroutine function; raises what that raises."""
    pool = open_pool(account)
    return await pool if inspect.isawaitable(pool) else pool


class Pools:
    """The pools of the accounts of an application, by name; an async context manager.

    ::

        def open_pool(account):
            user = users[account]                                   # a LookupError is an unknown account
            return imapipe.create_pool(user.url, password=vault.password_of(account))

        pools = Pools(open_pool)

    Args:
        open_pool: Makes the pool of an account: a function or a coroutine function. A LookupError that it raises says
            that there is no such account. It is called again when a pool that was closed is needed once more.
        idle_seconds: A pool that nobody has used for so long is closed; None for never.
    """

    def __init__(self, open_pool: OpenPool, *, idle_seconds: float | None = DEFAULT_IDLE_SECONDS) -> None:
        if idle_seconds is not None:
            check_number("idle_seconds", idle_seconds)
            if idle_seconds < 0:
                raise ValueError(f"idle_seconds must be 0 or more, not {idle_seconds}")
        self._open_pool = open_pool
        self._idle_seconds = idle_seconds
        self._pools: dict[str, Pool] = {}
        self._opening: dict[str, asyncio.Task[Pool]] = {}
        # How many use the pool of an account, and whether somebody has it for good; else what closes it in time.
        self._users: Counter[str] = Counter()
        self._kept: set[str] = set()
        self._idle: dict[str, asyncio.TimerHandle] = {}
        self._closing: dict[str, asyncio.Task[None]] = {}
        self._is_closed = False

    async def __aenter__(self) -> Self:
        self._is_closed = False
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def stats(self) -> Mapping[str, PoolStats]:
        """How the pools stand that are open, by account."""
        return {account: pool.stats for account, pool in self._pools.items()}

    async def get(self, account: str) -> Pool:
        """The pool of an account, for as long as the pools are open; nobody but `close` is to close it.

        Raises:
            UnknownAccount: The application does not know it.
            NotServing: The pools are closed.

        What `open_pool` raises otherwise is raised as it is. A cancellation leaves the opening to those who wait too.
        """
        async with self.use(account) as pool:
            self._kept.add(account)
            return pool

    @asynccontextmanager
    async def use(self, account: str) -> AsyncIterator[Pool]:
        """The pool of an account within a block; afterwards it may be closed for being idle. Raises as `get` does."""
        self._users[account] += 1
        if (timer := self._idle.pop(account, None)) is not None:
            timer.cancel()
        try:
            yield await self._get(account)
        finally:
            self._users[account] -= 1
            self._rest(account)

    async def check(self, account: str, look: Callable[[Pool], None] | None = None) -> None:
        """Raise `UnknownAccount` where the application does not know the account; nothing is sent to a server.

        Args:
            account: The account.
            look: Called with its pool, if that can be opened; a `ServiceError` of it is raised.

        What else opening its pool raises is left to whoever uses it. Cancellation: as of `get`.
        """
        try:
            async with self.use(account) as pool:
                if look is not None:
                    look(pool)
        except ServiceError:
            raise
        except Exception as error:  # noqa: BLE001 - of the application's function, which is called again when it matters.
            _log.warning("the pool of %s cannot be opened now: %s", account, error)

    async def _get(self, account: str) -> Pool:
        pool = self._pools.get(account)
        if pool is not None:
            return pool
        if self._is_closed:
            raise NotServing
        task = self._opening.get(account)
        if task is None:
            task = asyncio.create_task(self._open(account), name=f"imapipe pool of {account}")
            self._opening[account] = task
            task.add_done_callback(lambda done: self._end_opening(account, done))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and self._is_closed:
                raise NotServing from None
            raise

    async def close(self) -> None:
        """Close every pool: what is iterated ends and saves, connections are logged out."""
        self._is_closed = True
        opening = tuple(self._opening.values())
        for task in opening:
            task.cancel()
        if opening:
            await asyncio.wait(opening)
        for timer in self._idle.values():
            timer.cancel()
        self._idle = {}
        self._kept = set()
        pools, self._pools = self._pools, {}
        closing = [*self._closing.values()]
        await asyncio.gather(*closing, *(self._close_pool(account, pool) for account, pool in pools.items()))

    async def _open(self, account: str) -> Pool:
        if (closing := self._closing.get(account)) is not None:
            # Both together would be more connections than the account may have.
            await asyncio.wait([closing])
        try:
            pool = await opened(self._open_pool, account)
        except LookupError as error:
            raise UnknownAccount(account) from error
        self._pools[account] = pool
        return pool

    def _rest(self, account: str) -> None:
        """Have the pool of an account closed in time, if nobody uses it."""
        if self._users[account]:
            return
        del self._users[account]
        if account in self._pools and account not in self._kept and self._idle_seconds is not None:
            loop = asyncio.get_running_loop()
            self._idle[account] = loop.call_later(self._idle_seconds, self._close_idle, account)

    def _close_idle(self, account: str) -> None:
        del self._idle[account]
        closing = self._close_pool(account, self._pools.pop(account))
        self._closing[account] = asyncio.create_task(closing, name=f"imapipe pool of {account} closes")

    async def _close_pool(self, account: str, pool: Pool) -> None:
        try:
            await pool.close()
        except Exception:  # noqa: BLE001 - a pool that does not close holds up no other.
            _log.exception("closing the pool of %s failed", account)
        finally:
            self._closing.pop(account, None)

    def _end_opening(self, account: str, task: asyncio.Task[Pool]) -> None:
        del self._opening[account]
        # Whoever asked for it may be gone.
        self._rest(account)
        if not task.cancelled():
            # Whoever waits gets it from the task; nobody may be left.
            task.exception()
