"""What changed between two times, in the order in which it is told. Pure.

Invariant: the order depends on the content alone: what arrived, what has other flags, what vanished, each by UID. So a
number says how far somebody has come, also to the process after this one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from imapipe.models.batch import NO_UIDS
from imapipe.models.change import Arrived, Change, FlagsChanged, Vanished
from imapipe.models.flag_table import FlagTable
from imapipe.models.json_value import JSON
from imapipe.wire.uid_set import UidSet


@dataclass(frozen=True, slots=True)
class News:
    """What changed.

    Attributes:
        arrived: Messages that are new, with their flags.
        changed: Messages with other flags, and these.
        vanished: Messages that are gone.
    """

    arrived: FlagTable = field(default_factory=FlagTable)
    changed: FlagTable = field(default_factory=FlagTable)
    vanished: UidSet = NO_UIDS

    @classmethod
    def between(cls, known: FlagTable, now: FlagTable) -> News:
        """What makes the second of the first."""
        before, after = known.uids, now.uids
        return cls(now.without(before), now.within(before).differing(known), before - after)

    def __len__(self) -> int:
        return len(self.arrived) + len(self.changed) + len(self.vanished)

    def items(self) -> Iterator[Change]:
        """One thing after the other."""
        for uid, flags in self.arrived.items():
            yield Arrived(uid, flags)
        for uid, flags in self.changed.items():
            yield FlagsChanged(uid, flags)
        for uid in self.vanished:
            yield Vanished(uid)

    def first(self, count: int) -> News:
        """The first so many of `items`."""
        rest = max(0, count - len(self.arrived))
        return News(
            self.arrived.within(self.arrived.uids[:count]),
            self.changed.within(self.changed.uids[:rest]),
            self.vanished[: max(0, rest - len(self.changed))],
        )

    def applied_to(self, known: FlagTable) -> FlagTable:
        """What is known to somebody who was told all of it."""
        return known.updated(self.arrived).updated(self.changed).without(self.vanished)

    def to_json(self) -> dict[str, JSON]:
        """As JSON values."""
        return {
            "arrived": {**self.arrived.to_json()},
            "changed": {**self.changed.to_json()},
            "vanished": self.vanished.text(),
        }

    @classmethod
    def from_json(cls, value: object) -> News:
        """Read what `to_json` wrote.

        Raises:
            ValueError: It is something else.
        """
        match value:
            case {"arrived": arrived, "changed": changed, "vanished": str(vanished)}:
                return cls(FlagTable.from_json(arrived), FlagTable.from_json(changed), UidSet.parse(vanished))
            case _:
                raise ValueError("what was to be told is not whole")
