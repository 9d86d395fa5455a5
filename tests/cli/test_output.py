"""What is written, to whom, and what happens where nobody can read it or somebody is asked."""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import typer

import imapipe
from imapipe.cli import app, main, output, progress
from imapipe.cli.change import write_plan
from imapipe.cli.errors import Status
from imapipe.wire.uid_set import UidSet

if TYPE_CHECKING:
    from tests.cli.conftest import Call, Serve


class _Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_without_a_place_to_write_to_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service may be started without either."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    output.write_result("a result")
    output.write_note("a note")
    assert not output.is_terminal()


def test_a_disk_that_is_full_is_told_of_results_and_not_of_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", _Full())
    monkeypatch.setattr(sys, "stderr", _Full())
    with pytest.raises(OSError, match="No space left on device: 'standard output'"):
        output.write_result("a result")
    output.write_note("a note")


@pytest.mark.parametrize(("error", "status"), [(BrokenPipeError(), Status.FAILED), (typer.Abort(), Status.INTERRUPTED)])
def test_what_ends_the_command_line_before_a_command_begins(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], error: Exception, status: Status
) -> None:
    def end(**options: object) -> None:
        raise error

    monkeypatch.setattr(typer.main, "get_command", lambda _: SimpleNamespace(main=end))
    assert app.run(["scan"]) == status
    assert capfd.readouterr() == ("", "")


def test_a_defect_of_the_command_line_is_not_taken_for_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(**options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(typer.main, "get_command", lambda _: SimpleNamespace(main=end))
    with pytest.raises(ZeroDivisionError):
        app.run([])


def test_a_group_without_a_command_shows_its_help(call: Call) -> None:
    outcome = call("jobs")
    assert outcome.status == Status.USAGE
    assert "retry" in outcome.out + outcome.err


def test_the_version_is_told(call: Call) -> None:
    assert call("--version").out == f"imapipe {imapipe.__version__}\n"


def test_what_the_command_line_needs_is_named_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("imapipe.cli.find_spec", lambda name: None if name == "rich" else name)
    assert main(["--version"]) == Status.USAGE
    assert capsys.readouterr().err == (
        "imapipe: the command line needs rich, not installed here; install them with: pip install 'imapipe[cli]'\n"
    )


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """Let a person be there who types a password, or ends the input."""

    def answer(text: str | None) -> None:
        def getpass(prompt: str) -> str:
            assert prompt.startswith("Password of ")
            if text is None:
                raise EOFError
            return text

        person = io.StringIO()
        monkeypatch.setattr(person, "isatty", lambda: True)
        monkeypatch.setattr("imapipe.cli.account.sys", SimpleNamespace(stdin=person))
        monkeypatch.setattr("imapipe.cli.account.getpass.getpass", getpass)

    return answer


def test_a_person_is_asked_for_the_password(serve: Serve, call: Call, typed: Callable[[str | None], None]) -> None:
    url = serve({"INBOX": 3}).url
    typed("secret")
    outcome = call("scan", url, "INBOX", "--json", password=None)
    assert outcome.err == ""
    assert outcome.document["done"] == 3
    for nothing in ("", None):
        typed(nothing)
        outcome = call("scan", url, "INBOX", password=None)
        assert (outcome.status, outcome.sentence) == (
            Status.USAGE,
            "no password was given; it can also come from IMAPIPE_PASSWORD or --password-file",
        )


def test_of_many_commands_of_a_plan_some_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    commands = tuple(f"UID MOVE {number} 'Archive'" for number in range(1, 1_101))
    plan = imapipe.ChangePlan(
        "ann@a:1", "INBOX", 7, "move to Archive", "Archive", UidSet.parse("1:1100"), 1_100, 5_000, commands, ()
    )
    write_plan(plan, json=False, to_person=True)
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    listed = [line for line in lines if line.startswith("command")]
    assert shown.out == ""
    assert lines[2:4] == ["target    Archive", "messages  1,100 (5,000 bytes)"]
    assert listed[0] == "command   UID MOVE 1 'Archive'"
    assert lines[-1].strip() == f"and {1_100 - len(listed):,} commands more"


def test_where_standard_error_is_a_terminal_progress_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    assert isinstance(progress.choose_display("INBOX"), progress.Bar)
    assert isinstance(progress.choose_line(), progress.LiveLine)
    assert not isinstance(progress.choose_display("INBOX", quiet=True), progress.Bar)
