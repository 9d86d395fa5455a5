"""`imapipe scan` does what its options say."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imapipe.testing import (
    Act,
    CutAfterBytes,
    NilBodies,
    OmitUids,
    ReplaceResponses,
    SearchCap,
    Stall,
    SyntheticMailbox,
)

if TYPE_CHECKING:
    from tests.cli.conftest import Call, Certificate, Serve


def test_a_scan_reports_one_document_and_marks_nothing(serve: Serve, call: Call) -> None:
    server = serve(SyntheticMailbox(300))
    outcome = call("scan", server.url, "INBOX", "--json")
    assert outcome.status == 0
    assert not outcome.err
    report = outcome.document
    assert (report["planned"], report["done"], report["complete"]) == (300, 300, True)
    assert not server.commands.named("SELECT", "UID STORE")
    assert all("PEEK" in record.arguments or "BODY" not in record.arguments for record in server.commands)


def test_texts_are_fetched_without_attachments(serve: Serve, call: Call) -> None:
    text = b"Content-Type: text/plain\r\n\r\nsee there\r\n"
    file = b"Content-Type: text/csv\r\nContent-Disposition: attachment\r\n\r\n" + b"1,2\r\n" * 10_000
    mail = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n" + text + b"--x\r\n" + file + b"--x--\r\n"
    server = serve([mail] * 5)
    outcome = call("scan", server.url, "INBOX", "--fetch", "text,modseq", "--json")
    assert (outcome.status, outcome.document["done"]) == (0, 5)
    assert outcome.document["bytes_received"] < len(file)
    assert any("BODYSTRUCTURE" in record.arguments for record in server.commands)


def test_people_get_a_table(serve: Serve, call: Call) -> None:
    server = serve(5)
    outcome = call("scan", server.url, "INBOX")
    assert outcome.status == 0
    assert not outcome.err
    rows = dict(re.split(r"  +", line, maxsplit=1) for line in outcome.out.splitlines())
    assert (rows["planned"], rows["done"], rows["complete"]) == ("5", "5", "yes")


def test_an_empty_mailbox_is_complete(serve: Serve, call: Call) -> None:
    outcome = call("scan", serve().url, "INBOX", "--json")
    assert outcome.status == 0
    assert outcome.document["planned"] == 0


@pytest.mark.parametrize("fetches", [["--fetch", "full", "--fetch", "envelope"], ["--fetch", "full,envelope"]])
def test_several_things_can_be_fetched_at_once(serve: Serve, call: Call, fetches: list[str]) -> None:
    server = serve(3)
    assert call("scan", server.url, "INBOX", *fetches).status == 0
    (command,) = server.commands.named("UID FETCH")
    assert "ENVELOPE" in command.arguments
    assert "BODY.PEEK[]" in command.arguments


def test_search_limit_and_order(serve: Serve, call: Call) -> None:
    server = serve(SyntheticMailbox(100))
    outcome = call("scan", server.url, "INBOX", "--search", "UNSEEN", "--limit", 2, "--newest-first", "--json")
    assert outcome.document["planned"] == 2
    # UIDs that end in 2, 4 and 7 are unseen.
    assert server.commands.named("UID FETCH")[0].message_set == "94,97"


def test_a_checkpoint_is_gone_on_with(serve: Serve, call: Call, tmp_path: Path) -> None:
    server = serve(50)
    state = tmp_path / "state.json"
    command = ("scan", server.url, "INBOX", "--checkpoint", state, "--json")
    part = call(*command, "--limit", 20)
    rest = call(*command)
    assert [part.document["done"], rest.document["skipped"], rest.document["done"]] == [20, 20, 30]
    assert rest.document["done_all_runs"] == 50
    assert rest.status == 0


def test_a_partial_run_says_so_and_can_be_repeated(serve: Serve, call: Call, tmp_path: Path) -> None:
    server = serve(10, faults=[OmitUids({3}), NilBodies({7})])
    command = ("scan", server.url, "INBOX", "--fetch", "full", "--checkpoint", tmp_path / "state.json", "--json")
    outcome = call(*command)
    assert outcome.status == 3
    assert outcome.document["failed_uids"] == "3,7"
    assert outcome.sentence == "2 of 10 messages failed; the same command tries them again"
    server.faults.clear()
    again = call(*command)
    assert again.status == 0
    assert (again.document["skipped"], again.document["done"]) == (8, 2)


def test_what_a_search_hides_is_partial_too(serve: Serve, call: Call) -> None:
    outcome = call("scan", serve(SyntheticMailbox(50), faults=[SearchCap(40)]).url, "INBOX", "--json")
    assert outcome.status == 3
    assert outcome.document["unaccounted"] == 10
    assert "10 messages fewer than it says the mailbox holds" in outcome.sentence


def test_a_malformed_envelope_fails_its_message_alone(serve: Serve, call: Call) -> None:
    broken = b'* 2 FETCH (UID 2 FLAGS () INTERNALDATE "01-Jan-2024 08:00:00 +0000" RFC822.SIZE 9 ENVELOPE (NIL))\r\n'
    outcome = call("scan", serve(3, faults=[ReplaceResponses({2: broken})]).url, "INBOX", "--json")
    assert outcome.status == 3
    assert outcome.document["failed_uids"] == "2"


@pytest.mark.parametrize("limit", [["--rate", "1000"], ["--bytes-rate", "0.5M"]])
def test_limits_hold_batches_back(serve: Serve, call: Call, limit: list[str]) -> None:
    server = serve(SyntheticMailbox(600, size=500))
    outcome = call("scan", server.url, "INBOX", "--fetch", "full", *limit, "--json")
    assert outcome.status == 0
    assert outcome.document["throttle_waits"] >= 1


def test_no_more_connections_than_allowed(serve: Serve, call: Call) -> None:
    # The first connection stands still until there is a second one, however late that is.
    server = serve(SyntheticMailbox(3000), faults=[Stall(command="UID FETCH", nth=1)])
    server.faults.add(Act(lambda _: server.release_stalls(), command="UID FETCH", nth=2, times=99))
    assert call("scan", server.url, "INBOX", "--connections", 2).status == 0
    assert server.counters.peak_connections == 2


def test_retries_can_be_switched_off(serve: Serve, call: Call) -> None:
    for retries, status in ((0, 3), (1, 0)):
        server = serve(20, faults=[CutAfterBytes(500, command="UID FETCH", nth=1)])
        assert call("scan", server.url, "INBOX", "--retries", retries, "--json").status == status


@pytest.mark.parametrize(("choice", "count"), [("on", 1), ("off", 0), ("auto", 0)])
def test_compression(serve: Serve, call: Call, choice: str, count: int) -> None:
    server = serve(3)
    assert call("scan", server.url, "INBOX", "--compress", choice, "--connections", 1).status == 0
    assert len(server.commands.named("COMPRESS")) == count


@pytest.mark.parametrize("way", ["imaps", "starttls"])
def test_a_certificate_of_ones_own(serve: Serve, call: Call, certificate: Callable[..., Certificate], way: str) -> None:
    own = certificate("127.0.0.1")
    server = serve(3, **{"tls" if way == "imaps" else "starttls": own.context})
    options = ["--starttls"] if way == "starttls" else []
    outcome = call("scan", server.url, "INBOX", "--ca-file", own.file, *options, "--json")
    assert outcome.status == 0
    assert outcome.document["done"] == 3
    assert len(server.commands.named("STARTTLS")) == (way == "starttls")


def test_the_password_can_come_from_a_file(serve: Serve, call: Call, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("pass word\r\nsomething else\n")
    server = serve(1, password="pass word")
    assert call("scan", server.url, "INBOX", "--password-file", file, password="wrong").status == 0


def test_a_token_file_is_read_at_every_connect(serve: Serve, call: Call, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("token\n")
    server = serve(1)
    assert call("scan", server.url, "INBOX", "--token-file", file, password=None).status == 0
    assert server.commands.named("AUTHENTICATE")


def test_a_name_keeps_a_checkpoint_whatever_is_searched(serve: Serve, call: Call, tmp_path: Path) -> None:
    server = serve(5)
    command = ("scan", server.url, "INBOX", "--checkpoint", tmp_path / "state.json", "--name", "nightly", "--json")
    assert call(*command).status == 0
    assert call(*command, "--search", "LARGER 1").document["skipped"] == 5


def test_the_checkpoint_of_another_search_can_be_accepted(serve: Serve, call: Call, tmp_path: Path) -> None:
    server = serve(5)
    command = ("scan", server.url, "INBOX", "--checkpoint", tmp_path / "state.json", "--json")
    assert call(*command).status == 0
    accepted = call(*command, "--fetch", "full", "--on-mismatch", "accept")
    assert (accepted.status, accepted.document["skipped"]) == (0, 5)
