"""`Pools`: the pools of many accounts. Each is opened when it is first used; all are closed together.

Invariants:

- One pool for each account, also where many ask for it in the same moment; one that could not be opened is tried anew
  by whoever asks next.
- After `close` has begun no pool is opened, and when it returns none is open.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Self, TypeAlias

from imapipe.client import Pool
from imapipe.contrib.errors import NotServing, UnknownAccount
from imapipe.net.pool.decisions import PoolStats

_log = logging.getLogger(__name__)

OpenPool: TypeAlias = Callable[[str], Pool | Awaitable[Pool]]
"""Makes the pool of an account by its name, with the credentials that the application knows; may be async."""


class Pools:
    """The pools of the accounts of an application, by name; an async context manager.

    ::

        def open_pool(account):
            user = users[account]                                   # a LookupError is an unknown account
            return imapipe.create_pool(user.url, password=vault.password_of(account))

        pools = Pools(open_pool)

    Args:
        open_pool: Makes the pool of an account: a function or a coroutine function. A LookupError that it raises says
            that there is no such account.
    """

    def __init__(self, open_pool: OpenPool) -> None:
        self._open_pool = open_pool
        self._pools: dict[str, Pool] = {}
        self._opening: dict[str, asyncio.Task[Pool]] = {}
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
        """The pool of an account; nobody but `close` is to close it.

        Raises:
            UnknownAccount: The application does not know it.
            NotServing: The pools are closed.

        What `open_pool` raises otherwise is raised as it is. A cancellation leaves the opening to those who wait too.
        """
        pool = self._pools.get(account)
        if pool is not None:
            return pool
        if self._is_closed:
            raise NotServing
        task = self._opening.get(account)
        if task is None:
            task = asyncio.create_task(self._open(account), name=f"imapipe pool of {account}")
            self._opening[account] = task
            task.add_done_callback(lambda done: self._opened(account, done))
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
        pools, self._pools = self._pools, {}
        for account, error in zip(
            pools, await asyncio.gather(*(pool.close() for pool in pools.values()), return_exceptions=True), strict=True
        ):
            if isinstance(error, Exception):
                _log.error("closing the pool of %s failed", account, exc_info=error)

    async def _open(self, account: str) -> Pool:
        try:
            opened = self._open_pool(account)
            pool = await opened if inspect.isawaitable(opened) else opened
        except LookupError as error:
            raise UnknownAccount(account) from error
        self._pools[account] = pool
        return pool

    def _opened(self, account: str, task: asyncio.Task[Pool]) -> None:
        del self._opening[account]
        if not task.cancelled():
            # Whoever waits gets it from the task; nobody may be left.
            task.exception()
