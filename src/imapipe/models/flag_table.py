"""Which messages of a mailbox have which flags, in a few bytes for each message.

Invariants:

- A mailbox has few different sets of flags, so each of them is kept once, with the UIDs that have it as ranges.
- No UID is in two sets, and no set of UIDs is empty; so equal tables have equal content.
- `\\Recent` is of a session, not of a message, and is never in it.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import merge
from itertools import repeat
from operator import itemgetter
from types import MappingProxyType
from typing import Final

from imapipe.models.batch import NO_UIDS
from imapipe.wire.uid_set import UidSet

_OF_THE_SESSION: Final = frozenset(("\\Recent",))


class FlagTable:
    """An immutable mapping from UIDs to flags."""

    __slots__ = ("_sets",)

    def __init__(self, sets: Mapping[frozenset[str], UidSet] | None = None) -> None:
        """Make it of disjoint sets of UIDs, by the flags that they have."""
        self._sets = {flags: uids for flags, uids in (sets or {}).items() if uids}

    def __eq__(self, other: object) -> bool:
        return self._sets == other._sets if isinstance(other, FlagTable) else NotImplemented

    def __hash__(self) -> int:
        return hash(frozenset(self._sets.items()))

    def __len__(self) -> int:
        return sum(map(len, self._sets.values()))

    def __repr__(self) -> str:
        return f"<FlagTable of {len(self)} UIDs with {len(self._sets)} sets of flags>"

    @property
    def uids(self) -> UidSet:
        """All messages in it."""
        return UidSet.union([*self._sets.values()])

    def items(self) -> Iterator[tuple[int, frozenset[str]]]:
        """Go through the messages by UID."""
        return merge(*(zip(uids, repeat(flags)) for flags, uids in self._sets.items()), key=itemgetter(0))

    @property
    def sets(self) -> Mapping[frozenset[str], UidSet]:
        """The messages by the flags that they have."""
        return MappingProxyType(self._sets)

    def mapped(self, change: Callable[[frozenset[str]], frozenset[str]]) -> FlagTable:
        """The same messages with what becomes of each set of flags."""
        sets: dict[frozenset[str], UidSet] = {}
        for flags, uids in self._sets.items():
            changed = change(flags)
            sets[changed] = sets.get(changed, NO_UIDS) | uids
        return FlagTable(sets)

    def within(self, uids: UidSet) -> FlagTable:
        """Only these messages."""
        return FlagTable({flags: mine & uids for flags, mine in self._sets.items()})

    def without(self, uids: UidSet) -> FlagTable:
        """All but these messages."""
        return FlagTable({flags: mine - uids for flags, mine in self._sets.items()})

    def updated(self, newer: FlagTable) -> FlagTable:
        """The messages of both; where a message is in both, with the flags that it has in `newer`."""
        sets = self.without(newer.uids)._sets
        return FlagTable(
            {flags: sets.get(flags, NO_UIDS) | newer._sets.get(flags, NO_UIDS) for flags in sets | newer._sets}
        )

    def differing(self, other: FlagTable) -> FlagTable:
        """The messages that are not in `other`, or have other flags there."""
        return FlagTable({flags: uids - other._sets.get(flags, NO_UIDS) for flags, uids in self._sets.items()})

    def to_json(self) -> dict[str, str]:
        """As text: flags, separated by spaces, to UIDs."""
        return {" ".join(sorted(flags)): uids.text() for flags, uids in self._sets.items()}

    @classmethod
    def from_json(cls, value: object) -> FlagTable:
        """Read what `to_json` wrote.

        Raises:
            ValueError: It is something else.
        """
        if not isinstance(value, dict) or not all(isinstance(text, str) for pair in value.items() for text in pair):
            raise ValueError("a table of flags is an object of texts")
        # Only at spaces: what a server sends in a flag may hold other white space.
        table = cls({frozenset(filter(None, flags.split(" "))): UidSet.parse(uids) for flags, uids in value.items()})
        if len(table) != len(table.uids):
            raise ValueError("a message has two sets of flags")
        return table


class FlagGatherer:
    """Makes a table of what is told of one message after the other: eight bytes for each until then."""

    __slots__ = ("_kinds", "_numbers", "_uids")

    def __init__(self) -> None:
        self._numbers: dict[frozenset[str], int] = {}
        self._uids = array("I")
        self._kinds = array("I")

    def add(self, uid: int, flags: frozenset[str]) -> None:
        """A message has these flags; what is told last of a message counts."""
        self._uids.append(uid)
        self._kinds.append(self._numbers.setdefault(flags, len(self._numbers)))

    def table(self) -> FlagTable:
        """What was told so far."""
        sets = self._sorted(zip(self._uids, self._kinds, strict=True))
        table = self._table(sets)
        if len(table) == len(table.uids):
            return table
        return self._table(self._sorted(dict(zip(self._uids, self._kinds, strict=True)).items()))

    def _sorted(self, told: Iterable[tuple[int, int]]) -> list[array[int]]:
        sets = [array("I") for _ in self._numbers]
        for uid, kind in told:
            sets[kind].append(uid)
        return sets

    def _table(self, sets: list[array[int]]) -> FlagTable:
        by_flags: dict[frozenset[str], UidSet] = {}
        for flags, uids in zip(self._numbers, sets, strict=True):
            lasting = flags - _OF_THE_SESSION
            by_flags[lasting] = by_flags.get(lasting, NO_UIDS) | UidSet.from_numbers(uids)
        return FlagTable(by_flags)
