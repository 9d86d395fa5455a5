"""From a name and a port to a socket that is connected: one address after the other, as the resolver gives them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from imapipe.errors import ConnectionFailed

OpenSocket: TypeAlias = Callable[[str, int], Awaitable[socket.socket]]
"""Connects to a host and a port, maybe through a proxy, and gives the socket; TLS is put on top of it."""


async def reach(host: str, port: int, before: Callable[[socket.socket], Awaitable[None]]) -> socket.socket:
    """Connect. Cancelling it closes the socket.

    Args:
        host: A name, or an address.
        port: The port.
        before: Called with each socket before it is connected; what it raises comes out.

    Raises:
        OSError: What went wrong with the first address.
        ConnectionFailed: It was silent for as long as the system waits.
    """
    loop = asyncio.get_running_loop()
    first: OSError | None = None
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        reached = socket.socket(family, kind, protocol)
        try:
            reached.setblocking(False)
            await before(reached)
            await loop.sock_connect(reached, address)
        except OSError as error:
            reached.close()
            first = first or error
        except BaseException:
            reached.close()
            raise
        else:
            return reached
    assert first is not None, "a resolver gives an address, or raises"
    if isinstance(first, TimeoutError):
        raise ConnectionFailed("it does not answer", host=host, port=port) from first
    raise first
