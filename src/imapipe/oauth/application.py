"""An application that needs no person: client credentials (RFC 6749 §4.4), as Exchange Online has them."""

from __future__ import annotations

import ssl

from imapipe.oauth.client import OAuthClient, Token, Web
from imapipe.oauth.token_endpoint import ask_for_token


async def log_in_as_application(
    client: OAuthClient, *, ssl_context: ssl.SSLContext | None = None, proxy: str | None = None
) -> Token:
    """An access token for the application itself. There is no refresh token: this is asked again instead.

    Args:
        client: The application, with its secret.
        ssl_context: Trust other certificates than the system does.
        proxy: The URL of a proxy; see `create_pool`.

    Raises:
        ValueError: It has no secret, or it is not known which rights to ask for.
        TokenRefused: The server gives it none.
        ConnectionFailed: The server cannot be reached, or does not work.
    """
    if not client.client_secret:
        raise ValueError("an application logs in with its client_secret")
    if not client.endpoints.application_scopes:
        raise ValueError("this provider is not known to let an application in by itself: give scopes")
    form = {"grant_type": "client_credentials", "scope": " ".join(client.endpoints.application_scopes)}
    return await ask_for_token(client, form, Web.of(ssl_context, proxy))
