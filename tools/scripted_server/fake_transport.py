"""A transport without a socket: what a protocol does to it can be read, and bytes are given to it by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable


class FakeTransport(asyncio.Transport):
    """Stands in for a connection.

    Attributes:
        sent: What was written.
        writes: How many bytes each write had.
        is_paused: Whether reading is paused.
        pauses: How often it was paused.
        is_aborted: Whether it was aborted.
        left: Bytes that came while reading was paused; they go in when it goes on.
    """

    def __init__(self, protocol: asyncio.BufferedProtocol) -> None:
        super().__init__()
        self.sent = bytearray()
        self.writes: list[int] = []
        self.is_paused = False
        self.pauses = 0
        self.is_aborted = False
        self.left = bytearray()
        self._closing = False
        self._most = 1 << 30
        self._protocol = protocol
        protocol.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Note what is written."""
        self.sent += data
        self.writes.append(len(data))

    def take_sent(self) -> bytes:
        """What was written since it was last asked for."""
        sent = bytes(self.sent)
        self.sent.clear()
        return sent

    def pause_reading(self) -> None:
        """Read no more."""
        self.pauses += not self.is_paused
        self.is_paused = True

    def resume_reading(self) -> None:
        """Read on."""
        self.is_paused = False
        # As a real one: not from inside the call.
        asyncio.get_running_loop().call_soon(self.feed, b"")

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self._closing

    def close(self) -> None:
        """End the connection, in a turn of its own."""
        self._closing = True
        asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        """End the connection, and note that it was in this way."""
        self.is_aborted = True
        self.close()

    def feed(self, data: bytes, *, most: int | None = None) -> None:
        """Give bytes to the protocol, at most `most` at a time from now on, as long as it reads."""
        self.left += data
        self._most = self._most if most is None else most
        while self.left and not self.is_paused and not self._closing:
            buffer = memoryview(self._protocol.get_buffer(-1))
            count = min(len(buffer), len(self.left), self._most)
            buffer[:count] = self.left[:count]
            del self.left[:count]
            self._protocol.buffer_updated(count)

    def feed_each(self, chunks: Iterable[bytes]) -> None:
        """Give chunks to the protocol, one after the other."""
        for chunk in chunks:
            self.feed(chunk)
