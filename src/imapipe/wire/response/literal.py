"""Literals: the byte strings of known length that a server sends (RFC 9051 §4.3, production `literal`).

A response is kept as a pair: its text with every literal cut out (the marker `{n}` CRLF stays), and the
sequence of the literals in the order of their markers. A small literal is bytes in memory; a large one may
sit in a temporary file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import BinaryIO, Final, NamedTuple, Protocol, TypeAlias

MARKER: Final = re.compile(rb"\{(\d+)\+?\}\r\n")
"""What announces a literal, at the end of a line."""

# What begins like this has no literals, whatever its text ends in: `resp-cond-state` and its kin, `continue-req`,
# `response-tagged`; with the NULs in front and the missing spaces that are met.
_TEXT_LINE: Final = re.compile(
    rb"[\0 ]*(?:\* *)?(?:OK|NO|BAD|BYE|PREAUTH)[ \r\[]|[\0 ]*\+|[^*+ \r\n]+ +(?:OK|NO|BAD)[ \r\[]", re.IGNORECASE
)


class SpooledLiteral(Protocol):
    """A literal kept outside memory."""

    def __len__(self) -> int:
        """Its size in bytes."""
        ...

    def open(self) -> BinaryIO:
        """A new binary file, positioned at the first byte; the caller closes it."""
        ...

    def read(self) -> bytes:
        """All of it, as one bytes object in memory."""
        ...

    def close(self) -> None:
        """Free it now, whoever still refers to it; reading it raises `SpoolError` from then on."""
        ...


Literal: TypeAlias = bytes | bytearray | SpooledLiteral


class SpoolWriter(Protocol):
    """Where a large literal goes while it arrives."""

    def write(self, data: memoryview) -> None:
        """Append bytes; `data` is not valid after the call."""

    def finish(self) -> Literal:
        """All bytes are there."""

    def discard(self) -> None:
        """The rest will not come: free what is held."""


class Cut(NamedTuple):
    """What came of a response that will have no end.

    Attributes:
        text: It up to the marker of a literal, with the marker.
        literals: Its literals that came whole.
        place: Where the literal of that marker was going to, None where it came whole.
        missing: How many bytes of it did not come.
    """

    text: bytes
    literals: tuple[Literal, ...]
    place: bytearray | SpoolWriter | None
    missing: int


def is_text_line(chunk: bytes, start: int, end: int) -> bool:
    """Whether a line that ends in a marker is a status or a continuation; `* <number> …` never is."""
    if chunk[start] == 0x2A and 0x30 <= chunk[start + 2] <= 0x39:
        return False
    return _TEXT_LINE.match(chunk, start, end) is not None


def literal_bytes(literal: Literal) -> bytes:
    """The literal as one bytes object; reads a spooled one into memory."""
    if isinstance(literal, bytes):
        return literal
    if isinstance(literal, bytearray):
        return bytes(literal)
    return literal.read()


def spooled_count(literals: Sequence[Literal]) -> int:
    """How many of these literals are kept outside memory."""
    return sum([type(literal) is not bytes and type(literal) is not bytearray for literal in literals])


def spooled_bytes(literals: Sequence[Literal]) -> int:
    """How many bytes of these literals are kept outside memory."""
    count = 0
    for literal in literals:
        if type(literal) is not bytes and type(literal) is not bytearray:
            count += len(literal)
    return count
