"""Reservations of what may pass per second, from rows of the database.

A row says when the next thing may pass (the virtual scheduling form of a leaky bucket): to reserve is one statement, by
the clock of the database, and whoever asked waits on his own. Nobody asks twice, and the order is that of row locks.

Invariants:

- One thread with a connection of its own asks; the event loop waits for nothing but the answer.
- An answer that was lost with its connection costs what it reserved: less passes than may, never more.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from imapipe.cluster.outage import Outage
from imapipe.database import Connection, Database, Value
from imapipe.errors import DatabaseError
from imapipe.limits.shared_rate_limit import Listener, Reservation
from imapipe.runtime.clock import uptime

_RESERVE: Final = """UPDATE imapipe_rates SET used_ms = now_ms(), due_us = :cost +
    CASE WHEN due_us > now_ms() * 1000 - :credit THEN due_us ELSE now_ms() * 1000 - :credit END
    WHERE account = :account AND name = :name RETURNING due_us - now_ms() * 1000"""
_BEGIN: Final = """INSERT INTO imapipe_rates (account, name, due_us, used_ms)
    VALUES (:account, :name, 0, now_ms()) ON CONFLICT (account, name) DO NOTHING"""


@dataclass(frozen=True, slots=True)
class _RateRequest:
    """What somebody wants to reserve."""

    account: str
    name: str
    cost_us: int
    credit_us: int
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[tuple[float, float]]

    def reply(self, what: Callable[[], None]) -> None:
        """Do something with the answer, in its loop, unless nobody waits for it."""

        def give() -> None:
            if not self.answer.done():
                what()

        with suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(give)

    def fail(self, error: Exception) -> None:
        """There is none."""
        self.reply(lambda: self.answer.set_exception(error))


class Reservations:
    """Reserves for all rates of a process (`limits.shared_rate_limit.Reservations`).

    Args:
        database: Where the rows are.
        wait_seconds: How long a database that does not work is waited for.
    """

    def __init__(self, database: Database, *, wait_seconds: float) -> None:
        self._database = database
        self._outage = Outage("batches", wait_seconds)
        self._requests: queue.SimpleQueue[_RateRequest | None] = queue.SimpleQueue()
        self._listeners: dict[object, tuple[asyncio.AbstractEventLoop, Listener]] = {}
        self._thread: threading.Thread | None = None
        self._is_closed = threading.Event()

    async def reserve(self, account: str, name: str, *, cost_seconds: float, credit_seconds: float) -> Reservation:
        """Reserve what takes so long to flow in. Cancelled meanwhile, it may be reserved for nobody.

        Raises:
            DatabaseError: The database did not work for `wait_seconds`.
            RuntimeError: The limits are closed.
        """
        if self._is_closed.is_set():
            raise RuntimeError("these limits are closed")
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="imapipe rates", daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        request = _RateRequest(
            account, name, round(cost_seconds * 1e6), round(credit_seconds * 1e6), loop, loop.create_future()
        )
        self._requests.put(request)
        made_at, seconds = await request.answer
        return Reservation(loop.time() - (uptime() - made_at), seconds)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Tell a listener, in the running event loop, while the database is waited for."""
        key = object()
        self._listeners[key] = (asyncio.get_running_loop(), listener)

        def unsubscribe() -> None:
            self._listeners.pop(key, None)

        return unsubscribe

    def close(self) -> None:
        """End the thread; blocks until it has ended. Who waits still is told."""
        self._is_closed.set()
        self._requests.put(None)
        if self._thread is not None:
            self._thread.join()

    def _serve(self) -> None:
        connection: Connection | None = None
        while (request := self._requests.get()) is not None and not self._is_closed.is_set():
            while not request.answer.done():
                try:
                    connection = connection or self._database.connect()
                    self._answer(connection, request)
                    self._outage.ended()
                    break
                except DatabaseError as error:
                    if connection is not None:
                        connection.close()
                    connection = None
                    is_waited_for = self._outage.failed(error)
                    self._tell(str(error), self._outage.lasted_seconds)
                    if not is_waited_for:
                        request.fail(error)
                        break
                    if self._is_closed.wait(self._outage.pause_seconds(error)):
                        break
        if connection is not None:
            connection.close()
        self._end(request)

    def _answer(self, connection: Connection, request: _RateRequest) -> None:
        parameters: dict[str, Value] = {
            "account": request.account,
            "name": request.name,
            "cost": request.cost_us,
            "credit": request.credit_us,
        }
        rows = connection.query(_RESERVE, parameters)
        if not rows:
            connection.execute(_BEGIN, {"account": request.account, "name": request.name})
            rows = connection.query(_RESERVE, parameters)
        answer = uptime(), rows[0][0] / 1e6
        request.reply(lambda: request.answer.set_result(answer))

    def _tell(self, reason: str, lasted_seconds: float) -> None:
        for loop, listener in tuple(self._listeners.values()):
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(listener, reason, lasted_seconds)

    def _end(self, request: _RateRequest | None) -> None:
        """Nobody is to wait for an answer that does not come."""
        error = RuntimeError("these limits are closed")
        with suppress(queue.Empty):
            while True:
                if request is not None:
                    request.fail(error)
                request = self._requests.get_nowait()
