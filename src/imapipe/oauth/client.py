"""Who asks for access tokens, and what is given: values. No secret is in a repr."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

from imapipe.https import check_url
from imapipe.net.proxy import through_proxy
from imapipe.net.reaching import OpenSocket
from imapipe.providers import OAuthEndpoints, provider_of


@dataclass(frozen=True, slots=True)
class Token:
    """What an OAuth server gave (RFC 6749 §5.1).

    Attributes:
        access_token: What a mail server takes.
        expires_at: When it ends, in seconds since 1970, by the clock of this machine; None where that was not said.
        refresh_token: What the next one is asked for with, or "".
    """

    access_token: str = field(repr=False)
    expires_at: float | None = None
    refresh_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class OAuthClient:
    """A program as an OAuth server knows it, and where that server is. `of` takes the latter from the table.

    Attributes:
        client_id: What the program is called there: you register it.
        client_secret: Its secret, or "" where it has none.
        endpoints: Where to ask, and for which rights.
    """

    client_id: str
    client_secret: str = field(default="", repr=False)
    endpoints: OAuthEndpoints = field(default_factory=lambda: OAuthEndpoints("", ""))

    @classmethod
    def of(
        cls,
        host: str,
        *,
        client_id: str,
        client_secret: str = "",
        tenant: str = "common",
        scopes: tuple[str, ...] = (),
        authorize_url: str = "",
        token_url: str = "",
        device_url: str = "",
    ) -> OAuthClient:
        """The client for a mail server; what is given counts more than what is known of its provider.

        Args:
            host: The name of the mail server, such as `imap.gmail.com`.
            client_id: What the program is called at the OAuth server.
            client_secret: Its secret, if it has one.
            tenant: At Microsoft, whose accounts: a domain, an id, `common`, `organizations` or `consumers`.
            scopes: The rights to ask for.
            authorize_url: Where a person allows it.
            token_url: Where tokens are given.
            device_url: Where a device without a browser begins.

        Raises:
            ValueError: It is not known where to ask, or something given cannot be right.
        """
        known = provider_of(host)
        if not client_id:
            advice = "register a program with the provider, and give its client_id"
            raise ValueError(f"an OAuth server gives tokens to programs that it knows: {advice}")
        if not tenant or not all(character.isalnum() or character in "-._" for character in tenant):
            raise ValueError("tenant takes a domain, an id, common, organizations or consumers")
        oauth = known.oauth or OAuthEndpoints("", "")
        found = OAuthEndpoints(
            authorize_url or oauth.authorize_url.replace("{tenant}", tenant),
            token_url or oauth.token_url.replace("{tenant}", tenant),
            device_url or oauth.device_url.replace("{tenant}", tenant),
            scopes or oauth.scopes,
            scopes or oauth.application_scopes,
            oauth.parameters if not authorize_url else (),
            oauth.redirect_host,
        )
        if not found.token_url:
            password = f"; make a password for programs at {known.app_password_url}" if known.app_password_url else ""
            raise ValueError(
                f"{known.name or host} is not known to give access tokens: give token_url and authorize_url{password}"
            )
        for name in ("authorize_url", "token_url", "device_url"):
            if url := getattr(found, name):
                check_url(url, name)
        return cls(client_id, client_secret, found)


@dataclass(frozen=True, slots=True)
class Web:
    """The way to the OAuth server.

    Attributes:
        ssl_context: Instead of the system's trust.
        open_socket: The way through a proxy.
    """

    ssl_context: ssl.SSLContext | None = None
    open_socket: OpenSocket | None = None

    @classmethod
    def of(cls, ssl_context: ssl.SSLContext | None, proxy: str | None) -> Web:
        """What users give. Raises ValueError, ModuleNotFoundError as `create_pool` does for `proxy=`."""
        return cls(ssl_context, through_proxy(proxy) if proxy is not None else None)
