"""Logging in with a browser on this machine: the code flow with PKCE (RFC 7636) and a loopback redirect (RFC 8252).

Invariants:

- The port is the system's, on loopback only, and open only while the answer is waited for. What does not hold the
  `state` of this login is answered and ignored, whoever sent it; the first that does is the answer.
- The page that the browser shows holds nothing of the answer.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import inspect
import secrets
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self
from urllib.parse import parse_qs, urlencode, urlsplit

from imapipe.errors import TokenRefused
from imapipe.oauth.client import OAuthClient, Token, Web
from imapipe.oauth.token_endpoint import ask_for_token

_MAX_HEAD_BYTES: Final = 16 * 1024
_HEAD_SECONDS: Final = 10.0
# What else may come behind a request, in pieces of that size.
_MAX_PIECES: Final = 64
# A browser opens some before it needs them.
_MAX_CONNECTIONS: Final = 32
_PAGE: Final = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<title>imapipe</title><p style="font: 1.2rem system-ui; margin: 4rem auto; max-width: 30rem">{}</p></html>
"""

ShowUrl = Callable[[str], Awaitable[None] | None]


async def log_in_by_browser(
    client: OAuthClient,
    *,
    show: ShowUrl,
    user: str = "",
    timeout_seconds: float = 600.0,
    ssl_context: ssl.SSLContext | None = None,
    proxy: str | None = None,
) -> Token:
    """Log in with a browser on this machine.

    Args:
        client: The program.
        show: Called once with the URL to open: prints it, or opens a browser.
        user: The address that the person shall log in with.
        timeout_seconds: How long the person may take.
        ssl_context: Trust other certificates than the system does.
        proxy: The URL of a proxy; see `create_pool`.

    Raises:
        ValueError: It is not known where a person allows it.
        TokenRefused: The person refused (`access_denied`), took too long (`timeout`), or the server gives no token.
        ConnectionFailed: The server cannot be reached, or does not work.
        OSError: No port could be had.

    Cancelling it closes the port and leaves nothing behind.
    """
    endpoints, web = client.endpoints, Web.of(ssl_context, proxy)
    if not endpoints.authorize_url:
        raise ValueError("it is not known where a person allows it: give authorize_url")
    state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(64)
    async with _Redirect(state) as redirect:
        redirect_uri = f"http://{endpoints.redirect_host}:{redirect.port}"
        query = {
            "response_type": "code",
            "client_id": client.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(endpoints.scopes),
            "state": state,
            "code_challenge": _challenge(verifier),
            "code_challenge_method": "S256",
            **({"login_hint": user} if user else {}),
            **dict(endpoints.parameters),
        }
        separator = "&" if "?" in endpoints.authorize_url else "?"
        shown = show(f"{endpoints.authorize_url}{separator}{urlencode(query)}")
        if inspect.isawaitable(shown):
            await shown
        try:
            async with asyncio.timeout(timeout_seconds):
                answer = await redirect.answer
        except TimeoutError:
            raise TokenRefused("timeout", f"nobody logged in within {timeout_seconds:g} seconds") from None
    if "code" not in answer:
        raise TokenRefused(answer.get("error", "the browser brought no code"), answer.get("error_description", ""))
    form = {
        "grant_type": "authorization_code",
        "code": answer["code"],
        "redirect_uri": redirect_uri,
        "code_verifier": verifier,
    }
    return await ask_for_token(client, form, web)


def _challenge(verifier: str) -> str:
    """What is told of the verifier beforehand (RFC 7636 §4.2)."""
    digest = hashlib.sha256(verifier.encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


class _Redirect:
    """The port that the browser is sent to.

    Attributes:
        port: Its number.
        answer: The fields of the first request with the right state.
    """

    def __init__(self, state: str) -> None:
        self._state = state
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.answer: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_MAX_HEAD_BYTES)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        if kind is None and self._tasks:
            # The browser is to get its page.
            await asyncio.wait(self._tasks, timeout=1.0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.answer.cancel()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= _MAX_CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
                async with asyncio.timeout(_HEAD_SECONDS):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(self._reply(head))
                    await writer.drain()
                    writer.write_eof()
                    # Closed with something unread, the connection would be reset, and the page with it.
                    for _ in range(_MAX_PIECES):
                        if not await reader.read(_MAX_HEAD_BYTES):
                            break
        finally:
            writer.transport.abort()

    def _reply(self, head: bytes) -> bytes:
        words = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
        fields: dict[str, str] = {}
        if len(words) == 3 and words[0] == "GET":
            with suppress(ValueError):
                fields = {name: values[0] for name, values in parse_qs(urlsplit(words[1]).query).items()}
        if not hmac.compare_digest(fields.get("state", "").encode(), self._state.encode()):
            return _page("404 Not Found", "This is not the answer to a login that imapipe waits for.")
        if not self.answer.done():
            self.answer.set_result(fields)
        if "code" not in fields:
            return _page("200 OK", "The login was refused. You can close this page; the terminal says more.")
        return _page("200 OK", "imapipe has what it needs. You can close this page and go back to the terminal.")


def _page(status: str, text: str) -> bytes:
    body = _PAGE.format(text).encode()
    head = (
        f"HTTP/1.1 {status}",
        "Content-Type: text/html; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Referrer-Policy: no-referrer",
        "Connection: close",
        "",
        "",
    )
    return "\r\n".join(head).encode("ascii") + body
