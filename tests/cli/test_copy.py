"""`imapipe copy` from one account into another."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imapipe.testing import CutInput, Mailbox, Quota, Server, make_messages

if TYPE_CHECKING:
    from tests.cli.conftest import Call, Serve


@pytest.fixture
def source(serve: Serve) -> Server:
    return serve(
        {
            "INBOX": 12,
            "Sent": Mailbox(make_messages(5, seed=2), special_use="\\Sent"),
            "Lists/ü": 3,
            "Empty": 0,
            "Starred": Mailbox(make_messages(2, seed=3), special_use="\\Flagged"),
        },
        user="ann",
        password="one",
    )


@pytest.fixture
def target(serve: Serve) -> Server:
    return serve({"INBOX": 0, "Gesendet": Mailbox(special_use="\\Sent")}, user="bob", password="two")


@pytest.fixture
def copy(call: Call, source: Server, target: Server, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Call `imapipe copy` with both accounts and their passwords."""
    monkeypatch.setenv("IMAPIPE_TARGET_PASSWORD", "two")

    def run(*arguments: object, password: str | None = "one") -> object:
        return call("copy", source.url, target.url, "--quiet", *arguments, password=password)

    return run  # type: ignore[return-value]


def _counts(server: Server) -> dict[str, int]:
    return {name: len(box) for name, box in server.mailboxes.items()}


def test_a_whole_account_and_again(copy: Call, target: Server, source: Server, tmp_path: Path) -> None:
    state = tmp_path / "state"
    outcome = copy("--state", state, "--verify", "--json")
    assert outcome.status == 0
    assert (outcome.document["done"], outcome.document["left_out"]) == (20, ["Starred"])
    assert outcome.document["places"]["Sent"] == "Gesendet"
    assert outcome.document["verify"]["complete"] is True
    assert _counts(target) == {"INBOX": 12, "Gesendet": 5, "Lists/ü": 3, "Empty": 0}
    assert target.mailboxes.subscribed >= {"Lists/ü", "Empty"}
    appended = len(target.commands.named("APPEND"))
    planned = copy("--state", state, "--dry-run", "--json").document
    assert (planned["messages"], planned["copied"], planned["mailboxes"]["Sent"]["copied"]) == (20, 20, 5)
    for again in ("kept", "lost"):
        fetched = sum(record.messages or 0 for record in source.commands.named("UID FETCH"))
        outcome = copy("--state", state)
        assert (outcome.status, again) == (0, again)
        assert len(target.commands.named("APPEND")) == appended
        # What was copied is not fetched again; only what tells it apart, where the state was lost.
        more = sum(record.messages or 0 for record in source.commands.named("UID FETCH")) - fetched
        assert more == (0 if again == "kept" else 20)
        state.unlink()


def test_a_dry_run_sends_nothing(copy: Call, target: Server) -> None:
    target.append_limit = 2000
    outcome = copy("--dry-run", "--exclude", "Lists/*", "--folder", "INBOX=From ann", "--json")
    assert outcome.status == 0
    assert outcome.document["mailboxes"]["INBOX"]["place"] == "From ann"
    assert outcome.document["mailboxes"]["Sent"]["place"] == "Gesendet"
    assert (outcome.document["messages"], "Lists/ü" in outcome.document["mailboxes"]) == (17, False)
    assert "Gesendet" in copy("--dry-run").out
    assert {record.name for record in target.commands} <= {
        "AUTHENTICATE", "LOGIN", "LIST", "NAMESPACE", "LOGOUT", "CAPABILITY", "GETQUOTAROOT", "ENABLE", "ID", "NOOP",
    }  # fmt: skip


def test_a_connection_that_is_lost_is_no_end(copy: Call, target: Server) -> None:
    target.faults.add(CutInput(100, command="APPEND", nth=1))
    assert copy("--mailbox", "Sent").status == 0
    assert len(target.mailboxes["Gesendet"]) == 5


def test_what_differs_is_told(copy: Call, target: Server, tmp_path: Path) -> None:
    assert copy("--mailbox", "INBOX", "--state", tmp_path / "state").status == 0
    box = target.mailboxes["INBOX"]
    box.append(box[3].content.raw, box[3].flags, box[3].internal_date)
    box.append(b"Subject: of somebody else\r\n\r\n")
    box.set_flags(5, {"\\Flagged", "$Odd"})
    # It is gone from the source, and so is not copied again.
    box.expunge([7])
    state = tmp_path / "state"
    outcome = copy("--mailbox", "INBOX", "--state", state, "--verify", "--json")
    assert outcome.status == 3
    found = outcome.document["verify"]["folders"]["INBOX"]
    numbers = ("messages", "messages_there", "missing", "doubled", "dates", "flags", "others")
    assert [found[name] for name in numbers] == [12, 13, 1, 1, 0, 1, 1]
    assert outcome.document["verify"]["missing"] == [{"mailbox": "INBOX", "uid": 7}]
    outcome = copy("--mailbox", "INBOX", "--state", state, "--verify")
    assert "INBOX: messages 12, there 13, missing 1, doubled 1, dates 0, flags 1, others 1" in outcome.out
    assert "the copies are not the same" in outcome.sentence


def test_a_full_account_and_what_is_too_large(copy: Call, source: Server, target: Server) -> None:
    source.mailboxes["INBOX"].append(b"Subject: large\r\n\r\n" + b"x" * 90_000)
    target.append_limit = 50_000
    target.extensions |= {"QUOTA", "APPENDLIMIT"}
    target.quota = Quota(storage_bytes=20 * 1024, messages=9)
    outcome = copy("--mailbox", "INBOX", "--dry-run")
    assert "the target takes no message above 50,000 bytes" in outcome.out
    assert "the target has room for 0.0 MB, and there are" in outcome.sentence
    target.quota = Quota(messages=9)
    outcome = copy("--mailbox", "INBOX", "--mailbox", "Sent")
    assert (outcome.status, len(target.mailboxes["INBOX"]) + len(target.mailboxes["Gesendet"])) == (3, 9)
    assert "the account is full" in outcome.err
    target.quota = None
    outcome = copy("--mailbox", "INBOX", "--mailbox", "Sent", "--json")
    assert (outcome.status, outcome.document["failed"]) == (3, 1)
    assert "90018 bytes, and the server takes 50000" in outcome.out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--folder", "Sent"], "--folder Sent: say which mailbox goes where, such as --folder 'Sent Items=Sent'"),
        (["--target-password-command", "false"], "--target-password-command false: it ended with status 1 and no"),
        (["--target-password-command", "no-such-program"], "no-such-program: No such file or directory"),
        (["--target-password-command", "'"], "a quote in it is not closed"),
        (["--target-password-command", " "], "name a program"),
        (["--target-password-file", "missing"], "--target-password-file missing: No such file"),
        (
            ["--target-token-file", "x", "--target-password-file", "y"],
            "--target-token-file and --target-password-file exclude each other",
        ),
        (["--labels", "none"], "--labels"),
        (["--target-ca-file", "missing"], "--target-ca-file missing: No such file"),
    ],
)
def test_what_cannot_work_is_told(copy: Call, options: list[str], sentence: str) -> None:
    outcome = copy(*options)
    assert outcome.status == 2
    assert sentence in outcome.sentence


def test_the_password_of_the_target(call: Call, source: Server, target: Server, tmp_path: Path) -> None:
    words = ("copy", source.url, target.url, "--quiet", "--mailbox", "Sent")
    outcome = call(*words, password="one")
    assert (outcome.status, "set IMAPIPE_TARGET_PASSWORD, or name" in outcome.sentence) == (2, True)
    command = f"{sys.executable} -c 'print(\"two\")'"
    assert call(*words, "--target-password-command", command, "--target-no-starttls", password="one").status == 0
    (tmp_path / "password").write_text("two\n")
    assert call(*words, "--target-password-file", tmp_path / "password", password="one").status == 0
    same = call("copy", source.url, source.url, "--target-password-file", tmp_path / "password", password="one")
    assert (same.status, "the same account" in same.sentence) == (2, True)


def test_a_state_that_cannot_be_kept_is_told_once(copy: Call, tmp_path: Path) -> None:
    outcome = copy("--state", tmp_path, "--mailbox", "*")
    assert outcome.status == 1
    assert outcome.sentence.startswith(str(tmp_path))
