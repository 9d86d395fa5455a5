"""How long a server is waited for: its silence, and what it may take in all.

A server that says a word every now and then is never silent, so silence alone would let it hold a command, and a
connection, for as long as it likes. What a command may take in all follows the work: a patience that is the same for
all, more of it where many messages are to be looked at, and time for each byte that comes or goes, at a rate below
which no link is worth waiting for. What is no answer (`* OK wait`, blank lines, news of others) is no work.

Invariants:

- The term begins anew with each tagged reply, and does not run while we ourselves do not read or have nothing to send.
- IDLE lasts for as long as its owner likes; the last moment of a server that said BYE is the same whatever it says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from imapipe.errors import ProtocolError
from imapipe.net.arrivals import Arrivals
from imapipe.net.command import Owner
from imapipe.net.intake import Intake
from imapipe.net.options import PlaneOptions
from imapipe.net.outbox import Outbox
from imapipe.net.watchdog import Watchdog

# How long a server that said BYE may take to answer what is in flight, and to close.
BYE_SECONDS = 5.0

# In all, a server may take so many times what it may be silent for.
PATIENCE = 10

# Searching, copying and storing takes its time for each message; nobody buys more than an hour by counting high.
SECONDS_PER_MESSAGE = 0.01
_MOST_SECONDS_FOR_MESSAGES = 3600.0
_PARTS_SECONDS = 600.0


def looking_seconds(messages: int) -> float:
    """How much longer a server may take that has so many messages to look at."""
    return min(messages * SECONDS_PER_MESSAGE, _MOST_SECONDS_FOR_MESSAGES)


class Term:
    """What a server may take in all that answers a question in parts, and says with each that there is another one.

    Args:
        messages: How many it has to look at.
    """

    __slots__ = ("_ends_at", "_loop")

    def __init__(self, messages: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._ends_at = self._loop.time() + _PARTS_SECONDS + looking_seconds(messages)

    def check(self) -> None:
        """Raise ProtocolError: it is over."""
        if self._loop.time() > self._ends_at:
            raise ProtocolError("the server limits its answers (MESSAGELIMIT) and comes to no end")


class Patience:
    """Says when a server was waited for long enough, by a watchdog of its own.

    Args:
        loop: The event loop.
        options: The bounds.
        owner: Knows how many messages the mailbox holds.
        intake: What comes.
        outbox: What goes, and the commands in flight.
        arrivals: The FETCHes in flight.
        expired: Called with the seconds that were too many, and whether they were seconds of silence.

    Attributes:
        watchdog: The timer.
        idle_bytes: What came and was no work.
    """

    __slots__ = (
        "_arrivals",
        "_bye_until",
        "_expired",
        "_from_bytes",
        "_from_seconds",
        "_intake",
        "_loop",
        "_options",
        "_outbox",
        "_owner",
        "idle_bytes",
        "watchdog",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: PlaneOptions,
        owner: Owner,
        intake: Intake,
        outbox: Outbox,
        arrivals: Arrivals,
        expired: Callable[[float, bool], None],
    ) -> None:
        self._loop = loop
        self._options = options
        self._owner = owner
        self._intake = intake
        self._outbox = outbox
        self._arrivals = arrivals
        self._expired = expired
        shortest = min(options.command_timeout_seconds, options.stall_timeout_seconds, BYE_SECONDS)
        self.watchdog = Watchdog(loop, self._silence_allowed, self._seconds_left, shortest, self._tell)
        self.idle_bytes = 0
        self._from_seconds = 0.0
        self._from_bytes = 0
        self._bye_until: float | None = None

    def begin(self) -> None:
        """A command was sent to a server that had nothing to do, or the one before it has its reply."""
        self._from_seconds = self._now
        self._from_bytes = self._bytes_done

    def ends_idle(self) -> None:
        """What the server was not to answer before, it is to answer now."""
        self.begin()
        self.watchdog.hear()
        self.watchdog.rush()

    def said_goodbye(self) -> None:
        """The server said BYE."""
        self._bye_until = self._now + min(BYE_SECONDS, self._options.stall_timeout_seconds)
        self.watchdog.rush()

    @property
    def _now(self) -> float:
        """The time, without that in which we did not read or had nothing to send."""
        return self._loop.time() - self.watchdog.paused_seconds

    @property
    def _bytes_done(self) -> int:
        """What the server has sent as answers, and taken."""
        return self._intake.bytes_received + self._outbox.sent_bytes - self.idle_bytes - self._intake.blank_bytes

    @property
    def _seconds_allowed(self) -> float:
        """What the server may take in all for the command that it works on."""
        options = self._options
        looking = looking_seconds(self._owner.messages)
        moving = (self._bytes_done - self._from_bytes) / options.minimum_bytes_per_second
        return PATIENCE * options.command_timeout_seconds + looking + moving

    def _seconds_left(self) -> float:
        if self._bye_until is not None:
            return self._bye_until - self._now
        if any(command.is_endless for command in self._outbox.flight.values()):
            return float("inf")
        return self._seconds_allowed - (self._now - self._from_seconds)

    def _silence_allowed(self) -> float | None:
        if self._outbox.is_empty or self._intake.is_aside:
            return None
        own = [c.quiet_seconds for c in self._outbox.flight.values() if c.quiet_seconds is not None]
        if self._intake.is_partial or self._arrivals.has_begun:
            return min([self._options.stall_timeout_seconds, *own])
        return max(own) if own else self._options.command_timeout_seconds

    def _tell(self, silent_seconds: float | None) -> None:
        self._expired(self._seconds_allowed if silent_seconds is None else silent_seconds, silent_seconds is not None)
