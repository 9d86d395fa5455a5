"""A cluster for tests: accounts on an embedded server, a job that writes down what it handled, workers in here."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import imapipe
from imapipe import search as q
from imapipe.contrib.cluster import Cluster, Pace, Sizes, Worker
from imapipe.contrib.jobs import Work
from imapipe.database import Database
from imapipe.testing import Server

if TYPE_CHECKING:
    from imapipe.store.base import BlockingCheckpointStore, CheckpointStore

# So quick that a test need not wait, so slow that a busy machine does not look dead.
QUICK = Pace(heartbeat_seconds=1.0, stale_seconds=100.0, sweep_seconds=0.1, poll_seconds=0.2, stop_seconds=5.0)
SMALL = Sizes(group_messages=100, shard_messages=20)


class Place:
    """A cluster on one server.

    Attributes:
        handled: How often each message was handled: by account, mailbox and UID.
        handle: What a handler does besides.
    """

    def __init__(
        self,
        dsn: str,
        server: Server,
        *,
        store: CheckpointStore | BlockingCheckpointStore | None = None,
        **options: object,
    ) -> None:
        self.server = server
        self.password = server.password
        self.unknown: set[str] = set()
        self.handled: Counter[tuple[str, str, int]] = Counter()
        self.order: list[str] = []
        self.handle: Callable[[imapipe.Message], Awaitable[None]] | None = None
        settings = {"sizes": SMALL, "pace": QUICK, "connections": 8, **options}
        self.cluster = Cluster(dsn, self.open_pool, store=store, **settings)  # type: ignore[arg-type]
        self.cluster.job(self.scan)

    def open_pool(self, account: str) -> imapipe.Pool:
        if account in self.unknown:
            raise KeyError(account)
        return imapipe.create_pool(self.server.url, password=self.password, max_size=2)

    def scan(self, pool: imapipe.Pool, mailbox: str, owner: str = "ann") -> object:
        """Look at every message."""

        async def handle(message: imapipe.Message) -> None:
            if self.handle is not None:
                await self.handle(message)
            self.handled[owner, message.mailbox, message.uid] += 1
            self.order.append(owner)

        job = pool.mailbox(mailbox).search(q.ALL).fetch("flags").batch(10)
        return Work(job, lambda job: job.run(handle, concurrency=2))

    async def has_tasks(self, job: int, state: str, count: int = 1) -> bool:
        """Whether so many tasks of a job are in a state."""
        return (await self.cluster.get(job)).tasks.get(state, 0) >= count

    async def has_waited(self, job: int) -> bool:
        """Whether a task of a job waits for its next try."""
        tasks = await self.cluster.tasks(job)
        return any(task.state == "waiting" and task.error is not None for task in tasks)

    async def has_handled(self, count: int) -> bool:
        """Whether so many messages were handled."""
        return len(self.handled) >= count

    @asynccontextmanager
    async def worker(self, concurrency: int = 4) -> AsyncIterator[Worker]:
        """A worker within a block; it comes to its end in time."""
        worker = self.cluster.worker(concurrency=concurrency)
        running = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            worker.stop()
            await running


@asynccontextmanager
async def place(dsn: str, mailboxes: dict[str, int] | None = None, **options: object) -> AsyncIterator[Place]:
    """A cluster with its tables, on a server."""
    async with Server(mailboxes or {"INBOX": 60}) as server:
        here = Place(dsn, server, **options)  # type: ignore[arg-type]
        async with here.cluster:
            await here.cluster.migrate()
            yield here


async def write(dsn: str, *statements: str) -> None:
    """Change what stands in the database, in one transaction.

    In a thread: in the event loop, which workers share with a test, it could wait for a lock that they cannot give up.
    """

    def execute() -> None:
        with Database(dsn).connect() as connection, connection.transaction():
            for statement in statements:
                connection.execute(statement)

    await asyncio.to_thread(execute)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something holds; a bound, so that what never comes is a failure with its place.

    Below that of a test, and far above what a worker takes to start on a machine that has much to do.
    """
    async with asyncio.timeout(100):
        while not await holds():  # noqa: ASYNC110 - it stands in a database
            await asyncio.sleep(0.02)
