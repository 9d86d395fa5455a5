"""`imapipe follow` tells of messages as they arrive, and ends in good order when it is told to."""

from __future__ import annotations

import imaplib
import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import imapipe
import imapipe.cli.follow
from imapipe.cli.follow import standing
from imapipe.pipeline.follow.report import FollowReport
from imapipe.runtime.histogram import Histogram

if TYPE_CHECKING:
    from tests.cli.conftest import Call, Serve, Start

_MAIL = b"From: bo@example.org\r\nSubject: ping\x1b[2J\r\n\r\nnew\r\n"


def _lines_until(running: subprocess.Popen[str], text: str) -> list[str]:
    assert running.stdout is not None
    lines = []
    for line in running.stdout:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError(f"no {text} in {lines}")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_machines_get_lines_and_a_signal_ends_it_with_a_report(
    serve: Serve, process: Start, tmp_path: Path, name: str
) -> None:
    server = serve({"INBOX": 2})
    running = process("follow", server.url, "--json", "--checkpoint", tmp_path / "state")
    _lines_until(running, '"way":"notify"')
    with imaplib.IMAP4("127.0.0.1", server.port) as other:
        other.login(server.user, server.password)
        other.append("INBOX", "", "", _MAIL)
    told = json.loads(_lines_until(running, '"uid":3')[-1])
    assert (told["event"], told["mailbox"], told["from"], told["subject"]) == (
        "message", "INBOX", "bo@example.org", "ping\x1b[2J",
    )  # fmt: skip
    _lines_until(running, "NewsHandled")
    running.send_signal(getattr(signal, name))
    out, _ = running.communicate(timeout=120)
    report = json.loads(out.splitlines()[-1])
    assert (report["event"], report["done"], report["complete"]) == ("report", 3, True)
    assert running.returncode == 0


@pytest.fixture
def ended_when(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have following end, as a signal has it end, when a function of the command has written some texts."""

    def choose(function: str, *texts: str) -> None:
        ends, left = list[Callable[[], object]](), set(texts)
        write = getattr(imapipe.cli.follow, function)

        @contextmanager
        def at_signals(act: Callable[[], object]) -> Iterator[None]:
            ends.append(act)
            yield

        def write_and_end(what: object) -> None:
            write(what)
            left.difference_update([text for text in left if text in str(what)])
            if not left:
                ends[0]()

        monkeypatch.setattr(f"imapipe.cli.follow.{function}", write_and_end)
        monkeypatch.setattr("imapipe.cli.follow.at_signals", at_signals)

    return choose


def test_people_read_a_line_for_each_message_and_what_happens_beside_it(
    serve: Serve, call: Call, ended_when: Callable[..., None]
) -> None:
    ended_when("write_note", "news of", "2 handled")
    outcome = call("follow", serve({"INBOX": 2}).url)
    assert outcome.status == 0
    first, second, *report = outcome.out.splitlines()
    assert (first.split()[:2], second.split()[:2]) == (["INBOX", "1"], ["INBOX", "2"])
    assert "INBOX: planned 2, done 2" in report
    assert sorted(outcome.err.splitlines()) == ["imapipe: INBOX: 2 handled", "imapipe: news of INBOX comes by notify"]


def test_machines_read_an_object_for_each(serve: Serve, call: Call, ended_when: Callable[..., None]) -> None:
    ended_when("write_line", "MailboxFollowed", "NewsHandled")
    outcome = call("follow", serve({"INBOX": 2}).url, "--json")
    assert (outcome.status, outcome.err) == (0, "")
    told = [json.loads(line) for line in outcome.out.splitlines()]
    assert sorted((each["event"], each.get("uid", 0)) for each in told) == [
        ("MailboxFollowed", 0), ("NewsHandled", 0), ("message", 1), ("message", 2), ("report", 0),
    ]  # fmt: skip
    assert (told[-1]["done"], told[-1]["complete"]) == (2, True)


def test_a_sink_has_what_arrives(serve: Serve, call: Call, ended_when: Callable[..., None], tmp_path: Path) -> None:
    ended_when("write_note", "news of", "2 handled")
    outcome = call("follow", serve({"INBOX": 2}).url, "--to", f"jsonl:{tmp_path}/mail.jsonl")
    assert outcome.status == 0, outcome.err
    assert len((tmp_path / "mail.jsonl").read_text().splitlines()) == 2


def test_mistakes_and_a_mailbox_that_is_not_there(serve: Serve, call: Call) -> None:
    url = serve({"INBOX": 1}).url
    outcome = call("follow", url, "nowhere")
    assert outcome.status == 1
    assert "nowhere" in outcome.err or "no such" in outcome.err.lower()
    assert call("follow", url, "--to", "nothing").status == 2
    assert call("follow", url, "--poll", "0").status == 2
    assert call("follow", url, "--idle", "0").status == 2


def test_how_it_stands_is_one_line() -> None:
    there = imapipe.FollowHealth(is_running=True, heard_seconds_ago=3.0, trouble="", mailboxes={
        "INBOX": imapipe.MailboxHealth(
            way="notify", heard_seconds_ago=3.0, lag_seconds=2.0, pending=1, is_gone=False, error=""
        ),
        "old": imapipe.MailboxHealth(
            way="poll", heard_seconds_ago=None, lag_seconds=9.0, pending=0, is_gone=True, error=""
        ),
    })  # fmt: skip
    report = FollowReport(
        account="a", mailboxes={}, latency_seconds=Histogram().distribution(),
        reconnects=0, started_at=datetime.now(UTC), elapsed_seconds=1.0,
    )  # fmt: skip
    assert standing(there, report) == "0 handled, 1 by notify, heard 0:03 ago, news waits for 0:02"
    nothing = imapipe.FollowHealth(is_running=True, heard_seconds_ago=None, trouble="ConnectionLost", mailboxes={})
    assert standing(nothing, report) == "0 handled, connecting, ConnectionLost"
