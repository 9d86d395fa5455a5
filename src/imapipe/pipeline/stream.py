"""Iterating over a run: `async for message in pipeline`, `pipeline.stream()`, `pipeline.batches()`.

The run is driven by a task of its own, never from inside an async generator; the iterator takes
messages from the run's inbox.

Invariants:

- A message is acknowledged when its consumer asks for the next one. `break` leaves the last one unacknowledged;
  for batches that is the whole last batch.
- An iterator that is dropped without being closed (`break` out of a bare `async for`) cancels its run, which gives
  back its leases and saves; the pool waits for that when it closes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextvars import Token
from types import TracebackType
from typing import Literal as Choice
from typing import Self

from imapipe.errors import Incomplete
from imapipe.models.message import Message
from imapipe.models.report import RunReport
from imapipe.net.pool import Holder, holder
from imapipe.pipeline.flight import Flight
from imapipe.pipeline.run import Run

OnError = Choice["record", "raise"]


class Runs:
    """The runs that are driven by tasks of their own, so that a pool can end them when it closes."""

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, run: Run) -> asyncio.Task[None]:
        """Drive a run."""
        task = asyncio.get_running_loop().create_task(run.drive(), name=f"imapipe run {run.mailbox}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Whoever iterates gets it from the task; a dropped iterator leaves nobody to tell.
            task.exception()

    async def close(self) -> None:
        """Cancel what still runs and wait until it has saved."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


class _Driven:
    """A run and the task that drives it; what both kinds of iterators share."""

    __slots__ = ("_driver", "_ended", "_holding", "_on_error", "_run", "_runs")

    def __init__(self, run: Run, runs: Runs, on_error: OnError) -> None:
        if on_error not in ("record", "raise"):
            raise ValueError(f'on_error must be "record" or "raise", not {on_error!r}')
        self._run = run
        self._runs = runs
        self._on_error = on_error
        self._driver: asyncio.Task[None] | None = None
        self._holding: Token[Holder | None] | None = None
        self._ended = False

    @property
    def report(self) -> RunReport:
        """What became of the run so far; final once the iteration has ended."""
        return self._run.report()

    async def _more(self) -> bool:
        """Wait for something in the inbox; at the end raise what the run raised."""
        if self._ended:
            return False
        if self._driver is None:
            self._driver = self._runs.start(self._run)
            # An acquire() in the body of the loop would wait for a lease that this very loop holds.
            self._holding = holder.set(self._run)
        if self._run.inbox.items or await self._run.inbox.wait():
            return True
        self._ended = True
        self._let_go()
        await self._driver
        return False

    def _finish(self) -> None:
        report = self._run.report()
        if self._on_error == "raise" and not report.complete:
            raise Incomplete(report)

    def _let_go(self) -> None:
        if self._holding is not None and holder.get() is self._run:
            holder.set(None)
        self._holding = None

    async def aclose(self) -> None:
        """End the run: cancel what is under way, give back the leases, save."""
        self._ended = True
        self._let_go()
        if self._driver is not None and not self._driver.done():
            self._driver.cancel()
            await asyncio.wait([self._driver])
        if self._driver is not None and not self._driver.cancelled():
            error = self._driver.exception()
            if error is not None:
                raise error

    def __del__(self) -> None:
        driver = self._driver
        if driver is not None and not driver.done() and not driver.get_loop().is_closed():
            driver.get_loop().call_soon_threadsafe(driver.cancel)


class Stream(_Driven):
    """An async context manager and iterator over the messages of a run.

    In the block iterate once; afterwards `report` is final. Leaving the block early ends the run: what was not
    acknowledged is tried again by the next one.
    """

    __slots__ = ("_current",)

    def __init__(self, run: Run, runs: Runs, on_error: OnError) -> None:
        super().__init__(run, runs, on_error)
        self._current: tuple[Flight, Message] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.aclose()
        except Exception:
            # The body's own exception says more than what the run ended with because of it.
            if error is None:
                raise

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        current = self._current
        if current is not None:
            self._current = None
            current[0].settle(current[1])
        items = self._run.inbox.items
        if not items and not await self._more():
            self._finish()
            raise StopAsyncIteration
        self._current = current = items.popleft()
        return current[1]


class BatchStream(_Driven):
    """An async iterator over lists of messages, each list acknowledged when the next one is asked for.

    A list holds the messages of one batch; it is cut when what is held reaches half of the connection's cap, so
    that a slow consumer cannot stop the run.
    """

    __slots__ = ("_current",)

    def __init__(self, run: Run, runs: Runs, on_error: OnError) -> None:
        super().__init__(run, runs, on_error)
        self._current: list[tuple[Flight, Message]] = []

    def __aiter__(self) -> AsyncIterator[list[Message]]:
        return self

    async def __anext__(self) -> list[Message]:
        current, self._current = self._current, []
        for flight, message in current:
            flight.settle(message)
        current.clear()
        items = self._run.inbox.items
        if not items and not await self._more():
            self._finish()
            raise StopAsyncIteration
        flight = items[0][0]
        while items and items[0][0] is flight:
            self._current.append(items.popleft())
        return [message for _, message in self._current]
