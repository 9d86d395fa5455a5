"""Logging in: with a browser, with a device, as an application; against a server that checks what came."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from tests.oauth.authorization_server import AuthorizationServer

import imapipe
from imapipe.oauth import (
    OAuthClient,
    Token,
    TokenFile,
    log_in_as_application,
    log_in_by_browser,
    log_in_by_device,
    refresh,
)
from imapipe.oauth import browser as browser_module
from imapipe.oauth import device as device_module

if TYPE_CHECKING:
    from tests.oauth.conftest import Browse


async def _log_in(client: OAuthClient, browse: Browse, pages: list[str], *, before: str = "") -> Token:
    """Log in with a browser that first asks for something else at the port."""
    shown: asyncio.Queue[str] = asyncio.Queue()
    login = asyncio.create_task(log_in_by_browser(client, show=shown.put_nowait, user="ann@example.org"))
    url = await shown.get()
    assert "login_hint=ann%40example.org" in url
    if before:
        port = url.partition("127.0.0.1%3A")[2].partition("&")[0]
        pages.append(await browse(f"http://127.0.0.1:{port}{before}"))
    pages.append(await browse(url))
    return await login


@pytest.mark.asyncio
async def test_a_browser_brings_a_token(
    authority: AuthorizationServer, oauth_client: OAuthClient, browse: Browse
) -> None:
    pages: list[str] = []
    token = await _log_in(oauth_client, browse, pages)
    assert token.access_token in authority.valid
    assert token.refresh_token
    assert "go back to the terminal" in pages[-1]
    assert "code-" not in pages[-1]
    assert token.access_token not in repr(token)
    assert token.refresh_token not in repr(token)


@pytest.mark.asyncio
@pytest.mark.parametrize("before", ["/favicon.ico", "/?code=forged&state=wrong", "/?code=forged", "/?state=%C3%A9"])
async def test_what_does_not_hold_the_state_is_no_answer(
    authority: AuthorizationServer, oauth_client: OAuthClient, browse: Browse, before: str
) -> None:
    pages: list[str] = []
    token = await _log_in(oauth_client, browse, pages, before=before)
    assert "not the answer" in pages[0]
    assert token.access_token in authority.valid


@pytest.mark.asyncio
async def test_a_person_who_refuses(authority: AuthorizationServer, oauth_client: OAuthClient, browse: Browse) -> None:
    authority.script = ["access_denied"]
    pages: list[str] = []
    with pytest.raises(imapipe.TokenRefused, match="access_denied: no") as caught:
        await _log_in(oauth_client, browse, pages)
    assert caught.value.error == "access_denied"
    assert "refused" in pages[-1]


@pytest.mark.asyncio
async def test_another_verifier_gets_nothing(
    oauth_client: OAuthClient, browse: Browse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser_module, "_challenge", lambda verifier: "A" * 43)
    with pytest.raises(imapipe.TokenRefused, match="invalid_grant: PKCE"):
        await _log_in(oauth_client, browse, [])


@pytest.mark.asyncio
async def test_nobody_logs_in_and_the_port_closes(oauth_client: OAuthClient) -> None:
    urls: list[str] = []
    with pytest.raises(imapipe.TokenRefused, match="nobody logged in within"):
        await log_in_by_browser(oauth_client, show=urls.append, timeout_seconds=0.05)
    port = int(urls[0].partition("127.0.0.1%3A")[2].partition("&")[0])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


@pytest.mark.asyncio
async def test_cancelling_closes_the_port_with_connections_open(oauth_client: OAuthClient) -> None:
    shown: asyncio.Queue[str] = asyncio.Queue()
    login = asyncio.create_task(log_in_by_browser(oauth_client, show=shown.put_nowait))
    port = int((await shown.get()).partition("127.0.0.1%3A")[2].partition("&")[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\n")
    await writer.drain()
    login.cancel()
    with pytest.raises(asyncio.CancelledError):
        await login
    with suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.asyncio
async def test_who_sends_without_an_end_is_not_listened_to(oauth_client: OAuthClient) -> None:
    """Anybody on this machine can reach the port, and any page in the browser."""
    shown: asyncio.Queue[str] = asyncio.Queue()
    login = asyncio.create_task(log_in_by_browser(oauth_client, show=shown.put_nowait))
    port = int((await shown.get()).partition("127.0.0.1%3A")[2].partition("&")[0])
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST / HTTP/1.1\r\n\r\n")

    async def send() -> None:
        for _ in range(4096):
            writer.write(bytes(65_536))
            await writer.drain()

    with pytest.raises(ConnectionError):
        await send()
    writer.transport.abort()
    login.cancel()
    with pytest.raises(asyncio.CancelledError):
        await login


@pytest.mark.asyncio
async def test_a_page_that_is_not_to_be_opened_is_not_shown(
    authority: AuthorizationServer, oauth_client: OAuthClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = AuthorizationServer._begin_device
    for url in (
        "javascript:alert(1)",
        "http://login.example.org/",
        "https://me:x@example.org/",
        "https://[",
        "",
        "\x1b",
    ):
        monkeypatch.setattr(
            AuthorizationServer,
            "_begin_device",
            lambda server, form, at=url: {**given(server, form), "verification_uri": at},
        )
        with pytest.raises(imapipe.TokenRefused, match="the answer holds no"):
            await log_in_by_device(oauth_client, show=lambda url, code: pytest.fail(f"{url} was shown"))


@pytest.mark.asyncio
async def test_a_device_is_not_made_to_ask_for_ever(
    authority: AuthorizationServer, oauth_client: OAuthClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority.interval, authority.code_seconds = 3600, 1e300
    authority.script = ["authorization_pending"] * 100
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(device_module, "time", SimpleNamespace(monotonic=lambda: now))
    with pytest.raises(imapipe.TokenRefused, match="nobody typed the code in time"):
        await log_in_by_device(oauth_client, show=lambda url, code: None, sleep=sleep)
    assert now == 3600


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["access_token", "refresh_token"])
@pytest.mark.parametrize("token", ["x" * 20_000, "a\nb", "\x1b[2J", "grün", "a\0"])
async def test_what_no_file_and_no_server_could_take_is_no_token(
    authority: AuthorizationServer,
    oauth_client: OAuthClient,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    token: str,
) -> None:
    monkeypatch.setattr(authority, "_give", lambda form: {**authority.token(), name: token})
    with pytest.raises(imapipe.TokenRefused) as caught:
        await refresh(oauth_client, Token("old", None, "refresh-1"))
    assert token not in str(caught.value)


@pytest.mark.asyncio
async def test_the_longest_token_comes_back_from_its_file(
    authority: AuthorizationServer, oauth_client: OAuthClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = '"\\' * 6144
    given = {**authority.token(), "access_token": longest, "refresh_token": longest}
    monkeypatch.setattr(authority, "_give", lambda form: given)
    file = TokenFile(tmp_path / "ann.token")
    await file.save(oauth_client, await refresh(oauth_client, Token("old", None, "refresh-1")))
    assert await file() == longest


@pytest.mark.asyncio
async def test_a_device_waits_for_the_person(authority: AuthorizationServer, oauth_client: OAuthClient) -> None:
    authority.interval = 3
    authority.script = ["authorization_pending", "slow_down", "broken", "authorization_pending", ""]
    shown: list[tuple[str, str]] = []
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    token = await log_in_by_device(oauth_client, show=lambda url, code: shown.append((url, code)), sleep=sleep)
    assert token.access_token in authority.valid
    assert shown == [(f"{authority.url}/type", "ABCD-EFGH")]
    # Five more after slow_down, twice as many where the server does not work (RFC 8628 §3.5).
    assert waits == [3, 3, 8, 16, 16]


@pytest.mark.asyncio
@pytest.mark.parametrize("error", ["access_denied", "expired_token"])
async def test_a_device_is_refused(authority: AuthorizationServer, oauth_client: OAuthClient, error: str) -> None:
    authority.script = ["authorization_pending", error]
    shown: list[str] = []

    async def show(url: str, code: str) -> None:
        shown.append(code)

    with pytest.raises(imapipe.TokenRefused) as caught:
        await log_in_by_device(oauth_client, show=show)
    assert caught.value.error == error
    assert shown == ["ABCD-EFGH"]


@pytest.mark.asyncio
@pytest.mark.parametrize("word", ["authorization_pending", "broken"])
async def test_a_code_that_nobody_types_ends(
    authority: AuthorizationServer, oauth_client: OAuthClient, word: str
) -> None:
    authority.code_seconds = 0
    authority.script = [word]
    with pytest.raises((imapipe.TokenRefused, imapipe.ConnectionFailed), match=r"in time|does not work now"):
        await log_in_by_device(oauth_client, show=lambda url, code: None)


@pytest.mark.asyncio
async def test_an_application_logs_in_by_itself(authority: AuthorizationServer, oauth_client: OAuthClient) -> None:
    authority.client_secret = "s3cret"
    client = OAuthClient(oauth_client.client_id, "s3cret", oauth_client.endpoints)
    assert "s3cret" not in repr(client)
    token = await log_in_as_application(client)
    assert token.access_token in authority.valid
    assert not token.refresh_token
    with pytest.raises(imapipe.TokenRefused, match="invalid_client"):
        await log_in_as_application(OAuthClient("me", "other", oauth_client.endpoints))
    with pytest.raises(ValueError, match="client_secret"):
        await log_in_as_application(oauth_client)


@pytest.mark.asyncio
async def test_a_refused_refresh_says_why_and_no_secret(
    authority: AuthorizationServer, oauth_client: OAuthClient
) -> None:
    with pytest.raises(imapipe.TokenRefused) as caught:
        await refresh(oauth_client, Token("old", None, "refresh-secret"))
    assert str(caught.value) == (
        "AUTHENTICATE: NO the OAuth server gives no token (invalid_grant: AADSTS70000: not (hidden))"
    )
    authority.script = ["broken"]
    with pytest.raises(imapipe.ConnectionFailed, match="does not work now") as failed:
        await refresh(oauth_client, Token("old", None, "refresh-secret"))
    assert "refresh-secret" not in str(failed.value)


@pytest.mark.asyncio
async def test_where_nobody_can_allow_it(oauth_client: OAuthClient) -> None:
    endpoints = replace(oauth_client.endpoints, authorize_url="", application_scopes=())
    client = OAuthClient("me", "s3cret", endpoints)
    with pytest.raises(ValueError, match="give authorize_url"):
        await log_in_by_browser(client, show=lambda url: None)
    with pytest.raises(ValueError, match="give scopes"):
        await log_in_as_application(client)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"client_id": ""}, "register a program with the provider"),
        ({"client_id": "me", "tenant": "a/b"}, "tenant takes a domain"),
        ({"client_id": "me", "token_url": "http://login.example.org/token"}, "token_url must begin with https://"),
        ({"client_id": "me", "token_url": "https://me:x@login.example.org/"}, "token_url holds a user name"),
        ({"client_id": "me", "token_url": "login.example.org"}, "token_url is none such as"),
    ],
)
def test_what_cannot_be_a_client_is_one_sentence(given: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        OAuthClient.of("imap.gmail.com", **given)  # type: ignore[arg-type]  # those that are no texts are not given


def test_a_provider_without_tokens_says_where_a_password_is_made() -> None:
    with pytest.raises(ValueError, match=r"iCloud is not known to give access tokens.*account.apple.com"):
        OAuthClient.of("imap.mail.me.com", client_id="me")


@pytest.mark.asyncio
async def test_what_the_table_knows_of_providers() -> None:
    google = OAuthClient.of("imap.gmail.com", client_id="me")
    with pytest.raises(ValueError, match="does not allow the device flow for mail"):
        await log_in_by_device(google, show=lambda url, code: None)
    microsoft = OAuthClient.of("outlook.office365.com", client_id="me", tenant="example.org").endpoints
    assert microsoft.token_url == "https://login.microsoftonline.com/example.org/oauth2/v2.0/token"
    assert microsoft.scopes == ("https://outlook.office.com/IMAP.AccessAsUser.All", "offline_access")
