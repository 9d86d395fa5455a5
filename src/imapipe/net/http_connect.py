"""CONNECT: a way through an HTTP proxy (RFC 9110 §9.3.6).

Invariants:

- What comes behind the empty line is the server's, and stays in the socket: a server of IMAP speaks first.
- The proxy's answer may come in any pieces, and ends within so many bytes.
"""

from __future__ import annotations

import asyncio
import re
import socket
from base64 import b64encode
from contextlib import suppress
from typing import Final

from imapipe.net.reaching import reach

_MOST_BYTES: Final = 16 * 1024
_END: Final = b"\r\n\r\n"
_STATUS: Final = re.compile(rb"HTTP/1\.[0-9] ([0-9]{3})(?: [^\r\n]*+)?\r\n")


async def connect_by_http(
    proxy: tuple[str, int], credentials: tuple[str, str] | None, host: str, port: int
) -> socket.socket:
    """Connect to a host through a proxy. Cancelling it closes the socket.

    Args:
        proxy: Host and port of the proxy.
        credentials: User and password there.
        host: Where to; the proxy looks the name up.
        port: Its port.

    Raises:
        OSError: The proxy cannot be reached, refuses, or gives no answer; its words are in the text.
    """
    name = f"[{host}]" if ":" in host else host if host.isascii() else host.encode("idna").decode("ascii")
    lines = [f"CONNECT {name}:{port} HTTP/1.1", f"Host: {name}:{port}"]
    if credentials is not None:
        lines.append(f"Proxy-Authorization: Basic {b64encode(':'.join(credentials).encode()).decode('ascii')}")
    reached = await reach(*proxy, _nothing)
    try:
        await asyncio.get_running_loop().sock_sendall(reached, "\r\n".join(lines).encode("ascii") + _END)
        head = await _read_head(reached)
        status, line = _STATUS.match(head), head.split(b"\r\n", 1)[0].decode("utf-8", "replace")
        if status is None:
            raise ConnectionError(f"it answers {line!r}")
        if status[1][:1] != b"2":
            raise ConnectionError(line.partition(" ")[2])
        if not head.endswith(_END):
            raise ConnectionError(f"its answer has no end within {_MOST_BYTES:,} bytes, or was cut off")
    except BaseException:
        reached.close()
        raise
    return reached


async def _nothing(_: socket.socket) -> None:
    """Nothing is done before."""


async def _read_head(reached: socket.socket) -> bytes:
    """What comes up to the empty line, or as much as may come, or until the other side ends."""
    loop, head = asyncio.get_running_loop(), bytearray()
    while len(head) < _MOST_BYTES and (byte := await loop.sock_recv(reached, 1)):
        head += byte
        if head.endswith(_END):
            break
        with suppress(BlockingIOError):
            # Looked at first: what is behind the end is not ours.
            seen = reached.recv(_MOST_BYTES - len(head) or 1, socket.MSG_PEEK)
            begin = max(len(head) - len(_END) + 1, 0)
            end = (bytes(head[begin:]) + seen).find(_END)
            wanted = len(seen) if end < 0 else begin + end + len(_END) - len(head)
            head += reached.recv(wanted) if wanted else b""
            if end >= 0:
                break
    return bytes(head)
