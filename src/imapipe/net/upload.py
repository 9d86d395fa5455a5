"""A body on its way out: read piece by piece while the transport takes them, so that it is never whole in memory.

Invariants:

- Exactly as many bytes are sent as were announced. A source that fails, or gives fewer or more, ends the connection:
  what follows would be taken for the rest of the message.
- Nothing is read from the source while the transport asks for a pause, nor before it is this body's turn.
- Its task ends with the body, or with the connection. An asynchronous source is closed in any case.

A file is read in the event loop, 64 KiB at a time, as bodies are spooled in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import aclosing

from imapipe.errors import ConnectionLost
from imapipe.wire.literal_argument import Body

READ_BYTES = 64 * 1024

Wait = Callable[[bool], None]


class Upload:
    """The sending of one body.

    Args:
        body: What is sent.
        room: Set while the transport takes bytes.
        write: Gives it some.
        ended: Called once: with None when all bytes are written, else with what went wrong; not after `cancel`.
        waiting: Called with True when we begin to wait for the source, with False when it gave something.
    """

    __slots__ = ("_body", "_cancelled", "_ended", "_room", "_task", "_waiting", "_write")

    def __init__(
        self,
        body: Body,
        room: asyncio.Event,
        write: Callable[[bytes | memoryview], None],
        ended: Callable[[Exception | None], None],
        waiting: Wait,
    ) -> None:
        self._body = body
        self._room = room
        self._write = write
        self._ended = ended
        self._waiting = waiting
        self._cancelled = False
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """It is its turn; does nothing when it has begun."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def cancel(self) -> None:
        """The connection has ended."""
        self._cancelled = True
        if self._task is not None:
            self._task.cancel()

    async def over(self) -> None:
        """Wait until nothing of it runs any more; returns at once where it has not begun."""
        if self._task is not None:
            await asyncio.wait((self._task,))

    async def _run(self) -> None:
        try:
            async with aclosing(_read(self._body, self._waiting)) as chunks:
                async for chunk in chunks:
                    await self._room.wait()
                    self._write(chunk)
                    # A file, and many a source, never waits; the others on this event loop must not wait for it.
                    await asyncio.sleep(0)
        except asyncio.CancelledError:
            if self._cancelled:
                raise
            # The source was cancelled, not we.
            self._ended(ConnectionLost("the source of a message was cancelled"))
        except Exception as error:  # noqa: BLE001 - told to whoever sends the message
            self._ended(error)
        else:
            self._ended(None)


async def _read(body: Body, waiting: Wait) -> AsyncGenerator[bytes | memoryview, None]:
    """All bytes of a body, in pieces of at most READ_BYTES.

    Raises:
        ValueError: There are not as many as was said.
    """
    left = body.size
    if isinstance(body.source, AsyncIterable):
        async with aclosing(_pull(body.source, waiting)) as chunks:
            async for chunk in chunks:
                if len(chunk) > left:
                    raise ValueError(f"the source of a message gave more than the {body.size} bytes that were said")
                left -= len(chunk)
                for start in range(0, len(chunk), READ_BYTES):
                    yield memoryview(chunk)[start : start + READ_BYTES]
    else:
        while left and (piece := body.source.read(min(READ_BYTES, left))):
            left -= len(piece)
            yield piece
    if left:
        raise ValueError(f"the source of a message gave {left} of {body.size} bytes too few")


async def _pull(source: AsyncIterable[bytes], waiting: Wait) -> AsyncGenerator[bytes, None]:
    """What a source gives, and word of when it is waited for."""
    iterator = aiter(source)
    try:
        while True:
            waiting(True)
            try:
                chunk = await anext(iterator)
            except StopAsyncIteration:
                return
            finally:
                waiting(False)
            yield chunk
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()
