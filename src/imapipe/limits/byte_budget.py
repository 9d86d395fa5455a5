"""Byte budget: no more than so many bytes within any 24 hours, over restarts.

Providers lock an account that downloads too much in a day (Gmail: above 2,500 MB, for about a day), and do not say when
their day begins. So the 24 hours roll: what was received counts until it is a whole day old, in steps of an hour.

With a `Checkpoint` around it, what was received is kept there, for the account and not for a mailbox: it is known
again after a restart, for another mailbox of the same checkpoint, and when the checkpoint of a mailbox was deleted
because all was done. Without one it is known to this instance only.

Invariants:

- A batch is let through when it fits into what is left, by the known sizes of its messages or by what messages were
  worth so far. While nothing is known, one batch goes alone. So the budget is passed by no more than the batches under
  way turn out to be larger than thought.
- A batch larger than the whole budget goes alone, when nothing was received for 24 hours.
- What batches under way are thought to bring is written down before they are sent, so that a killed process has
  counted rather too much.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Literal
from weakref import WeakKeyDictionary

from imapipe.errors import CheckpointCorrupt
from imapipe.limits.byte_usage import ByteUsage
from imapipe.middleware.account_notes import AccountNotes
from imapipe.middleware.base import Call, Middleware, Run
from imapipe.middleware.checkpoint import Checkpoint
from imapipe.middleware.served import Served
from imapipe.models.batch import Batch, BatchResult
from imapipe.models.event import Wait

_NOTE: Final = "byte_budget"
# A clock that was set, or a computer that slept, shows after so long at most.
_LONGEST_SLEEP_SECONDS: Final = 60.0
# The weight of the newest batch in what a message is thought to be worth.
_NEWEST: Final = 0.3


class ByteBudget(Middleware):
    """Lets no more than so many bytes of messages through within any 24 hours.

    What counts is the bytes of FETCH responses, after decompression; searches and sizes are not worth counting.

    Args:
        bytes_per_day: The budget of an account. Leave some of what the provider allows to other programs.
        on_exhausted: "wait" until enough of it is free again; "stop" ends the run: what was not tried is `not-tried`
            in its report, and a later run goes on with it.
        clock: Seconds since 1970.
        sleep: What waits.
    """

    def __init__(
        self,
        bytes_per_day: int,
        *,
        on_exhausted: Literal["wait", "stop"] = "wait",
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if bytes_per_day < 1:
            raise ValueError("bytes_per_day must be at least 1")
        if on_exhausted not in ("wait", "stop"):
            raise ValueError(f'on_exhausted is "wait" or "stop", not {on_exhausted!r}')
        self.bytes_per_day = bytes_per_day
        self._stops = on_exhausted == "stop"
        self._clock = clock
        self._sleep = sleep
        self._accounts: dict[str, _Account] = {}
        self._served: Served[_Service] = Served()
        self._latest = _Account()

    @property
    def used_bytes(self) -> int:
        """What was received within the last 24 hours, on the account of the run that began last."""
        now = self._clock()
        self._latest.count(now)
        return self._latest.usage.used(now)

    async def start(self, run: Run) -> None:
        """Recall what was received.

        Raises:
            CheckpointError: The checkpoint cannot be read or written.
        """
        account = self._accounts.setdefault(run.account, _Account())
        checkpoint = next((layer for layer in run.layers if isinstance(layer, Checkpoint)), None)
        notes = await checkpoint.notes() if checkpoint is not None else None
        service = _Service(run, account, notes)
        service.recall(self._clock())
        account.services.append(service)
        self._latest = account
        self._served.begin(run, service)

    async def stop(self) -> None:
        """Write down what was received."""
        service = self._served.end()
        if service is not None:
            service.count(self._clock())
            service.account.services.remove(service)
            service.write_down()

    async def __call__(self, batch: Batch, call_next: Call) -> BatchResult:
        """Let a batch through if it fits; otherwise wait, or give it back untried.

        Raises:
            CheckpointError: What is about to be received could not be written down.
        """
        service = self._served.kept
        if service is None:
            return await call_next(batch)
        price = await self._admit(service, batch)
        if price is None:
            return BatchResult(batch, missing=batch.uids)
        before = service.run.bytes_received
        try:
            result = await call_next(batch)
            service.account.learn(result.bytes_received, len(batch) - len(result.missing))
            return result
        finally:
            if service.account.worth is None:
                # It went alone, and was interrupted: nothing but this is known of it.
                service.account.learn(service.run.bytes_received - before, len(batch))
            service.leave(price, self._clock())

    async def _admit(self, service: _Service, batch: Batch) -> int | None:
        """Wait until the batch fits; gives its price, or None when it is not to be sent."""
        account = service.account
        told = False
        async with account.queue():
            while True:
                now = self._clock()
                account.count(now)
                price = account.price(batch)
                if account.fits(price, now, self.bytes_per_day):
                    service.enter(price or 0)
                    return price or 0
                if account.under_way:
                    # What they really bring is known when they are back.
                    await account.landing()
                    continue
                if self._stops:
                    service.run.give_up(f"the budget of {self.bytes_per_day:,} bytes in 24 hours is used up")
                    return None
                seconds = max(1.0, account.fits_at(price or 0, now, self.bytes_per_day) - now)
                if not told:
                    service.run.events.emit(Wait(type(self).__name__, seconds))
                    told = True
                await self._sleep(min(seconds, _LONGEST_SLEEP_SECONDS))


class _Account:
    """What all runs on one account share.

    Attributes:
        usage: What was received.
        services: Its runs.
        under_way: How many batches were let through and are not back.
        worth: Bytes of a message so far, or None while nothing is known.
    """

    __slots__ = ("_landings", "_queues", "services", "under_way", "usage", "worth")

    def __init__(self) -> None:
        self.usage = ByteUsage()
        self.services: list[_Service] = []
        self.under_way = 0
        self.worth: float | None = None
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
        self._landings: list[asyncio.Future[None]] = []

    def queue(self) -> asyncio.Lock:
        """The queue of the running loop; asyncio's lock is fair."""
        return self._queues.setdefault(asyncio.get_running_loop(), asyncio.Lock())

    def count(self, now: float) -> None:
        """Count what came since the last time."""
        for service in self.services:
            service.count(now)

    def price(self, batch: Batch) -> int | None:
        """What a batch is thought to bring, or None where nothing is known."""
        if batch.size_bytes is not None:
            return batch.size_bytes
        return None if self.worth is None else round(self.worth * len(batch))

    def learn(self, received: int, messages: int) -> None:
        """So many messages brought so many bytes."""
        if received > 0 and messages > 0:
            worth = received / messages
            self.worth = worth if self.worth is None else (1 - _NEWEST) * self.worth + _NEWEST * worth

    def fits(self, price: int | None, now: float, budget: int) -> bool:
        """Whether a batch may go."""
        used = self.usage.used(now)
        if not self.under_way:
            # Alone: also one whose price is unknown, and one that would never fit.
            return used == 0 or used + (price or 1) <= budget
        return price is not None and used + self._reserved + price <= budget

    def fits_at(self, price: int, now: float, budget: int) -> float:
        """When a batch may go, alone."""
        return next((when for when, used in self.usage.steps(now) if not used or used + max(1, price) <= budget), now)

    async def landing(self) -> None:
        """Wait until a batch is back."""
        landing = asyncio.get_running_loop().create_future()
        self._landings.append(landing)
        try:
            await landing
        finally:
            self._landings.remove(landing)

    def landed(self) -> None:
        """A batch is back."""
        for landing in self._landings:
            if not landing.done():
                landing.set_result(None)

    @property
    def _reserved(self) -> int:
        return sum(service.reserved for service in self.services)


class _Service:
    """What is kept for one run.

    Attributes:
        run: The run.
        account: Its account.
        reserved: What its batches under way are thought to bring.
    """

    __slots__ = ("_counted", "_notes", "account", "reserved", "run")

    def __init__(self, run: Run, account: _Account, notes: AccountNotes | None) -> None:
        self.run = run
        self.account = account
        self.reserved = 0
        self._notes = notes
        self._counted = run.bytes_received

    def recall(self, now: float) -> None:
        """Read what was written down."""
        if self._notes is None:
            return
        note = self._notes.get(_NOTE)
        if note is not None:
            try:
                self.account.usage.recall(note, now)
            except ValueError as error:
                raise CheckpointCorrupt(f"its byte budget cannot be read: {error}", path=self._notes.path) from error
        # What may have been under way is counted from here on, once.
        self.write_down()

    def write_down(self) -> None:
        """Keep what was received, and what may come at once."""
        if self._notes is not None:
            self._notes.put(_NOTE, self.account.usage.to_note(self.reserved))

    def count(self, now: float) -> None:
        """Count what came since the last time."""
        received = self.run.bytes_received
        self.account.usage.add(now, received - self._counted)
        self._counted = received

    def enter(self, price: int) -> None:
        """A batch is about to be sent. Raises CheckpointError, and then it is not."""
        self.reserved += price
        try:
            self.write_down()
        except BaseException:
            self.reserved -= price
            raise
        self.account.under_way += 1

    def leave(self, price: int, now: float) -> None:
        """A batch is back, however that went."""
        self.count(now)
        self.reserved -= price
        self.account.under_way -= 1
        self.account.landed()
        self.write_down()
