"""`imapipe folders` lists what there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imapipe.testing import Inject, Mailbox, Reply

if TYPE_CHECKING:
    from tests.cli.conftest import Call, Serve


def test_people_get_a_table_with_counts(serve: Serve, call: Call) -> None:
    server = serve({"Work/Übersicht": 3, "INBOX": 2, "Sent": 1})
    outcome = call("folders", server.url)
    assert outcome.status == 0
    assert not outcome.err
    heading, *rows = outcome.out.splitlines()
    assert heading.split() == ["mailbox", "messages", "unseen", "MB", "use"]
    counts = {row.split()[0]: row.split()[1] for row in rows if len(row.split()) > 2}
    assert counts["INBOX"] == "2"
    assert counts["Work/Übersicht"] == "3"
    assert rows[0].startswith("INBOX")


def test_machines_get_one_document(serve: Serve, call: Call) -> None:
    server = serve({"INBOX": 2, "Archive": 0})
    document = call("folders", server.url, "--json").document
    assert document["account"] == f"ann@127.0.0.1:{server.port}"
    inbox = next(entry for entry in document["mailboxes"] if entry["name"] == "INBOX")
    assert (inbox["messages"], inbox["uidnext"], inbox["selectable"]) == (2, 3, True)
    assert inbox["size"] == server.mailboxes["INBOX"].total_size


def test_a_pattern_chooses(serve: Serve, call: Call) -> None:
    server = serve({"a": 0, "a/b": 0, "c": 0})
    document = call("folders", server.url, "--pattern", "a%", "--json").document
    assert [entry["name"] for entry in document["mailboxes"]] == ["a"]


def test_long_names_are_whole_in_a_file_and_cannot_write_to_a_terminal(serve: Serve, call: Call) -> None:
    name = "long " * 60 + "[red]end"
    server = serve({name: Mailbox(), "bell\x07": Mailbox()})
    out = call("folders", server.url).out
    assert name in out
    assert "bell\\x07" in out


def test_every_space_of_a_name_is_shown(serve: Serve, call: Call) -> None:
    out = call("folders", serve({"two  spaces": 0}).url).out
    assert any(row.startswith("two  spaces ") for row in out.splitlines())


def test_what_could_not_be_read_is_told(serve: Serve, call: Call) -> None:
    server = serve({"INBOX": 2})
    server.faults.add(Inject(b'* LIST (\\Odd "/" "never closed\r\n', command="LIST"))
    outcome = call("folders", server.url)
    assert outcome.status == 0
    assert "note: a line in the answer to LIST" in outcome.err
    notes = call("folders", server.url, "--json").document["notes"]
    assert [(note["kind"], note["count"]) for note in notes] == [("list", 1)]


def test_a_refused_login_has_its_status(serve: Serve, call: Call) -> None:
    outcome = call("folders", serve().url, password="guess")
    assert outcome.status == 4
    assert "the server refused the login" in outcome.sentence


def test_a_server_that_does_not_work_is_waited_for(serve: Serve, call: Call) -> None:
    server = serve({"INBOX": 2})
    server.faults.add(Reply("NO", "[UNAVAILABLE] later", command="LIST", times=1))
    assert call("folders", server.url).status == 1
    server.faults.add(Reply("NO", "[UNAVAILABLE] later", command="LIST", times=1))
    assert call("folders", server.url, "--outage", 60).status == 0


def test_a_narrow_terminal_takes_no_name_away(serve: Serve, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imapipe.cli.output.is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    outcome = call("folders", serve({"INBOX": 1, "Archive of a year": 2}).url)
    assert "Archive of a year" in outcome.out
