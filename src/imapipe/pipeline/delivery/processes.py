"""CPU-bound handlers in worker processes.

Each process is a `multiprocessing` one, started by spawning, with a pipe to it; a thread waits for its answer.
(Executors of the standard library lose every call when one process dies, and anyio's process pool leaves a process
behind that is cancelled while it starts.)

Invariants:

- A process serves one call at a time. One that dies fails the call that is in it, and is replaced for the next.
- A call that is cancelled kills its process, also while that is still starting.
- What cannot cross between the processes (an argument, a result, an exception) fails its call, and nothing else.
- A worker has no password in its environment.
- Processes that have nothing to do end with the run that used them, or when the handler is collected.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import pickle
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio.to_thread

from imapipe.errors import WorkerDied
from imapipe.models.message import Message
from imapipe.runtime.environment import secret_variables

if TYPE_CHECKING:
    from multiprocessing.connection import Connection as Pipe


class _Worker:
    """One process and the pipe to it."""

    __slots__ = ("_pipe", "_process")

    def __init__(self, function: Callable[..., object]) -> None:
        # Most jobs never need it.
        from multiprocessing import get_context  # noqa: PLC0415

        spawn = get_context("spawn")
        self._pipe, far_end = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(far_end, function), daemon=True, name="imapipe worker")
        self._process.start()
        far_end.close()

    def call(self, argument: object) -> object:
        """Send an argument and wait for the answer; runs in a thread."""
        # Apart from the pipe: what goes wrong in pickling may be an OSError too, such as that of a spooled body.
        data = pickle.dumps(argument)
        try:
            self._pipe.send_bytes(data)
            answer = self._pipe.recv_bytes()
        except (EOFError, OSError) as error:
            self._process.join()
            raise WorkerDied(self._process.exitcode) from error
        returned, value = pickle.loads(answer)
        if returned:
            return value
        raise value

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    def kill(self) -> None:
        """End it now; a thread that waits for its answer sees the end of the pipe."""
        self._process.kill()
        self._process.join()

    def close(self) -> None:
        """Kill it and free the pipe, when no thread uses it."""
        self.kill()
        self._pipe.close()
        self._process.close()


def _serve(pipe: Pipe, function: Callable[..., object]) -> None:
    """What a worker process runs: answer calls until the pipe is closed."""
    for name in secret_variables(os.environ):
        del os.environ[name]
    while True:
        try:
            argument = pipe.recv_bytes()
        except (EOFError, OSError):
            return
        pipe.send_bytes(_answer(function, argument))


def _answer(function: Callable[..., object], argument: bytes) -> bytes:
    """What goes back for a call: whether it returned, and what it returned or raised."""
    try:
        result = function(pickle.loads(argument))
    except Exception as error:  # noqa: BLE001 - it crosses to the caller
        return _raised(error)
    try:
        return pickle.dumps((True, result))
    except Exception as error:  # noqa: BLE001 - what cannot be pickled must not end the worker
        return _raised(TypeError(f"the result cannot cross to the parent process: {error}"))


def _raised(error: Exception) -> bytes:
    """An exception on its way back; one that cannot be made again over there is told in words."""
    try:
        answer = pickle.dumps((False, error))
        # Many an exception is pickled without complaint and cannot be read back.
        pickle.loads(answer)
    except Exception:  # noqa: BLE001 - whatever it is, the words of the error cross
        words = TypeError(f"{type(error).__name__} cannot cross to the parent process: {error}")
        return pickle.dumps((False, words))
    return answer


class ProcessHandler:
    """What `in_processes` makes: a handler, and a function that can be awaited for its result."""

    __slots__ = ("_count", "_function", "_idle", "_send", "_slots", "_then")

    def __init__(
        self,
        function: Callable[..., object],
        workers: int,
        send: Callable[[Message], object] | None,
        then: Callable[[Message, object], Awaitable[object]] | None,
    ) -> None:
        self._function = function
        self._count = workers
        self._send = send
        self._then = then
        self._idle: list[_Worker] = []
        self._slots: asyncio.Semaphore | None = None

    async def __call__(self, message: Message) -> object:
        """Run the function for one message in a worker process; gives what it returned."""
        if self._slots is None:
            self._slots = asyncio.Semaphore(self._count)
        argument = message if self._send is None else self._send(message)
        async with self._slots:
            result = await self._call(argument)
        if self._then is not None:
            await self._then(message, result)
        return result

    async def _call(self, argument: object) -> object:
        worker = self._idle.pop() if self._idle else _Worker(self._function)
        exchange = asyncio.ensure_future(anyio.to_thread.run_sync(worker.call, argument, abandon_on_cancel=True))
        try:
            return await asyncio.shield(exchange)
        except asyncio.CancelledError:
            worker.kill()
            # The thread sees the end of the pipe at once; nothing of it is left when we go.
            await asyncio.wait([exchange])
            exchange.exception()
            raise
        finally:
            if worker.is_alive:
                self._idle.append(worker)
            else:
                worker.close()

    def close(self) -> None:
        """End the processes; the next call starts others. Runs call it when they end."""
        while self._idle:
            self._idle.pop().close()

    def __del__(self) -> None:
        self.close()


def in_processes(
    function: Callable[..., object],
    *,
    workers: int | None = None,
    send: Callable[[Message], object] | None = None,
    then: Callable[[Message, object], Awaitable[object]] | None = None,
) -> ProcessHandler:
    """Make a handler of a function that computes: each call runs in a worker process.

    Run it with a `concurrency` of at least `workers`. An exception of the function fails its message, as in any
    handler; a process that dies fails its message with `WorkerDied`, and another takes its place. Cancelling the
    run kills the processes at work; at the end of a run they are ended.

    Args:
        function: Takes what is sent; it must be importable by name, and its result must be picklable.
        workers: Processes; as many as there are processors unless said.
        send: Chooses what crosses to the worker, such as `operator.attrgetter("body")`. The whole message as it
            was fetched, unless said.
        then: `async def then(message, result)`, called in this process with each result,
            before the message counts as done.

    Raises:
        ValueError: Fewer than 1 worker.
        TypeError: An async function, or one that a worker cannot import.
    """
    count = workers if workers is not None else (os.cpu_count() or 1)
    if count < 1:
        raise ValueError(f"workers must be 1 or more, not {workers}")
    if inspect.iscoroutinefunction(function):
        raise TypeError("in_processes() takes a plain function: an async one belongs into run() as it is")
    if "<locals>" in getattr(function, "__qualname__", "") or getattr(function, "__name__", "") == "<lambda>":
        raise TypeError("in_processes() needs a function that a worker can import: define it at the top of a module")
    return ProcessHandler(function, count, send, then)
