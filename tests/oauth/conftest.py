from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio
from tests.oauth.authorization_server import SCOPE, AuthorizationServer

from imapipe.oauth import OAuthClient

Browse = Callable[[str], Awaitable[str]]


@pytest_asyncio.fixture
async def authority() -> AsyncIterator[AuthorizationServer]:
    async with AuthorizationServer() as server:
        yield server


@pytest.fixture
def oauth_client(authority: AuthorizationServer) -> OAuthClient:
    return OAuthClient.of(
        "imap.example.org",
        client_id="me",
        scopes=(SCOPE,),
        authorize_url=f"{authority.url}/authorize",
        token_url=f"{authority.url}/token",
        device_url=f"{authority.url}/device",
    )


@pytest.fixture
def browse() -> Browse:
    """Open a URL as a browser does, redirections and all; gives the page."""

    def get(url: str) -> str:
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return error.read().decode()

    async def run(url: str) -> str:
        return await asyncio.to_thread(get, url)

    return run
