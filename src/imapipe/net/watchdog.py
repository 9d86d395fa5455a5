"""The timer of a connection: how long the server has been silent while somebody waits for it, and how long it may take.

Invariants:

- There is at most one timer, and none is touched when bytes arrive: hearing is one assignment to `heard_at`.
- The time in which we do not read on purpose counts neither as silence nor as the server's work.
- How long is too long may change while the timer runs; a shorter silence is noticed within the shortest one.
- Nothing expires before the loop has looked at the socket again: what came while the loop was busy is heard first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

# Any time above zero: asyncio reads sockets before it calls the timers of a turn, uvloop after, and both within this.
LAST_LOOK_SECONDS = 0.001


class Watchdog:
    """Calls `expired` when nothing was heard for as long as `silence_allowed` says, or no time is left.

    Args:
        loop: The event loop.
        silence_allowed: Seconds of silence allowed now, or None when nobody waits.
        seconds_left: What is left of the time that the server may take in all.
        shortest_seconds: The shortest that is ever allowed.
        expired: Called with the seconds of silence that were too many, or with None where no time is left.

    Attributes:
        heard_at: Loop time of the last sign of life.
    """

    __slots__ = (
        "_allowed",
        "_expired",
        "_is_last_look",
        "_loop",
        "_paused_at",
        "_paused_before",
        "_seconds_left",
        "_shortest",
        "_timer",
        "heard_at",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        silence_allowed: Callable[[], float | None],
        seconds_left: Callable[[], float],
        shortest_seconds: float,
        expired: Callable[[float | None], None],
    ) -> None:
        self._loop = loop
        self._allowed = silence_allowed
        self._seconds_left = seconds_left
        self._shortest = shortest_seconds
        self._expired = expired
        self._timer: asyncio.TimerHandle | None = None
        self._is_last_look = False
        self._paused_at: float | None = None
        self._paused_before = 0.0
        self.heard_at = loop.time()

    @property
    def paused_seconds(self) -> float:
        """For how long it was paused in all, a pause that lasts included."""
        if self._paused_at is None:
            return self._paused_before
        return self._paused_before + self._loop.time() - self._paused_at

    def hear(self) -> None:
        """There was a sign of life."""
        self.heard_at = self._loop.time()

    def watch(self) -> None:
        """Somebody waits: see that the timer runs."""
        if self._timer is None and self._paused_at is None:
            self._check()

    def rush(self) -> None:
        """The silence allowed is shorter than it was: look at it now."""
        self._cancel()
        self.watch()

    def pause(self) -> None:
        """We do not listen for a while."""
        if self._paused_at is None:
            self._paused_at = self._loop.time()
            self._cancel()

    def resume(self) -> None:
        """We listen again; silence counts from now."""
        if self._paused_at is not None:
            self.hear()
            self._paused_before += self.heard_at - self._paused_at
            self._paused_at = None
            self.watch()

    def stop(self) -> None:
        """It is over; the pause that may last ends here."""
        self._cancel()
        self._paused_before = self.paused_seconds
        self._paused_at = None

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._is_last_look = False

    def _check(self) -> None:
        self._timer = None
        is_last_look, self._is_last_look = self._is_last_look, False
        silence_allowed = self._allowed()
        if silence_allowed is None:
            return
        left, left_in_all = silence_allowed - (self._loop.time() - self.heard_at), self._seconds_left()
        if left > 0 and left_in_all > 0:
            self._timer = self._loop.call_later(min(left, left_in_all, self._shortest), self._check)
        elif not is_last_look:
            # The loop may have been blocked for long, with the server's answer waiting in the socket.
            self._is_last_look = True
            self._timer = self._loop.call_later(LAST_LOOK_SECONDS, self._check)
        else:
            self._expired(silence_allowed if left <= 0 else None)
