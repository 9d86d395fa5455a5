"""Priority: classes of messages, done one after the other (S4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from imapipe.models.batch import BatchResult
from imapipe.pipeline.batching import BatchPolicy, FixedBatch, MessageClass, Sizer
from imapipe.search import ALL
from imapipe.wire.search_key import SearchKey


@dataclass(frozen=True, slots=True)
class PriorityClass:
    """One class of a `PriorityBatch`.

    Args:
        search: Which messages belong to it, of those that no class before it took.
        policy: The sizes of its batches.
        newest_first: Highest UIDs first, instead of the lowest.
    """

    search: SearchKey
    policy: BatchPolicy = FixedBatch(50)  # noqa: RUF009 - a frozen value
    newest_first: bool = False


class PriorityBatch:
    """Does classes of messages one after the other, each with its own batches.

    Each class costs one search when the run begins. A message belongs to the first class that finds it, so the
    classes are disjoint whatever their searches say; an empty class is passed over. The order holds between
    batches: on several connections the last batches of a class may be under way when the next class begins.

    Args:
        classes: In the order in which they are to be done.
        rest: The policy for messages of no class, which come last.
        rest_newest_first: Their order.

    Raises:
        ValueError: No class, or a `PriorityBatch` within another.
    """

    __slots__ = ("_classes", "rest", "rest_newest_first")

    def __init__(
        self,
        *classes: PriorityClass,
        rest: BatchPolicy = FixedBatch(50),  # noqa: B008 - a frozen value
        rest_newest_first: bool = False,
    ) -> None:
        if not classes:
            raise ValueError("PriorityBatch() takes at least one PriorityClass")
        if any(policy.classes for policy in (*(c.policy for c in classes), rest)):
            raise ValueError("a PriorityBatch cannot hold another one: put its classes into one list")
        self._classes = classes
        self.rest = rest
        self.rest_newest_first = rest_newest_first

    @property
    def classes(self) -> Sequence[MessageClass]:
        """See `BatchPolicy`; the rest is the last of them."""
        return (*self._classes, PriorityClass(ALL, self.rest, self.rest_newest_first))

    @property
    def needs_sizes(self) -> bool:
        """See `BatchPolicy`."""
        return any(entry.policy.needs_sizes for entry in self.classes)

    def sizer(self) -> Sizer:
        """See `BatchPolicy`."""
        return _Priority([entry.policy.sizer() for entry in self.classes])


class _Priority:
    __slots__ = ("_sizers",)

    def __init__(self, sizers: list[Sizer]) -> None:
        self._sizers = sizers

    @property
    def size(self) -> int:
        return self._sizers[0].size

    @property
    def max_bytes(self) -> int | None:
        return self._sizers[0].max_bytes

    def observe(self, result: BatchResult) -> None:
        self._sizers[result.batch.tier].observe(result)

    def of_tier(self, tier: int) -> Sizer:
        return self._sizers[tier]
