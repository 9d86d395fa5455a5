"""What following did so far, and how it stands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from imapipe.models.batch import Failure
from imapipe.models.distribution import Distribution
from imapipe.models.document import Document
from imapipe.models.report import OUTCOMES, shown
from imapipe.models.sums import BESIDE_OUTCOMES, OutcomeSums

_OUTCOMES = (*OUTCOMES, "pending")


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowedReport(Document):
    """What became of the messages of one mailbox: `planned = done + skipped + vanished + failed + pending`.

    Attributes:
        planned: Messages that were found.
        done: Messages that were handled.
        skipped: Messages that an earlier job had done.
        vanished: Messages that were gone.
        failed: Messages that failed, and are not tried again.
        pending: Messages without an outcome: following was ended, or the server did not bring them.
        unaccounted: Messages that the first search did not find although the mailbox holds them.
        changed: Messages of which the change that follows them is made (`on_done=`, `on_failed=`).
        change_failed: Messages of which it failed; with a Checkpoint the next look at the mailbox tries it again.
        failures: Details of the first 10,000 failures.
        runs: How often it was looked at.
        bytes_received: Bytes of FETCH responses.
        error: Why the last look failed, or "".
    """

    planned: int
    done: int
    skipped: int
    vanished: int
    failed: int
    pending: int
    unaccounted: int
    changed: int
    change_failed: int
    failures: Mapping[int, Failure]
    runs: int
    bytes_received: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowReport(OutcomeSums):
    """What following did so far: a report for each mailbox, and their sums.

    Attributes:
        account: `user@host:port`.
        mailboxes: By name, also those that are gone.
        latency_seconds: From the first word of the server about a message to its handler, or to the commit of its
            sink; only of messages that arrived meanwhile.
        reconnects: Connections that waited for news and ended.
        started_at: When it began (aware).
        elapsed_seconds: How long it took.
    """

    derived: ClassVar[Sequence[str]] = (*_OUTCOMES, *BESIDE_OUTCOMES, "complete")

    account: str
    mailboxes: Mapping[str, FollowedReport]
    latency_seconds: Distribution
    reconnects: int
    started_at: datetime
    elapsed_seconds: float

    @property
    def pending(self) -> int:
        """Messages without an outcome."""
        return self._sum("pending")

    @property
    def complete(self) -> bool:
        """Whether every message that was found is done or gone, and no mailbox was in trouble at the end."""
        reports = self.mailboxes.values()
        return not any(
            each.failed or each.pending or each.unaccounted or each.change_failed or each.error for each in reports
        )

    def table(self) -> str:
        """The report as plain text: a line for each mailbox in which something happened, and the sums."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        for name, each in self.mailboxes.items():
            if each.planned:
                yield f"{shown(name)}: " + ", ".join(
                    f"{column} {getattr(each, column):,}" for column in _OUTCOMES if getattr(each, column)
                )
            if each.change_failed:
                yield f"{shown(name)}: the changes of {each.change_failed:,} messages failed"
            if each.error:
                yield f"{shown(name)}: {shown(each.error)}"
        yield "sum: " + ", ".join(f"{column} {self._sum(column):,}" for column in _OUTCOMES)
        seen = self.latency_seconds
        if seen.count:
            yield f"latency: p50 {seen.p50:.3f} s, p95 {seen.p95:.3f} s, at most {seen.maximum:.3f} s"
        end = "complete" if self.complete else "not complete"
        count = len(self.mailboxes)
        many = f"{count:,} {'mailbox' if count == 1 else 'mailboxes'}"
        yield f"{many}, {self.reconnects:,} reconnects, {self.elapsed_seconds:,.1f} s, {end}"

    def _each(self) -> Iterable[object]:
        return self.mailboxes.values()


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxHealth(Document):
    """How one mailbox stands.

    Attributes:
        way: How news of it comes: "notify", "idle" or "poll"; "" before that is known.
        heard_seconds_ago: When the server said anything about it last; None before the first time.
        lag_seconds: For how long there has been news that is not handled; 0.0 where there is none.
        pending: Messages of earlier looks without an outcome.
        is_gone: There is no such mailbox now.
        error: Why the last look failed, or "".
    """

    way: str
    heard_seconds_ago: float | None
    lag_seconds: float
    pending: int
    is_gone: bool
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowHealth(Document):
    """How following stands.

    Attributes:
        is_running: Whether it is on.
        heard_seconds_ago: When the server said anything last; None before the first time.
        trouble: What is being waited out: why the server cannot be used, or "".
        mailboxes: By name.
    """

    is_running: bool
    heard_seconds_ago: float | None
    trouble: str
    mailboxes: Mapping[str, MailboxHealth]
