"""The sizes of messages, asked for ahead of a run whose batches are bounded in bytes."""

from __future__ import annotations

import asyncio
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import suppress

from imapipe.errors import CommandTimeout, ConnectionLost, NotFetched, ProtocolError, ServerBye
from imapipe.models.message import Message
from imapipe.net.connection import Connection
from imapipe.net.signals import to_error
from imapipe.wire.command.encoder import uid_text_room
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.uid_set import UidSet

_SIZE = Fetch("size")
_MESSAGES_PER_COMMAND = 10_000
_UID_TEXT_BYTES = uid_text_room(b"UID FETCH " + _SIZE.command())


class Sizes(Mapping[int, int]):
    """RFC822.SIZE by UID: 12 bytes a message, where a dict would take about 100."""

    __slots__ = ("_sizes", "_uids")

    def __init__(self, sizes: Mapping[int, int]) -> None:
        self._uids = array("I", sorted(sizes))
        self._sizes = array("Q", (sizes[uid] for uid in self._uids))

    def extend(self, other: Sizes) -> None:
        """Add sizes of UIDs that are all above those in here."""
        self._uids.extend(other._uids)
        self._sizes.extend(other._sizes)

    def __getitem__(self, uid: int) -> int:
        position = bisect_left(self._uids, uid)
        if position == len(self._uids) or self._uids[position] != uid:
            raise KeyError(uid)
        return self._sizes[position]

    def __iter__(self) -> Iterator[int]:
        return iter(self._uids)

    def __len__(self) -> int:
        return len(self._uids)

    @property
    def total_bytes(self) -> int:
        """The sum of all."""
        return sum(self._sizes)


async def fetch_sizes(connection: Connection, uids: UidSet) -> Sizes:
    """The sizes of messages in the open mailbox, of those that the server tells.

    Raises:
        CommandNo, CommandBad, Throttled: The server refused.
        ConnectionLost, CommandTimeout, ProtocolError: The connection ended.

    Cancelling it ends the connection.
    """
    sizes = Sizes({})
    begin = 0
    while begin < len(uids):
        end = uids.fit(begin, _MESSAGES_PER_COMMAND, _UID_TEXT_BYTES)
        sizes.extend(Sizes(await _fetch_some(connection, uids[begin:end])))
        begin = end
    return sizes


async def _fetch_some(connection: Connection, uids: UidSet) -> dict[int, int]:
    """One pass over so many messages as fit into a command, and again where the server stopped short and says so."""
    found: dict[int, int] = {}

    def keep(messages: list[Message]) -> None:
        for message in messages:
            connection.release(message)
            # A size that cannot be read costs its message a place in a fuller batch, and nobody anything else.
            with suppress(ProtocolError, NotFetched):
                found[message.uid] = message.size

    while uids:
        part, rest = uids.take_within(len(uids), connection.ways.learned.room(_UID_TEXT_BYTES))
        command = connection.uid_fetch(part, _SIZE, keep)
        try:
            tagged = await asyncio.shield(command.finished)
        except asyncio.CancelledError:
            connection.abort()
            raise
        except (ConnectionLost, ServerBye, CommandTimeout) as error:
            if not command.first_byte_at:
                connection.ways.learned.is_too_long(command.line_bytes, error)
            raise
        connection.fetched(command)
        missing = command.missing
        if tagged.status != "OK":
            refusal = to_error(command.name, tagged)
            if not connection.ways.learned.is_too_long(command.line_bytes, refusal):
                raise refusal
            uids = rest | missing
            continue
        limited = tagged.code is not None and tagged.code.name == "MESSAGELIMIT" and len(missing) < len(part)
        uids = rest | missing if limited else rest
    return found
