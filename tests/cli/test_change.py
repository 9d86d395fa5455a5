"""`imapipe move`, `flag`, `delete` and `undo`."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from imapipe.cli import change
from imapipe.testing import Mailbox, Reply, Server

if TYPE_CHECKING:
    from tests.cli.conftest import Call, Serve

CHANGES = {"UID STORE", "UID MOVE", "UID COPY", "UID EXPUNGE"}


@pytest.fixture
def account(serve: Serve) -> Server:
    return serve({"INBOX": 12, "Archive": 0, "Bin": Mailbox(special_use="\\Trash")})


def _changes(server: Server) -> set[str]:
    return CHANGES & {record.name for record in server.commands}


def test_a_move_is_looked_at_made_and_taken_back(account: Server, call: Call, tmp_path: Path) -> None:
    journal = tmp_path / "move.jsonl"
    move = ("move", account.url, "INBOX", "Archive", "--search", "UID 1:8", "--journal", journal, "--quiet")
    looked = call(*move, "--dry-run", "--json").document
    assert (looked["messages"], looked["target"], looked["commands"]) == (8, "Archive", ["UID MOVE 1:8 'Archive'"])
    assert "8 (" in call(*move, "--dry-run").out
    assert not _changes(account)
    assert call(*move, "--yes", "--json").document["done"] == 8
    assert (len(account.mailboxes["INBOX"]), len(account.mailboxes["Archive"])) == (4, 8)
    undo = ("undo", account.url, journal)
    assert call(*undo, "--dry-run", "--json").document["plans"][0]["messages"] == 8
    assert "UID MOVE" in call(*undo, "--dry-run").out
    refused = call(*undo, "--yes", "--max-messages", "7")
    assert (refused.status, "--max-messages 7 allows fewer" in refused.sentence) == (2, True)
    outcome = call(*undo, "--yes", "--json", "--rate", "1000")
    assert outcome.document["undone"] == 8
    assert (len(account.mailboxes["INBOX"]), len(account.mailboxes["Archive"])) == (12, 0)
    again = call(*undo, "--yes", "--quiet")
    assert (again.status, again.out.strip()) == (0, "nothing was left to undo; an earlier run has undone 8")


def test_flags_are_given_and_taken_away(account: Server, call: Call, tmp_path: Path) -> None:
    box = account.mailboxes["INBOX"]
    assert call("flag", account.url, "INBOX", "+\\Seen +$Work", "--yes", "--quiet").status == 0
    assert call("flag", account.url, "INBOX", "+$More -\\Seen", "--yes", "--quiet").status == 0
    assert box.flags_of(3) == {"$Work", "$More"}
    kept = ("--journal", tmp_path / "flags.jsonl", "--json", "--max-messages", "12")
    outcome = call("flag", account.url, "INBOX", "+$Third -$More", "--yes", "--quiet", *kept)
    assert outcome.document["done"] == 12
    assert box.flags_of(3) == {"$Work", "$Third"}
    assert call("undo", account.url, tmp_path / "flags.jsonl", "--yes", "--json").document["undone"] == 12
    assert box.flags_of(3) == {"$Work", "$More"}
    assert call("flag", account.url, "INBOX", "--yes", "--quiet", "--", "-$More").status == 0
    assert call("flag", account.url, "INBOX", "=$Only", "--yes", "--quiet").status == 0
    assert box.flags_of(3) == {"$Only"}


def test_a_removal_goes_to_the_trash_or_for_good(account: Server, call: Call) -> None:
    assert call("delete", account.url, "INBOX", "--search", "UID 1:2", "--yes", "--quiet").status == 0
    assert call("delete", account.url, "INBOX", "--search", "UID 3", "--permanently", "--yes", "--quiet").status == 0
    assert (len(account.mailboxes["INBOX"]), len(account.mailboxes["Bin"])) == (9, 2)
    refused = call("delete", account.url, "Bin", "--yes", "--quiet")
    assert (refused.status, "imapipe delete --permanently" in refused.sentence) == (1, True)


def test_without_a_yes_nothing_is_changed(account: Server, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    move = ("move", account.url, "INBOX", "Archive", "--quiet")
    outcome = call(*move)
    assert (outcome.status, outcome.sentence) == (
        2,
        "nobody can be asked here: look first with --dry-run, then say --yes",
    )
    for answer, left in (("", 12), ("n\n", 12), ("yes\n", 0)):
        person = io.StringIO(answer)
        monkeypatch.setattr(person, "isatty", lambda: True)
        monkeypatch.setattr(change, "sys", SimpleNamespace(stdin=person, stderr=sys.stderr))
        outcome = call(*move)
        assert "12 messages of INBOX? [y/N]" in outcome.err
        assert outcome.status == (0 if not left else 1)
        assert len(account.mailboxes["INBOX"]) == left


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["move", "INBOX", "Archive", "--max-messages", "11"], "--max-messages 11 allows fewer"),
        (["flag", "INBOX", "Seen"], "put + or - before each flag"),
        (["flag", "INBOX", "=a +b"], "say what is to be done with which flags"),
        (["flag", "INBOX", " "], "say what is to be done with which flags"),
        (["flag", "INBOX", "+\\Nonsense\\x"], "flag"),
        (["flag", "INBOX", "+a -A"], "choose one of the two"),
        (["move", "INBOX", "Archive", "--search", "NONSENSE"], "NONSENSE"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_sentence(
    account: Server, call: Call, words: list[str], advice: str
) -> None:
    outcome = call(words[0], account.url, *words[1:], "--yes", "--quiet")
    assert outcome.status == 2
    assert advice in outcome.sentence
    assert not _changes(account)


def test_a_journal_that_is_none_is_told(account: Server, call: Call, tmp_path: Path) -> None:
    outcome = call("undo", account.url, tmp_path / "none.jsonl", "--yes")
    assert (outcome.status, "No such file" in outcome.sentence) == (1, True)


def test_what_cannot_be_brought_back_is_told_before_a_person_says_yes(
    account: Server, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / "delete.jsonl"
    delete = ("delete", account.url, "INBOX", "--permanently", "--journal", journal, "--yes", "--quiet")
    assert call(*delete).status == 0
    for answer, status in (("n\n", 1), ("y\n", 3)):
        person = io.StringIO(answer)
        monkeypatch.setattr(person, "isatty", lambda: True)
        monkeypatch.setattr(change, "sys", SimpleNamespace(stdin=person, stderr=sys.stderr))
        outcome = call("undo", account.url, journal, "--quiet")
        assert f"undo {journal}? [y/N]" in outcome.err
        assert "12 messages cannot be brought back: the message was removed for good" in outcome.err
        assert ("nothing was changed" in outcome.err) == (status == 1)
        assert ("not undone  12: the message was removed for good" in outcome.out) == (status == 3)
        assert outcome.status == status


def test_a_change_that_is_not_complete_says_what_goes_on_with_it(serve: Serve, call: Call, tmp_path: Path) -> None:
    server = serve({"INBOX": 12}, faults=[Reply("NO", "not now", command="UID STORE")])
    outcome = call("flag", server.url, "INBOX", "+$Work", "--yes", "--quiet", "--journal", tmp_path / "j")
    assert outcome.status == 3
    assert "12" in outcome.sentence


def test_people_see_short_commands_and_whether_there_is_a_way_back(serve: Serve, call: Call, tmp_path: Path) -> None:
    server = serve({"INBOX": 300, "Archive": 0})
    server.mailboxes["INBOX"].expunge(range(2, 300, 2))
    looked = call("move", server.url, "INBOX", "Archive", "--dry-run")
    command = next(line for line in looked.out.splitlines() if line.startswith("command"))
    assert re.fullmatch(r"command   UID MOVE 1,3,5,.{1,60} … .{1,60},297,299:300 'Archive'", command)
    assert looked.out.endswith("way back  none: name a --journal for one\n")
    looked = call("move", server.url, "INBOX", "Archive", "--dry-run", "--journal", tmp_path / "j")
    assert looked.out.endswith(f"way back  `imapipe undo` with {tmp_path / 'j'}\n")
    looked = call("delete", server.url, "INBOX", "--permanently", "--dry-run", "--journal", tmp_path / "j")
    assert looked.out.endswith("way back  none: what is removed for good is gone\n")
