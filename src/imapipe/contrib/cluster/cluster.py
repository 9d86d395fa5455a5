"""`Cluster`: jobs on thousands of accounts, done by any number of workers on any number of machines.

The database says what is to be done and what was done (`table`); Procrastinate brings it to workers (`worker`); each
part of a job has a checkpoint with a lease there, which is what protects it (`part`).
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Final, TypeVar, overload

from imapipe.cluster import Limits
from imapipe.contrib.cluster import table
from imapipe.contrib.cluster.connector import PatientConnector
from imapipe.contrib.cluster.execution import Execution, Tallies
from imapipe.contrib.cluster.feeding import feed
from imapipe.contrib.cluster.here import run_here
from imapipe.contrib.cluster.jobs import DEFAULT_OUTAGE_SECONDS, ClusterJobs
from imapipe.contrib.cluster.kinds import JobKinds
from imapipe.contrib.cluster.part import JobKind, Kept, OnUidvalidity, checkpoint_name
from imapipe.contrib.cluster.planning import Sizes
from imapipe.contrib.cluster.report import ClusterReport
from imapipe.contrib.cluster.schedule import Accounts, Schedule
from imapipe.contrib.cluster.serving import Serving
from imapipe.contrib.cluster.task import Claim
from imapipe.contrib.cluster.worker import Pace, Worker
from imapipe.contrib.job_function import JobFunction
from imapipe.contrib.pools import OpenPool, Pools
from imapipe.database import Connection
from imapipe.middleware.base import Middleware
from imapipe.models.argument import check_whole
from imapipe.models.json_value import JSON
from imapipe.store.base import BlockingCheckpointStore, CheckpointStore
from imapipe.store.sql import SqlCheckpointStore

_log = logging.getLogger(__name__)

DEFAULT_AT_ONCE: Final = 4
DEFAULT_CONCURRENCY: Final = 10

FunctionT = TypeVar("FunctionT", bound=Callable[..., object])


class Cluster(ClusterJobs):
    """Jobs for many accounts, in a PostgreSQL database; an async context manager for whoever asks for jobs.

    ::

        cluster = Cluster("postgresql://mail@db.example.org/mail", open_pool)

        @cluster.job
        def export(pool, mailbox, folder="mail"):
            job = pool.mailbox(mailbox).search(q.ALL).fetch("full").use(imapipe.Retry())
            return Work(job, lambda job: job.run(handle))

        async with cluster:
            number = await cluster.defer("ann", "export", shards=8)
            print((await cluster.wait(number)).state)

    and on each machine `imapipe worker --jobs module:cluster`. `await cluster.run_here("ann", "export")` does the same
    job in this process, without a database, and gives the same report.

    Args:
        dsn: The database: `postgresql://user@host/name`; None is that of the environment variable IMAPIPE_DATABASE.
        open_pool: Makes the pool of an account, as for `Pools`.
        store: Where checkpoints are kept; in the database unless said.
        lease_seconds: How long the checkpoints and the connections of a worker that died are kept for it.
        connections: How many connections an account may have, of all workers together; the `max_size` of its pool
            unless given. A pool that shares its slots already (`imapipe.cluster.Limits`) keeps to those.
        messages_per_second: How many messages of an account may be asked for, by all workers together.
        bytes_per_second: How many bytes of messages may come from an account, to all workers together.
        bytes_per_day: How many of them within 24 hours. These three hold for jobs that use no limit of their own.
        tasks_per_account: How many tasks of an account may be queued or running on all workers: the others wait, so
            that an account with thousands of them keeps nobody waiting.
        sizes: How large tasks are.
        pace: How often workers look after things.
        outage_seconds: How long a database that is away is waited for.

    Attributes:
        store: Where checkpoints are kept, also for jobs that bring a Checkpoint of their own.
        limits: The limits of accounts, over all workers; open while a worker of this process runs.
    """

    def __init__(
        self,
        dsn: str | None,
        open_pool: OpenPool,
        *,
        store: CheckpointStore | BlockingCheckpointStore | None = None,
        lease_seconds: float = 30.0,
        connections: int | None = None,
        messages_per_second: float | None = None,
        bytes_per_second: float | None = None,
        bytes_per_day: int | None = None,
        tasks_per_account: int = DEFAULT_AT_ONCE,
        sizes: Sizes = Sizes(),  # noqa: B008 - a frozen value
        pace: Pace = Pace(),  # noqa: B008 - a frozen value
        outage_seconds: float = DEFAULT_OUTAGE_SECONDS,
    ) -> None:
        check_whole("tasks_per_account", tasks_per_account)
        if tasks_per_account < 1:
            raise ValueError(f"tasks_per_account must be 1 or more, not {tasks_per_account}")
        super().__init__(dsn, outage_seconds=outage_seconds)
        self.limits = Limits(self._dsn, lease_seconds=lease_seconds, wait_seconds=outage_seconds)
        self.store = store if store is not None else SqlCheckpointStore(self._dsn, lease_seconds=lease_seconds)
        self._serving = Serving(
            open_pool,
            self.limits,
            self.store,
            connections=connections,
            messages_per_second=messages_per_second,
            bytes_per_second=bytes_per_second,
            bytes_per_day=bytes_per_day,
        )
        self._lease_seconds = lease_seconds
        self._at_once = tasks_per_account
        self._sizes = sizes
        self._pace = pace
        self._outage_seconds = outage_seconds
        self._kinds = JobKinds()
        self._schedules: dict[str, Schedule] = {}
        self._tallies = Tallies()

    @property
    def pools(self) -> Pools:
        """The pools of the accounts in this process; others while a worker runs, which share their slots."""
        return self._serving.pools

    @overload
    def job(self, function: FunctionT) -> FunctionT: ...

    @overload
    def job(self, *, on_uidvalidity: OnUidvalidity = "raise") -> Callable[[FunctionT], FunctionT]: ...

    def job(
        self, function: FunctionT | None = None, *, on_uidvalidity: OnUidvalidity = "raise"
    ) -> FunctionT | Callable[[FunctionT], FunctionT]:
        """Register a kind of job, by the name of a function, which is given back as it is.

        Args:
            function: `def name(pool, mailbox, parameter=…) -> Work`, or a coroutine function; `mailbox` is the name of
                one. Without a parameter `mailbox` the job is for the whole account at once (`pool.each`), and is not
                divided; what is done of each mailbox is kept, and limits hold, all the same.
            on_uidvalidity: As of `Checkpoint`: what to do where a mailbox was renumbered.

        Raises:
            ValueError: There is a job of this name, or it takes a parameter that `defer` has.
        """

        def register(function: FunctionT) -> FunctionT:
            self._kinds.register(JobKind(JobFunction(function), on_uidvalidity))
            return function

        return register if function is None else register(function)

    def schedule(
        self,
        cron: str,
        job: str,
        accounts: Accounts,
        *,
        name: str | None = None,
        mailboxes: str | Sequence[str] = "*",
        exclude: Iterable[str] = (),
        shards: int = 1,
        priority: int = 0,
        **parameters: JSON,
    ) -> None:
        """Ask for a job again and again, by the clock; workers that run see to it.

        A time that comes while an earlier job of the schedule waits to begin on an account asks for nothing there. A
        time at which no worker ran is made up for within ten minutes.

        Args:
            cron: When: minute, hour, day, month and day of the week (UTC), such as `30 3 * * *`.
            job: The name of the job, which is registered already.
            accounts: For which accounts, or a function that gives them each time, which may be async.
            name: Names the schedule; that of the job unless given.
            mailboxes: As in `defer`.
            exclude: As in `defer`.
            shards: As in `defer`.
            priority: As in `defer`.
            parameters: As in `defer`.

        Raises:
            WrongParameters: As of `defer`.
            ValueError: It is no time, or there is a schedule of this name.
        """
        named = name if name is not None else job
        if named in self._schedules:
            raise ValueError(f"there is a schedule {named!r} already: give one of them another name=")
        self._kinds.request("", job, mailboxes, exclude, shards, parameters)
        options = {
            "mailboxes": mailboxes,
            "exclude": tuple(exclude),
            "shards": shards,
            "priority": priority,
            **parameters,
        }
        self._schedules[named] = Schedule(named, cron, job, accounts, options)

    async def ask_scheduled(self, name: str, timestamp: int) -> int:
        """Ask for the jobs of a schedule at one of its times; done again it asks for nothing twice.

        Args:
            name: The schedule.
            timestamp: The time, in seconds since 1970.

        Returns:
            For how many accounts.

        Raises:
            DatabaseError: They could not all be written.
        """
        schedule = self._schedules.get(name)
        if schedule is None:
            _log.warning("there is no schedule %r any more", name)
            return 0
        count = 0
        for account in await schedule.who():
            waiting = partial(table.has_waiting, account=account, origin=f"schedule {name} ")
            if await self._desk.do(waiting):
                continue
            origin = f"schedule {name} {timestamp} {account}"
            await self.defer(account, schedule.job, origin=origin, **schedule.options)  # type: ignore[arg-type]  # checked
            count += 1
        return count

    async def close(self) -> None:
        """Close the connection to the database, and the pools of this process."""
        await self.pools.close()
        await super().close()

    async def defer(
        self,
        account: str,
        job: str,
        *,
        mailboxes: str | Sequence[str] = "*",
        exclude: Iterable[str] = (),
        shards: int = 1,
        priority: int = 0,
        at: datetime | None = None,
        origin: str | None = None,
        **parameters: JSON,
    ) -> int:
        """Ask for a job; it is there when this returns, whatever happens then.

        Which mailboxes there are is found out when a worker begins with it. Where a job of this kind with the same
        parameters is at work on the account, the new one begins when that has ended.

        Args:
            account: The account, by the name that `open_pool` knows it by.
            job: The name that it is registered by.
            mailboxes: Names, patterns and special uses, as in `Pool.each`.
            exclude: Those to leave out, by the same words.
            shards: Into how many parts a large mailbox may be divided, which workers do side by side.
            priority: Higher ones go first, of all accounts.
            at: Not before this time (aware).
            origin: Names this wish, such as the id of a request: asked for again, it is the same job.
            parameters: What the job's function is called with, besides.

        Returns:
            Its number.

        Raises:
            WrongParameters: No job is registered by this name, or it does not take these parameters.
            TypeError, ValueError: What cannot be the name of a mailbox; numbers or times that cannot be.
            DatabaseError: It could not be written.

        Cancelled, it may be there all the same; with `origin` it can be asked for again.
        """
        request = self._kinds.request(account, job, mailboxes, exclude, shards, parameters)
        check_whole("priority", priority)
        if at is not None and at.tzinfo is None:
            raise ValueError("at= needs a time zone")
        due_ms = None if at is None else round(at.timestamp() * 1000)
        named = origin if origin is not None else secrets.token_hex(16)

        def ask(connection: Connection) -> int:
            number = table.defer(connection, request, priority=priority, due_ms=due_ms, origin=named)
            feed(connection, account, self._at_once)
            return number

        return await self._desk.do(ask)

    async def run_here(
        self,
        account: str,
        job: str,
        *,
        mailboxes: str | Sequence[str] = "*",
        exclude: Iterable[str] = (),
        store: CheckpointStore | BlockingCheckpointStore | None = None,
        layers: Sequence[Middleware] = (),
        **parameters: JSON,
    ) -> ClusterReport:
        """Do a job in this process; no database is needed.

        Args:
            account: The account.
            job: The name that it is registered by.
            mailboxes: As in `defer`.
            exclude: As in `defer`.
            store: Where it is kept what is done, such as `imapipe.JsonCheckpointStore(path)`; nowhere unless said.
            layers: Middleware outside of everything else, such as `imapipe.Progress`.
            parameters: What the job's function is called with, besides.

        Returns:
            The report, as of a job of the cluster.

        Raises:
            WrongParameters, UnknownAccount: What cannot be done.
            AuthenticationFailed, PoolClosed, CheckpointError: The account or the checkpoints cannot be used.
            ImapipeError: The mailboxes could not be listed.

        Cancellation ends every run as it ends one.
        """
        request = self._kinds.request(account, job, mailboxes, exclude, 1, parameters)
        kept = Kept(store, checkpoint_name(job, parameters))
        return await run_here(request, self._kinds[job], self.pools, kept, self._sizes, layers)

    def worker(self, *, concurrency: int = DEFAULT_CONCURRENCY, name: str | None = None) -> Worker:
        """A worker of this cluster, to be run in this process: `await cluster.worker().run()`.

        Args:
            concurrency: How many tasks it does at a time.
            name: What it is called; the machine and the number of the process unless said.
        """
        check_whole("concurrency", concurrency)
        if concurrency < 1:
            raise ValueError(f"concurrency must be 1 or more, not {concurrency}")
        return Worker(
            PatientConnector(self._dsn, outage_seconds=self._outage_seconds),
            self._desk,
            self._execution,
            concurrency=concurrency,
            at_once=self._at_once,
            pace=self._pace,
            tallies=self._tallies,
            serving=self._serving.on,
            limits=self.limits,
            schedules=tuple(self._schedules.values()),
            ask=self.ask_scheduled,
            name=name,
        )

    def _execution(self, held: Claim) -> Execution:
        return Execution(
            held,
            kinds=self._kinds,
            pools=self.pools,
            desk=self._desk,
            store=self.store,
            sizes=self._sizes,
            at_once=self._at_once,
            lease_seconds=self._lease_seconds,
            limits=self._serving.in_force,
            tallies=self._tallies,
        )
