"""A rate that finds out what a server bears: the law of `AdaptiveRateLimit`, without any waiting.

Additive increase and multiplicative decrease, made gentle by memory. What is asked for is called an amount: commands
or messages.

- Until the server asks for less for the first time, the rate grows by a quarter each second.
- When it does, the rate at which it just served us is what it bears: the *ceiling*. Servers count in buckets, so what
  passed between one refusal and another, when the bucket was empty both times, is exact. The rate falls a little below
  it, to no less than half of what it was.
- Then it comes back fast, slows down before the ceiling, stays near it, and only then looks for more, slowly at first:
  a cube with its flat part at the ceiling. How long that takes follows the number of commands, so that refusals stay
  rare among them however slow or fast the server is.
- A server that is slow to begin its answers, or says NO for other reasons, asks for less too, with less weight.
- Refusals one after the other are no news of the rate: then there is a pause, twice as long each time, and how long it
  had to be is remembered.

Invariants:

- The rate never leaves `minimum` to `maximum`.
- It grows only with what passes while the limit is what holds batches back, and by no more than a quarter for each
  second or command.
- What was sent before a reaction causes no second one: it tells of the old rate.
- Slowness lowers the rate to no less than one command at a time: less would leave the server idle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from imapipe.limits.worth import smoothed

GENTLE: Final = 0.85
_UNINFORMED: Final = 0.6
_STRONGEST: Final = 0.5
_MILD: Final = 0.95
_GROWTH_PER_SECOND: Final = 1.25
# How long the rate takes to come back to the ceiling: the longer of the two.
_RETURN_SECONDS: Final = 20.0
_RETURN_COMMANDS: Final = 100
_PROBING_SHARE: Final = 0.1
_FAR_BEYOND: Final = 1.3
_RECENT_SECONDS: Final = 2.0
# A rate is known from so many commands.
_ENOUGH_COMMANDS: Final = 20
_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 60.0
_LAST_PAUSE_SHARE: Final = 0.75
_BUCKET_SECONDS: Final = 1.0
_SHORTEST_REACTION_SECONDS: Final = 0.5
_LONGEST_REACTION_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the user says of a rate, per second."""

    start: float
    minimum: float
    maximum: float
    target_seconds: float | None


@dataclass(frozen=True, slots=True)
class Passage:
    """A command that was let through: when, how much it asks for, and how much had passed before it."""

    time: float
    amount: float = 0.0
    amount_before: float = 0.0
    commands_before: int = 0

    def rate_until(self, later: Passage, *, at_least_seconds: float = 0.0) -> float | None:
        """What passed per second from here on, or None where that is too little to tell."""
        seconds = later.time - self.time
        enough = later.commands_before - self.commands_before >= _ENOUGH_COMMANDS
        if not enough or seconds <= at_least_seconds:
            return None
        return (later.amount_before - self.amount_before) / seconds


class AdaptiveRate:
    """The rate of one account.

    Attributes:
        per_second: The rate now.
        ceiling: What the server was seen to bear, or None while it never asked for less.
    """

    __slots__ = (
        "_amount",
        "_bounds",
        "_commands",
        "_empty",
        "_floor",
        "_informed",
        "_last_passed",
        "_mean_amount",
        "_older",
        "_pause_seconds",
        "_reacted_at",
        "_recent",
        "_refusal_seconds",
        "_reply_seconds",
        "_row",
        "_since",
        "_turnaround",
        "ceiling",
        "per_second",
    )

    def __init__(self, bounds: Bounds, now: float) -> None:
        self._bounds = bounds
        self.per_second = bounds.start
        self.ceiling: float | None = None
        self._floor = bounds.start
        self._since = 0.0
        self._amount = 0.0
        self._commands = 0
        self._last_passed = now
        self._mean_amount: float | None = None
        # Where it was counted from lately, and when the bucket was last seen to be empty.
        self._recent = self._older = Passage(now)
        self._empty: Passage | None = None
        self._informed = False
        self._reacted_at = -math.inf
        self._row = 0
        self._pause_seconds = 0.0
        self._reply_seconds: float | None = None
        self._turnaround = _SHORTEST_REACTION_SECONDS
        self._refusal_seconds = 0.0

    # -- what happens ----------------------------------------------------------------------------

    def passed(self, now: float, amount: float, *, was_held: bool) -> Passage:
        """A command is let through; `was_held` says that the limit is what holds commands back."""
        elapsed, self._last_passed = now - self._last_passed, now
        passage = Passage(now, amount, self._amount, self._commands)
        self._amount += amount
        self._commands += 1
        if self._recent.rate_until(passage, at_least_seconds=_RECENT_SECONDS) is not None:
            self._older, self._recent = self._recent, passage
        self._mean_amount = smoothed(self._mean_amount, amount)
        if was_held and elapsed > 0:
            self._grow(elapsed)
        return passage

    def served(self, now: float, passage: Passage, reply_seconds: float) -> None:
        """A command was answered, the first byte `reply_seconds` after its turn."""
        self._turned_around(now - passage.time)
        if passage.time < self._reacted_at:
            return
        self._row = 0
        self._reply_seconds = smoothed(self._reply_seconds, reply_seconds)
        if self._is_slow:
            self._ease_off(now, down_to=(self._mean_amount or 1.0) / self._reply_seconds)

    def throttled(self, now: float, passage: Passage | None = None) -> float:
        """The server asks for less; gives the seconds to pause.

        Args:
            now: The time.
            passage: The command to which it said so, or None where it said so by itself.
        """
        if passage is not None:
            self._turned_around(now - passage.time)
            self._refusal_seconds = min(now - passage.time, _LONGEST_REACTION_SECONDS)
            if self._empty is None or passage.time >= self._empty.time:
                # It did not pass after all.
                self._amount -= passage.amount
                self._commands -= 1
        if self._is_old_news(now, passage):
            return 0.0
        self._row += 1
        if self._row == 1 or (self._row == 2 and not self._informed):
            self._fall(passage or Passage(now, 0.0, self._amount, self._commands))
        self._reacted(now)
        if self._row == 1:
            return self._refusal_seconds
        if self._row == 2:
            # A server that shuts the door after a refusal does so for as long as the last time, or less.
            self._pause_seconds = max(_FIRST_PAUSE_SECONDS, _LAST_PAUSE_SHARE * self._pause_seconds)
        else:
            self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)
        return self._pause_seconds

    def interval(self, amount: float) -> float:
        """The seconds that have to pass after an amount before the next is let through."""
        usual = amount / self.per_second
        # After a second refusal in a row the next command goes alone: the others wait for what becomes of it.
        return usual if self._row < 2 else max(usual, 1.5 * self._refusal_seconds)

    def troubled(self, now: float, passage: Passage | None = None) -> None:
        """The server said no, without saying that it was too much."""
        if not self._is_old_news(now, passage):
            self._ease_off(now, down_to=0.0)

    def paused(self, now: float, until: float) -> None:
        """Nothing is let through for a time."""
        self._last_passed = max(self._last_passed, until)
        if until - now > _BUCKET_SECONDS or self._row > 2:
            # A bucket holds about a second's worth: it will be full again, nobody knows since when.
            self._empty = None
            self._recent = self._older = Passage(until, 0.0, self._amount, self._commands)

    # -- the law ---------------------------------------------------------------------------------

    @property
    def _is_slow(self) -> bool:
        target = self._bounds.target_seconds
        return target is not None and self._reply_seconds is not None and self._reply_seconds > target

    def _grow(self, elapsed: float) -> None:
        if self._is_slow:
            return
        most = self.per_second * _GROWTH_PER_SECOND ** min(elapsed, 1.0)
        if self.ceiling is None:
            self._set(most)
            return
        self._since += elapsed
        self._set(min(most, max(self.per_second, self._curve(self.ceiling))))

    def _curve(self, ceiling: float) -> float:
        """The cube: from the floor up to the ceiling, flat there, and beyond."""
        commands_per_second = ceiling / (self._mean_amount or 1.0)
        x = self._since / max(_RETURN_SECONDS, _RETURN_COMMANDS / commands_per_second) - 1.0
        height = ceiling - self._floor if x < 0 else max(ceiling - self._floor, _PROBING_SHARE * ceiling)
        return ceiling + height * x**3

    def _fall(self, here: Passage) -> None:
        """The server refused a command: come down below what it bears."""
        old = self.per_second
        if self._empty is not None and self.ceiling is not None and old <= _FAR_BEYOND * self.ceiling:
            # From empty to empty: exact, unless the bucket was full in between; then it is somewhat more than this.
            bears = self._empty.rate_until(here)
        else:
            bears = self._older.rate_until(here, at_least_seconds=_RECENT_SECONDS / 2)
        self._informed = bears is not None
        if bears is None:
            bears = old
            self._set(_UNINFORMED * old)
            self._empty = self._empty or here
        else:
            bears = min(old, bears)
            self._set(max(_STRONGEST * old, GENTLE * bears))
            self._empty = here
        self.ceiling = max(bears, self.per_second)
        self._floor = self.per_second

    def _ease_off(self, now: float, *, down_to: float) -> None:
        old = self.per_second
        if old > down_to:
            self.ceiling = old if self.ceiling is None else min(self.ceiling, old)
            self._set(max(_MILD * old, down_to))
            self._floor = self.per_second
        self._reacted(now)

    def _reacted(self, now: float) -> None:
        self._reacted_at = now
        self._since = 0.0
        self._reply_seconds = None

    def _is_old_news(self, now: float, passage: Passage | None) -> bool:
        if passage is not None:
            return passage.time < self._reacted_at
        # Said by itself: what was in flight at the last reaction has to be over.
        return now < self._reacted_at + self._turnaround

    def _turned_around(self, seconds: float) -> None:
        mean = smoothed(self._turnaround, seconds)
        self._turnaround = min(max(mean, _SHORTEST_REACTION_SECONDS), _LONGEST_REACTION_SECONDS)

    def _set(self, per_second: float) -> None:
        self.per_second = min(max(per_second, self._bounds.minimum), self._bounds.maximum)
