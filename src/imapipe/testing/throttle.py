"""A hidden limit of the rate, the way providers throttle."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

ThrottleStyle = Literal["limit", "exchange", "gmail"]


@dataclass(slots=True)
class Throttle:
    """Answers NO while an account is above a rate it was not told.

    A token bucket per rate, shared by all connections. A command that finds its bucket empty is refused
    after ``sleep_seconds``; with ``penalty_seconds`` everything is refused for that long afterwards.

    Args:
        commands_per_second: Commands after login, or None for no limit.
        messages_per_second: Messages named by FETCH, STORE, COPY and MOVE, or None.
        burst_seconds: How many seconds' worth of tokens a full bucket holds.
        style: Whose words: ``limit`` (Yahoo: ``NO [LIMIT]``), ``exchange`` (``BAD`` with a Suggested Backoff
            Time) or ``gmail`` (``NO [OVERQUOTA]``).
        penalty_seconds: How long a refusal lasts at least.
        sleep_seconds: How long a refused client waits for its answer.
        backoff_milliseconds: The number in Exchange's text.
        commands: Names it applies to; empty for all but NOOP, LOGOUT and CAPABILITY.
        clock: Source of seconds.

    Attributes:
        refused: How many commands it refused.
        passed: How many it let through.
        messages: How many messages it let through.
    """

    commands_per_second: float | None = None
    messages_per_second: float | None = None
    burst_seconds: float = 1.0
    style: ThrottleStyle = "limit"
    penalty_seconds: float = 0.0
    sleep_seconds: float = 0.0
    backoff_milliseconds: int = 1000
    commands: frozenset[str] = frozenset()
    clock: Callable[[], float] = time.monotonic
    refused: int = field(default=0, init=False)
    passed: int = field(default=0, init=False)
    messages: int = field(default=0, init=False)
    _command_tokens: float = field(default=0.0, init=False)
    _message_tokens: float = field(default=0.0, init=False)
    _filled_at: float | None = field(default=None, init=False)
    _refuse_until: float = field(default=0.0, init=False)

    def applies_to(self, name: str) -> bool:
        """Whether commands of that name are counted."""
        if self.commands:
            return name in self.commands
        return name not in ("NOOP", "LOGOUT", "CAPABILITY", "LOGIN", "AUTHENTICATE", "STARTTLS", "ID")

    def admit_command(self) -> bool:
        """Pay for a command; False when it shall be refused."""
        return self._admit(1, 0)

    def admit_messages(self, count: int) -> bool:
        """Pay for messages; False when the command shall be refused.

        A command larger than the whole bucket passes when the bucket is full and leaves it in debt.
        """
        return self._admit(0, count)

    def reply(self) -> tuple[str, str, str]:
        """Status, response code and text of a refusal."""
        if self.style == "exchange":
            return "BAD", "", f"Request is throttled. Suggested Backoff Time: {self.backoff_milliseconds} milliseconds"
        if self.style == "gmail":
            return "NO", "OVERQUOTA", "Account exceeded command or bandwidth limits."
        return "NO", "LIMIT", "Rate limit hit."

    def _admit(self, commands: int, messages: int) -> bool:
        now = self.clock()
        self._fill(now)
        admitted = now >= self._refuse_until
        if admitted and commands and self.commands_per_second is not None:
            admitted = self._command_tokens >= 1
        if admitted and messages and self.messages_per_second is not None:
            capacity = self.messages_per_second * self.burst_seconds
            admitted = self._message_tokens >= min(messages, capacity) - 1e-9
        if not admitted:
            self.refused += 1
            self._refuse_until = max(self._refuse_until, now + self.penalty_seconds)
            return False
        self._command_tokens -= commands
        self._message_tokens -= messages
        self.passed += commands
        self.messages += messages
        return True

    def _fill(self, now: float) -> None:
        elapsed = float("inf") if self._filled_at is None else max(now - self._filled_at, 0.0)
        self._filled_at = now
        self._command_tokens = self._filled(self._command_tokens, self.commands_per_second, elapsed)
        self._message_tokens = self._filled(self._message_tokens, self.messages_per_second, elapsed)

    def _filled(self, tokens: float, rate: float | None, elapsed: float) -> float:
        if rate is None or not rate:
            return 0.0
        return min(max(rate * self.burst_seconds, 1.0), tokens + elapsed * rate)
