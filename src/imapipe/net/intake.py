"""What a connection receives, on its way to the responses in it: inflated, framed, and taken in turns.

Invariants:

- A turn of the event loop takes so much and no more: `TURN_RESPONSES` responses that are no messages in the expected
  shape, and `TURN_STEPS` steps of inflating. What is left goes on in the next turn; meanwhile nothing more is read.
- Nothing is read either while it is held back, because too much is held by others, and before a handshake.
- Compressed bytes stay compressed until their turn comes.
- One response that takes longer than a turn is set aside: a thread reads it, and nothing behind it is taken meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, TypeVar

from imapipe.errors import ProtocolError
from imapipe.net.compression import STEP_BYTES, Deflate
from imapipe.wire.response.framing import Frame, Framer
from imapipe.wire.response.limits import LONG_BYTES, Limits
from imapipe.wire.response.literal import Cut

TURN_RESPONSES: Final = 256
"""So many take some 5 ms; messages in the expected shape, of which a chunk of the socket is full, take a tenth each."""

TURN_STEPS: Final = 4
_SMALL_BYTES: Final = 512

_Result = TypeVar("_Result")


def cost_of(text: bytes) -> int:
    """How many small responses take as long as one."""
    size = len(text)
    # What is long is a list: of numbers, say, each of which is an object for a moment.
    return 1 + (size if size <= LONG_BYTES else 2 * size) // _SMALL_BYTES


class Intake:
    """The receiving end of a connection.

    Args:
        loop: Goes on with what is left of a turn.
        framer: Cuts into responses.
        take: Takes responses; it stops where `spend` says so, and never raises.
        failed: Told that what came cannot be inflated, or not be read for want of memory and the like.

    Attributes:
        deflate: Inflates what comes, once that is agreed.
        bytes_received: Bytes after inflating.
        wire_bytes: Bytes on the wire.
        is_held_back: Whether nothing is read because too much is held.
        is_aside: Whether nothing is read because a thread reads what came last.
    """

    __slots__ = (
        "_before_handshake",
        "_ended",
        "_failed",
        "_framer",
        "_is_reading",
        "_left",
        "_loop",
        "_take",
        "_transport",
        "_waits",
        "bytes_received",
        "deflate",
        "is_aside",
        "is_held_back",
        "wire_bytes",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        framer: Framer,
        take: Callable[[Iterable[Frame]], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._loop = loop
        self._framer = framer
        self._take = take
        self._failed = failed
        self._transport: asyncio.Transport | None = None
        self._is_reading = True
        self._left = 0
        self._waits = False
        self._ended = False
        self._before_handshake = False
        self.deflate: Deflate | None = None
        self.bytes_received = 0
        self.wire_bytes = 0
        self.is_held_back = False
        self.is_aside = False

    @property
    def limits(self) -> Limits:
        """The largest that is taken."""
        return self._framer.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._framer.limits = limits

    @property
    def kept_bytes(self) -> int:
        """Bytes that came and are no whole response yet."""
        if self._ended:
            return 0
        return self._framer.kept_bytes + (self.deflate.pending_bytes if self.deflate is not None else 0)

    @property
    def blank_bytes(self) -> int:
        """Bytes of lines with nothing in them."""
        return self._framer.blank_bytes

    @property
    def is_partial(self) -> bool:
        """Whether a response has begun and not ended."""
        return self._framer.partial

    def connect(self, transport: asyncio.Transport) -> None:
        """Receive from this transport from now on, which reads."""
        self._transport = transport
        self._before_handshake = False
        self._is_reading = True

    def buffer(self) -> memoryview:
        """Where the transport writes."""
        return self._framer.buffer() if self.deflate is None else self.deflate.buffer

    def received(self, count: int) -> None:
        """`count` bytes were written to the start of `buffer()`."""
        self.wire_bytes += count
        if self.deflate is not None:
            self.deflate.push(self.deflate.buffer[:count])
        else:
            self.bytes_received += count
            self._framer.received(count)
        self._work()

    def spend(self, count: int) -> bool:
        """A response took as long as `count` small ones; whether this turn goes on."""
        self._left -= count
        return self._left > 0

    def set_aside(self, work: Callable[[], _Result], done: Callable[[_Result], None]) -> None:
        """Have a thread do what takes long, and take nothing further before `done` has what came of it.

        It is called by `take`, which is to stop then. When the connection has ended meanwhile, `done` is not called.
        """
        self._left = 0
        self.is_aside = True
        self._read_or_not()
        future = self._loop.run_in_executor(None, work)
        future.add_done_callback(partial(self._came_back, done))

    def _came_back(self, done: Callable[[_Result], None], future: asyncio.Future[_Result]) -> None:
        self.is_aside = False
        error = future.exception()
        if self._ended:
            return
        if error is not None:
            self._failed(error)
            return
        done(future.result())
        self._wait_for_turn()
        self._read_or_not()

    def hold_back(self) -> None:
        """Read nothing, and take nothing further out of what was inflated, until `go_on`."""
        self.is_held_back = True
        self._read_or_not()

    def go_on(self) -> None:
        """Read again. It may be called deep in a handler, so what is left here waits for a turn."""
        self.is_held_back = False
        self._read_or_not()
        if self.deflate is not None:
            self._wait_for_turn()

    def wait_for_handshake(self) -> None:
        """Nothing that comes now is IMAP, until another transport is connected."""
        self._before_handshake = True
        self._read_or_not()

    def rest(self) -> bytes:
        """Take out what was received behind the last response."""
        return self._framer.rest()

    def cut(self) -> Cut | None:
        """Take out what came of a response that will have no end, where that is worth keeping."""
        return self._framer.cut()

    def close(self) -> None:
        """Nothing more will come."""
        self._ended = True
        self._framer.close()

    def _work(self) -> None:
        """Take what is here, as much of it as one turn may."""
        if self._before_handshake or self.is_aside:
            return
        self._left = TURN_RESPONSES
        before = self.deflate
        self._take(self._framer.frames())
        if self.deflate is not None:
            if before is None:
                # The OK to COMPRESS was in it; what stood behind that is compressed already.
                rest = self._framer.rest()
                self.bytes_received -= len(rest)
                self.deflate.push(rest)
            self._inflate(self.deflate)
        if self._left <= 0:
            self._wait_for_turn()
            self._read_or_not()

    def _inflate(self, deflate: Deflate) -> None:
        framer = self._framer
        try:
            while self._left > 0 and not self.is_held_back and not self._ended:
                room = framer.buffer()
                inflated = deflate.pull(min(len(room), STEP_BYTES))
                if not inflated:
                    return
                room[: len(inflated)] = inflated
                self.bytes_received += len(inflated)
                framer.received(len(inflated))
                self._take(framer.frames())
                self._left -= TURN_RESPONSES // TURN_STEPS
        except ProtocolError as error:
            self._failed(error)

    def _wait_for_turn(self) -> None:
        if not (self._waits or self._ended or self._before_handshake or self.is_aside):
            self._waits = True
            self._loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._waits = False
        if self._ended:
            return
        if not self.is_held_back or self.deflate is None:
            self._work()
        self._read_or_not()

    def _read_or_not(self) -> None:
        wanted = not (self.is_held_back or self.is_aside or self._waits or self._before_handshake)
        transport = self._transport
        if wanted is self._is_reading or self._ended or transport is None or transport.is_closing():
            return
        self._is_reading = wanted
        if wanted:
            transport.resume_reading()
        else:
            transport.pause_reading()
