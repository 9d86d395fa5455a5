"""Iterating over a run: `async for message in pipeline`, `pipeline.stream()`, `pipeline.batches()`.

The run is driven by a task of its own, never from inside an async generator; the iterator takes
messages from the run's inbox.

Invariants:

- A message is acknowledged when its consumer asks for the next one. `break` leaves the last one unacknowledged;
  for batches that is the whole last batch.
- An iterator that is dropped without being closed (`break` out of a bare `async for`) cancels its run, which gives
  back its leases and saves. A run that begins later on the same pool waits for that, and so does the pool when it
  closes.
- A task that drives a run is cancelled once: a second cancellation could come between it and what it saves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Literal as Choice
from typing import Self

from imapipe.errors import PoolClosed
from imapipe.models.message import Message
from imapipe.models.report import Incomplete, RunReport
from imapipe.net.pool.lease import Holder, holder
from imapipe.pipeline.delivery.driven import Driven
from imapipe.pipeline.delivery.handlers import failure_of
from imapipe.pipeline.delivery.inbox import Delivery
from imapipe.runtime.closing import EndsWithBlock

OnError = Choice["record", "raise"]


class Runs:
    """The runs of a pool that are driven by tasks of their own."""

    __slots__ = ("_dropped", "_tasks")

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._dropped: set[asyncio.Task[None]] = set()

    def start(self, run: Driven) -> asyncio.Task[None]:
        """Drive a run, once those that were dropped have ended."""
        task = self.keep(run.drive(), f"imapipe run {run.mailbox}")
        # A task that is cancelled before its first step does nothing at all: nobody may wait for it then.
        task.add_done_callback(lambda _: run.inbox.close())
        return task

    def keep(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        """Do something in a task of its own, once those that were dropped have ended; closing ends it."""
        task = asyncio.get_running_loop().create_task(self._after_dropped(work), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        # Where the task is cancelled before it has begun with it.
        task.add_done_callback(lambda _: work.close())
        return task

    async def _after_dropped(self, work: Coroutine[object, object, None]) -> None:
        await self.wait_for_dropped()
        await work

    async def wait_for_dropped(self) -> None:
        """Wait until runs whose iterators were dropped have saved and given up their locks."""
        while self._dropped:
            await asyncio.wait(self._dropped)

    def drop(self, task: asyncio.Task[None]) -> None:
        """Nobody iterates over this run any more. May be called from any thread (a garbage collector does)."""
        loop = task.get_loop()
        if task.done() or loop.is_closed():
            return
        self._dropped.add(task)
        loop.call_soon_threadsafe(_cancel, task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._dropped.discard(task)
        if not task.cancelled():
            # Whoever iterates gets it from the task; a dropped iterator leaves nobody to tell.
            task.exception()

    async def close(self) -> None:
        """Cancel what still runs and wait until it has saved."""
        for task in tuple(self._tasks):
            _cancel(task)
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))


class _Iterator(EndsWithBlock):
    """A run and the task that drives it; what both kinds of iterators share.

    An async context manager: leaving the block early ends the run, and what was not acknowledged is tried again by
    the next one.
    """

    __slots__ = ("_driver", "_ended", "_holder_before", "_is_asked", "_on_error", "_run", "_runs")

    def __init__(self, run: Driven, runs: Runs, on_error: OnError) -> None:
        self._run = run
        self._runs = runs
        self._on_error = on_error
        self._driver: asyncio.Task[None] | None = None
        self._holder_before: Holder | None = None
        self._ended = False
        self._is_asked = False

    @property
    def report(self) -> RunReport:
        """What became of the run so far; final once the iteration has ended."""
        return self._run.report()

    def _refuse_a_second_consumer(self) -> None:
        """To ask is to acknowledge what one got before; of two who ask, nobody could say whose that was."""
        if self._is_asked:
            raise RuntimeError(
                "two tasks iterate over one stream: let one of them do it, or use run(handler, concurrency=...)"
            )

    async def _more(self) -> bool:
        """Wait for something in the inbox; at the end raise what the run raised, or `Incomplete`."""
        self._is_asked = True
        try:
            return await self._wait_for_more()
        finally:
            self._is_asked = False

    async def _wait_for_more(self) -> bool:
        if self._ended:
            return False
        if self._driver is None:
            self._driver = self._runs.start(self._run)
            # An acquire() in the body of the loop would wait for a lease that this very loop holds.
            self._holder_before = holder.get()
            holder.set(self._run)
        if await self._run.inbox.wait():
            return True
        # Not awaited itself: whoever cancels us now must not cancel what it saves.
        await asyncio.wait([self._driver])
        self._ended = True
        self._let_go()
        if self._driver.cancelled():
            # It was the pool that ended it, not whoever iterates.
            raise PoolClosed
        self._driver.result()
        report = self._run.report()
        if self._on_error == "raise" and not report.complete:
            raise Incomplete(report)
        return False

    def _let_go(self) -> None:
        if holder.get() is self._run:
            holder.set(self._holder_before)
        self._holder_before = None

    async def aclose(self) -> None:
        """End the run: cancel what is under way, give back the leases, save. Raises what saving raised."""
        if self._driver is None or self._ended:
            self._ended = True
            return
        self._ended = True
        self._let_go()
        self._release_current()
        _cancel(self._driver)
        await asyncio.wait([self._driver])
        if not self._driver.cancelled():
            self._driver.result()

    def _release_current(self) -> None:
        """What was given last counts as held no more. It is its reader's, with its files."""
        raise NotImplementedError

    def __del__(self) -> None:
        if self._driver is not None:
            self._let_go()
            self._runs.drop(self._driver)


class Stream(_Iterator):
    """An iterator over the messages of a run, to be used once; afterwards `report` is final."""

    __slots__ = ("_current", "_current_has_failed")

    def __init__(self, run: Driven, runs: Runs, on_error: OnError) -> None:
        super().__init__(run, runs, on_error)
        self._current: Delivery | None = None
        self._current_has_failed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        self._refuse_a_second_consumer()
        self._let_current_go()
        items = self._run.inbox.items
        if self._ended or (not items and not await self._more()):
            raise StopAsyncIteration
        self._current = delivery = items.popleft()
        self._current_has_failed = False
        return delivery[1]

    def fail(self, message: Message, error: BaseException) -> None:
        """The message that came last has failed, with `error` as the reason; asking for the next one goes on.

        Raises:
            ValueError: It is not the message that came last, or its outcome is settled already.
        """
        if self._current is None or self._current[1] is not message or self._current_has_failed or self._ended:
            raise ValueError(f"fail() takes the message that came last; that of UID {message.uid} is settled already")
        self._current_has_failed = True
        self._current[0].fail(message, failure_of(message, error))
        self._run.message_failed()

    def _release_current(self) -> None:
        current, self._current = self._current, None
        if current is not None:
            current[0].release(current[1])

    def _let_current_go(self) -> None:
        current, self._current = self._current, None
        if current is None or self._ended:
            return
        carrier, message = current
        if not self._current_has_failed:
            carrier.settle(message)
        carrier.release(message)


class BatchStream(_Iterator):
    """An iterator over lists of messages, each list acknowledged when the next one is asked for.

    A list holds the messages of one batch; it is cut when what is held reaches half of the connection's cap, so
    that a slow consumer cannot stop the run.
    """

    __slots__ = ("_current", "_failed")

    def __init__(self, run: Driven, runs: Runs, on_error: OnError) -> None:
        super().__init__(run, runs, on_error)
        self._current: list[Delivery] = []
        self._failed: set[int] = set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Message]:
        self._refuse_a_second_consumer()
        self._let_current_go()
        items = self._run.inbox.items
        if self._ended or (not items and not await self._more()):
            raise StopAsyncIteration
        first = items[0][0]
        while items and items[0][0] is first:
            self._current.append(items.popleft())
        return [message for _, message in self._current]

    def fail(self, message: Message, error: BaseException) -> None:
        """A message of the list that came last has failed; the others of the list are acknowledged all the same.

        Raises:
            ValueError: It is not in that list, or has failed already.
        """
        carrier = next((carrier for carrier, one in self._current if one is message), None)
        if carrier is None or message.uid in self._failed or self._ended:
            raise ValueError(f"fail() takes a message of the last batch; that of UID {message.uid} is settled already")
        self._failed.add(message.uid)
        carrier.fail(message, failure_of(message, error))
        self._run.message_failed()

    def _release_current(self) -> None:
        current, self._current = self._current, []
        for carrier, message in current:
            carrier.release(message)

    def _let_current_go(self) -> None:
        current, self._current = self._current, []
        failed, self._failed = self._failed, set()
        if self._ended:
            return
        for carrier, message in current:
            if message.uid not in failed:
                carrier.settle(message)
            carrier.release(message)


def _cancel(task: asyncio.Task[None]) -> None:
    if not task.done() and not task.cancelling():
        task.cancel()
