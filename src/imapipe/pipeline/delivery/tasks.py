"""Tasks that end together."""

from __future__ import annotations

import asyncio
from typing import NoReturn


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


def raise_outcome(driver: asyncio.Task[None], others: list[asyncio.Task[None]], failure: BaseException | None) -> None:
    """Raise what ended a run whose tasks have all ended; nothing where it came to its end.

    Args:
        driver: The task that drove it.
        others: Those of its consumer.
        failure: The run's own first error, which counts before all others.
    """
    # All of them are asked: asyncio complains of an exception that nobody has seen.
    errors = [error for task in (driver, *others) if not task.cancelled() and (error := task.exception()) is not None]
    error = failure or (errors[0] if errors else None)
    if error is not None:
        raise error
    if driver.cancelled():
        raise asyncio.CancelledError


def first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first exception in a group, however deep."""
    first = group.exceptions[0]
    return first_cause(first) if isinstance(first, BaseExceptionGroup) else first


def raise_first(group: BaseExceptionGroup[BaseException]) -> NoReturn:
    """Raise the first exception in a group; `from None` would take from it what it was raised from."""
    first = first_cause(group)
    raise first from first.__cause__
