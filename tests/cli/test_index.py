"""`imapipe index` and `imapipe find`."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imapipe.testing import Inject, Mailbox, OmitUids, SearchCap, SyntheticMailbox

if TYPE_CHECKING:
    from tests.cli.conftest import Call, Serve


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mail.index"


def mailbox() -> Mailbox:
    """Three messages of the last days: a report, an invoice, and a large picture."""
    box = Mailbox()
    now = datetime.datetime.now(datetime.UTC)
    for age, head, size in (
        (40, "From: Ann Example <ann@example.org>\r\nSubject: Weekly report", 10),
        (10, "From: Bob <bob@example.net>\r\nSubject: Invoice 2024-17", 5_000),
        (1, "From: =?utf-8?q?Zo=C3=AB?= <zoe@example.de>\r\nSubject: Picture \x1b[31m", 2_000_000),
    ):
        box.append(f"{head}\r\n\r\n{'x' * size}\r\n".encode(), internal_date=now - datetime.timedelta(days=age))
    return box


def test_s11_index_then_find_without_the_server(serve: Serve, call: Call, file: Path) -> None:
    server = serve(mailbox())
    made = call("index", server.url, "INBOX", "--to", file, "--json")
    assert made.status == 0
    assert not made.err
    report = made.document
    assert [report[name] for name in ("found", "known", "added", "total", "complete")] == [3, 0, 3, 3, True]
    server.disconnect_all()

    def found(*options: str) -> list[int]:
        outcome = call("find", file, *options, "--json", password=None)
        assert outcome.status == 0
        return [message["uid"] for message in outcome.document["messages"]]

    assert found("--sender", "ann@example.org") == [1]
    assert found("--sender", "zoë") == [3]
    assert found("--subject", "inv* 2024") == [2]
    assert found("--since", "30d") == [3, 2]
    assert found("--since", "2000-01-01", "--before", "20d") == [1]
    assert found("--size-class", "huge") == [3]
    assert found("--text", "bob invoice") == [2]
    assert found("--mailbox", "INBOX", "--account", report["account"]) == [3, 2, 1]
    assert found("--mailbox", "Other") == []


def test_a_second_run_fetches_what_is_new(serve: Serve, call: Call, file: Path) -> None:
    server = serve(SyntheticMailbox(200))
    assert call("index", server.url, "INBOX", "--to", file, "--search", "UNSEEN", "--json").document["added"] == 60
    server.commands.clear()
    outcome = call("index", server.url, "INBOX", "--to", file, "--connections", 2, "--retries", 0, "--rate", 1e6)
    assert outcome.status == 0
    assert not outcome.err
    rows = dict(line.split("  ", 1) for line in outcome.out.splitlines())
    assert [rows[name].strip() for name in ("found", "known before", "added", "in the index")] == [
        "200",
        "60",
        "140",
        "200",
    ]
    assert sum(record.messages for record in server.commands.named("UID FETCH")) == 140


def test_people_get_a_table_without_tricks(serve: Serve, call: Call, file: Path) -> None:
    call("index", serve(mailbox()).url, "INBOX", "--to", file)
    outcome = call("find", file)
    assert outcome.status == 0
    assert not outcome.err
    heading, *lines = outcome.out.splitlines()
    assert heading.split() == ["date", "bytes", "sender", "subject", "mailbox", "uid"]
    assert [line.split()[-1] for line in lines] == ["3", "2", "1"]
    assert "zoe@example.de" in lines[0]
    assert "\x1b" not in outcome.out

    few = call("find", file, "--limit", 2)
    assert len(few.out.splitlines()) == 3
    assert few.sentence == "there are more than 2; see them with a higher --limit"
    assert call("find", file, "--limit", 2, "--json").document["more"] is True
    nothing = call("find", file, "--subject", "nothing")
    assert (nothing.status, nothing.out, nothing.sentence) == (0, "", "nothing was found")


def test_what_is_missing_makes_it_partial(serve: Serve, call: Call, file: Path) -> None:
    server = serve(SyntheticMailbox(10), faults=[OmitUids({3})])
    outcome = call("index", server.url, "INBOX", "--to", file, "--json")
    assert outcome.status == 3
    assert list(outcome.document["failures"]) == ["3"]
    assert outcome.sentence == "1 of 10 messages failed; the same command tries them again"
    server.faults.clear()
    server.faults.add(SearchCap(8))
    outcome = call("index", server.url, "INBOX", "--to", file, "--json")
    assert outcome.status == 3
    assert outcome.document["unaccounted"] == 2
    assert "2 messages fewer than it says the mailbox holds" in outcome.sentence
    server.faults.clear()
    server.faults.add(Inject(b"* SEARCH 0\r\n", command="UID SEARCH"))
    outcome = call("index", server.url, "INBOX", "--to", file, "--search", "SMALLER 9999999", "--json")
    assert (outcome.status, outcome.document["may_be_short"]) == (3, True)
    assert "could not be read to its end" in outcome.sentence


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--since", "yesterday"], "--since yesterday: use a date such as 2024-01-31, or 30d for 30 days ago"),
        (["--subject", "?"], "subject must hold a word with a letter or a digit"),
        (["--size-class", "enormous"], "--size-class"),
        (["--limit", "0"], "--limit"),
    ],
)
def test_questions_that_cannot_be_asked(
    call: Call, serve: Serve, file: Path, options: list[str], sentence: str
) -> None:
    call("index", serve(1).url, "INBOX", "--to", file)
    outcome = call("find", file, *options)
    assert outcome.status == 2
    assert sentence in outcome.sentence


def test_a_file_that_is_no_index_is_told_and_left_alone(call: Call, serve: Serve, file: Path) -> None:
    missing = call("find", file)
    assert missing.status == 1
    assert f"index {file}: there is no such file; make one with `imapipe index`" in missing.sentence
    assert not file.exists()
    file.write_text("something else " * 100)
    server = serve(1)
    for outcome in (call("find", file), call("index", server.url, "INBOX", "--to", file)):
        assert outcome.status == 1
        assert "it is no database; name another file" in outcome.sentence
    assert file.read_text() == "something else " * 100
    assert not server.commands


def test_a_mailbox_that_is_not_there(serve: Serve, call: Call, file: Path) -> None:
    outcome = call("index", serve(1).url, "Nowhere", "--to", file)
    assert outcome.status == 1
    assert "the mailbox 'Nowhere' cannot be opened" in outcome.sentence
