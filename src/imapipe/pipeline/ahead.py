"""Messages that are asked for in one flight with the mailbox they are in, before it is known that they are wanted.

Where news tells which messages have come, that saves a round trip: EXAMINE and UID FETCH go out together, and the plan
is made while the messages are on their way. A FETCH of the run for the very same messages takes them over.

Invariants:

- Nothing of it reaches anybody before the mailbox was found to be the expected one, with the expected plan.
- What is not taken over is released, and its FETCH is over before another one for any of its UIDs is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import NamedTuple

from imapipe.models.message import Message
from imapipe.net.command import FetchCommand
from imapipe.net.connection import Connection, Deliver
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.response.note import Note
from imapipe.wire.response.response import Tagged
from imapipe.wire.uid_set import UidSet


class Order(NamedTuple):
    """What to ask for ahead.

    Attributes:
        uids: The messages.
        fetch: What of them.
        uidvalidity: UIDVALIDITY as far as is known.
    """

    uids: UidSet
    fetch: Fetch
    uidvalidity: int


class Ahead:
    """What was asked for ahead on a connection.

    Args:
        connection: Where a mailbox is being opened.
        mailbox: Its name.
        order: What to ask for.
        notes: Where it is counted what of the answers is passed over.
    """

    __slots__ = ("_command", "_order", "_ready", "connection")

    def __init__(self, connection: Connection, mailbox: str, order: Order, notes: MutableMapping[Note, int]) -> None:
        self.connection = connection
        self._order = order
        self._ready: list[Message] = []
        self._command = connection.uid_fetch_ahead(
            mailbox, order.uidvalidity, order.uids, order.fetch, self._ready.extend, notes=notes
        )

    def take(self, connection: Connection, uids: UidSet, fetch: Fetch, deliver: Deliver) -> FetchCommand | None:
        """Take it over, with what has come so far; None where it is for something else."""
        command = self._command
        if (
            command is None
            or connection is not self.connection
            or (uids, fetch) != (self._order.uids, self._order.fetch)
        ):
            return None
        self._command = None
        command.deliver = deliver
        if self._ready:
            deliver(self._ready)
        return command

    async def forget(self) -> None:
        """Throw it away, and see it over."""
        command = self._command
        self.drop()
        if command is not None:
            await asyncio.wait([command.finished])

    def drop(self) -> None:
        """Throw it away; what comes still is released as it comes."""
        command, self._command = self._command, None
        if command is None:
            return
        command.deliver = self._release
        command.finished.add_done_callback(_seen)
        self._release(self._ready)

    def _release(self, messages: list[Message]) -> None:
        for message in messages:
            message.discard()
            self.connection.release(message)


def _seen(finished: asyncio.Future[Tagged]) -> None:
    """How it ended is no news: nobody waited for it."""
    if not finished.cancelled():
        finished.exception()
