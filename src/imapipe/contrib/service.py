"""What the faces for web frameworks share: requests as calls, and errors as HTTP statuses. Framework-free.

Invariant: a service that is told to end ends its jobs and its streams first, so that no answer under way keeps it from
ending.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from imapipe import search as q
from imapipe.contrib.errors import NotServing, ServiceError, WrongParameters
from imapipe.contrib.exit_signals import told_of_exit
from imapipe.contrib.exposition import Family, exposition
from imapipe.contrib.job_manager import JobManager
from imapipe.contrib.message_lines import MessageLines
from imapipe.errors import (
    AuthenticationFailed,
    CommandNo,
    CommandTimeout,
    ConnectionFailed,
    ImapipeError,
    InvalidSearch,
    PoolTimeout,
    ServerBye,
    Throttled,
)
from imapipe.middleware.retry import Retry
from imapipe.models.document import Document
from imapipe.net.pool.decisions import PoolStats
from imapipe.runtime.completion import to_the_end

_STATUSES: Final[Sequence[tuple[type[Exception], int]]] = (
    (InvalidSearch, 422),
    (Throttled, 503),
    (ServerBye, 503),
    (PoolTimeout, 503),
    (CommandTimeout, 504),
    (AuthenticationFailed, 502),
    (ConnectionFailed, 502),
    (ImapipeError, 502),
)


def status_of(error: ImapipeError) -> int:
    """The HTTP status that stands for an error: whose fault it is, and whether asking again may help."""
    if isinstance(error, ServiceError):
        return error.status
    if isinstance(error, CommandNo) and error.command in {"SELECT", "EXAMINE"}:
        return 404
    return next(status for kind, status in _STATUSES if isinstance(error, kind))


@dataclass(frozen=True, slots=True)
class ServiceHealth(Document):
    """How a service stands.

    Attributes:
        is_serving: Whether it takes jobs.
        jobs: How many there are, by state.
        pools: The pools that are open, by account.
    """

    is_serving: bool
    jobs: Mapping[str, int]
    pools: Mapping[str, PoolStats]


class ServiceCore:
    """Jobs and messages for a web framework; an async context manager that opens and closes pools and jobs.

    Args:
        jobs: The jobs, and the pools that they use.
    """

    def __init__(self, jobs: JobManager) -> None:
        self.jobs = jobs
        self._stack = AsyncExitStack()
        # With what gives each one's pool back.
        self._streams: dict[MessageLines, AsyncExitStack] = {}
        self._ending: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._ending = None
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.jobs.pools)
            await stack.enter_async_context(self.jobs)
            stack.push_async_callback(self.end)
            stack.enter_context(told_of_exit(self.begin_to_end))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def begin_to_end(self) -> None:
        """End jobs and streams, in a task; `end` waits for it."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._end(), name="imapipe service ends")

    async def end(self) -> None:
        """End jobs and streams; jobs are interrupted, and the next start goes on with them."""
        self.begin_to_end()
        if self._ending is not None:
            await to_the_end(self._ending)

    @property
    def health(self) -> ServiceHealth:
        """How the service stands."""
        counts: dict[str, int] = {}
        for job in self.jobs.list():
            counts[job.state] = counts.get(job.state, 0) + 1
        return ServiceHealth(self.jobs.is_open, counts, self.jobs.pools.stats)

    async def messages(
        self,
        account: str,
        mailbox: str,
        *,
        search: str = "ALL",
        fetch: Sequence[str] = ("envelope",),
        columns: Sequence[str] | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> MessageLines:
        """Messages of a mailbox as lines of JSON; there is something to send when this returns. Whoever asks closes it.

        Raises:
            ServiceError, InvalidSearch: The request is wrong.
            ImapipeError: The server could not be asked; nothing was sent yet.
        """
        if not self.jobs.is_open:
            raise NotServing
        criteria = q.parse(search)
        async with AsyncExitStack() as stack:
            pool = await stack.enter_async_context(self.jobs.pools.use(account))
            try:
                pipeline = pool.mailbox(mailbox).search(criteria).fetch(*fetch).use(Retry())
                if limit is not None:
                    pipeline = pipeline.limit(limit)
                if newest_first:
                    pipeline = pipeline.newest_first()
                lines = MessageLines(pipeline, columns=columns)
            except ValueError as error:
                raise WrongParameters(str(error)) from error
            stack.push_async_callback(lines.aclose)
            self._streams[lines] = stack.pop_all()
        try:
            await lines.begin()
        except BaseException as error:
            await self.close_messages(lines)
            if isinstance(error, ValueError) and not isinstance(error, ImapipeError):
                # A column of which the fetch brings nothing: known when the run has begun.
                raise WrongParameters(str(error)) from error
            raise
        return lines

    async def close_messages(self, lines: MessageLines) -> None:
        """Nobody reads them any more."""
        if (stack := self._streams.pop(lines, None)) is not None:
            await stack.aclose()

    def metrics(self) -> str:
        """What Prometheus gets at a scrape."""
        jobs = Family("imapipe_jobs", "gauge", "Jobs that are known, by name and state.")
        messages = Family("imapipe_job_messages_total", "counter", "Messages of jobs of this process, by outcome.")
        received = Family("imapipe_job_received_bytes_total", "counter", "Bytes of FETCH responses of jobs.")
        speed = Family("imapipe_job_messages_per_second", "gauge", "Speed of the jobs that run.")
        for job in self.jobs.list():
            jobs.add(1, name=job.name, state=job.state)
        for name, progress in self.jobs.progress().items():
            for outcome in ("done", "vanished", "failed"):
                messages.add(getattr(progress, outcome), name=name, outcome=outcome)
            received.add(progress.bytes_received, name=name)
            speed.add(progress.messages_per_second, name=name)
        stats = self.jobs.pools.stats.values()
        pools = Family("imapipe_pools", "gauge", "Accounts whose pool is open.", {(): len(stats)})
        connections = Family("imapipe_connections", "gauge", "Connections of all pools, by what they do.")
        opened = Family("imapipe_connections_opened_total", "counter", "Connections made.")
        refused = Family("imapipe_connections_refused_total", "counter", "Connections that servers had too many of.")
        for each in stats:
            for state in ("leased", "idle", "opening"):
                connections.add(getattr(each, state), state=state)
            opened.add(each.opened)
            refused.add(each.refused)
        return exposition((jobs, messages, received, speed, pools, connections, opened, refused))

    async def _end(self) -> None:
        for lines in tuple(self._streams):
            await self.close_messages(lines)
        await self.jobs.close()
