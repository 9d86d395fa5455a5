"""Work that is not to be left half done because somebody stops waiting for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final, TypeVar

T = TypeVar("T")

LIMIT_SECONDS: Final = 30.0


async def to_the_end(work: Awaitable[T], *, limit_seconds: float = LIMIT_SECONDS) -> T:
    """Await work until it has ended, however often the waiting task is cancelled meanwhile.

    A cancellation is raised when the work has ended; an error of the work is then its cause. From the first one on the
    work has `limit_seconds` left, after which it is cancelled too.
    """
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    cancellation: asyncio.CancelledError | None = None
    ends_at: float | None = None
    while not task.done():
        try:
            await asyncio.wait([task], timeout=None if ends_at is None else max(0.0, ends_at - loop.time()))
        except asyncio.CancelledError as cancelled:
            if cancellation is None:
                cancellation = cancelled
                ends_at = loop.time() + limit_seconds
        if ends_at is not None and loop.time() >= ends_at and not task.done():
            task.cancel()
            ends_at = None
    if cancellation is None:
        return task.result()
    raise cancellation from (None if task.cancelled() else task.exception())
