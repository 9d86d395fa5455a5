"""A way to a server that can be cut: a TCP proxy on loopback, in a thread of its own.

A cut is what a cable does: nothing comes through, and nobody is told. When it is mended, what was on its way arrives;
or, as behind a firewall that has forgotten them, every connection is reset.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

_HOST: Final = "127.0.0.1"


class Cable:
    """A way to a port on loopback.

    Args:
        target: The port.

    Attributes:
        port: Where it is to be gone into.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._listening: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Let nothing through."""
        self._do(self._flowing.clear)

    def mend(self, *, reset: bool = False) -> None:
        """Let everything through again, after resetting what is open where so asked."""

        def mend() -> None:
            if reset:
                for writer in self._writers:
                    # To close it is a reset.
                    open_one: socket.socket = writer.get_extra_info("socket")
                    open_one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._end()
            self._flowing.set()

        self._do(mend)

    def drop(self) -> None:
        """End what is open; whoever comes next is let through, or waits until it is mended."""
        self._do(self._end)

    def _do(self, what: Callable[[], None]) -> None:
        """Have something done in the thread; when this returns, it is."""

        async def do() -> None:
            what()

        asyncio.run_coroutine_threadsafe(do(), self._loop).result()

    def _end(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _open(self) -> int:
        self._listening = await asyncio.start_server(self._carry, _HOST, 0)
        port: int = self._listening.sockets[0].getsockname()[1]
        return port

    async def _close(self) -> None:
        assert self._listening is not None
        self._listening.close()
        self._flowing.set()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        self._end()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        self._writers.add(writer)
        try:
            await self._flowing.wait()
            far_reader, far_writer = await asyncio.open_connection(_HOST, self._target)
            ends.append(far_writer)
            self._writers.add(far_writer)
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        except (OSError, asyncio.CancelledError):
            # There is nobody, or no longer: to who came that is a connection that ends. Nobody waits for this task.
            pass
        finally:
            self._writers.difference_update(ends)
            for end in ends:
                end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            await self._flowing.wait()
            writer.write(data)
            await writer.drain()
        writer.close()
