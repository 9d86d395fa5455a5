"""Literals: the byte strings of known length that a server sends (RFC 9051 §4.3, production `literal`).

A response is kept as a pair: its text with every literal cut out (the marker `{n}` CRLF stays), and the
sequence of the literals in the order of their markers. A small literal is bytes in memory; a large one may
sit in a temporary file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO, Protocol, TypeAlias


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
