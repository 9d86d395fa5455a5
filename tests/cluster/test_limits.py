"""`Limits` in one process: two of them are as good as two processes, as far as the database knows."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from cable import Cable
from imapipe import Checkpoint, Pool, Retry, create_pool
from imapipe import search as q
from imapipe.cluster import Limits, slot_rows
from imapipe.cluster.slot_rows import Answer, SlotRequest, Worker
from imapipe.database import Connection, Database, Row
from imapipe.errors import ConnectionLost, DatabaseError, PoolTimeout
from imapipe.events import Event, LimitAwaited
from imapipe.testing import Server
from imapipe.testing.link import Link
from postgres_server import PostgresServer

pytestmark = pytest.mark.asyncio

POLL: Final = 0.02
# Longer than a busy machine lets a thread wait.
SHORT_LEASE: Final = 3.0


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    async with Server(200) as server:
        yield server


@asynccontextmanager
async def limited(dsn: str, server: Server, maximum: int, size: int = 4, **more: float) -> AsyncIterator[Pool]:
    """A pool with limits of its own, as in a process of its own."""
    async with Limits(dsn, poll_seconds=POLL, **more) as limits:
        async with create_pool(server.url, password="secret", max_size=size) as pool:
            limits.connections(pool, maximum)
            yield pool
        assert limits.slots in ({}, {pool.account: 0})


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not what():  # noqa: ASYNC110 - what is waited for is in counters
            await asyncio.sleep(0.005)


async def _nothing(_: object) -> None:
    await asyncio.sleep(0)


async def test_two_runs_share_the_connections_of_an_account(dsn: str, server: Server) -> None:
    async with limited(dsn, server, 3) as one, limited(dsn, server, 3) as other:
        jobs = [pool.mailbox("INBOX").search(q.ALL).batch(20).fetch("flags") for pool in (one, other)]
        reports = await asyncio.gather(*(job.run(_nothing) for job in jobs))
        assert [report.done for report in reports] == [200, 200]
    assert server.counters.peak_connections <= 3


async def test_what_is_given_back_is_there_for_others_and_what_is_idle_is_given_up(dsn: str, server: Server) -> None:
    async with limited(dsn, server, 1) as one, limited(dsn, server, 1) as other:
        for pool in (one, other, one):
            async with pool.acquire() as connection:
                await connection.imap.noop()
        assert (one.stats.idle, other.stats.idle) == (1, 0)
    assert server.counters.peak_connections == 1


async def test_who_waits_too_long_hears_of_the_limit_and_listeners_do_at_once(dsn: str, server: Server) -> None:
    async with limited(dsn, server, 1) as one, limited(dsn, server, 1) as other:
        heard: list[Event] = []
        other.events.subscribe(heard.append)
        async with one.acquire():
            waiting = asyncio.create_task(other.connections.take())
            await until(lambda: bool(heard))
            with pytest.raises(PoolTimeout, match=r"the limit of 1 connections of ann@.* over all workers is reached"):
                await other.connections.take(timeout_seconds=0.01)
        (wait,) = heard
        assert isinstance(wait, LimitAwaited)
        assert (wait.limit, wait.lasted_seconds) == ("connections", 0.0)
        assert "is reached" in wait.reason
        other.connections.give_back(await waiting)


async def test_a_refusal_lowers_the_number_for_everybody(dsn: str) -> None:
    async with (
        Server(3, max_connections=2) as server,
        limited(dsn, server, 4) as one,
        limited(dsn, server, 4) as other,
        one.acquire(),
        one.acquire(),
    ):
        waiting = asyncio.create_task(other.connections.take())
        with Database(dsn).connect() as connection:
            await until(lambda: connection.query("SELECT 1 FROM imapipe_accounts WHERE refusals > 0") != [])
        # Nobody dials any more: the other one has not been refused, and would be.
        refused = server.counters.connections
        with pytest.raises(PoolTimeout, match=r"connections of|refused a connection|has not answered"):
            await one.connections.take(timeout_seconds=0.3)
        assert other.stats.refused == 1
        assert server.counters.connections == refused
        waiting.cancel()


@pytest.mark.slow
async def test_a_blocked_loop_does_not_lose_its_slots(postgres: PostgresServer, server: Server) -> None:
    """They are renewed meanwhile, again and again."""
    dsn = postgres.new_database()

    def expires() -> list[Row]:
        return database.query("SELECT expires_ms FROM imapipe_workers")

    async with limited(dsn, server, 1, lease_seconds=6.0) as pool:
        async with pool.acquire() as connection:
            with Database(dsn).connect() as database:
                for _ in range(3):
                    before = expires()
                    while expires() == before:
                        time.sleep(0.01)  # noqa: ASYNC251 - that is what is tried
            await connection.imap.noop()
        assert server.counters.connections == 1


@pytest.mark.slow
async def test_lost_slots_are_not_others_before_the_server_can_know(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The renewal comes too late, by a moment, and the server closes its side a moment later, too."""
    close, renew, is_lost = Link.close, slot_rows.renew, threading.Event()

    def close_late(link: Link, reset: bool = False) -> None:
        asyncio.get_running_loop().call_later(0.1, close, link, reset)

    def renew_late(connection: Connection, worker: Worker) -> bool:
        if worker.lease_ms == 2 * SHORT_LEASE * 1_000 and server.counters.connections:
            is_lost.wait(60)
        return renew(connection, worker)

    monkeypatch.setattr(Link, "close", close_late)
    monkeypatch.setattr(slot_rows, "renew", renew_late)
    dsn = str(tmp_path / "limits.db")
    async with (
        limited(dsn, server, 1, lease_seconds=2 * SHORT_LEASE) as one,
        limited(dsn, server, 1) as other,
        one.acquire() as connection,
    ):
        waiting = asyncio.create_task(other.connections.take())
        await until(lambda: not connection.is_open)
        is_lost.set()
        other.connections.give_back(await waiting)
        assert server.counters.connections == 2
        assert server.counters.peak_connections == 1


async def test_the_limits_are_opened_and_closed_and_a_pool_is_fresh(dsn: str, server: Server) -> None:
    limits = Limits(dsn)
    async with create_pool(server.url, password="secret") as pool:
        with pytest.raises(RuntimeError, match="are not open"):
            limits.connections(pool)
        async with limits:
            with pytest.raises(ValueError, match="maximum"):
                limits.connections(pool, 0)
            assert limits.connections(pool) is pool
            with pytest.raises(RuntimeError, match="already"):
                limits.connections(pool)
            async with pool.acquire():
                assert limits.slots == {pool.account: 1}
            assert await limits.clean(0.0) == 0
        # What is open when they are closed ends.
        assert not server.counters.open_connections or await _closes(server)
    async with limits_of(dsn) as again:
        assert await again.clean(-1.0) == 1


@asynccontextmanager
async def limits_of(dsn: str) -> AsyncIterator[Limits]:
    async with Limits(dsn) as limits:
        yield limits


async def _closes(server: Server) -> bool:
    await until(lambda: not server.counters.open_connections)
    return True


@pytest.mark.parametrize("name", ["lease_seconds", "poll_seconds"])
async def test_times_are_above_0(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Limits("limits.db", **{name: 0})
    with pytest.raises(TypeError, match=name):
        Limits("limits.db", **{name: "1"})  # type: ignore[arg-type]


# -- a database that does not work -------------------------------------------------------------------------------------


@pytest.fixture
def cable(postgres: PostgresServer) -> Iterator[Cable]:
    with Cable(postgres.port) as cable:
        yield cable


@pytest.mark.slow
async def test_where_the_way_to_the_database_is_cut_connections_end_with_their_lease(
    postgres: PostgresServer, cable: Cable, server: Server
) -> None:
    """And others get the slots; when the way is there again, it goes on."""
    dsn = postgres.new_database()
    through = dsn.replace(f":{postgres.port}/", f":{cable.port}/")
    async with (
        # Only the far one is to lose its lease.
        limited(dsn, server, 1, lease_seconds=3 * SHORT_LEASE) as near,
        limited(through, server, 1, lease_seconds=SHORT_LEASE) as far,
    ):
        async with far.acquire() as connection:
            cable.cut()
            # Its loop knows nothing of a database: it is told by the clock.
            await until(lambda: not connection.is_open)
            with pytest.raises(ConnectionLost, match="could not be renewed in time"):
                await connection.noop()
        async with near.acquire() as connection:
            await connection.imap.noop()
            heard: list[Event] = []
            far.events.subscribe(heard.append)
            waiting = asyncio.create_task(far.connections.take())
            await until(lambda: any(isinstance(event, LimitAwaited) and "database" in event.reason for event in heard))
            with pytest.raises(PoolTimeout, match=r"database postgresql://.*"):
                await far.connections.take(timeout_seconds=0.01)
            waiting.cancel()
            cable.mend()
        async with far.acquire() as connection:
            await connection.imap.noop()
    assert server.counters.peak_connections == 1


@pytest.mark.slow
@pytest.mark.usefixtures("postgres")
async def test_a_run_goes_on_after_a_restart_of_the_database(server: Server, tmp_path: Path) -> None:
    with PostgresServer() as postgres:
        dsn = postgres.new_database()
        async with limited(dsn, server, 2, lease_seconds=3.0) as pool:
            handled, is_down = 0, asyncio.Event()

            async def handle(_: object) -> None:
                nonlocal handled
                handled += 1
                if handled == 50:
                    await asyncio.to_thread(postgres.crash)
                    is_down.set()
                elif handled == 100:
                    # On a busy machine it takes longer to end than fifty messages do.
                    await is_down.wait()
                    await asyncio.to_thread(postgres.restart)
                await asyncio.sleep(0.002)

            job = pool.mailbox("INBOX").search(q.ALL).batch(10).fetch("flags").use(Retry())
            report = await job.run(handle)
            assert (report.done, report.failed) == (200, 0), report.failures
            # It is there again, and what is new gets a slot.
            async with pool.acquire(), pool.acquire() as connection:
                await connection.imap.noop()
    assert server.counters.peak_connections <= 2


@pytest.mark.slow
@pytest.mark.usefixtures("postgres")
async def test_a_database_that_stays_away_ends_a_run_and_its_checkpoint_is_kept(server: Server, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    with PostgresServer() as postgres:
        dsn = postgres.new_database()

        def job(pool: Pool) -> object:
            messages = pool.mailbox("INBOX").search(q.ALL).batch(10).depth(1).fetch("flags")
            return messages.use(Checkpoint(state), Retry())

        handled = 0

        async def handle(_: object) -> None:
            nonlocal handled
            handled += 1
            if handled == 50:
                await asyncio.to_thread(postgres.crash)
            elif handled > 50:
                # Else all may be done before the lease is over.
                await until(lambda: not server.counters.open_connections)

        async with limited(dsn, server, 1, lease_seconds=SHORT_LEASE, wait_seconds=0.5) as pool:
            with pytest.raises(DatabaseError):
                await job(pool).run(handle, concurrency=1)  # type: ignore[attr-defined]
        assert handled < 200
        postgres.restart()
        async with limited(dsn, server, 1) as pool:
            report = await job(pool).run(_nothing)  # type: ignore[attr-defined]
            assert report.complete
            assert report.skipped >= 50
            assert report.skipped + report.done == 200


@pytest.mark.slow
async def test_the_lease_is_renewed_however_much_there_is_to_be_told(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve pools that all want something, and a database that takes a sixth of the lease for each."""
    # So long that a busy machine, which is late with a renewal, does not lose it.
    exchange, lease_seconds = slot_rows.exchange, 6.0

    def slow(connection: Connection, worker: Worker, request: SlotRequest) -> Answer | None:
        time.sleep(lease_seconds / 6)
        return exchange(connection, worker, request)

    monkeypatch.setattr(slot_rows, "exchange", slow)
    async with (
        Limits(str(tmp_path / "limits.db"), poll_seconds=POLL, lease_seconds=lease_seconds) as limits,
        AsyncExitStack() as pools,
    ):
        many = [create_pool(server.url, password="secret", max_size=1) for _ in range(12)]
        leases = [limits.connections(await pools.enter_async_context(pool), 12).acquire() for pool in many]
        await asyncio.gather(*map(pools.enter_async_context, leases))
        assert limits.leases_lost == 0
        assert sum(limits.slots.values()) == 12
