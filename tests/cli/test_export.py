"""`imapipe export` writes mail to files, and only what is new when it is run again."""

from __future__ import annotations

import json
import mailbox
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import imapipe
from imapipe.cli.together import Together
from imapipe.testing import Mailbox, Reply, make_messages

if TYPE_CHECKING:
    from tests.cli.conftest import Call, Serve


def _account(serve: Serve) -> str:
    return serve({"INBOX": 12, "Lists/python": 7, "Trash": Mailbox(make_messages(3), special_use="\\Trash")}).url


def test_a_whole_account_into_a_maildir_and_again(serve: Serve, call: Call, tmp_path: Path) -> None:
    url = _account(serve)
    command = ("export", url, "--to", f"maildir:{tmp_path / 'mail'}", "--checkpoint", tmp_path / "state", "--json")
    outcome = call(*command, "--exclude", "\\Trash", "--exclude", "Spam")
    assert outcome.status == 0
    assert (outcome.document["done"], outcome.document["complete"]) == (19, True)
    read = mailbox.Maildir(tmp_path / "mail", create=False)
    assert (len(read), len(read.get_folder("Lists.python"))) == (12, 7)
    again = call(*command)
    assert sorted(again.document["unchanged"]) == ["INBOX", "Lists/python"]
    assert again.document["done"] == 3


@pytest.mark.parametrize(("kind", "name"), [("mbox", "all.mbox"), ("eml", "eml"), ("jsonl", "all.jsonl")])
def test_one_mailbox_goes_straight_to_the_place(serve: Serve, call: Call, tmp_path: Path, kind: str, name: str) -> None:
    outcome = call("export", _account(serve), "Lists/python", "--to", f"{kind}:{tmp_path / name}", "--json")
    assert outcome.status == 0
    assert outcome.document["mailbox"] == "Lists/python"
    place = tmp_path / name
    count = {
        "mbox": lambda: place.read_bytes().count(b"\nFrom ") + 1,
        "eml": lambda: len(list(place.glob("*.eml"))),
        "jsonl": lambda: len(place.read_bytes().splitlines()),
    }[kind]()
    assert count == 7


@pytest.mark.parametrize("option", [("--exclude", "Trash"), ("--subscribed",)])
def test_one_mailbox_leaves_nothing_to_choose_from(call: Call, tmp_path: Path, option: tuple[str, ...]) -> None:
    outcome = call("export", "imaps://ann@127.0.0.1", "INBOX", "--to", f"eml:{tmp_path}", *option)
    assert outcome.status == 2
    assert outcome.sentence == f"{option[0]} chooses among mailboxes, and 'INBOX' is one: leave {option[0]} out"


def test_a_place_that_lacks_what_the_checkpoint_says_is_done_is_told(serve: Serve, call: Call, tmp_path: Path) -> None:
    server = serve(6)

    def export(name: str) -> str:
        place = f"maildir:{tmp_path / name}"
        return call("export", server.url, "--to", place, "--checkpoint", tmp_path / "state.json").err

    assert export("one") == export("one") == ""
    server.mailboxes["INBOX"].append(b"Subject: new\r\n\r\n")
    assert "two was not there, and has nothing of what" in export("two")
    assert len(list((tmp_path / "two/cur").iterdir())) == 1
    assert export("two") == ""


def test_several_places_at_once_with_attachments(serve: Serve, call: Call, tmp_path: Path) -> None:
    places = ["--to", f"jsonl:{tmp_path / 'a.jsonl'}", "--to", f"eml:{tmp_path / 'eml'}"]
    outcome = call("export", _account(serve), "INBOX", "L*", *places, "--attachments", tmp_path / "files", "--no-sync")
    assert outcome.status == 0
    assert outcome.out.splitlines()[-1].startswith("2 mailboxes, 0 unchanged")
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_bytes().splitlines()]
    assert {row["mailbox"] for row in rows} == {"INBOX", "Lists/python"}
    assert len(rows) == 19
    assert (tmp_path / "files/attachments.jsonl").exists()
    assert (tmp_path / "eml/Lists/python").is_dir()


def test_a_search_and_less_than_everything(serve: Serve, call: Call, tmp_path: Path) -> None:
    arguments = ["--to", f"jsonl:{tmp_path / 'a.jsonl'}", "--fetch", "envelope, modseq", "--search", "UID 1:4"]
    assert call("export", _account(serve), "INBOX", *arguments).status == 0
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_bytes().splitlines()]
    assert len(rows) == 4
    assert "text" not in rows[0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--to", "zip:x"), "--to zip:x: use one of maildir:PATH, mbox:PATH, eml:PATH, jsonl:PATH, parquet:PATH"),
        (("--to", "maildir:"), "--to maildir:: use one of"),
        (("--to", "maildir:{}/m", "--fetch", "envelope"), "Maildir writes whole messages"),
        (("--to", "jsonl:{}/x", "--search", "NONSENSE"), "NONSENSE"),
        (("--to", "jsonl:{}/x", "--daily-bytes-file", "bytes.json"), "say with --daily-bytes how many"),
        (("--to", "jsonl:{}/x", "--daily-bytes", "lots"), "--daily-bytes lots: use a number of bytes"),
    ],
)
def test_what_cannot_work_is_one_sentence(
    serve: Serve, call: Call, tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    outcome = call("export", _account(serve), "INBOX", *(word.format(tmp_path) for word in arguments))
    assert outcome.status == 2
    assert says in outcome.sentence


def test_a_place_that_cannot_be_written_is_one_sentence(serve: Serve, call: Call, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    outcome = call("export", _account(serve), "INBOX", "--to", f"maildir:{tmp_path / 'file'}")
    assert outcome.status == 1
    assert str(tmp_path / "file") in outcome.sentence


def test_one_mailbox_that_fails_makes_it_partial(serve: Serve, call: Call, tmp_path: Path) -> None:
    broken = Reply("NO", "it is broken", command="EXAMINE", when=lambda record: "Lists" in record.arguments)
    server = serve({"INBOX": 5, "Lists": 5}, faults=[broken])
    outcome = call("export", server.url, "--to", f"eml:{tmp_path}", "--retries", 0, "--json")
    assert outcome.status == 3
    assert outcome.document["done"] == 5
    assert "it is broken" in outcome.document["errors"]["Lists"]["text"]
    assert outcome.sentence == "1 mailbox could not be done; the same command tries again"


def test_the_progress_of_several_is_that_of_one() -> None:
    shown: list[imapipe.ProgressSnapshot] = []
    together = Together(shown.append)

    def tell(mailbox: str, done: int, *, final: bool = False) -> None:
        together.show(
            imapipe.ProgressSnapshot(10, done, 0, 0, 0, 100, 1.0, 5.0, 50.0, 1.0, 1, 1, 0, final, "a", mailbox)
        )

    tell("one", 4)
    tell("two", 2)
    assert (shown[-1].planned, shown[-1].done, shown[-1].connections, shown[-1].eta_seconds) == (20, 6, 2, 1.4)
    tell("one", 10, final=True)
    assert (shown[-1].done, shown[-1].connections, shown[-1].messages_per_second) == (12, 1, 5.0)
    tell("two", 10, final=True)
    tell("three", 1)
    assert (shown[-1].planned, shown[-1].done, shown[-1].connections, shown[-1].bytes_received) == (30, 21, 1, 300)
    assert not shown[-1].final


@pytest.mark.parametrize("mailboxes", [("INBOX",), ()])
def test_flags_and_deletions_are_mirrored_within_a_bound(
    serve: Serve, call: Call, tmp_path: Path, mailboxes: tuple[str, ...]
) -> None:
    server = serve({"INBOX": 12, "Lists": 2})
    places = ("--to", f"maildir:{tmp_path / 'mail'}", "--to", f"sqlite:{tmp_path / 'all.sqlite'}")
    command = ("export", server.url, *mailboxes, *places, "--mirror", "--max-deletions", "10%")
    assert call(*command).status == 0
    server.mailboxes["INBOX"].set_flags(1, {"\\Flagged"})
    server.mailboxes["INBOX"].expunge([2])
    outcome = call(*command, "--json")
    assert outcome.status == 0
    assert (outcome.document["mirror"]["flags_changed"], outcome.document["mirror"]["removed"]) == (1, 1)
    assert len(mailbox.Maildir(tmp_path / "mail", create=False)) == 11
    server.mailboxes["INBOX"].expunge([3, 4, 5])
    outcome = call(*command)
    assert outcome.status != 0
    assert "3 of 11 messages" in outcome.sentence
    assert len(mailbox.Maildir(tmp_path / "mail", create=False)) == 11


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--to", "mbox:x", "--mirror"), "--mirror does not go with mbox: use one of maildir, parquet, sqlite"),
        (("--attachments", "y", "--mirror"), "--mirror does not go with --attachments"),
        (("--mirror", "--max-deletions", "ten"), "--max-deletions takes a number such as 100"),
        (("--max-deletions", "10%"), "add --mirror"),
    ],
)
def test_what_does_not_go_with_a_mirror(call: Call, tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    outcome = call("export", "imaps://ann@127.0.0.1", "INBOX", "--to", f"maildir:{tmp_path / 'mail'}", *words)
    assert outcome.status == 2
    assert says in outcome.sentence


def test_a_place_that_begins_anew_beside_an_old_checkpoint(serve: Serve, call: Call, tmp_path: Path) -> None:
    url, kept = _account(serve), ("--checkpoint", tmp_path / "state.json", "--quiet")
    first, second = f"eml:{tmp_path / 'first'}", f"eml:{tmp_path / 'second'}"
    assert not call("export", url, "--to", first, *kept).err
    outcome = call("export", url, "--to", first, "--to", second, *kept)
    assert outcome.status == 0
    assert outcome.sentence.startswith(f"{tmp_path / 'second'} was not there, and has nothing of what ")
    attachments = tmp_path / "attachments"
    outcome = call("export", url, "--to", first, "--attachments", attachments, *kept)
    assert outcome.sentence.startswith(f"{attachments} was not there, and has nothing of what ")
    assert not call("export", url, "--to", first, *kept).err


def test_a_report_speaks_of_options(serve: Serve, call: Call, tmp_path: Path) -> None:
    server = serve({"INBOX": 12, "Lists": 3})
    command = ("export", server.url, "--to", f"maildir:{tmp_path / 'mail'}", "--mirror", "--max-deletions", "10%")
    assert call(*command).status == 0
    server.mailboxes["INBOX"].expunge(range(1, 7))
    outcome = call(*command)
    assert outcome.status == 3
    for told in (outcome.out, outcome.err):
        assert "allow it once with --max-deletions 6" in told


def test_a_pattern_or_a_use_that_fits_nothing_is_told(serve: Serve, call: Call, tmp_path: Path) -> None:
    outcome = call("export", _account(serve), "\\Sent", "Nothing*", "--to", f"eml:{tmp_path}", "--quiet")
    assert outcome.status == 0
    assert outcome.sentence == "no mailbox fits \\Sent or Nothing*: `imapipe folders` lists those there are"
