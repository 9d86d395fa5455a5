"""Messages of a search as lines of JSON, straight to whoever reads them.

Invariants:

- One group of messages waits at a time: the next is written when that was taken, and the connection reads on no sooner.
  So what a slow reader costs in memory is a group or two.
- Whoever stops reading ends the fetch: by `aclose`, or by taking nothing for `stall_timeout_seconds`.
- What came to its end has a report as its last line, what could not go on an error, and what was ended neither: a list
  that was cut off cannot pass for whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, Self

import orjson

from imapipe.errors import ImapipeError
from imapipe.middleware.base import Run
from imapipe.models.document import json_value
from imapipe.models.message import Message
from imapipe.pipeline.pipeline import Pipeline
from imapipe.sinks.rows import Rows, check_columns

STALL_TIMEOUT_SECONDS: Final = 60.0


class ReaderStalled(ImapipeError, TimeoutError):
    """Whoever reads a stream of messages took nothing for too long."""

    def __init__(self, timeout_seconds: float) -> None:
        self.timeout_seconds = timeout_seconds
        super().__init__(f"nobody read the messages for {timeout_seconds:g} seconds")


class MessageLines:
    """The messages of a pipeline as chunks of whole lines, of which the last is `{"report": …}` or `{"error": …}`.

    Args:
        pipeline: What to fetch.
        columns: Names of columns, as in `sinks.JsonLines`; all that the job fetches, except `html`, unless given.
        stall_timeout_seconds: How long the reader may take nothing.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        columns: Sequence[str] | None = None,
        stall_timeout_seconds: float = STALL_TIMEOUT_SECONDS,
    ) -> None:
        check_columns(columns)
        self._pipeline = pipeline
        self._columns = columns
        self._stall_timeout_seconds = stall_timeout_seconds
        self._rows: Rows | None = None
        self._chunks: asyncio.Queue[bytes | Exception | None] = asyncio.Queue(1)
        self._first: bytes | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_ended = False

    async def begin(self) -> None:
        """Fetch, until there is something to send; what goes wrong before that is raised, as `Pipeline.run` does."""
        self._task = asyncio.create_task(self._run(), name="imapipe message lines")
        first = await self._chunks.get()
        if isinstance(first, Exception):
            self._is_ended = True
            raise first
        self._first = first

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._first is not None:
            chunk, self._first = self._first, None
            return chunk
        if self._is_ended:
            raise StopAsyncIteration
        item = await self._chunks.get()
        if item is None:
            self._is_ended = True
            raise StopAsyncIteration
        if isinstance(item, Exception):
            self._is_ended = True
            return _line("error", item)
        return item

    async def aclose(self) -> None:
        """End the fetch, if it goes on: its connection is ended and given back. A cancellation waits for that, too."""
        self._is_ended = True
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            # Whoever waits for the next chunk waits for an end.
            with suppress(asyncio.QueueFull):
                self._chunks.put_nowait(None)

    async def open(self, run: Run) -> None:
        """See `imapipe.Sink`."""
        self._rows = Rows(run, self._columns)

    async def write(self, messages: Sequence[Message]) -> Mapping[int, Exception]:
        """See `imapipe.Sink`: a group is one chunk."""
        assert self._rows is not None
        option = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z
        chunk = b"".join([orjson.dumps(self._rows.of(message), option=option) for message in messages])
        try:
            async with asyncio.timeout(self._stall_timeout_seconds):
                await self._chunks.put(chunk)
        except TimeoutError:
            raise ReaderStalled(self._stall_timeout_seconds) from None
        return {}

    async def commit(self) -> None:
        """See `imapipe.Sink`: what was written is the reader's."""

    async def close(self) -> None:
        """See `imapipe.Sink`."""

    async def _run(self) -> None:
        try:
            report = await self._pipeline.run(self, connections=1)
        except Exception as error:  # noqa: BLE001 - whatever it is, the reader is told, or whoever began.
            await self._chunks.put(error)
            return
        await self._chunks.put(_line("report", report))
        await self._chunks.put(None)


def _line(name: str, value: object) -> bytes:
    return orjson.dumps({name: json_value(value)}, option=orjson.OPT_APPEND_NEWLINE)
