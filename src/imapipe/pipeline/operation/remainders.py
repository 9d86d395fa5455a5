"""Remainders: what came of messages in the middle of which a connection died, and asking for the rest of them.

A body larger than what a connection survives would begin anew each time. What came of it waits here until the batch is
asked for again, over any connection; then only the rest is asked for, by a partial FETCH (RFC 9051 §6.4.5).

Invariants:

- A message is put together only if UID, UIDVALIDITY and RFC822.SIZE are the same again, the answer begins with the last
  bytes of what is there, and it is as long as was asked for.
- What does not fit is thrown away, and that message is asked for as a whole from then on; a server that gets it wrong
  several times is asked for no rest any more. So a run ends, whatever a server answers.
- What is kept takes no more memory, and no more room in files, than one connection may hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final

from imapipe.net.connection import Connection
from imapipe.net.unfinished import Unfinished
from imapipe.pipeline.operation.remainder import Remainder
from imapipe.pipeline.operation.windowed import Windowed
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.uid_set import UidSet

# So many messages that could not be put together are the server's way, and no accident.
_MOST_WRONG: Final = 3


class Remainders:
    """The remainders of a run.

    Attributes:
        windowed: By UID, the messages that come in windows.
    """

    __slots__ = ("_active_bytes", "_kept", "_less_active", "_wrong", "windowed")

    def __init__(self) -> None:
        self._kept: dict[int, Remainder] = {}
        self._wrong: set[int] = set()
        self.windowed: dict[int, Windowed] = {}
        self._active_bytes = 0
        self._less_active = asyncio.Event()

    @asynccontextmanager
    async def room_for(self, size: int, max_bytes: int) -> AsyncIterator[None]:
        """Wait until a message that comes in windows takes no more room, with others that come, than may be held.

        As everywhere, one message may be larger than the bound.
        """
        while self._active_bytes and self._active_bytes + size > max_bytes:
            self._less_active.clear()
            await self._less_active.wait()
        self._active_bytes += size
        try:
            yield
        finally:
            self._active_bytes -= size
            self._less_active.set()

    def among(self, uids: UidSet, fetch: Fetch) -> Iterator[Remainder]:
        """Those of some messages, for somebody who asks for this."""
        for remainder in tuple(self._kept.values()):
            if remainder.uid in uids and remainder.fetch == fetch:
                yield remainder

    def keep(self, unfinished: Unfinished, fetch: Fetch, connection: Connection) -> int:
        """Keep what came of a message, if there is room.

        Returns:
            How many bytes were kept.
        """
        self.drop(unfinished.uid)
        remainder = Remainder(unfinished, fetch)
        if not self.may_keep(unfinished.uid) or not self._has_room(remainder, connection):
            remainder.discard()
            return 0
        self._kept[unfinished.uid] = remainder
        return remainder.received

    def may_keep(self, uid: int) -> bool:
        """Whether a message can be put together, as far as is known."""
        return uid not in self._wrong and len(self._wrong) < _MOST_WRONG

    def _has_room(self, other: Remainder, connection: Connection) -> bool:
        kept = (*self._kept.values(), other)
        in_memory = sum([remainder.memory_bytes for remainder in kept])
        in_files = sum([remainder.spooled_bytes for remainder in kept])
        # As everywhere, one message may be larger than the bound.
        return len(kept) == 1 or (in_memory <= connection.max_held_bytes and in_files <= connection.max_spool_bytes)

    def joined(self, uid: int) -> None:
        """A message was put together, and has its bytes."""
        self._kept.pop(uid, None)
        self.windowed.pop(uid, None)

    def wrong(self, uid: int) -> None:
        """A message cannot be put together: it is asked for as a whole from now on."""
        self._wrong.add(uid)
        self.drop(uid)

    def drop(self, uid: int) -> None:
        """What came of a message is of no use any more."""
        for kept in (self._kept.pop(uid, None), self.windowed.pop(uid, None)):
            if kept is not None:
                kept.discard()

    def close(self) -> None:
        """The run is over."""
        for uid in (*self._kept, *self.windowed):
            self.drop(uid)
