"""Rate limit: commands, messages and bytes per second, over all connections of a run.

Built on the leaky bucket of aiolimiter, and around what it does not promise (all of this was measured):

- A bucket of one second's worth lets twice the rate through in its first second. So a bucket here holds what 50 ms
  are worth (or one item), and more only as far as `burst` says.
- A bucket of one item loses the lateness of every timer: 6 % of the rate at 200/s, half of it at 2,000/s. So where
  50 ms are worth more than an item, what is asked for is asked in halves of the bucket: the other half keeps what a
  timer that comes late would lose.
- A large amount starves behind small ones. So there is one queue before all buckets, first come, first served.
- An amount above the size of a bucket is refused. So amounts are cut into equal parts.
- A bucket forgets what flowed in while it was empty. So a large batch is credited what flowed in while the one
  before it was at work, or while this one waited at another bucket: nothing is slept on top of the work.
- A bucket belongs to one event loop. So each loop has its own.

Invariants:

- In any time `t`, no more than `bucket + rate * t` messages (or commands) pass, and no more than `burst` in any
  second where `burst` is above the rate by more than the bucket; a batch larger than the bucket passes when its last
  part has been paid for, so such a batch is counted at its end.
- A waiter that is cancelled leaves no room that others could use at once, and none that nobody can use: what it put
  into a bucket leaks out like everything else.
- A turn is for now: a batch that does not come to be sent within the time in which it flows in (its connection died, or
  the process stood still) takes another one. So what is sent lags behind what passes by no more than a batch.
- Bytes are paid in advance by the known size of a batch, or by what messages were worth so far; what that was wrong
  by is owed, or credited, by the next batch. While nothing is known, one batch goes alone.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final, Protocol
from weakref import WeakKeyDictionary

from imapipe.limits.waiting import tell_wait
from imapipe.limits.worth import Worth
from imapipe.middleware.base import Call, Layer, Limit, Run
from imapipe.models.argument import check_number
from imapipe.models.batch import Batch, BatchInterrupted, BatchResult

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

_BUCKET_SECONDS: Final = 0.05


class RateLimit(Limit):
    """Holds batches back so that no more than so much passes per second.

    Args:
        commands_per_second: FETCH commands.
        messages_per_second: Messages asked for.
        bytes_per_second: Bytes of FETCH responses, after decompression.
        burst: How many messages (and commands) may pass within a second after a pause. Without it, or where it is
            below the rate, the rate is kept from the first moment. Worth less than 50 ms it costs accuracy.

    A limit is shared by all runs of one event loop that use this instance.
    """

    stands_around_changes = True

    def __init__(
        self,
        *,
        commands_per_second: float | None = None,
        messages_per_second: float | None = None,
        bytes_per_second: float | None = None,
        burst: float | None = None,
    ) -> None:
        rates = {
            "commands_per_second": commands_per_second,
            "messages_per_second": messages_per_second,
            "bytes_per_second": bytes_per_second,
        }
        for name, value in {**rates, "burst": burst}.items():
            if value is not None:
                check_number(name, value)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be above 0 and finite, not {value!r}")
        if all(rate is None for rate in rates.values()):
            raise ValueError(f"a RateLimit needs a rate: {'=, '.join(rates)}=")
        if burst is not None and burst < 1:
            raise ValueError("burst must be at least 1")
        self.commands_per_second = commands_per_second
        self.messages_per_second = messages_per_second
        self.bytes_per_second = bytes_per_second
        self.burst = burst
        self._gates: WeakKeyDictionary[asyncio.AbstractEventLoop, Gate] = WeakKeyDictionary()

    async def start(self, run: Run) -> Layer:
        """Let the run's batches through the gate that all runs of this event loop share."""
        return RateLimitLayer(run, self._gate(run.account), type(self).__name__)

    def _gate(self, account: str) -> Gate:
        """The gate for runs on an account: here one for all accounts."""
        loop = asyncio.get_running_loop()
        gate = self._gates.get(loop)
        if gate is None:
            gate = self._gates[loop] = Gate(
                commands=_bucket(self.commands_per_second, self.burst),
                messages=_bucket(self.messages_per_second, self.burst),
                transfer=_bucket(self.bytes_per_second, None),
            )
        return gate


class RateLimitLayer(Layer):
    """Sends the batches of one run through the shared gate, and tells the run of its waits."""

    def __init__(self, run: Run, gate: Gate, limit: str) -> None:
        self._run = run
        self._gate = gate
        self._limit = limit
        self._tickets: dict[int, _Ticket] = {}

    async def __call__(self, batch: Batch, call_next: Call) -> BatchResult:
        """Let a batch through when its turn has come. Cancelled while it waits, it has had no turn."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        ticket = self._tickets[batch.number] = await self._gate.enter(batch)
        tell_wait(self._run, self._limit, loop.time() - began)
        received: int | None = None
        try:
            result = await call_next(batch)
            received = result.bytes_received
            return result
        except BatchInterrupted as interrupted:
            received = interrupted.result.bytes_received
            raise
        finally:
            self._tickets.pop(batch.number, None)
            self._gate.leave(ticket, received)

    async def renew(self, batch: Batch) -> None:
        """See `middleware.base.GivesTurns`."""
        ticket = self._tickets.get(batch.number)
        if ticket is not None:
            loop = asyncio.get_running_loop()
            began = loop.time()
            await self._gate.renew(ticket)
            tell_wait(self._run, self._limit, loop.time() - began)


class _Ticket:
    """A batch that is through the gate: its messages, the bytes it has paid for, and how long its turn is good."""

    __slots__ = ("alone", "good_until", "messages", "paid")

    def __init__(self, messages: int, paid: float, *, alone: bool) -> None:
        self.messages = messages
        self.paid = paid
        self.alone = alone
        self.good_until = math.inf


class Bucket(Protocol):
    """One limit, for whoever has the turn."""

    @property
    def part(self) -> float:
        """What is paid at once at most."""

    @property
    def rate(self) -> float:
        """What flows in within a second."""

    def turn(self, now: float, *, idle_since: float, behind: float) -> None:
        """The next batch has its turn.

        Args:
            now: The time.
            idle_since: Since when nobody wanted anything; that time does not count.
            behind: What those want who wait behind it.
        """

    def passed(self) -> None:
        """The batch that had the turn is let through."""

    def credit(self, amount: float) -> float:
        """How much of an amount need not be paid, since it flowed in while the batch before it was at work."""

    async def take(self, amount: float) -> None:
        """Pay an amount in equal parts, less what is credited."""

    async def pay(self, part: float) -> None:
        """Wait until there is room for a part."""


class Gate:
    """Limits, and the queue before them."""

    __slots__ = (
        "_at_work",
        "_behind",
        "_commands",
        "_idle_since",
        "_known",
        "_messages",
        "_owed",
        "_queue",
        "_transfer",
        "_worth",
    )

    def __init__(self, *, commands: Bucket | None, messages: Bucket | None, transfer: Bucket | None) -> None:
        self._commands = commands
        self._messages = messages
        self._transfer = transfer
        # asyncio's lock is fair: it wakes waiters in the order in which they came.
        self._queue = asyncio.Lock()
        self._owed = 0.0
        self._worth = Worth()
        self._known = asyncio.Event()
        self._known.set()
        self._at_work = 0
        # Batches that wait for their turn, and messages in them.
        self._behind = [0, 0]
        self._idle_since = -math.inf

    async def enter(self, batch: Batch) -> _Ticket:
        """Wait for the batch's turn and pay for it."""
        self._count_behind(batch, 1)
        try:
            await self._queue.acquire()
        finally:
            self._count_behind(batch, -1)
        try:
            return await self._pay(batch)
        finally:
            self._queue.release()

    def _count_behind(self, batch: Batch, sign: int) -> None:
        self._behind[0] += sign
        self._behind[1] += sign * len(batch)

    async def _pay(self, batch: Batch) -> _Ticket:
        now = asyncio.get_running_loop().time()
        limits = ((self._transfer, 0), (self._messages, self._behind[1]), (self._commands, self._behind[0]))
        buckets = [bucket for bucket, _ in limits if bucket is not None]
        for bucket, behind in limits:
            if bucket is not None:
                bucket.turn(now, idle_since=now if self._at_work else self._idle_since, behind=behind)
        ticket = await self._pay_bytes(batch)
        try:
            if self._messages is not None:
                await self._messages.take(len(batch))
            if self._commands is not None:
                await self._commands.take(1)
        except BaseException:
            self._settle(ticket, None)
            raise
        for bucket in buckets:
            bucket.passed()
        self._at_work += 1
        self._stamp(ticket)
        return ticket

    async def renew(self, ticket: _Ticket) -> None:
        """Pay once more for a batch that is through the gate and was not sent while its turn was good.

        What it paid before has flowed by for nobody. Else batches that wait behind the gate for a connection would all
        go at once when there is one.
        """
        loop = asyncio.get_running_loop()
        if loop.time() <= ticket.good_until:
            return
        async with self._queue:
            for bucket, amount in self._prices(ticket):
                bucket.turn(loop.time(), idle_since=loop.time(), behind=0)
                await bucket.take(amount)
                bucket.passed()
        self._stamp(ticket)

    def _stamp(self, ticket: _Ticket) -> None:
        # By the slowest: no more than one batch more comes through it meanwhile.
        seconds = max((amount / bucket.rate for bucket, amount in self._prices(ticket)), default=0.0)
        ticket.good_until = asyncio.get_running_loop().time() + max(_BUCKET_SECONDS, seconds)

    def _prices(self, ticket: _Ticket) -> list[tuple[Bucket, float]]:
        """What a batch pays where."""
        prices = ((self._transfer, ticket.paid), (self._messages, ticket.messages), (self._commands, 1))
        return [(bucket, amount) for bucket, amount in prices if bucket is not None and amount > 0]

    def leave(self, ticket: _Ticket, received: int | None) -> None:
        """The batch has come back, or has not been sent at all: then `received` is None."""
        self._at_work -= 1
        self._idle_since = asyncio.get_running_loop().time()
        self._settle(ticket, received)

    def _settle(self, ticket: _Ticket, received: int | None) -> None:
        """Owe what the batch paid too little, or have what it paid too much."""
        self._owed += (received or 0) - ticket.paid
        if ticket.alone:
            self._known.set()
        self._worth.learn(received or 0, ticket.messages)

    async def _pay_bytes(self, batch: Batch) -> _Ticket:
        bucket = self._transfer
        if bucket is None:
            return _Ticket(len(batch), 0.0, alone=False)
        # One that went alone may be cancelled or empty: the next one then finds that nothing is known still.
        await self._known.wait()
        alone = self._worth.price(batch) is None
        credit = bucket.credit(self._owed + self._price(batch))
        paid = 0.0
        try:
            # Asked anew after each part: batches that come back meanwhile change what is owed, and the price.
            while (due := self._owed + self._price(batch) - credit - paid) > 0:
                part = min(due, bucket.part)
                await bucket.pay(part)
                paid += part
        except BaseException:
            # What was paid of a debt stays paid; what was paid in advance is no credit for a burst later on.
            self._owed = max(self._owed - paid, min(self._owed, 0.0))
            raise
        price = self._price(batch)
        self._owed += price - credit - paid
        if alone:
            self._known.clear()
        return _Ticket(len(batch), price, alone=alone)

    def _price(self, batch: Batch) -> float:
        return self._worth.price(batch) or 0.0


class _Bucket:
    """One leaky bucket of this process.

    Attributes:
        part: What is paid at once at most.
        rate: What flows in within a second.
    """

    __slots__ = ("_counted_from", "_limiter", "_size", "part", "rate")

    def __init__(self, limiter: AsyncLimiter, *, size: float, rate: float) -> None:
        self._limiter = limiter
        self._size = size
        self.rate = rate
        self._counted_from: float | None = None
        self.part = max(1.0, size / 2)

    def turn(self, now: float, *, idle_since: float, behind: float) -> None:
        """The next batch has its turn; the time in which nobody wanted anything does not count."""
        self._counted_from = now if self._counted_from is None else self._counted_from + max(0.0, now - idle_since)

    def passed(self) -> None:
        """The batch that had the turn is let through."""
        self._counted_from = asyncio.get_running_loop().time()

    def credit(self, amount: float) -> float:
        """How much of an amount flowed in since the last batch passed, beyond what the bucket could hold.

        No more than the part of the amount that does not fit into the bucket, so that small batches gain nothing.
        """
        if self._counted_from is None or amount <= self._size:
            return 0.0
        flowed = (asyncio.get_running_loop().time() - self._counted_from) * self.rate - self._size
        return min(max(0.0, flowed), amount - self._size)

    async def take(self, amount: float) -> None:
        """Pay an amount in equal parts, less what is credited."""
        amount -= self.credit(amount)
        parts = math.ceil(amount / self.part)
        for _ in range(parts):
            await self.pay(amount / parts)

    async def pay(self, part: float) -> None:
        """Wait until the bucket has room for a part."""
        await self._limiter.acquire(part)


def _bucket(rate: float | None, burst: float | None) -> _Bucket | None:
    if rate is None:
        return None
    # Here, not above: `import imapipe` stays quick.
    from aiolimiter import AsyncLimiter  # noqa: PLC0415

    size = max(1.0, rate * _BUCKET_SECONDS)
    if burst is not None:
        # What flows in during a second comes on top of what is in the bucket.
        size = min(burst, max(size, burst - rate))
    return _Bucket(AsyncLimiter(size, size / rate), size=size, rate=rate)
