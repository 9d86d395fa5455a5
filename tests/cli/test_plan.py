"""`imapipe plan` says what an export would bring, and what is left of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imapipe.testing import Mailbox, Reply, Server, SyntheticMailbox, make_messages

if TYPE_CHECKING:
    from tests.cli.conftest import Call, Serve


def _account(serve: Serve) -> Server:
    return serve({"INBOX": 12, "Lists/python": 7, "Trash": Mailbox(make_messages(3), special_use="\\Trash")})


def _size(server: Server, *names: str) -> int:
    return sum(server.mailboxes[name].total_size for name in names)


def test_messages_bytes_hours_and_days(serve: Serve, call: Call) -> None:
    server = _account(serve)
    outcome = call(
        "plan",
        server.url,
        "--exclude",
        "\\Trash",
        "--speed",
        "1k",
        "--daily-bytes",
        "5k",
        "--json",
        "--quiet",
        "--fetch",
        "flags, full",
    )
    assert (outcome.status, outcome.err) == (0, "")
    document = outcome.document
    total = _size(server, "INBOX", "Lists/python")
    assert (document["messages"], document["total_bytes"], document["complete"]) == (19, total, True)
    assert document["hours"] == pytest.approx(total / 1_000 / 3_600)
    assert document["days"] == pytest.approx(total / 5_000)
    assert list(document["mailboxes"]) == ["INBOX", "Lists/python"]
    assert document["mailboxes"]["Lists/python"]["messages"] == 7
    # Sizes, and nothing else of any message.
    fetched = {record.arguments.partition(" ")[2] for record in server.commands.named("UID FETCH")}
    assert fetched == {"(UID RFC822.SIZE)"}


def test_with_a_checkpoint_it_says_what_is_left(serve: Serve, call: Call, tmp_path: Path) -> None:
    server = _account(serve)
    export = ("export", server.url, "--to", f"jsonl:{tmp_path / 'mail'}", "--checkpoint", tmp_path / "state")
    plan = ("plan", server.url, "--checkpoint", tmp_path / "state")
    assert call(*plan, "--json").document["messages"] == 22
    assert call(*export, "INBOX", "Trash").status == 0
    document = call(*plan, "--json").document
    assert (document["messages"], document["total_bytes"]) == (7, _size(server, "Lists/python"))
    assert sorted(document["unchanged"]) == ["INBOX", "Trash"]
    # A flag that changes makes the search anew: what is done is done.
    flagged = ("--search", "UNDELETED", "--on-mismatch", "accept")
    document = call(*plan, *flagged, "--json").document
    assert (document["messages"], document["skipped"]) == (7, 15)
    people = call(*plan)
    assert people.out.splitlines()[-3:] == [
        "2 mailboxes have not changed since they were done",
        "hours: say how fast it is with --speed, or have it measured with --measure",
        "days: no quota is known of this provider; say one with --daily-bytes",
    ]
    # The checkpoint of one mailbox is that of all.
    assert call(*export, "Lists/python").status == 0
    assert call(*plan, "Lists/python", "--json").document["messages"] == 0


def test_the_speed_is_measured_where_that_is_wanted(serve: Serve, call: Call) -> None:
    server = serve({"INBOX": SyntheticMailbox(50, size=2_000)})
    document = call("plan", server.url, "--measure", "--json", "--quiet").document
    assert document["bytes_per_second"] > 0
    assert document["hours"] == pytest.approx(document["total_bytes"] / document["bytes_per_second"] / 3_600)
    assert sum(server.commands.fetched().values()) == 100


def test_a_mailbox_that_cannot_be_read_is_told_and_the_others_are_counted(serve: Serve, call: Call) -> None:
    server = _account(serve)
    server.faults.add(Reply("NO", "it is broken", command="EXAMINE", when=lambda record: "Lists" in record.arguments))
    outcome = call("plan", server.url, "--json")
    assert outcome.status == 3
    assert (outcome.document["messages"], outcome.document["complete"]) == (15, False)
    assert "Lists/python: EXAMINE: NO it is broken" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--speed", "1M", "--measure"), "--speed and --measure exclude each other"),
        (("--speed", "fast"), "--speed fast: use a number of bytes"),
        (("--search", "NONSENSE"), "NONSENSE"),
    ],
)
def test_what_cannot_work_is_one_sentence(call: Call, arguments: tuple[str, ...], says: str) -> None:
    outcome = call("plan", "imaps://ann@127.0.0.1", *arguments)
    assert outcome.status == 2
    assert says in outcome.sentence
