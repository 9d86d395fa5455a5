"""A worker: it takes tasks from Procrastinate, does them, sweeps, and comes to an end without anybody waiting for it.

Invariants:

- The sweeper is a task of the worker, not a job: see `sweeping`.
- A database that is away ends no worker, nor one that begins: Procrastinate's is started again when it is back. What
  runs goes on as long as its checkpoint's lease lets it.
- After `stop` no task is begun; those under way finish their batches, save and are handed back, or are cancelled after
  `stop_seconds` and then handed back.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import procrastinate
import psycopg
from procrastinate.exceptions import ConnectorException
from procrastinate.job_context import AbortReason

import imapipe.cluster
from imapipe.cluster.outage import Outage
from imapipe.contrib.cluster import sweeping, table
from imapipe.contrib.cluster.connector import Carriers, PatientConnector, told
from imapipe.contrib.cluster.desk import Desk
from imapipe.contrib.cluster.execution import Execution, Tallies
from imapipe.contrib.cluster.feeding import CARRIER, CLOCK, QUEUE, feed
from imapipe.contrib.cluster.listing import counts
from imapipe.contrib.cluster.metrics import families
from imapipe.contrib.cluster.schedule import Schedule
from imapipe.contrib.cluster.task import Claim
from imapipe.contrib.exposition import exposition
from imapipe.database import Connection
from imapipe.errors import CheckpointError, DatabaseError

_log = logging.getLogger(__name__)

_RESTART_SECONDS: Final = 1.0
# Every so many sweeps all that waits is looked at, not only what became due.
_THOROUGH_SWEEPS: Final = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often a worker looks after things.

    Attributes:
        heartbeat_seconds: How often it says that it lives.
        stale_seconds: A worker that has not said so for so long is dead for the others.
        sweep_seconds: How often it sees to what nobody does.
        poll_seconds: How often it asks for tasks of which it heard nothing; a notice can be missed.
        stop_seconds: How long tasks under way may take to come to an end when it is stopped.
        keep_seconds: How long jobs that have ended are remembered.
        listen: Hear of new tasks by LISTEN, which PgBouncer in transaction mode does not pass on; else they are only
            asked for.
    """

    heartbeat_seconds: float = 5.0
    stale_seconds: float = 20.0
    sweep_seconds: float = 2.0
    poll_seconds: float = 1.0
    stop_seconds: float = 15.0
    keep_seconds: float = 30 * 86_400.0
    listen: bool = True


class Worker:
    """Does tasks until it is stopped.

    Args:
        connector: The connection of Procrastinate to the database.
        desk: The database.
        begin: Makes the execution of a task.
        concurrency: How many tasks at a time.
        at_once: How many tasks of an account may be at work, on all workers.
        pace: How often what is done.
        tallies: What this process did.
        serving: What has to be open meanwhile.
        limits: The limits of accounts.
        schedules: What is asked for by the clock.
        ask: Asks for the jobs of a schedule: its name, and the time in seconds since 1970.
        name: What the worker is called.

    Attributes:
        name: What it is called.
    """

    def __init__(
        self,
        connector: PatientConnector,
        desk: Desk,
        begin: Callable[[Claim], Execution],
        *,
        concurrency: int,
        at_once: int,
        pace: Pace,
        tallies: Tallies,
        serving: Callable[[], AbstractAsyncContextManager[None]],
        limits: imapipe.cluster.Limits,
        schedules: Sequence[Schedule] = (),
        ask: Callable[[str, int], Awaitable[int]],
        name: str | None = None,
    ) -> None:
        self._connector = connector
        self._app = procrastinate.App(connector=connector)
        self._app.job_manager = Carriers(connector)
        self._desk = desk
        self._begin = begin
        self._concurrency = concurrency
        self._at_once = at_once
        self._pace = pace
        self._tallies = tallies
        self.name = name or f"{socket.gethostname()}:{os.getpid()}"
        self._under_way: set[Execution] = set()
        self._stopping = asyncio.Event()
        self._sweeps = 0
        self._swept_ms: int | None = None
        self._serving = serving
        self._limits = limits
        self._ask = ask
        self._app.task(name=CARRIER, queue=QUEUE, pass_context=True)(self._carried)
        clock = self._app.task(name=CLOCK, queue=QUEUE)(self._clock)
        for schedule in schedules:
            self._app.periodic(cron=schedule.cron, periodic_id=schedule.name, task_kwargs={"schedule": schedule.name})(
                clock
            )

    @property
    def under_way(self) -> int:
        """How many tasks it has in hand."""
        return len(self._under_way)

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stopping.is_set()

    async def metrics(self) -> str:
        """What a scrape of Prometheus gets. Raises DatabaseError."""
        open_tasks = await self._desk.do(counts)
        return exposition(families(self._tallies, self._limits, open_tasks, self._waits, self.under_way))

    @property
    def tallies(self) -> Mapping[str, int]:
        """How many tries of tasks this process ended, by how they ended."""
        return dict(self._tallies.tasks)

    @property
    def _waits(self) -> int:
        return self._desk.waits + self._connector.waits

    def stop(self) -> None:
        """Come to an end; `run` returns when all is handed back. May be called again, and from a signal handler."""
        self._connector.is_hurried = True
        self._stopping.set()
        for execution in tuple(self._under_way):
            execution.stop()

    async def run(self) -> None:
        """Work until `stop` is called. Cancelled, it stops as `stop` says, and then raises.

        Raises:
            CheckpointError, DatabaseError: The database cannot be used, or was away for too long when this began.
            RuntimeError: Another worker of this cluster runs in this process.
        """
        async with AsyncExitStack() as stack:
            if not await self._begin_serving(stack):
                return
            sweeper = asyncio.create_task(self._sweep_for_ever(), name="imapipe sweeper")
            try:
                await self._work_on()
            finally:
                sweeper.cancel()
                await asyncio.wait([sweeper])

    async def _begin_serving(self, stack: AsyncExitStack) -> bool:
        """Open what is needed, and wait for a database that is away just then; False where it is to stop instead."""
        outage = Outage("workers that begin", self._desk.outage_seconds)
        while not self._stopping.is_set():
            try:
                await stack.enter_async_context(self._serving())
            except (CheckpointError, DatabaseError) as error:
                away = error if isinstance(error, DatabaseError) else error.__cause__
                if not isinstance(away, DatabaseError) or not outage.failed(away):
                    raise
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), outage.pause_seconds(away))
            else:
                return True
        return False

    async def _work_on(self) -> None:
        while not self._stopping.is_set():
            try:
                async with self._app.open_async():
                    await self._work()
            except (psycopg.Error, ConnectorException) as error:
                _log.warning("the queue cannot be read (%s); it is tried again", told(error))
            if not self._stopping.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), _RESTART_SECONDS)

    async def _work(self) -> None:
        """Have Procrastinate bring tasks, until it or we come to an end."""
        pace = self._pace
        work = asyncio.create_task(
            self._app.run_worker_async(
                queues=[QUEUE],
                name=self.name,
                concurrency=self._concurrency,
                fetch_job_polling_interval=pace.poll_seconds,
                abort_job_polling_interval=pace.poll_seconds,
                shutdown_graceful_timeout=pace.stop_seconds,
                listen_notify=pace.listen,
                delete_jobs="always",
                install_signal_handlers=False,
                update_heartbeat_interval=pace.heartbeat_seconds,
                stalled_worker_timeout=10 * pace.stale_seconds,
            ),
            name="imapipe worker",
        )
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait([work, stopped], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self.stop()
            raise
        finally:
            stopped.cancel()
            # This is how it is asked to end; it waits for what it has in hand.
            work.cancel()
            await asyncio.wait([work])
        if not work.cancelled() and (error := work.exception()) is not None:
            _log.warning("the queue cannot be read (%s); it is tried again", told(error))

    async def _carried(self, context: procrastinate.JobContext, task: int, ticket: int) -> None:
        """A task was brought."""
        holder = secrets.token_hex(8)
        held = await self._desk.do(partial(table.claim, task=task, ticket=ticket, holder=holder, worker=self.name))
        if held is None:
            _log.info("ticket %s of task %s is of no use any more", ticket, task)
            return
        execution = self._begin(held)
        self._under_way.add(execution)
        if self._stopping.is_set():
            execution.stop()
        try:
            await execution.run(lambda: context.abort_reason() is AbortReason.USER_REQUEST)
        finally:
            self._under_way.discard(execution)

    async def _clock(self, timestamp: int, schedule: str) -> None:
        """A time of a schedule has come."""
        count = await self._ask(schedule, timestamp)
        _log.info("the schedule %s asked for %s jobs", schedule, count)

    async def _sweep_for_ever(self) -> None:
        while True:
            try:
                await self.sweep()
            except DatabaseError as error:
                _log.warning("nothing could be swept: %s", error)
            except Exception:  # noqa: BLE001 - whoever sweeps goes on sweeping.
                _log.exception("a sweep went wrong")
            await asyncio.sleep(self._pace.sweep_seconds)

    async def sweep(self) -> bool:
        """See to what nobody does, unless another worker is at it; whether this one did."""
        return await self._desk.do(self._sweep, in_transaction=False)

    def _sweep(self, connection: Connection) -> bool:
        pace = self._pace
        with connection.transaction():
            # Only for this look. Each thing that is done looks again, under the lock of its account, so that two who
            # sweep at once do no harm.
            if not sweeping.try_lock(connection):
                return False
            is_thorough = self._sweeps % _THOROUGH_SWEEPS == 0
            self._sweeps += 1
            since, (now_ms,) = self._swept_ms, connection.query("SELECT now_ms()")[0]
            lost = sweeping.lost_tasks(connection, pace.stale_seconds)
            sweeping.lost_times(connection, pace.stale_seconds)
            hungry = sweeping.hungry_accounts(
                connection, self._at_once, since_ms=None if is_thorough or since is None else since
            )
            if is_thorough:
                sweeping.forget_old(connection, pace.keep_seconds)
                sweeping.forget_workers(connection, pace.stale_seconds)
        for task, ticket, account in lost:
            with connection.transaction():
                taken = sweeping.take_back(
                    connection, task, ticket, account, stale_seconds=pace.stale_seconds, at_once=self._at_once
                )
            if taken:
                _log.warning("task %s of %s goes on: its worker is gone", task, account)
        for account in hungry:
            with connection.transaction():
                feed(connection, account, self._at_once)
        # Behind what was seen, so that what became due meanwhile is seen the next time.
        self._swept_ms = int(now_ms) - 1_000
        return True
