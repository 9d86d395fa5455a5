"""The pool: the connections of one account, leased one at a time, fairly.

Decisions are made in `_assign`, which is synchronous and does no I/O: it hands idle connections to the waiting
in their order, says how many connections to open and which to close. The I/O happens afterwards in tasks of the
pool, which end with it.

Invariants:

- `leased + idle + opening <= limit <= max_size`, except that a limit lowered by a refusal never takes a lease away.
- A connection is leased to one holder, comes back clean or is thrown away, and is never handed out when there is
  doubt: a command in flight, IDLE open, a command whose effect we do not follow, too old, silent for too long.
- Waiting is first come, first served. A wait that is cancelled or times out leaves nothing behind: a
  connection that was assigned in the same moment goes to the next.
- A refusal because of too many connections lowers the limit to what works, and the limit grows again by one at
  a time (AIMD). It fails a waiting holder only when no connection works.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from imapipe.errors import (
    AuthenticationFailed,
    CapabilityMissing,
    CommandError,
    ConnectionLost,
    ImapipeError,
    PoolClosed,
    PoolTimeout,
)
from imapipe.models.event import EventBus, Refusal, Throttle
from imapipe.net.connection import Connection
from imapipe.net.signals import is_refusal, is_throttle_text
from imapipe.wire.response import Code

IDLE_CHECK_SECONDS = 30.0
REFUSED_PAUSE_SECONDS = 15.0
FAILED_PAUSE_SECONDS = 1.0
CLOSE_SECONDS = 2.0

Dialer = Callable[[], Awaitable[Connection]]


class Holder(Protocol):
    """Somebody who holds leases while other code of his runs: a run, while its handlers do."""

    @property
    def leases_held(self) -> int:
        """How many leases he holds now."""


holder: ContextVar[Holder | None] = ContextVar("imapipe_holder", default=None)
"""Whose code is running: set around the handlers of a run, so that they cannot wait for themselves."""


@dataclass(frozen=True, slots=True)
class PoolStats:
    """The pool at one moment.

    Attributes:
        max_size: What the pool may hold.
        limit: What it holds at most for now; below `max_size` after a refusal.
        leased: Connections in use.
        idle: Connections waiting for use.
        opening: Connections being made.
        waiting: Callers of `acquire` in the queue.
        opened: Connections made since the start.
        refused: How often the server had too many.
    """

    max_size: int
    limit: int
    leased: int
    idle: int
    opening: int
    waiting: int
    opened: int
    refused: int


@dataclass(slots=True, eq=False)
class _Waiter:
    mailbox: str | None
    future: asyncio.Future[Connection]


class ConnectionPool:
    """Connections of one account.

    Args:
        dialer: Makes a connection that is logged in.
        max_size: The most connections at a time.
        acquire_timeout_seconds: How long `acquire` waits; None is for ever.
        events: Where refusals and throttles are told.
    """

    def __init__(
        self,
        dialer: Dialer,
        *,
        max_size: int = 4,
        acquire_timeout_seconds: float | None = 60.0,
        events: EventBus | None = None,
    ) -> None:
        if max_size < 1:
            raise ValueError(f"max_size must be 1 or more, not {max_size}")
        self._dialer = dialer
        self.max_size = max_size
        self.acquire_timeout_seconds = acquire_timeout_seconds
        self.events = events or EventBus()
        self._limit = max_size
        self._idle: list[Connection] = []
        self._leased: set[Connection] = set()
        self._opening = 0
        self._waiters: deque[_Waiter] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._hold_until = 0.0
        self._grow_at = 0.0
        self._wake: asyncio.TimerHandle | None = None
        self._opened = 0
        self._refused = 0
        self._finished_wire_bytes = 0

    # -- for holders -----------------------------------------------------------------------------

    @property
    def stats(self) -> PoolStats:
        """How it stands."""
        return PoolStats(
            max_size=self.max_size,
            limit=self._limit,
            leased=len(self._leased),
            idle=len(self._idle),
            opening=self._opening,
            waiting=len(self._waiters),
            opened=self._opened,
            refused=self._refused,
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
        """
        if self._closed:
            raise PoolClosed
        self._refuse_self_wait()
        patience = timeout_seconds if timeout_seconds is not None else self.acquire_timeout_seconds
        loop = asyncio.get_running_loop()
        until = None if patience is None else loop.time() + patience
        while True:
            connection = await self._wait_for_one(mailbox, until, patience)
            if await self._is_alive(connection):
                return connection

    def give_back(self, connection: Connection) -> None:
        """Return a lease. Synchronous: it can be called whatever is going on."""
        self._leased.discard(connection)
        now = asyncio.get_running_loop().time()
        if self._closed or not connection.is_clean or now >= connection.expires_at:
            self._discard(connection)
        else:
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
        return self._finished_wire_bytes + sum(c.plane.wire_bytes for c in (*self._idle, *self._leased))

    async def close(self) -> None:
        """Fail the waiting, end what is being opened, log out what is idle, throw away what is leased."""
        if self._closed:
            return
        self._closed = True
        if self._wake is not None:
            self._wake.cancel()
        for waiter in self._waiters:
            if not waiter.future.done():
                waiter.future.set_exception(PoolClosed())
        self._waiters.clear()
        for task in tuple(self._tasks):
            task.cancel()
        for connection in tuple(self._leased):
            connection.abort(ConnectionLost("the pool was closed"))
        idle, self._idle = self._idle, []
        tasks = [asyncio.create_task(self._log_out(connection)) for connection in idle]
        try:
            await asyncio.gather(*tasks, *self._tasks, return_exceptions=True)
        finally:
            for connection in idle:
                connection.abort()

    # -- deciding (no I/O) -----------------------------------------------------------------------

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
        self._grow(now)
        wanted = len(self._waiters) - self._opening
        room = self._limit - len(self._leased) - len(self._idle) - self._opening
        if wanted <= 0 or room <= 0:
            return
        if now < self._hold_until:
            self._call_later(self._hold_until - now)
            return
        for _ in range(min(wanted, room)):
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

    def _grow(self, now: float) -> None:
        if self._limit < self.max_size and now >= self._grow_at:
            self._limit += 1
            self._grow_at = now + REFUSED_PAUSE_SECONDS

    def _refuse_self_wait(self) -> None:
        run = holder.get()
        if run is not None and run.leases_held >= self._limit and not self._idle:
            raise PoolTimeout(
                timeout_seconds=0.0,
                max_size=self.max_size,
                reason=(
                    f"this handler's own run holds all {self._limit} connections, so acquire() would wait for ever: "
                    "run it with fewer connections=, or raise max_size of the pool"
                ),
            )

    # -- doing -----------------------------------------------------------------------------------

    async def _wait_for_one(self, mailbox: str | None, until: float | None, patience: float | None) -> Connection:
        waiter = _Waiter(mailbox, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        self._assign()
        try:
            async with asyncio.timeout_at(until):
                return await waiter.future
        except BaseException as error:
            self._forget(waiter)
            if isinstance(error, TimeoutError) and not isinstance(error, ImapipeError):
                raise PoolTimeout(timeout_seconds=patience or 0.0, max_size=self.max_size) from None
            raise

    def _forget(self, waiter: _Waiter) -> None:
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
        error: Exception | None = None
        connection: Connection | None = None
        try:
            connection = await self._dialer()
        except Exception as failed:
            error = failed
        finally:
            self._opening -= 1
        if connection is not None:
            self._opened += 1
            self._watch(connection)
            if self._closed:
                self._discard(connection)
                return
            self._idle.append(connection)
        elif error is not None:
            self._failed_to_open(error)
        self._assign()

    def _failed_to_open(self, error: Exception) -> None:
        now = asyncio.get_running_loop().time()
        working = len(self._leased) + len(self._idle)
        if isinstance(error, CommandError) and is_refusal(error) and not isinstance(error, AuthenticationFailed):
            self._refused += 1
            self._limit = max(1, min(self._limit, working + self._opening))
            self._hold_until = now + REFUSED_PAUSE_SECONDS
            self._grow_at = now + REFUSED_PAUSE_SECONDS
            self.events.emit(Refusal(error.text, self._limit))
        else:
            self._hold_until = now + FAILED_PAUSE_SECONDS
        permanent = isinstance(error, AuthenticationFailed | CapabilityMissing) or not isinstance(error, ImapipeError)
        if permanent:
            # The same answer awaits everybody, and asking again and again locks accounts.
            while self._waiters:
                self._fail(self._waiters.popleft(), error)
        elif not working and not self._opening and self._waiters:
            self._hold_until = 0.0
            self._fail(self._waiters.popleft(), error)

    @staticmethod
    def _fail(waiter: _Waiter, error: Exception) -> None:
        if not waiter.future.done():
            waiter.future.set_exception(error)

    def _watch(self, connection: Connection) -> None:
        """Hear when it ends, and what it says of limits."""

        def lost(_: BaseException) -> None:
            if connection in self._idle:
                self._idle.remove(connection)
                self._discard(connection)

        def status(kind: str, code: Code | None, text: str) -> None:
            throttled = code is not None and code.name in ("THROTTLED", "LIMIT", "OVERQUOTA")
            if is_throttle_text(text) or throttled:
                self.events.emit(Throttle(kind, text))

        connection.session.lost_listeners.append(lost)
        connection.session.on_status = status

    def _discard(self, connection: Connection) -> None:
        self._finished_wire_bytes += connection.plane.wire_bytes
        if connection.is_open and not connection.plane.is_busy and not self._closed:
            self._start(self._log_out(connection))
        else:
            connection.abort()

    @staticmethod
    async def _log_out(connection: Connection) -> None:
        try:
            await connection.logout(CLOSE_SECONDS)
        finally:
            connection.abort()

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)  # type: ignore[arg-type]  # ensure_future of a coroutine is a task
        task.add_done_callback(self._tasks.discard)  # type: ignore[arg-type]

    def _call_later(self, seconds: float) -> None:
        if self._wake is not None:
            self._wake.cancel()
        self._wake = asyncio.get_running_loop().call_later(seconds, self._assign)
