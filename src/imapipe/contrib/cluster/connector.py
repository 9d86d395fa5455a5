"""Procrastinate as workers need it: a worker does not end because the database restarts, or another had its task.

Without it the first query that fails ends Procrastinate's worker, which then waits for what it has in hand and cancels
it. A query whose answer was lost may have been executed; a task that was fetched and never begun is found by a sweep.

Each query is a transaction by itself: in one that needs a second message for its end, it would keep its locks for as
long as a handler blocks the event loop, and other workers would wait for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, LiteralString, TypeVar

import procrastinate
import psycopg
from procrastinate import jobs
from procrastinate.exceptions import ConnectorException
from procrastinate.manager import JobManager

from imapipe.contrib.cluster.desk import TOLD_EVERY_SECONDS
from imapipe.database.postgres import first_line, keepalives
from imapipe.runtime.rarely import Rarely

_log = logging.getLogger(__name__)

_PAUSE_SECONDS: Final = 0.5
_PARAMETERS: Final[dict[str, Any]] = {
    "application_name": "imapipe worker",
    "prepare_threshold": None,
    "connect_timeout": 10,
    **keepalives(15.0),
}
_WAIT_SECONDS: Final = 10.0

T = TypeVar("T")


class PatientConnector(procrastinate.PsycopgConnector):
    """A connector whose queries wait for a database that is away.

    Args:
        dsn: The address of the database.
        outage_seconds: How long they wait.

    Attributes:
        is_hurried: Nothing is waited for any more: the worker is to end.
        waits: How often a query had to wait.
    """

    def __init__(self, dsn: str, *, outage_seconds: float) -> None:
        super().__init__(
            conninfo=dsn, kwargs=_PARAMETERS, configure=_commit_each, min_size=1, max_size=4, timeout=_WAIT_SECONDS
        )
        self._outage_seconds = outage_seconds
        self._telling = Rarely(TOLD_EVERY_SECONDS)
        self.is_hurried = False
        self.waits = 0

    async def execute_query_async(self, query: LiteralString, **arguments: Any) -> None:  # noqa: ANN401 - as it is there
        """See `procrastinate.PsycopgConnector`."""
        execute = super().execute_query_async
        await self._patiently(lambda: execute(query, **arguments))

    async def execute_query_one_async(self, query: LiteralString, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401
        """See `procrastinate.PsycopgConnector`."""
        execute = super().execute_query_one_async
        return await self._patiently(lambda: execute(query, **arguments))

    async def execute_query_all_async(self, query: LiteralString, **arguments: Any) -> list[dict[str, Any]]:  # noqa: ANN401
        """See `procrastinate.PsycopgConnector`."""
        execute = super().execute_query_all_async
        return await self._patiently(lambda: execute(query, **arguments))

    async def _patiently(self, execute: Callable[[], Awaitable[T]]) -> T:
        loop = asyncio.get_running_loop()
        since = loop.time()
        while True:
            try:
                return await execute()
            except ConnectorException as error:
                is_away = isinstance(error.__cause__, psycopg.OperationalError)
                if not is_away or self.is_hurried or loop.time() - since > self._outage_seconds:
                    raise
                self.waits += 1
                if self._telling.is_due():
                    _log.warning("waiting for the database: %s", told(error))
            await asyncio.sleep(_PAUSE_SECONDS)


def told(error: BaseException) -> str:
    """The first line of what went wrong; Procrastinate's own errors say only that something did."""
    return first_line(error.__cause__ if isinstance(error, ConnectorException) and error.__cause__ else error)


async def _commit_each(connection: psycopg.AsyncConnection[Any]) -> None:
    """Prepare a new connection."""
    await connection.set_autocommit(True)


class Carriers(JobManager):
    """What Procrastinate does with its jobs; of ours one may be gone when it has arrived."""

    async def finish_job(self, job: jobs.Job, status: jobs.Status, delete_job: bool) -> None:
        """Remove a job that was done; one that a sweep has removed is gone already: its task is another's."""
        try:
            await super().finish_job(job, status, delete_job)
        except ConnectorException as error:
            if not isinstance(error.__cause__, psycopg.errors.RaiseException):
                raise
            _log.info("the job %s is gone: a sweep gave its task to another worker", job.id)
