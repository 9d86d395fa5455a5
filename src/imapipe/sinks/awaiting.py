"""Waiting for a server that takes messages: it may be down, or ask for less.

A server that is down is waited for as long as was said (`pipeline.outage`). One that asks for less works, and says how
long to wait, or does not: it is asked again a number of times, however long it was to be waited for when it is down.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from imapipe.errors import CommandError
from imapipe.models.event import ServerAwaited
from imapipe.net.transient import is_transient, reason
from imapipe.pipeline.outage import Outage
from imapipe.runtime.backoff import Backoff
from imapipe.runtime.event_bus import EventBus

_log = logging.getLogger(__name__)

_TRIES: Final = 10
_FIRST_WAIT_SECONDS: Final = 0.25
_LONGEST_WAIT_SECONDS: Final = 300.0

_Result = TypeVar("_Result")


class Awaiting:
    """The waiting for one server, over all that is done on it.

    Args:
        seconds: How long, while it does not work.
        events: Where every wait is told.
    """

    def __init__(self, seconds: float, events: EventBus) -> None:
        self._outage = Outage(seconds, events)
        self._events = events
        self._backoff = Backoff(_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS)

    def heard(self) -> None:
        """The server works; what it does not do is waited for anew."""
        self._outage.heard()

    async def around(self, work: Callable[[], Awaitable[_Result]]) -> _Result:
        """Do something that may be done again.

        Raises:
            ImapipeError: What it raised, where that does not pass or was waited for long enough.
        """
        waited = 0.0
        for tries in range(1, _TRIES + 1):
            try:
                return await self._outage.around(work)
            except CommandError as error:
                verdict = is_transient(error, fetching=False)
                if not verdict.transient or verdict.is_outage or tries == _TRIES:
                    raise
                pause = self._backoff.seconds(tries, error, at_least=verdict.wait_at_least)
                self._events.emit(ServerAwaited(reason(error), waited, pause))
                _log.warning("the server asks for less (%s); waiting %.0f s", reason(error), pause)
                await asyncio.sleep(pause)
                waited += pause
        raise AssertionError("the last try returns or raises")


def is_refusal(error: CommandError) -> bool:
    """Whether a server has said no to what it was given, for good: not to the moment, nor to the connection."""
    return error.status in ("NO", "BAD") and not is_transient(error, fetching=False).transient
