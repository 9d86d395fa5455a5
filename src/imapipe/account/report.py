"""What became of a job on all mailboxes of an account."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import ClassVar, Final, TypeVar

from imapipe.errors import Throttled
from imapipe.models.report import MAX_FAILURE_DETAILS, OUTCOMES, RunReport, shown
from imapipe.models.sums import BESIDE_OUTCOMES, OutcomeSums, outcome_table
from imapipe.wire.response.note import MORE_NOTES

_MOST_NOTES: Final = 1_000
_K = TypeVar("_K")
_V = TypeVar("_V")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountReport(OutcomeSums):
    """One report for each mailbox, and their sums.

    Attributes:
        account: `user@host:port`.
        reports: Of the mailboxes in which something was to be looked for, by name, in the order in which they ended. Of
            all of them together there are details of the first 10,000 failures, and the first 1,000 notes.
        unchanged: Mailboxes in which nothing had changed since a run that left nothing undone.
        errors: What ended the run on a mailbox, by its name; nothing else of it is in the sums.
        started_at: When it began (aware).
        elapsed_seconds: How long it took.
    """

    derived: ClassVar[Sequence[str]] = (*OUTCOMES, *BESIDE_OUTCOMES, "retry_at", "complete")
    told_as: ClassVar[Mapping[str, str]] = {"reports": "mailboxes"}

    account: str
    reports: Mapping[str, RunReport]
    unchanged: tuple[str, ...]
    errors: Mapping[str, Exception]
    started_at: datetime
    elapsed_seconds: float

    @property
    def retry_at(self) -> datetime | None:
        """When the server serves again, at the latest, where it refused as too much and that is known."""
        errors = (error.retry_at for error in self.errors.values() if isinstance(error, Throttled))
        return max((at for at in (*errors, *(each.retry_at for each in self.reports.values())) if at), default=None)

    @property
    def complete(self) -> bool:
        """Whether every mailbox was reached, and is complete."""
        return not self.errors and all(report.complete for report in self.reports.values())

    def table(self) -> str:
        """The report as plain text: a line for each mailbox in which something happened, and the sums."""
        lines = outcome_table(self.reports)
        lines += [f"{shown(name)}: {shown(str(error))}" for name, error in self.errors.items()]
        count = len(self.reports) + len(self.unchanged) + len(self.errors)
        if self.retry_at is not None:
            lines.append(f"serves again at {self.retry_at.isoformat(timespec='minutes')}")
        end = "complete" if self.complete else "not complete"
        many = f"{count:,} {'mailbox' if count == 1 else 'mailboxes'}"
        lines.append(f"{many}, {len(self.unchanged):,} unchanged, {self.elapsed_seconds:,.1f} s, {end}")
        return "\n".join(lines)

    def _each(self) -> Iterable[object]:
        return self.reports.values()


class Details:
    """What the reports of many mailboxes say of single messages: bounded together, as each of them alone is."""

    def __init__(self) -> None:
        self._failures = MAX_FAILURE_DETAILS
        self._notes = _MOST_NOTES

    def of(self, report: RunReport) -> RunReport:
        """A report, with as many details as there is room for."""
        failures = _some(report.failures, self._failures)
        change_failures = _some(report.change_failures, self._failures - len(failures))
        notes = dict(_some(report.notes, self._notes))
        self._failures -= len(failures) + len(change_failures)
        self._notes -= len(notes)
        if rest := sum(report.notes.values()) - sum(notes.values()):
            notes[MORE_NOTES] = notes.get(MORE_NOTES, 0) + rest
        return replace(report, failures=failures, change_failures=change_failures, notes=notes)


def _some(details: Mapping[_K, _V], most: int) -> Mapping[_K, _V]:
    return details if len(details) <= most else dict(islice(details.items(), most))
