"""Something done again and again beside a run, in a task of its own.

Invariants:

- A ticker owns one task, from `start` to the end of `stop`. It is no task group: a ticker may be started in one
  task and stopped in another, and across the `yield` of an async generator.
- Ticks never overlap: the time between two is counted from the end of one to the start of the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

Tick = Callable[[], Awaitable[None]]


class Ticker:
    """Awaits `tick` every `every_seconds`, the first time after that long.

    A tick that raises ends the ticking; `stop` raises what it raised.
    """

    __slots__ = ("_every", "_name", "_task", "_tick")

    def __init__(self, tick: Tick, every_seconds: float, *, name: str) -> None:
        if every_seconds <= 0:
            raise ValueError("the time between two ticks must be above 0 seconds")
        self._tick = tick
        self._every = every_seconds
        self._name = name
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in the running loop.

        Raises:
            RuntimeError: It has begun already.
        """
        if self._task is not None:
            raise RuntimeError(f"{self._name} is running already")
        self._task = asyncio.get_running_loop().create_task(self._run(), name=self._name)

    def cancel(self) -> None:
        """Let no tick begin any more, and cancel the one under way; `stop` waits for it."""
        if self._task is not None:
            self._task.cancel()

    async def stop(self) -> None:
        """Cancel and wait until the task has ended.

        Cancelled while it waits, it leaves a task that is cancelled too and ends by itself.
        """
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        # wait() does not raise what the task raises, so a cancellation seen here is our own.
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            await self._tick()
