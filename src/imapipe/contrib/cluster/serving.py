"""The pools and the limits of accounts in this process: as they are while a worker runs here, and while none does.

Invariants:

- One worker of a cluster runs in a process at a time.
- While it runs, every pool keeps to the slots that all workers share, and else none does: no pool outlives the change.
- Limits of all workers hold while it runs; without one there are none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from imapipe.client import Pool
from imapipe.cluster import Limits
from imapipe.contrib.pools import OpenPool, Pools, opened
from imapipe.middleware.base import Middleware
from imapipe.runtime.completion import to_the_end
from imapipe.store.base import BlockingCheckpointStore, CheckpointStore, KeepsOpen

_IDLE_POOL_SECONDS: Final = 30.0


class Serving:
    """What the jobs of a cluster are done with in this process.

    Args:
        open_pool: Makes the pool of an account.
        limits: What all workers share.
        store: Where checkpoints are kept; kept open while a worker runs.
        connections: How many connections an account may have; the `max_size` of its pool unless given.
        messages_per_second: How many messages of an account may be asked for.
        bytes_per_second: How many bytes of messages may come from an account.
        bytes_per_day: How many of them within 24 hours.

    Attributes:
        pools: The pools of the accounts.
        in_force: The limits for jobs that use none of their own; none where no worker runs here.
    """

    def __init__(
        self,
        open_pool: OpenPool,
        limits: Limits,
        store: CheckpointStore | BlockingCheckpointStore,
        *,
        connections: int | None,
        messages_per_second: float | None,
        bytes_per_second: float | None,
        bytes_per_day: int | None,
    ) -> None:
        self._open_pool = open_pool
        self._limits = limits
        self._store = store
        self._connections = connections
        self._rates = (messages_per_second, bytes_per_second)
        self._bytes_per_day = bytes_per_day
        self._is_on = self._has_slots = False
        self.in_force: tuple[Middleware, ...] = ()
        self.pools = Pools(self._open, idle_seconds=_IDLE_POOL_SECONDS)

    @asynccontextmanager
    async def on(self) -> AsyncIterator[None]:
        """What a worker needs, within a block; raises as `Worker.run` does."""
        if self._is_on:
            raise RuntimeError("a worker of this cluster runs in this process already: give it more concurrency")
        self._is_on = True
        try:
            async with AsyncExitStack() as stack:
                if isinstance(self._store, KeepsOpen):
                    close = await to_the_end(asyncio.to_thread(self._store.keep_open))
                    stack.push_async_callback(asyncio.to_thread, close)
                await stack.enter_async_context(self._limits)
                self.in_force = self._limits_of_all()
                # Pools that were opened before have no slots, and none has that is opened afterwards.
                await self._renew_pools(with_slots=True)
                stack.push_async_callback(self._renew_pools, with_slots=False)
                yield
        finally:
            self._is_on = False
            self.in_force = ()

    async def _renew_pools(self, *, with_slots: bool) -> None:
        self._has_slots = with_slots
        pools, self.pools = self.pools, Pools(self._open, idle_seconds=_IDLE_POOL_SECONDS)
        await pools.close()

    def _limits_of_all(self) -> tuple[Middleware, ...]:
        messages, received = self._rates
        limits: list[Middleware] = []
        if messages is not None or received is not None:
            limits.append(self._limits.rate(messages_per_second=messages, bytes_per_second=received))
        if self._bytes_per_day is not None:
            # Who waited for a day would have a place of the worker for as long; the task is tried again when it is due.
            limits.append(self._limits.budget(self._bytes_per_day, on_exhausted="stop"))
        return tuple(limits)

    async def _open(self, account: str) -> Pool:
        pool = await opened(self._open_pool, account)
        if self._has_slots and not pool.connections.shares_slots:
            self._limits.connections(pool, self._connections)
        return pool
