"""Handlers: what a job does with each message, and the crew of workers that calls them.

A handler is an `async def` that takes a message. It is called by `concurrency` workers; one that does not
wait for anything runs without a task of its own, so a call costs well under a microsecond.

Invariants of a crew:

- When `work` returns or raises, the task that drives the run and all workers have ended.
- Cancelling `work` cancels all of them. A cancellation that comes from within a handler (it cancels itself, or awaits
  something that was cancelled) is the failure of its message, and the worker goes on.
- A worker keeps no message when it has nothing to do, so that large bodies are freed.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable

import anyio.to_thread

from imapipe.errors import ProtocolError
from imapipe.models.batch import Failure
from imapipe.models.message import Message
from imapipe.net.pool.lease import holder
from imapipe.pipeline.delivery.driven import Driven
from imapipe.pipeline.delivery.handler_retry import HandlerRetry, Tries
from imapipe.pipeline.delivery.inbox import Carrier
from imapipe.pipeline.delivery.tasks import end_tasks, raise_outcome

Handler = Callable[[Message], Awaitable[object]]
_DETAIL_CHARACTERS = 500
# Handlers that never wait must not keep the connections from being read for longer than about this.
_TURN_SECONDS = 0.02
_MESSAGES_PER_LOOK_AT_THE_CLOCK = 8


def in_threads(function: Callable[[Message], object]) -> Handler:
    """Make a handler of a blocking function: each call runs in a worker thread.

    As many threads work as the `concurrency` of the run (and anyio's limit, 40) allows. Cancelling a run waits for the
    calls that are under way, because a thread cannot be stopped; their messages are not acknowledged.

    Args:
        function: Takes a message; it is not called from the event loop's thread.
    """
    if inspect.iscoroutinefunction(function):
        raise TypeError(f"{_name(function)} is async already: hand it to run() as it is")

    @functools.wraps(function)
    async def handler(message: Message) -> object:
        call = asyncio.ensure_future(anyio.to_thread.run_sync(function, message))
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            while not call.done():
                try:
                    await asyncio.wait([call])
                except asyncio.CancelledError:
                    # Cancelled once more: the thread is still there, and nothing but waiting ends it.
                    continue
            if not call.cancelled():
                call.exception()
            raise

    return handler


def check_handler(handler: object) -> Handler:
    """Refuse what cannot be awaited, with advice. Raises TypeError."""
    inner = handler
    while isinstance(inner, functools.partial):
        inner = inner.func
    if not callable(handler) or not callable(inner) or inspect.isclass(inner):
        raise TypeError(f"a handler is an async function that takes a message, not {handler!r}")
    # What `()` calls on an object of a class of its own; mocks are known by themselves, not by their class.
    call = type(inner).__call__
    if inspect.isasyncgenfunction(inner) or inspect.isasyncgenfunction(call):
        raise TypeError(f"the handler {_name(inner)} is an async generator: let it return instead of yield")
    if not (inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(call)):
        raise TypeError(
            f"the handler {_name(inner)} is not async: make it `async def`, or wrap it with imapipe.in_threads(...) "
            "if it blocks, or imapipe.in_processes(...) if it computes"
        )
    return handler


class Crew:
    """Workers that handle the messages of a run.

    Args:
        run: The run.
        handler: What to call.
        concurrency: How many workers.
        raise_errors: End the run with what a handler raises, instead of recording it.
        retry: Call it again for messages that it failed with.
    """

    def __init__(
        self,
        run: Driven,
        handler: Handler,
        *,
        concurrency: int,
        raise_errors: bool,
        retry: HandlerRetry | None = None,
    ) -> None:
        self._run = run
        self._tries = Tries(retry, handler, run.events, run.give_up_handling) if retry is not None else None
        self._handler: Handler = self._tries or handler
        self._concurrency = concurrency
        self._raise_errors = raise_errors
        self._owner: asyncio.Task[object] | None = None
        self._cancellations_before = 0
        self._ending = False

    async def work(self) -> None:
        """Drive the run to its end. Raises what ends it, or what a handler raised."""
        self._owner = asyncio.current_task()
        if self._owner is not None:
            self._cancellations_before = self._owner.cancelling()
        driver = asyncio.create_task(self._run.drive(), name=f"imapipe run {self._run.mailbox}")
        # Cancelled before its first step it does nothing at all: the workers must not wait for it then.
        driver.add_done_callback(lambda _: self._run.inbox.close())
        workers = [
            asyncio.create_task(self._handle_messages(), name=f"imapipe handler {number}")
            for number in range(1, self._concurrency + 1)
        ]
        tasks = [driver, *workers]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            self._ending = True
            await end_tasks(tasks)
        raise_outcome(driver, workers, self._run.failure)

    async def _handle_messages(self) -> None:
        """One worker: handle messages until the inbox is closed."""
        run, handler, tries = self._run, self._handler, self._tries
        # An acquire() in a handler must not wait for a lease that this very run holds.
        holder.set(run)
        inbox = run.inbox
        items = inbox.items
        task = asyncio.current_task()
        assert task is not None
        clock = asyncio.get_running_loop().time
        handled = 0
        carrier: Carrier | None
        message: Message | None
        while await self._wait(task):
            turn_began = clock()
            while items:
                if tries is not None and tries.stands_still:
                    await self._go_on(tries, task)
                    continue
                carrier, message = items.popleft()
                if inbox.has_given_up:
                    carrier.abandon(message)
                    continue
                try:
                    await handler(message)
                except Exception as error:
                    carrier.fail(message, failure_of(message, error))
                    carrier.release(message)
                    if self._raise_errors:
                        message.discard()
                        run.stop(error)
                        raise
                    run.message_failed()
                except asyncio.CancelledError as error:
                    if self._is_ending:
                        carrier.abandon(message)
                        raise
                    _forgive(task)
                    carrier.fail(message, failure_of(message, error))
                    carrier.release(message)
                    run.message_failed()
                else:
                    carrier.finish(message)
                    if task.cancelling() and not self._is_ending:
                        # It cancelled itself and returned: that must not hit the next message.
                        await self._swallow(task)
                handled += 1
                if not handled % _MESSAGES_PER_LOOK_AT_THE_CLOCK and clock() - turn_began > _TURN_SECONDS:
                    await asyncio.sleep(0)
                    turn_began = clock()
            # Nothing to do for now: the last message is not to be kept.
            carrier = message = None

    @property
    def _is_ending(self) -> bool:
        """Whether a cancellation of a worker is ours; the task of `work` knows of one before it runs again."""
        owner = self._owner
        return self._ending or (owner is not None and owner.cancelling() > self._cancellations_before)

    async def _wait(self, task: asyncio.Task[None]) -> bool:
        while True:
            try:
                return await self._run.inbox.wait()
            except asyncio.CancelledError:
                if self._is_ending:
                    raise
                _forgive(task)

    async def _go_on(self, tries: Tries, task: asyncio.Task[None]) -> None:
        while tries.stands_still and not self._run.inbox.has_given_up:
            try:
                await tries.go_on()
            except asyncio.CancelledError:
                if self._is_ending:
                    raise
                _forgive(task)

    async def _swallow(self, task: asyncio.Task[None]) -> None:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            if self._is_ending:
                raise
        _forgive(task)


def failure_of(message: Message, error: BaseException) -> Failure:
    """The failure of a message whose handler raised; what the server got wrong has the same reason everywhere."""
    reason = "malformed" if isinstance(error, ProtocolError) else type(error).__name__
    return Failure(message.uid, reason, str(error)[:_DETAIL_CHARACTERS])


def _forgive(task: asyncio.Task[None]) -> None:
    while task.cancelling():
        task.uncancel()


def _name(function: object) -> str:
    return getattr(function, "__qualname__", None) or repr(function)
