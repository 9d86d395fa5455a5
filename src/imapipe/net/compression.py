"""COMPRESS=DEFLATE (RFC 4978): both directions of a connection as raw DEFLATE streams.

Inflating goes in steps of at most `STEP_BYTES`, so that a small compressed chunk cannot fill the memory
before anybody could pause: what was not inflated stays compressed and is taken up later.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from imapipe.errors import ProtocolError

STEP_BYTES = 64 * 1024


class Deflate:
    """The two streams of one connection.

    Attributes:
        buffer: Where the transport writes compressed bytes.
    """

    __slots__ = ("_deflater", "_inflater", "_rest", "buffer")

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(STEP_BYTES))
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._deflater = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._rest = b""

    @property
    def has_more(self) -> bool:
        """Whether compressed bytes are waiting for another `inflate`."""
        return bool(self._rest)

    def deflate(self, data: bytes) -> bytes:
        """Compress a command so that the server can read all of it now."""
        return self._deflater.compress(data) + self._deflater.flush(zlib.Z_SYNC_FLUSH)

    def inflate(self, data: bytes | memoryview) -> Iterator[bytes]:
        """Give what `data`, behind what was left before, holds; the caller may stop at any step.

        Raises:
            ProtocolError: The stream is not DEFLATE.
        """
        self._rest = self._rest + data if self._rest else bytes(data)
        while self._rest:
            try:
                inflated = self._inflater.decompress(self._rest, STEP_BYTES)
            except zlib.error as error:
                raise ProtocolError("the compressed stream cannot be inflated") from error
            self._rest = self._inflater.unconsumed_tail
            if inflated:
                yield inflated
