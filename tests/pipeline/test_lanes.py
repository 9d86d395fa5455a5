"""Lanes and their leases, seen on the server's command log."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest
from tests.middleware.fakes import run_in_fake_time
from tests.pipeline.world import OpenWorld, World, check_sums

import imapipe
from imapipe.pipeline import lane as lane_module
from imapipe.pipeline.depth import MAX_DEPTH
from imapipe.testing import (
    Act,
    CommandRecord,
    CutAfterBytes,
    CutConnection,
    Delay,
    PoisonUids,
    RefuseLogin,
    Reply,
    Server,
    SyntheticMailbox,
)


@pytest.mark.asyncio
async def test_one_round_trip_for_each_batch_and_no_more(open_world: OpenWorld) -> None:
    world = await open_world(1000)
    await world.job().batch(100).run(world.handle, connections=1)
    assert world.server.commands.by_name == Counter({"LOGIN": 1, "EXAMINE": 1, "UID SEARCH": 1, "UID FETCH": 10})
    assert world.asked == [f"{first}:{first + 99}" for first in range(1, 1001, 100)]


@pytest.mark.asyncio
async def test_adaptive_batches_grow_on_a_quick_server(open_world: OpenWorld) -> None:
    world = await open_world(SyntheticMailbox(3000))
    policy = imapipe.AdaptiveBatch(start=100, minimum=50, maximum=400, target_seconds=100)
    await world.job().batch(policy).depth(1).run(world.handle, connections=1)
    assert world.sizes[0] == 100
    assert max(world.sizes) == 400
    assert all(after >= before for before, after in zip(world.sizes, world.sizes[1:-1], strict=False))


@pytest.mark.asyncio
async def test_adaptive_batches_shrink_on_a_slow_server(open_world: OpenWorld) -> None:
    world = await open_world(SyntheticMailbox(600), faults=[Delay(0.02, command="UID FETCH")])
    policy = imapipe.AdaptiveBatch(start=100, minimum=30, maximum=400, target_seconds=0.001, slow_seconds=0.002)
    await world.job().batch(policy).depth(1).run(world.handle, connections=1)
    assert world.sizes[0] == 100
    assert min(world.sizes[:-1]) == 30


@pytest.mark.asyncio
async def test_as_many_in_flight_as_the_depth_says(open_world: OpenWorld) -> None:
    world = await open_world(SyntheticMailbox(400), latency_seconds=0.02)
    await world.job().batch(10).depth(5).run(world.handle, connections=1)
    assert _most_in_flight(world.server.commands.named("UID FETCH")) == 5


def test_the_depth_follows_the_round_trip() -> None:
    """In made-up time: where the machine is busy, a server that is near looks far."""

    async def fetch_all(messages: int, latency_seconds: float) -> Sequence[CommandRecord]:
        server = Server(
            SyntheticMailbox(messages), latency_seconds=latency_seconds, clock=asyncio.get_running_loop().time
        )
        async with server, imapipe.create_pool(server.url, password=server.password) as pool:
            world = World(server, pool)
            await world.job().batch(10).run(world.handle, connections=1)
            assert sorted(world.handled) == list(range(1, messages + 1))
        return server.commands.named("UID FETCH")

    assert _most_in_flight(run_in_fake_time(fetch_all(400, 0.0))) <= 8
    assert 8 < _most_in_flight(run_in_fake_time(fetch_all(1000, 0.05))) <= MAX_DEPTH


@pytest.mark.asyncio
async def test_several_connections_share_the_work(open_world: OpenWorld) -> None:
    world = await open_world(SyntheticMailbox(400), latency_seconds=0.005)

    async def handle(message: imapipe.Message) -> None:
        # However late the last connection is, the others have not done all of the work.
        while world.server.counters.logins < 4:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.001)
        await world.handle(message)

    report = await world.job().batch(10).depth(1).run(handle, connections=4)
    check_sums(report)
    per_connection = Counter(record.connection for record in world.server.commands.named("UID FETCH"))
    assert len(per_connection) == 4
    assert min(per_connection.values()) >= 3
    assert sorted(world.handled) == list(range(1, 401))
    assert len(world.server.commands.named("UID SEARCH")) == 1


@pytest.mark.asyncio
async def test_no_more_connections_than_there_are_batches(open_world: OpenWorld) -> None:
    world = await open_world(30)
    await world.job().batch(20).run(world.handle)
    assert world.server.counters.logins <= 2
    world = await open_world(30)
    await world.job().batch(100).run(world.handle)
    assert world.server.counters.logins == 1


@pytest.mark.asyncio
async def test_fewer_connections_than_asked_for_cost_no_message(open_world: OpenWorld) -> None:
    """The server lets two in, the run would like four: nothing fails, and nothing waits for the others."""
    world = await open_world(SyntheticMailbox(200), max_connections=2, latency_seconds=0.002)
    report = await world.job().batch(10).run(world.handle, connections=4)
    check_sums(report)
    assert report.complete
    assert report.retries == 0
    assert len({record.connection for record in world.server.commands.named("UID FETCH")}) == 2


@pytest.mark.asyncio
async def test_a_connection_that_cannot_be_had_at_first_is_had_later(
    open_world: OpenWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_module, "FIRST_PAUSE_SECONDS", 0.01)
    world = await open_world(SyntheticMailbox(300), latency_seconds=0.01)
    # The second connection is cut before it can be used.
    world.server.faults.add(CutConnection(200, connection=2))
    report = await world.job().batch(5).depth(1).run(world.handle, connections=2)
    check_sums(report)
    assert report.complete


@pytest.mark.asyncio
async def test_a_refused_second_login_fails_nothing(open_world: OpenWorld) -> None:
    world = await open_world(SyntheticMailbox(200), faults=[RefuseLogin(nth=2)], latency_seconds=0.002)
    report = await world.job().batch(10).run(world.handle, connections=2)
    check_sums(report)
    assert report.complete


@pytest.mark.asyncio
async def test_a_lease_is_given_to_whoever_waits_at_a_batch_boundary(
    open_world: OpenWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_module, "MIN_LEASE_SECONDS", 0.0)
    world = await open_world(SyntheticMailbox(600), options={"max_size": 1}, latency_seconds=0.002)
    begun = asyncio.Event()
    during: list[int] = []

    async def handle(message: imapipe.Message) -> None:
        world.handled.append(message.uid)
        begun.set()

    async def somebody_else() -> None:
        await begun.wait()
        async with world.pool.acquire() as connection:
            during.append(len(world.handled))
            # Nothing of the run is in flight on a connection that is handed on.
            assert not connection.plane.is_busy
            await connection.noop()

    other = asyncio.create_task(somebody_else())
    report = await world.job().batch(10).run(handle)
    await other
    check_sums(report)
    assert report.complete
    assert during[0] < 600
    assert world.server.counters.logins == 1


@pytest.mark.asyncio
async def test_two_runs_share_one_connection(open_world: OpenWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "MIN_LEASE_SECONDS", 0.0)
    world = await open_world({"INBOX": 200, "Other": 200}, options={"max_size": 1}, latency_seconds=0.001)
    order: list[str] = []

    async def handle(message: imapipe.Message) -> None:
        order.append(message.mailbox)

    reports = await asyncio.gather(world.job().batch(20).run(handle), world.job(mailbox="Other").batch(20).run(handle))
    assert all(report.complete for report in reports)
    # Neither waited for the end of the other.
    first = order[0]
    assert order.index({"INBOX": "Other", "Other": "INBOX"}[first]) < 200


@pytest.mark.asyncio
async def test_a_lane_that_backs_off_gives_its_lease_back(
    open_world: OpenWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_module, "IDLE_SECONDS", 0.01)
    world = await open_world(20, options={"max_size": 1})
    world.server.faults.add(Reply("NO", "try again", code="UNAVAILABLE", command="UID FETCH", nth=1))
    used: list[int] = []

    async def sleep(seconds: float) -> None:
        async with world.pool.acquire() as connection:
            await connection.noop()
            used.append(1)

    report = await world.job().batch(20).use(imapipe.Retry(sleep=sleep)).run(world.handle)
    check_sums(report)
    assert report.complete
    assert used == [1]


@pytest.mark.asyncio
async def test_slow_handlers_keep_the_lease_and_idle_connections_do_not_pile_up(open_world: OpenWorld) -> None:
    world = await open_world(10)

    async def handle(message: imapipe.Message) -> None:
        await asyncio.sleep(0.001)

    await world.job().batch(2).run(handle, concurrency=1)
    assert world.pool.stats.leased == 0
    assert world.pool.stats.idle == world.pool.stats.opened


@pytest.mark.asyncio
async def test_a_lost_connection_interrupts_its_lane_and_no_other(
    open_world: OpenWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_module, "IDLE_SECONDS", 3600)
    world = await open_world(SyntheticMailbox(400, size=500), latency_seconds=0.002)
    world.server.faults.add(CutAfterBytes(700, command="UID FETCH", connection=2, nth=2))
    cut = asyncio.Event()
    world.server.faults.add(Act(lambda record: cut.set(), command="UID FETCH", connection=2, nth=2))
    first: list[int] = []
    world.server.faults.add(
        Act(
            lambda record: first.append(min(imapipe.UidSet.parse(record.message_set))),
            command="UID FETCH",
            connection=1,
            nth=1,
        )
    )

    async def handle(message: imapipe.Message) -> None:
        # However long the second connection takes to be made, the first does not do all of the work alone.
        await cut.wait()
        # Nor is it free for the other lane before that has another one.
        while message.uid in first and world.server.counters.connections < 3:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.001)
        await world.handle(message)

    report = await world.job("full").batch(10).use(imapipe.Retry(wait_initial_seconds=0)).run(handle, connections=2)
    check_sums(report)
    assert report.complete
    assert sorted(world.handled) == list(range(1, 401))
    assert report.reconnects == 1
    assert world.server.counters.connections == 3


@pytest.mark.asyncio
async def test_neighbours_of_a_poisoned_message_do_not_pay_for_it(open_world: OpenWorld) -> None:
    """Whatever is in flight falls with the connection; a batch that did so twice is tried alone."""
    world = await open_world(400)
    world.server.faults.add(PoisonUids({55}, action="cut"))
    job = world.job().batch(10).depth(8).use(imapipe.Retry(attempts=3, wait_initial_seconds=0))
    report = await job.run(world.handle, connections=1)
    check_sums(report)
    assert report.failed_uids == imapipe.UidSet.parse("55")
    assert sorted(world.handled) == [uid for uid in range(1, 401) if uid != 55]


def _most_in_flight(records: Sequence[CommandRecord]) -> int:
    """How many commands were in the server's hands at once."""
    ends = [(record.finished_at, -1) for record in records if record.finished_at is not None]
    events = sorted([(record.received_at, 1) for record in records] + ends)
    now = most = 0
    for _, change in events:
        now += change
        most = max(most, now)
    return most
