"""The pool: turns, limits, cancellations, and that nothing is left whatever happens."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import pytest
import pytest_asyncio

import imapipe
from imapipe.errors import (
    AuthenticationFailed,
    CommandTimeout,
    ConnectionFailed,
    ConnectionLost,
    ImapipeError,
    PoolClosed,
    PoolTimeout,
    Throttled,
)
from imapipe.models.event import Event, Refusal, Throttle
from imapipe.net.account import parse_url
from imapipe.net.authentication import Credentials
from imapipe.net.command import Command
from imapipe.net.connection import Connection
from imapipe.net.dial import DialOptions, dial
from imapipe.net.pool.connection_limit import REFUSED_PAUSE_SECONDS
from imapipe.net.pool.pool import ConnectionPool, holder
from imapipe.net.transient import is_transient
from imapipe.testing import Bye, RefuseConnection, RefuseLogin, Reply, Server, Stall

pytestmark = pytest.mark.asyncio


def options_for(server: Server, password: str = "secret", **more: float) -> DialOptions:
    account = parse_url(server.url)
    return DialOptions(account=account, credentials=Credentials(account.user, password, None), **more)  # type: ignore[arg-type]


@asynccontextmanager
async def pool_on(
    server: Server, size: int = 4, *, wait: float | None = 60.0, password: str = "secret", **more: float
) -> AsyncIterator[ConnectionPool]:
    options = options_for(server, password, **more)
    pool = ConnectionPool(lambda _: dial(options), max_size=size, acquire_timeout_seconds=wait)
    try:
        yield pool
    finally:
        await pool.close()
        stats = pool.stats
        assert (stats.idle, stats.opening, stats.waiting) == (0, 0, 0)
        assert not pool._lives._tasks
    await gone(server)


@asynccontextmanager
async def leased(
    pool: ConnectionPool, mailbox: str | None = None, *, timeout_seconds: float | None = None
) -> AsyncIterator[Connection]:
    """The connection itself, so that it can be seen which one it is."""
    connection = await pool.take(mailbox, timeout_seconds=timeout_seconds)
    try:
        yield connection
    finally:
        pool.give_back(connection)


async def gone(server: Server) -> None:
    """Give the server its turns to hear that the clients have left."""
    for _ in range(1000):
        if not server.counters.open_connections:
            return
        await asyncio.sleep(0.001)
    raise AssertionError(f"{server.counters.open_connections} connections are left")


@pytest_asyncio.fixture
async def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let time pass at once."""
    loop = asyncio.get_running_loop()
    real = loop.time
    offset = 0.0

    def skip(seconds: float) -> None:
        nonlocal offset
        offset += seconds

    monkeypatch.setattr(loop, "time", lambda: real() + offset)
    return skip


# -- turns -------------------------------------------------------------------------------------------------------------


async def test_connections_are_made_when_they_are_needed_and_used_again() -> None:
    async with Server(3) as server, pool_on(server) as pool:
        assert server.counters.connections == 0
        async with leased(pool) as first:
            await first.noop()
            assert (pool.stats.leased, pool.stats.idle) == (1, 0)
        assert (pool.stats.leased, pool.stats.idle) == (0, 1)
        async with leased(pool) as again, leased(pool) as second:
            assert again is first
            assert second is not first
        async with leased(pool) as used_last:
            assert used_last is first
        assert (pool.stats.opened, server.counters.connections) == (2, 2)


async def test_who_wants_a_mailbox_gets_the_connection_that_has_it_open() -> None:
    async with Server({"INBOX": 1, "a": 1, "b": 1}) as server, pool_on(server) as pool:
        async with leased(pool) as one, leased(pool) as two, leased(pool) as three:
            await one.examine("a")
            await two.examine("b")
            await three.examine("INBOX")
        async with leased(pool, "a") as lease:
            assert lease is one
        async with leased(pool, "b") as lease:
            assert lease is two
        async with leased(pool, "INBOX") as lease:
            assert lease is three
        async with leased(pool, "elsewhere") as lease:
            assert lease is three


async def test_first_come_first_served() -> None:
    served: list[int] = []
    both = asyncio.Event()

    async def holder_of_one(pool: ConnectionPool, number: int) -> None:
        async with leased(pool) as connection:
            served.append(number)
            await connection.noop()
            # Else all may have had the first connection before there is a second one.
            if len(served) == 2:
                both.set()
            await both.wait()

    async with Server(3) as server, pool_on(server, 2) as pool:
        tasks = [asyncio.ensure_future(holder_of_one(pool, number)) for number in range(20)]
        await asyncio.gather(*tasks)
        assert served == list(range(20))
        assert (server.counters.connections, server.counters.peak_connections) == (2, 2)


async def test_a_newcomer_does_not_overtake() -> None:
    async with Server(3) as server, pool_on(server, 1) as pool:
        first = await pool.take()
        waiting = asyncio.ensure_future(pool.take())
        await asyncio.sleep(0)
        pool.give_back(first)
        # It is idle for nobody: the one who waited has it, whoever asks now.
        newcomer = asyncio.ensure_future(pool.take())
        assert await waiting is first
        await asyncio.sleep(0.01)
        assert not newcomer.done()
        pool.give_back(first)
        assert await newcomer is first
        pool.give_back(first)


async def test_a_wait_ends_at_its_timeout_and_leaves_nothing() -> None:
    async with Server(3) as server, pool_on(server, 1) as pool:
        async with leased(pool) as first:
            pool.acquire_timeout_seconds = 0.02
            with pytest.raises(
                PoolTimeout, match=r"no connection became free in 0\.02 seconds; all 1 are leased"
            ) as caught:
                await pool.take()
            assert (caught.value.timeout_seconds, caught.value.max_size) == (0.02, 1)
            with pytest.raises(PoolTimeout):
                await pool.take(timeout_seconds=0.01)
            assert pool.stats.waiting == 0
        async with leased(pool, timeout_seconds=60) as again:
            assert again is first


async def test_a_lease_is_given_back_once() -> None:
    async with Server(3) as server, pool_on(server, 2) as pool:
        connection = await pool.take()
        pool.give_back(connection)
        pool.give_back(connection)
        assert (pool.stats.leased, pool.stats.idle) == (0, 1)
        one, two = await pool.take(), await pool.take()
        assert one is not two
        pool.give_back(one)
        pool.give_back(two)


# -- what does not go back ---------------------------------------------------------------------------------------------


async def test_what_is_in_doubt_is_thrown_away() -> None:
    async def under_way(connection: Connection) -> None:
        connection.plane.submit(Command("NOOP", [b"NOOP\r\n"]))

    async def unknown(connection: Connection) -> None:
        with suppress(ImapipeError):
            await connection.execute(Command("XNONE", [b"XNONE\r\n"]))

    async def raw(connection: Connection) -> None:
        connection.imap.protocol.send("A1 NOOP")

    async def cancelled(connection: Connection) -> None:
        task = asyncio.ensure_future(connection.noop())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    async def aborted(connection: Connection) -> None:
        connection.abort()

    async with Server(3) as server, pool_on(server, 1) as pool:
        for number, doubt in enumerate((under_way, unknown, raw, cancelled, aborted), 1):
            async with leased(pool) as connection:
                await doubt(connection)
            assert pool.stats.idle == 0
            assert pool.stats.opened == 2 * number - 1
            async with leased(pool) as fresh:
                assert fresh is not connection
                await fresh.noop()
                fresh.abort()


async def test_old_connections_are_replaced_and_the_server_never_sees_too_many(later: Callable[[float], None]) -> None:
    async with Server(3, max_connections=1) as server, pool_on(server, 1, max_age_seconds=100) as pool:
        async with leased(pool) as first:
            later(50)
        async with leased(pool) as again:
            assert again is first
            later(60)
        # It says goodbye; until that is done nobody else may be opened.
        async with leased(pool) as second:
            assert second is not first
        later(1000)
        async with leased(pool) as third:
            assert third is not second
    assert server.counters.peak_connections == 1
    assert server.counters.failed_logins == 0
    assert server.commands.names.count("LOGOUT") == 3


async def test_a_connection_that_dies_while_it_is_idle_is_no_news() -> None:
    async with Server(3) as server, pool_on(server, 2) as pool:
        async with leased(pool) as first:
            await first.noop()
        server.disconnect_all()
        for _ in range(100):
            await asyncio.sleep(0)
        assert pool.stats.idle == 0
        async with leased(pool) as second:
            await second.noop()
            assert second is not first


@pytest.mark.usefixtures("made_up_time")
async def test_a_connection_that_was_idle_for_long_is_asked_first(later: Callable[[float], None]) -> None:
    async with Server(3) as server, pool_on(server, 2, command_timeout_seconds=2.0) as pool:
        async with leased(pool) as first:
            await first.examine("INBOX")
        later(60)
        async with leased(pool) as alive:
            assert alive is first
        assert server.commands.names.count("NOOP") == 1
        # The line is dead and nobody has told us.
        server.faults.add(Stall(0, command="NOOP"))
        later(60)
        async with leased(pool) as second:
            assert second is not first
            assert isinstance(first.plane.error, CommandTimeout)


@pytest.mark.usefixtures("made_up_time")
async def test_a_connection_that_somebody_had_and_did_not_use_is_asked_first(later: Callable[[float], None]) -> None:
    async with Server(3) as server, pool_on(server, 1) as pool:
        async with leased(pool):
            later(60)
        async with leased(pool):
            assert server.commands.names.count("NOOP") == 1


async def test_who_is_cancelled_while_his_connection_is_asked_loses_nothing(later: Callable[[float], None]) -> None:
    async with Server(3, faults=[Stall(0, command="NOOP")]) as server, pool_on(server, 1) as pool:
        async with leased(pool) as first:
            later(60)
        later(60)
        waiting = asyncio.ensure_future(pool.take())
        await asyncio.sleep(0.01)
        assert pool.stats.leased == 1
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert pool.stats.leased == 0
        server.faults.clear()
        async with leased(pool) as second:
            assert second is not first


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["dovecot", "gmail"])
async def test_a_refusal_lowers_the_limit_and_it_grows_again(style: str, later: Callable[[float], None]) -> None:
    events: list[Event] = []
    async with (
        Server(3, max_connections=2, too_many_style=style) as server,  # type: ignore[arg-type]
        pool_on(server, 4) as pool,
    ):
        pool.events.subscribe(events.append)

        async def use(times: int = 3) -> None:
            for _ in range(times):
                async with leased(pool) as connection:
                    await connection.noop()
                    # Else two connections may have done all before a third one is refused.
                    while not events:  # noqa: ASYNC110 - they are in a list
                        await asyncio.sleep(0)

        # Nobody fails as long as one connection works.
        await asyncio.gather(*(use() for _ in range(8)))
        while pool.stats.opening:  # noqa: ASYNC110 - it is in the books of the pool
            await asyncio.sleep(0)
        assert 2 <= pool.stats.limit < 4
        assert pool.stats.refused == len(events) == server.counters.failed_logins > 0
        assert all(isinstance(event, Refusal) for event in events)
        server.max_connections = None
        refused = server.counters.failed_logins
        for _ in range(4):
            later(700)
            await asyncio.gather(*(use() for _ in range(8)))
        assert pool.stats.limit == 4
        assert server.counters.failed_logins == refused


async def test_a_waiter_is_served_when_the_limit_grows_even_if_nothing_comes_back(
    later: Callable[[float], None],
) -> None:
    async with Server(3, max_connections=1) as server, pool_on(server, 2, wait=None) as pool, leased(pool):
        refused = asyncio.Event()
        pool.events.subscribe(lambda event: refused.set())
        waiting = asyncio.ensure_future(pool.take())
        await refused.wait()
        assert pool.stats.limit == 1
        server.max_connections = None
        later(REFUSED_PAUSE_SECONDS + 1)
        second = await asyncio.wait_for(waiting, 60)
        assert pool.stats.leased == 2
        pool.give_back(second)


async def test_with_no_connection_that_works_the_refusal_comes_out() -> None:
    async with Server(3, faults=[RefuseLogin()]) as server, pool_on(server, 3) as pool:
        results = await asyncio.gather(*(pool.take() for _ in range(3)), return_exceptions=True)
        assert [type(result) for result in results] == [Throttled] * 3
        assert server.counters.failed_logins == 3


@pytest.mark.usefixtures("made_up_time")
@pytest.mark.usefixtures("made_up_time")
async def test_wrong_credentials_fail_everybody_and_are_not_tried_again_and_again() -> None:
    async with Server(3) as server, pool_on(server, 2, password="wrong") as pool:
        results = await asyncio.gather(*(pool.take() for _ in range(10)), return_exceptions=True)
        assert [type(result) for result in results] == [AuthenticationFailed] * 10
        assert server.counters.failed_logins <= 2
        # One of two attempts is enough for them; the other one would be told to who asks now.
        while pool.stats.opening:  # noqa: ASYNC110 - it is in the books of the pool
            await asyncio.sleep(0)
        again = asyncio.ensure_future(pool.take())
        await asyncio.sleep(0.05)
        # A moment of peace for the server before the next try.
        assert not again.done()
        assert server.counters.failed_logins <= 2
        again.cancel()


async def test_a_port_that_refuses_fails_who_waits() -> None:
    async with Server(3) as server:
        options = options_for(server)
    pool = ConnectionPool(lambda _: dial(options), max_size=2)
    results = await asyncio.gather(*(pool.take() for _ in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [ConnectionFailed] * 5
    await pool.close()


async def test_one_attempt_that_fails_harms_nobody_while_others_work() -> None:
    async with Server(3, faults=[RefuseConnection(nth=2)]) as server, pool_on(server, 4) as pool:

        async def use() -> None:
            async with leased(pool) as connection:
                await connection.noop()

        await asyncio.gather(*(use() for _ in range(4)))
        assert server.counters.refused_connections == 1


@pytest.mark.usefixtures("made_up_time")
async def test_who_waits_in_vain_hears_why_no_connection_could_be_made() -> None:
    """Whoever holds the others may wait for the same server, so that this is its outage, and no lack of connections."""
    fault = RefuseConnection(kind="close", nth=2, times=99)
    async with Server(3, faults=[fault]) as server, pool_on(server, 4) as pool, leased(pool):
        pool.acquire_timeout_seconds = 0.05
        with pytest.raises(PoolTimeout, match=r"in 0\.05 seconds, and none could be made: ") as caught:
            await pool.take()
        assert str(caught.value.__cause__) in str(caught.value)
        assert is_transient(caught.value).is_outage


async def test_what_else_the_dialer_raises_comes_out_as_it_is() -> None:
    async def dialer(_: object) -> Connection:
        raise LookupError("no token")

    pool = ConnectionPool(dialer, max_size=2)
    with pytest.raises(LookupError, match="no token"):
        await pool.take()
    await pool.close()


async def test_a_timeout_of_the_dialer_is_not_one_of_the_pool() -> None:
    async def dialer(_: object) -> Connection:
        raise TimeoutError("the token server is slow")

    pool = ConnectionPool(dialer, max_size=2)
    with pytest.raises(TimeoutError, match="the token server is slow"):
        await pool.take()
    await pool.close()


async def test_a_dialer_that_cancels_itself_is_tried_again() -> None:
    """A token callback may cancel its own scope; the task of the pool ends, whoever waits must not wait for ever."""
    async with Server(3) as server:
        options = options_for(server)
        attempts = 0

        async def dialer(_: object) -> Connection:
            nonlocal attempts
            attempts += 1
            if attempts == 1:
                raise asyncio.CancelledError
            return await dial(options)

        pool = ConnectionPool(dialer, max_size=1)
        async with leased(pool, timeout_seconds=60) as connection:
            await connection.noop()
        await pool.close()
        assert attempts == 2
        await gone(server)


@pytest.mark.parametrize("size", [0, -1])
async def test_sizes_that_make_no_sense(size: int) -> None:
    with pytest.raises(ValueError, match="max_size must be 1 or more"):
        ConnectionPool(lambda _: asyncio.sleep(0), max_size=size)  # type: ignore[arg-type, return-value]


# -- cancellation ------------------------------------------------------------------------------------------------------


async def test_a_wait_that_is_cancelled_at_any_moment_leaves_nothing() -> None:
    async with Server(3) as server, pool_on(server, 1) as pool:
        turns = 0
        while True:
            task = asyncio.ensure_future(pool.take())
            for _ in range(turns):
                await asyncio.sleep(0)
            if task.done():
                pool.give_back(await task)
                break
            task.cancel()
            await asyncio.wait([task])
            turns += 1
            assert pool.stats.waiting == 0
        async with leased(pool) as connection:
            await connection.noop()
            assert pool.stats.leased == 1
        assert server.counters.peak_connections == 1


async def test_a_connection_assigned_to_somebody_who_is_cancelled_goes_to_the_next() -> None:
    async with Server(3) as server, pool_on(server, 1) as pool:
        connection = await pool.take()
        first, second = asyncio.ensure_future(pool.take()), asyncio.ensure_future(pool.take())
        await asyncio.sleep(0)
        # In the same turn it is given to the first one, who is cancelled.
        pool.give_back(connection)
        first.cancel()
        assert await asyncio.wait_for(second, 60) is connection
        assert first.cancelled()
        pool.give_back(connection)


async def test_a_timeout_in_the_moment_of_the_assignment_loses_nothing() -> None:
    async with Server(3) as server, pool_on(server, 1, wait=None) as pool:
        connection = await pool.take()
        for _ in range(50):
            waiting = asyncio.ensure_future(pool.take(timeout_seconds=0.002))
            await asyncio.sleep(0.002)
            pool.give_back(connection)
            try:
                connection = await waiting
            except PoolTimeout:
                connection = await pool.take()
            assert pool.stats.leased == 1
        pool.give_back(connection)


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_nothing_is_left(seed: int) -> None:
    dice = random.Random(seed)
    async with (
        Server(3, max_connections=3, faults=[Bye("gone", command="NOOP", nth=7), RefuseConnection(nth=3)]) as server,
        pool_on(server, 4, wait=1.0) as pool,
    ):

        async def user() -> None:
            for _ in range(6):
                with suppress(ImapipeError):
                    async with leased(pool, timeout_seconds=dice.choice([0.001, 0.01, 0.2])) as connection:
                        await connection.noop()
                        if dice.random() < 0.1:
                            connection.abort()
                        await asyncio.sleep(dice.choice([0, 0.001]))

        tasks = [asyncio.ensure_future(user()) for _ in range(12)]
        for task in tasks:
            await asyncio.sleep(0.001)
            if dice.random() < 0.4:
                task.cancel()
        await asyncio.wait(tasks)
        assert [task.exception() for task in tasks if not task.cancelled()] == [None] * sum(
            not task.cancelled() for task in tasks
        )
        assert (pool.stats.leased, pool.stats.waiting) == (0, 0)
        assert server.counters.peak_connections <= 4 + server.counters.failed_logins


# -- waiting for oneself -----------------------------------------------------------------------------------------------


@dataclass
class Run:
    leases_held: int
    pool: object = None

    def is_of(self, pool: object) -> bool:
        return pool is self.pool


async def test_who_holds_every_lease_cannot_wait_for_another() -> None:
    async with Server(3) as server, pool_on(server, 2, wait=None) as pool:
        one, two = await pool.take(), await pool.take()
        token = holder.set(Run(2, pool))
        with pytest.raises(PoolTimeout, match=r"fewer connections=, or raise max_size"):
            await pool.take()
        holder.set(Run(1, pool))
        waiting = asyncio.ensure_future(pool.take())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        holder.reset(token)
        pool.give_back(one)
        pool.give_back(await waiting)
        pool.give_back(two)


async def test_a_handler_may_wait_for_a_connection_of_another_pool() -> None:
    """Its run holds as many connections of its own pool as that one may have at all, and none of them."""
    async with (
        Server(30) as server,
        imapipe.create_pool(server.url, password="secret", max_size=2) as source,
        imapipe.create_pool(server.url, password="secret", max_size=2) as target,
    ):

        async def handle(_: imapipe.Message) -> None:
            async with target.acquire() as connection:
                await connection.noop()

        job = source.mailbox("INBOX").search(imapipe.search.ALL).batch(5).fetch("flags")
        report = await job.run(handle, concurrency=4)
        assert (report.done, report.failed) == (30, 0)


# -- the end -----------------------------------------------------------------------------------------------------------


async def test_a_closed_pool() -> None:
    async with Server(3) as server:
        async with pool_on(server) as pool, leased(pool):
            pass
        assert server.commands.names[-1] == "LOGOUT"
        assert pool.is_closed
        with pytest.raises(PoolClosed):
            await pool.take()
        await pool.close()


@pytest.mark.parametrize("delay", [0, 1, 2, 3, 5, 10, 20, 50])
async def test_closing_while_connections_are_opened_used_and_waited_for(
    delay: int, other_tasks: Callable[[], set[str]]
) -> None:
    async with Server(3) as server:
        before = other_tasks()
        options = options_for(server)
        pool = ConnectionPool(lambda _: dial(options), max_size=3)
        tasks = [asyncio.ensure_future(pool.take()) for _ in range(6)]
        for _ in range(delay):
            await asyncio.sleep(0)
        await pool.close()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        leases = [result for result in results if isinstance(result, Connection)]
        assert all(isinstance(result, Connection | PoolClosed) for result in results)
        for lease in leases:
            with pytest.raises(ConnectionLost, match="the pool was closed"):
                await lease.noop()
            pool.give_back(lease)
        await gone(server)
    assert {task for task in other_tasks() if "testing" not in task} <= before


async def test_closing_while_an_idle_connection_is_asked(later: Callable[[float], None]) -> None:
    async with Server(3) as server, pool_on(server) as pool:
        async with leased(pool):
            pass
        server.faults.add(Stall(0, command="NOOP"))
        later(60)
        waiting = asyncio.ensure_future(pool.take())
        await asyncio.sleep(0.01)
        await pool.close()
        with pytest.raises(PoolClosed):
            await waiting


async def test_closing_does_not_wait_for_a_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imapipe.net.pool.connection_lives.CLOSE_SECONDS", 0.02)
    async with Server(3, faults=[Stall(0, command="LOGOUT")]) as server, pool_on(server) as pool:
        async with leased(pool):
            pass
        await asyncio.gather(pool.close(), pool.close())


async def test_closing_that_is_cancelled_ends_everything_all_the_same() -> None:
    async with Server(3, faults=[Stall(0, command="LOGOUT")]) as server, pool_on(server) as pool:
        async with leased(pool):
            pass
        closing = asyncio.ensure_future(pool.close())
        await asyncio.sleep(0.01)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing


# -- what it tells -----------------------------------------------------------------------------------------------------


async def test_throttles_are_told_once() -> None:
    events: list[Event] = []
    faults = [
        Reply("OK", "Success [THROTTLED]", command="NOOP", nth=1),
        Reply("BAD", "Request is throttled. Suggested Backoff Time: 5000 milliseconds", command="NOOP", nth=2),
        # Yahoo: BYE, then the tagged NO.
        Bye("[LIMIT] Rate limit hit.", command="NOOP", nth=3, tagged="NO [LIMIT] NOOP Rate limit hit."),
    ]
    async with Server(3, faults=faults) as server, pool_on(server) as pool:
        pool.events.subscribe(events.append)
        async with leased(pool) as connection:
            await connection.noop()
            for _ in range(2):
                with pytest.raises(Throttled):
                    await connection.noop()
    assert [type(event) for event in events] == [Throttle] * 3
    assert [event.retry_after_seconds for event in events if isinstance(event, Throttle)] == [None, 5.0, None]


async def test_bytes_are_counted_over_all_connections() -> None:
    async with Server(3) as server, pool_on(server, 2) as pool:
        async with leased(pool) as one, leased(pool) as two:
            await one.noop()
            await two.noop()
            two.abort()
        async with leased(pool) as one:
            one.abort()
        await asyncio.sleep(0)
        assert pool.wire_bytes == server.counters.bytes_out
        assert not pool.is_link_slow


async def test_a_slow_link_is_noticed() -> None:
    async with Server(3) as server, pool_on(server) as pool:
        pool._lives.traffic._past_wire_bytes = 5_000_000
        pool._lives.traffic._past_fetch_seconds = 1.0
        slow = [pool.is_link_slow]
        pool._lives.traffic._past_fetch_seconds = 10.0
        slow.append(pool.is_link_slow)
        pool._lives.traffic._past_wire_bytes = 1_000_000
        assert [*slow, pool.is_link_slow] == [False, True, False]


@pytest.mark.asyncio
async def test_a_connection_whose_goodbye_has_not_begun_is_closed_with_the_pool() -> None:
    """Defect: the pool cancelled the task that was to log out before its first step, and the socket stayed open."""
    async with Server({"INBOX": 1}) as server:
        async with imapipe.create_pool(server.url, password=server.password) as pool, pool.acquire() as connection:
            connection.session.unknown_commands += 1
            transport = connection.plane.transport
        assert transport is not None
        assert transport.is_closing()
