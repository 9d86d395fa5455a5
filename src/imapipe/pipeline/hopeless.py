"""When a run gives a server up.

Errors of single batches end in the report, and the run goes on. But where nothing works any more, it would ask
for every message in vain, with all the waits that belong to that.

Invariants:

- A batch counts when nothing came from the server while it was tried, and what stopped it says that the server, or
  the way to it, does not work. A FETCH that is refused says something of its messages only.
- Batches that fail together, because one connection ended, count once.
- Any message that comes sets the count back.
"""

from __future__ import annotations

from imapipe.errors import (
    CommandError,
    CommandTimeout,
    ConnectionFailed,
    ConnectionLost,
    PoolTimeout,
    ServerBye,
    Throttled,
)
from imapipe.models.batch import BatchResult

# So many tries in vain after each other, and the server is given up.
HOPELESS_TRIES = 3

# The reasons of failures that a layer found by asking for single messages, when it was the connection all along.
_REASONS = frozenset(error.__name__ for error in (ConnectionFailed, ConnectionLost, CommandTimeout, PoolTimeout))


class Hopelessness:
    """Counts tries in vain."""

    __slots__ = ("_count", "_counted_at")

    def __init__(self) -> None:
        self._count = 0
        self._counted_at = 0.0

    def is_reached(
        self,
        began: float,
        now: float,
        result: BatchResult,
        error: BaseException | None,
        *,
        delivered: bool,
        tries: int = 1,
    ) -> bool:
        """Take the end of a batch; whether it is time to give up.

        Args:
            began: When its first try began, in loop time.
            now: The time.
            result: What became of it.
            error: What it was given up for, or None.
            tries: How often it was asked for.
            delivered: Messages came from the server meanwhile, for this batch or another.
        """
        if delivered or not _was_in_vain(result, error):
            self._count = 0
        elif began >= self._counted_at:
            self._counted_at = now
            self._count += tries
        return self._count >= HOPELESS_TRIES


def _was_in_vain(result: BatchResult, error: BaseException | None) -> bool:
    if error is None:
        return bool(result.failed) and all(failure.reason in _REASONS for failure in result.failed.values())
    if isinstance(error, CommandError):
        # A FETCH that is refused says something of its messages; the refusal of anything else stops them all.
        return error.command != "UID FETCH" or isinstance(error, ServerBye | Throttled)
    return isinstance(error, ConnectionFailed | PoolTimeout | CommandTimeout)
