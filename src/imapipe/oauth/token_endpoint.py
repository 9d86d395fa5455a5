"""Asking an OAuth server: a form goes there, JSON comes back (RFC 6749 §4, §5).

Invariants:

- No secret is in an exception, also where the server echoes one.
- That a token is refused (`TokenRefused`) is told apart from a server that does not work (`ConnectionFailed`): only the
  latter passes.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from typing import Final

import orjson

from imapipe.errors import ConnectionFailed, TokenRefused
from imapipe.https import HttpAnswer, request
from imapipe.models.json_value import JSON
from imapipe.net.secrets import Secrets
from imapipe.oauth.client import OAuthClient, Token, Web

_SECRET_FIELDS: Final = ("client_secret", "refresh_token", "code", "code_verifier", "device_code")
_PASSING: Final = ("temporarily_unavailable", "server_error")
# RFC 6749 §5.2 says which characters the word for an error may have.
_MAX_WORD: Final = 100
# Both fit into a file (`durable_file.MOST_SECRET_BYTES`), however they are quoted there. Providers promise 2,048.
_MAX_TOKEN: Final = 12 * 1024


async def ask(url: str, form: Mapping[str, str], web: Web) -> dict[str, JSON]:
    """Send a form; gives the object that comes back.

    Raises:
        TokenRefused: The server says why not.
        ConnectionFailed: It cannot be reached, or does not work.
    """
    hidden = Secrets()
    for name in _SECRET_FIELDS:
        hidden.add(form.get(name, ""))
    sent = {name: value for name, value in form.items() if value}
    answer = await request(url, form=sent, ssl_context=web.ssl_context, open_socket=web.open_socket)
    document = _document(answer)
    if answer.status == 200 and "error" not in document:
        return document
    error, description = (_text(document, name, hidden) for name in ("error", "error_description"))
    if answer.status >= 500 or answer.status == 429 or error in _PASSING:
        raise ConnectionFailed(f"the OAuth server does not work now (HTTP status {answer.status})")
    raise TokenRefused(error[:_MAX_WORD] or f"HTTP status {answer.status}", description)


async def ask_for_token(client: OAuthClient, form: Mapping[str, str], web: Web) -> Token:
    """Ask for a token (§4.1.3, §4.4.2, §6; RFC 8628 §3.4); raises as `ask` does."""
    identity = {"client_id": client.client_id, "client_secret": client.client_secret}
    asked_at = time.time()
    document = await ask(client.endpoints.token_url, {**identity, **form}, web)
    access_token, kind = document.get("access_token"), document.get("token_type", "Bearer")
    refresh_token = document.get("refresh_token")
    if not isinstance(access_token, str) or not access_token or str(kind).lower() != "bearer":
        raise TokenRefused("the answer holds no bearer token")
    if not isinstance(refresh_token, str):
        refresh_token = ""
    if not _is_token(access_token) or not _is_token(refresh_token):
        raise TokenRefused(f"a token is longer than {_MAX_TOKEN:,} characters, or holds others than those of ASCII")
    seconds = document.get("expires_in")
    if isinstance(seconds, str) and seconds.isdecimal() and len(seconds) < 10:
        seconds = int(seconds)
    lasts = float(seconds) if isinstance(seconds, int | float) and not isinstance(seconds, bool) else None
    return Token(access_token, asked_at + lasts if lasts is not None else None, refresh_token)


async def refresh(
    client: OAuthClient, token: Token, *, ssl_context: ssl.SSLContext | None = None, proxy: str | None = None
) -> Token:
    """Another access token for a refresh token (RFC 6749 §6).

    Args:
        client: Who asks.
        token: What it was given before.
        ssl_context: Trust other certificates than the system does.
        proxy: The URL of a proxy; see `create_pool`.

    Returns:
        The new one. Its refresh token is the old one where the server gave no other: a server that gave one may take
        the old one no more, so keep it before anything else is done.

    Raises:
        TokenRefused: The server takes the refresh token no more; somebody has to log in again.
        ConnectionFailed: The server cannot be reached, or does not work.

    Cancelling it may lose the new refresh token; `TokenFile` takes care of that.
    """
    form = {"grant_type": "refresh_token", "refresh_token": token.refresh_token}
    found = await ask_for_token(client, form, Web.of(ssl_context, proxy))
    return found if found.refresh_token else Token(found.access_token, found.expires_at, token.refresh_token)


def _is_token(text: str) -> bool:
    """Whether a token may look so (RFC 6749 §A.12, §A.17), or is none at all."""
    return len(text) <= _MAX_TOKEN and (not text or (text.isascii() and text.isprintable()))


def _document(answer: HttpAnswer) -> dict[str, JSON]:
    try:
        document = orjson.loads(answer.body)
    except ValueError:
        document = None
    return document if isinstance(document, dict) else {}


def _text(document: Mapping[str, JSON], name: str, hidden: Secrets) -> str:
    value = document.get(name)
    # Microsoft's descriptions have many lines, of which the first one speaks to people.
    line = value.strip().partition("\n")[0].strip() if isinstance(value, str) else ""
    return hidden.hide(line.encode("utf-8", "replace")).decode("utf-8", "replace")
