"""Adaptive rate limit: finds the rate that a server bears, and keeps near it (the law is in `adaptive_rate`).

Signals and what they do:

- A batch was refused as too much (`Throttled`), or the server said so by itself (`Throttle`: in a BYE, or with an OK
  as Gmail does): the rate falls, and where the server names a time, nothing is sent on any connection until then.
- A login was refused for too many connections (`Refusal`), the server said NO or BYE to a batch, or nothing at all:
  the rate falls a little.
- Answers that begin later than `target_seconds`: the rate falls a little, again and again; while they are early it
  may rise.

Invariants:

- Batches are let through in the order in which they came, one after the other, at the rate: after a batch the next one
  waits until the amount of the first is worth it. Up to 50 ms of lateness is made up for, so that timers cost nothing.
  (A bucket of aiolimiter has one rate for all its life.)
- All batches of an account that go through one instance share one rate, whatever run or connection they are of.
- An instance keeps what it learned for the next run on the account in the same event loop.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Final, Literal
from weakref import WeakKeyDictionary

from imapipe.errors import CommandNo, CommandTimeout, ServerBye, Throttled
from imapipe.limits.adaptive_rate import AdaptiveRate, Bounds, Passage
from imapipe.limits.waiting import tell_wait
from imapipe.middleware.base import Call, Layer, Limit, Run
from imapipe.models.argument import check_number
from imapipe.models.batch import Batch, BatchInterrupted, BatchResult
from imapipe.models.event import Event, Refusal, Throttle

_LATENESS_SECONDS: Final = 0.05
_START: Final = {"commands": 5.0, "messages": 500.0}
_MINIMUM_SHARE: Final = 0.02

Unit = Literal["commands", "messages"]


class AdaptiveRateLimit(Limit):
    """Holds batches back as far as the server asks for it, and not more.

    Args:
        start_per_second: The rate to begin with; 5 commands or 500 messages unless said.
        minimum_per_second: The lowest rate; a fiftieth of the start unless said.
        maximum_per_second: The highest rate; none unless said.
        unit: What is counted: "commands" (FETCH commands) or "messages" (messages asked for). For both, use two.
        target_seconds: How soon an answer should begin: below it the rate may rise, above it falls. None looks at
            refusals only.

    An instance may be used by several runs, at the same time or one after the other: those on one account share its
    rate, which outlives them.
    """

    stands_around_changes = True

    def __init__(
        self,
        start_per_second: float | None = None,
        *,
        minimum_per_second: float | None = None,
        maximum_per_second: float | None = None,
        unit: Unit = "commands",
        target_seconds: float | None = 1.0,
    ) -> None:
        if unit not in _START:
            raise ValueError(f'unit is "commands" or "messages", not {unit!r}')
        for name, value in (
            ("start_per_second", start_per_second),
            ("minimum_per_second", minimum_per_second),
            ("maximum_per_second", maximum_per_second),
            ("target_seconds", target_seconds),
        ):
            if value is not None:
                check_number(name, value)
        start = _START[unit] if start_per_second is None else start_per_second
        minimum = _MINIMUM_SHARE * start if minimum_per_second is None else minimum_per_second
        maximum = math.inf if maximum_per_second is None else maximum_per_second
        if not (0 < minimum <= start <= maximum and start < math.inf):
            raise ValueError("0 < minimum_per_second <= start_per_second <= maximum_per_second is needed")
        if target_seconds is not None and not target_seconds > 0:
            raise ValueError("target_seconds must be above 0")
        self.unit: Unit = unit
        self._bounds = Bounds(start, minimum, maximum, target_seconds)
        self._gates: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Gate]] = WeakKeyDictionary()
        self._latest: _Gate | None = None

    @property
    def rate_per_second(self) -> float:
        """The rate now, on the account of the run that began last."""
        return self._bounds.start if self._latest is None else self._latest.rate.per_second

    @property
    def ceiling_per_second(self) -> float | None:
        """What the server was seen to bear, there; None while it never asked for less."""
        return None if self._latest is None else self._latest.rate.ceiling

    async def start(self, run: Run) -> Layer:
        """Let the run's batches through the gate of its account, and listen to what the server says."""
        gate = self._gate(run.account)
        self._latest = gate
        return _AdaptiveRateLimitLayer(run, gate, type(self).__name__, self.unit)

    def _gate(self, account: str) -> _Gate:
        loop = asyncio.get_running_loop()
        gates = self._gates.setdefault(loop, {})
        if account not in gates:
            gates[account] = _Gate(AdaptiveRate(self._bounds, loop.time()), loop)
        return gates[account]


class _AdaptiveRateLimitLayer(Layer):
    """Sends the batches of one run through the gate of its account, which learns from what becomes of them."""

    def __init__(self, run: Run, gate: _Gate, limit: str, unit: Unit) -> None:
        self._run = run
        self._gate = gate
        self._limit = limit
        self._counts_messages = unit == "messages"
        self._turns: dict[int, _Turn] = {}
        self._unsubscribe = run.events.subscribe(gate.hear)

    async def __call__(self, batch: Batch, call_next: Call) -> BatchResult:
        """Let a batch through when its turn has come, and learn from what becomes of it."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        turn = _Turn(await self._gate.enter(len(batch) if self._counts_messages else 1))
        self._turns[batch.number] = turn
        tell_wait(self._run, self._limit, loop.time() - began)
        try:
            result = await call_next(batch)
            self._gate.served(turn.passage, result)
        except BatchInterrupted as interrupted:
            self._gate.interrupted(turn.passage, interrupted.__cause__)
            raise
        finally:
            self._turns.pop(batch.number, None)
        return result

    async def renew(self, batch: Batch) -> None:
        """See `middleware.base.GivesTurns`."""
        turn = self._turns.get(batch.number)
        if turn is not None and self._gate.is_past(turn.passage):
            loop = asyncio.get_running_loop()
            began = loop.time()
            turn.passage = await self._gate.enter(turn.passage.amount)
            tell_wait(self._run, self._limit, loop.time() - began)

    async def stop(self) -> None:
        """Listen no more; what was learned is kept for the next run on the account."""
        self._unsubscribe()


@dataclass(slots=True)
class _Turn:
    """The turn of a batch that is through the gate: the last one, where it took several."""

    passage: Passage


class _Gate:
    """Where the batches of one account wait.

    Attributes:
        rate: The rate at which they are let through.
    """

    __slots__ = ("_due", "_loop", "_queue", "rate")

    def __init__(self, rate: AdaptiveRate, loop: asyncio.AbstractEventLoop) -> None:
        self.rate = rate
        self._loop = loop
        # asyncio's lock is fair: it wakes waiters in the order in which they came.
        self._queue = asyncio.Lock()
        self._due = -math.inf

    async def enter(self, amount: float) -> Passage:
        """Wait for the turn."""
        async with self._queue:
            # Again after each sleep: a pause or a lower rate may have come meanwhile.
            while (wait := self._due - (now := self._loop.time())) > 0:  # noqa: ASYNC110
                await asyncio.sleep(wait)
            is_held = self._due > now - _LATENESS_SECONDS
            passage = self.rate.passed(now, amount, was_held=is_held)
            self._due = max(self._due, now - _LATENESS_SECONDS) + self.rate.interval(amount)
            return passage

    def is_past(self, passage: Passage) -> bool:
        """Whether a turn is longer past than it takes to come; see `limits.rate_limit`."""
        return self._loop.time() > passage.time + max(_LATENESS_SECONDS, self.rate.interval(passage.amount))

    def served(self, passage: Passage, result: BatchResult) -> None:
        """A batch came back."""
        seconds = result.elapsed_seconds if result.reply_seconds is None else result.reply_seconds
        before = self.rate.per_second
        self.rate.served(self._loop.time(), passage, seconds)
        self._slow_down(before)

    def interrupted(self, passage: Passage, cause: BaseException | None) -> None:
        """A batch did not."""
        now, before = self._loop.time(), self.rate.per_second
        match cause:
            case Throttled():
                pause = self.rate.throttled(now, passage)
                self._slow_down(before)
                self._pause(max(pause, cause.retry_after_seconds or 0.0))
            case CommandNo() | ServerBye() | CommandTimeout():
                self.rate.troubled(now, passage)
                self._slow_down(before)
            case _:
                # A network that fails, or a mistake of our own, tells nothing of what the server bears.
                return

    def hear(self, event: Event) -> None:
        """What was said beside the batches; of a refused batch this comes first."""
        now, before = self._loop.time(), self.rate.per_second
        match event:
            case Throttle(source=source, retry_after_seconds=seconds):
                # NO and BAD are answers to commands: those of batches come back as interrupted, and tell more.
                pause = self.rate.throttled(now) if source in ("OK", "BYE") else 0.0
                self._slow_down(before)
                self._pause(max(pause, seconds or 0.0))
            case Refusal():
                self.rate.troubled(now)
                self._slow_down(before)
            case _:
                return

    def _slow_down(self, before: float) -> None:
        """The rate was another one `before`: who waits now waits as long as the new one says."""
        now = self._loop.time()
        if self.rate.per_second < before and self._due > now:
            self._due = now + (self._due - now) * before / self.rate.per_second

    def _pause(self, seconds: float) -> None:
        if seconds > 0:
            now = self._loop.time()
            until = max(self._due, now + seconds)
            self._due = until
            self.rate.paused(now, until)
