"""The sizes of messages, asked for ahead of a run whose batches are bounded in bytes."""

from __future__ import annotations

import asyncio

from imapipe.models.message import Message
from imapipe.net.connection import MAX_COMMAND_BYTES, Connection
from imapipe.net.signals import to_error
from imapipe.wire.fetch_request import Fetch
from imapipe.wire.uid_set import UidSet

_SIZE = Fetch("size")


async def fetch_sizes(connection: Connection, uids: UidSet) -> dict[int, int]:
    """RFC822.SIZE in bytes by UID, of those that the server tells.

    Raises:
        CommandNo, CommandBad, Throttled: The server refused.
        ConnectionLost, CommandTimeout: The connection ended.
    """
    sizes: dict[int, int] = {}

    def keep(messages: list[Message]) -> None:
        for message in messages:
            sizes[message.uid] = message.size
            connection.release(message.wire_size)

    rest = uids
    while rest:
        part, rest = rest.take_within(10_000, MAX_COMMAND_BYTES)
        command = connection.uid_fetch(part, _SIZE, keep)
        try:
            tagged = await asyncio.shield(command.finished)
        except asyncio.CancelledError:
            connection.abort()
            raise
        connection.fetched(command)
        if tagged.status != "OK":
            raise to_error("UID FETCH", tagged)
    return sizes
