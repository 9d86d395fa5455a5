"""Rate limit of an account over several processes: the queue of `RateLimit`, before buckets that somebody else keeps.

What may pass is reserved: whoever keeps the buckets (`imapipe.cluster` does, in a database) answers with the time to
wait. So nobody asks again and again, and processes are served in the order in which they ask.

Invariants, for all processes together:

- In any time `t`, no more than `bucket + rate * t` messages (or commands) pass, where a bucket is what 100 ms are worth
  (or one item), or what `burst` says; a batch larger than the bucket passes when its last part has been reserved.
- What is reserved is worth 50 ms, or an item, where so much waits: so reserving costs next to nothing. What a batch
  leaves of it for those behind it is good for 50 ms, and counts as a part of the bucket.
- A turn that is missed, since the process stood still, is given up, and another one reserved. What is reserved and not
  used, by whoever was cancelled or killed, is lost: less passes than may.
- A batch that is through and is not sent within the time in which it flows in (its connection died, its process stood
  still) takes another turn; see `rate_limit`. So a server sees no more at once than the bucket, that batch of each
  process which counts at its end, and one that is late.
- Processes get equal parts of a rate that they all want: each has one reservation at a time, for a part of a batch.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol
from weakref import WeakKeyDictionary

from imapipe.limits.rate_limit import Gate, RateLimit, RateLimitLayer
from imapipe.middleware.base import Layer, Run
from imapipe.models.event import LimitAwaited

_QUANTUM_SECONDS: Final = 0.05
_BUCKET_SECONDS: Final = 2 * _QUANTUM_SECONDS

Listener = Callable[[str, float], None]
"""Called with the reason for which reservations are waited for, and for how many seconds by now."""


class Reservation(NamedTuple):
    """What was reserved.

    Attributes:
        made_at: When, by the clock of the event loop.
        seconds: How long from then on all of it takes to flow in; below 0 where it has been there for so long.
    """

    made_at: float
    seconds: float


class Reservations(Protocol):
    """Who keeps the buckets of accounts, by name."""

    async def reserve(self, account: str, name: str, *, cost_seconds: float, credit_seconds: float) -> Reservation:
        """Reserve what takes so long to flow in.

        Args:
            account: The account.
            name: Which of its buckets.
            cost_seconds: What is reserved, by the time in which it flows in.
            credit_seconds: How much of what flowed in while nobody wanted it may count.

        Raises:
            ImapipeError: Nothing can be reserved, and it was waited long enough.
        """

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Tell a listener, in the running event loop, of what is waited for; the function returned ends that."""


class SharedRateLimit(RateLimit):
    """A `RateLimit` over all processes that reserve from the same place.

    Each account has a rate of its own. All who share one say the same numbers.
    """

    def __init__(
        self,
        reservations: Reservations,
        *,
        commands_per_second: float | None = None,
        messages_per_second: float | None = None,
        bytes_per_second: float | None = None,
        burst: float | None = None,
    ) -> None:
        super().__init__(
            commands_per_second=commands_per_second,
            messages_per_second=messages_per_second,
            bytes_per_second=bytes_per_second,
            burst=burst,
        )
        self._reservations = reservations
        self._by_account: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Gate]] = WeakKeyDictionary()

    async def start(self, run: Run) -> Layer:
        """Let the run's batches through the gate of its account, and tell it what they wait for."""
        return _SharedRateLimitLayer(run, self._gate(run.account), type(self).__name__, self._reservations)

    def _gate(self, account: str) -> Gate:
        gates = self._by_account.setdefault(asyncio.get_running_loop(), {})
        if account not in gates:

            def bucket(name: str, rate: float | None, burst: float | None) -> SharedBucket | None:
                return None if rate is None else SharedBucket(self._reservations, account, name, rate, burst)

            gates[account] = Gate(
                commands=bucket("commands", self.commands_per_second, self.burst),
                messages=bucket("messages", self.messages_per_second, self.burst),
                transfer=bucket("bytes", self.bytes_per_second, None),
            )
        return gates[account]


class _SharedRateLimitLayer(RateLimitLayer):
    def __init__(self, run: Run, gate: Gate, limit: str, reservations: Reservations) -> None:
        super().__init__(run, gate, limit)
        self._unsubscribe = reservations.subscribe(
            lambda reason, seconds: run.events.emit(LimitAwaited("rate", reason, seconds))
        )

    async def stop(self) -> None:
        """Listen no more."""
        self._unsubscribe()


class SharedBucket:
    """One bucket of one account, as a process sees it (a `limits.rate_limit.Bucket`).

    Attributes:
        part: What is paid at once at most.
        rate: What flows in within a second.
    """

    __slots__ = (
        "_account",
        "_behind",
        "_credit",
        "_good_until",
        "_left",
        "_name",
        "_reservations",
        "_size",
        "part",
        "rate",
    )

    def __init__(
        self, reservations: Reservations, account: str, name: str, rate: float, burst: float | None = None
    ) -> None:
        self._reservations = reservations
        self._account = account
        self._name = name
        self.rate = rate
        self._size = max(1.0, rate * _BUCKET_SECONDS)
        if burst is not None:
            # What flows in during a second comes on top of what is in the bucket.
            self._size = min(burst, max(self._size, burst - rate))
        self.part = max(1.0, min(rate * _QUANTUM_SECONDS, self._size / 2))
        self._behind = 0.0
        self._credit = 0.0
        self._left = 0.0
        self._good_until = -math.inf

    def turn(self, now: float, *, idle_since: float, behind: float) -> None:
        """The next batch has its turn; what flowed in before it is known elsewhere."""
        self._behind = behind

    def passed(self) -> None:
        """Nothing: what flows in is counted elsewhere."""

    def credit(self, amount: float) -> float:
        """Nothing is credited here: where it is reserved, what flowed in for nobody counts for a large amount."""
        self._credit = max(0.0, amount - self._size)
        return 0.0

    async def take(self, amount: float) -> None:
        """Pay an amount in equal parts."""
        self.credit(amount)
        parts = math.ceil(amount / self.part)
        for _ in range(parts):
            await self.pay(amount / parts)

    async def pay(self, part: float) -> None:
        """Wait until there is room for a part. Cancelled meanwhile, what was reserved is lost."""
        loop = asyncio.get_running_loop()
        if loop.time() > self._good_until:
            self._left = 0.0
        if self._left >= part:
            self._left -= part
            return
        needed = part - self._left
        reserved = max(needed, min(self.part, needed + self._behind))
        may_miss = True
        while True:
            reservation = await self._reservations.reserve(
                self._account,
                self._name,
                cost_seconds=reserved / self.rate,
                credit_seconds=self._credit / self.rate,
            )
            due = reservation.made_at + max(0.0, reservation.seconds - self._tolerance_seconds)
            await asyncio.sleep(due - loop.time())
            # A loop that is late again and again is busy: it did not stand still.
            if loop.time() - due <= _QUANTUM_SECONDS or not may_miss:
                break
            may_miss = False
        self._credit = max(0.0, self._credit - reserved)
        self._left, self._good_until = reserved - needed, due + _QUANTUM_SECONDS

    @property
    def _tolerance_seconds(self) -> float:
        """How far ahead of the flow may be gone: the bucket, without what may be left of a reservation."""
        return (self._size - (self.part if self.part > 1.0 else 0.0)) / self.rate
