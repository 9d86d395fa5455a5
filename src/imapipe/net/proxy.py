"""The way through a proxy: SOCKS or HTTP CONNECT, by python-socks.

Invariants:

- The name of the server goes to the proxy as it is; nothing is looked up here.
- No password of a proxy stands in an exception.
"""

from __future__ import annotations

import socket
from importlib.util import find_spec
from urllib.parse import unquote, urlsplit

from imapipe.errors.said import cut, written_out
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
    if find_spec("python_socks") is None:
        raise ModuleNotFoundError("a proxy needs python-socks: pip install 'imapipe[proxy]'", name="python_socks")

    hidden = Secrets()
    hidden.add(unquote(urlsplit(url).password or ""))

    async def open_socket(host: str, port: int) -> socket.socket:
        from python_socks import ProxyError  # noqa: PLC0415  # only who has a proxy needs it
        from python_socks.async_.asyncio import Proxy  # noqa: PLC0415

        # The proxy looks the name up: whoever uses one may not be able to, or not want to be seen doing it.
        proxy = Proxy.from_url(url) if named.startswith("http") else Proxy.from_url(url, rdns=True)
        try:
            return await proxy.connect(dest_host=host, dest_port=port)
        except (OSError, ProxyError) as error:
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
