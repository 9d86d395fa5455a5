"""`imapipe login`: a token in a file, kept fresh and proved; one sentence for whatever goes wrong."""

from __future__ import annotations

import json
import re
import shlex
import stat
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from anyio.from_thread import start_blocking_portal
from tests.cli.test_documents import blocks
from tests.oauth.authorization_server import SCOPE, AuthorizationServer

import imapipe
from imapipe.testing import Server

if TYPE_CHECKING:
    from tests.cli.conftest import Call, Serve


@pytest.fixture
def authority() -> Iterator[AuthorizationServer]:
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(AuthorizationServer()) as server:
        yield server


@pytest.fixture
def server(serve: Serve, authority: AuthorizationServer) -> Server:
    """A mail server that takes the last token, and no other."""
    server = serve(3, token="nobody's", mechanisms=("XOAUTH2",))
    authority.on_token = lambda token: setattr(server, "token", token)
    return server


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a browser was opened with; it goes where it is sent."""
    urls: list[str] = []

    def browse(url: str) -> bool:
        urls.append(url)
        with urllib.request.urlopen(url, timeout=60) as answer:
            return bool(answer.read())

    monkeypatch.setattr(webbrowser, "open", browse)
    monkeypatch.setenv("DISPLAY", ":0")
    return urls


def _options(authority: AuthorizationServer, file: Path) -> list[object]:
    places = [f"--{name}-url={authority.url}/{name}" for name in ("authorize", "token", "device")]
    return [*places, "--client-id", "me", "--scope", SCOPE, "--token-file", file]


@pytest.mark.slow
def test_a_browser_logs_in_and_the_file_serves_every_command(
    server: Server, authority: AuthorizationServer, opened: list[str], call: Call, tmp_path: Path
) -> None:
    file = tmp_path / "ann.token"
    outcome = call("login", server.url, *_options(authority, file))
    assert outcome.status == 0, outcome.err
    assert outcome.out.startswith(f"logged in as ann at 127.0.0.1:{server.port}; use --token-file {file}")
    assert len(opened) == 1
    assert opened[0] in outcome.err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    token = json.loads(file.read_bytes())["token"]
    assert token["access_token"] not in outcome.out + outcome.err
    assert token["refresh_token"] not in outcome.out + outcome.err
    assert call("scan", server.url, "INBOX", "--token-file", file, "--quiet", password=None).status == 0
    accounts = tmp_path / "accounts.toml"
    accounts.write_text(f'[a]\nurl = "{server.url}"\ntoken_file = "ann.token"\n')
    assert call("backup", "--accounts", accounts, "--to", f"maildir:{tmp_path / 'mail'}", "--quiet").status == 0
    # The next login needs no client: the file knows it.
    again = call("login", server.url, "--token-file", file, "--json")
    assert again.status == 0, again.err
    assert again.document["stays_fresh"] is True
    assert authority.asked["authorization_code"] == 2


def test_a_device_and_an_application(
    server: Server, authority: AuthorizationServer, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = call("login", server.url, *_options(authority, tmp_path / "a"), "--device")
    assert outcome.status == 0, outcome.err
    assert f"open {authority.url}/type in any browser, and type ABCD-EFGH" in outcome.err
    authority.client_secret = "s3cret"
    monkeypatch.setenv("IMAPIPE_CLIENT_SECRET", "s3cret")
    outcome = call("login", server.url, *_options(authority, tmp_path / "b"), "--application")
    assert outcome.status == 0, outcome.err
    assert "it is kept fresh" in outcome.out
    assert "s3cret" not in outcome.out + outcome.err


def test_without_a_screen_the_url_is_told_and_waited_for(
    server: Server, authority: AuthorizationServer, opened: list[str], call: Call, tmp_path: Path
) -> None:
    file = tmp_path / "ann.token"
    outcome = call("login", server.url, *_options(authority, file), "--no-browser", "--wait", 0.1)
    assert outcome.status == 4
    assert f"log in with a browser on this machine: {authority.url}/authorize?" in outcome.err
    assert "nobody logged in within 0.1 seconds" in outcome.err
    assert not opened
    assert not file.exists()


def test_a_token_that_the_mail_server_does_not_take(
    server: Server, authority: AuthorizationServer, opened: list[str], call: Call, tmp_path: Path
) -> None:
    authority.on_token = lambda token: None
    outcome = call("login", server.url, *_options(authority, tmp_path / "ann.token"))
    assert outcome.status == 4
    assert "the server refused the login: Invalid credentials" in outcome.err
    assert not outcome.out


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["imaps://ann@imap.gmail.com"], 2, "say with --token-file FILE"),
        (["imaps://ann@imap.gmail.com", "--token-file", "new"], 2, "give its --client-id"),
        (["imaps://ann@imap.gmail.com", "--token-file", "new", "--client-id", "x", "--device"], 2, "device flow"),
        (["imaps://ann@imap.gmail.com", "--token-file", "new", "--client-id", "x", "--application"], 2, "--client-sec"),
        (
            ["imaps://ann@imap.mail.me.com", "--token-file", "new", "--client-id", "x"],
            2,
            "make a password for programs",
        ),
        (["imaps://ann@imap.example.org", "--token-file", "new", "--client-id", "x"], 2, "give --token-url and"),
        (
            ["imaps://ann@imap.gmail.com", "--token-file", "new", "--client-id", "x", "--tenant", "/"],
            2,
            "--tenant takes",
        ),
        (["imaps://ann@imap.gmail.com", "--token-file", "new", "--device", "--application"], 2, "exclude each other"),
        (["imaps://ann@imap.gmail.com", "--token-file", "new", "--password-file", "x"], 2, "leave --password-file"),
        (["imaps://imap.gmail.com", "--token-file", "new", "--client-id", "x"], 2, "name the user"),
        (["ann@example.org", "--token-file", "new"], 2, "names no server: give its URL, or --autodiscover"),
        (["ann@example", "--token-file", "new", "--autodiscover"], 2, "no mail address"),
        (["imaps://ann@imap.gmail.com", "--token-file", ".", "--client-id", "x"], 2, "it is a folder; name a file"),
        (["imaps://ann@imap.gmail.com", "--token-file", "no/new", "--client-id", "x"], 2, "its folder does not exist"),
    ],
)
def test_what_cannot_work_is_one_sentence(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], status: int, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = call("login", *words)
    assert outcome.status == status, outcome.err
    assert says in outcome.sentence


COMMANDS = [line for _, _, code in blocks("docs/logging-in.md", "sh") for line in code.splitlines()]


@pytest.mark.slow
def test_the_commands_of_the_recipes_run(
    server: Server,
    authority: AuthorizationServer,
    opened: list[str],
    call: Call,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def look_up(address: str, **_: object) -> imapipe.Discovered:
        return imapipe.Discovered(url=server.url, source="srv", detail="_imap._tcp.example.org", is_vouched=True)

    monkeypatch.setattr(imapipe, "autodiscover", look_up)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "password").write_text("secret\n")
    (tmp_path / "secret").write_text("s3cret\n")
    server.mechanisms = ("PLAIN", "XOAUTH2")
    assert len(COMMANDS) >= 8
    for command in COMMANDS:
        words = shlex.split(re.sub(r"imaps://\S+", server.url, command).replace("--client-id ID", "--client-id me"))[1:]
        if words[0] == "login":
            authority.client_secret = "s3cret" if "--client-secret-file" in words else ""
            words += map(str, _options(authority, Path(words[words.index("--token-file") + 1])))
        outcome = call(*words, password=None)
        assert outcome.status == 0, f"{command}: {outcome.err}"


def test_an_address_is_looked_up_where_that_is_asked_for(
    server: Server,
    authority: AuthorizationServer,
    opened: list[str],
    call: Call,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = imapipe.Discovered(url=server.url, source="srv", detail="_imap._tcp.example.org", is_vouched=True)
    asked: list[str] = []

    async def look_up(address: str, **_: object) -> imapipe.Discovered:
        asked.append(address)
        return found

    monkeypatch.setattr(imapipe, "autodiscover", look_up)
    file = tmp_path / "ann.token"
    outcome = call("login", "ann@example.org", "--autodiscover", *_options(authority, file))
    assert outcome.status == 0, outcome.err
    assert asked == ["ann@example.org"]
    assert f"the server is {server.url} (srv: _imap._tcp.example.org)" in outcome.err
    found = imapipe.Discovered(url="imaps://a@elsewhere.net", source="srv", detail="_imaps", is_vouched=False)
    outcome = call("login", "ann@example.org", "--autodiscover", *_options(authority, file))
    assert outcome.status == 2
    assert "the DNS says imaps://a@elsewhere.net (_imaps), which is not below the domain" in outcome.sentence


def test_what_the_token_cannot_be_kept_in_is_refused_before_a_person_logs_in(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    login = ("login", "imaps://ann@imap.gmail.com", "--client-id", "x", "--token-file", tmp_path / "token")
    monkeypatch.setattr("imapipe.cli.login.find_spec", lambda name: None)
    assert call(*login, "--keyring").sentence == "--keyring needs keyring: pip install 'imapipe[keyring]'"
    monkeypatch.setattr("os.access", lambda path, mode: False)
    outcome = call(*login)
    assert outcome.status == 2
    assert outcome.sentence.endswith("its folder may not be written to; name another place")
