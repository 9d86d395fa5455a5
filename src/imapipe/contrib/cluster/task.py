"""Tasks and jobs as they are kept, and as they are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar, Final, Literal, TypeAlias

from imapipe.contrib.cluster.begun import Begun
from imapipe.contrib.cluster.part import Part
from imapipe.contrib.cluster.planning import JobRequest
from imapipe.contrib.cluster.report import ClusterReport, MailboxOutcome
from imapipe.contrib.job import JobError
from imapipe.models.document import Document
from imapipe.models.json_value import JSON

TaskState: TypeAlias = Literal["waiting", "queued", "running", "complete", "partial", "failed", "cancelled"]
"""How a task stands. Ended are the last four."""

ClusterJobState: TypeAlias = Literal["waiting", "running", "cancelling", "complete", "partial", "failed", "cancelled"]
"""How a job of a cluster stands. Ended are the last four, which mean what they mean of the jobs of a service."""

ENDED: Final = frozenset({"complete", "partial", "failed", "cancelled"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterJob(Document):
    """A job that was asked for, as it stands.

    Attributes:
        id: Its number.
        account: The account that it is for.
        job: What kind of job it is: the name that it was registered by.
        mailboxes: For which mailboxes.
        exclude: Which of them are left out.
        shards: Into how many parts a mailbox may be divided.
        parameters: What it was asked for with.
        priority: Higher ones go first.
        state: "waiting", "running" or "cancelling"; then "complete", "partial", "failed" or "cancelled".
        created_at: When it was asked for.
        due_at: When it may begin.
        started_at: When it began.
        ended_at: When it ended.
        tasks: How many tasks it has, by their state.
        report: What became of it, when it has ended.
    """

    derived: ClassVar[Sequence[str]] = ("is_ended",)

    id: int
    account: str
    job: str
    mailboxes: tuple[str, ...]
    exclude: tuple[str, ...]
    shards: int
    parameters: Mapping[str, JSON]
    priority: int
    state: ClusterJobState
    created_at: datetime
    due_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    tasks: Mapping[str, int]
    report: ClusterReport | None = None

    @property
    def is_ended(self) -> bool:
        """Whether it is over."""
        return self.state in ENDED


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterTask(Document):
    """A piece of a job, as it stands.

    Attributes:
        id: Its number.
        kind: "plan" (the mailboxes are looked at) or "run".
        mailboxes: The mailboxes, or the parts of one: "INBOX 2/8".
        state: How it stands.
        tries: How often it ended with an error that is waited for.
        losses: How often a worker died with it, since it last got on.
        due_at: When it may begin (again).
        worker: Who has it, or had it last.
        started_at: When it began, the last time.
        ended_at: When it ended.
        error: What was wrong the last time.
        reports: The reports of its runs: of each mailbox.
    """

    id: int
    kind: str
    mailboxes: tuple[str, ...]
    state: TaskState
    tries: int
    losses: int
    due_at: datetime
    worker: str | None
    started_at: datetime | None
    ended_at: datetime | None
    error: JobError | None
    reports: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Claim:
    """A task that this process is to do.

    Attributes:
        task: Its number.
        ticket: The number of this try: whoever has an older one writes nothing more.
        job_id: The job that it belongs to.
        name: The name of the job's checkpoints.
        kind: "plan" or "run".
        parts: What is to be run.
        request: What was asked for.
        tries: How often it ended with an error.
        waits: How often it waited for a checkpoint.
        losses: How often a worker died with it, since it last got on.
        outcomes: What became of parts in earlier tries, by their key.
        begun: How much there was to do in parts when their runs began, by their key.
        planned_again: Mailboxes that the job has looked at a second time, as they had been renumbered meanwhile.
    """

    task: int
    ticket: int
    job_id: int
    name: str
    kind: str
    parts: tuple[Part, ...]
    request: JobRequest
    tries: int
    waits: int
    losses: int
    outcomes: Mapping[str, MailboxOutcome]
    begun: Mapping[str, Begun] = field(default_factory=dict)
    planned_again: frozenset[str] = frozenset()


def moment(milliseconds: int | None) -> datetime | None:
    """A time as it is kept."""
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
