"""What became of a job on all mailboxes of an account."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from imapipe.models.report import RunReport, shown
from imapipe.models.sums import OutcomeSums

_OUTCOMES = ("planned", "done", "skipped", "vanished", "failed")
_SUMS = (*_OUTCOMES, "unaccounted", "changed", "change_failed", "bytes_received")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountReport(OutcomeSums):
    """One report for each mailbox, and their sums.

    Attributes:
        account: `user@host:port`.
        reports: Of the mailboxes in which something was to be looked for, by name, in the order in which they ended.
        unchanged: Mailboxes in which nothing had changed since a run that left nothing undone.
        errors: What ended the run on a mailbox, by its name; nothing else of it is in the sums.
        started_at: When it began (aware).
        elapsed_seconds: How long it took.
    """

    derived: ClassVar[Sequence[str]] = (*_SUMS, "complete")
    told_as: ClassVar[Mapping[str, str]] = {"reports": "mailboxes"}

    account: str
    reports: Mapping[str, RunReport]
    unchanged: tuple[str, ...]
    errors: Mapping[str, Exception]
    started_at: datetime
    elapsed_seconds: float

    @property
    def unaccounted(self) -> int:
        """Messages that searches did not find although the mailboxes hold them."""
        return self._sum("unaccounted")

    @property
    def bytes_received(self) -> int:
        """Bytes of FETCH responses, after decompression."""
        return self._sum("bytes_received")

    @property
    def complete(self) -> bool:
        """Whether every mailbox was reached, and is complete."""
        return not self.errors and all(report.complete for report in self.reports.values())

    def table(self) -> str:
        """The report as plain text: a line for each mailbox in which something happened, and the sums."""
        rows = list(self._rows())
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [_line(row, widths) for row in rows]
        lines += [f"{shown(name)}: {shown(str(error))}" for name, error in self.errors.items()]
        count = len(self.reports) + len(self.unchanged) + len(self.errors)
        end = "complete" if self.complete else "not complete"
        lines.append(f"{count:,} mailboxes, {len(self.unchanged):,} unchanged, {self.elapsed_seconds:,.1f} s, {end}")
        return "\n".join(lines)

    def _rows(self) -> Iterator[tuple[str, ...]]:
        yield "mailbox", *_OUTCOMES
        for name, report in self.reports.items():
            if report.planned or not report.complete:
                yield shown(name), *(f"{getattr(report, column):,}" for column in _OUTCOMES)
        yield "sum", *(f"{self._sum(column):,}" for column in _OUTCOMES)

    def _each(self) -> Iterable[object]:
        return self.reports.values()


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    name, *numbers = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
    return "  ".join((name.strip().ljust(widths[0]), *numbers)).rstrip()
