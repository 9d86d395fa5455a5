"""The command line against a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dovecot_server.server import PASSWORD
from imapipe.testing import make_messages

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Call

    from dovecot_server import DovecotServer

COUNT = 500


@pytest.fixture(scope="module")
def user(dovecot: DovecotServer) -> str:
    name = dovecot.new_user("cli")
    dovecot.fill(name, "INBOX", list(make_messages(COUNT)))
    dovecot.fill(name, "&ANw-bersicht", list(make_messages(2)))
    return name


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--fetch", "full"],
        ["--fetch", "full", "--connections", "4"],
        ["--fetch", "full", "--compress", "on"],
        ["--fetch", "structure", "--starttls"],
        ["--fetch", "full", "--tls"],
    ],
    ids=lambda options: " ".join(options) or "envelope",
)
def test_a_scan_is_complete_and_marks_nothing(
    dovecot: DovecotServer, user: str, call: Call, options: list[str]
) -> None:
    tls = "--tls" in options
    words = [word for word in options if word != "--tls"]
    trust = ["--ca-file", dovecot.certificate_file] if tls or "--starttls" in words else []
    outcome = call("scan", dovecot.url(user, tls=tls), "INBOX", "--json", *words, *trust, password=PASSWORD)
    assert outcome.status == 0, outcome.err
    assert (outcome.document["planned"], outcome.document["done"]) == (COUNT, COUNT)
    folders = call("folders", dovecot.url(user), "--json", password=PASSWORD).document["mailboxes"]
    counts = {entry["name"]: (entry["messages"], entry["unseen"]) for entry in folders}
    assert counts == {"INBOX": (COUNT, COUNT), "Übersicht": (2, 2)}


def test_refusals_have_their_status(dovecot: DovecotServer, user: str, call: Call) -> None:
    login = call("scan", dovecot.url(user), "INBOX", password="guess")
    assert (login.status, "the server refused the login" in login.sentence) == (4, True)
    mailbox = call("scan", dovecot.url(user), "Nowhere", password=PASSWORD)
    assert (mailbox.status, "'Nowhere' cannot be opened" in mailbox.sentence) == (1, True)


def test_a_checkpoint_is_gone_on_with(dovecot: DovecotServer, user: str, call: Call, tmp_path: Path) -> None:
    command = ("scan", dovecot.url(user), "INBOX", "--checkpoint", tmp_path / "state.json", "--json")
    assert call(*command, "--limit", 200, password=PASSWORD).document["done"] == 200
    rest = call(*command, password=PASSWORD).document
    assert (rest["skipped"], rest["done"], rest["complete"]) == (200, COUNT - 200, True)


def test_a_place_that_is_not_there(dovecot: DovecotServer, user: str, call: Call) -> None:
    """Dovecot says so without a code."""
    outcome = call("move", dovecot.url(user), "INBOX", "Nowhere", "--yes", password=PASSWORD)
    assert outcome.status == 1
    assert outcome.sentence.startswith("Mailbox doesn't exist: Nowhere")
    assert "make it first, or name another" in outcome.sentence
