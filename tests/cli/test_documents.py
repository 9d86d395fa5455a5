"""What the README and the documentation show is run as it stands there."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imapipe.testing import Mailbox, Server, make_messages

if TYPE_CHECKING:
    from tests.cli.conftest import Call, Serve

ROOT = Path(__file__).parents[2]
URL = "imaps://ann@imap.example.org"
TARGET_URL = "imaps://ann@mail.example.net"


def blocks(name: str, language: str) -> list[tuple[str, int, str]]:
    """The code blocks of a document: its name, the line, the code."""
    text = (ROOT / name).read_text(encoding="utf-8")
    found = re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(name, text.count("\n", 0, match.start()) + 2, match[1]) for match in found]


PROGRAMS = [
    block
    for name in (
        "README.md",
        "docs/quickstart.md",
        "docs/searching.md",
        "docs/changing.md",
        "docs/copy.md",
        "docs/coming_from.md",
    )
    for block in blocks(name, "python")
]
COMMANDS = [
    (f"{name}:{line + number}", command)
    for name, line, code in [
        *blocks("README.md", "sh"),
        *blocks("docs/quickstart.md", "sh"),
        *blocks("docs/cli.md", "sh"),
        *blocks("docs/searching.md", "sh"),
        *blocks("docs/changing.md", "sh"),
        *blocks("docs/doctor.md", "sh"),
        *blocks("docs/copy.md", "sh"),
    ]
    for number, command in enumerate(code.splitlines())
    # Those need a cluster: test_jobs.py tries them.
    if command.startswith("imapipe ") and not command.startswith("imapipe jobs ")
]


@pytest.fixture
def account(serve: Serve) -> Server:
    """An account with mail of the last days."""
    inbox = Mailbox()
    now = datetime.now(UTC)
    for number, raw in enumerate(make_messages(40)):
        inbox.append(raw, ["\\Seen"] if number % 2 else [], now - timedelta(hours=number))
    return serve({"INBOX": inbox, "Archive": 5, "Bin": Mailbox(special_use="\\Trash"), "Projects/One": 1})


@pytest.fixture
def target(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Server:
    """An account to copy into."""
    target = serve(0, password="other")
    monkeypatch.setenv("IMAPIPE_TARGET_PASSWORD", target.password)
    return target


def test_there_are_programs_and_commands() -> None:
    assert len(PROGRAMS) >= 6
    assert len(COMMANDS) >= 10


@pytest.mark.parametrize(("name", "line", "code"), PROGRAMS, ids=[f"{name}:{line}" for name, line, _ in PROGRAMS])
def test_programs_run(
    account: Server,
    target: Server,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    name: str,
    line: int,
    code: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMAPIPE_PASSWORD", account.password)
    program = "\n" * (line - 1) + code.replace(URL, account.url).replace(TARGET_URL, target.url)
    exec(compile(program, name, "exec"), {"__name__": "__main__"})
    out, err = capfd.readouterr()
    assert out.strip()
    assert not err
    if URL in code:
        assert account.commands.named("LOGIN")
    if name != "docs/changing.md":
        assert not account.commands.named("UID STORE", "SELECT")


def test_the_first_program_shows_messages(
    account: Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IMAPIPE_PASSWORD", account.password)
    exec(PROGRAMS[0][2].replace(URL, account.url), {"__name__": "__main__"})
    assert len(capfd.readouterr().out.splitlines()) == 20


def test_the_resumable_program_saves_every_message(
    account: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMAPIPE_PASSWORD", account.password)
    exec(PROGRAMS[1][2].replace(URL, account.url), {"__name__": "__main__"})
    saved = sorted((tmp_path / "mail").iterdir())
    assert len(saved) == 40
    assert {path.read_bytes() for path in saved} == set(make_messages(40))


@pytest.mark.slow
@pytest.mark.parametrize(("place", "command"), COMMANDS, ids=[place for place, _ in COMMANDS])
def test_commands_run(
    account: Server,
    target: Server,
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    place: str,
    command: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "password").write_text("secret\n")
    command = command.replace(URL, account.url).replace(TARGET_URL, target.url)
    words = shlex.split(command.split(" > ")[0])[1:]
    if words[0] == "demo":
        # Run in full by test_demo.py; here it is small.
        words = ["demo", "--messages", "1000", "--rate", "4000", *(["--json"] if "--json" in words else [])]
    if words[0] == "find":
        # It asks what an earlier command has made.
        call("index", account.url, "INBOX", "--to", words[1])
    if words[0] == "undo":
        call("move", account.url, "INBOX", "Archive", "--journal", words[2], "--yes", "--quiet")
    outcome = call(*words)
    assert outcome.status == 0, f"{place}: {outcome.err}"
    assert outcome.out
    assert not outcome.err
