"""How many connections of an account there may be at a time, learned from what the server refuses.

Invariants:

- `1 <= value <= maximum`.
- A refusal lowers the value to what works; it grows by one at a time (AIMD), and every refusal in a row doubles
  the time before that, so that a server that means it is not asked again and again.
"""

from __future__ import annotations

REFUSED_PAUSE_SECONDS = 15.0
LONGEST_PAUSE_SECONDS = 600.0
FAILED_PAUSE_SECONDS = 1.0


class ConnectionLimit:
    """The limit, and the pauses in which no connection is opened.

    Attributes:
        maximum: What the pool may hold.
        value: How many connections there may be now.
        refusals: How often the server had too many.
        pause: How long after the next refusal the value grows, in seconds.
        held_until: Until when no connection is opened.
        grows_at: When the value may grow.
    """

    __slots__ = ("grows_at", "held_until", "maximum", "pause", "refusals", "value")

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self.value = maximum
        self.refusals = 0
        self.pause = REFUSED_PAUSE_SECONDS
        self.held_until = 0.0
        self.grows_at = 0.0

    def refuse(self, now: float, working: int) -> None:
        """The server has too many connections of this account; `working` of ours are not refused."""
        self.refusals += 1
        self.value = max(1, min(self.value, working))
        self.held_until = now + REFUSED_PAUSE_SECONDS
        self.grows_at = now + self.pause
        self.pause = min(self.pause * 2, LONGEST_PAUSE_SECONDS)

    def fail(self, now: float) -> None:
        """A connection could not be made for another reason: a moment of peace for the server."""
        self.held_until = max(self.held_until, now + FAILED_PAUSE_SECONDS)

    def succeed(self) -> None:
        """A connection was made."""
        self.pause = REFUSED_PAUSE_SECONDS

    def grow(self, now: float) -> None:
        """Take one connection more, if it is time."""
        if self.value < self.maximum and now >= self.grows_at:
            self.value += 1
            self.grows_at = now + REFUSED_PAUSE_SECONDS

    def opens_at(self, now: float, count: int) -> float | None:
        """When a connection may be opened beside `count` others: now or later; None when it depends on others."""
        if count < self.value:
            return max(now, self.held_until)
        return max(now, self.held_until, self.grows_at) if count < self.maximum and self.value < self.maximum else None
