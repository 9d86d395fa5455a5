"""How connections of a pool begin and end: what the books decide is done here, in tasks that end with the pool.

Invariants:

- Whenever something ends (an attempt, a goodbye) the pool looks again, so nobody waits for a thing that nobody does.
- A refusal because of too many connections fails the waiting only when no connection works and none is being made, here
  or where slots are shared.
- Where slots are shared with other pools, each connection has one from before it is dialled until the server has ended
  it, too (`net.pool.parting`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import TypeAlias

from imapipe.errors import AuthenticationFailed, CommandError
from imapipe.models.event import Refusal
from imapipe.net.connection import Connection
from imapipe.net.pool.decisions import Decisions
from imapipe.net.pool.lease import Waiter
from imapipe.net.pool.parting import Handle
from imapipe.net.pool.pool_slots import PoolSlots
from imapipe.net.signals import is_one_too_many
from imapipe.net.traffic import Traffic, throttle_listener
from imapipe.net.transient import is_transient
from imapipe.runtime.defect import tell_defect
from imapipe.runtime.event_bus import EventBus

CLOSE_SECONDS = 2.0
Dialer: TypeAlias = Callable[[Handle | None], Awaitable[Connection]]
"""Makes a connection; where slots are shared, with sockets that the handle's `opener` opens."""


class ConnectionLives:
    """The beginnings and ends of the connections of one pool.

    Args:
        dialer: Makes a connection that is logged in.
        decisions: The books of the pool.
        slots: Its side of the slots that it shares.
        events: Where refusals and throttles are told.
        look_again: Looks what is to be done.
        fail_waiting: Fails everybody who waits, with an error.

    Attributes:
        is_closed: Whether the pool is: what was still being made is ended as soon as it is there.
        traffic: The counters of all connections.
    """

    __slots__ = (
        "_decisions",
        "_dialer",
        "_events",
        "_fail_waiting",
        "_look_again",
        "_openings",
        "_partings",
        "_slots",
        "_tasks",
        "is_closed",
        "traffic",
    )

    def __init__(
        self,
        dialer: Dialer,
        decisions: Decisions[Connection, Waiter],
        slots: PoolSlots,
        events: EventBus,
        *,
        look_again: Callable[[], None],
        fail_waiting: Callable[[Exception], None],
    ) -> None:
        self._dialer = dialer
        self._decisions = decisions
        self._slots = slots
        self._events = events
        self._look_again = look_again
        self._fail_waiting = fail_waiting
        self._partings = slots.partings
        self._tasks: set[asyncio.Task[None]] = set()
        self._openings: set[asyncio.Task[None]] = set()
        self.is_closed = False
        self.traffic = Traffic(lambda: (connection.plane for connection in (*decisions.idle, *decisions.leased)))

    def open_one(self) -> None:
        """Begin to make a connection, which is in the books as one that is being made."""
        handle = self._partings.begin() if self._slots.are_shared else None
        self._start(self._open(handle), among=self._openings, if_cancelled=partial(self._give_up, handle))

    def cancel_openings(self) -> None:
        """End the making of those that are not there yet."""
        self._partings.refuse()
        for task in tuple(self._openings):
            task.cancel()

    def cancel_tasks(self) -> None:
        """End all that is under way, but what waits for servers to end connections."""
        for task in tuple(self._tasks):
            task.cancel()

    async def finish(self) -> None:
        """Wait until nothing is under way any more; cancelling it ends that."""
        try:
            while tasks := (*self._tasks, *self._partings.tasks):
                await asyncio.wait(tasks)
        finally:
            for task in (*self._tasks, *self._partings.tasks):
                task.cancel()

    def watch(self, connection: Connection, handle: Handle | None = None) -> None:
        """Hear when it ends, and what it says of limits; it was made with a handle where slots are shared."""
        if self._slots.are_shared:
            self._partings.watch(connection, handle)

        def lost(_: BaseException) -> None:
            if self._decisions.lost(connection):
                self.abort(connection)
                # The pool looks again when that is over, and not at once: it may be lost in the middle of anything.
                self.settle(connection, counted=False)

        connection.session.lost_listeners.append(lost)
        connection.session.on_status = throttle_listener(self._events)

    def abort(self, connection: Connection) -> None:
        """End it without a goodbye; `settle` is to follow where it is not in the hands of the pool's closing."""
        self.traffic.leave(connection.plane)
        connection.abort()

    def say_goodbye(self, connection: Connection) -> None:
        """Log out, without waiting for it; the books have it as one that is being closed."""
        self.traffic.leave(connection.plane)

        def gone() -> None:
            connection.abort()
            self._decisions.closed()

        self._start(self._log_out(connection), always=gone)

    def settle(self, connection: Connection, *, counted: bool = True) -> None:
        """A connection was ended without a goodbye: its slot is not free yet.

        Args:
            connection: The connection.
            counted: Whether the books have it as one that is being closed.
        """
        if self._slots.are_shared:
            self._settle(self._partings.over(connection), counted=counted)

    def _settle(self, over: Coroutine[object, object, None], *, counted: bool) -> None:
        if not counted:
            self._decisions.closing()
        self._start(over, always=self._decisions.closed)

    async def _open(self, handle: Handle | None) -> None:
        try:
            connection = await self._dialer(handle)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait get it
            self._give_up(handle)
            self._failed_to_open(error)
            return
        self.watch(connection, handle)
        self._decisions.opened(connection)
        self._slots.made()
        if self.is_closed:
            self._decisions.lost(connection)
            self.abort(connection)
            self.settle(connection, counted=False)

    def _give_up(self, handle: Handle | None) -> None:
        """An attempt to make one has failed, or was cancelled."""
        self._decisions.failed_to_open()
        if handle is not None:
            self._partings.fail(handle)
            self._settle(handle.over(), counted=False)

    def _failed_to_open(self, error: Exception) -> None:
        now = asyncio.get_running_loop().time()
        has_company = self._decisions.has_company
        if isinstance(error, CommandError) and is_one_too_many(error) and not isinstance(error, AuthenticationFailed):
            # Others with whom slots are shared have those that there are.
            has_company = has_company or self._slots.are_shared
            self._decisions.refused(now)
            self._slots.refused()
            self._events.emit(Refusal(error.text, self._decisions.stats.limit))
        else:
            self._decisions.limit.fail(now)
        # The same answer awaits everybody, and asking again and again locks accounts.
        if not is_transient(error, fetching=False).transient or not has_company:
            self._fail_waiting(error)
        for waiter in self._decisions.waiting:
            waiter.refusal = error

    async def _log_out(self, connection: Connection) -> None:
        await connection.logout(CLOSE_SECONDS)
        # Behind the OK the server counts it still, until it has closed it.
        await self._partings.over(connection)

    def _start(
        self,
        work: Coroutine[object, object, None],
        *,
        among: set[asyncio.Task[None]] | None = None,
        if_cancelled: Callable[[], None] | None = None,
        always: Callable[[], None] | None = None,
    ) -> None:
        """Begin a task; what is called at its end is called also where it is cancelled before its first step."""
        task = asyncio.get_running_loop().create_task(work)
        tasks = self._tasks if among is None else among
        self._tasks.add(task)
        tasks.add(task)

        def ended(_: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            tasks.discard(task)
            if task.cancelled():
                if if_cancelled is not None:
                    if_cancelled()
            elif (error := task.exception()) is not None:
                tell_defect("a task of the pool failed", error)
            if always is not None:
                always()
            self._look_again()

        task.add_done_callback(ended)
