"""The sizes of messages, asked for ahead of a run whose batches are bounded in bytes."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping

from imapipe.net.connection import Connection
from imapipe.pipeline.source.values import fetch_values
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
        sizes.extend(Sizes(await fetch_values(connection, uids[begin:end], _SIZE, lambda message: message.size)))
        begin = end
    return sizes
