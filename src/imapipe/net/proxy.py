"""The way through a proxy: SOCKS, by python-socks, or HTTP CONNECT.

Invariants:

- The name of the server goes to the proxy as it is; nothing is looked up here.
- No password of a proxy stands in an exception.
"""

from __future__ import annotations

import socket
from importlib.util import find_spec
from urllib.parse import unquote, urlsplit

from imapipe.errors.said import cut, written_out
from imapipe.net.http_connect import connect_by_http
from imapipe.net.reaching import OpenSocket
from imapipe.net.secrets import Secrets

_SCHEMES = ("socks5", "socks4", "http")
_ADVICE = "use socks5://[user:password@]host:port, socks4://host:port or http://[user:password@]host:port"


def through_proxy(url: str) -> OpenSocket:
    """What opens sockets through a proxy.

    Args:
        url: Such as `socks5://127.0.0.1:1080` or `http://user:password@proxy.example.org:3128`.

    Raises:
        ValueError: Not the URL of a proxy.
        ModuleNotFoundError: python-socks is not installed.
    """
    try:
        named = name_of_proxy(url)
    except ValueError as error:
        raise ValueError(f"proxy= takes the URL of a proxy: {error}") from None
    is_http = named.startswith("http")
    if not is_http and find_spec("python_socks") is None:
        raise ModuleNotFoundError("a proxy needs python-socks: pip install 'imapipe[proxy]'", name="python_socks")

    parts = urlsplit(url)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    hidden = Secrets()
    hidden.add(password)

    async def by_http(host: str, port: int) -> socket.socket:
        # Of python-socks it would be what comes in one piece, with whatever the server says already.
        credentials = (user, password) if user else None
        return await connect_by_http((parts.hostname or "", parts.port or 0), credentials, host, port)

    async def by_socks(host: str, port: int) -> socket.socket:
        from python_socks import ProxyError  # noqa: PLC0415  # only who has a proxy needs it
        from python_socks.async_.asyncio import Proxy  # noqa: PLC0415

        try:
            # The proxy looks the name up: whoever uses one may not be able to, or not want to be seen doing it.
            return await Proxy.from_url(url, rdns=True).connect(dest_host=host, dest_port=port)
        except ProxyError as error:
            raise ConnectionError(str(error)) from None

    async def open_socket(host: str, port: int) -> socket.socket:
        try:
            return await (by_http if is_http else by_socks)(host, port)
        except (OSError, UnicodeError) as error:
            # What a proxy says may be an echo of what it was told.
            said = hidden.hide(str(error).encode("utf-8", "replace")).decode("utf-8", "replace")
            raise ConnectionError(f"the proxy {named} could not connect: {cut(written_out(said))}") from None

    return open_socket


def name_of_proxy(url: str) -> str:
    """The scheme, host and port of a proxy, without its secret.

    Raises:
        ValueError: It is none. Its text says what to use, without the URL, for there may be a password in it.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(_ADVICE) from None
    if not host or not port or parts.scheme not in _SCHEMES or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(_ADVICE)
    return f"{parts.scheme}://{host}:{port}"
