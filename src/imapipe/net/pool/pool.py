"""The pool: the connections of one account, leased one at a time, fairly.

`net.pool.decisions` decides, without I/O; `net.pool.connection_lives` makes and ends connections as it says.

Invariants:

- A connection is leased to one holder, comes back clean or is thrown away, and is never handed out when there is
  doubt: a command in flight, IDLE open, a command whose effect we do not follow, too old, silent for too long.
- A wait that is cancelled or times out leaves nothing behind: a connection that was assigned in the same moment goes to
  the next.
- A refusal because of too many connections lowers the limit to what works, and the limit grows again by one at
  a time (AIMD).
- Whenever something ends (a lease, an attempt, a goodbye) `_assign` looks again, so nobody waits for a thing that
  nobody does.
- Where slots are shared with other pools (`share_slots`), no connection is without one; when they have expired, every
  connection ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from imapipe.errors import (
    CommandTimeout,
    ConnectionLost,
    ImapipeError,
    PoolClosed,
)
from imapipe.models.argument import check_number, check_whole
from imapipe.net.connection import Connection
from imapipe.net.learned import Learned
from imapipe.net.options import PlaneOptions
from imapipe.net.pool.connection_lives import ConnectionLives, Dialer
from imapipe.net.pool.decisions import Decisions, PoolStats
from imapipe.net.pool.lease import Holder, Waiter, holder, self_wait
from imapipe.net.pool.leased_connection import Lease, open_as_wished
from imapipe.net.pool.pool_slots import PoolSlots
from imapipe.net.pool.slots import Slots
from imapipe.net.transient import is_transient
from imapipe.runtime.event_bus import EventBus

__all__ = ["ConnectionPool", "Holder", "PoolStats", "holder"]

IDLE_CHECK_SECONDS = 30.0

_Result = TypeVar("_Result")


class ConnectionPool:
    """Connections of one account.

    Args:
        dialer: Makes a connection that is logged in.
        max_size: The most connections at a time.
        acquire_timeout_seconds: How long `acquire` waits; None is for ever.
        events: Where refusals and throttles are told.
        plane_options: What each connection may take, also an adopted one.

    Attributes:
        learned: What its connections have found out about the server.
    """

    def __init__(
        self,
        dialer: Dialer,
        *,
        max_size: int = 4,
        acquire_timeout_seconds: float | None = 60.0,
        events: EventBus | None = None,
        plane_options: PlaneOptions | None = None,
    ) -> None:
        check_whole("max_size", max_size)
        if acquire_timeout_seconds is not None:
            check_number("acquire_timeout_seconds", acquire_timeout_seconds)
            if acquire_timeout_seconds < 0:
                raise ValueError(f"acquire_timeout_seconds must be 0 or more, not {acquire_timeout_seconds}")
        if max_size < 1:
            raise ValueError(f"max_size must be 1 or more, not {max_size}")
        self.max_size = max_size
        self.acquire_timeout_seconds = acquire_timeout_seconds
        self.events = events or EventBus()
        self.plane_options = plane_options or PlaneOptions()
        self.learned = Learned()
        self._decisions: Decisions[Connection, Waiter] = Decisions(max_size)
        self._idle = self._decisions.idle
        self._leased = self._decisions.leased
        self._slots = PoolSlots(
            self._decisions, self.events, assign=self._assign, end_all=self._end_all, fail_waiting=self._fail_waiting
        )
        self._lives = ConnectionLives(
            dialer,
            self._decisions,
            self._slots,
            self.events,
            look_again=self._assign,
            fail_waiting=self._fail_waiting,
        )
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.TimerHandle | None = None

    @property
    def stats(self) -> PoolStats:
        """How it stands."""
        return self._decisions.stats

    @property
    def has_waiters(self) -> bool:
        """Whether somebody waits for a connection."""
        return bool(self._decisions.waiting)

    @property
    def owes_connection(self) -> bool:
        """Whether pools with which slots are shared wait for a connection that is beyond this pool's share."""
        return self._decisions.owed > 0

    @property
    def is_closed(self) -> bool:
        """Whether the pool takes no more callers."""
        return self._closed

    @property
    def shares_slots(self) -> bool:
        """Whether it has its connections only as far as somebody gives it slots."""
        return self._slots.are_shared

    def share_slots(self, slots: Slots) -> None:
        """Have no connection without a slot of these, from now on.

        Raises:
            RuntimeError: The pool has been used already, or shares its slots.
        """
        if self._loop is not None or self._idle:
            raise RuntimeError("this pool has been used: its slots are shared before that")
        self._slots.share(slots)

    def check_slots(self) -> None:
        """End all connections if their slots have expired while the process stood still. Takes less than a microsecond.

        For whoever goes on to use a connection that he holds; `take` and a `Lease` do it by themselves.
        """
        self._slots.check()

    @asynccontextmanager
    async def lease(
        self, mailbox: str | None = None, *, write: bool = False, timeout_seconds: float | None = None
    ) -> AsyncIterator[Lease]:
        """A connection for a block, with this mailbox open (or none); its holder cannot use it afterwards.

        Args:
            mailbox: The mailbox, which is examined; None for a connection that has none selected.
            write: Select it instead.
            timeout_seconds: How long to wait, where that is not the pool's own limit.

        Raises:
            CommandNo: There is no such mailbox, or it cannot be opened for writing.
        """

        async def prepare(connection: Connection) -> None:
            await open_as_wished(connection, mailbox, write=write)

        connection, _ = await self._reach(prepare, mailbox, write=write, timeout_seconds=timeout_seconds)
        lease = Lease(connection, self.check_slots)
        try:
            yield lease
        finally:
            lease.end()
            self.give_back(connection)

    async def perform(self, work: Callable[[Connection], Awaitable[_Result]], mailbox: str | None = None) -> _Result:
        """Do something short that may be done twice; where the connection dies meanwhile, on another one.

        Args:
            work: What to do.
            mailbox: A connection that has this mailbox open is preferred.

        Raises:
            PoolTimeout, PoolClosed, AuthenticationFailed, ConnectionFailed, Throttled: No connection could be had.
        """
        connection, result = await self._reach(work, mailbox)
        self.give_back(connection)
        return result

    async def _reach(
        self,
        work: Callable[[Connection], Awaitable[_Result]],
        mailbox: str | None = None,
        *,
        write: bool = False,
        timeout_seconds: float | None = None,
    ) -> tuple[Connection, _Result]:
        """Take a connection and do something on it; once more on another, where it was dead and nobody knew."""
        for may_try_again in (True, False):
            connection = await self.take(mailbox, write=write, timeout_seconds=timeout_seconds)
            try:
                return connection, await work(connection)
            except BaseException as error:
                # A server that is silent would be as silent on another one.
                has_died = (
                    not isinstance(error, CommandTimeout)
                    and is_transient(error, fetching=False, bytes_came=False).is_outage
                )
                was_open = connection.is_open
                self.give_back(connection)
                if not (may_try_again and has_died and not was_open):
                    raise
        raise AssertionError  # the second time it returns or raises

    async def take(
        self,
        mailbox: str | None = None,
        *,
        write: bool = False,
        timeout_seconds: float | None = None,
        unchecked: bool = False,
    ) -> Connection:
        """Lease a connection; whoever takes one gives it back.

        Args:
            mailbox: A connection that has this mailbox open is preferred; for None, one that has none.
            write: Prefer one that has it open for writing.
            timeout_seconds: How long to wait, where that is not the pool's own limit.
            unchecked: Do not ask one that was idle for long whether it is still there: the caller finds out.

        Raises:
            PoolTimeout: None became free in time, or the caller is a handler of a run that holds them all.
            PoolClosed: The pool is closed.
            AuthenticationFailed, ConnectionFailed, Throttled: No connection could be made, and none works.
            RuntimeError: The pool is that of another event loop: what waits on its connections would wait for ever.
        """
        limit_seconds = timeout_seconds if timeout_seconds is not None else self.acquire_timeout_seconds
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
            self._slots.begin()
        if self._loop is not loop:
            raise RuntimeError("this pool was used in another event loop: make one in each, with `async with`")
        until = None if limit_seconds is None else loop.time() + limit_seconds
        while True:
            if self._closed:
                raise PoolClosed
            self._slots.check()
            if self._decisions.waits_for_itself(self._own_holder()):
                raise self_wait(self.stats.limit, self.max_size)
            connection = await self._wait_for_one(mailbox, write, until, limit_seconds)
            if (unchecked and connection.is_open) or await self._is_alive(connection):
                return connection

    def give_back(self, connection: Connection) -> None:
        """Return a lease. Synchronous: it can be called whatever is going on; the second time it does nothing."""
        if connection not in self._leased:
            return
        now = asyncio.get_running_loop().time()
        if self._closed:
            self._leased.discard(connection)
            self._lives.abort(connection)
        else:
            self._decisions.take_back(connection, now)
        self._assign()

    def adopt(self, connection: Connection) -> None:
        """Add a connection that somebody else made to the idle ones."""
        if self._closed:
            raise PoolClosed
        connection.ways.learned = self.learned
        self._lives.watch(connection)
        self._idle.append(connection)
        self._assign()

    @property
    def wire_bytes(self) -> int:
        """Bytes received on the wire by all connections, those that are gone included."""
        return self._lives.traffic.wire_bytes

    @property
    def is_link_slow(self) -> bool:
        """Whether bandwidth was measured to be the bottleneck, so that compressing is worth it."""
        return self._lives.traffic.is_link_slow

    async def close(self) -> None:
        """Fail the waiting, end what is being opened, log out what is idle, throw away what is leased.

        Cancelling it ends what it waits for, too; slots that are shared are others' a moment later then.
        """
        if not self._closed:
            self._closed = self._lives.is_closed = True
            if self._wake is not None:
                self._wake.cancel()
            self._fail_waiting(PoolClosed())
            self._lives.cancel_tasks()
            for connection in tuple(self._leased):
                connection.abort(ConnectionLost("the pool was closed"))
                self._lives.settle(connection, counted=False)
            for connection in self._idle:
                self._decisions.closing()
                self._lives.say_goodbye(connection)
            self._idle.clear()
        counted = 0
        try:
            await self._lives.finish()
        except BaseException:
            # Those that were leased are among the ones that are being closed.
            counted = self._decisions.count - len(self._leased)
            raise
        finally:
            self._slots.leave(counted)

    def _assign(self) -> None:
        """Look what is to be done now, and do it."""
        if self._closed:
            return
        orders = self._decisions.decide(asyncio.get_running_loop().time())
        for waiter, connection in orders.grants:
            waiter.future.set_result(connection)
        for connection in orders.goodbyes:
            self._lives.say_goodbye(connection)
        for connection in orders.aborts:
            self._lives.abort(connection)
            self._lives.settle(connection)
        for _ in range(orders.open):
            self._lives.open_one()
        self._slots.tell(orders)
        if orders.look_again_at is not None:
            if self._wake is not None:
                self._wake.cancel()
            self._wake = asyncio.get_running_loop().call_at(orders.look_again_at, self._assign)

    def refuse_self_waits(self) -> None:
        """A run took another lease: handlers of it that wait for one would wait for ever if it holds all of them."""
        for waiter in self._decisions.take_self_waits():
            waiter.fail(self_wait(self.stats.limit, self.max_size))

    async def _wait_for_one(
        self, mailbox: str | None, write: bool, until: float | None, limit_seconds: float | None
    ) -> Connection:
        waiter = Waiter(mailbox, write, asyncio.get_running_loop().create_future(), self._own_holder())
        self._decisions.waiting.append(waiter)
        self._assign()
        try:
            return await waiter.wait(until, limit_seconds or 0.0, self.max_size, self._slots.shortage)
        except BaseException:
            self._forget(waiter)
            raise

    def _own_holder(self) -> Holder | None:
        """The run whose code asks, if its connections are of this pool: else it waits for others."""
        run = holder.get()
        return run if run is not None and run.is_of(self) else None

    def _forget(self, waiter: Waiter) -> None:
        """A wait ended without a connection; one that was assigned in the same moment goes to the next."""
        self._decisions.withdraw(waiter)
        future = waiter.future
        if future.done() and not future.cancelled() and future.exception() is None:
            self.give_back(future.result())
        future.cancel()
        if self._slots.are_shared:
            # The slot that he waited for is wanted no more.
            self._assign()

    async def _is_alive(self, connection: Connection) -> bool:
        """Ask a connection that was idle for long whether it is still there."""
        idle_for = asyncio.get_running_loop().time() - connection.used_at
        if idle_for < IDLE_CHECK_SECONDS and connection.is_open:
            return True
        try:
            if connection.is_open:
                await connection.noop()
                return True
        except ImapipeError:
            # Gone while it was idle: that is no news, another one is taken.
            connection.abort()
        except BaseException:
            self.give_back(connection)
            raise
        self.give_back(connection)
        return False

    def _end_all(self, error: Exception) -> None:
        """End every connection, and the making of those that are not there yet."""
        self._lives.cancel_openings()
        for connection in (*self._leased, *self._idle):
            connection.abort(error)

    def _fail_waiting(self, error: Exception) -> None:
        waiting = self._decisions.waiting
        while waiting:
            waiting.popleft().fail(error)
