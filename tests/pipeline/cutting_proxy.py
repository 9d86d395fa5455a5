"""A line that breaks: a TCP proxy that ends each connection after so many bytes from the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast


class _Side(asyncio.Protocol):
    """One side of a connection: what comes goes to the other one, as long as there is some left to go."""

    def __init__(self, left: float = float("inf"), last_words: bytes = b"") -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _Side | None = None
        self._left = left
        self._last_words = last_words
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def join(self, other: _Side) -> None:
        """Give it the other side, and what came before that was there."""
        self.other = other
        early, self._early = self._early, b""
        self.data_received(early)

    def data_received(self, data: bytes) -> None:
        if self.other is None or self.other.transport is None:
            self._early += data
            return
        if self._left > 0:
            self.other.transport.write(data[: int(min(self._left, len(data)))])
        self._left -= len(data)
        if self._left <= 0:
            self.other.transport.write(self._last_words)
            self._last_words = b""
            self.end()
            self.other.end()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None:
            self.other.end()

    def end(self) -> None:
        """Close it in order."""
        if self.transport is not None:
            self.transport.close()


@asynccontextmanager
async def cutting_proxy(port: int, choose_bytes: Callable[[], int], last_words: bytes = b"") -> AsyncIterator[int]:
    """Run one in front of a server on loopback; gives its port.

    Args:
        port: That of the server.
        choose_bytes: Asked once for each connection: how many bytes of the server it lets through.
        last_words: What it says instead of the rest.
    """
    loop = asyncio.get_running_loop()
    sides: list[_Side] = []
    connecting: set[asyncio.Task[None]] = set()

    async def connect(client: _Side) -> None:
        _, server = await loop.create_connection(lambda: _Side(choose_bytes(), last_words), "127.0.0.1", port)
        sides.append(server)
        server.join(client)
        client.join(server)

    def accept() -> _Side:
        client = _Side()
        sides.append(client)
        task = loop.create_task(connect(client))
        connecting.add(task)
        task.add_done_callback(connecting.discard)
        return client

    listening = await loop.create_server(accept, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        await asyncio.gather(*connecting)
        for side in sides:
            side.end()
        # Transports are closed in the turn after.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
