"""The bytes of a literal, wherever they are held: in memory, or in a temporary file that is not read as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from typing import Final

from imapipe.mime.part import Raw
from imapipe.wire.response.literal import Literal, SpooledLiteral

_CHUNK_BYTES: Final = 1024 * 1024


class Mapped:
    """A spooled message as bytes, without reading what is not looked at."""

    __slots__ = ("_literal", "_mapped")

    def __init__(self, literal: SpooledLiteral) -> None:
        self._literal = literal

    def __enter__(self) -> Raw:
        self._mapped: mmap | None = None
        with self._literal.open() as file:
            try:
                self._mapped = mmap(file.fileno(), len(self._literal), access=ACCESS_READ)
            except (OSError, ValueError):
                # No file of the system, or an empty one.
                return self._literal.read()
        return self._mapped

    def __exit__(self, *_: object) -> None:
        if self._mapped is not None:
            self._mapped.close()


def chunks_of(literal: Literal) -> Iterator[bytes | bytearray]:
    """The bytes of a literal, piece by piece where they are in a file."""
    if isinstance(literal, bytes | bytearray):
        yield literal
        return
    with literal.open() as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
