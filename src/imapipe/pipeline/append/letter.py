"""A message on its way into a mailbox: what APPEND is given, as often as it has to be sent, and how it is found again.

Invariant: what can be read only once (an asynchronous source, a pipe) is read once, and kept in memory, or in a
temporary file where it is large, so that every try sends the same bytes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterable, Iterator
from contextlib import aclosing
from email.parser import BytesHeaderParser
from typing import BinaryIO, Final

from imapipe.net.options import PlaneOptions
from imapipe.net.spool import SpooledFile, SpoolFile
from imapipe.pipeline.digest import digest_of
from imapipe.wire.command.append import NewMessage, described
from imapipe.wire.literal_argument import Body

_CHUNK: Final = 64 * 1024
_HEADER_BYTES: Final = 64 * 1024


class Letter:
    """One message.

    Attributes:
        number: Which of a group, from 1.
        size: Its bytes.
    """

    __slots__ = ("_message", "_source", "_start", "number", "size")

    def __init__(self, number: int, message: NewMessage, source: bytes | BinaryIO | SpooledFile, size: int) -> None:
        self.number = number
        self.size = size
        self._message = message
        self._source = source
        self._start = 0 if isinstance(source, bytes | SpooledFile) else source.tell()

    @classmethod
    async def of(cls, number: int, message: NewMessage, options: PlaneOptions) -> Letter:
        """That of a message.

        Args:
            number: Which.
            message: It.
            options: Where what is large is kept.

        Raises:
            TypeError: It is no message.
            ValueError: It has no bytes, or not as many as were said; a flag that cannot be set; a date without zone.
            Exception: What its source raises.
        """
        if not isinstance(message, NewMessage):
            raise TypeError(f"append() takes imapipe.connection.NewMessage values, not {message!r}")
        # Refused here, and not in the middle of a group.
        described(message)
        body = message.body
        if not isinstance(body, Body):
            return cls(number, message, bytes(body), len(body))
        if not isinstance(body.source, AsyncIterable) and body.source.seekable():
            start = body.source.tell()
            if body.source.seek(0, os.SEEK_END) - start < body.size:
                raise _short(body.size)
            body.source.seek(start)
            return cls(number, message, body.source, body.size)
        return cls(number, message, await _read_once(body, options), body.size)

    def new(self) -> NewMessage:
        """What APPEND is given for one try."""
        source = self._open()
        if source is self._message.body:
            return self._message
        body = source if isinstance(source, bytes) else Body(source, self.size)
        return NewMessage(body, self._message.flags, self._message.internal_date)

    def key(self) -> tuple[str, int]:
        """By what its copy may be known: Message-ID and size."""
        head = next(self._chunks(_HEADER_BYTES), b"")
        return message_id_of(head), self.size

    def digest(self) -> bytes:
        """By what it is known for certain."""
        return digest_of(self._chunks(_CHUNK))

    def close(self) -> None:
        """It is not needed any more."""
        if isinstance(self._source, SpooledFile):
            self._source.close()

    def _open(self) -> bytes | BinaryIO:
        """The bytes, from the beginning."""
        source = self._source
        if isinstance(source, bytes):
            return source
        if isinstance(source, SpooledFile):
            return source.open()
        source.seek(self._start)
        return source

    def _chunks(self, size: int) -> Iterator[bytes]:
        source, left = self._open(), self.size
        if isinstance(source, bytes):
            yield from (source[start : start + size] for start in range(0, left, size))
            return
        while left and (piece := source.read(min(size, left))):
            left -= len(piece)
            yield piece


def message_id_of(head: bytes) -> str:
    """The Message-ID in the beginning of a message, or ""."""
    return str(BytesHeaderParser().parsebytes(head)["Message-ID"] or "").strip()


async def _read_once(body: Body, options: PlaneOptions) -> bytes | SpooledFile:
    """The bytes of a source that can be read once, where they can be read again."""
    kept = SpoolFile(body.size, options.spool_dir) if body.size > options.spool_above else bytearray()
    try:
        left = body.size
        async with aclosing(_pieces(body)) as pieces:
            async for piece in pieces:
                left -= len(piece)
                if left < 0:
                    break
                if isinstance(kept, bytearray):
                    kept += piece
                else:
                    await asyncio.to_thread(kept.write, memoryview(piece))
        if left:
            raise _short(body.size)
    except BaseException:
        if isinstance(kept, SpoolFile):
            kept.discard()
        raise
    return bytes(kept) if isinstance(kept, bytearray) else kept.finish()


def _short(size: int) -> ValueError:
    return ValueError(f"the source of a message does not give the {size} bytes that were said")


async def _pieces(body: Body) -> AsyncGenerator[bytes, None]:
    source, left = body.source, body.size
    if isinstance(source, AsyncIterable):
        async for piece in source:
            yield piece
        return
    while left and (piece := await asyncio.to_thread(source.read, min(_CHUNK, left))):
        left -= len(piece)
        yield piece
