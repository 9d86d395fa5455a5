"""What arrived of a message, item by item, before anything of it is parsed.

Invariants:

- It holds the answer it came in (text and literals): recognised by its shape, or located item by item, perhaps in
  several answers.
- The constructor stores seven references: a run makes one of these for each message.
"""

from __future__ import annotations

from collections.abc import Container, MutableMapping
from re import Match
from typing import NamedTuple, Self

from imapipe.errors import NotFetched
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.response.fetch import scan_fetch
from imapipe.wire.response.item_value import parse_body
from imapipe.wire.response.literal import Literal, literal_bytes, spooled_bytes, spooled_count
from imapipe.wire.response.note import Note
from imapipe.wire.response.shape import Shape
from imapipe.wire.response.token import ItemSpan


class FoundItem(NamedTuple):
    """Where one item of a message stands: in which answer, and where in it."""

    text: bytes
    literals: tuple[Literal, ...]
    span: ItemSpan

    @property
    def is_nil(self) -> bool:
        """Whether the server sent no value."""
        return self.text[self.span.start : self.span.end].upper() in (b"", b"NIL")


class MessageContext:
    """What the messages of one FETCH have in common.

    Attributes:
        mailbox: The name of the mailbox.
        uidvalidity: Its UIDVALIDITY; with the UID it names the message for ever (RFC 9051 §2.3.1.1).
        fetch: What was asked for.
        notes: What of their answers and values was passed over, and how often.
    """

    __slots__ = ("fetch", "mailbox", "notes", "uidvalidity")

    def __init__(
        self, mailbox: str, uidvalidity: int, fetch: Fetch, notes: MutableMapping[Note, int] | None = None
    ) -> None:
        self.mailbox = mailbox
        self.uidvalidity = uidvalidity
        self.fetch = fetch
        self.notes = {} if notes is None else notes


class Fetched:
    """The items of one message, as they came.

    Attributes:
        uid: The UID (RFC 9051 §2.3.1.1).
        wire_size: The bytes its answer took on the wire, after decompression.
        is_held: Whether these bytes still count against its connection; what releases it says that they do not.
    """

    __slots__ = ("_context", "_found", "_literals", "_match", "_shape", "is_held", "uid", "wire_size")

    _found: dict[str, FoundItem]

    def __init__(
        self,
        context: MessageContext,
        uid: int,
        wire_size: int,
        match: Match[bytes] | None,
        shape: Shape | None,
        literals: tuple[Literal, ...],
    ) -> None:
        self._context = context
        self.uid = uid
        self.wire_size = wire_size
        self.is_held = True
        self._match = match
        self._shape = shape
        self._literals = literals

    @classmethod
    def from_items(
        cls,
        context: MessageContext,
        uid: int,
        wire_size: int,
        found: dict[str, FoundItem],
        literals: tuple[Literal, ...] = (),
    ) -> Self:
        """Make a message of items that were located one by one, perhaps in several responses.

        Args:
            context: What it has in common with others.
            uid: Its UID.
            wire_size: The bytes of all answers it came in.
            found: Its items.
            literals: The literals of all those answers.
        """
        message = cls(context, uid, wire_size, None, None, literals)
        message._found = found
        return message

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle what was fetched, a spooled body as bytes: messages cross to worker processes."""
        self._locate()
        found = {name: FoundItem(i.text, _in_memory(i.literals), i.span) for name, i in self._found.items()}
        context = self._context
        state = (context.mailbox, context.uidvalidity, context.fetch)
        return _restore, (type(self), state, self.uid, self.wire_size, found)

    @property
    def spooled_size(self) -> int:
        """How many bytes of `wire_size` sit in temporary files instead of memory."""
        return spooled_bytes(self._literals) if self._literals else 0

    @property
    def spooled_files(self) -> int:
        """In how many temporary files they sit."""
        return spooled_count(self._literals)

    def discard(self) -> None:
        """Nobody will read it: what of it sits in temporary files goes now, whoever still refers to it."""
        for literal in self._literals:
            if not isinstance(literal, bytes | bytearray):
                literal.close()

    def _names(self) -> Container[str]:
        """The names of the items that came; a cheap one to ask for presence."""
        return self._found if self._shape is None else self._shape.names

    def _group(self, name: str) -> bytes | None:
        """The value of an item that the shape has as a group, without a search for it; else None."""
        match = self._match
        if match is None:
            return None
        try:
            return match[self._shape.groups[name]]  # type: ignore[union-attr]  # a match comes with its shape
        except KeyError:
            return None

    def _find(self, name: str, field: str) -> FoundItem:
        if self._match is None:
            found = self._found.get(name)
        else:
            found = self._find_in_match(name)
        if found is None:
            asked = name in self._context.fetch.names
            raise NotFetched(field, "the server left it out" if asked else "name it in fetch(...)")
        return found

    def _find_in_match(self, name: str) -> FoundItem | None:
        match, shape = self._match, self._shape
        if match is None or shape is None or name not in shape.groups:
            return None
        start, end = match.span(shape.groups[name])
        if name == shape.open_item:
            return FoundItem(
                match.string, self._literals, ItemSpan(start, len(match.string) - 1, len(shape.literal_items))
            )
        return FoundItem(match.string, self._literals, ItemSpan(start, end, 0))

    def _locate(self) -> None:
        """Locate the items one by one instead of by shape."""
        if self._match is not None:
            text, literals = self._match.string, self._literals
            self._found = {n: FoundItem(text, literals, s) for n, s in scan_fetch(text, literals).items.items()}
            self._match = None
            self._shape = None

    def _literal(self, name: str) -> Literal | None:
        shape = self._shape
        if shape is not None:
            return self._literals[shape.literal_items.index(name)]
        return parse_body(*self._found[name])


def _in_memory(literals: tuple[Literal, ...]) -> tuple[Literal, ...]:
    return tuple(item if isinstance(item, bytes | bytearray) else literal_bytes(item) for item in literals)


def _restore(
    kind: type[Fetched], context: tuple[str, int, Fetch], uid: int, wire_size: int, found: dict[str, FoundItem]
) -> Fetched:
    return kind.from_items(MessageContext(*context), uid, wire_size, found)
