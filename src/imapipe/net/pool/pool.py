"""The pool: the connections of one account, leased one at a time, fairly.

Decisions are made in `_assign`, which is synchronous and does no I/O: it hands idle connections to the waiting
in their order, says how many connections to open and which to close. The I/O happens afterwards in tasks of the
pool, which end with it.

Invariants:

- `leased + idle + opening + closing <= limit <= max_size`, except that a limit lowered by a refusal never takes a
  lease away, and that adopted connections come on top.
- A connection is leased to one holder, comes back clean or is thrown away, and is never handed out when there is
  doubt: a command in flight, IDLE open, a command whose effect we do not follow, too old, silent for too long.
- Waiting is first come, first served. A wait that is cancelled or times out leaves nothing behind: a
  connection that was assigned in the same moment goes to the next.
- A refusal because of too many connections lowers the limit to what works, and the limit grows again by one at
  a time (AIMD). It fails the waiting only when no connection works and none is being made.
- Whenever something ends (a lease, an attempt, a goodbye) `_assign` looks again, so nobody waits for a thing that
  nobody does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager

from imapipe.errors import (
    AuthenticationFailed,
    CapabilityMissing,
    CommandError,
    ConnectionLost,
    ImapipeError,
    PoolClosed,
    PoolTimeout,
)
from imapipe.models.argument import check_number, check_whole
from imapipe.models.event import Refusal
from imapipe.net.connection import Connection
from imapipe.net.options import PlaneOptions
from imapipe.net.pool.connection_limit import ConnectionLimit
from imapipe.net.pool.lease import Holder, PoolStats, Waiter, holder
from imapipe.net.signals import is_refusal
from imapipe.net.traffic import Traffic, throttle_listener
from imapipe.runtime.event_bus import EventBus

__all__ = ["ConnectionPool", "Holder", "PoolStats", "holder"]

IDLE_CHECK_SECONDS = 30.0
CLOSE_SECONDS = 2.0
Dialer = Callable[[], Awaitable[Connection]]


class ConnectionPool:
    """Connections of one account.

    Args:
        dialer: Makes a connection that is logged in.
        max_size: The most connections at a time.
        acquire_timeout_seconds: How long `acquire` waits; None is for ever.
        events: Where refusals and throttles are told.
        plane_options: What each connection may take, also an adopted one.
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
        if max_size < 1:
            raise ValueError(f"max_size must be 1 or more, not {max_size}")
        self._dialer = dialer
        self.max_size = max_size
        self.acquire_timeout_seconds = acquire_timeout_seconds
        self.events = events or EventBus()
        self.plane_options = plane_options or PlaneOptions()
        self._limit = ConnectionLimit(max_size)
        self._idle: list[Connection] = []
        self._leased: set[Connection] = set()
        self._opening = 0
        self._closing = 0
        self._waiters: deque[Waiter] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.TimerHandle | None = None
        self._opened = 0
        self._traffic = Traffic(lambda: (connection.plane for connection in (*self._idle, *self._leased)))

    @property
    def stats(self) -> PoolStats:
        """How it stands."""
        return PoolStats(
            max_size=self.max_size,
            limit=self._limit.value,
            leased=len(self._leased),
            idle=len(self._idle),
            opening=self._opening,
            waiting=len(self._waiters),
            opened=self._opened,
            refused=self._limit.refusals,
        )

    @property
    def has_waiters(self) -> bool:
        """Whether somebody waits for a connection."""
        return bool(self._waiters)

    @property
    def is_closed(self) -> bool:
        """Whether the pool takes no more callers."""
        return self._closed

    @asynccontextmanager
    async def lease(
        self, mailbox: str | None = None, *, timeout_seconds: float | None = None
    ) -> AsyncIterator[Connection]:
        """`take` and `give_back` around a block."""
        connection = await self.take(mailbox, timeout_seconds=timeout_seconds)
        try:
            yield connection
        finally:
            self.give_back(connection)

    async def take(self, mailbox: str | None = None, *, timeout_seconds: float | None = None) -> Connection:
        """Lease a connection; whoever takes one gives it back.

        Args:
            mailbox: A connection that has this mailbox open is preferred.
            timeout_seconds: How long to wait, where that is not the pool's own limit.

        Raises:
            PoolTimeout: None became free in time, or the caller is a handler of a run that holds them all.
            PoolClosed: The pool is closed.
            AuthenticationFailed, ConnectionFailed, Throttled: No connection could be made, and none works.
            RuntimeError: The pool is that of another event loop: what waits on its connections would wait for ever.
        """
        patience = timeout_seconds if timeout_seconds is not None else self.acquire_timeout_seconds
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        if self._loop is not loop:
            raise RuntimeError("this pool was used in another event loop: make one in each, with `async with`")
        until = None if patience is None else loop.time() + patience
        while True:
            if self._closed:
                raise PoolClosed
            if (error := self._self_wait(holder.get())) is not None:
                raise error
            connection = await self._wait_for_one(mailbox, until, patience)
            if await self._is_alive(connection):
                return connection

    def give_back(self, connection: Connection) -> None:
        """Return a lease. Synchronous: it can be called whatever is going on; the second time it does nothing."""
        if connection not in self._leased:
            return
        self._leased.discard(connection)
        now = asyncio.get_running_loop().time()
        if self._closed or not connection.is_clean or now >= connection.expires_at:
            self._discard(connection)
        else:
            connection.tidy()
            connection.used_at = now
            self._idle.append(connection)
        self._assign()

    def adopt(self, connection: Connection) -> None:
        """Add a connection that somebody else made to the idle ones."""
        if self._closed:
            raise PoolClosed
        self._watch(connection)
        self._idle.append(connection)
        self._assign()

    @property
    def wire_bytes(self) -> int:
        """Bytes received on the wire by all connections, those that are gone included."""
        return self._traffic.wire_bytes

    @property
    def is_link_slow(self) -> bool:
        """Whether bandwidth was measured to be the bottleneck, so that compressing is worth it."""
        return self._traffic.is_link_slow

    async def close(self) -> None:
        """Fail the waiting, end what is being opened, log out what is idle, throw away what is leased.

        Cancelling it ends what it waits for, too.
        """
        if not self._closed:
            self._closed = True
            if self._wake is not None:
                self._wake.cancel()
            while self._waiters:
                self._waiters.popleft().fail(PoolClosed())
            for task in tuple(self._tasks):
                task.cancel()
            for connection in tuple(self._leased):
                connection.abort(ConnectionLost("the pool was closed"))
            idle, self._idle = self._idle, []
            for connection in idle:
                self._say_goodbye(connection)
        try:
            while self._tasks:
                await asyncio.wait(tuple(self._tasks))
        finally:
            for task in self._tasks:
                task.cancel()

    def _assign(self) -> None:
        """Hand idle connections to the waiting, in order; open more where that is allowed and of use."""
        if self._closed:
            return
        now = asyncio.get_running_loop().time()
        self._drop_old(now)
        while self._waiters and self._idle:
            waiter = self._waiters.popleft()
            if waiter.future.done():
                continue
            connection = self._pick(waiter.mailbox)
            self._idle.remove(connection)
            self._leased.add(connection)
            waiter.future.set_result(connection)
        self._limit.grow(now)
        wanted = len(self._waiters) - self._opening
        for _ in range(wanted):
            count = len(self._leased) + len(self._idle) + self._opening + self._closing
            opens_at = self._limit.opens_at(now, count)
            if opens_at is None:
                return
            if opens_at > now:
                self._call_at(opens_at)
                return
            self._opening += 1
            self._start(self._open_one())

    def _pick(self, mailbox: str | None) -> Connection:
        """The idle connection that has the mailbox open, else the one used last (the others may expire)."""
        for connection in reversed(self._idle):
            if mailbox is not None and connection.selected is not None and connection.selected.name == mailbox:
                return connection
        return self._idle[-1]

    def _drop_old(self, now: float) -> None:
        for connection in tuple(self._idle):
            if not connection.is_clean or now >= connection.expires_at:
                self._idle.remove(connection)
                self._discard(connection)

    def refuse_self_waits(self) -> None:
        """A run took another lease: handlers of it that wait for one would wait for ever if it holds all of them."""
        for waiter in tuple(self._waiters):
            if (error := self._self_wait(waiter.holder)) is not None:
                self._waiters.remove(waiter)
                waiter.fail(error)

    def _self_wait(self, run: Holder | None) -> PoolTimeout | None:
        if run is None or run.leases_held < self._limit.value or self._idle:
            return None
        return PoolTimeout(
            timeout_seconds=0.0,
            max_size=self.max_size,
            reason=(
                f"this handler's own run holds all {self._limit.value} connections, so acquire() would wait for "
                "ever: run it with fewer connections=, or raise max_size of the pool"
            ),
        )

    async def _wait_for_one(self, mailbox: str | None, until: float | None, patience: float | None) -> Connection:
        waiter = Waiter(mailbox, asyncio.get_running_loop().create_future(), holder.get())
        self._waiters.append(waiter)
        self._assign()
        try:
            async with asyncio.timeout_at(until):
                return await waiter.future
        except BaseException as error:
            # What the dialer raised is no timeout of ours, whatever its class.
            is_ours = isinstance(error, TimeoutError) and not waiter.was_told(error)
            self._forget(waiter)
            if is_ours:
                raise PoolTimeout(timeout_seconds=patience or 0.0, max_size=self.max_size) from None
            raise

    def _forget(self, waiter: Waiter) -> None:
        """A wait ended without a connection; one that was assigned in the same moment goes to the next."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
        future = waiter.future
        if future.done() and not future.cancelled() and future.exception() is None:
            self.give_back(future.result())
        future.cancel()

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

    async def _open_one(self) -> None:
        try:
            connection = await self._dialer()
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait get it
            self._opening -= 1
            self._failed_to_open(error)
            return
        except BaseException:
            self._opening -= 1
            raise
        self._opening -= 1
        self._opened += 1
        self._limit.succeed()
        self._watch(connection)
        self._idle.append(connection)
        if self._closed:
            self._idle.remove(connection)
            self._discard(connection)

    def _failed_to_open(self, error: Exception) -> None:
        now = asyncio.get_running_loop().time()
        working = len(self._leased) + len(self._idle)
        if isinstance(error, CommandError) and is_refusal(error) and not isinstance(error, AuthenticationFailed):
            self._limit.refuse(now, working + self._opening)
            self.events.emit(Refusal(error.text, self._limit.value))
        else:
            self._limit.fail(now)
        # The same answer awaits everybody, and asking again and again locks accounts.
        permanent = isinstance(error, AuthenticationFailed | CapabilityMissing) or not isinstance(error, ImapipeError)
        if permanent or not (working or self._opening):
            while self._waiters:
                self._waiters.popleft().fail(error)

    def _watch(self, connection: Connection) -> None:
        """Hear when it ends, and what it says of limits."""

        def lost(_: BaseException) -> None:
            if connection in self._idle:
                self._idle.remove(connection)
                self._discard(connection)

        connection.session.lost_listeners.append(lost)
        connection.session.on_status = throttle_listener(self.events)

    def _discard(self, connection: Connection) -> None:
        """Be rid of a connection: with a goodbye where it is good for that, and never waiting for it."""
        if connection.is_open and not connection.plane.is_busy and not self._closed:
            self._say_goodbye(connection)
        else:
            self._traffic.leave(connection.plane)
            connection.abort()

    def _say_goodbye(self, connection: Connection) -> None:
        self._traffic.leave(connection.plane)
        self._closing += 1
        self._start(self._log_out(connection))

    async def _log_out(self, connection: Connection) -> None:
        try:
            await connection.logout(CLOSE_SECONDS)
        finally:
            connection.abort()
            self._closing -= 1

    def _start(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            task.get_loop().call_exception_handler(
                {"message": "imapipe: a task of the pool failed", "exception": error}
            )
        self._assign()

    def _call_at(self, when: float) -> None:
        if self._wake is not None:
            self._wake.cancel()
        self._wake = asyncio.get_running_loop().call_at(when, self._assign)
