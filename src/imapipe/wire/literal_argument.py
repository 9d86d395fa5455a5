"""Arguments sent as literals: `literal` of RFC 9051 §9, and when one may go without being asked for (RFC 7888).

Two kinds: bytes in memory, and a `Body`, whose bytes are read while they are sent, so that they are never all there.

Invariant: the marker tells the number of bytes before the first of them is read, so a body that turns out shorter or
longer ends its connection.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterable
from dataclasses import dataclass
from typing import BinaryIO, Final

MAX_UNASKED_BYTES: Final = 4_096
"""The limit of LITERAL- (RFC 7888 §5)."""


@dataclass(frozen=True, slots=True)
class LiteralArgument:
    """A text that is sent as a literal: its marker, then (when synchronising, after a continuation request) `data`.

    Attributes:
        data: The text as UTF-8.
        synchronising: Whether the server must ask for it (`{5}`) or it follows at once (`{5+}`, RFC 7888).
    """

    data: bytes
    synchronising: bool

    @property
    def marker(self) -> bytes:
        """What announces it, with its CRLF."""
        return _marker(len(self.data), synchronising=self.synchronising)


@dataclass(frozen=True, slots=True)
class Body:
    """Bytes of a known number that are read while they are sent; they can be sent once.

    Attributes:
        source: A binary file, read from where it stands, or an asynchronous iterable of bytes.
        size: How many bytes are sent. A file may hold more; an iterable must give exactly so many.

    Raises:
        ValueError: The size is no whole number from 0, or the source is neither of both.
    """

    source: BinaryIO | AsyncIterable[bytes]
    size: int

    def __post_init__(self) -> None:
        size: object = self.size
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**63:
            raise ValueError("the size of a body is a whole number of bytes from 0")
        if not isinstance(self.source, AsyncIterable) and not callable(getattr(self.source, "read", None)):
            raise ValueError("the source of a body is a binary file or an asynchronous iterable of bytes")

    @classmethod
    def from_file(cls, file: BinaryIO) -> Body:
        """All that a seekable file holds from where it stands to its end."""
        start = file.tell()
        size = file.seek(0, os.SEEK_END) - start
        file.seek(start)
        return cls(file, size)


@dataclass(frozen=True, slots=True)
class StreamedLiteral:
    """A body that is sent as a literal; arguments as in `LiteralArgument`."""

    data: Body
    synchronising: bool

    @property
    def marker(self) -> bytes:
        """What announces it, with its CRLF."""
        return _marker(self.data.size, synchronising=self.synchronising)


def _marker(size: int, *, synchronising: bool) -> bytes:
    return b"{%d%b}\r\n" % (size, b"" if synchronising else b"+")
