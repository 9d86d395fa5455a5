"""What to do with a task that ended with an error: by the class of the error, not by how often things went wrong.

- The password is wrong: the account rests for a quarter of an hour, then an hour, then four. A login that is tried
  again and again locks an account.
- The server asks for less: the account rests for as long as it said or is known of it, else for a minute, and longer
  each time.
- A quota ended a run before everything was asked for: the account rests until there is one again. Where it got on, that
  is no fault, however many days it takes.
- The server does not work, or cannot be reached: the account rests for ten seconds, and longer each time.
- Somebody else holds the checkpoint, or it was lost to somebody: the task waits until a lease may have ended; that is
  nobody's fault, however often it happens to a worker whose network is bad.
- The database is away: the task waits a moment, and longer each time.
- The worker does not know the job: while workers are replaced by ones with other jobs, another one may. The task waits,
  and longer each time.
- Everything else comes back however often one asks: the task has failed.

Invariant: every way ends, after `MOST_TRIES` of its kind at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from imapipe.errors import (
    AuthenticationFailed,
    CheckpointLocked,
    CheckpointLost,
    DatabaseError,
    ImapipeError,
    Throttled,
)
from imapipe.net.transient import is_transient

_LOGIN_SECONDS: Final = (900.0, 3_600.0, 14_400.0)
_THROTTLED_SECONDS: Final = 60.0
_OUTAGE_SECONDS: Final = 10.0
_DATABASE_SECONDS: Final = 5.0
_OTHER_WORKER_SECONDS: Final = 10.0
_LONGEST_SECONDS: Final = 3_600.0

MOST_TRIES: Final = 12
MOST_WAITS_FOR_A_CHECKPOINT: Final = 200
MOST_LOSSES: Final = 20
"""So many workers may die with a task in hand, one after the other, before it is given up."""


class OverQuota(ImapipeError):
    """A quota ended the runs of a task before everything was asked for.

    Args:
        retry_at: When it is worth to come back (aware).
        got_on: Whether something was done in this try.
    """

    def __init__(self, retry_at: datetime, *, got_on: bool) -> None:
        super().__init__(f"the quota of the account is used up; it goes on at {retry_at:%Y-%m-%d %H:%M} UTC")
        self.retry_at = retry_at
        self.got_on = got_on


class NotRegistered(ImapipeError):
    """The worker has no job of this name; another worker may."""

    def __init__(self, job: str) -> None:
        super().__init__(f"the worker knows no job {job!r}: start workers with the module that has it (--jobs)")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do.

    Attributes:
        wait_seconds: When to try again, or None for never.
        rests: Whether all of the account waits, or can never be worked on, not this task alone.
        is_fault: Whether it counts as a try.
    """

    wait_seconds: float | None
    rests: bool = False
    is_fault: bool = True


FAILED: Final = Verdict(None)


def judge(error: BaseException, tries: int, *, lease_seconds: float) -> Verdict:
    """What to do with a task.

    Args:
        error: What ended it.
        tries: How often it was tried, this time included.
        lease_seconds: How long a checkpoint is kept for a worker that died.
    """
    match error:
        case CheckpointLocked() | CheckpointLost():
            wait = Verdict(max(1.0, lease_seconds / 3), is_fault=False)
            return wait if tries <= MOST_WAITS_FOR_A_CHECKPOINT else FAILED
        case OverQuota():
            goes_on = error.got_on or tries <= MOST_TRIES
            seconds = max(1.0, _seconds_until(error.retry_at))
            return Verdict(seconds, rests=True, is_fault=not error.got_on) if goes_on else FAILED
        case NotRegistered():
            return _again(_OTHER_WORKER_SECONDS, tries)
        case DatabaseError():
            return _again(_DATABASE_SECONDS, tries) if error.is_transient or error.is_lost else FAILED
        case _:
            verdict = is_transient(error, fetching=False)
    if isinstance(error, AuthenticationFailed) and not verdict.transient:
        return Verdict(_LOGIN_SECONDS[tries - 1] if tries <= len(_LOGIN_SECONDS) else None, rests=True)
    if not verdict.transient:
        return FAILED
    if isinstance(error, Throttled):
        asked = error.retry_after_seconds
        if asked is None and error.retry_at is not None:
            asked = max(1.0, _seconds_until(error.retry_at))
        return _again(_THROTTLED_SECONDS if asked is None else asked, tries, rests=True, doubles=asked is None)
    return _again(max(_OUTAGE_SECONDS, verdict.wait_at_least or 0.0), tries, rests=True)


def _seconds_until(moment: datetime) -> float:
    return (moment - datetime.now(UTC)).total_seconds()


def _again(seconds: float, tries: int, *, rests: bool = False, doubles: bool = True) -> Verdict:
    if tries > MOST_TRIES:
        return Verdict(None, rests)
    return Verdict(min(seconds * 2.0 ** (tries - 1), _LONGEST_SECONDS) if doubles else seconds, rests)
