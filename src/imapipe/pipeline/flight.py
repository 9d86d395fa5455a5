"""A flight: the messages that one batch brought, from the wire to their outcomes.

The data plane delivers messages into the inbox of the run, from there they go to the handlers (or to whoever
iterates), and each of them is settled exactly once. A flight has landed when every message of it that was
delivered is settled; only then does the batch return through the middleware.

Invariants:

- The bytes of a message are held until it is settled, and released exactly once.
- A message that is delivered and never settled (the run is cancelled) is not in the ledger: it is not acknowledged.
- What is gathered for whole batches never keeps a connection from being read for good.
- An inbox that discards gives out nothing any more, so nobody works on what can no longer be acknowledged.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from imapipe.models.batch import Failure
from imapipe.models.message import Message
from imapipe.net.connection import Connection
from imapipe.net.dataplane import Dataplane
from imapipe.pipeline.ledger import Ledger

Delivery = tuple["Flight", Message]


class Inbox:
    """Messages that wait for a handler, in the order in which they came.

    Attributes:
        items: The queue; consumers take from its left side.
        delivered: How many messages came so far.
    """

    __slots__ = ("_closed", "_discards", "_waiters", "delivered", "items")

    def __init__(self) -> None:
        self.items: deque[Delivery] = deque()
        self.delivered = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._closed = False
        self._discards = False

    def put(self, flight: Flight, messages: list[Message]) -> None:
        """Add messages and wake as many consumers as they can keep busy."""
        self.delivered += len(messages)
        if self._discards:
            return
        self.items.extend([(flight, message) for message in messages])
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

    def forget(self, flight: Flight) -> None:
        """Give out no more of a flight that was cancelled."""
        kept = [delivery for delivery in self.items if delivery[0] is not flight]
        self.items.clear()
        self.items.extend(kept)

    def close(self) -> None:
        """Nothing will come any more."""
        self._closed = True
        self._wake(len(self._waiters))

    def discard(self) -> None:
        """Nothing more is to be given out, whatever is there or comes."""
        self._discards = True
        self.items.clear()
        self.close()

    def _wake(self, count: int) -> None:
        while count > 0 and self._waiters:
            waiter = self._waiters.popleft()
            # One that was cancelled in this very moment cannot take anything.
            if not waiter.done():
                waiter.set_result(None)
                count -= 1


class Gathering:
    """What the flights of one connection have gathered and not given out yet.

    Reading stops when much is held, and only what was given out can be released. So no more than half of what may be
    held is ever gathered: then reading goes on once the consumer has done with the rest.
    """

    __slots__ = ("_max_held_bytes", "_max_spooled_bytes", "held_bytes", "spooled_bytes")

    def __init__(self, connection: Connection) -> None:
        arrivals = connection.plane.arrivals
        self._max_held_bytes = arrivals.max_held_bytes // 2
        self._max_spooled_bytes = arrivals.max_spool_bytes // 2
        self.held_bytes = 0
        self.spooled_bytes = 0

    def add(self, messages: Iterable[Message], sign: int = 1) -> None:
        """Count messages in, or out with -1."""
        for message in messages:
            self.held_bytes += sign * (message.wire_size - message.spooled_size)
            self.spooled_bytes += sign * message.spooled_size

    @property
    def is_full(self) -> bool:
        """Whether something must be given out."""
        return self.held_bytes > self._max_held_bytes or self.spooled_bytes > self._max_spooled_bytes


class Flight:
    """Counts the messages of one batch until all of them are settled.

    Attributes:
        failed: What failed: messages whose handler raised, and those that could not be had.
    """

    __slots__ = ("_gathered", "_gathering", "_inbox", "_landed", "_ledger", "_plane", "_unsettled", "failed")

    def __init__(self, inbox: Inbox, ledger: Ledger) -> None:
        self._plane: Dataplane | None = None
        self._inbox = inbox
        self._ledger = ledger
        self._gathered: list[Message] = []
        self._gathering: Gathering | None = None
        self._unsettled = 0
        self._landed: asyncio.Future[None] | None = None
        self.failed: dict[int, Failure] = {}

    def board(self, connection: Connection, gathering: Gathering | None) -> None:
        """Take messages from this connection from now on; those of another one have been settled.

        Args:
            connection: Where their bytes are held.
            gathering: Where messages are to be given out in whole batches.
        """
        self._plane = connection.plane
        self._gathering = gathering

    def deliver(self, messages: list[Message]) -> None:
        """Take messages from the data plane."""
        self._unsettled += len(messages)
        gathering = self._gathering
        if gathering is None:
            self._inbox.put(self, messages)
            return
        gathering.add(messages)
        self._gathered += messages
        if gathering.is_full:
            self.hand_over()

    def hand_over(self) -> None:
        """Give out what was gathered, because the batch is whole or because too much was."""
        if self._gathering is not None and self._gathered:
            self._gathering.add(self._gathered, -1)
            gathered, self._gathered = self._gathered, []
            self._inbox.put(self, gathered)

    def settle(self, message: Message) -> None:
        """Its handler returned, or its consumer asked for the next one."""
        self._ledger.settle(message.uid)
        self._release(message)

    def fail(self, message: Message, failure: Failure) -> None:
        """Its handler raised."""
        self.failed[message.uid] = failure
        self._ledger.fail(failure)
        self._release(message)

    def leave(self, message: Message) -> None:
        """Nobody handles it, because the run has given up: it gets no outcome here."""
        self._release(message)

    def could_not_have(self, failure: Failure) -> None:
        """A message cannot be had: the server sends nothing usable for it."""
        self.failed[failure.uid] = failure
        self._ledger.fail(failure)

    async def landed(self) -> None:
        """Wait until every message delivered so far is settled."""
        if self._unsettled:
            self._landed = asyncio.get_running_loop().create_future()
            await self._landed

    def _release(self, message: Message) -> None:
        if self._plane is not None:
            self._plane.release(message.wire_size, message.spooled_size)
        self._unsettled -= 1
        if not self._unsettled and self._landed is not None and not self._landed.done():
            self._landed.set_result(None)
