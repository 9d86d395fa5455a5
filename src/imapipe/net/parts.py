"""A message whose items come in several answers: what is there of it so far.

Invariant: nothing is kept of what nobody asked for. A server could fill the memory, or the disk, with ever new items of
one message, and nobody would hear of it before the message is whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping

from imapipe.models.batch import Failure
from imapipe.models.message import FoundItem
from imapipe.net.holdings import Charge, Holdings
from imapipe.wire.response.invented import may_be_invented
from imapipe.wire.response.label import match_labels
from imapipe.wire.response.literal import Literal, spooled_bytes, spooled_count
from imapipe.wire.response.note import Note, count_notes
from imapipe.wire.response.token import ItemSpan

# What the objects for one item take, whatever stands in it.
_ITEM_BYTES = 200


class Parts:
    """What came so far of a message whose items come in several answers.

    Attributes:
        items: The items.
        literals: The literals of all answers; those that nobody asked for are empty.
        size: The bytes of all answers that are kept, in memory and in temporary files.
        charge: The bytes of all answers, kept or not, with the objects for them; in temporary files only what is kept.
        cut: What it is when the end of the last answer does not come on a line of its own; None where it has one.
        closed: That line came, and no other one may follow: else it was part of a body that was counted short.
    """

    __slots__ = ("charge", "closed", "cut", "items", "literals", "size")

    def __init__(self, holdings: Holdings) -> None:
        self.items: dict[str, FoundItem] = {}
        self.literals: list[Literal] = []
        self.size = 0
        self.charge = Charge(holdings, "messages that are not whole")
        self.cut: Failure | None = None
        self.closed = False

    def add(self, found: Mapping[str, ItemSpan], text: bytes, all_literals: tuple[Literal, ...], size: int) -> None:
        """Take items out of a response.

        Args:
            found: The items that were asked for, under the names of the asking.
            text: The text of the response.
            all_literals: Its literals.
            size: Its bytes on the wire.

        Raises:
            ResponseTooLarge: More is kept than may be.
        """
        literals = _asked_for(text, all_literals, found.values())
        _close([literal for literal, kept in zip(all_literals, literals, strict=True) if literal is not kept])
        self.charge.add(size - spooled_bytes(all_literals) + _ITEM_BYTES * (len(found) + len(all_literals)))
        if not found:
            return
        self.items |= {name: FoundItem(text, literals, span) for name, span in found.items()}
        self.literals += literals
        self.size += size - sum(map(len, all_literals)) + sum(map(len, literals))
        if files := spooled_count(literals):
            self.charge.spool(spooled_bytes(literals), files)

    def discard(self) -> None:
        """No message will be made of it: its temporary files are closed, and nothing of it is kept."""
        _close(self.literals)
        self.charge.release()

    def labels(
        self, asked: frozenset[str], items: Mapping[str, ItemSpan], notes: MutableMapping[Note, int]
    ) -> dict[str, str]:
        """Which of the items that came are asked for, and under what label each came; what it was called is noted.

        What nobody asked for is left out, or a server could fill the memory with ever new names.
        """
        labels = {name: name for name in asked if name in items}
        missing = asked - labels.keys()
        if missing and (others := match_labels(missing - self.items.keys(), items.keys() - labels.keys())):
            labels |= others
            count_notes(notes, [Note("label", f"{name} came under another name") for name in others])
        return labels

    def may_be_invented(self) -> bool:
        """Whether the server may have made it up for a message that is gone; never one with a spooled body."""
        if self.charge.files:
            return False
        values = {name: item.text[item.span.start : item.span.end] for name, item in self.items.items()}
        return may_be_invented(values, self.literals, self.size)


def _close(literals: Iterable[Literal]) -> None:
    for literal in literals:
        if not isinstance(literal, bytes | bytearray):
            literal.close()


def _asked_for(text: bytes, literals: tuple[Literal, ...], spans: Iterable[ItemSpan]) -> tuple[Literal, ...]:
    """The literals of a response, b"" in the place of those that belong to no item that was asked for."""
    if not literals:
        return literals
    kept: list[Literal] = [b""] * len(literals)
    for start, end, index in spans:
        own = slice(index, index + text.count(b"}\r\n", start, end))
        kept[own] = literals[own]
    return tuple(kept)
