"""`imapipe doctor`: for people and for machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imapipe.testing import Reply

if TYPE_CHECKING:
    from tests.cli.conftest import Call, Serve


def test_people_and_machines_are_told(serve: Serve, call: Call) -> None:
    server = serve({"INBOX": 30, "Archive": 2})
    outcome = call("doctor", server.url)
    assert outcome.status == 0, outcome.err
    assert "full export  32 messages" in outcome.out
    assert "yes  UIDPLUS" in outcome.out
    document = call("doctor", server.url, "--json", "--no-sample").document
    assert (document["complete"], document["export_messages"], document["sample"]) == (True, 32, None)
    assert not server.commands.named("SELECT", "UID STORE")


def test_what_could_not_be_found_out_has_its_status(serve: Serve, call: Call) -> None:
    server = serve({"INBOX": 3}, faults=[Reply("NO", "\x1b[31mnot now", command="LIST")])
    outcome = call("doctor", server.url)
    assert outcome.status == 3
    assert "What could not be found out\n  mailboxes: LIST: NO" in outcome.out
    assert "\x1b" not in outcome.out
    assert call("doctor", server.url, password="guess").status == 4
    assert "names no server: give its URL" in call("doctor", "ann@example.org").sentence
