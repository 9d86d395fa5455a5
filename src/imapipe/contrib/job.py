"""One job of a service: what it is, how it stands, what is told of it, what came of it; and what it is to do.

Here is what everybody may ask of it. What its manager does with it stands in `managed_job`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final, Generic, Literal, Protocol, Self, TypeAlias, TypeVar

from imapipe.contrib.errors import JobNotEnded
from imapipe.contrib.job_events import EventRing, Subscription
from imapipe.contrib.job_watch import JobWatch
from imapipe.middleware.base import Middleware
from imapipe.middleware.progress import ProgressSnapshot
from imapipe.models.document import Document, printable
from imapipe.models.json_value import JSON

MOST_FAILURES: Final = 100

JobState: TypeAlias = Literal[
    "waiting", "running", "cancelling", "complete", "partial", "failed", "cancelled", "interrupted"
]
"""How a job stands. Ended are "complete", "partial" (something failed: see its report), "failed" (the run as a whole
could not be done), "cancelled", and "interrupted": the service ended, and its next start goes on with it."""

ENDED: Final = frozenset({"complete", "partial", "failed", "cancelled", "interrupted"})


class Report(Protocol):
    """What a job gives: every report of imapipe."""

    @property
    def complete(self) -> bool:
        """Whether nothing is left over."""

    def to_dict(self) -> dict[str, JSON]:
        """As a JSON-ready value."""


class Usable(Protocol):
    """A job that takes middleware: `imapipe.Pipeline`, `AccountPipeline` and `ChangePipeline`."""

    def use(self, *middleware: Middleware) -> Self:
        """The same with more middleware."""


JobT = TypeVar("JobT", bound=Usable)


class Work(Generic[JobT]):
    """What a job is to do, made by a function that a `JobManager` knows: a pipeline, and how it is run.

    ::

        Work(pipeline, lambda job: job.run(handle, concurrency=8))
        Work(pipeline, lambda job: job.run(sinks.Maildir("mail/")))
        Work(pipeline, lambda job: job.follow(handle))

    Args:
        job: The pipeline, with its Checkpoint if it is to go on after a restart where it was.
        run: Called with the same pipeline, which tells of its progress too; what it gives is awaited, for a report.
    """

    __slots__ = ("_job", "_run")

    def __init__(self, job: JobT, run: Callable[[JobT], Awaitable[Report]]) -> None:
        self._job = job
        self._run = run

    @property
    def job(self) -> JobT:
        """The pipeline."""
        return self._job

    def of(self, job: JobT) -> Self:
        """The same run, of another pipeline."""
        return type(self)(job, self._run)

    async def do(self, layers: Sequence[Middleware] = ()) -> Report:
        """Do it, with further layers inside of its own."""
        return await self._run(self._job.use(*layers))


@dataclass(frozen=True, slots=True)
class JobError(Document):
    """What ended a job that could not be done.

    Attributes:
        type: The name of the exception.
        text: What it says.
    """

    type: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus(Document):
    """How a job stands.

    Attributes:
        id: Names it.
        name: What kind of job it is: the name that it was registered by.
        account: The account that it is for.
        parameters: What it was started with.
        state: "waiting", "running" or "cancelling"; then "complete", "partial", "failed", "cancelled", or
            "interrupted".
        is_ended: Whether it is over.
        attempt: How often it was begun: 1, and one more for each restart of the service.
        created_at: When it was asked for.
        started_at: When it began, the last time.
        ended_at: When it ended.
        progress: How far it is; None before its search has ended.
        error: What ended it, where it could not be done.
    """

    id: str
    name: str
    account: str
    parameters: Mapping[str, JSON]
    state: JobState
    is_ended: bool
    attempt: int
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    progress: ProgressSnapshot | None
    error: JobError | None


@dataclass(frozen=True, slots=True)
class StateData(Document):
    """A job stands otherwise now.

    Attributes:
        state: How it stands.
        attempt: How often it was begun.
    """

    state: JobState
    attempt: int


@dataclass(frozen=True, slots=True)
class EndData(Document):
    """A job is over; no event comes behind it.

    Attributes:
        state: How it ended.
        error: What ended it, where it could not be done.
        report: Its report, with details of the first 100 failures.
    """

    state: JobState
    error: JobError | None
    report: dict[str, JSON] | None


class Job:
    """One job. Made by `JobManager.start`; every method may be called at any time.

    Attributes:
        id: Names it; it may stand in a URL and in the name of a file.
        name: The name that it was registered by.
        account: The account that it is for.
        parameters: What it was started with.
    """

    def __init__(
        self,
        job_id: str,
        name: str,
        account: str,
        parameters: Mapping[str, JSON],
        *,
        created_at: datetime,
        ring: EventRing,
        every_seconds: float,
    ) -> None:
        self.id = job_id
        self.name = name
        self.account = account
        self.parameters = parameters
        self._created_at = created_at
        self._started_at: datetime | None = None
        self._ended_at: datetime | None = None
        self._attempt = 0
        self._state: JobState = "waiting"
        self._error: JobError | None = None
        self._report: dict[str, JSON] | None = None
        self._ring = ring
        self._over = asyncio.Event()
        self._saving = asyncio.Lock()
        self._watch = JobWatch(ring, account, every_seconds=every_seconds)

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.name} {self._state}>"

    @property
    def state(self) -> JobState:
        """How it stands."""
        return self._state

    @property
    def is_ended(self) -> bool:
        """Whether it is over; "interrupted" is, until the service starts again."""
        return self._state in ENDED

    @property
    def status(self) -> JobStatus:
        """All that is known of it, but its report."""
        return JobStatus(
            id=self.id,
            name=self.name,
            account=self.account,
            parameters=self.parameters,
            state=self._state,
            is_ended=self.is_ended,
            attempt=self._attempt,
            created_at=self._created_at,
            started_at=self._started_at,
            ended_at=self._ended_at,
            progress=self._watch.progress,
            error=self._error,
        )

    @property
    def result(self) -> dict[str, JSON] | None:
        """The report of a job that ended with one, JSON-ready; its `failures` are the first 100.

        Raises:
            JobNotEnded: It goes on.
        """
        if not self.is_ended:
            raise JobNotEnded(self.id)
        return self._report

    def events(self, after: str | None = None) -> Subscription:
        """Its events: those that are kept, then those that come, until it ends.

        Args:
            after: The id of the last event that is known already.
        """
        return self._ring.subscribe(after)

    async def wait(self) -> JobStatus:
        """Wait until it has ended; a cancellation ends the waiting, not the job."""
        await self._over.wait()
        return self.status


def told(error: BaseException) -> JobError:
    """An error as it is told and kept."""
    return JobError(type(error).__name__, printable(str(error)))


def error_from(kept: JSON) -> JobError | None:
    """Read an error that was kept."""
    return JobError(str(kept.get("type")), str(kept.get("text"))) if isinstance(kept, dict) else None


def moment(kept: JSON) -> datetime | None:
    """A time as a document tells it."""
    return datetime.fromisoformat(kept) if isinstance(kept, str) else None


def shortened(value: JSON) -> JSON:
    """A report with the details of the first `MOST_FAILURES` failures; `failed_uids` has every one."""
    if isinstance(value, dict):
        return {
            name: dict(islice(each.items(), MOST_FAILURES))
            if name == "failures" and isinstance(each, dict)
            else shortened(each)
            for name, each in value.items()
        }
    return value
