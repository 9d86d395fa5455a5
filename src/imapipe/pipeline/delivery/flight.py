"""A flight: the messages that one batch brought, from the wire to the moment when nobody needs them any more.

The data plane delivers messages into the inbox of the run, from there they go to a consumer, who says what became
of each (its outcome) and when its bytes may go (its release). A flight has landed when every message of it that was
delivered is released; only then does the batch return through the middleware.

Invariants:

- The bytes of a message are held until it is released, and released exactly once.
- A message that is delivered and gets no outcome (the run is cancelled) is not in the ledger: it is not acknowledged.
- What is gathered for whole batches, or parked until the rest of it comes, never keeps a connection from being read
  for good: together it is at most half of what may be held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from imapipe.models.batch import Failure
from imapipe.models.message import Message
from imapipe.net.connection import Connection
from imapipe.net.holdings import MAX_FILES
from imapipe.pipeline.delivery.inbox import Inbox
from imapipe.pipeline.ledger import Ledger


class Gathering:
    """What the flights of one connection have gathered and not given out yet.

    Reading stops when much is held, and only what was given out can be released. So no more than half of what may be
    held is ever gathered: then reading goes on once the consumer has done with the rest.
    """

    __slots__ = (
        "_connection",
        "_max_held_bytes",
        "_max_spooled_bytes",
        "held_bytes",
        "spooled_bytes",
        "spooled_files",
    )

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._max_held_bytes = connection.max_held_bytes // 2
        self._max_spooled_bytes = connection.max_spool_bytes // 2
        self.held_bytes = 0
        self.spooled_bytes = 0
        self.spooled_files = 0

    def add(self, messages: Iterable[Message], sign: int = 1) -> None:
        """Count messages in, or out with -1."""
        for message in messages:
            self.held_bytes += sign * (message.wire_size - message.spooled_size)
            self.spooled_bytes += sign * message.spooled_size
            self.spooled_files += sign * message.spooled_files

    @property
    def is_full(self) -> bool:
        """Whether something must be given out."""
        held = self.held_bytes + self._connection.parked_bytes
        return (
            held > self._max_held_bytes
            or self.spooled_bytes > self._max_spooled_bytes
            or self.spooled_files > MAX_FILES // 2
        )


class Flight:
    """Counts the messages of one batch until all of them are released (a `Carrier`).

    Attributes:
        failed: What failed: messages whose handler raised, and those that could not be had.
    """

    __slots__ = (
        "_connection",
        "_gathered",
        "_gathering",
        "_held",
        "_inbox",
        "_landed",
        "_ledger",
        "_parked",
        "_release",
        "failed",
    )

    def __init__(self, inbox: Inbox, ledger: Ledger) -> None:
        self._connection: Connection | None = None
        self._release: Callable[[Message], None] = _released_already
        self._inbox = inbox
        self._ledger = ledger
        self._gathered: list[Message] = []
        self._gathering: Gathering | None = None
        self._held = 0
        self._parked: dict[int, Message] = {}
        self._landed: asyncio.Future[None] | None = None
        self.failed: dict[int, Failure] = {}

    def board(self, connection: Connection, gathering: Gathering | None) -> None:
        """Take messages from this connection from now on; those of another one have been released.

        Args:
            connection: Where their bytes are held.
            gathering: Where messages are to be given out in whole batches.
        """
        self._connection = connection
        self._release = connection.release
        self._gathering = gathering

    def deliver(self, messages: list[Message]) -> None:
        """Take messages from the data plane."""
        self._held += len(messages)
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

    def park(self, message: Message) -> bool:
        """Keep a message until more of it has come; False, and its bytes are released, where too much is kept."""
        connection = self._connection
        assert connection is not None
        if message.spooled_size or not self._has_room(connection, message):
            self.hand_over()
            if message.spooled_size or not self._has_room(connection, message):
                connection.release(message)
                return False
        connection.parked_bytes += message.wire_size
        self._parked[message.uid] = message
        return True

    def parked(self, uid: int) -> Message | None:
        """What is kept of a message of which more is to come."""
        return self._parked.get(uid)

    def take_parked(self, uid: int) -> Message | None:
        """A message of which more has come: whoever takes it delivers it, or releases its bytes."""
        message = self._parked.pop(uid, None)
        if message is not None and self._connection is not None:
            self._connection.parked_bytes -= message.wire_size
        return message

    def drop_parked(self) -> None:
        """Nothing more will come of what is parked."""
        for uid in tuple(self._parked):
            message = self.take_parked(uid)
            if message is not None and self._connection is not None:
                self._connection.release(message)

    def _has_room(self, connection: Connection, message: Message) -> bool:
        gathered = self._gathering.held_bytes if self._gathering is not None else 0
        return gathered + connection.parked_bytes + message.wire_size <= connection.max_held_bytes // 2

    def settle(self, message: Message) -> None:
        """Its handler returned, or its consumer asked for the next one."""
        self._ledger.settle(message.uid)

    def fail(self, message: Message, failure: Failure) -> None:
        """Its handler raised, or its consumer said so."""
        self.failed[message.uid] = failure
        self._ledger.fail(failure)

    def release(self, message: Message) -> None:
        """Nobody needs its bytes any more."""
        self._release(message)
        self._held -= 1
        if not self._held:
            self._land()

    def finish(self, message: Message) -> None:
        """Its handler returned: `settle` and `release`, without a call of each for each message."""
        self._ledger.settle(message.uid)
        self._release(message)
        self._held -= 1
        if not self._held:
            self._land()

    def abandon(self, message: Message) -> None:
        """Nobody has handled it, and nobody will."""
        message.discard()
        self.release(message)

    def forget(self) -> None:
        """The call was cancelled: abandon what nobody works on."""
        self.drop_parked()
        if self._gathering is not None:
            self._gathering.add(self._gathered, -1)
        gathered, self._gathered = self._gathered, []
        for message in gathered:
            self.abandon(message)
        self._inbox.forget(self)

    def could_not_have(self, failure: Failure) -> None:
        """A message cannot be had: the server sends nothing usable for it."""
        self.failed[failure.uid] = failure
        self._ledger.fail(failure)

    @property
    def is_holding(self) -> bool:
        """Whether some of its messages are not released."""
        return self._held > 0 or bool(self._parked)

    async def landed(self) -> None:
        """Wait until every message delivered so far is released."""
        if self._held:
            self._landed = asyncio.get_running_loop().create_future()
            await self._landed

    def _land(self) -> None:
        if self._landed is not None and not self._landed.done():
            self._landed.set_result(None)


def _released_already(message: Message) -> None:
    """Before a connection is known, nothing is held by one."""
