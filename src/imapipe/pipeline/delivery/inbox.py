"""The inbox of a run: messages between the data plane, which brings them, and consumers, who take them.

Invariants:

- A message that is there and a consumer that waits meet: a wake-up that a cancelled consumer got is passed on.
- An inbox that discards gives out nothing any more, so nobody works on what can no longer be acknowledged.
- What is given to nobody is abandoned: its bytes are held no more, and its temporary files are closed.
- While it is held (`hold`) it gives out nothing, and loses nothing; giving up, or an end, lifts the hold.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol, TypeAlias

from imapipe.models.batch import Failure
from imapipe.models.message import Message


class Carrier(Protocol):
    """Who brought a message, and hears what becomes of it.

    Its outcome and its bytes are two things: each message gets one outcome (`settle`, `fail`, or `await_commit` where a
    group is made safe later), or none where the run has given up; and each is released once, when nobody needs its
    bytes any more, or abandoned, when nobody ever will. The batch returns through the middleware when all of its
    messages are released.
    """

    def settle(self, message: Message) -> None:
        """It is done."""

    def fail(self, message: Message, failure: Failure) -> None:
        """It has failed."""

    def release(self, message: Message) -> None:
        """Its bytes may go."""

    def finish(self, message: Message) -> None:
        """It is done, and its bytes may go: `settle` and `release` in one, for those who come to both at once."""

    def abandon(self, message: Message) -> None:
        """Nobody has handled it, and nobody will: its bytes go now."""


Delivery: TypeAlias = tuple[Carrier, Message]


class Inbox:
    """Messages that wait for a consumer, in the order in which they came.

    Attributes:
        items: The queue; consumers take from its left side. It stays the same object.
        delivered: How many messages came so far.
        has_given_up: Messages that no consumer has begun with are not to be handled any more.
    """

    __slots__ = ("_closed", "_discards", "_held", "_waiters", "delivered", "has_given_up", "items")

    def __init__(self) -> None:
        self.items: deque[Delivery] = deque()
        self.delivered = 0
        self.has_given_up = False
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._held: list[Delivery] | None = None
        self._closed = False
        self._discards = False

    def put(self, carrier: Carrier, messages: list[Message]) -> None:
        """Add messages and wake as many consumers as they can keep busy."""
        self.delivered += len(messages)
        if self._discards:
            for message in messages:
                carrier.abandon(message)
            return
        deliveries = [(carrier, message) for message in messages]
        if self._held is not None:
            self._held += deliveries
            return
        self.items.extend(deliveries)
        self._wake(len(messages))

    async def wait(self) -> bool:
        """Wait until there is something; False when nothing will come any more."""
        while not self.items:
            if self._closed:
                return False
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
                elif self.items:
                    # The wake-up was ours; pass it on, or a message would wait without a consumer.
                    self._wake(1)
                raise
        return True

    def hold(self) -> None:
        """Give out nothing more until `go_on`: consumers finish what they have in hand."""
        if self._held is None and not (self.has_given_up or self._closed):
            self._held = list(self.items)
            self.items.clear()

    def go_on(self) -> None:
        """Give out again what was held, and what comes; harmless when nothing is held."""
        held, self._held = self._held, None
        if held:
            self.items.extend(held)
            self._wake(len(held))

    def give_up(self) -> None:
        """Let no consumer begin with a message any more: who takes one abandons it."""
        self.has_given_up = True
        self.go_on()

    def forget(self, carrier: Carrier) -> None:
        """Give out no more of a call that was cancelled."""
        forgotten = [message for one, message in (*self.items, *(self._held or ())) if one is carrier]
        kept = [delivery for delivery in self.items if delivery[0] is not carrier]
        self.items.clear()
        self.items.extend(kept)
        if self._held is not None:
            self._held = [delivery for delivery in self._held if delivery[0] is not carrier]
        for message in forgotten:
            carrier.abandon(message)

    def close(self) -> None:
        """Nothing will come any more."""
        self._closed = True
        self.go_on()
        self._wake(len(self._waiters))

    def discard(self) -> None:
        """Nothing more is to be given out, whatever is there or comes."""
        self._discards = True
        self.go_on()
        while self.items:
            carrier, message = self.items.popleft()
            carrier.abandon(message)
        self.close()

    def _wake(self, count: int) -> None:
        while count > 0 and self._waiters:
            waiter = self._waiters.popleft()
            # One that was cancelled in this very moment cannot take anything.
            if not waiter.done():
                waiter.set_result(None)
                count -= 1
