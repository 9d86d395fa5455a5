"""A server and a pool for one test, and the check that nothing of a run is left when it ends."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from tests.pipeline.world import OpenWorld, Watched, World

import imapipe
from imapipe.net import dataplane, spool
from imapipe.net.arrivals import Arrivals
from imapipe.net.holdings import Holdings
from imapipe.net.secrets import Secrets
from imapipe.testing import Server


@pytest_asyncio.fixture
async def open_world() -> AsyncIterator[OpenWorld]:
    """Opens servers with a pool each; at the end no task and no connection may be left."""
    before = asyncio.all_tasks()
    worlds: list[World] = []
    async with AsyncExitStack() as servers:

        async def open_one(
            messages: object = 20, *, options: dict[str, object] | None = None, **server: object
        ) -> World:
            opened = await servers.enter_async_context(Server(messages, **server))  # type: ignore[arg-type]
            given = {"stall_timeout_seconds": 60, **(options or {})}
            pool = imapipe.create_pool(opened.url, password=opened.password, **given)  # type: ignore[arg-type]
            worlds.append(World(opened, pool))
            return worlds[-1]

        yield open_one
        for world in worlds:
            await world.pool.close()
            stats = world.pool.stats
            assert (stats.leased, stats.idle, stats.opening, stats.waiting) == (0, 0, 0, 0)
        left = {task for task in asyncio.all_tasks() - before if not str(task.get_name()).startswith("imapipe.testing")}
        assert left <= {asyncio.current_task()}
        for world in worlds:
            # The server reads of the end of a connection in its own time.
            for _ in range(1000):
                if not world.server.counters.open_connections:
                    break
                await asyncio.sleep(0.001)
            assert world.server.counters.open_connections == 0


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """Keeps every temporary file alive, and the cyclic collector still: nothing is closed by going away."""
    watch = Watched()

    class WatchedArrivals(Arrivals):
        def __init__(self, holdings: Holdings, secrets: Secrets) -> None:
            super().__init__(holdings, secrets)
            watch.arrivals.append(self)

    class WatchedStore(spool._Store):
        def __init__(self, size: int, folder: str | None) -> None:
            super().__init__(size, folder)
            watch.stores.append(self)

    monkeypatch.setattr(dataplane, "Arrivals", WatchedArrivals)
    monkeypatch.setattr(spool, "_Store", WatchedStore)
    gc.disable()
    yield watch
    gc.enable()
