"""Rates of accounts in a real database: what is reserved follows the law of the bucket, whoever reserves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from cable import Cable
from imapipe import create_pool
from imapipe import middleware as imapipe_middleware
from imapipe import search as q
from imapipe.cluster import Limits
from imapipe.cluster.reservations import Reservations
from imapipe.cluster.schema import COMPONENT, STEPS
from imapipe.database import Database, migrate
from imapipe.errors import DatabaseError
from imapipe.events import Event, LimitAwaited
from imapipe.testing import Server
from postgres_server import PostgresServer

pytestmark = pytest.mark.asyncio

HOUR = 3_600.0


@pytest.fixture
def processes(dsn: str) -> Iterator[list[Reservations]]:
    """Four processes, as the database sees them: four threads with a connection each."""
    database = Database(dsn, statement_seconds=10)
    with database.connect() as connection:
        migrate(connection, COMPONENT, STEPS)
    several = [Reservations(database, wait_seconds=10) for _ in range(4)]
    yield several
    for each in several:
        each.close()


async def test_what_many_reserve_at_once_comes_one_after_the_other(processes: list[Reservations]) -> None:
    """Each gets a time of its own, and none is given twice: so whatever their clocks do, the rate is kept."""
    reserved = await asyncio.gather(
        *(
            each.reserve("ann", "messages", cost_seconds=HOUR, credit_seconds=0.0)
            for _ in range(10)
            for each in processes
        )
    )
    dues = sorted(round(each.seconds / HOUR, 2) for each in reserved)
    assert dues == [number + 1 for number in range(40)]


async def test_accounts_and_names_are_apart(processes: list[Reservations]) -> None:
    places = [("ann", "messages"), ("ann", "commands"), ("bob", "messages")]
    reserved = await asyncio.gather(
        *(processes[0].reserve(*place, cost_seconds=HOUR, credit_seconds=0.0) for place in places)
    )
    assert [round(each.seconds / HOUR, 2) for each in reserved] == [1, 1, 1]


async def test_what_flowed_in_for_nobody_counts_as_far_as_is_said(processes: list[Reservations]) -> None:
    one, other = processes[:2]
    first = await one.reserve("ann", "messages", cost_seconds=1.0, credit_seconds=HOUR)
    assert first.seconds == pytest.approx(1.0 - HOUR, abs=0.1)
    # A part of it is left, for whoever may have so much.
    second = await other.reserve("ann", "messages", cost_seconds=1.0, credit_seconds=HOUR)
    assert second.seconds <= 2.0 - HOUR
    third = await other.reserve("ann", "messages", cost_seconds=2.0, credit_seconds=0.0)
    # Told a moment after it was reserved, by a clock that goes on.
    assert 1.5 < third.seconds <= 2.0


async def test_runs_of_several_processes_pass_at_the_rate_as_the_server_sees_it(dsn: str) -> None:
    """Every message asked for was reserved: the last one of all cannot have come before its turn."""
    async with Server(60) as server, Limits(dsn) as one, Limits(dsn) as other:
        async with create_pool(server.url, password="secret") as pool:
            jobs = [
                pool.mailbox("INBOX").search(q.ALL).batch(6).fetch("flags").use(limits.rate(messages_per_second=150))
                for limits in (one, other)
            ]
            # Whatever is late on its way comes later than its turn: from here on, not from the first one.
            began = time.monotonic()
            reports = await asyncio.gather(*(job.run(_nothing) for job in jobs))
        assert [report.done for report in reports] == [60, 60]
        fetches = [(record.received_at, record.messages) for record in server.commands if record.name == "UID FETCH"]
        bucket, most = 15.0, 2 * 6
        passed = 0
        for when, messages in sorted(fetches):
            passed += messages
            assert passed <= bucket + most + 150 * (when - began)


async def _nothing(_: object) -> None:
    pass


@pytest.mark.slow
async def test_a_database_that_is_away_is_waited_for_and_then_not_any_more(postgres: PostgresServer) -> None:
    with Cable(postgres.port) as cable:
        dsn = postgres.new_database().replace(f":{postgres.port}/", f":{cable.port}/")
        async with (
            Server(20) as server,
            Limits(dsn, lease_seconds=1.5) as limits,
            Limits(dsn, lease_seconds=1.5, wait_seconds=1.0) as hasty,
            create_pool(server.url, password="secret") as pool,
        ):
            job = pool.mailbox("INBOX").search(q.ALL).batch(5).fetch("flags")
            limited = job.use(limits.rate(messages_per_second=100))
            assert (await limited.run(_nothing)).done == 20
            cable.cut()
            heard: list[Event] = []

            class Listen(imapipe_middleware.Middleware):
                async def start(self, run: imapipe_middleware.Run) -> imapipe_middleware.Layer:
                    run.events.subscribe(heard.append)
                    return imapipe_middleware.Layer()

            waiting = asyncio.create_task(limited.use(Listen()).run(_nothing))
            async with asyncio.timeout(60):
                while not any(isinstance(event, LimitAwaited) for event in heard):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            cable.mend()
            assert (await waiting).done == 20
            cable.cut()
            with pytest.raises(DatabaseError):
                await job.use(hasty.rate(messages_per_second=100)).run(_nothing)


async def test_who_waits_when_the_limits_are_closed_is_told(processes: list[Reservations]) -> None:
    (first, *_) = processes
    await first.reserve("ann", "messages", cost_seconds=1.0, credit_seconds=0.0)
    await asyncio.to_thread(first.close)
    with pytest.raises(RuntimeError, match="closed"):
        await first.reserve("ann", "messages", cost_seconds=1.0, credit_seconds=0.0)
