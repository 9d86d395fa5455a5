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
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final

from imapipe.errors import NotFetched, ProtocolError
from imapipe.models.message import Message
from imapipe.net.connection import Connection
from imapipe.net.spool import SpoolFile
from imapipe.net.unfinished import Part, Unfinished
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.response.literal import Literal
from imapipe.wire.uid_set import UidSet

# So many messages that could not be put together are the server's way, and no accident.
_MOST_WRONG: Final = 3
_BODY: Final = "BODY[]"
_ONLY_BODY: Final = Fetch(section="")
# Asked for behind the end: nothing may come, or the size was wrong.
_SLACK_BYTES: Final = 1024


class Remainder:
    """What came of a message, and how to ask for the rest.

    Args:
        unfinished: What came.
        fetch: What had been asked for.
        slack: How many bytes more than are wanted to ask for: none are there, if the size is right.

    Attributes:
        fetch: The same.
        rest: What is to be asked for now.
        is_wrong: It cannot be gone on with.
    """

    __slots__ = ("_asked_bytes", "_slack", "_unfinished", "fetch", "is_wrong", "rest")

    def __init__(self, unfinished: Unfinished, fetch: Fetch, *, slack: int = 0) -> None:
        self._unfinished = unfinished
        self._slack = slack
        self.fetch = self.rest = fetch
        self._asked_bytes = 0
        self.is_wrong = False

    @property
    def uid(self) -> int:
        """The UID of the message."""
        return self._unfinished.uid

    @property
    def part(self) -> Part | None:
        """The literal that is gone on with, if one came in part."""
        return self._unfinished.part

    @property
    def received(self) -> int:
        """How many bytes of the message there are."""
        return self._unfinished.received

    @property
    def memory_bytes(self) -> int:
        """How many bytes of memory it takes."""
        return self._unfinished.memory_bytes

    @property
    def spooled_bytes(self) -> int:
        """How many bytes it takes in temporary files."""
        return self._unfinished.spooled_bytes

    def prepare(self) -> None:
        """Say what is to be asked for now. Raises SpoolError."""
        unfinished, part = self._unfinished, self.part
        if part is None:
            self.rest, _ = self.fetch.rest("", 0, 0, without=unfinished.whole)
            return
        self._asked_bytes = part.wanted
        count = part.wanted + self._slack
        self.rest, name = self.fetch.rest(unfinished.name, part.offset, count, without=unfinished.whole)
        part.go_on(name)

    def extend(self, more: Unfinished | None) -> None:
        """The connection died in the middle of the rest, too. Raises SpoolError.

        Args:
            more: What came of the rest, unless that went to its place or is not worth keeping.
        """
        mine = self._unfinished
        part = mine.part
        self.is_wrong = part is not None and part.is_wrong
        if more is None:
            return
        if part is not None:
            whole = self._whole(part, more.whole.pop(part.rest_name, None))
            if whole is None:
                more.discard()
                return
            mine.whole[mine.name] = whole
        self.is_wrong = None not in (mine.said_size, more.said_size) and mine.said_size != more.said_size
        mine.whole |= more.whole
        mine.name, mine.part = more.name, more.part

    def join(self, answer: Message) -> Message | None:
        """The whole message, of which this is the rest; None where it does not fit. Raises SpoolError."""
        literals = self.literals(answer)
        if literals is None:
            return None
        came_before = sum(map(len, literals.values())) - self._asked_bytes
        return answer.completed(self.fetch, literals, answer.wire_size + came_before)

    def literals(self, answer: Message) -> dict[str, Literal] | None:
        """The literals of the message, of which this is the rest; None where it does not fit. Raises SpoolError."""
        mine, part = self._unfinished, self.part
        try:
            if mine.said_size is not None and mine.said_size != answer.size:
                return None
            literals = dict(mine.whole)
            if part is not None:
                whole = self._whole(part, answer.literal_of(part.rest_name))
                if whole is None:
                    return None
                literals[mine.name] = whole
        except (NotFetched, ProtocolError):
            return None
        return literals

    def _whole(self, part: Part, came: Literal | None) -> Literal | None:
        """The literal that went on with what came; None where that does not fit."""
        if came is None:
            return None
        if not part.is_placed:
            # It was small, and came into the common buffer.
            if not isinstance(came, bytes | bytearray) or len(came) != part.wanted:
                self.is_wrong = True
                return None
            part.write(memoryview(came))
            came = part.finish()
        self.is_wrong = part.is_wrong or part.received != part.size
        return None if self.is_wrong else came

    def discard(self) -> None:
        """It will not be put together."""
        self._unfinished.discard()


class Windowed:
    """A message that is asked for in windows: its place, and the windows as remainders of it.

    Args:
        uid: Its UID.
        size: Its RFC822.SIZE.
        place: Where it goes.
        fetch: What is asked for; the first window is asked for together with all that is no body.
        window_bytes: How large a window is.

    Attributes:
        windows: All windows, in order.
        left: Those that are to be asked for.
        answer: The answer to the first one.
        size: The RFC822.SIZE.
    """

    __slots__ = ("answer", "left", "size", "windows")

    def __init__(self, uid: int, size: int, place: bytearray | SpoolFile, fetch: Fetch, window_bytes: int) -> None:
        self.size = size
        self.windows: list[Remainder] = []
        for start in range(0, size, window_bytes):
            part = Part(place, 0, min(window_bytes, size - start), start)
            self.windows.append(
                Remainder(
                    Unfinished(uid, size, {}, _BODY, part),
                    _ONLY_BODY if start else fetch,
                    slack=_SLACK_BYTES if start + window_bytes >= size else 0,
                )
            )
        self.left = deque(self.windows)
        self.answer: Message | None = None

    @property
    def received(self) -> int:
        """How many bytes of it there are."""
        return sum([window.received for window in self.windows])

    def accept(self, window: Remainder, answer: Message) -> bool:
        """Take the answer to a window; False where it does not fit. Raises SpoolError."""
        if window.literals(answer) is None:
            return False
        if window is self.windows[0]:
            self.answer = answer
        return True

    def join(self) -> Message | None:
        """The whole message, once all windows are there; None where they do not fit together. Raises SpoolError."""
        first, answer = self.windows[0].part, self.answer
        if first is None or answer is None:
            return None
        if not all(window.part is not None and window.part.follows for window in self.windows):
            return None
        literal = first.finish()
        wire_size = answer.wire_size + len(literal) - first.size
        return answer.completed(self.windows[0].fetch, {_BODY: literal}, wire_size)

    def discard(self) -> None:
        """It will not be put together."""
        for window in self.windows:
            window.discard()


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
