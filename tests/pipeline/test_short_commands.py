"""Servers that take short commands only: it is learned, and everything comes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import date

import pytest
from tests.pipeline.world import OpenWorld, check_sums

import imapipe
from imapipe import search as q
from imapipe.testing import Bye, CommandRecord, CutAfterBytes, Fault, Reply, Stall, SyntheticMailbox
from imapipe.wire.uid_set import UidSet

pytestmark = pytest.mark.asyncio

MESSAGES = 1200
# Every other one, so that sets are long: 600 UIDs are about 2,900 bytes.
ODD = UidSet.from_numbers(range(1, MESSAGES, 2))


def is_long(record: CommandRecord) -> bool:
    return record.name.startswith("UID ") and len(record.arguments) > 980


def is_very_long(record: CommandRecord) -> bool:
    return record.name.startswith("UID ") and len(record.arguments) > 480


LIMITS: dict[str, tuple[dict[str, object], Callable[[], list[Fault]]]] = {
    "BAD": ({"max_command_bytes": 1000}, list),
    "BAD above 512": ({"max_command_bytes": 512}, list),
    "NO": ({}, lambda: [Reply("NO", "Command line too long", when=is_long)]),
    "closes": ({}, lambda: [CutAfterBytes(0, when=is_long)]),
    "closes above 512": ({}, lambda: [CutAfterBytes(0, when=is_very_long)]),
    # Exchange, Hotmail.
    "BAD in its own words": ({}, lambda: [Reply("BAD", "Command Error. 10", when=is_long)]),
    "says BYE": ({}, lambda: [Bye("Server shutting down", when=is_long)]),
    "is silent": ({}, lambda: [Stall(when=is_long)]),
}


@pytest.mark.parametrize("how", LIMITS)
@pytest.mark.parametrize("retry", [True, False])
@pytest.mark.usefixtures("made_up_time")
async def test_a_server_that_limits_commands_gives_everything(open_world: OpenWorld, how: str, retry: bool) -> None:
    """Defect: nothing at all came from a server that answers BAD above 1,000 bytes, or closes."""
    options, faults = LIMITS[how]
    world = await open_world({"INBOX": SyntheticMailbox(MESSAGES)}, extensions="plain", faults=faults(), **options)
    everything = await world.pool.mailbox("INBOX").search(q.ALL).uids()
    job = everything.pipeline(ODD).batch(imapipe.FixedBatch(600)).fetch("flags")
    if retry:
        job = job.use(imapipe.Retry(wait_initial_seconds=0.0))
    report = await job.run(world.handle)
    check_sums(report)
    assert report.complete
    assert sorted(world.handled) == list(ODD)
    assert report.retries == 0
    # It is not found out again by the next connection, nor by the next run.
    refused = [record for record in world.server.commands if record.name == "UID FETCH" and record.outcome != "OK"]
    assert len(refused) <= (2 if "512" in how else 1)
    world.server.commands.clear()
    assert (await job.run(world.handle)).complete
    assert all(record.outcome == "OK" for record in world.server.commands)


async def test_a_search_within_a_long_set_goes_in_short_commands(open_world: OpenWorld) -> None:
    world = await open_world({"INBOX": SyntheticMailbox(MESSAGES)}, max_command_bytes=1000, extensions="plain")
    async with world.pool.acquire("INBOX") as connection:
        program = (q.ALL & ~q.FLAGGED).program(today=date(2026, 1, 1))
        answer = await connection.uid_search(program, within=ODD)
        assert answer.uids == ODD
        assert await connection.uid_search(program, within=ODD) == answer
    refused = [record for record in world.server.commands if record.outcome == "BAD"]
    assert len(refused) == 1


@pytest.mark.parametrize("fault", [CutAfterBytes(0, when=is_long), Reply("NO", "Command line too long", when=is_long)])
async def test_the_length_is_no_reason_to_search_in_a_plainer_way(open_world: OpenWorld, fault: Fault) -> None:
    world = await open_world({"INBOX": SyntheticMailbox(MESSAGES)}, faults=[fault])
    program = q.ALL.program(today=date(2026, 1, 1))
    for _ in range(3):
        async with world.pool.acquire("INBOX") as connection:
            with suppress(imapipe.ConnectionLost):
                assert (await connection.uid_search(program, within=ODD)).uids == ODD
    async with world.pool.acquire("INBOX") as connection:
        assert (await connection.uid_search(program, within=ODD)).uids == ODD
        assert connection.offers("ESEARCH")


async def test_a_search_within_a_set_that_is_refused_for_another_reason(open_world: OpenWorld) -> None:
    world = await open_world(20, faults=[Reply("NO", "cannot", code="CANNOT", command="UID SEARCH")])
    async with world.pool.acquire("INBOX") as connection:
        with pytest.raises(imapipe.CommandNo):
            await connection.uid_search(q.ALL.program(today=date(2026, 1, 1)), within=UidSet.parse("1:9"))


async def test_sizes_are_asked_for_in_short_commands(open_world: OpenWorld) -> None:
    world = await open_world({"INBOX": SyntheticMailbox(MESSAGES)}, max_command_bytes=1000, extensions="plain")
    everything = await world.pool.mailbox("INBOX").search(q.ALL).uids()
    plan = await everything.pipeline(ODD).plan()
    box = world.server.mailboxes["INBOX"]
    assert plan.messages == len(ODD)
    assert 0 < plan.total_bytes < box.total_size
    assert [record.outcome for record in world.server.commands.named("UID FETCH")].count("BAD") == 1


async def test_bad_for_another_reason_leaves_the_length_alone(open_world: OpenWorld) -> None:
    world = await open_world(
        {"INBOX": SyntheticMailbox(MESSAGES)}, faults=[Reply("BAD", "no such item", command="UID FETCH")]
    )
    everything = await world.pool.mailbox("INBOX").search(q.ALL).uids()
    report = await everything.pipeline(ODD).batch(imapipe.FixedBatch(600)).fetch("flags").run(world.handle)
    check_sums(report)
    assert report.failed == len(ODD)
    assert world.pool.connections.learned.max_command_bytes == 8000
