"""One connection's bytes: lines and literals in; chunks, pace, cuts and compression out.

Invariants:
- At most about ``_INPUT_HIGH`` bytes of input wait (reading is paused above), and at most one chunk of output
  besides the transport's own buffer: a slow client holds the session back, it does not fill memory.
- Limits (cuts and stalls) are positions in the output before compression and TLS, so a test knows where they fall.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from .pace import CHUNK, Dripping, Pacer
from .records import Counters
from .rewriter import Rewriter

_INPUT_HIGH = 1 << 20
_HEAD = 200


class Disconnected(Exception):
    """The client has gone, or the connection was ended on purpose."""


class LineTooLong(Exception):
    """The client sent a line above the limit; it was read to its end and dropped.

    Args:
        head: Its first bytes.
    """

    def __init__(self, head: bytes) -> None:
        super().__init__("line too long")
        self.head = head


@dataclass(slots=True)
class OutputLimit:
    """What happens when the output reaches a position: ``close``, ``reset`` or ``stall``."""

    position: int
    kind: str


class Link(asyncio.Protocol):
    """Protocol of a connection.

    Args:
        counters: Where bytes are counted.
        on_open: Called once with the link when the connection (and its TLS) stands.
        pacers: Limits of the output: of this connection, of a line it shares.
        tls: Whether the listening socket speaks TLS from the start.

    Attributes:
        pacers: The limits, may be changed.
        dripping: Sends a few bytes at a time, or None.
        rewriter: Changes responses on their way out, or None.
        limits: Positions in the output at which something happens.
        tls: Whether TLS is under it.
        cut: How it was ended on purpose, else "".
    """

    def __init__(self, counters: Counters, on_open: Callable[[Link], None], pacers: list[Pacer], tls: bool) -> None:
        self.pacers = pacers
        self.dripping: Dripping | None = None
        self.rewriter: Rewriter | None = None
        self.limits: list[OutputLimit] = []
        self.sent = 0
        self.pending = 0
        self.cut = ""
        self.on_stall: Callable[[], None] | None = None
        self._stalled = False
        self.tls = tls
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._counters = counters
        self._on_open: Callable[[Link], None] | None = on_open
        self._transport: asyncio.Transport | None = None
        self._input = bytearray()
        self._overlong = b""
        self._received = 0
        self._marks: deque[tuple[int, float]] = deque()
        self._arrived_at = self._loop.time()
        self._ended = False
        self._wakeup: asyncio.Future[None] | None = None
        self._woken = False
        self._reading_paused = False
        self._writable: asyncio.Future[None] | None = None
        self._out: list[bytes] = []
        self._deflate: zlib._Compress | None = None
        self._inflate: zlib._Decompress | None = None

    # Callbacks of asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not asserted: the transports of uvloop are no subclasses.
        self._transport = cast("asyncio.Transport", transport)
        if self._on_open is not None:
            on_open, self._on_open = self._on_open, None
            on_open(self)

    def data_received(self, data: bytes) -> None:
        self._counters.bytes_in += len(data)
        if self._inflate is not None:
            data = self._inflate.decompress(data)
        self._take_in(data)

    def _take_in(self, data: bytes) -> None:
        self._input += data
        self._received += len(data)
        self._marks.append((self._received, self._loop.time()))
        if len(self._input) > _INPUT_HIGH and not self._reading_paused and self._transport is not None:
            self._reading_paused = True
            self._transport.pause_reading()
        self.wake()

    def eof_received(self) -> bool:
        self._ended = True
        self.wake()
        # A client may close its sending half and still read; TLS knows no half-closed connection.
        return not self.tls

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._transport = None
        self.wake()
        self._set_writable()
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        self._set_writable()

    def _set_writable(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # Input.

    @property
    def arrived_at(self) -> float:
        """Loop time at which the last byte read so far had arrived."""
        return self._arrived_at

    def wake(self) -> None:
        """Let a waiting session look again."""
        self._woken = True
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    async def wait(self) -> None:
        """Wait for input, the end of it, or ``wake``."""
        if not self._woken:
            self._wakeup = self._loop.create_future()
            try:
                await self._wakeup
            finally:
                self._wakeup = None
        self._woken = False

    def next_line(self, limit: int) -> bytes | None:
        """The next line without its end, or None when none is complete.

        Raises:
            LineTooLong: It is longer than ``limit``.
            Disconnected: There is no further line.
        """
        end = self._input.find(b"\n")
        if end < 0:
            if self._ended:
                raise Disconnected
            if len(self._input) > limit:
                self._overlong = self._overlong or bytes(self._input[:_HEAD])
                self._consume(len(self._input))
            return None
        line = bytes(self._input[:end]).removesuffix(b"\r")
        self._consume(end + 1)
        if self._overlong or len(line) > limit:
            head, self._overlong = self._overlong or line[:_HEAD], b""
            raise LineTooLong(head)
        return line

    async def read_line(self, limit: int) -> bytes:
        """Read a line without its end.

        Raises:
            LineTooLong: It is longer than ``limit``.
            Disconnected: The connection ended first.
        """
        while True:
            line = self.next_line(limit)
            if line is not None:
                return line
            await self.wait()

    async def read_exactly(self, count: int) -> bytes:
        """Read ``count`` bytes.

        Raises:
            Disconnected: The connection ended first.
        """
        pieces: list[bytes] = []
        missing = count
        while missing:
            if self._input:
                piece = bytes(self._input[:missing])
                self._consume(len(piece))
                pieces.append(piece)
                missing -= len(piece)
            elif self._ended:
                raise Disconnected
            else:
                await self.wait()
        return b"".join(pieces)

    def _consume(self, count: int) -> None:
        del self._input[:count]
        position = self._received - len(self._input)
        while self._marks:
            through, when = self._marks[0]
            self._arrived_at = when
            if through > position:
                break
            self._marks.popleft()
            if through == position:
                break
        if self._reading_paused and len(self._input) < _INPUT_HIGH // 2 and self._transport is not None:
            self._reading_paused = False
            self._transport.resume_reading()

    # Output.

    @property
    def position(self) -> int:
        """How many bytes have been written, those not yet flushed included."""
        return self.sent + self.pending

    def write(self, data: bytes) -> None:
        """Take bytes for the next flush."""
        if self.rewriter is not None:
            data = self.rewriter.feed(data)
        self._out.append(data)
        self.pending += len(data)

    def rewrite(self, changes: Sequence[Callable[[bytes], bytes]]) -> None:
        """Pass responses through functions until ``stop_rewriting``."""
        if changes:
            self.rewriter = Rewriter(changes)

    def stop_rewriting(self) -> None:
        """Let output out as it is from now on."""
        if self.rewriter is not None:
            left = self.rewriter.rest()
            self.rewriter = None
            self.write(left)

    async def flush(self) -> None:
        """Send what was written, as far as limits and pace allow.

        Raises:
            Disconnected: The client has gone or a limit ended the connection.
        """
        if not self.pending:
            return
        data = b"".join(self._out)
        self._out.clear()
        self.pending = 0
        while self.limits:
            limit = min(self.limits, key=lambda entry: entry.position)
            if limit.position > self.sent + len(data):
                break
            self.limits.remove(limit)
            offset = max(limit.position - self.sent, 0)
            head, data = data[:offset], data[offset:]
            await self._send(head)
            await self._reach(limit)
        await self._send(data)

    async def _reach(self, limit: OutputLimit) -> None:
        self.cut = limit.kind
        if limit.kind != "stall":
            self.close(reset=limit.kind == "reset")
            raise Disconnected
        if self.on_stall is not None:
            self.on_stall()
        self._stalled = True
        while self._stalled and not self._ended:
            await self.wait()
        if self._ended:
            raise Disconnected
        self.cut = ""

    def release_stall(self) -> None:
        """Let a stalled output go on."""
        self._stalled = False
        self.wake()

    async def _send(self, data: bytes) -> None:
        self.sent += len(data)
        if self._deflate is not None and data:
            data = self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        drip = self.dripping
        step = drip.count if drip is not None else min((pacer.step for pacer in self.pacers), default=CHUNK)
        view = memoryview(data)
        for start in range(0, len(data), step):
            piece = view[start : start + step]
            if self._transport is None or self._transport.is_closing():
                raise Disconnected
            self._transport.write(piece)
            self._counters.bytes_out += len(piece)
            if self._writable is not None:
                await self._writable
            else:
                # The client may live in the same loop: let it read.
                await asyncio.sleep(0)
            for pacer in self.pacers:
                await pacer.pay(len(piece))
            if drip is not None:
                await drip.sleep(drip.seconds)

    # Changes of state.

    def start_compression(self) -> None:
        """Compress from the next byte on in both directions (RFC 4978)."""
        self._deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        self._inflate = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
        waiting = bytes(self._input)
        if waiting:
            self._input.clear()
            self._received -= len(waiting)
            self._marks.clear()
            self._take_in(self._inflate.decompress(waiting))

    @property
    def compressed(self) -> bool:
        """Whether compression is on."""
        return self._deflate is not None

    async def start_tls(self, context: ssl.SSLContext, reply: bytes) -> None:
        """Send the reply to STARTTLS and put TLS under the connection.

        Input that came in plain text after the command is dropped. Nothing is read between the reply and the
        handshake: the client's first TLS record may follow at once and belongs to the TLS layer.

        Raises:
            Disconnected: The handshake failed.
        """
        plain = self._transport
        if plain is None:
            raise Disconnected
        self._consume(len(self._input))
        plain.pause_reading()
        self.write(reply)
        await self.flush()
        self.tls = True
        try:
            transport = await self._loop.start_tls(plain, self, context, server_side=True)
        except (OSError, asyncio.CancelledError) as error:
            # asyncio tells only the TLS layer of the loss, not this protocol.
            plain.abort()
            self.connection_lost(None)
            if isinstance(error, OSError):
                raise Disconnected from error
            raise
        if transport is None:
            raise Disconnected
        self._transport = transport

    def close(self, reset: bool = False) -> None:
        """End the connection: in order, or with ``reset`` by a TCP reset, as a crashed machine does."""
        if self._transport is None:
            return
        if not reset:
            self._transport.close()
            return
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def abort(self) -> None:
        """End the connection without waiting for a client that does not read."""
        if self._transport is not None:
            self._transport.abort()
