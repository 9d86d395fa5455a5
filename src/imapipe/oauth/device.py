"""The device flow (RFC 8628): a person types a code into a browser anywhere, while this program waits."""

from __future__ import annotations

import asyncio
import inspect
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Final

from imapipe.errors import ConnectionFailed, TokenRefused
from imapipe.https import check_url
from imapipe.models.json_value import JSON
from imapipe.oauth.client import OAuthClient, Token, Web
from imapipe.oauth.token_endpoint import ask, ask_for_token

_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
# RFC 8628 §3.2 and §3.5 give these numbers.
_INTERVAL_SECONDS: Final = 5.0
_SLOWER_SECONDS: Final = 5.0
_MAX_INTERVAL_SECONDS: Final = 60.0
_LIFE_SECONDS: Final = 900.0
_MAX_LIFE_SECONDS: Final = 3600.0

ShowCode = Callable[[str, str], Awaitable[None] | None]


async def log_in_by_device(
    client: OAuthClient,
    *,
    show: ShowCode,
    ssl_context: ssl.SSLContext | None = None,
    proxy: str | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Token:
    """Log in with a browser on any machine.

    Args:
        client: The program.
        show: Called once with the URL to open and the code to type there.
        ssl_context: Trust other certificates than the system does.
        proxy: The URL of a proxy; see `create_pool`.
        sleep: How to wait between two questions.

    Raises:
        ValueError: The provider does not allow it for mail, as Google does not.
        TokenRefused: The person refused, or the code's time passed; `error` says which.
        ConnectionFailed: The server cannot be reached, or does not work.

    Cancelling it leaves nothing behind.
    """
    endpoints = client.endpoints
    if not endpoints.device_url:
        raise ValueError("this provider does not allow the device flow for mail: log in with a browser on this machine")
    web = Web.of(ssl_context, proxy)
    form = {"client_id": client.client_id, "scope": " ".join(endpoints.scopes)}
    document = await ask(endpoints.device_url, form, web)
    # Google calls it verification_url.
    url = document.get("verification_uri") or document.get("verification_url")
    device_code, code = document.get("device_code"), document.get("user_code")
    if not isinstance(url, str) or not isinstance(code, str) or not isinstance(device_code, str):
        raise TokenRefused("the answer holds no code to type")
    try:
        check_url(url, "verification_uri")
    except ValueError as error:
        raise TokenRefused("the answer holds no page to open", str(error)) from None
    shown = show(url, code)
    if inspect.isawaitable(shown):
        await shown
    ends_at = time.monotonic() + min(_seconds(document.get("expires_in"), _LIFE_SECONDS), _MAX_LIFE_SECONDS)
    interval = min(_seconds(document.get("interval"), _INTERVAL_SECONDS), _MAX_INTERVAL_SECONDS)
    while True:
        await sleep(interval)
        try:
            return await ask_for_token(client, {"grant_type": _GRANT, "device_code": device_code}, web)
        except ConnectionFailed as error:
            # RFC 8628 §3.5: ask less often where the server does not answer.
            interval = min(max(interval, 1.0) * 2, _MAX_INTERVAL_SECONDS)
            if error.is_permanent or time.monotonic() >= ends_at:
                raise
        except TokenRefused as error:
            if error.error == "slow_down":
                interval += _SLOWER_SECONDS
            elif error.error != "authorization_pending":
                raise
            if time.monotonic() >= ends_at:
                raise TokenRefused("expired_token", "nobody typed the code in time") from None


def _seconds(value: JSON, otherwise: float) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else otherwise
