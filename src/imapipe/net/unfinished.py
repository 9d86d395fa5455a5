"""Messages of which the connection died in the middle: what came of them, and the place for the rest.

Invariants:

- Nothing is taken for the rest of a literal because the server says so: the rest is asked for from a few bytes before
  its beginning, and these must be the same again.
- What has come of a literal is never copied: the rest goes behind it, in memory or in its temporary file.
- Each belongs to somebody who discards it, or makes a message of it.
"""

from __future__ import annotations

from typing import Final

from imapipe.net.spool import SpoolFile
from imapipe.wire.response.literal import Literal

# So many bytes that came are asked for once more, to be compared.
OVERLAP_BYTES: Final = 64


class Part:
    """A literal of which the beginning came, or a window of one, and the place for it (a `literal.SpoolWriter`).

    Args:
        place: Where the literal is: memory for all of it, or a file.
        received: How many bytes of the part came.
        size: How many it has.
        start: Where in the literal it begins.

    Attributes:
        rest_name: Under which name its rest was asked for, "" where it was not.
        is_placed: The rest came, and went where it belongs.
        is_wrong: The server sent something else where it had been, or the place is gone: nothing of it is of use.
    """

    __slots__ = ("_expected", "_lead", "_place", "is_placed", "is_wrong", "received", "rest_name", "size", "start")

    def __init__(self, place: bytearray | SpoolFile, received: int, size: int, start: int = 0) -> None:
        self._place = place
        self._expected = b""
        # Of a window: what came of the bytes before it, which are those of another one.
        self._lead = b""
        self.start = start
        self.received = received
        self.size = size
        self.rest_name = ""
        self.is_placed = False
        self.is_wrong = False

    @property
    def is_spooled(self) -> bool:
        """Whether it is in a temporary file."""
        return isinstance(self._place, SpoolFile)

    @property
    def literal_size(self) -> int:
        """How many bytes the whole literal has."""
        return len(self._place)

    @property
    def offset(self) -> int:
        """From which byte of the literal on it is to be asked for."""
        received = self.received if self._is_comparable else 0
        return max(0, self.start + received - OVERLAP_BYTES)

    @property
    def wanted(self) -> int:
        """How many bytes are to be asked for."""
        return self.start + self.size - self.offset

    @property
    def _is_comparable(self) -> bool:
        """Whether enough of it came to be known again; of the literal itself anything is enough."""
        return self.received >= OVERLAP_BYTES or not self.start

    @property
    def is_whole(self) -> bool:
        """Whether all of it is there."""
        return self.received == self.size

    @property
    def follows(self) -> bool:
        """Whether a window is the continuation of what is before it, when that is there. Raises SpoolError."""
        return self._read(self.start - len(self._lead), self.start) == self._lead

    def go_on(self, rest_name: str) -> None:
        """Its rest is being asked for, under this name; what comes first is compared with what is there.

        Raises:
            SpoolError: What is there cannot be read.
        """
        if self._is_comparable:
            self._expected = self._read(self.offset, self.start + self.received)
        else:
            self._expected, self._lead, self.received = b"", b"", 0
        self.rest_name = rest_name
        self.is_placed = False

    def write(self, data: memoryview) -> None:
        """Take the next bytes of the rest. Raises SpoolError."""
        expected = self._expected
        missing_lead = min(OVERLAP_BYTES, self.start) - len(self._lead)
        if missing_lead:
            self._lead += bytes(data[:missing_lead])
            data = data[missing_lead:]
        elif expected:
            compared = min(len(expected), len(data))
            self.is_wrong = self.is_wrong or data[:compared] != expected[:compared]
            self._expected = expected[compared:]
            data = data[compared:]
        if self.is_wrong:
            return
        position = self.start + self.received
        if isinstance(self._place, SpoolFile):
            self._place.write_at(data, position)
        else:
            self._place[position : position + len(data)] = data
        self.received += len(data)

    def finish(self) -> Literal:
        """All of the rest came: the whole literal."""
        self.is_placed = True
        return self._place.finish() if isinstance(self._place, SpoolFile) else self._place

    def _read(self, start: int, end: int) -> bytes:
        place = self._place
        return place.read(end - start, start) if isinstance(place, SpoolFile) else bytes(place[start:end])

    def discard(self) -> None:
        """It will not be gone on with, nor will other windows of the same literal."""
        self.is_wrong = True
        if isinstance(self._place, SpoolFile):
            self._place.discard()
        else:
            self._place = bytearray()


class Unfinished:
    """What came of one message.

    Attributes:
        uid: Its UID.
        said_size: Its RFC822.SIZE, or None where it was not told.
        whole: The literals that came whole, by the name that was asked for.
        name: The name of the one that came in part, or "".
        part: That one.
    """

    __slots__ = ("name", "part", "said_size", "uid", "whole")

    def __init__(
        self, uid: int, said_size: int | None, whole: dict[str, Literal], name: str, part: Part | None
    ) -> None:
        self.uid = uid
        self.said_size = said_size
        self.whole = whole
        self.name = name
        self.part = part

    @property
    def received(self) -> int:
        """How many bytes of it there are."""
        return sum(map(len, self.whole.values())) + (self.part.received if self.part is not None else 0)

    @property
    def memory_bytes(self) -> int:
        """How many bytes of memory it takes, and will take when it is whole."""
        sizes = [len(literal) for literal in self.whole.values() if isinstance(literal, bytes | bytearray)]
        return sum(sizes) + (self.part.size if self.part is not None and not self.part.is_spooled else 0)

    @property
    def spooled_bytes(self) -> int:
        """The same in temporary files."""
        sizes = [len(literal) for literal in self.whole.values() if not isinstance(literal, bytes | bytearray)]
        return sum(sizes) + (self.part.size if self.part is not None and self.part.is_spooled else 0)

    def discard(self) -> None:
        """Nobody will go on with it."""
        if self.part is not None:
            self.part.discard()
        for literal in self.whole.values():
            if not isinstance(literal, bytes | bytearray):
                literal.close()
