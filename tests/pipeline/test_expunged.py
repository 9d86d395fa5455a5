"""Messages that others expunge meanwhile have vanished, whatever a server answers for them."""

from __future__ import annotations

import pytest
from tests.pipeline.world import OpenWorld, World, check_sums

import imapipe
from dovecot_server import DovecotServer
from imapipe import search as q
from imapipe.pipeline.delivery.handlers import Handler
from imapipe.testing import NilBodies

COURIER = (
    b"From: System Administrator <root@localhost>\r\nSubject: message unavailable\r\n\r\n"
    b"This message is no longer available on the server.\r\n"
)
PRESETS = [("full",), ("envelope",), ("structure",), ("headers",), ("size",), ("flags", "full")]


def expunging(world: World, *uids: int) -> Handler:
    """A handler that expunges messages behind the run's back when it sees the first one."""

    async def handle(message: imapipe.Message) -> None:
        world.handled.append(message.uid)
        if message.uid == 1:
            world.server.mailboxes["INBOX"].expunge(uids)

    return handle


@pytest.mark.asyncio
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("way", ["nil", "invent", "leave_out"])
async def test_expunged_meanwhile_has_vanished(open_world: OpenWorld, way: str, preset: tuple[str, ...]) -> None:
    world = await open_world(40, expunged_fetch=way)
    job = world.job(*preset).batch(10).depth(1)
    report = await job.run(expunging(world, 12, 25, 26, 39), connections=1)
    check_sums(report)
    assert (report.planned, report.done, report.vanished, report.failed) == (40, 36, 4, 0)
    assert sorted(world.handled) == sorted({*range(1, 41)} - {12, 25, 26, 39})
    assert report.complete


@pytest.mark.asyncio
@pytest.mark.parametrize("way", ["nil", "invent"])
async def test_a_whole_batch_that_was_expunged_has_vanished(open_world: OpenWorld, way: str) -> None:
    world = await open_world(30, expunged_fetch=way)
    report = await world.job("full").batch(10).depth(1).run(expunging(world, *range(11, 31)), connections=1)
    check_sums(report)
    assert (report.done, report.vanished, report.failed) == (10, 20, 0)


@pytest.mark.asyncio
async def test_a_nil_body_of_a_message_that_is_there_is_a_failure_after_a_second_look(open_world: OpenWorld) -> None:
    world = await open_world(5, faults=[NilBodies({2})])
    report = await world.job("full").run(world.handle)
    check_sums(report)
    assert report.failures[2].reason == "no-body"
    assert sorted(world.handled) == [1, 3, 4, 5]
    names = world.server.commands.names
    begin = names.index("UID FETCH")
    assert names[begin : begin + 3] == ["UID FETCH", "NOOP", "UID SEARCH"]


@pytest.mark.asyncio
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("body", [COURIER, b"", b"Subject: x\r\n\r\n".ljust(129, b".")])
async def test_a_message_that_looks_invented_and_is_there_is_delivered(
    open_world: OpenWorld, body: bytes, preset: tuple[str, ...]
) -> None:
    """Somebody may have saved what Courier showed, and a message may be empty."""
    bodies = [b"Subject: first\r\n\r\nx", body, b"Subject: last\r\n\r\nx"]
    world = await open_world(bodies)
    seen: dict[int, imapipe.Message] = {}

    async def handle(message: imapipe.Message) -> None:
        seen[message.uid] = message

    report = await world.job(*preset).run(handle)
    check_sums(report)
    assert report.done == 3
    assert report.complete
    if "full" in preset:
        assert [seen[uid].body for uid in (1, 2, 3)] == bodies
    # Nothing stays counted of what was handed over later than the rest.
    async with world.pool.acquire() as connection:
        assert connection.plane.arrivals.held_bytes == 0


@pytest.mark.asyncio
async def test_sizes_are_known_of_messages_that_look_invented(open_world: OpenWorld) -> None:
    world = await open_world([b"Subject: first\r\n\r\nx", COURIER, b""])
    plan = await world.job("full").plan()
    assert (plan.messages, plan.total_bytes) == (3, 19 + 129)


@pytest.mark.asyncio
async def test_nothing_is_looked_at_again_where_nothing_is_doubtful(open_world: OpenWorld) -> None:
    world = await open_world(50, expunged_fetch="invent")
    await world.job("full").batch(10).run(world.handle)
    assert "NOOP" not in world.server.commands.names
    assert len(world.server.commands.named("UID SEARCH")) == 1


@pytest.mark.asyncio
# What it keeps in its index (sizes, flags) Dovecot tells of messages that it does not know to be gone yet.
@pytest.mark.parametrize("preset", [preset for preset in PRESETS if preset != ("size",)])
async def test_dovecot(dovecot: DovecotServer, preset: tuple[str, ...]) -> None:
    user = dovecot.new_user()
    dovecot.fill(user, "INBOX", [b"Subject: %d\r\n\r\nbody\r\n" % number for number in range(1, 41)])
    handled: list[int] = []

    async def handle(message: imapipe.Message) -> None:
        handled.append(message.uid)
        if message.uid == 1:
            client = dovecot.login(user)
            client.select("INBOX")
            client.uid("STORE", "12,25:26,39", "+FLAGS.SILENT", r"(\Deleted)")
            client.expunge()
            client.logout()

    async with imapipe.create_pool(dovecot.url(user), password=dovecot.password) as pool:
        job = pool.mailbox("INBOX").search(q.ALL).fetch(*preset).batch(10).depth(1)
        report = await job.run(handle, connections=1)
    check_sums(report)
    assert (report.planned, report.done, report.vanished, report.failed) == (40, 36, 4, 0)
    assert sorted(handled) == sorted({*range(1, 41)} - {12, 25, 26, 39})
