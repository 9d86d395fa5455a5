"""Sockets where slots are shared: held from before they are connected until the server has ended the connection, too.

A server counts a connection from its accept until it has closed its own side: behind the OK of LOGOUT, or some time
after it could hear that the client is gone, which on a busy machine is not at once. So the pool has a second handle of
each socket. When the connection ends, however far it came, the end of our side is sent, and what comes is thrown away
until the server has ended its own.

Invariants:

- A socket is held before it is connected, and is not connected where the slots have expired by then.
- Whatever a server may count can be shut in any thread and with every event loop, whatever the loop is doing.
- An attempt that makes a second connection (another address, another login) does so when the first one is over.
- Nothing is waited for longer than `PARTING_SECONDS`, and no more than `_MOST_BYTES` are read: then the socket is
  closed, and a server that goes on sending gets a reset.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from imapipe.errors import ConnectionLost
from imapipe.net.connection import Connection
from imapipe.net.reaching import OpenSocket, reach

PARTING_SECONDS: Final = 5.0
_MOST_BYTES: Final = 1 << 20
_READ_BYTES: Final = 1 << 16
_LOOK_SECONDS: Final = 0.01
# TCP_FIN_WAIT1 and TCP_FIN_WAIT2 of Linux.
_WAITS_FOR_FIN: Final = (4, 5)


class Handle:
    """The socket of one connection, or of an attempt to make one.

    Attributes:
        socket: The second handle, while the server may count the connection; else None.
        parting: Waits for the server's end, or None.
        is_refused: It is not to be connected any more.
    """

    __slots__ = ("_is_hidden", "_partings", "is_refused", "parting", "socket")

    def __init__(self, partings: Partings) -> None:
        self._partings = partings
        self._is_hidden = False
        self.socket: socket.socket | None = None
        self.parting: asyncio.Task[None] | None = None
        self.is_refused = False

    def opener(self, theirs: OpenSocket | None) -> OpenSocket:
        """What opens the sockets of an attempt and holds them: by itself, or with what somebody gave for that.

        What that does before it gives a socket (it speaks to a proxy) is not seen: where it is given up,
        `PARTING_SECONDS` are waited.
        """

        async def open_socket(host: str, port: int) -> socket.socket:
            if theirs is None:
                return await reach(host, port, self._hold)
            await self._begin()
            self._is_hidden = True
            opened = await theirs(host, port)
            self._is_hidden = False
            if isinstance(opened, socket.socket):
                self._partings.hold(self, opened.dup())
            return opened

        return open_socket

    async def _hold(self, used: socket.socket) -> None:
        await self._begin()
        self._partings.hold(self, used.dup())

    async def _begin(self) -> None:
        """Part from what the attempt had before; raises where there is no slot any more."""
        self.end()
        await self.over()
        self._partings.look()
        if self.is_refused:
            raise ConnectionLost("its slot has expired")

    def adopt(self, connection: Connection) -> None:
        """Hold the socket that a connection has, if any, and if it is not held."""
        transport = connection.plane.transport
        used = None if transport is None else transport.get_extra_info("socket")
        if self.socket is None and used is not None:
            with suppress(OSError, ValueError):
                self._partings.hold(self, socket.socket(fileno=os.dup(used.fileno())))

    def end(self) -> None:
        """Our side has ended; the second time it does nothing."""
        held = self.socket
        if held is None or self.parting is not None:
            return
        with suppress(OSError):  # it was not connected, or is not any more
            held.shutdown(socket.SHUT_WR)
        self.parting = asyncio.get_running_loop().create_task(_part(held))
        # Here, since a task that is cancelled before its first step does nothing at all.
        self.parting.add_done_callback(lambda _: self._partings.drop(self))

    async def over(self) -> None:
        """Wait until the server has ended what our side has ended, or was waited for long enough."""
        if self.parting is not None:
            await asyncio.wait([self.parting])
        if self._is_hidden:
            self._is_hidden = False
            await asyncio.sleep(PARTING_SECONDS)


class Partings:
    """The sockets of a pool.

    Args:
        look: Called before a socket is connected: sees whether the slots have expired.
        is_over: Told of each connection that a server counts no more.
    """

    __slots__ = ("_held", "_is_over", "_lock", "_making", "_of", "look")

    def __init__(self, look: Callable[[], None], is_over: Callable[[Handle], None]) -> None:
        self.look = look
        self._is_over = is_over
        self._lock = threading.Lock()
        self._held: set[Handle] = set()
        self._making: set[Handle] = set()
        self._of: dict[Connection, Handle] = {}

    @property
    def tasks(self) -> tuple[asyncio.Task[None], ...]:
        """What is under way."""
        return tuple(handle.parting for handle in self._held if handle.parting is not None)

    def begin(self) -> Handle:
        """An attempt to make a connection."""
        handle = Handle(self)
        self._making.add(handle)
        return handle

    def refuse(self) -> None:
        """Nothing that is being made is to be connected any more."""
        for handle in self._making:
            handle.is_refused = True

    def fail(self, handle: Handle) -> None:
        """An attempt has failed, however far it came."""
        self._making.discard(handle)
        handle.end()

    def watch(self, connection: Connection, handle: Handle | None = None) -> None:
        """Part from a connection when it ends, whoever ends it; one that has no handle was made by somebody else."""
        handle = handle or Handle(self)
        self._making.discard(handle)
        handle.adopt(connection)
        self._of[connection] = handle
        connection.session.lost_listeners.append(lambda _: handle.end())

    async def over(self, connection: Connection) -> None:
        """Wait until the server has ended a connection that has ended here, or was waited for long enough.

        There is nothing to wait for where that cannot be seen: a connection whose socket is not its own.
        """
        handle = self._of.pop(connection, None)
        if handle is not None:
            handle.end()
            await handle.over()

    def shut(self) -> list[Handle]:
        """Shut whatever a server may count, and tell what that is. May be called in any thread."""
        with self._lock:
            for handle in self._held:
                if handle.socket is not None:
                    with suppress(OSError):  # it has ended by itself, or is not connected yet
                        handle.socket.shutdown(socket.SHUT_RDWR)
            return list(self._held)

    # -- for handles -----------------------------------------------------------------------------

    def hold(self, handle: Handle, held: socket.socket) -> None:
        """A server may count it from now on."""
        held.setblocking(False)
        with self._lock:
            handle.socket = held
            self._held.add(handle)

    def drop(self, handle: Handle) -> None:
        """No server counts it."""
        # Not while another thread shuts it: its number may be another's when it is closed.
        with self._lock:
            held, handle.socket, handle.parting = handle.socket, None, None
            self._held.discard(handle)
        if held is not None:
            held.close()
        self._is_over(handle)


async def _part(held: socket.socket) -> None:
    """Read until the server has ended its side."""
    loop = asyncio.get_running_loop()
    left = _MOST_BYTES
    with suppress(OSError):  # a timeout is one, too
        async with asyncio.timeout(PARTING_SECONDS):
            while left > 0 and (data := await loop.sock_recv(held, _READ_BYTES)):
                left -= len(data)
            while left > 0 and not _has_ended(held):  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(_LOOK_SECONDS)


def _has_ended(held: socket.socket) -> bool:
    """Whether the server has ended its side of a socket of which nothing more can be read.

    Where both sides of ours were shut (`Partings.shut`), reading does not tell; only Linux does.
    """
    if sys.platform != "linux":
        return True
    return held.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] not in _WAITS_FOR_FIN
