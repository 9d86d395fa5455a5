"""The cluster of `examples/`: a slice here, all of it in `nox -s proof`; and that its evidence can be against us."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imapipe.testing import CommandRecord, Server
from postgres_server import find_postgres

CLUSTER = Path(__file__).parents[2] / "examples" / "cluster"
if not CLUSTER.is_dir():
    pytest.skip("the examples are not part of the wheel", allow_module_level=True)

from evidence import Handled, Sighting, look_at, of_messages, of_repeats, of_servers, of_tokens, read_handled  # noqa: E402
from mail_servers import Seen, look  # noqa: E402
from population import Account, digest, population  # noqa: E402
from trouble import Trouble  # noqa: E402

FULL = "IMAPIPE_PROOF_MESSAGES" in os.environ
# All of it: 200,000 messages, for as long as that takes, and trouble of every kind.
SIZE = (
    "--workers 3 --accounts 50 --messages 4000 --times 90"
    if FULL
    else "--workers 2 --accounts 5 --messages 200 --times 5 --connection-bytes-per-second 40000"
).split()
ANN = Account("ann", {"INBOX": 3, "Sent": 1}, connections=2, messages_per_second=10.0)
SEEN = Seen(connections=5, peak_connections=2, fetched=4, seconds=1.0, above_rate=4.0, largest_batch=2)
PLACE = ("ann", "INBOX")
KEY = b"key"


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.skipif(find_postgres() is None, reason="PostgreSQL is not installed (apt install postgresql)")
def test_troubled_workers_lose_nothing_and_keep_every_limit(tmp_path: Path) -> None:
    """Killed, frozen, blocked and cut off, with a database that is restarted."""
    done = subprocess.run(
        [sys.executable, str(CLUSTER / "run.py"), *SIZE, "--json", "--folder", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    broken = [finding for finding in result["findings"] if not finding["holds"]]
    assert not broken
    assert done.returncode == 0
    assert len(result["findings"]) == 8
    assert sum(result["trouble"].values()) >= (5 if FULL else 2)


class _Database:
    def crash(self) -> None:
        """End without a good-bye."""

    def restart(self) -> None:
        """Begin anew."""


def test_there_is_trouble_only_where_the_work_has_got_on_and_not_more_often_than_was_said() -> None:
    """Whatever the time: workers of a slow machine that were troubled every two seconds never ended."""
    database: Any = _Database()
    trouble = Trouble([], [], database, kinds=("database",), times=2, messages=30, lease_seconds=3.0, seed=1)
    made = [bool(trouble.tick(handled)) for handled in (0, 9, 9, 10, 10, 19, 20, 20, 29, 30, 60)]
    assert [at for at, was_made in enumerate(made) if was_made] == [3, 6]
    assert trouble.counts == {"database": 2}


def _line(uid: int, mailbox: str = "INBOX") -> str:
    return f"ann {mailbox} {uid} {dict(ANN.digests(mailbox))[uid]}\n"


def test_what_was_handled_is_counted_and_what_is_not_whole_is_told(tmp_path: Path) -> None:
    file = tmp_path / "handled-1.lines"
    file.write_text(_line(1) + _line(2) + _line(2) + _line(3) + _line(1, "Sent"))
    handled = read_handled([file], [ANN])
    assert (handled.messages, handled.repeated, handled.wrong) == (4, 1, 0)
    assert all(finding.holds for finding in of_messages(handled, [ANN]))
    # One is missing, as its line was cut; one has the bytes of another.
    file.write_text(_line(1) + _line(1, "Sent") + _line(2).replace(" 2 ", " 3 ") + _line(2)[:-1])
    handled = read_handled([file], [ANN])
    assert (handled.messages, handled.wrong) == (2, 1)
    assert not any(finding.holds for finding in of_messages(handled, [ANN]))


def test_repeats_are_held_against_the_losses_of_their_own_mailbox() -> None:
    handled = Handled({PLACE: Counter({1: 3, 2: 1}), ("ann", "Sent"): Counter({1: 1})}, wrong=0)
    assert all(finding.holds for finding in of_repeats(handled, {PLACE: 2}, bound=1))
    assert not any(finding.holds for finding in of_repeats(handled, {PLACE: 1}, bound=1))
    assert not any(finding.holds for finding in of_repeats(handled, {("ann", "Sent"): 9}, bound=1))


def test_the_servers_are_witnesses_against_too_many_connections_and_too_high_a_rate() -> None:
    assert [finding.holds for finding in of_servers({"ann": SEEN}, [ANN], burst=0.0)] == [True, True]
    crowd, hurry = replace(SEEN, peak_connections=3), replace(SEEN, above_rate=4.1)
    found = list(of_servers({"ann": crowd}, [ANN], burst=0.0))
    assert [finding.holds for finding in found] == [False, True]
    assert found[0].measured == "{'ann': '3 of 2'}"
    assert [finding.holds for finding in of_servers({"ann": hurry}, [ANN], burst=0.0)] == [True, False]
    late = replace(hurry, stall_seconds=0.02)
    assert [finding.holds for finding in of_servers({"ann": late}, [ANN], burst=0.0)] == [True, True]


def test_a_write_by_another_than_the_holder_is_stale() -> None:
    take, write = Sighting(KEY, 1, "first", is_take=True), Sighting(KEY, 1, "first", is_take=False)
    later = Sighting(KEY, 2, "second", is_take=True, is_loss=True)
    good = look_at([take, write, later, Sighting(KEY, 2, "second", is_take=False)], {KEY: PLACE})
    assert (good.writes, good.stale, good.backwards, good.losses[PLACE]) == (2, 0, 0, 1)
    assert all(finding.holds for finding in of_tokens(good))
    # The trigger notes the token that the row has, and whose session wrote.
    stale = look_at([take, later, Sighting(KEY, 2, "first", is_take=False)], {KEY: PLACE})
    assert stale.stale == 1
    assert not any(finding.holds for finding in of_tokens(stale))
    assert look_at([later, replace(take, token=2)], {KEY: PLACE}).backwards == 1
    assert look_at([write], {KEY: PLACE}).stale == 1


@pytest.mark.asyncio
async def test_the_bucket_of_a_server_tells_a_crowd_from_a_stream() -> None:
    server = Server(0)

    def fetched(at: float, messages: int) -> None:
        record = CommandRecord(1, "A1", "UID FETCH", "", at)
        record.messages = messages
        server.commands.add(record)

    for second in range(10):
        fetched(float(second), 10)
    assert look(server, ANN).above_rate == 10
    fetched(9.5, 10)
    assert look(server, ANN).above_rate == 15
    assert look(server, replace(ANN, messages_per_second=None)).above_rate == 0


def test_the_accounts_have_all_messages_and_say_the_same_everywhere() -> None:
    accounts = population(50, 4000)
    assert sum(account.messages for account in accounts) == 200_000
    assert {account.connections for account in accounts} == {2, 3, 4}
    assert sum(account.messages_per_second is not None for account in accounts) == 10
    mailbox = accounts[7].mailbox("Sent")
    assert dict(population(50, 4000)[7].digests("Sent"))[3] == digest(mailbox[3].content.raw)
