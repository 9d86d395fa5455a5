"""Whatever goes wrong is one sentence that says what to do, and a status of its kind."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

import imapipe
from imapipe.cli.errors import PHRASES, Mistake, Status, explain
from imapipe.cli.sizes import parse_size
from imapipe.testing import RefuseConnection, RefuseLogin, Reply

if TYPE_CHECKING:
    from tests.cli.conftest import Call, Certificate, Serve, Start

LIBRARY = [path for path in Path(imapipe.__file__).parent.rglob("*.py") if path.parent.name != "cli"]


def test_an_unknown_host(call: Call) -> None:
    outcome = call("scan", "imaps://ann@nowhere.invalid", "INBOX")
    assert outcome.status == 1
    assert "nowhere.invalid:993: the host name is not known; check its spelling" in outcome.sentence


def test_a_refused_port(call: Call) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        outcome = call("scan", f"imap://ann@127.0.0.1:{port}", "INBOX")
    assert outcome.status == 1
    assert f"127.0.0.1:{port}: the port refused it; check the port" in outcome.sentence


def test_a_wrong_password(serve: Serve, call: Call) -> None:
    outcome = call("scan", serve().url, "INBOX", password="guess")
    assert outcome.status == 4
    assert outcome.sentence.startswith("the server refused the login: ")
    assert "check the user name and the password" in outcome.sentence
    assert "guess" not in outcome.sentence


def test_an_unknown_mailbox(serve: Serve, call: Call) -> None:
    outcome = call("scan", serve().url, "Nowhere")
    assert outcome.status == 1
    assert outcome.sentence.startswith("the mailbox 'Nowhere' cannot be opened: ")
    assert "`imapipe folders` lists those there are" in outcome.sentence


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("imap.example.org", "must begin with imaps:// or imap://"),
        ("https://ann@imap.example.org", "must begin with imaps:// or imap://"),
        ("imaps://ann@imap.example.org:70000", "'70000' is not a port"),
        ("imaps://ann@imap.example.org/INBOX", "name the mailbox on its own"),
        ("imaps://ann@", "names no host"),
        ("imaps://imap.example.org", "name the user: in the URL (imaps://ann@imap.example.org)"),
        ("imaps://ann:hunter2@imap.example.org", "holds a password"),
        ("imaps://ann:hunter2", "behind the ':' of the host is not a port"),
        ("imaps://ann:20011990", "behind the ':' of the host is not a port"),
        ("imaps://ann@host:hunter2", "behind the ':' of the host is not a port"),
    ],
)
def test_an_invalid_url(call: Call, url: str, words: str) -> None:
    outcome = call("scan", url, "INBOX")
    assert outcome.status == 2
    assert words in outcome.sentence
    assert "hunter2" not in outcome.sentence


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--search", "SINCE yesterday"], "SINCE"),
        (["--search", "UNSEEN NOT"], "NOT takes 1 search key after it"),
        (["--search", ""], "search"),
        (
            ["--fetch", "everything"],
            "email_id, thread_id, saved_date, preview, text",
        ),
        (["--bytes-rate", "fast"], "--bytes-rate fast: use a number of bytes such as 500k or 5M"),
        (["--bytes-rate", "0"], "--bytes-rate 0: use a number"),
        (["--rate", "0"], "--rate"),
        (["--connections", "0"], "--connections"),
        (["--limit", "few"], "--limit"),
        (["--compress", "maybe"], "--compress"),
        (["--passwort", "x"], "No such option: --passwort"),
        (["--password", "x"], "No such option: --password"),
        (["--password-file", "missing"], "--password-file missing: No such file or directory"),
        (["--token-file", "missing"], "--token-file missing: No such file or directory"),
        (["--ca-file", "missing"], "--ca-file missing: No such file or directory"),
        (["--token-file", __file__, "--password-file", __file__], "exclude each other"),
        (["--token-file", __file__, "--token-command", "true"], "exclude each other"),
        (["--token-command", "'never closed"], "--token-command 'never closed: No closing quotation"),
        (["--token-command", ""], "--token-command : the command is a list"),
        (["--ca-file", __file__], "holds no certificate"),
    ],
)
def test_options_that_cannot_work(call: Call, options: list[str], words: str) -> None:
    outcome = call("scan", "imaps://ann@nowhere.invalid", "INBOX", *options)
    assert outcome.status == 2
    assert words in outcome.sentence
    assert "Fetch(" not in outcome.sentence


def test_a_missing_argument_a_wrong_command_and_a_wrong_mailbox(call: Call) -> None:
    for arguments, words in (
        (("scan", "imaps://ann@nowhere.invalid"), "MAILBOX"),
        (("scam",), "No such command 'scam'"),
        (("scan", "imaps://ann@nowhere.invalid", ""), "cannot be the name of a mailbox"),
        (("demo", "--messages", "3"), "--messages"),
    ):
        outcome = call(*arguments)
        assert outcome.status == 2
        assert words in outcome.sentence


def test_no_password_and_nobody_to_ask(call: Call) -> None:
    outcome = call("scan", "imaps://ann@nowhere.invalid", "INBOX", password=None)
    assert outcome.status == 2
    assert "no password: set IMAPIPE_PASSWORD, or name a file with --password-file" in outcome.sentence


def test_a_password_in_the_environment_that_is_no_text(process: Start) -> None:
    """Bytes that are not UTF-8 become surrogates there; the traceback of --debug quotes no error with the password."""
    environment = {**os.environb, b"IMAPIPE_PASSWORD": b"hunter2\xff"}
    one = process(
        "scan",
        "imaps://ann@nowhere.invalid",
        "INBOX",
        "--debug",
        env=environment,  # type: ignore[arg-type]  # bytes do
    )
    _, err = one.communicate(timeout=120)
    assert one.returncode == 2
    assert "the password holds what is no text" in err
    assert "hunter2" not in err


@pytest.mark.parametrize("content", [b"", b"\nsecret", b"\xff\n"])
def test_a_password_file_without_a_password(call: Call, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "password"
    file.write_bytes(content)
    outcome = call("scan", "imaps://ann@nowhere.invalid", "INBOX", "--password-file", file)
    assert outcome.status == 2
    assert str(file) in outcome.sentence
    assert "secret" not in outcome.sentence


def test_a_certificate_for_another_name(serve: Serve, call: Call, certificate: Callable[..., Certificate]) -> None:
    other = certificate("imap.example.org")
    server = serve(tls=other.context)
    outcome = call("scan", server.url, "INBOX", "--ca-file", other.file)
    assert outcome.status == 1
    assert "the TLS certificate was not accepted" in outcome.sentence
    assert "check the host name" in outcome.sentence
    assert not server.commands


def test_a_certificate_nobody_knows(serve: Serve, call: Call, certificate: Callable[..., Certificate]) -> None:
    outcome = call("scan", serve(tls=certificate("127.0.0.1").context).url, "INBOX")
    assert outcome.status == 1
    assert "or name a file that holds it with --ca-file" in outcome.sentence


def test_tls_where_there_is_none(serve: Serve, call: Call) -> None:
    outcome = call("scan", serve().url.replace("imap:", "imaps:"), "INBOX")
    assert outcome.status == 1
    assert "TLS" in outcome.sentence


def test_starttls_that_is_not_offered(serve: Serve, call: Call) -> None:
    outcome = call("scan", serve(remove_extensions=["STARTTLS"]).url, "INBOX", "--starttls")
    assert outcome.status == 1
    assert "does not offer STARTTLS: --starttls demands it" in outcome.sentence


def test_too_many_connections(serve: Serve, call: Call) -> None:
    outcome = call("scan", serve(faults=[RefuseLogin()]).url, "INBOX", "--retries", 0)
    assert outcome.status == 1
    assert "Too many simultaneous connections" in outcome.sentence
    assert "use fewer --connections" in outcome.sentence


def test_a_server_that_refuses_everybody(serve: Serve, call: Call) -> None:
    outcome = call("scan", serve(faults=[RefuseConnection("\x1b[31mclosed on Sundays")]).url, "INBOX")
    assert outcome.status == 1
    assert "closed on Sundays" in outcome.sentence
    assert "\x1b" not in outcome.sentence


def test_a_quota_that_is_used_up_is_told_with_the_time_to_come_back(serve: Serve, call: Call, tmp_path: Path) -> None:
    server = serve(50)
    words = "Account exceeded command or bandwidth limits."
    server.faults.add(Reply("NO", words, code="OVERQUOTA", command="UID FETCH"))
    options = ("--retries", "0", "--checkpoint", tmp_path / "state.json", "--quiet")
    outcome = call("scan", server.url, "INBOX", *options)
    assert outcome.status == 3
    assert re.search(
        r"50 of 50 messages failed; the same command .* again, from \d{4}-\d\d-\d\d \d\d:\d\d on", outcome.err
    )
    assert re.search(r"^serves again +\d{4}-", outcome.out, re.MULTILINE)


def test_a_server_that_is_silent(serve: Serve, call: Call) -> None:
    outcome = call("scan", serve(latency_seconds=60.0).url, "INBOX", "--timeout", 1)
    assert outcome.status == 1
    assert "nothing usable in 1 seconds (--timeout)" in outcome.sentence


def test_a_search_that_the_server_refuses(serve: Serve, call: Call) -> None:
    outcome = call("scan", serve(3, faults=[Reply("NO", "too complex", command="UID SEARCH")]).url, "INBOX")
    assert outcome.status == 1
    assert outcome.sentence == "the server refused the search: too complex; try a simpler one"


def test_a_capability_that_is_missing(serve: Serve, call: Call) -> None:
    outcome = call("scan", serve(3).url, "INBOX", "--fetch", "gmail")
    assert outcome.status == 1
    assert "does not offer X-GM-EXT-1" in outcome.sentence


# Checkpoints.


@pytest.fixture
def checkpointed(serve: Serve, call: Call, tmp_path: Path) -> tuple[list[object], Path]:
    """A scan that has run once, and its checkpoint."""
    state = tmp_path / "state.json"
    command: list[object] = ["scan", serve(5).url, "INBOX", "--checkpoint", state]
    assert call(*command).status == 0
    return command, state


def test_a_corrupt_checkpoint(call: Call, checkpointed: tuple[list[object], Path]) -> None:
    command, state = checkpointed
    content = state.read_bytes()
    state.write_bytes(content[:-10])
    outcome = call(*command)
    assert outcome.status == 1
    assert f"checkpoint {state}: " in outcome.sentence
    assert "move it away to begin anew" in outcome.sentence
    assert state.read_bytes() == content[:-10]


def test_a_checkpoint_of_another_version(call: Call, checkpointed: tuple[list[object], Path]) -> None:
    command, state = checkpointed
    document = json.loads(state.read_bytes())
    state.write_text(json.dumps({**document, "version": 99}))
    outcome = call(*command)
    assert outcome.status == 1
    assert "format version 99" in outcome.sentence


def test_the_checkpoint_of_another_search(call: Call, checkpointed: tuple[list[object], Path]) -> None:
    command, _ = checkpointed
    outcome = call(*command, "--search", "UNSEEN")
    assert outcome.status == 1
    assert (
        "it belongs to another search or fetch; use another file, --name, or --on-mismatch accept" in outcome.sentence
    )


def test_a_locked_checkpoint(call: Call, checkpointed: tuple[list[object], Path]) -> None:
    command, state = checkpointed
    with FileLock(f"{state}.lock"):
        outcome = call(*command)
    assert outcome.status == 1
    assert "another process holds it" in outcome.sentence
    assert "wait until that run has ended" in outcome.sentence


@pytest.mark.parametrize("place", ["", "missing/state.json"])
def test_an_unreadable_checkpoint(serve: Serve, call: Call, tmp_path: Path, place: str) -> None:
    outcome = call("scan", serve(5).url, "INBOX", "--checkpoint", tmp_path / place)
    assert outcome.status == 1
    assert "name a file that can be read and written" in outcome.sentence


def test_a_mailbox_that_was_renumbered(serve: Serve, call: Call, tmp_path: Path) -> None:
    server = serve({"INBOX": 5})
    command = ["scan", server.url, "INBOX", "--checkpoint", tmp_path / "state.json"]
    assert call(*command).status == 0
    server.mailboxes["INBOX"].uidvalidity += 1
    outcome = call(*command)
    assert outcome.status == 1
    assert "UIDVALIDITY of 'INBOX' changed" in outcome.sentence
    assert "start again with --on-uidvalidity restart" in outcome.sentence
    assert call(*command, "--on-uidvalidity", "restart").status == 0


# The words themselves.


def test_the_library_still_says_what_is_put_into_options() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in LIBRARY)
    assert not [phrase for phrase, _ in PHRASES if phrase not in sources]


def test_what_nobody_expected_is_told_and_can_be_looked_into(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of\ncheese")

    monkeypatch.setattr("imapipe.cli.scan.choose_display", fail)
    outcome = call("scan", "imaps://ann@nowhere.invalid", "INBOX")
    assert outcome.status == 1
    assert outcome.sentence.startswith("something imapipe did not expect: RuntimeError: out of cheese; run it again")
    debugged = call("scan", "imaps://ann@nowhere.invalid", "INBOX", "--debug")
    assert debugged.status == 1
    assert 'raise RuntimeError("out of' in debugged.err


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (imapipe.AuthenticationFailed("LOGIN", "NO", "", "no"), Status.AUTHENTICATION, "the server refused the login"),
        (imapipe.InvalidSearch("what"), Status.USAGE, "what"),
        (imapipe.ConnectionLost(host="h", port=1), Status.FAILED, "try again"),
        (
            imapipe.Throttled("LOGIN", "NO", "OVERQUOTA", "Enough", retry_at=datetime(2026, 11, 28, 4, 0, tzinfo=UTC)),
            Status.FAILED,
            "Enough, until 2026-11-28 ",
        ),
        (imapipe.ServerBye("EXAMINE", "", "maintenance"), Status.FAILED, "maintenance; try again later"),
        (imapipe.ProtocolError("x"), Status.FAILED, "please report it"),
        (imapipe.SpoolError(28, "No space left on device"), Status.FAILED, "TMPDIR"),
        (OSError(28, "No space left on device"), Status.FAILED, "No space left on device"),
        (ZeroDivisionError(), Status.FAILED, "--debug"),
    ],
)
def test_every_exception_has_a_sentence(error: Exception, status: Status, words: str) -> None:
    sentence, found = explain(error)
    assert found is status
    assert words in sentence
    assert "\n" not in sentence


def _raised_from(error: imapipe.ImapipeError, cause: Exception) -> imapipe.ImapipeError:
    error.__cause__ = cause
    return error


def _full(text: str) -> sqlite3.Error:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


@pytest.mark.parametrize(
    "error",
    [
        _raised_from(imapipe.SinkError("no room", path="mail"), OSError(errno.ENOSPC, "no room")),
        _raised_from(imapipe.SinkError("no room", path="mail"), _full("full")),
        _raised_from(imapipe.MessageIndexError("no room", path="mail"), _full("full")),
        _raised_from(imapipe.JournalError("no room", path="mail"), OSError(errno.EDQUOT, "no room")),
        _raised_from(imapipe.CheckpointError("no room", path="mail"), OSError(errno.ENOSPC, "no room")),
        OSError(errno.ENOSPC, "no room", "mail"),
    ],
)
def test_a_full_disk_wants_room(error: Exception) -> None:
    sentence, status = explain(error)
    assert sentence.endswith("mail: no room; make room, and run it again: what was written before is safe")
    assert status is Status.FAILED


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("kind", [imapipe.SinkError, imapipe.MessageIndexError, imapipe.JournalError])
def test_what_may_not_be_written_wants_another_place(kind: Callable[..., imapipe.ImapipeError], number: int) -> None:
    sentence, _ = explain(_raised_from(kind("no", path="mail"), OSError(number, "no")))
    assert sentence.endswith("mail: no; name another place, or see that it may be written to")


@pytest.mark.parametrize(
    "error",
    [
        imapipe.SinkError("it has version 77; move it away", path="mail"),
        imapipe.CheckpointVersion("it has version 77; move it away", path="mail"),
        _raised_from(imapipe.ConnectionFailed("not allowed; move it away"), OSError(errno.EPERM, "not allowed")),
    ],
)
def test_what_says_itself_what_to_do_gets_no_other_advice(error: Exception) -> None:
    assert explain(error)[0].endswith("; move it away")


def test_a_port_that_wants_tls(serve: Serve, call: Call, certificate: Callable[..., Certificate]) -> None:
    url = serve(tls=certificate("127.0.0.1").context).url.replace("imaps://", "imap://")
    outcome = call("folders", url, "--timeout", 1)
    assert outcome.status == 1
    assert outcome.sentence.endswith("nothing usable in 1 seconds (--timeout); maybe imaps:// is what this port wants")


@pytest.mark.parametrize(
    "words",
    [
        ("scan", "URL", "Entw\udcfcrfe"),
        ("export", "URL", "Entw\udcfcrfe", "--to", "eml:x"),
        ("move", "URL", "INBOX", "Entw\udcfcrfe", "--yes"),
        ("folders", "URL", "--pattern", "Entw\udcfcrfe"),
        ("copy", "URL", "imap://bob@127.0.0.1:1", "--folder", "INBOX=Entw\udcfcrfe"),
    ],
    ids=lambda words: words[0],
)
def test_a_name_in_another_encoding_than_that_of_the_terminal(
    serve: Serve, call: Call, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("IMAPIPE_TARGET_PASSWORD", "other")
    server = serve(1)
    outcome = call(*(server.url if word == "URL" else word for word in words))
    assert outcome.status == 2
    assert "name of a mailbox" in outcome.sentence


def test_a_number_of_bytes_above_all_numbers_is_a_mistake() -> None:
    with pytest.raises(Mistake, match="use a number of bytes"):
        parse_size("9" * 400, "--daily-bytes")


@pytest.mark.parametrize("words", ["--rate x", "--limit 1.5", "--limit -1", "--connections 101", "--compress maybe"])
def test_a_value_that_does_not_fit_is_told_in_plain_words(call: Call, words: str) -> None:
    outcome = call("scan", "imaps://ann@imap.example.org", "INBOX", *words.split())
    assert outcome.status == Status.USAGE
    assert outcome.sentence.startswith(f"Invalid value for '{words.split(maxsplit=1)[0]}': ")
    assert not re.search("Input should|Value error|parse", outcome.sentence)
