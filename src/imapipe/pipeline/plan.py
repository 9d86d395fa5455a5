"""The plan of a run: which UIDs, in which order, in batches of which size. Pure: no I/O.

Invariants:

- `planned` never changes; every UID of it is skipped or given out in exactly one batch.
- A plan holds interval sets, never an object per UID.
- A batch is given out when a lane asks for it, with the size its policy wants at that moment; the text of its UIDs
  fits into one command.
"""

from __future__ import annotations

from collections.abc import Mapping

from imapipe.models.batch import Batch
from imapipe.pipeline.batching import Sizer
from imapipe.wire.uid_set import UidSet


class Plan:
    """What is left to do.

    Args:
        planned: What the search found.
        newest_first: Give out the highest UIDs first.
        limit: Give out at most so many; the rest is not planned.
        max_command_bytes: How long the text of a batch's UIDs may be.
        sizes: RFC822.SIZE by UID, where byte bounds were asked for.
        max_bytes: The most bytes in one batch, with `sizes`.
    """

    __slots__ = ("_max_bytes", "_max_command_bytes", "_newest_first", "_number", "_sizes", "batch_size", "planned", "remaining")

    def __init__(
        self,
        planned: UidSet,
        *,
        newest_first: bool = False,
        limit: int | None = None,
        max_command_bytes: int = 8000,
        sizes: Mapping[int, int] | None = None,
        max_bytes: int | None = None,
    ) -> None:
        if limit is not None and limit < len(planned):
            planned = planned[len(planned) - limit :] if newest_first else planned[:limit]
        self.planned = planned
        self.remaining = planned
        self.batch_size = 0
        self._newest_first = newest_first
        self._max_command_bytes = max_command_bytes
        self._sizes = sizes
        self._max_bytes = max_bytes
        self._number = 0

    def skip(self, uids: UidSet) -> UidSet:
        """Take UIDs out; gives those that were still in the plan."""
        taken = self.remaining & uids
        self.remaining -= taken
        return taken

    def next_batch(self, sizer: Sizer, lane: int) -> Batch | None:
        """Give out the next batch, or None when nothing is left."""
        remaining = self.remaining
        if not remaining:
            return None
        size = self.batch_size = sizer.size
        if self._newest_first:
            total = len(remaining)
            head = remaining[max(0, total - size) :]
            while len(head) > 1 and len(head.text()) > self._max_command_bytes:
                head = head[len(head) - len(head) // 2 :]
        else:
            head, _ = remaining.take_within(size, self._max_command_bytes)
        known: int | None = None
        if self._sizes is not None and self._max_bytes is not None:
            head, known = self._cut_by_bytes(head, self._sizes, self._max_bytes)
        self.remaining = self._without(remaining, head)
        self._number += 1
        return Batch(self._number, head, lane=lane, size_bytes=known)

    def take_rest(self) -> UidSet:
        """Take all that is left, because the run gives up."""
        rest, self.remaining = self.remaining, UidSet()
        return rest

    def _without(self, remaining: UidSet, head: UidSet) -> UidSet:
        """Cut from an end of the set, which is cheaper than a difference."""
        count = len(head)
        return remaining[: len(remaining) - count] if self._newest_first else remaining[count:]

    def _cut_by_bytes(self, head: UidSet, sizes: Mapping[int, int], max_bytes: int) -> tuple[UidSet, int]:
        total = 0
        count = 0
        for uid in reversed(tuple(head)) if self._newest_first else head:
            size = sizes.get(uid, 0)
            if count and total + size > max_bytes:
                break
            total += size
            count += 1
        return (head[len(head) - count :] if self._newest_first else head[:count]), total
