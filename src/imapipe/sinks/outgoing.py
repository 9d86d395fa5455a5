"""Messages on their way to another account: what APPEND is given, and how many go together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from imapipe.models.attributes import arrival_of
from imapipe.models.message import Message
from imapipe.pipeline.append.append import MAX_BYTES_IN_GROUP
from imapipe.pipeline.append.appending import MAX_TOGETHER
from imapipe.sinks.likeness import Likeness, size_of
from imapipe.wire.command.append import NewMessage
from imapipe.wire.command.encoder import can_be_set
from imapipe.wire.literal_argument import Body


class Outgoing:
    """A message to be appended.

    Args:
        message: It, fetched whole.

    Raises:
        NotFetched, ProtocolError: It was not, or its flags cannot be read.

    Attributes:
        message: It.
        likeness: By what its copy is found.
    """

    __slots__ = ("_flags", "likeness", "message")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.likeness = Likeness.of(message, size_of(message))
        self._flags = frozenset(filter(can_be_set, message.flags))

    @property
    def has_keywords(self) -> bool:
        """Whether it has flags that a server may refuse."""
        return any(not flag.startswith("\\") for flag in self._flags)

    def leave_keywords(self) -> None:
        """Leave them out."""
        self._flags = frozenset(flag for flag in self._flags if flag.startswith("\\"))

    def as_new(self, closing: ExitStack) -> NewMessage:
        """What APPEND takes; its body is closed with the others."""
        file = closing.enter_context(self.message.open())
        return NewMessage(Body.from_file(file), self._flags, arrival_of(self.message))


@contextmanager
def opened(group: Iterable[Outgoing]) -> Iterator[list[NewMessage]]:
    """The messages of a group, their bodies open for as long as they are sent."""
    with ExitStack() as closing:
        yield [new.as_new(closing) for new in group]


def groups(new: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    """What goes into one command: so many messages, so many bytes."""
    group: list[Outgoing] = []
    size = 0
    for one in new:
        if group and (len(group) >= MAX_TOGETHER or size + one.likeness.size > MAX_BYTES_IN_GROUP):
            yield group
            group, size = [], 0
        group.append(one)
        size += one.likeness.size
    if group:
        yield group
