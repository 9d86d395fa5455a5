"""What is known of one mailbox that is followed: how far it was looked at, what is left of that, what came of it all.

Invariants:

- Every planned message is counted once: `planned == done + skipped + vanished + failed + pending`, after every run,
  also one that was cancelled or raised. `pending` has no outcome yet, and the next run is for it too.
- The cursor moves only with a run that had planned what was below it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from imapipe.models.batch import Failure
from imapipe.models.cursor import Cursor, possible_uidnext
from imapipe.models.mailbox import MailboxStatus
from imapipe.pipeline.ledger import MAX_FAILURE_DETAILS, NOT_TRIED
from imapipe.pipeline.run import Run
from imapipe.pipeline.source.newer import Newer
from imapipe.pipeline.specification import Specification
from imapipe.runtime.large_sets import beside_the_loop
from imapipe.wire.uid_set import UidSet

# Failures that say nothing of the message, by the names of exceptions and response codes: it is tried again.
PASSING: Final = frozenset(
    """ConnectionFailed ConnectionLost CommandTimeout PoolTimeout ServerBye Throttled INUSE LIMIT OVERQUOTA THROTTLED
    UNAVAILABLE SERVERBUG TEMPFAIL""".split()
) | {NOT_TRIED}

# So many messages are asked for before it is known that they are there.
_MOST_AHEAD: Final = 20


@dataclass(frozen=True, slots=True)
class Place:
    """A mailbox that is to be followed, as a look at the account shows it.

    Attributes:
        specification: The job on it; its source finds all of it.
        status: What the server says of it.
        delimiter: What separates the levels of its name.
        uidvalidity: With `cursor`: its UIDVALIDITY then.
        cursor: How far it had come when an earlier run left nothing undone; None where nothing is known.
    """

    specification: Specification
    status: MailboxStatus | None = None
    delimiter: str | None = None
    uidvalidity: int = 0
    cursor: Cursor | None = None

    @property
    def name(self) -> str:
        """Its name, without the spelling that it may have."""
        return str(self.specification.mailbox)


@dataclass(slots=True)
class Tally:
    """What became of the messages of a mailbox."""

    planned: int = 0
    done: int = 0
    skipped: int = 0
    vanished: int = 0
    failed: int = 0
    unaccounted: int = 0
    changed: int = 0
    change_failed: int = 0
    runs: int = 0
    bytes_received: int = 0
    failures: dict[int, Failure] = field(default_factory=dict)


class Followed:
    """One mailbox.

    Attributes:
        place: Where it is.
        tally: What came of it.
        uidvalidity: Under which UIDs are to be read.
        cursor: How far it was looked at; None before the first time.
        pending: Messages without an outcome.
        way: How news of it comes: "notify", "idle" or "poll"; "" before that is known.
        heard_at: Loop time of the last word of the server about it, or None.
        due_since: Loop time at which there was news that no run has looked at, or None.
        not_before: Loop time before which it is not to be looked at again.
        tries: Runs in vain, in a row.
        is_running: A run is on.
        is_gone: There is no such mailbox now.
        is_new: What was there at the beginning is not done yet: what is found is no arrival.
        error: What ended its last run, or None.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.tally = Tally()
        self.uidvalidity = place.uidvalidity
        self.cursor = place.cursor
        self.pending = UidSet()
        self.way = ""
        self.heard_at: float | None = None
        self.due_since: float | None = None
        self.not_before = 0.0
        self.tries = 0
        self.is_running = False
        self.is_gone = False
        self.is_new = True
        self.error: Exception | None = None
        self._is_whole = place.cursor is not None
        self._expected_uidnext: int | None = None

    @property
    def name(self) -> str:
        """Its name."""
        return self.place.name

    def take_over(self, other: Followed) -> None:
        """It is the mailbox that had another name before."""
        self.uidvalidity, self.cursor, self.pending = other.uidvalidity, other.cursor, other.pending
        self.is_new, self._is_whole, self.tally = other.is_new, other._is_whole, other.tally

    def is_the_same_as(self, place: Place) -> bool:
        """Whether MAILBOXID proves that a mailbox of another name is this one (RFC 8474)."""
        status, cursor = place.status, self.cursor
        if status is None or cursor is None or not cursor.mailboxid:
            return False
        return (status.mailbox_id, status.uidvalidity) == (cursor.mailboxid, self.uidvalidity)

    def is_news(self, status: MailboxStatus) -> bool:
        """Whether what the server says of it is anything else than what the last look found."""
        cursor = self.cursor
        if cursor is None or (status.uidvalidity and status.uidvalidity != self.uidvalidity):
            return True
        if None not in (status.mailbox_id, cursor.mailboxid) and status.mailbox_id != cursor.mailboxid:
            return True
        uidnext = possible_uidnext(status.uidnext, status.messages or 0)
        # Without the number only a look tells.
        return uidnext is None or uidnext != cursor.uidnext

    def expects(self, *, uidnext: int | None = None, exists: int | None = None) -> None:
        """The server tells a number by which it can be guessed what has come; the run finds out whether it is so."""
        cursor = self.cursor
        if uidnext is None and None not in (exists, cursor and cursor.exists, cursor and cursor.uidnext):
            assert cursor is not None
            uidnext = (cursor.uidnext or 0) + (exists or 0) - (cursor.exists or 0)
        self._expected_uidnext = uidnext

    def next_run(self) -> Specification:
        """The job that is to be run now."""
        cursor, uidnext = self.cursor, self._expected_uidnext
        self._expected_uidnext = None
        if cursor is None:
            return self.place.specification
        expected = UidSet()
        if uidnext and cursor.uidnext and 0 < uidnext - cursor.uidnext <= _MOST_AHEAD:
            expected = UidSet.from_ranges([(cursor.uidnext, uidnext - 1)])
        source = Newer(self.uidvalidity, cursor, self.pending, self._is_whole, expected)
        return replace(self.place.specification, source=source)

    async def ran(self, run: Run, *, whole: bool) -> int:
        """Book a run, which is over.

        Args:
            run: It.
            whole: It came to its end. Else it may have ended before it knew what to do.

        Returns:
            How many messages were done.
        """
        plan, ledger, before = run.plan.planned, run.ledger, self.pending
        ledger.flush()
        tally = self.tally
        tally.runs += 1
        tally.bytes_received += run.bytes_received
        if not (whole or plan):
            return 0
        same = run.uidvalidity == self.uidvalidity

        def divide() -> tuple[UidSet, UidSet, UidSet]:
            failed = ledger.failed - _passing(ledger.failed, ledger.failures)
            pending = plan - ledger.done - ledger.skipped - ledger.vanished - failed
            return plan & before if same else UidSet(), failed, pending.ranked()

        known, failed, self.pending = await beside_the_loop(divide, plan, before)
        tally.planned += len(plan) - len(known)
        tally.done += len(ledger.done)
        tally.skipped += len(ledger.skipped)
        # What was pending and is not even planned has gone.
        tally.vanished += len(ledger.vanished) + len(before) - len(known)
        tally.failed += len(failed)
        tally.unaccounted += run.unaccounted
        report = run.report()
        tally.changed += report.changed
        tally.change_failed += report.change_failed
        for uid, failure in ledger.failures.items():
            if uid in failed and len(tally.failures) < MAX_FAILURE_DETAILS:
                tally.failures[uid] = failure
        self._is_whole = (self._is_whole or self.cursor is None or not same) and not (
            failed or run.unaccounted or run.may_be_short
        )
        self.uidvalidity, self.cursor = run.uidvalidity, run.cursor
        return len(ledger.done)


def _passing(failed: UidSet, details: Mapping[int, Failure]) -> UidSet:
    """Messages that failed for no reason of their own; those without details are among them."""
    told = UidSet.from_numbers(details)
    passing = [uid for uid, failure in details.items() if failure.reason in PASSING]
    return (failed - told) | UidSet.from_numbers(passing)
