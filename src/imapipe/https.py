"""One request over HTTPS: what logging in and autodiscovery ask of the web.

The connection is asyncio's, so that cancelling ends it at once; the answer is read by the standard library's parser.

Invariants:

- Plain HTTP goes to this machine only. No redirection is followed: where one leads is for the caller to judge.
- What is read is bounded in bytes and in time; when the exception leaves, the connection is closed.
- Nothing of what was sent, and nothing of the answer, is in an exception.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlencode, urlsplit

from imapipe.errors import ConnectionFailed, ImapipeError
from imapipe.net.account import is_loopback_address
from imapipe.net.reaching import OpenSocket
from imapipe.net.unreachable import unreachable

MAX_BYTES: Final = 256 * 1024
TIMEOUT_SECONDS: Final = 30.0
_MAX_HEAD_BYTES: Final = 64 * 1024
_HEAD_END: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer.

    Attributes:
        status: The status code.
        body: What it holds.
        location: Where a redirection leads, as it was written, or "".
    """

    status: int
    body: bytes
    location: str


def check_url(url: str, what: str = "the URL") -> str:
    """The URL itself, where it can be asked: https, or http on this machine.

    Raises:
        ValueError: One sentence that says what to change.
    """
    parts = _split(url, what)
    host = parts.hostname or ""
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"{what} holds a user name or a password, which have no place in it")
    is_here = host == "localhost" or is_loopback_address(host)
    if not host or parts.scheme not in ("https", "http") or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"{what} is none such as https://login.example.org/token")
    if parts.scheme == "http" and not is_here:
        raise ValueError(f"{what} must begin with https://, for what is sent there is secret")
    return url


async def request(
    url: str,
    *,
    form: Mapping[str, str] | None = None,
    ssl_context: ssl.SSLContext | None = None,
    open_socket: OpenSocket | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
    max_bytes: int = MAX_BYTES,
) -> HttpAnswer:
    """Ask once (RFC 9112): GET, or POST where there is a form.

    Args:
        url: Where; see `check_url`.
        form: Fields to send, as `application/x-www-form-urlencoded`.
        ssl_context: Instead of the system's.
        open_socket: The way through a proxy.
        timeout_seconds: For all of it.
        max_bytes: The largest body taken.

    Raises:
        ValueError: Such a URL is not asked.
        ConnectionFailed: Nobody can be reached there, or who answers does not speak HTTP, or says too much.

    Cancelling it closes the connection.
    """
    parts = _split(check_url(url), "the URL")
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    context = (ssl_context or ssl.create_default_context()) if parts.scheme == "https" else None
    try:
        async with asyncio.timeout(timeout_seconds):
            return await _ask(parts, host, port, form, context, open_socket, max_bytes)
    except ImapipeError:
        raise
    except TimeoutError:
        raise ConnectionFailed(f"nothing usable in {timeout_seconds:g} seconds", host=host, port=port) from None
    except OSError as error:
        raise unreachable(error, host, port, name_is_right=False, tls_advice="it is no https:// port") from error
    except (http.client.HTTPException, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
        raise ConnectionFailed(
            "what answers there does not speak HTTP, or not to its end", host=host, port=port
        ) from None


async def _ask(
    parts: SplitResult,
    host: str,
    port: int,
    form: Mapping[str, str] | None,
    context: ssl.SSLContext | None,
    open_socket: OpenSocket | None,
    max_bytes: int,
) -> HttpAnswer:
    name = host if context is not None else None
    if open_socket is None:
        reader, writer = await asyncio.open_connection(
            host, port, ssl=context, server_hostname=name, limit=_MAX_HEAD_BYTES
        )
    else:
        connected = await open_socket(host, port)
        try:
            reader, writer = await asyncio.open_connection(
                sock=connected, ssl=context, server_hostname=name, limit=_MAX_HEAD_BYTES
            )
        except BaseException:
            connected.close()
            raise
    try:
        writer.write(_request_bytes(parts, form))
        head = await reader.readuntil(_HEAD_END)
        body = await _body(reader, head, host, port, max_bytes)
        # A body in tens of thousands of chunks takes long.
        return await asyncio.to_thread(_read, head, body)
    finally:
        writer.transport.abort()


def _request_bytes(parts: SplitResult, form: Mapping[str, str] | None) -> bytes:
    body = b"" if form is None else urlencode(form).encode("ascii")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [
        f"{'GET' if form is None else 'POST'} {target} HTTP/1.1",
        f"Host: {parts.netloc}",
        "User-Agent: imapipe",
        "Accept: application/json, application/xml, text/xml",
        "Connection: close",
    ]
    if form is not None:
        lines += ["Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}"]
    return "\r\n".join((*lines, "", "")).encode("ascii") + body


async def _body(reader: asyncio.StreamReader, head: bytes, host: str, port: int, max_bytes: int) -> bytes:
    """What follows the head: as much as it says, else all until the end."""
    fields = http.client.parse_headers(io.BytesIO(head.partition(b"\r\n")[2]))
    length = fields.get("Content-Length")
    if length is not None and not fields.get("Transfer-Encoding"):
        wanted = int(length)
        if 0 <= wanted <= max_bytes:
            return await reader.readexactly(wanted)
    else:
        body = bytearray()
        while len(body) <= max_bytes:
            piece = await reader.read(_MAX_HEAD_BYTES)
            if not piece:
                return bytes(body)
            body += piece
    raise ConnectionFailed(f"the answer has more than {max_bytes:,} bytes", host=host, port=port)


class _Received:
    """What came, in the place of the socket that the parser reads from."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def _read(head: bytes, body: bytes) -> HttpAnswer:
    answer = http.client.HTTPResponse(_Received(head + body))  # type: ignore[arg-type]  # it calls makefile() only
    with answer:
        answer.begin()
        return HttpAnswer(answer.status, answer.read(), answer.getheader("Location", "") or "")


def _split(url: str, what: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError(f"{what} is none such as https://login.example.org/token") from None
    return parts
