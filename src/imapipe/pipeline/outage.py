"""Waiting for a server that does not work: a matter of time, not of attempts, and no fault of any message.

One `Outage` serves all of a run: the search at its beginning and every lane later on. It begins with the first error
that says so (`net.transient`), is over with the first thing that works, and lasts for `outage_seconds` at most.

Invariants:

- While a run waits it says so, by an event and a warning in the log for each wait, and holds no lease.
- The error that ends a run after an outage tells how long it waited and how often it tried.
- Once it lasted too long, nobody tries again: each try may cost all the timeouts that there are.
- Without middleware that grants time (`Retry`) there is none: the first error counts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar, runtime_checkable

from imapipe.errors import ImapipeError
from imapipe.middleware.base import Middleware
from imapipe.models.event import ServerAwaited
from imapipe.net.pool import connection_limit
from imapipe.net.transient import is_transient, reason
from imapipe.runtime.backoff import Backoff
from imapipe.runtime.event_bus import EventBus

_log = logging.getLogger(__name__)

_FIRST_WAIT_SECONDS: Final = 0.5
_LONGEST_WAIT_SECONDS: Final = 30.0

_Result = TypeVar("_Result")


@runtime_checkable
class GrantsTime(Protocol):
    """Middleware that grants a run time to wait for its server."""

    @property
    def outage_seconds(self) -> float:
        """How long an outage may last; 0 gives up at once."""


def outage_seconds_of(middleware: Sequence[Middleware]) -> float:
    """The time that the middleware grants."""
    return next((one.outage_seconds for one in middleware if isinstance(one, GrantsTime)), 0.0)


class Outage:
    """How long a run has been waiting for its server.

    Args:
        seconds: How long it may last.
        events: Where every wait is told.

    Attributes:
        ended_by: The error with which it lasted too long, or None.
    """

    __slots__ = ("_backoff", "_events", "_since", "_tries", "ended_by", "seconds")

    def __init__(self, seconds: float, events: EventBus) -> None:
        self.seconds = seconds
        self._events = events
        self._since: float | None = None
        self._tries = 0
        self._backoff: Backoff | None = None
        self.ended_by: ImapipeError | None = None

    def heard(self) -> None:
        """The server works."""
        self.ended_by = None
        self._since = None
        self._tries = 0

    async def outlast(self, error: ImapipeError) -> bool:
        """Wait, where an error is one of an outage and there is time left; whether to try again.

        Where it is to be given up, the error gets a note that tells what was done. Cancelling ends the wait.
        """
        verdict = is_transient(error, fetching=False)
        if not verdict.is_outage or not self.seconds:
            return False
        now = asyncio.get_running_loop().time()
        if self._since is None:
            self._since = now
        self._tries += 1
        lasted = now - self._since
        left = self.seconds - lasted
        if left <= 0:
            error.add_note(f"the server did not work for {lasted:.0f} s; it was tried {self._tries} times")
            self.ended_by = error
            return False
        if self._backoff is None:
            self._backoff = Backoff(_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS)
        pause = self._backoff.seconds(self._tries, error, at_least=verdict.wait_at_least)
        if left - pause < connection_limit.FAILED_PAUSE_SECONDS:
            # So soon after this try the pool would not dial again, and the outage would last longer than it may.
            pause = left
        self._events.emit(ServerAwaited(reason(error), lasted, pause))
        _log.warning("waiting for the server (%s), %.0f s of %.0f s so far", reason(error), lasted, self.seconds)
        await asyncio.sleep(pause)
        return True

    async def around(self, work: Callable[[], Awaitable[_Result]]) -> _Result:
        """Do something that may be done again, as often as there is time for it."""
        while True:
            try:
                result = await work()
            except ImapipeError as error:
                if not await self.outlast(error):
                    raise
            else:
                self.heard()
                return result
