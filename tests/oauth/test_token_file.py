"""A token file keeps the token fresh: one refresh at a time, durable, and nothing lost when somebody gives up."""

from __future__ import annotations

import asyncio
import json
import stat
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringError
from tests.oauth.authorization_server import AuthorizationServer

import imapipe
from imapipe import search as q
from imapipe.durable_file import save_file
from imapipe.oauth import OAuthClient, Token, TokenCommand, TokenFile
from imapipe.runtime.lock_file import LockFile
from imapipe.testing import Act, Bye, Server


async def _logged_in(path: Path, authority: AuthorizationServer, client: OAuthClient, *, lasts: float) -> str:
    """Save a token that lasts so long; gives it."""
    given = authority.token()
    token = Token(str(given["access_token"]), time.time() + lasts, str(given["refresh_token"]))
    await TokenFile(path).save(client, token)
    return token.access_token


def _names(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


@pytest.mark.asyncio
async def test_a_token_that_lasts_is_used_and_the_file_is_its_owners(
    tmp_path: Path, authority: AuthorizationServer, oauth_client: OAuthClient
) -> None:
    path = tmp_path / "ann.token"
    token = await _logged_in(path, authority, oauth_client, lasts=3600)
    assert await TokenFile(path)() == token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert _names(tmp_path) == ["ann.token"]
    assert authority.asked.total() == 0
    assert await TokenFile(path).client() == oauth_client


@pytest.mark.asyncio
async def test_nobody_has_a_turn_before_a_cancelled_save_is_over(
    tmp_path: Path, oauth_client: OAuthClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, begun, go_on = tmp_path / "ann.token", threading.Event(), threading.Event()

    def slowly(target: str, pieces: Iterable[bytes]) -> None:
        begun.set()
        go_on.wait()
        save_file(target, pieces)

    monkeypatch.setattr("imapipe.oauth.token_file.save_file", slowly)
    saving = asyncio.create_task(TokenFile(path).save(oauth_client, Token("new")))
    try:
        assert await asyncio.to_thread(begun.wait)
        saving.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not LockFile(f"{path}.lock").acquire()
    finally:
        go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await saving
    TokenFile(path).check()
    lock = LockFile(f"{path}.lock")
    assert lock.acquire()
    lock.release()


@pytest.mark.asyncio
async def test_many_tasks_refresh_once_and_the_new_refresh_token_is_kept(
    tmp_path: Path, authority: AuthorizationServer, oauth_client: OAuthClient
) -> None:
    path = tmp_path / "ann.token"
    old = await _logged_in(path, authority, oauth_client, lasts=60)
    # One object, and others of the same file.
    files = [TokenFile(path)] * 4 + [TokenFile(path) for _ in range(4)]
    tokens = await asyncio.gather(*(each() for each in files))
    assert set(tokens) == authority.valid
    assert old not in tokens
    assert authority.asked["refresh_token"] == 1
    # The one that came with it is taken, the one before no more.
    later = TokenFile(path, clock=lambda: time.time() + 3600)
    assert await later() in authority.valid
    assert authority.asked["refresh_token"] == 2


_CHILD = """
import asyncio, sys
from imapipe.oauth import TokenFile
print(asyncio.run(TokenFile(sys.argv[1])()))
"""


@pytest.mark.slow
@pytest.mark.asyncio
async def test_processes_refresh_once(
    tmp_path: Path, authority: AuthorizationServer, oauth_client: OAuthClient
) -> None:
    path = tmp_path / "ann.token"
    await _logged_in(path, authority, oauth_client, lasts=60)
    authority.gate = asyncio.Event()
    children = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", _CHILD, path, stdout=asyncio.subprocess.PIPE)
        for _ in range(2)
    ]
    here = asyncio.create_task(TokenFile(path)())
    await authority.came.wait()
    authority.gate.set()
    written = [(await child.communicate())[0].decode().strip() for child in children]
    assert {await here, *written} == authority.valid
    assert authority.asked["refresh_token"] == 1


@pytest.mark.asyncio
async def test_who_is_cancelled_keeps_what_the_server_gave(
    tmp_path: Path, authority: AuthorizationServer, oauth_client: OAuthClient
) -> None:
    path = tmp_path / "ann.token"
    await _logged_in(path, authority, oauth_client, lasts=60)
    authority.gate = asyncio.Event()
    waiting = asyncio.create_task(TokenFile(path)())
    await authority.came.wait()
    waiting.cancel()
    await asyncio.sleep(0)
    authority.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    # With the old refresh token this would be refused.
    assert await TokenFile(path)() in authority.valid
    assert authority.asked["refresh_token"] == 1
    assert _names(tmp_path) == ["ann.token"]


@pytest.mark.asyncio
async def test_a_token_that_nearly_ended_does_while_its_server_does_not(
    tmp_path: Path, authority: AuthorizationServer, oauth_client: OAuthClient
) -> None:
    path = tmp_path / "ann.token"
    token = await _logged_in(path, authority, oauth_client, lasts=60)
    authority.script = ["broken", "broken"]
    assert await TokenFile(path)() == token
    with pytest.raises(imapipe.ConnectionFailed, match="does not work now"):
        await TokenFile(path, clock=lambda: time.time() + 61)()


@pytest.mark.asyncio
async def test_without_a_refresh_token_somebody_has_to_log_in_again(tmp_path: Path, oauth_client: OAuthClient) -> None:
    path = tmp_path / "ann.token"
    await TokenFile(path).save(oauth_client, Token("short", time.time() + 60))
    with pytest.raises(imapipe.TokenRefused, match="expired"):
        await TokenFile(path)()


@pytest.mark.asyncio
async def test_an_application_asks_again_as_it_did(
    tmp_path: Path, authority: AuthorizationServer, oauth_client: OAuthClient
) -> None:
    authority.client_secret = "s3cret"
    client = OAuthClient("me", "s3cret", oauth_client.endpoints)
    file = TokenFile(tmp_path / "app.token")
    await file.save(client, Token("old", time.time() - 1), as_application=True)
    assert await file() in authority.valid
    assert authority.asked == {"client_credentials": 1}


@pytest.mark.asyncio
async def test_a_token_that_another_program_keeps_fresh_is_read_each_time(tmp_path: Path) -> None:
    path, target = tmp_path / "ann.token", tmp_path / "mounted"
    target.write_text("first\nsecond line\n")
    path.symlink_to(target)
    file = TokenFile(path)
    assert await file() == "first"
    target.write_text("second")
    assert await file.renew("first") == "second"
    assert await file.renew("second") == "second"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file"),
        (b"", "its first line is empty"),
        (b"\xff", "it is not text in UTF-8"),
        (b"{", "it is no token file of this version; log in again"),
        (b'{"version": 2}', "it is no token file of this version"),
        (b'{"version": 1, "grant": "refresh_token", "token": {"access_token": "s3cret"}}', "it is no token file"),
    ],
)
async def test_a_file_that_is_none_is_one_sentence(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "ann.token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(imapipe.AccountsError, match=f"ann.token: {says}") as caught:
        await TokenFile(path)()
    assert "s3cret" not in str(caught.value)


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["/dev/zero", "a\0b"])
async def test_what_is_no_file_or_without_an_end_is_not_read(name: str) -> None:
    with pytest.raises(imapipe.AccountsError):
        await TokenFile(name)()


@pytest.mark.asyncio
async def test_each_key_that_is_missing_is_noticed(
    tmp_path: Path, authority: AuthorizationServer, oauth_client: OAuthClient
) -> None:
    path = tmp_path / "ann.token"
    await _logged_in(path, authority, oauth_client, lasts=3600)
    document = json.loads(path.read_bytes())
    plain = "http://login.example.org/token"
    for name, wrong in (("scopes", [1]), ("parameters", [["a"]]), ("token_url", plain)):
        endpoints = {**document["client"]["endpoints"], name: wrong}
        path.write_text(json.dumps({**document, "client": {**document["client"], "endpoints": endpoints}}))
        with pytest.raises(imapipe.AccountsError, match="it is no token file"):
            await TokenFile(path)()
    for name in document["client"]["endpoints"]:
        endpoints = {key: value for key, value in document["client"]["endpoints"].items() if key != name}
        path.write_text(json.dumps({**document, "client": {**document["client"], "endpoints": endpoints}}))
        with pytest.raises(imapipe.AccountsError, match="it is no token file"):
            await TokenFile(path)()


class _KeyRing(KeyringBackend):
    """A keyring in memory, which may be locked."""

    priority = 1
    kept: dict[tuple[str, str], str]
    locked = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise KeyringError("locked")
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if self.locked:
            raise KeyringError(password)
        self.kept[service, username] = password


@pytest.fixture
def key_ring() -> Iterator[_KeyRing]:
    before, ring = keyring.get_keyring(), _KeyRing()  # type: ignore[no-untyped-call]  # half of it has types
    ring.kept = {}
    keyring.set_keyring(ring)
    yield ring
    keyring.set_keyring(before)


@pytest.mark.asyncio
async def test_what_lasts_can_be_in_the_keyring(
    tmp_path: Path, authority: AuthorizationServer, oauth_client: OAuthClient, key_ring: _KeyRing
) -> None:
    path = tmp_path / "ann.token"
    authority.client_secret = "s3cret"
    client = OAuthClient("me", "s3cret", oauth_client.endpoints)
    given = authority.token()
    token = Token(str(given["access_token"]), time.time() - 1, str(given["refresh_token"]))
    await TokenFile(path).save(client, token, in_keyring=True)
    assert b"refresh-" not in path.read_bytes()
    assert b"s3cret" not in path.read_bytes()
    assert await TokenFile(path).client() == client
    for asked in (1, 2):
        assert await TokenFile(path, clock=lambda: time.time() + 3600)() in authority.valid
        assert authority.asked["refresh_token"] == asked
    assert b"refresh-" not in path.read_bytes()
    key_ring.locked = True
    with pytest.raises(imapipe.AccountsError, match=r"ann.token: the keyring of this system does not open: locked"):
        await TokenFile(path)()
    with pytest.raises(imapipe.AccountsError, match="takes nothing: KeyringError") as caught:
        await TokenFile(path).save(client, token, in_keyring=True)
    assert "s3cret" not in str(caught.value)
    key_ring.locked = False
    key_ring.kept.clear()
    with pytest.raises(imapipe.AccountsError, match="the keyring has nothing that belongs to it"):
        await TokenFile(path)()


@pytest.mark.asyncio
async def test_a_password_from_the_keyring(tmp_path: Path, key_ring: _KeyRing, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Server(1, password="p4ss") as server:
        path = tmp_path / "accounts.toml"
        path.write_text(f'[a]\nurl = "{server.url}"\npassword_keyring = "mail"\n')
        account = imapipe.load_accounts(path)["a"]
        with pytest.raises(
            imapipe.AccountsError, match=r"\[a\]: password_keyring: the keyring has no password of mail"
        ):
            async with account.open_pool():
                pass
        key_ring.kept["mail", "ann"] = "p4ss"
        async with account.open_pool() as pool:
            assert len(await pool.mailboxes()) == 1
        monkeypatch.setitem(sys.modules, "keyring", None)
        with pytest.raises(imapipe.AccountsError, match=r"pip install 'imapipe\[keyring\]'"):
            async with account.open_pool():
                pass


@pytest.mark.asyncio
async def test_a_command_gives_a_token() -> None:
    assert await TokenCommand([sys.executable, "-c", "print('t0ken')"])() == "t0ken"
    with pytest.raises(imapipe.AccountsError, match="ended with status 3 and no secret"):
        await TokenCommand([sys.executable, "-c", "import sys; print('t0ken'); sys.exit(3)"])()
    with pytest.raises(ValueError, match="a list of a program and its arguments"):
        TokenCommand("pass show mail")


@pytest.mark.asyncio
@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
async def test_a_run_goes_on_when_its_token_ends_in_the_middle(
    tmp_path: Path, authority: AuthorizationServer, oauth_client: OAuthClient, mechanism: str
) -> None:
    """The file believes in the token for an hour; the server ends the session, and takes that token no more."""
    path = tmp_path / "ann.token"
    async with Server(400, token="", mechanisms=(mechanism,)) as server:
        authority.on_token = lambda token: setattr(server, "token", token)
        await _logged_in(path, authority, oauth_client, lasts=3600)
        server.faults.add(
            Act(lambda _: setattr(server, "token", "nobody's"), command="UID FETCH", nth=3),
            Bye("Session invalidated - AccessTokenExpired", command="UID FETCH", nth=3),
        )
        seen: list[int] = []

        async def handle(message: imapipe.Message) -> None:
            seen.append(message.uid)

        async with imapipe.create_pool(server.url, token=TokenFile(path), max_size=4) as pool:
            job = pool.mailbox("INBOX").search(q.ALL).batch(imapipe.FixedBatch(20)).fetch("envelope")
            report = await job.use(imapipe.Retry()).run(handle, connections=4)
        assert report.complete
        assert report.done == 400
        assert sorted(seen) == list(range(1, 401))
        assert authority.asked["refresh_token"] == 1
        assert server.counters.failed_logins >= 1


@pytest.mark.asyncio
async def test_a_token_that_cannot_be_had_ends_a_run_at_once(
    tmp_path: Path, authority: AuthorizationServer, oauth_client: OAuthClient
) -> None:
    path = tmp_path / "ann.token"
    async with Server(10, token="nobody's") as server:
        await _logged_in(path, authority, oauth_client, lasts=3600)
        authority.script = ["invalid_grant"]
        async with imapipe.create_pool(server.url, token=TokenFile(path)) as pool:
            with pytest.raises(imapipe.TokenRefused, match="invalid_grant: it said \\(hidden\\)"):
                await pool.mailboxes()
    assert authority.asked["refresh_token"] == 1
    assert _names(tmp_path) == ["ann.token"]
