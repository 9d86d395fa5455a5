"""`imapipe backup`: several accounts, what is new of them, and one that fails alone."""

from __future__ import annotations

import mailbox
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imapipe.testing import RefuseCredentials

if TYPE_CHECKING:
    from tests.cli.conftest import Call, Serve


def _accounts(folder: Path, **urls: str) -> Path:
    file = folder / "accounts.toml"
    tables = (f'[{name}]\nurl = "{url}"\npassword_env = "IMAPIPE_PASSWORD"\n' for name, url in urls.items())
    file.write_text("\n".join(tables))
    return file


@pytest.mark.parametrize("kind", ["maildir", "mbox", "eml", "jsonl"])
def test_two_accounts_and_then_only_what_is_new(serve: Serve, call: Call, tmp_path: Path, kind: str) -> None:
    ann, bob = serve({"INBOX": 5, "Archive/2024": 4}), serve(3)
    file = _accounts(tmp_path, ann=ann.url, bob=bob.url)
    command = ("backup", "--accounts", file, "--to", f"{kind}:{tmp_path / 'backup'}", "--json")
    outcome = call(*command)
    assert outcome.status == 0
    assert {name: each["done"] for name, each in outcome.document["accounts"].items()} == {"ann": 9, "bob": 3}
    again = call(*command)
    assert {name: each["done"] for name, each in again.document["accounts"].items()} == {"ann": 0, "bob": 0}
    assert sorted(again.document["accounts"]["ann"]["unchanged"]) == ["Archive/2024", "INBOX"]
    assert len(call(*command, "bob").document["accounts"]) == 1
    if kind == "maildir":
        assert len(mailbox.Maildir(tmp_path / "backup/ann", create=False)) == 5
    if kind == "jsonl":
        assert len((tmp_path / "backup/ann.jsonl").read_bytes().splitlines()) == 9


def test_what_is_gone_is_fetched_again_and_another_kind_is_another_backup(
    serve: Serve, call: Call, tmp_path: Path
) -> None:
    ann = serve({"INBOX": 5, "Archive": 4})
    file = _accounts(tmp_path, ann=ann.url)

    def done(kind: str) -> object:
        outcome = call("backup", "--accounts", file, "--to", f"{kind}:{tmp_path / 'backup'}", "--json")
        return outcome.document["accounts"]["ann"]["done"]

    assert [done(kind) for kind in ("maildir", "mbox", "jsonl", "jsonl")] == [9, 9, 9, 0]
    (tmp_path / "backup/ann.jsonl").unlink()
    assert done("jsonl") == 9


@pytest.mark.parametrize(
    ("kind", "place"), [("maildir", ".Lists.Python"), ("eml", "Lists/Python"), ("mbox", "Lists/Python.mbox")]
)
def test_a_mailbox_that_was_removed_from_a_backup_is_fetched_again(
    serve: Serve, call: Call, tmp_path: Path, kind: str, place: str
) -> None:
    ann = serve({"INBOX": 5, "Lists/Python": 4, "Lists": 2})
    file = _accounts(tmp_path, ann=ann.url)

    def done() -> object:
        outcome = call("backup", "--accounts", file, "--to", f"{kind}:{tmp_path / 'backup'}", "--json")
        assert outcome.status == 0, outcome.err
        return outcome.document["accounts"]["ann"]["done"]

    assert (done(), done()) == (11, 0)
    removed = tmp_path / "backup/ann" / place
    removed.unlink() if removed.is_file() else shutil.rmtree(removed)
    assert (done(), done()) == (4, 0)


def test_a_mirror_follows_flags_and_deletions_within_a_bound(serve: Serve, call: Call, tmp_path: Path) -> None:
    server = serve({"INBOX": 10, "Archive": 4})
    file = _accounts(tmp_path, ann=server.url)
    command = ("backup", "--accounts", file, "--to", f"maildir:{tmp_path / 'backup'}", "--mirror")
    assert call(*command).status == 0
    server.mailboxes["INBOX"].set_flags(1, {"\\Flagged"})
    server.mailboxes["INBOX"].expunge([2, 3])
    kept = call(*command)
    assert kept.status == 0
    assert "mirrored: 1 with other flags, 0 removed; 2 that are gone were kept" in kept.out
    refused = call(*command, "--max-deletions", "10%", "--json")
    assert refused.status == 3
    assert refused.sentence.startswith("ann: INBOX: 2 of 10 messages are gone from 'INBOX'")
    assert refused.sentence.endswith("allow it once with --max-deletions 2")
    assert refused.document["accounts"]["ann"]["mirror"]["complete"] is False
    assert call(*command, "--max-deletions", "2").status == 0
    inbox = mailbox.Maildir(tmp_path / "backup/ann", create=False)
    assert sorted(message.get_flags() for message in inbox) == [""] * 7 + ["F"]


def test_one_account_that_fails_does_not_stop_the_others(serve: Serve, call: Call, tmp_path: Path) -> None:
    bad, good = serve(5, faults=[RefuseCredentials()]), serve(3)
    file = _accounts(tmp_path, bad=bad.url, good=good.url)
    outcome = call("backup", "--accounts", file, "--to", f"eml:{tmp_path / 'out'}", "--json")
    assert outcome.status == 4
    assert outcome.document["complete"] is False
    assert outcome.document["accounts"]["good"]["done"] == 3
    assert outcome.sentence.startswith("bad: ")
    assert len(list((tmp_path / "out/good").rglob("*.eml"))) == 3


def test_what_is_said_at_the_prompt_counts_for_every_account(serve: Serve, call: Call, tmp_path: Path) -> None:
    ann, bob = serve({"INBOX": 2, "Junk": 1, "Archive": 1}), serve({"INBOX": 3, "Junk": 1})
    file = _accounts(tmp_path, ann=ann.url, bob=bob.url)
    file.write_text(f'{file.read_text()}exclude = ["INBOX"]\n')
    counted = tmp_path / "bytes.json"
    outcome = call(
        *("backup", "--accounts", file, "--to", f"eml:{tmp_path / 'out'}", "--json", "--exclude", "Junk"),
        *("--daily-bytes", "1G", "--daily-bytes-file", counted, "--connections", "1", "--rate", "1000"),
    )
    assert outcome.status == 0
    assert {name: each["done"] for name, each in outcome.document["accounts"].items()} == {"ann": 3, "bob": 0}
    assert counted.exists()
    assert not (tmp_path / "out/.imapipe/daily-bytes.json").exists()
    assert ann.counters.peak_connections == 1


def test_a_proxy_is_that_of_every_account(serve: Serve, call: Call, tmp_path: Path) -> None:
    file = _accounts(tmp_path, ann=serve(1).url)
    command = ("backup", "--accounts", file, "--to", f"eml:{tmp_path / 'out'}", "--outage", "0", "--retries", "0")
    assert call(*command, "--proxy", "socks5://127.0.0.1:1").status == 1
    assert call(*command).status == 0


def test_people_get_a_table_for_each_account(serve: Serve, call: Call, tmp_path: Path) -> None:
    file = _accounts(tmp_path, ann=serve(5).url)
    outcome = call("backup", "--accounts", file, "--to", f"eml:{tmp_path / 'out'}")
    assert outcome.status == 0
    assert outcome.out.splitlines()[0] == "ann"
    assert "1 mailbox, 0 unchanged" in outcome.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("nobody",), "has no account nobody; it has ann"),
        (("--search", "NONSENSE"), "NONSENSE"),
        (("--daily-bytes", "many"), "--daily-bytes many: "),
        (("--bytes-rate", "-1"), "--bytes-rate -1: "),
        (("--proxy", "ftp://127.0.0.1"), "--proxy takes the URL of a proxy"),
        (("--mirror",), "--mirror does not go with eml: use one of maildir"),
        (("--mirror", "--to", "maildir:x", "--max-deletions", "ten"), "--max-deletions takes a number such as 100"),
        (("--max-deletions", "10%"), "add --mirror"),
        (("--to", "zip:x"), "--to zip:x: use one of maildir:PATH"),
    ],
)
def test_mistakes_are_one_sentence(call: Call, tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    file = _accounts(tmp_path, ann="imaps://ann@127.0.0.1:1")
    outcome = call("backup", "--accounts", file, "--to", f"eml:{tmp_path}", *words)
    assert outcome.status == 2
    assert says in outcome.sentence


def test_a_file_of_accounts_that_is_none(call: Call, tmp_path: Path) -> None:
    outcome = call("backup", "--accounts", tmp_path / "none.toml", "--to", "eml:x")
    assert outcome.status == 2
    assert "No such file" in outcome.sentence
