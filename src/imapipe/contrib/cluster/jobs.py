"""`ClusterJobs`: the jobs of a cluster, for whoever looks at them, ends them or has them done again.

What it does needs no module with jobs and no account: the database alone.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Final, Self

from procrastinate.schema import SchemaManager

from imapipe.contrib.cluster import listing
from imapipe.contrib.cluster.desk import Desk
from imapipe.contrib.cluster.schema import COMPONENT, STEPS
from imapipe.contrib.cluster.task import ClusterJob, ClusterTask
from imapipe.contrib.errors import UnknownJob
from imapipe.database import Connection, Database, migrate
from imapipe.errors import DatabaseError

DATABASE_VARIABLE: Final = "IMAPIPE_DATABASE"
DEFAULT_OUTAGE_SECONDS: Final = 120.0


class ClusterJobs:
    """The jobs of a cluster, in its database; an async context manager.

    Args:
        dsn: The database: `postgresql://user@host/name`; None is that of the environment variable IMAPIPE_DATABASE.
        outage_seconds: How long a database that is away is waited for.

    Raises:
        ValueError: It is no address of a PostgreSQL database.
    """

    def __init__(self, dsn: str | None = None, *, outage_seconds: float = DEFAULT_OUTAGE_SECONDS) -> None:
        self._dsn = dsn if dsn is not None else os.environ.get(DATABASE_VARIABLE, "")
        if not self._dsn:
            raise ValueError(f"no database: give its address, or set {DATABASE_VARIABLE}")
        self._database = Database(self._dsn)
        if not self._database.is_postgres:
            raise ValueError("a cluster needs PostgreSQL: postgresql://user@host/name")
        self._desk = Desk(self._database, outage_seconds=outage_seconds)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._database.name}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection to the database; it is opened again where it is needed."""
        await self._desk.close()

    async def migrate(self) -> None:
        """Make the tables, or bring them to this version; those of Procrastinate too, where there are none.

        Any number of processes may do so at once.

        Raises:
            DatabaseError: They cannot be made, or are of a newer version.
        """
        await self._desk.do(make_tables, in_transaction=False)

    async def check(self) -> None:
        """Look whether the tables are there. Raises DatabaseError."""
        if not await self._desk.do(_has_tables):
            raise DatabaseError("it has no tables of a cluster, which a worker makes", database=self._database.name)

    async def get(self, job_id: int) -> ClusterJob:
        """A job as it stands. Raises UnknownJob, DatabaseError."""
        found = await self._desk.do(partial(listing.find, job_id=job_id))
        if found is None:
            raise UnknownJob(str(job_id))
        return found

    async def wait(self, job_id: int, *, every_seconds: float = 0.5) -> ClusterJob:
        """Wait until a job has ended; it is looked at `every_seconds`. Raises UnknownJob, DatabaseError.

        A cancellation ends the waiting, not the job.
        """
        while True:
            job = await self.get(job_id)
            if job.is_ended:
                return job
            await asyncio.sleep(every_seconds)

    async def list(
        self, *, state: str | None = None, account: str | None = None, limit: int = 100
    ) -> Sequence[ClusterJob]:
        """Jobs, the newest first, without their reports. Raises DatabaseError.

        Args:
            state: Only those in this state.
            account: Only those of this account.
            limit: At most so many.
        """
        return await self._desk.do(partial(listing.listed, state=state, account=account, limit=limit))

    async def tasks(self, job_id: int) -> Sequence[ClusterTask]:
        """The tasks of a job, with their reports. Raises UnknownJob, DatabaseError."""
        await self.get(job_id)
        return await self._desk.do(partial(listing.tasks_of, job_id=job_id))

    async def cancel(self, job_id: int) -> ClusterJob:
        """Have a job end: what waits is not begun, what runs saves its checkpoint and ends.

        Returns:
            The job as it stands; one that had ended stays as it was.

        Raises:
            UnknownJob, DatabaseError: As of `get`.
        """
        await self._desk.do(partial(listing.cancel, job_id=job_id))
        return await self.get(job_id)

    async def retry(self, job_id: int) -> ClusterJob:
        """Have the tasks of an ended job done again that are not complete; what is done stays done.

        Of a job under way, what waits for its next try is tried at once. So is an account that rests.

        Returns:
            The job as it stands; one that is complete stays as it was.

        Raises:
            UnknownJob, DatabaseError: As of `get`.
        """
        await self._desk.do(partial(listing.retry, job_id=job_id))
        return await self.get(job_id)


def make_tables(connection: Connection) -> None:
    """Make the tables, or bring them to this version. Blocking; raises DatabaseError."""
    with connection.transaction():
        connection.lock("procrastinate")
        if not connection.has_table("procrastinate_jobs"):
            connection.execute(SchemaManager.get_schema())
    migrate(connection, COMPONENT, STEPS)


def _has_tables(connection: Connection) -> bool:
    return connection.has_table("imapipe_tasks") and connection.has_table("procrastinate_jobs")
