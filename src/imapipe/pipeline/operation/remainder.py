"""What came of one message in the middle of which a connection died, and how to ask for the rest of it.

Invariant: what does not fit is never joined: another RFC822.SIZE, other bytes where those that came had been, a rest of
another length.
"""

from __future__ import annotations

from imapipe.errors import NotFetched, ProtocolError
from imapipe.models.message import Message
from imapipe.net.unfinished import Part, Unfinished
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.response.literal import Literal


class Remainder:
    """What came of a message, and how to ask for the rest.

    Args:
        unfinished: What came.
        fetch: What had been asked for.
        slack: How many bytes more than are wanted to ask for: none are there, if the size is right.

    Attributes:
        fetch: The same.
        rest: What is to be asked for now.
        is_wrong: It cannot be gone on with.
    """

    __slots__ = ("_asked_bytes", "_slack", "_unfinished", "fetch", "is_wrong", "rest")

    def __init__(self, unfinished: Unfinished, fetch: Fetch, *, slack: int = 0) -> None:
        self._unfinished = unfinished
        self._slack = slack
        self.fetch = self.rest = fetch
        self._asked_bytes = 0
        self.is_wrong = False

    @property
    def uid(self) -> int:
        """The UID of the message."""
        return self._unfinished.uid

    @property
    def part(self) -> Part | None:
        """The literal that is gone on with, if one came in part."""
        return self._unfinished.part

    @property
    def received(self) -> int:
        """How many bytes of the message there are."""
        return self._unfinished.received

    @property
    def memory_bytes(self) -> int:
        """How many bytes of memory it takes."""
        return self._unfinished.memory_bytes

    @property
    def spooled_bytes(self) -> int:
        """How many bytes it takes in temporary files."""
        return self._unfinished.spooled_bytes

    def prepare(self) -> None:
        """Say what is to be asked for now. Raises SpoolError."""
        unfinished, part = self._unfinished, self.part
        if part is None:
            self.rest, _ = self.fetch.rest("", 0, 0, without=unfinished.whole)
            return
        self._asked_bytes = part.wanted
        count = part.wanted + self._slack
        self.rest, name = self.fetch.rest(unfinished.name, part.offset, count, without=unfinished.whole)
        part.go_on(name)

    def extend(self, more: Unfinished | None) -> None:
        """The connection died in the middle of the rest, too. Raises SpoolError.

        Args:
            more: What came of the rest, unless that went to its place or is not worth keeping.
        """
        mine = self._unfinished
        part = mine.part
        self.is_wrong = part is not None and part.is_wrong
        if more is None:
            return
        if part is not None:
            whole = self._whole(part, more.whole.pop(part.rest_name, None))
            if whole is None:
                more.discard()
                return
            mine.whole[mine.name] = whole
        self.is_wrong = None not in (mine.said_size, more.said_size) and mine.said_size != more.said_size
        mine.whole |= more.whole
        mine.name, mine.part = more.name, more.part

    def join(self, answer: Message) -> Message | None:
        """The whole message, of which this is the rest; None where it does not fit. Raises SpoolError."""
        literals = self.literals(answer)
        if literals is None:
            return None
        came_before = sum(map(len, literals.values())) - self._asked_bytes
        return answer.completed(self.fetch, literals, answer.wire_size + came_before)

    def literals(self, answer: Message) -> dict[str, Literal] | None:
        """The literals of the message, of which this is the rest; None where it does not fit. Raises SpoolError."""
        mine, part = self._unfinished, self.part
        try:
            if mine.said_size is not None and mine.said_size != answer.size:
                return None
            literals = dict(mine.whole)
            if part is not None:
                whole = self._whole(part, answer.literal_of(part.rest_name))
                if whole is None:
                    return None
                literals[mine.name] = whole
        except (NotFetched, ProtocolError):
            return None
        return literals

    def _whole(self, part: Part, came: Literal | None) -> Literal | None:
        """The literal that went on with what came; None where that does not fit."""
        if came is None:
            return None
        if not part.is_placed:
            # It was small, and came into the common buffer.
            if not isinstance(came, bytes | bytearray) or len(came) != part.wanted:
                self.is_wrong = True
                return None
            part.write(memoryview(came))
            came = part.finish()
        self.is_wrong = part.is_wrong or part.received != part.size
        return None if self.is_wrong else came

    def discard(self) -> None:
        """It will not be put together."""
        self._unfinished.discard()
