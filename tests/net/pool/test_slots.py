"""Slots that pools share: asked for before a connection is made, given back when it is gone, never lost."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
from tests.net.pool.test_decisions import Guest, Line, books

from imapipe import Retry
from imapipe import search as q
from imapipe.client import create_pool
from imapipe.errors import ConnectionFailed, ConnectionLost, ImapipeError, PoolTimeout
from imapipe.net.connection import Connection
from imapipe.net.pool import parting
from imapipe.net.pool.decisions import Orders
from imapipe.net.pool.parting import Handle, Partings
from imapipe.net.pool.pool import ConnectionPool
from imapipe.net.pool.slots import Allowance, SlotUser
from imapipe.testing import Fault, RefuseConnection, RefuseCredentials, RefuseLogin, Server, Stall
from imapipe.testing.link import Link

asyncio_test = pytest.mark.asyncio


class Office:
    """Gives a fixed number of slots to pools of this process, to who has the fewest."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.sides: list[Side] = []
        self.refusals: list[int] = []
        self.expires = False

    def side(self) -> Side:
        side = Side(self)
        self.sides.append(side)
        return side

    @property
    def held(self) -> int:
        return sum(side.held for side in self.sides)

    def look(self) -> None:
        while self.held < self.limit:
            lacking = [side for side in self.sides if side.user is not None and side.held < side.wanted]
            if not lacking:
                break
            side = min(lacking, key=lambda side: side.held)
            side.held += 1
            assert side.user is not None
            side.user.granted(1)
        for side in self.sides:
            others = sum(max(0, other.wanted - other.held) for other in self.sides if other is not side)
            if side.user is not None and side.held:
                side.user.asked_for(others, max(1, self.limit // len(self.sides)))


@dataclass(eq=False)
class Side:
    office: Office
    user: SlotUser | None = None
    held: int = 0
    wanted: int = 0
    made_count: int = 0
    left: int = 0
    counted: int = 0
    ended: list[object] = field(default_factory=list)

    @property
    def shortage(self) -> str:
        return f"all {self.office.limit} slots are taken"

    def begin(self, user: SlotUser) -> None:
        self.user = user

    def want(self, count: int) -> None:
        self.wanted = count
        self._soon()

    def give_back(self, count: int) -> None:
        assert 0 < count <= self.held
        self.held -= count
        self._soon()

    def made(self) -> None:
        self.made_count += 1

    def refused(self, working: int) -> None:
        self.office.refusals.append(working)

    def over(self, connection: object) -> None:
        self.ended.append(connection)

    def check(self) -> None:
        if self.office.expires and self.user is not None:
            self.office.expires = False
            self.held = 0
            self.user.expired(ConnectionLost("the slots have expired"))

    def leave(self, counted: int = 0) -> None:
        self.left += 1
        self.counted = counted
        self.user = None
        self.held = self.wanted = 0
        self._soon()

    def _soon(self) -> None:
        asyncio.get_running_loop().call_soon(self.office.look)


@asynccontextmanager
async def pools_on(
    server: Server, office: Office, count: int, size: int = 4, *, wait: float | None = 60.0
) -> AsyncIterator[list[ConnectionPool]]:
    pools = [
        create_pool(server.url, password="secret", max_size=size, acquire_timeout_seconds=wait) for _ in range(count)
    ]
    for pool in pools:
        pool.connections.share_slots(office.side())
    try:
        yield [pool.connections for pool in pools]
    finally:
        for pool in pools:
            await pool.close()
        assert office.held == 0


@asynccontextmanager
async def leased(pool: ConnectionPool) -> AsyncIterator[Connection]:
    connection = await pool.take()
    try:
        yield connection
    finally:
        pool.give_back(connection)


async def until_quiet(office: Office, held: int) -> None:
    """Wait until so many slots are held."""
    async with asyncio.timeout(60):
        while office.held != held:  # noqa: ASYNC110 - what is waited for is in the books of a test
            await asyncio.sleep(0.005)


@pytest.fixture
def late_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers close their side well after they could: behind the OK of LOGOUT, or when a client is gone."""
    close = Link.close

    def close_late(link: Link, reset: bool = False) -> None:
        asyncio.get_running_loop().call_later(0.3, close, link, reset)

    monkeypatch.setattr(Link, "close", close_late)


# -- with a server -----------------------------------------------------------------------------------------------------


@asyncio_test
async def test_pools_together_have_no_more_connections_than_slots() -> None:
    all_are_open = asyncio.Event()

    async with Server(3) as server:
        counters = server.counters

        async def use(pool: ConnectionPool) -> None:
            async with leased(pool) as connection:
                await connection.noop()
                if counters.open_connections == 3:
                    all_are_open.set()
                # Else whoever dials quickly may have done it all before another is there.
                await all_are_open.wait()

        office = Office(3)
        async with pools_on(server, office, 3) as pools, asyncio.timeout(60):
            await asyncio.gather(*(use(pool) for _ in range(12) for pool in pools))
            assert counters.peak_connections == 3
            # What is idle stays with its pool while nobody else wants it.
            assert 0 < office.held <= 3
            # The goodbye of one may be under way.
            while office.held != sum(pool.stats.idle for pool in pools):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert [side.left for side in office.sides] == [1, 1, 1]


@asyncio_test
async def test_what_is_idle_goes_to_who_waits_elsewhere() -> None:
    async with Server(3) as server:
        office = Office(2)
        async with pools_on(server, office, 2) as (one, other):
            async with leased(one), leased(one):
                pass
            assert one.stats.idle == 2
            async with leased(other) as connection:
                await connection.noop()
                assert (one.stats.idle, office.held) == (1, 2)
            assert server.counters.peak_connections == 2


@asyncio_test
@pytest.mark.parametrize("ending", ["goodbye", "abort", "lost while idle", "close", "close while leased", "expired"])
@pytest.mark.usefixtures("late_server")
async def test_a_slot_is_free_when_the_server_has_ended_the_connection(ending: str) -> None:
    office = Office(1)
    async with Server({"INBOX": []}) as server, pools_on(server, office, 2) as (first, second):
        connection = await first.take()
        if ending == "abort":
            connection.abort()
        if ending != "close while leased":
            first.give_back(connection)
        if ending == "lost while idle":
            connection.abort()
        elif ending.startswith("close"):
            await first.close()
        elif ending == "expired":
            # As `cluster.keeper` does; what is granted next is for the same process.
            transport = connection.plane.transport
            assert transport is not None
            transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
            office.expires = True
            first.check_slots()
        async with leased(first if ending == "expired" else second) as other:
            await other.noop()
        assert server.counters.connections == 2
        assert server.counters.peak_connections == 1


@asyncio_test
@pytest.mark.parametrize("in_use", [True, False])
@pytest.mark.usefixtures("late_server")
async def test_a_closing_that_is_cancelled_tells_what_servers_may_count(in_use: bool) -> None:
    office = Office(1)
    async with Server({"INBOX": []}) as server, pools_on(server, office, 1) as (pool,):
        connection = await pool.take()
        if not in_use:
            pool.give_back(connection)
        closing = asyncio.create_task(pool.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        # Nobody hears of its end.
        assert server.counters.open_connections == 1
        (side,) = office.sides
        assert (side.left, side.counted) == (1, 1)
        await pool.close()
        assert (side.left, side.counted) == (1, 1)


@asyncio_test
@pytest.mark.parametrize("ending", ["its login is refused", "its slot expires", "it takes too long"])
@pytest.mark.usefixtures("made_up_time", "late_server")
async def test_a_slot_is_free_when_the_server_has_ended_what_was_half_made(ending: str) -> None:
    stall = Stall(command=("LOGIN", "AUTHENTICATE"), times=1)
    faults: list[Fault] = [RefuseCredentials(times=1) if ending == "its login is refused" else stall]
    office = Office(1)
    async with Server({"INBOX": []}, faults=faults) as server:
        pools = [create_pool(server.url, password="secret") for _ in range(2)]
        async with pools[0] as one, pools[1] as other:
            for pool in pools:
                pool.connections.share_slots(office.side())
            first, second = one.connections, other.connections
            waiting = asyncio.create_task(first.take())
            if ending == "its slot expires":
                await until_asked(server)
                office.expires = True
                first.check_slots()
                waiting.cancel()
            with suppress(ImapipeError, asyncio.CancelledError):
                await waiting
            async with leased(second) as connection:
                await connection.noop()
            assert server.counters.connections == 2
            assert server.counters.peak_connections == 1


async def until_asked(server: Server) -> None:
    """Wait until a client is in the middle of its login."""
    async with asyncio.timeout(60):
        while not {"LOGIN", "AUTHENTICATE"} & set(server.commands.names):  # noqa: ASYNC110 - what is waited for is in a log
            await asyncio.sleep(0.005)


@asyncio_test
async def test_what_is_being_made_can_be_shut_while_the_loop_is_blocked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"imap://ann@127.0.0.1:{listening.getsockname()[1]}"
        office = Office(1)
        async with create_pool(url, password="secret") as pool:
            pool.connections.share_slots(office.side())
            waiting = asyncio.create_task(pool.connections.take())
            accepted, _ = await asyncio.to_thread(listening.accept)
            user = office.sides[0].user
            with accepted:
                assert user is not None
                (handle,) = user.shut()
                # The loop has no turn in between.
                accepted.settimeout(60)
                assert accepted.recv(1) == b""
                assert office.sides[0].ended == []
            waiting.cancel()
            with suppress(asyncio.CancelledError, ImapipeError):
                await waiting
        assert office.sides[0].ended == [handle]


@asyncio_test
async def test_nothing_is_connected_when_its_slot_has_expired_meanwhile() -> None:
    async with Server({"INBOX": []}) as server:

        def look() -> None:
            partings.refuse()

        partings = Partings(look, lambda _: None)
        with pytest.raises(ConnectionLost, match="its slot has expired"):
            await partings.begin().opener(None)(server.host, server.port)
        await asyncio.sleep(0.05)
        assert server.counters.connections == 0
        assert partings.shut() == []


@asyncio_test
@pytest.mark.usefixtures("late_server")
async def test_an_attempt_makes_a_second_connection_when_the_first_one_is_over() -> None:
    """As where a server hangs up behind a refused token, and a new one is tried."""
    over: list[Handle] = []
    async with Server({"INBOX": []}) as server:
        partings = Partings(lambda: None, over.append)
        handle = partings.begin()
        open_socket = handle.opener(None)
        (await open_socket(server.host, server.port)).close()
        second = await open_socket(server.host, server.port)
        assert over == [handle]
        second.close()
        partings.fail(handle)
        await handle.over()
        assert over == [handle, handle]
        assert (server.counters.connections, server.counters.peak_connections) == (2, 1)


@asyncio_test
async def test_what_a_proxy_was_asked_for_and_is_given_up_counts_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parting, "PARTING_SECONDS", 0.2)

    async def refuse(host: str, port: int) -> socket.socket:
        raise ConnectionError("the proxy does not want to")

    office = Office(1)
    async with create_pool("imap://ann@127.0.0.1:1", password="secret", open_socket=refuse) as pool:
        pool.connections.share_slots(office.side())
        with pytest.raises(ConnectionFailed, match="does not want to"):
            await pool.connections.take()
        assert office.held == 1
        await until_quiet(office, 0)


@asyncio_test
async def test_a_slot_that_expires_before_its_connection_is_begun_is_not_lost() -> None:
    """Both are told in the same turn of the loop, as where a process was stopped in between."""
    async with Server(3) as server:
        office = Office(0)
        async with pools_on(server, office, 1, size=1) as (pool,):
            waiting = asyncio.create_task(pool.take())
            await asyncio.sleep(0)
            side = office.sides[0]
            assert side.user is not None
            side.user.granted(1)
            side.user.expired(ConnectionLost("by the test"))
            office.limit = 1
            side.want(1)
            pool.give_back(await waiting)
            assert server.counters.connections == 1


@asyncio_test
async def test_a_server_that_does_not_end_its_side_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parting, "PARTING_SECONDS", 0.2)
    monkeypatch.setattr(Link, "close", lambda link, reset=False: None)
    async with Server({"INBOX": []}) as server, pools_on(server, Office(1), 2) as (first, second):
        async with leased(first) as connection:
            connection.abort()
        async with leased(second) as other:
            await other.noop()
        assert server.counters.peak_connections == 2


@asyncio_test
async def test_a_run_gives_up_what_is_beyond_its_share_at_the_end_of_a_batch() -> None:
    """The other pool's caller comes in the middle of a run, which holds all slots and has use for each of them."""
    async with Server(400) as server:
        office = Office(2)
        pools = [create_pool(server.url, password="secret", max_size=2) for _ in range(2)]
        async with pools[0] as one, pools[1] as other:
            for pool in pools:
                pool.connections.share_slots(office.side())
            handled = 0
            is_busy = asyncio.Event()

            async def look() -> int:
                await is_busy.wait()
                async with other.acquire() as connection:
                    await connection.noop()
                    return handled

            async def handle(_: object) -> None:
                nonlocal handled
                handled += 1
                if handled == 40:
                    is_busy.set()
                await asyncio.sleep(0.01)

            job = one.mailbox("INBOX").search(q.ALL).batch(10).fetch("flags")
            report, seen = await asyncio.gather(job.run(handle, concurrency=4), look())
            assert report.done == 400
            assert 40 <= seen < 400
            assert server.counters.peak_connections == 2


@asyncio_test
async def test_who_waits_too_long_hears_that_the_slots_are_taken() -> None:
    async with Server(3) as server:
        office = Office(1)
        async with pools_on(server, office, 2) as (one, other), leased(one):
            with pytest.raises(PoolTimeout, match=r"none could be made: all 1 slots are taken"):
                await other.take(timeout_seconds=0.1)
            # It wants nothing any more.
            assert office.sides[1].wanted == 0


@asyncio_test
@pytest.mark.parametrize("fault", [RefuseConnection(times=3), RefuseLogin(times=3)])
async def test_where_dialing_fails_the_slot_comes_back(fault: RefuseConnection | RefuseLogin) -> None:
    async with Server(3, faults=[fault]) as server:
        office = Office(2)
        async with pools_on(server, office, 1) as (pool,):
            for _ in range(2):
                with pytest.raises(ImapipeError):
                    await pool.take(timeout_seconds=0.3)
                await until_quiet(office, 0)
                pool._decisions.limit.held_until = 0.0
            assert office.sides[0].made_count == 0
            assert bool(office.refusals) is isinstance(fault, RefuseLogin)


@asyncio_test
async def test_a_pool_that_has_less_than_it_wants_works_with_what_it_has() -> None:
    async with Server(100) as server:
        office = Office(1)
        pool = create_pool(server.url, password="secret", max_size=4)
        pool.connections.share_slots(office.side())
        async with pool:
            job = pool.mailbox("INBOX").search(q.ALL).batch(10).fetch("flags")
            assert (await job.run(_nothing)).done == 100
            assert server.counters.peak_connections == 1
        assert office.held == 0


async def _nothing(_: object) -> None:
    pass


@asyncio_test
async def test_expired_slots_end_every_connection_before_it_is_used_again() -> None:
    async with Server(3) as server:
        office = Office(2)
        async with pools_on(server, office, 1) as (pool,):
            async with leased(pool) as connection, leased(pool):
                pass
            office.expires = True
            async with leased(pool) as another:
                assert another is not connection
                assert not connection.is_open
            office.expires = True
            connection = await pool.take()
            office.expires = True
            pool.check_slots()
            with pytest.raises(ConnectionLost, match="the slots have expired"):
                await connection.noop()
            pool.give_back(connection)
            async with leased(pool) as connection:
                await connection.noop()


@asyncio_test
async def test_who_holds_a_lease_sends_nothing_more_when_its_slot_has_expired() -> None:
    async with Server(3) as server:
        office = Office(2)
        async with pools_on(server, office, 1) as (pool,), pool.lease() as lease:
            await lease.noop()
            sent = len(server.commands)
            office.expires = True
            with pytest.raises(ConnectionLost, match="the slots have expired"):
                await lease.noop()
            assert len(server.commands) == sent


@asyncio_test
async def test_a_run_goes_on_on_other_connections_after_its_slots_have_expired() -> None:
    async with Server(200) as server:
        office = Office(2)
        pool = create_pool(server.url, password="secret", max_size=2)
        pool.connections.share_slots(office.side())
        seen: list[int] = []
        has_expired = asyncio.Event()

        async def handle(message: object) -> None:
            seen.append(1)
            if len(seen) == 50:
                while server.counters.open_connections < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
                office.expires = True
                has_expired.set()
            elif len(seen) > 50:
                # The second connection may come late; without this, all was done by then.
                await has_expired.wait()

        async with pool:
            job = pool.mailbox("INBOX").search(q.ALL).batch(10).depth(1).fetch("flags").use(Retry())
            report = await job.run(handle)
            assert (report.done, report.failed) == (200, 0)
            assert not office.expires
            assert server.counters.connections > 2


@asyncio_test
async def test_slots_are_shared_before_the_first_use_and_once() -> None:
    async with Server(3) as server:
        office = Office(1)
        async with pools_on(server, office, 1) as (pool,):
            with pytest.raises(RuntimeError, match="shares its slots"):
                pool.share_slots(office.side())
            async with leased(pool):
                pass
            with pytest.raises(RuntimeError, match="has been used"):
                pool.share_slots(office.side())


@asyncio_test
@pytest.mark.parametrize("seed", range(6))
async def test_no_slot_is_lost_whatever_is_cancelled(seed: int) -> None:
    """Callers are cancelled at random moments, connections end, pools are closed in the middle."""
    chance = random.Random(seed)

    async def use(pool: ConnectionPool) -> None:
        async with leased(pool) as connection:
            if chance.random() < 0.2:
                connection.abort(ConnectionLost("by the test"))
            await asyncio.sleep(chance.random() * 0.004)

    async with Server(3) as server:
        office = Office(3)
        async with pools_on(server, office, 3) as pools:
            tasks: list[asyncio.Task[None]] = []
            for step in range(60):
                tasks.append(asyncio.create_task(use(chance.choice(pools))))
                await asyncio.sleep(chance.choice((0, 0, 0.001, 0.003)))
                if chance.random() < 0.3:
                    chance.choice(tasks).cancel()
                if step == 40:
                    await pools[0].close()
                assert office.held <= 3
            for task in tasks:
                with suppress(asyncio.CancelledError, ImapipeError):
                    await task
        assert server.counters.peak_connections <= 3


@asyncio_test
async def test_where_nothing_can_be_given_who_waits_is_told() -> None:
    async with Server(3) as server:
        office = Office(0)
        async with pools_on(server, office, 1) as (pool,):
            waiting = asyncio.create_task(pool.take())
            await asyncio.sleep(0.01)
            user = office.sides[0].user
            assert user is not None
            user.failed(ConnectionFailed("the database has gone"))
            with pytest.raises(ConnectionFailed, match="the database has gone"):
                await waiting


# -- the decisions alone -----------------------------------------------------------------------------------------------


def test_nothing_is_opened_without_a_slot_and_a_slot_without_a_use_goes_back() -> None:
    decisions, _ = books(4, waiting=3)
    decisions.allowance = allowance = Allowance()
    assert decisions.decide(0.0) == Orders(slots_wanted=3)
    allowance.granted = 2
    assert decisions.decide(0.0) == Orders(open=2, slots_wanted=3)
    decisions.failed_to_open()
    decisions.waiting.clear()
    assert decisions.decide(0.0) == Orders(slots_back=1, slots_wanted=1)
    assert allowance.granted == 1


def test_while_a_pause_lasts_no_slot_is_held_for_its_end() -> None:
    decisions, _ = books(2, waiting=1)
    decisions.allowance = Allowance(granted=1)
    decisions.limit.fail(0.0)
    assert decisions.decide(0.5) == Orders(look_again_at=1.0, slots_back=1)


def test_what_is_ended_without_a_goodbye_counts_for_a_moment() -> None:
    decisions, _ = books(2)
    decisions.allowance = Allowance(granted=1)
    line = Line(is_quiet=False, is_clean=False)
    decisions.idle.append(line)
    assert decisions.decide(0.0) == Orders(aborts=[line])
    decisions.closed()
    assert decisions.decide(0.0) == Orders(slots_back=1)


def test_others_get_what_is_idle_and_what_is_beyond_the_share() -> None:
    decisions, guests = books(3)
    decisions.allowance = Allowance(granted=3)
    lines = [Line(), Line(), Line()]
    decisions.idle.extend(lines)
    decisions.allowance.asked_for, decisions.allowance.share = 2, 1
    orders = decisions.decide(0.0)
    assert orders.goodbyes == lines[:2]
    # They are on their way, and not asked for twice; what is left is the pool's share as soon as it has a use.
    assert decisions.decide(0.0) == Orders()
    guests.append(Guest())
    decisions.waiting.extend(guests)
    assert decisions.decide(0.0).grants == [(guests[0], lines[2])]
    assert decisions.owed == 0
    decisions.allowance.asked_for, decisions.allowance.share = 3, 0
    assert decisions.owed == 1


@pytest.mark.parametrize("seed", range(40))
def test_never_more_connections_than_slots_and_none_is_forgotten(seed: int) -> None:
    chance = random.Random(seed)
    decisions, _ = books(5)
    decisions.allowance = allowance = Allowance()
    opening = closing = granted = given_back = 0
    now = 0.0
    for _ in range(400):
        now += chance.choice((0.0, 0.1, 2.0))
        match chance.randrange(9):
            case 0 | 1:
                decisions.waiting.append(Guest())
            case 2:
                granted += 1
                allowance.granted += 1
            case 3 if opening:
                opening -= 1
                decisions.opened(Line())
            case 4 if opening:
                opening -= 1
                decisions.failed_to_open()
                if chance.random() < 0.5:
                    decisions.refused(now)
                else:
                    decisions.limit.fail(now)
            case 5 if decisions.leased:
                line = chance.choice(sorted(decisions.leased, key=id))
                line.is_clean = chance.random() < 0.7
                line.is_quiet = chance.random() < 0.7
                decisions.take_back(line, now)
            case 6 if closing:
                closing -= 1
                decisions.closed()
            case 7:
                allowance.asked_for, allowance.share = chance.randrange(4), chance.randrange(3)
            case 8 if decisions.idle:
                decisions.lost(chance.choice(decisions.idle))
            case _:
                pass
        orders = decisions.decide(now)
        opening += orders.open
        closing += len(orders.goodbyes) + len(orders.aborts)
        given_back += orders.slots_back
        assert decisions.count == allowance.granted == granted - given_back
        assert decisions.owed <= 0 or not decisions.idle
        assert not (allowance.asked_for > closing and decisions.idle)
    decisions.waiting.clear()
    for line in tuple(decisions.leased):
        decisions.take_back(line, now)
    allowance.asked_for = 10
    for _ in range(opening):
        decisions.failed_to_open()
    orders = decisions.decide(now)
    for _ in range(closing + len(orders.goodbyes) + len(orders.aborts)):
        decisions.closed()
    given_back += orders.slots_back + decisions.decide(now).slots_back
    assert granted == given_back
