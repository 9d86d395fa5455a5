"""The report of a run: what became of every planned message, and what it cost.

Invariants:

- Every planned UID is counted once: `planned == done + skipped + vanished + failed + unsettled`. `unsettled` is 0
  unless the run was ended early.
- `failures` holds at most `MAX_FAILURE_DETAILS` of the failures; `failed_uids` holds every one.
- So is every message to which a change was owed: `changes_due == changed + change_vanished + change_failed +
  changes_owed`; the last is 0 unless the run was ended early.
- A report of an empty mailbox is complete, and all its numbers are 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from types import MappingProxyType
from typing import ClassVar, Final, NamedTuple

from imapipe.errors import ImapipeError
from imapipe.models.batch import NO_UIDS, Failure
from imapipe.models.cursor import Cursor
from imapipe.models.distribution import NOTHING_SEEN, Distribution
from imapipe.models.document import Document, printable
from imapipe.models.json_value import JSON
from imapipe.wire.response.note import Note
from imapipe.wire.uid_set import UidSet

OUTCOMES: Final = ("planned", "done", "skipped", "vanished", "failed")
"""How many messages there are, and what became of them."""

MAX_FAILURE_DETAILS: Final = 10_000
_REASONS_SHOWN: Final = 10


class ChangeTally(NamedTuple):
    """What became of the changes that follow messages (`on_done=`, `on_failed=`).

    Attributes:
        due: To how many messages one was owed.
        changed: How many were changed.
        vanished: How many were gone before.
        failed: How many could not be changed.
        failures: Why; as many as details are kept of.
        notes: What a report is to tell of them.
    """

    due: int = 0
    changed: int = 0
    vanished: int = 0
    failed: int = 0
    failures: Mapping[int, Failure] = MappingProxyType({})
    notes: Mapping[Note, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport(Document):
    """What a run did.

    Attributes:
        account: `user@host:port`.
        mailbox: The name of the mailbox.
        uidvalidity: The UIDVALIDITY under which all UIDs here are to be read.
        cursor: How far the mailbox had come when the run began; where it is behind that later, they are worthless.
        planned: Messages that the search of this run found.
        done: Messages whose handler returned in this run.
        skipped: Messages that an earlier run did.
        vanished: Messages that were gone before they could be fetched.
        failed: Messages that failed.
        failures: The details of the first 10,000 failures.
        failed_uids: All UIDs that failed.
        unaccounted: Messages that the mailbox holds by EXISTS and that a search for all did not find.
        may_be_short: An answer to the search could not be read to its end: a message may be missing, nobody knows.
        missing_items: Messages that came without an item that was asked for, by the item.
        notes: What of the server's answers was passed over, and how often; at most 100 different ones and one for
            the rest.
        changes_due: Messages to which a change was owed (`on_done=`, `on_failed=`), also since earlier runs.
        changed: Messages of which the change is made.
        change_vanished: Messages that were gone before it.
        change_failed: Messages of which it failed; with a Checkpoint the next run tries it again.
        change_failures: Why, of the first 10,000.
        started_at: When the run began, with its time zone.
        elapsed_seconds: How long it took.
        bytes_received: Bytes of FETCH responses, after decompression.
        wire_bytes: Bytes received on the connections, as they came.
        batch_seconds: How long the server worked on a batch.
        batch_sizes: Messages in a batch.
        retries: Batches that were asked for again.
        reconnects: Connections that had to be replaced.
        throttle_waits: Times a batch was held back by a limit, ours or the server's.
        retry_at: When the server serves again, at the latest, where it refused as too much and that is known; or when
            a `ByteBudget` that ended the run has room.
        peak_rss_bytes: The largest resident memory that was sampled.
        cpu_seconds: Processor time of this process, user and system.
        loop_lag_seconds: How late the event loop was.
        system_cpu_percent: The load of all processors, the mean of the samples.
        system_memory_percent: Memory in use on the machine, the highest sample.
        done_all_runs: Messages done over all runs of the checkpoint; without one the same as `done`.
    """

    derived: ClassVar[Sequence[str]] = ("unsettled", "changes_owed", "complete", "messages_per_second", "error_rate")

    account: str = ""
    mailbox: str = ""
    uidvalidity: int = 0
    cursor: Cursor = Cursor()  # noqa: RUF009 - a frozen value
    planned: int = 0
    done: int = 0
    skipped: int = 0
    vanished: int = 0
    failed: int = 0
    failures: Mapping[int, Failure] = field(default_factory=dict)
    failed_uids: UidSet = NO_UIDS
    unaccounted: int = 0
    may_be_short: bool = False
    missing_items: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[Note, int] = field(default_factory=dict)
    changes_due: int = 0
    changed: int = 0
    change_vanished: int = 0
    change_failed: int = 0
    change_failures: Mapping[int, Failure] = field(default_factory=dict)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    elapsed_seconds: float = 0.0
    bytes_received: int = 0
    wire_bytes: int = 0
    batch_seconds: Distribution = NOTHING_SEEN
    batch_sizes: Distribution = NOTHING_SEEN
    retries: int = 0
    reconnects: int = 0
    throttle_waits: int = 0
    retry_at: datetime | None = None
    peak_rss_bytes: int = 0
    cpu_seconds: float = 0.0
    loop_lag_seconds: Distribution = NOTHING_SEEN
    system_cpu_percent: float = 0.0
    system_memory_percent: float = 0.0
    done_all_runs: int = 0

    def __post_init__(self) -> None:
        if self.started_at.tzinfo is None:
            raise ValueError("started_at needs a time zone")
        for name in ("failures", "change_failures"):
            if len(failures := getattr(self, name)) > MAX_FAILURE_DETAILS:
                object.__setattr__(self, name, dict(islice(failures.items(), MAX_FAILURE_DETAILS)))

    @property
    def unsettled(self) -> int:
        """Planned messages without an outcome: the run was ended before it came to them."""
        return self.planned - self.done - self.skipped - self.vanished - self.failed

    @property
    def changes_owed(self) -> int:
        """Messages whose change was neither made nor refused: the run was ended before it came to them."""
        return self.changes_due - self.changed - self.change_vanished - self.change_failed

    @property
    def complete(self) -> bool:
        """Whether every planned message was done or is gone, changed if that was owed, and the search found all."""
        is_short = self.unaccounted or self.may_be_short
        return not (self.failed or is_short or self.unsettled or self.change_failed or self.changes_owed)

    @property
    def messages_per_second(self) -> float:
        """Messages done in this run by its whole time; 0.0 for a run that took none."""
        return self.done / self.elapsed_seconds if self.elapsed_seconds > 0 else 0.0

    @property
    def error_rate(self) -> float:
        """The share (0 … 1) that failed of all messages this run tried."""
        tried = self.done + self.vanished + self.failed
        return self.failed / tried if tried else 0.0

    def to_dict(self) -> dict[str, JSON]:
        """As a JSON-ready value; `notes` is a list of kind, detail and count. See `Document.to_dict`."""
        notes: list[JSON] = [
            {"kind": note.kind, "detail": printable(note.detail), "count": count} for note, count in self.notes.items()
        ]
        return {**Document.to_dict(self), "notes": notes}

    def table(self) -> str:
        """The report as plain text: a name and a value on each line."""
        rows = list(self._rows())
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}".rstrip() for name, value in rows)

    def _rows(self) -> Iterator[tuple[str, str]]:
        yield "account", shown(self.account)
        yield "mailbox", f"{shown(self.mailbox)} (UIDVALIDITY {self.uidvalidity})"
        yield "complete", "yes" if self.complete else "no"
        for name in OUTCOMES:
            yield name, f"{getattr(self, name):,}"
        if self.unsettled:
            yield "unsettled", f"{self.unsettled:,}"
        if self.unaccounted:
            yield "unaccounted", f"{self.unaccounted:,} messages that the server did not show"
        if self.may_be_short:
            yield "may be short", "yes: the answer to the search could not be read to its end"
        if self.changes_due:
            yield (
                "changes",
                (
                    f"{self.changed:,} of {self.changes_due:,} made, {self.change_vanished:,} gone, "
                    f"{self.change_failed:,} failed, {self.changes_owed:,} owed"
                ),
            )
        yield "done in all runs", f"{self.done_all_runs:,}"
        yield "started", self.started_at.isoformat(timespec="seconds")
        yield "elapsed", f"{self.elapsed_seconds:,.1f} s"
        yield "throughput", f"{self.messages_per_second:,.1f} messages/s"
        yield "error rate", f"{self.error_rate:.2%}"
        yield "received", f"{self.bytes_received:,} bytes ({self.wire_bytes:,} on the wire)"
        yield "batch seconds", _spread(self.batch_seconds, ".3f")
        yield "batch sizes", _spread(self.batch_sizes, ",.0f")
        yield "retries", f"{self.retries:,}"
        yield "reconnects", f"{self.reconnects:,}"
        yield "throttle waits", f"{self.throttle_waits:,}"
        if self.retry_at is not None:
            yield "serves again", self.retry_at.isoformat(timespec="minutes")
        yield "peak memory", f"{self.peak_rss_bytes / 1_048_576:,.1f} MiB"
        yield "processor time", f"{self.cpu_seconds:,.2f} s"
        yield "event loop lag", _spread(self.loop_lag_seconds, ".4f")
        yield "system load", f"{self.system_cpu_percent:.0f} % CPU, {self.system_memory_percent:.0f} % memory"
        yield from _reason_rows("failed", self.failures)
        yield from _reason_rows("change failed", self.change_failures)
        for item, count in self.missing_items.items():
            yield f"without: {shown(item)}", f"{count:,}"
        for note, count in self.notes.items():
            yield f"note: {note.kind}", f"{count:,} x {shown(note.detail)}"


def shown(text: str) -> str:
    """Text for people, on one line: what a server says must not write to somebody's terminal."""
    return "".join(c if c.isprintable() or c == "\u00a0" else c.encode("unicode_escape").decode() for c in text)


def _reason_rows(name: str, failures: Mapping[int, Failure]) -> Iterator[tuple[str, str]]:
    """The most frequent reasons of the failures whose details are kept."""
    counts: dict[str, int] = {}
    for failure in failures.values():
        counts[failure.reason] = counts.get(failure.reason, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    for reason, count in ordered[:_REASONS_SHOWN]:
        yield f"{name}: {shown(reason)}", f"{count:,}"


def _spread(seen: Distribution, form: str) -> str:
    if not seen.count:
        return "none"
    values = {"mean": seen.mean, "min": seen.minimum, "max": seen.maximum, "p50": seen.p50, "p95": seen.p95}
    return ", ".join(f"{name} {value:{form}}" for name, value in values.items())


class Incomplete(ImapipeError):
    """A run ended with messages that failed or are unaccounted for."""

    def __init__(self, report: RunReport) -> None:
        self.report = report
        super().__init__(
            f"{report.failed} of {report.planned} messages failed; see report.failures"
            if report.failed
            else f"{report.change_failed + report.changes_owed} messages were not changed; see report.change_failures"
            if report.change_failed or report.changes_owed
            else "the server showed fewer messages than it says the mailbox holds; see report.unaccounted"
            if report.unaccounted or not report.may_be_short
            else "an answer to the search could not be read to its end, so messages may be missing; see report.notes"
        )
