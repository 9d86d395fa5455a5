"""Handlers: what a job does with each message.

A handler is an `async def` that takes a message. It is called by `concurrency` workers; one that does not
wait for anything runs without a task of its own, so a call costs well under a microsecond.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable

import anyio.to_thread

from imapipe.models.batch import Failure
from imapipe.models.message import Message
from imapipe.net.pool import holder
from imapipe.pipeline.run import Run

Handler = Callable[[Message], Awaitable[object]]
_DETAIL_CHARACTERS = 500


def in_threads(function: Callable[[Message], object]) -> Handler:
    """Make a handler of a blocking function: each call runs in a worker thread.

    As many threads work as the `concurrency` of the run (and anyio's limit, 40) allows. Cancelling a run waits for the
    calls that are under way, because a thread cannot be stopped.

    Args:
        function: Takes a message; it is not called from the event loop's thread.
    """
    if inspect.iscoroutinefunction(function):
        raise TypeError(f"{_name(function)} is async already: hand it to run() as it is")

    @functools.wraps(function)
    async def handler(message: Message) -> object:
        return await anyio.to_thread.run_sync(function, message)

    return handler


def check_handler(handler: object) -> Handler:
    """Refuse what cannot be awaited, with advice. Raises TypeError."""
    call = handler if inspect.isroutine(handler) else getattr(handler, "__call__", None)  # noqa: B004
    while isinstance(handler, functools.partial):
        handler = handler.func
        call = handler
    if not callable(handler):
        raise TypeError(f"a handler is an async function that takes a message, not {handler!r}")
    if not (inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call)):
        raise TypeError(
            f"{_name(handler)} is not async: write it as `async def`, or wrap it in imapipe.in_threads(...) if it "
            "blocks, or imapipe.in_processes(...) if it computes"
        )
    return handler  # type: ignore[return-value]  # checked as far as Python can


async def handle_messages(run: Run, handler: Handler, *, raise_errors: bool) -> None:
    """One worker: handle messages until the inbox is closed."""
    holder.set(run)
    inbox = run.inbox
    items = inbox.items
    task = asyncio.current_task()
    while await inbox.wait():
        while items:
            flight, message = items.popleft()
            try:
                await handler(message)
            except Exception as error:
                flight.fail(message, failure_of(message, error))
                if raise_errors:
                    run.stop(error)
                    raise
            except asyncio.CancelledError as error:
                if task is None or task.cancelling():
                    raise
                # The handler cancelled itself (a timeout of its own, a task it awaited): that is its failure.
                flight.fail(message, failure_of(message, error))
            else:
                flight.settle(message)


def failure_of(message: Message, error: BaseException) -> Failure:
    """The failure of a message whose handler raised."""
    return Failure(message.uid, type(error).__name__, str(error)[:_DETAIL_CHARACTERS])


def _name(function: object) -> str:
    return getattr(function, "__qualname__", repr(function))
