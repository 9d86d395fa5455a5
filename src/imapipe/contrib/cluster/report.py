"""What became of a job over many mailboxes and parts of them, done by any number of workers in any number of tries.

Invariants:

- `planned == done + skipped + vanished + failed`, of each mailbox and of all: an outcome is that of a part's last try.
- A message that an earlier try of the same part did is done, not skipped: tries that were killed are no earlier runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import ClassVar, Final

from imapipe.contrib.job import JobError, error_from, told
from imapipe.models.document import Document
from imapipe.models.json_value import JSON
from imapipe.models.report import OUTCOMES, shown
from imapipe.models.sums import BESIDE_OUTCOMES, OutcomeSums, outcome_table


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxOutcome(Document):
    """What became of a mailbox, or of a part of one.

    Attributes:
        planned: Messages that were found.
        done: Messages that were handled for this job.
        skipped: Messages that an earlier job did.
        vanished: Messages that were gone.
        failed: Messages that failed.
        unaccounted: Messages that the mailbox holds and that a search for all did not find.
        changed: Messages of which the change that follows them is made.
        change_failed: Messages of which it failed.
        bytes_received: Bytes of FETCH responses of the last try of each part.
        parts: In how many parts the mailbox was worked on.
        complete: Whether nothing is left over.
        error: What kept it, or a part of it, from being done.
    """

    planned: int = 0
    done: int = 0
    skipped: int = 0
    vanished: int = 0
    failed: int = 0
    unaccounted: int = 0
    changed: int = 0
    change_failed: int = 0
    bytes_received: int = 0
    parts: int = 1
    complete: bool = True
    error: JobError | None = None

    @classmethod
    def of_report(
        cls, report: Mapping[str, JSON], *, done_before: int = 0, done_ever: int | None = None
    ) -> MailboxOutcome:
        """What a report tells, of a run (`RunReport`) or of any other kind.

        Args:
            report: As JSON.
            done_before: How many messages had been done by earlier jobs, as the checkpoint counts them.
            done_ever: How many are done by now, as the checkpoints of a whole account count them: its report does not
                tell, and says nothing of mailboxes that an earlier try has finished.
        """
        outcome = cls.from_dict(report)
        told = report.get("done_all_runs") if done_ever is None else done_ever
        if not isinstance(told, int):
            return outcome
        in_earlier_tries = max(0, told - done_before - outcome.done)
        skipped = min(outcome.skipped, in_earlier_tries)
        elsewhere = 0 if done_ever is None else in_earlier_tries - skipped
        return replace(
            outcome,
            planned=outcome.planned + elsewhere,
            done=outcome.done + skipped + elsewhere,
            skipped=outcome.skipped - skipped,
        )

    @classmethod
    def of_error(cls, error: BaseException) -> MailboxOutcome:
        """Nothing came of it."""
        return cls(complete=False, error=told(error))

    @classmethod
    def from_dict(cls, document: Mapping[str, JSON]) -> MailboxOutcome:
        """Read what `to_dict` gave."""
        numbers = {name: value for name in _NUMBERS if isinstance(value := document.get(name), int)}
        is_complete, error = document.get("complete") is True, error_from(document.get("error"))
        return cls(complete=is_complete, error=error)._with(numbers)

    def merged(self, other: MailboxOutcome) -> MailboxOutcome:
        """Two parts of a mailbox as one."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in _NUMBERS}
        both = replace(self, complete=self.complete and other.complete, error=self.error or other.error)
        return both._with(sums)

    def _with(self, numbers: Mapping[str, int]) -> MailboxOutcome:
        return replace(self, **numbers)  # type: ignore[arg-type]  # every one of these fields is a number


_NUMBERS: Final = tuple(field.name for field in fields(MailboxOutcome) if field.name not in {"complete", "error"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterReport(OutcomeSums):
    """What became of a job on an account: an outcome for each mailbox, and their sums.

    Attributes:
        account: The account, by the name that the cluster knows it by.
        job: The job.
        mailboxes: What became of each mailbox that was looked at.
        unchanged: Mailboxes in which nothing had changed since a job that left nothing undone.
        started_at: When it began (aware).
        elapsed_seconds: How long it took, with the time in which it waited for workers.
    """

    derived: ClassVar[Sequence[str]] = (*OUTCOMES, *BESIDE_OUTCOMES, "complete")

    account: str
    job: str
    mailboxes: Mapping[str, MailboxOutcome]
    unchanged: tuple[str, ...]
    started_at: datetime
    elapsed_seconds: float

    @property
    def complete(self) -> bool:
        """Whether every mailbox was reached, and is complete."""
        return all(outcome.complete for outcome in self.mailboxes.values())

    @classmethod
    def from_dict(cls, document: Mapping[str, JSON]) -> ClusterReport:
        """Read what `to_dict` gave. Raises KeyError, TypeError, ValueError for anything else."""
        mailboxes, unchanged = document["mailboxes"], document["unchanged"]
        if not isinstance(mailboxes, dict) or not isinstance(unchanged, list):
            raise TypeError("it is no report of a cluster")
        return cls(
            account=str(document["account"]),
            job=str(document["job"]),
            mailboxes={
                name: MailboxOutcome.from_dict(each) for name, each in mailboxes.items() if isinstance(each, dict)
            },
            unchanged=tuple(map(str, unchanged)),
            started_at=datetime.fromisoformat(str(document["started_at"])),
            elapsed_seconds=float(str(document["elapsed_seconds"])),
        )

    def table(self) -> str:
        """The report as plain text: a line for each mailbox in which something happened, and the sums."""
        lines = outcome_table(self.mailboxes)
        lines += [
            f"{shown(name) or '-'}: {outcome.error.type}: {shown(outcome.error.text)}"
            for name, outcome in self.mailboxes.items()
            if outcome.error is not None
        ]
        end = "complete" if self.complete else "not complete"
        count = len(self.mailboxes) + len(self.unchanged)
        many = f"{count:,} {'mailbox' if count == 1 else 'mailboxes'}"
        lines.append(f"{many}, {len(self.unchanged):,} unchanged, {self.elapsed_seconds:,.1f} s, {end}")
        return "\n".join(lines)

    def _each(self) -> Iterable[object]:
        return self.mailboxes.values()


def by_mailbox(outcomes: Iterable[tuple[str, MailboxOutcome]]) -> dict[str, MailboxOutcome]:
    """Outcomes of parts as outcomes of mailboxes, in the order in which the mailboxes come first."""
    merged: dict[str, MailboxOutcome] = {}
    for mailbox, outcome in outcomes:
        merged[mailbox] = merged[mailbox].merged(outcome) if mailbox in merged else outcome
    return merged
