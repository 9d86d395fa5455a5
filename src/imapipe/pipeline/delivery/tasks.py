"""Tasks that end together."""

from __future__ import annotations

import asyncio


async def end_tasks(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they have ended, even when the wait is cancelled again and again."""
    interrupted: asyncio.CancelledError | None = None
    for task in tasks:
        if not task.done():
            task.cancel()
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError as error:
            interrupted = error
    if interrupted is not None:
        raise interrupted


def error_of(task: asyncio.Task[None]) -> BaseException | None:
    """What a task that has ended raised, or None."""
    return None if task.cancelled() else task.exception()
