"""The fixture itself, looked at with the standard library's client: what the other tests build on is true."""

from __future__ import annotations

import datetime
import imaplib
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from child_server import free_ports
from dovecot_server import DovecotServer, Mail, find_dovecot
from dovecot_server import server as server_module

if TYPE_CHECKING:
    from collections.abc import Iterator

TOOLS = Path(server_module.__file__).parents[1]


def message(number: int, extra: str = "") -> bytes:
    return f"Subject: message {number}\r\n\r\n{'x' * number}{extra}\r\n".encode()


@pytest.fixture
def own_server(dovecot: DovecotServer) -> Iterator[DovecotServer]:
    """A second server, to be started by the test; it asks for `dovecot` so as to be skipped with it."""
    assert dovecot.port
    server = DovecotServer(compress=False, max_connections_per_user=2)
    yield server
    server.stop()


def fetch(client: imaplib.IMAP4, uid: str, items: str) -> tuple[list[bytes], list[bytes]]:
    """Fetch by UID; give the response texts and the literals."""
    status, data = client.uid("FETCH", uid, items)
    assert status == "OK"
    texts = [part[0] + b"{}" if isinstance(part, tuple) else part for part in data]
    return texts, [part[1] for part in data if isinstance(part, tuple)]


def test_the_uid_is_the_number_of_the_message_and_bytes_are_kept(dovecot: DovecotServer) -> None:
    user = dovecot.new_user()
    contents = [message(number) for number in range(1, 301)]
    assert dovecot.fill(user, "INBOX", contents) == list(range(1, 301))
    with dovecot.login(user) as client:
        assert client.select("INBOX", readonly=True) == ("OK", [b"300"])
        assert client.response("UIDVALIDITY")[1] == [str(server_module.UIDVALIDITY).encode()]
        texts, literals = fetch(client, "1:*", "(UID RFC822.SIZE FLAGS BODY.PEEK[])")
    assert literals == contents
    heads = [text for text in texts if b"UID" in text]
    assert [int(re.findall(rb"UID (\d+)", head)[0]) for head in heads] == list(range(1, 301))
    assert [int(re.findall(rb"RFC822.SIZE (\d+)", head)[0]) for head in heads] == [len(c) for c in contents]
    assert all(b"Seen" not in head for head in heads)


def test_bare_line_feeds_are_counted_as_they_will_be_sent(dovecot: DovecotServer) -> None:
    user = dovecot.new_user()
    dovecot.fill(user, "INBOX", [b"Subject: unix\n\nbody\n"])
    with dovecot.login(user) as client:
        client.select("INBOX", readonly=True)
        texts, literals = fetch(client, "1", "(RFC822.SIZE BODY.PEEK[])")
    assert literals == [b"Subject: unix\r\n\r\nbody\r\n"]
    assert b"RFC822.SIZE 23 " in texts[0]


def test_flags_keywords_dates_and_chosen_uids(dovecot: DovecotServer) -> None:
    user = dovecot.new_user("ann@example.org-")
    moment = datetime.datetime(2021, 3, 4, 5, 6, 7, tzinfo=datetime.UTC)
    mails = [
        Mail(message(1), flags=("\\Seen", "\\Flagged", "$Forwarded"), uid=10),
        Mail(message(2), internal_date=moment, uid=4_000_000_000),
        Mail(message(3), flags=("todo", "\\Draft", "\\Answered", "\\Deleted")),
    ]
    assert dovecot.fill(user, "INBOX", mails, uidvalidity=77) == [10, 4_000_000_000, 4_000_000_001]
    with dovecot.login(user) as client:
        client.select("INBOX", readonly=True)
        assert client.response("UIDVALIDITY")[1] == [b"77"]
        texts, _ = fetch(client, "1:*", "(FLAGS INTERNALDATE)")
    flags = [set(re.findall(rb"FLAGS \(([^)]*)\)", text)[0].split()) for text in texts]
    assert flags == [
        {b"\\Seen", b"\\Flagged", b"$Forwarded"},
        set(),
        {b"todo", b"\\Draft", b"\\Answered", b"\\Deleted"},
    ]
    date = imaplib.Internaldate2tuple(texts[1])
    assert date is not None
    assert datetime.datetime(*date[:6]).astimezone() == moment


def test_other_mailboxes_are_filled_and_growing_ones_keep_growing(dovecot: DovecotServer) -> None:
    user = dovecot.new_user()
    dovecot.fill(user, "INBOX", [])
    dovecot.fill(user, "Archive/2024", [message(1), message(2)])
    with pytest.raises(FileExistsError):
        dovecot.fill(user, "Archive/2024", [message(3)])
    with dovecot.login(user) as client:
        assert client.select("INBOX") == ("OK", [b"0"])
        assert client.select("Archive/2024") == ("OK", [b"2"])
        client.append("Archive/2024", "", "", message(3))
        assert fetch(client, "3", "(BODY.PEEK[])")[1] == [message(3)]


def test_bad_fills_are_refused(dovecot: DovecotServer) -> None:
    user = dovecot.new_user()
    with pytest.raises(ValueError, match="dots"):
        dovecot.fill(user, "a.b", [])
    with pytest.raises(ValueError, match="does not come after"):
        dovecot.fill(user, "down", [Mail(b"", uid=2), Mail(b"", uid=1)])
    with pytest.raises(ValueError, match="no such flag"):
        dovecot.fill(user, "flag", [Mail(b"", flags=("\\Recent",))])
    with pytest.raises(ValueError, match="26 keywords"):
        dovecot.fill(user, "keywords", [Mail(b"", flags=tuple(f"k{i}" for i in range(27)))])


def test_tls_and_starttls_with_the_certificate_and_only_with_it(dovecot: DovecotServer) -> None:
    user = dovecot.new_user()
    context = dovecot.ssl_context()
    for host in ("127.0.0.1", "localhost"):
        with imaplib.IMAP4_SSL(host, dovecot.tls_port, ssl_context=context, timeout=60) as client:
            assert client.login(user, dovecot.password)[0] == "OK"
    with imaplib.IMAP4(dovecot.host, dovecot.port, timeout=60) as client:
        assert client.starttls(context)[0] == "OK"
        assert client.login(user, dovecot.password)[0] == "OK"
    with (
        socket.create_connection((dovecot.host, dovecot.tls_port)) as raw,
        pytest.raises(ssl.SSLCertVerificationError, match="mismatch"),
    ):
        context.wrap_socket(raw, server_hostname="imap.example.org")


def test_urls(dovecot: DovecotServer) -> None:
    assert dovecot.url("ann@example.org") == f"imap://ann%40example.org@127.0.0.1:{dovecot.port}"
    assert dovecot.url("ann", tls=True) == f"imaps://ann@127.0.0.1:{dovecot.tls_port}"


def test_it_offers_what_the_tests_need(dovecot: DovecotServer) -> None:
    with dovecot.login(dovecot.new_user()) as client:
        capabilities = set(client.capability()[1][0].decode().upper().split())
    assert {
        "COMPRESS=DEFLATE",
        "LITERAL+",
        "ESEARCH",
        "CONDSTORE",
        "UIDPLUS",
        "UNSELECT",
        "LIST-STATUS",
    } <= capabilities


def test_a_wrong_password_is_refused(dovecot: DovecotServer) -> None:
    with (
        imaplib.IMAP4(dovecot.host, dovecot.port, timeout=60) as client,
        pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"),
    ):
        client.login(dovecot.new_user(), "wrong")


def test_options_the_limit_of_connections_and_no_compression(own_server: DovecotServer) -> None:
    own_server.start()
    with own_server.login("ann") as first, own_server.login("ann"):
        if own_server.version < (2, 4):
            assert b"COMPRESS" not in first.capability()[1][0]
        with pytest.raises(imaplib.IMAP4.error, match=r"mail_max_userip_connections"):
            own_server.login("ann")
        own_server.login("bob").logout()


def test_a_port_taken_meanwhile_is_replaced(own_server: DovecotServer, monkeypatch: pytest.MonkeyPatch) -> None:
    choose = free_ports
    calls = 0
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        def choose_badly_once(count: int) -> list[int]:
            nonlocal calls
            calls += 1
            return [choose(1)[0], taken.getsockname()[1]] if calls == 1 else choose(count)

        monkeypatch.setattr(server_module, "free_ports", choose_badly_once)
        own_server.start()
    # Once more where another program has really taken one.
    assert calls >= 2
    own_server.login("ann").logout()


def test_a_server_that_cannot_start_says_why_and_leaves_nothing(dovecot: DovecotServer) -> None:
    assert dovecot.port
    server = DovecotServer(extra="no_such_setting_at_all = yes")
    with pytest.raises(RuntimeError, match="no_such_setting_at_all"):
        server.start()
    assert (server.pid, server.directory) == (0, Path())


def test_stopping_leaves_no_process_and_no_file(own_server: DovecotServer) -> None:
    own_server.start()
    client = own_server.login("ann")
    family = [psutil.Process(own_server.pid), *psutil.Process(own_server.pid).children(recursive=True)]
    directory = own_server.directory
    assert len(family) > 3
    own_server.stop()
    client.shutdown()
    assert not server_module._running(family, timeout_seconds=0)
    assert not directory.exists()
    own_server.stop()  # a second time does nothing


OWNER = """
import encodings.idna, os, signal, sys
from dovecot_server import DovecotServer
how = sys.argv[1]
if how == "as_nobody":
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
with DovecotServer() as server:
    user = server.new_user()
    server.fill(user, "INBOX", [b"Subject: x\\r\\n\\r\\n"])
    client = server.login(user)
    print(server.pid, server.directory, client.select()[1][0].decode(), flush=True)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    client.shutdown()
    if how == "fails":
        raise SystemExit(7)
"""


def own(how: str) -> tuple[int, str, list[str]]:
    """Run a program that owns a server; give its exit status, its errors and the words it printed."""
    done = subprocess.run(
        [sys.executable, "-c", OWNER, how],
        env={**os.environ, "PYTHONPATH": str(TOOLS)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return done.returncode, done.stderr, done.stdout.split()


def group(leader: int) -> list[psutil.Process]:
    """The processes of a server, also those that have lost their parent."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError):
            if os.getpgid(process.pid) == leader:
                found.append(process)
    return found


@pytest.mark.usefixtures("dovecot")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv, of util-linux")
def test_it_ends_when_its_owner_is_killed() -> None:
    status, _, (pid, directory, _) = own("killed")
    assert status == -9
    # All of them, and not the first one alone: those that serve write into the folder until their end.
    assert not server_module._running(group(int(pid)), timeout_seconds=60)
    shutil.rmtree(directory)


@pytest.mark.usefixtures("dovecot")
def test_it_ends_when_its_owner_fails() -> None:
    status, _, (pid, directory, _) = own("fails")
    assert status == 7
    assert not psutil.pid_exists(int(pid))
    assert not Path(directory).exists()


@pytest.mark.usefixtures("dovecot")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else; all other tests ran as a user")
def test_it_runs_as_a_normal_user_too() -> None:
    status, errors, words = own("as_nobody")
    assert (status, errors) == (0, "")
    assert words[2] == "1"


def test_it_is_found_only_with_its_imap_half(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    core = tmp_path / "sbin" / "dovecot"
    core.parent.mkdir()
    core.touch(mode=0o755)
    monkeypatch.setattr(server_module, "_DAEMON_FOLDERS", ())
    find_dovecot.cache_clear()
    try:
        monkeypatch.setenv("PATH", os.fspath(core.parent))
        assert find_dovecot() is None
        imap = tmp_path / "lib" / "dovecot" / "imap"
        imap.parent.mkdir(parents=True)
        imap.touch()
        find_dovecot.cache_clear()
        assert find_dovecot() == core
        monkeypatch.setenv("PATH", os.fspath(tmp_path / "nowhere"))
        find_dovecot.cache_clear()
        assert find_dovecot() is None
        with pytest.raises(FileNotFoundError, match="apt install"):
            DovecotServer()
    finally:
        find_dovecot.cache_clear()
