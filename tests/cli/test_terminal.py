"""Nothing that a server, a mail or a file says writes to somebody's terminal."""

from __future__ import annotations

import json
import logging
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from imapipe.cli import output
from imapipe.cli.logs import LogLevel, show_logs
from imapipe.cli.terminal import escape, escape_json, printable
from imapipe.testing import Inject, Mailbox, Reply

if TYPE_CHECKING:
    from tests.cli.conftest import Call, Outcome, Serve

# Clears the screen by CSI in seven and in eight bits, rings, sets the title, turns the text, hides a line.
ATTACK = "\x1b[2J\x9b31m\x07\x1b]0;title\x07\u202egpj\x08\x7f\x85end"
_FORBIDDEN = [chr(c) for c in (*range(0x20), *range(0x7F, 0xA0), 0x202E, 0x2028, 0x200F) if chr(c) != "\n"]


def is_harmless(text: str) -> bool:
    return not any(character in text for character in _FORBIDDEN)


def shown(outcome: Outcome) -> str:
    text = outcome.out + outcome.err
    assert is_harmless(text), text
    return text


def test_one_line() -> None:
    assert printable("a\r\nb\x1b[2J\x07 é\u202e") == "a b\\x1b[2J\\x07 é\\u202e"


@given(st.text(st.characters(codec=None)))
def test_whatever_it_is(text: str) -> None:
    assert is_harmless(printable(text))
    assert "\n" not in escape(text)
    assert is_harmless(escape(text))
    assert escape(text, keep="\n").count("\n") == text.count("\n")
    escape(text).encode()


@given(st.recursive(st.text(st.characters(codec="utf-8")), st.lists) | st.dictionaries(st.text(), st.integers()))
def test_a_document_says_the_same(value: object) -> None:
    document = json.dumps(value, ensure_ascii=False, indent=2)
    assert json.loads(escape_json(document)) == json.loads(document)
    assert is_harmless(escape_json(document))


def test_spaces_and_scripts_stay() -> None:
    for text in ("a\u00a0b\u3000c", "Übergröße 日本語 😀"):
        assert escape(text) == escape_json(text) == text


# -- what the commands print -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("debug", [(), ("--debug",)], ids=["plain", "debug"])
@pytest.mark.parametrize("command", ["LOGIN", "EXAMINE", "UID SEARCH", "UID FETCH", "LIST"])
@pytest.mark.parametrize("status", ["NO", "BAD"])
def test_what_a_server_refuses_with(
    serve: Serve, call: Call, debug: tuple[str, ...], command: str, status: Literal["NO", "BAD"]
) -> None:
    commands = ("LOGIN", "AUTHENTICATE") if command == "LOGIN" else command
    server = serve(3, faults=[Reply(status, ATTACK, code=f"X {ATTACK}".replace("]", ""), command=commands)])
    rest = ("folders", server.url) if command == "LIST" else ("scan", server.url, "INBOX", "--retries", 0)
    outcomes = [call(*rest, *debug, *more) for more in ((), ("--json",))]
    assert all(outcome.status for outcome in outcomes)
    assert "end" in "".join(map(shown, outcomes))


def test_a_name_of_a_mailbox(serve: Serve, call: Call) -> None:
    name = ATTACK.replace("\x9b", "").replace("\x85", "")
    server = serve({name: Mailbox(), "INBOX": 3})
    for arguments in (("folders", server.url), ("folders", server.url, "--json"), ("scan", server.url, name)):
        assert "gpj" in shown(call(*arguments))
    documents = call("folders", server.url, "--json").document["mailboxes"]
    assert [entry["name"] for entry in documents if "gpj" in entry["name"]]


def test_an_attribute_of_a_mailbox_is_no_markup(serve: Serve, call: Call) -> None:
    server = serve({"INBOX": 0})
    server.faults.add(Inject(b'* LIST (\\[red]) "/" "x[bold]y"\r\n', command="LIST"))
    assert "x[bold]y" in call("folders", server.url).out


def test_what_is_passed_over_in_a_run(serve: Serve, call: Call) -> None:
    line = f"* 2 FETCH (UID 2 {ATTACK} (\r\n".encode()
    server = serve(3, faults=[Inject(line, command="UID FETCH")])
    for more in ((), ("--json",), ("--debug",)):
        shown(call("scan", server.url, "INBOX", "--fetch", "size", *more))


def test_a_mail_in_an_index(serve: Serve, call: Call, tmp_path: Path) -> None:
    """As it is written, and in encoded words, which hide control characters from the server."""
    words = "=?utf-8?q?=1B[2J=C2=9B31m=07=E2=80=AEgpj=7F=C2=85end?="
    mail = f"From: {words} <a@example.org>\r\nSubject: {words}\r\n\r\nx".encode()
    server = serve({"INBOX": Mailbox([mail])})
    index = tmp_path / "mail.index"
    for name in ("one\x9b31m", "two\x1b[2J"):
        for more in ((), ("--json",)):
            assert name[:3] in shown(call("index", server.url, "INBOX", "--to", tmp_path / name, *more))
    shown(call("index", server.url, "INBOX", "--to", index))
    for more in ((), ("--json",)):
        assert "gpj" in shown(call("find", index, *more))
    (found,) = call("find", index, "--json").document["messages"]
    assert "\x1b[2J" in found["subject"]


def test_logs_for_debugging(call: Call, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    show_logs(LogLevel.DEBUG)
    try:
        raise ValueError(f"server says {ATTACK}\nimapipe: all is well")
    except ValueError:
        logging.getLogger("imapipe.test").exception("passed over: %s", f"{ATTACK}\nimapipe: all is well")
    written = capfd.readouterr().err
    assert is_harmless(written)
    # The message is one line; a traceback has lines of its own.
    assert written.splitlines()[0].endswith("imapipe: all is well")
    assert "Traceback" in written.splitlines()[1]


def test_a_table_keeps_its_own_style_on_a_terminal_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run where standard output is a real terminal."""
    code = (
        "from rich.table import Table; from imapipe.cli.output import write_table; table = Table(box=None);"
        "table.add_column('subject'); write_table(table, [('\\x1b[2J[red]x\\x9b\\n',)])"
    )
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    subprocess.run([sys.executable, "-c", code], stdout=theirs, check=True, env=environment)
    os.close(theirs)
    written = os.read(ours, 10_000).decode()
    os.close(ours)
    assert "\x1b[1m" in written
    assert "\x1b[2J" not in written
    assert "\\x1b[2J[red]x\\x9b\\n" in written


def test_a_document_of_names_that_were_not_decoded(capsys: pytest.CaptureFixture[str]) -> None:
    output.write_document({"path\udcff": ["a\udc80", {"b": ("c\udc81", 1, None)}]})
    assert json.loads(capsys.readouterr().out) == {"path\\udcff": ["a\\udc80", {"b": ["c\\udc81", 1, None]}]}


def test_a_table_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("name")
    output.write_table(table, [("a" * 300,), ("two  spaces",)])
    assert capsys.readouterr().out.splitlines()[1:] == ["a" * 300, "two  spaces"]
