"""COMPRESS=DEFLATE (RFC 4978): both directions of a connection as raw DEFLATE streams.

Inflating goes in steps of at most `STEP_BYTES`, so that a small compressed chunk cannot fill the memory
before anybody could pause: what was not inflated stays compressed and is taken up later.
"""

from __future__ import annotations

import zlib

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
    def pending_bytes(self) -> int:
        """Bytes that were pushed and not inflated yet."""
        return len(self._rest)

    def deflate(self, data: bytes | memoryview) -> bytes:
        """Compress so that the server can read all of it now."""
        return self._deflater.compress(data) + self._deflater.flush(zlib.Z_SYNC_FLUSH)

    def push(self, data: bytes | memoryview) -> None:
        """Take compressed bytes; `data` is not needed after the call."""
        self._rest = self._rest + data if self._rest else bytes(data)

    def pull(self, most: int) -> bytes:
        """The next `most` bytes or less of what was pushed, inflated; b"" when there is no more.

        Raises:
            ProtocolError: The stream is not DEFLATE, or it has ended and more came.
        """
        try:
            # Asked even when nothing is left to push: the inflater may hold output that did not fit into a step.
            inflated = self._inflater.decompress(self._rest, most)
        except zlib.error as error:
            raise ProtocolError("the compressed stream cannot be inflated") from error
        self._rest = self._inflater.unconsumed_tail
        if not inflated and self._inflater.unused_data:
            raise ProtocolError("bytes came behind the end of the compressed stream")
        return inflated
