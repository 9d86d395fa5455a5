"""Very large messages in windows, over several connections: outcome, bounds and bytes as of others."""

from __future__ import annotations

import asyncio

import pytest
from tests.pipeline.cutting_proxy import cutting_proxy
from tests.pipeline.operation.test_remainders import body_of, is_partial, no_wait, partials, relabelled
from tests.pipeline.world import OpenWorld, Watched, World, check_sums

import imapipe
from dovecot_server import DovecotServer
from imapipe import search as q
from imapipe.testing import (
    Act,
    CutConnection,
    OmitItems,
    Reply,
    Rewrite,
    Stall,
    WrongPartial,
    exponential_bytes,
)

WINDOW = 100_000


async def fetch_windows(job: imapipe.Pipeline, connections: int = 3) -> tuple[imapipe.RunReport, dict[int, bytes]]:
    """Run a job over all of its connections and keep what each message holds."""
    bodies: dict[int, bytes] = {}

    async def handle(message: imapipe.Message) -> None:
        assert message.uid not in bodies
        with message.open() as file:
            bodies[message.uid] = file.read()
        assert message.size == len(bodies[message.uid])
        assert message.flags == frozenset()
        message.discard()

    report = await job.use(imapipe.Retry(attempts=10, sleep=no_wait)).run(handle, connections=connections)
    check_sums(report)
    return report, bodies


def windowed(world: World, *what: str) -> imapipe.Pipeline:
    """A job with windows."""
    return world.job().fetch(*(what or ("full",)), window_bytes=WINDOW)


def wait_for_three(world: World) -> None:
    """Let two connections stand still at their first window until a third one asks for one, however late that is."""

    world.server.faults.add(
        Stall(command="UID FETCH", when=is_partial, times=2),
        Act(lambda _: world.server.release_stalls(), command="UID FETCH", when=is_partial, nth=3, times=99),
    )


@pytest.mark.asyncio
@pytest.mark.parametrize("spool_above", [1024, 100_000_000])
async def test_several_connections_fetch_one_message(open_world: OpenWorld, watched: Watched, spool_above: int) -> None:
    body = body_of(1_234_567)
    world = await open_world([body], options={"spool_above": spool_above, "max_size": 4})
    wait_for_three(world)
    report, bodies = await fetch_windows(windowed(world))
    assert (report.done, bodies) == (1, {1: body})
    assert len(partials(world)) == 13
    assert len({record.connection for record in partials(world)}) == 3
    # Each window once, with a few bytes to be compared.
    assert report.bytes_received < len(body) + 13 * 300
    assert watched.open_files == 0
    assert not any(any(held) for held in watched.held)


@pytest.mark.asyncio
@pytest.mark.parametrize("size", [WINDOW - 1, WINDOW, WINDOW + 1, WINDOW + 63, 2 * WINDOW, 2 * WINDOW + 1])
@pytest.mark.parametrize("spool_above", [1024, 100_000_000])
async def test_sizes_around_the_edges_of_windows(open_world: OpenWorld, size: int, spool_above: int) -> None:
    bodies = {1: body_of(20), 2: body_of(size), 3: body_of(500)}
    world = await open_world([*bodies.values()], options={"spool_above": spool_above})
    report, seen = await fetch_windows(windowed(world))
    assert (report.done, seen) == (3, bodies)
    assert len(partials(world)) == (0 if size <= WINDOW else -(-size // WINDOW))
    assert not report.notes


@pytest.mark.asyncio
async def test_everything_else_that_was_asked_for_comes_once(open_world: OpenWorld) -> None:
    world = await open_world([body_of(300_000)])
    seen: list[imapipe.Message] = []

    async def handle(message: imapipe.Message) -> None:
        seen.append(message)

    await windowed(world, "full", "envelope").run(handle)
    assert (seen[0].subject, seen[0].size, len(seen[0].body)) == ("x", 300_000, 300_000)
    assert seen[0].internal_date is not None
    assert len([record for record in world.server.commands.named("UID FETCH") if "ENVELOPE" in record.arguments]) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("spool_above", [1024, 100_000_000])
@pytest.mark.parametrize("connections", [1, 3])
async def test_through_connections_that_die(
    open_world: OpenWorld, watched: Watched, spool_above: int, connections: int
) -> None:
    bodies = {1: body_of(900_000, 1), 2: body_of(5000, 2), 3: body_of(700_000, 3)}
    cuts = CutConnection(exponential_bytes(200_000, spool_above))
    world = await open_world([*bodies.values()], options={"spool_above": spool_above}, faults=[cuts])
    report, seen = await fetch_windows(windowed(world), connections)
    assert (report.done, seen) == (3, bodies)
    assert watched.open_files == 0
    assert not any(any(held) for held in watched.held)


@pytest.mark.asyncio
async def test_others_go_on_where_the_first_connection_ends(open_world: OpenWorld) -> None:
    """Without Retry: nothing of the message is lost with the connection of its lane."""
    body = body_of(6_000_000)
    world = await open_world([body], options={"max_size": 3})
    seen: list[bytes] = []

    async def handle(message: imapipe.Message) -> None:
        seen.append(message.body)

    # By then the others are there.
    wait_for_three(world)
    world.server.faults.add(CutConnection(1_550_000, connection=1))
    report = await windowed(world).run(handle, connections=3)
    check_sums(report)
    assert (report.done, seen) == (1, [body])
    assert len({record.connection for record in partials(world)}) == 3


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["shifted", "relabelled", "longer", "whole", "unlabelled"])
@pytest.mark.parametrize("spool_above", [1024, 100_000_000])
async def test_wrong_windows_are_noticed(open_world: OpenWorld, watched: Watched, kind: str, spool_above: int) -> None:
    bodies = {uid: body_of(350_000, uid) for uid in range(1, 7)}
    world = await open_world(
        [*bodies.values()],
        options={"spool_above": spool_above},
        faults=[WrongPartial(kind)],  # type: ignore[arg-type]
    )
    report, seen = await fetch_windows(windowed(world), connections=1)
    assert (report.done, seen) == (6, bodies)
    # Three times is enough.
    assert len({record.message_set for record in partials(world)}) == 3
    assert watched.open_files == 0
    assert not any(any(held) for held in watched.held)


@pytest.mark.asyncio
@pytest.mark.parametrize("by", [-29, 29])
async def test_a_size_that_is_wrong_cuts_nothing_off(open_world: OpenWorld, by: int) -> None:
    """hMailServer 476: the last window ends where the size says, and the message does not."""
    body = body_of(350_000)
    rewrite = Rewrite(lambda response: response.replace(b"RFC822.SIZE 350000", b"RFC822.SIZE %d" % (350_000 + by)))
    world = await open_world([body], faults=[rewrite])
    seen: list[bytes] = []

    async def handle(message: imapipe.Message) -> None:
        seen.append(message.body)

    report = await windowed(world).run(handle)
    assert (report.done, seen) == (1, [body])
    assert {note.kind for note in report.notes} == {"partial-fetch"}


@pytest.mark.asyncio
async def test_labels_with_lengths_are_understood(open_world: OpenWorld) -> None:
    body = body_of(350_000)
    world = await open_world([body], faults=[Rewrite(relabelled, command="UID FETCH")])
    report, seen = await fetch_windows(windowed(world))
    assert (report.done, seen) == (1, {1: body})
    assert len(partials(world)) == 4


@pytest.mark.asyncio
@pytest.mark.parametrize("status", ["NO", "BAD"])
async def test_a_server_that_refuses_ranges_is_asked_for_the_whole(open_world: OpenWorld, status: str) -> None:
    refusal = Reply(status, "no", command="UID FETCH", when=lambda record: "]<" in record.arguments)  # type: ignore[arg-type]
    world = await open_world([body_of(350_000, uid) for uid in range(5)], faults=[refusal])
    report, seen = await fetch_windows(windowed(world))
    assert (report.done, len(seen)) == (5, 5)


@pytest.mark.asyncio
async def test_without_sizes_there_are_no_windows(open_world: OpenWorld) -> None:
    world = await open_world([body_of(350_000)], faults=[OmitItems({"RFC822.SIZE"})])
    seen: list[int] = []

    async def handle(message: imapipe.Message) -> None:
        seen.append(len(message.body))

    report = await windowed(world).run(handle)
    assert (report.done, seen) == (1, [350_000])
    assert not partials(world)


@pytest.mark.asyncio
@pytest.mark.parametrize("nth", [2, 3, 4])
async def test_what_vanishes_between_windows_has_vanished(open_world: OpenWorld, watched: Watched, nth: int) -> None:
    world = await open_world([body_of(450_000)] * 2, options={"spool_above": 1024}, expunged_fetch="nil")
    inbox = world.server.mailboxes["INBOX"]
    world.server.faults.add(Act(lambda _: inbox.expunge([1]), command="UID FETCH", nth=nth))
    report, seen = await fetch_windows(windowed(world), connections=2)
    assert (report.done, report.vanished, [*seen]) == (1, 1, [2])
    assert watched.open_files == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("turns", [20, 60, 120, 200])
async def test_a_run_that_is_cancelled_leaves_nothing(open_world: OpenWorld, watched: Watched, turns: int) -> None:
    world = await open_world([body_of(900_000)] * 8, options={"spool_above": 1024})

    async def handle(message: imapipe.Message) -> None:
        message.discard()

    task = asyncio.create_task(windowed(world).run(handle, connections=3))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert watched.open_files == 0
    assert not any(any(held) for held in watched.held)
    assert world.pool.stats.leased == 0


@pytest.mark.asyncio
async def test_no_more_room_is_taken_than_may_be_held(open_world: OpenWorld, watched: Watched) -> None:
    """Messages in windows come one after the other where two would take too much."""
    options = {"spool_above": 1024, "max_spool_bytes": 500_000}
    world = await open_world([body_of(400_000, uid) for uid in range(6)], options=options)
    most = 0

    async def handle(message: imapipe.Message) -> None:
        nonlocal most
        # Its own file, and what is on its way.
        most = max(most, watched.open_files)
        message.discard()

    report = await windowed(world).batch(1).depth(6).run(handle, connections=1)
    assert report.done == 6
    assert most <= 3


@pytest.mark.asyncio
async def test_windows_go_with_the_whole_message(open_world: OpenWorld) -> None:
    world = await open_world(1)
    for what, window_bytes in (("full", 65_535), ("headers", WINDOW), ("text", WINDOW)):
        with pytest.raises(ValueError, match="window_bytes= takes 65536 or more"):
            world.job().fetch(what, window_bytes=window_bytes)
    with pytest.raises(TypeError):
        world.job().fetch("full", window_bytes="100000")  # type: ignore[arg-type]
    # How it comes is nothing to a checkpoint.
    assert windowed(world).fingerprint == world.job("full").fingerprint


@pytest.mark.asyncio
async def test_dovecot(dovecot: DovecotServer) -> None:
    user = dovecot.new_user()
    bodies = [
        b"Subject: %d\r\n\r\n" % number + b"".join(b"%d %d\r\n" % (number, line) for line in range(lines))
        for number, lines in enumerate((100, 60_000, 3000, 80_000))
    ]
    dovecot.fill(user, "INBOX", bodies)
    async with (
        cutting_proxy(dovecot.port, exponential_bytes(200_000)) as port,
        imapipe.create_pool(f"imap://{user}@127.0.0.1:{port}", password=dovecot.password, max_size=3) as pool,
    ):
        job = pool.mailbox("INBOX").search(q.ALL).fetch("full", window_bytes=WINDOW)
        seen: dict[int, bytes] = {}

        async def handle(message: imapipe.Message) -> None:
            seen[message.uid] = message.body

        report = await job.use(imapipe.Retry(attempts=10, sleep=no_wait)).run(handle, connections=3)
    assert report.done == 4
    assert [seen[uid] for uid in sorted(seen)] == bodies
