"""What a session says and hears apart from whole commands: continuations, further lines, what nobody asked for."""

from __future__ import annotations

import asyncio
from collections import deque

from .host import Host
from .link import Link
from .pace import CHUNK
from .watch import Watcher


class Talk(Watcher):
    """The words of a session."""

    def __init__(self, server: Host, link: Link) -> None:
        super().__init__(server, link)
        self._pushes: deque[tuple[bytes, int]] = deque()

    async def wait_latency(self) -> None:
        """Wait until what was read last has been under way for the latency of the line."""
        if self.server.latency_seconds > 0:
            due = self.link.arrived_at + self.server.latency_seconds
            delay = due - asyncio.get_running_loop().time()
            if delay > 0:
                await asyncio.sleep(delay)

    async def continuation(self, text: bytes = b"Ready") -> None:
        """Send ``+ text`` and whatever waits before it."""
        await self.wait_latency()
        self.link.write(b"+ " + text + b"\r\n")
        await self.link.flush()

    async def read_line(self) -> bytes:
        """Read one more line of the running command (AUTHENTICATE, IDLE)."""
        return await self.link.read_line(self.server.max_command_bytes)

    async def write(self, data: bytes) -> None:
        """Write and, above a chunk, wait until the client has taken it."""
        self.link.write(data)
        if self.link.pending >= CHUNK:
            await self.link.flush()

    def push(self, data: bytes, count: int = 1) -> None:
        """Send bytes that nobody asked for, between two responses."""
        self._pushes.append((data, count))
        self.link.wake()

    async def tell_pushed(self) -> None:
        """Send what was pushed."""
        while self._pushes:
            data, count = self._pushes.popleft()
            for _ in range(count):
                await self.write(data)
            await self.link.flush()
