"""The plan of a run: which UIDs, in which order, in batches of which size. Pure: no I/O.

A plan is a sequence of tiers, each a set of UIDs with an order of its own; a tier is given out whole before the
next one begins. Most plans have one.

Invariants:

- `planned` never changes; every UID of it is skipped or given out in exactly one batch.
- Tiers are disjoint; a batch never spans two of them.
- A plan holds interval sets and ranks into them, never an object per UID, and giving out a batch costs what the batch
  costs, not what the plan does.
- A batch is given out when a lane asks for it, with the size its policy wants at that moment; the text of its UIDs
  fits into one command.
- What takes long for large sets is computed in a thread, of sets that never change; the plan itself is changed in the
  event loop only, at once, and never by what was computed of an earlier state of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from imapipe.models.batch import Batch
from imapipe.pipeline.batching import Sizer
from imapipe.runtime.large_sets import beside_the_loop
from imapipe.wire.uid_set import UidSet


class Tier:
    """A set of UIDs that is given out from one of its ends.

    Args:
        uids: The UIDs.
        newest_first: Begin with the highest.
    """

    __slots__ = ("_high", "_low", "_uids", "newest_first")

    def __init__(self, uids: UidSet, *, newest_first: bool = False) -> None:
        self.newest_first = newest_first
        self.keep(uids)

    def keep(self, uids: UidSet) -> None:
        """From now on these are what is to be given out."""
        self._uids = uids.ranked()
        self._low = 0
        self._high = len(uids)

    def __len__(self) -> int:
        return self._high - self._low

    @property
    def remaining(self) -> UidSet:
        """What was not given out."""
        return self._uids[self._low : self._high]

    def take(self, count: int, max_text_bytes: int) -> UidSet:
        """Give out at most `count` UIDs whose text fits; at least one."""
        if not self.newest_first:
            end = min(self._high, self._uids.fit(self._low, count, max_text_bytes))
            head = self._uids[self._low : end]
            self._low = end
            return head
        start = max(self._low, self._high - count)
        head = self._uids[start : self._high]
        while len(head) > 1 and len(head.text()) > max_text_bytes:
            start = self._high - len(head) // 2
            head = self._uids[start : self._high]
        self._high = start
        return head

    def put_back(self, count: int) -> None:
        """Take back the UIDs that were given out last."""
        if self.newest_first:
            self._high += count
        else:
            self._low -= count


class Plan:
    """What is left to do.

    Args:
        planned: What the search found, or tiers of it in the order in which they are to be done.
        newest_first: Give out the highest UIDs first, where `planned` is one set.
        limit: Give out at most so many; the rest is not planned.
        max_command_bytes: How long the text of a batch's UIDs may be.
        sizes: RFC822.SIZE by UID, where byte bounds were asked for.
    """

    __slots__ = ("_changes", "_max_command_bytes", "_number", "_sizes", "_tiers", "batch_size", "planned")

    def __init__(
        self,
        planned: UidSet | Sequence[Tier],
        *,
        newest_first: bool = False,
        limit: int | None = None,
        max_command_bytes: int = 8000,
        sizes: Mapping[int, int] | None = None,
    ) -> None:
        tiers = [Tier(planned, newest_first=newest_first)] if isinstance(planned, UidSet) else list(planned)
        self._tiers = tiers if limit is None else _limited(tiers, limit)
        self.planned = self.remaining
        self.batch_size = 0
        self._max_command_bytes = max_command_bytes
        self._sizes = sizes
        self._number = 0
        # How often the tiers were changed.
        self._changes = 0

    @property
    def remaining(self) -> UidSet:
        """The UIDs that no batch was made of yet."""
        remaining = UidSet()
        for tier in self._tiers:
            remaining |= tier.remaining
        return remaining

    async def left(self) -> UidSet:
        """The same, computed in a thread where they are many and in several tiers."""
        tiers = [tier.remaining for tier in self._tiers]
        return await beside_the_loop(partial(UidSet.union, tiers), *tiers)

    @property
    def remaining_count(self) -> int:
        """How many they are."""
        return sum(len(tier) for tier in self._tiers)

    def know_sizes(self, sizes: Mapping[int, int]) -> None:
        """From now on batches keep to the byte bounds of their policy; RFC822.SIZE by UID."""
        self._sizes = sizes

    async def skip(self, uids: UidSet) -> UidSet:
        """Take UIDs out; gives those that were still in the plan. Cancelled, it has taken out nothing."""
        while True:
            changes, tiers = self._changes, [tier.remaining for tier in self._tiers]
            taken, kept = await beside_the_loop(partial(_without, tiers, uids), uids, *tiers)
            # Where a batch was given out meanwhile, less is left to look at.
            if changes == self._changes:
                break
        if taken:
            self._changes += 1
            for tier, rest in zip(self._tiers, kept, strict=True):
                tier.keep(rest)
        return taken

    def next_batch(self, sizer: Sizer, lane: int) -> Batch | None:
        """Give out the next batch, or None when nothing is left."""
        for number, tier in enumerate(self._tiers):
            if tier:
                return self._cut(tier, number, sizer.of_tier(number), lane)
        return None

    def _cut(self, tier: Tier, number: int, sizer: Sizer, lane: int) -> Batch:
        self._changes += 1
        self.batch_size = sizer.size
        uids = tier.take(sizer.size, self._max_command_bytes)
        known: int | None = None
        if self._sizes is not None and sizer.max_bytes is not None:
            count, known = _count_within(uids, self._sizes, sizer.max_bytes, newest_first=tier.newest_first)
            tier.put_back(len(uids) - count)
            uids = uids[len(uids) - count :] if tier.newest_first else uids[:count]
        self._number += 1
        return Batch(self._number, uids, lane=lane, size_bytes=known, tier=number)

    async def take_rest(self) -> UidSet:
        """Take all that is left, because the run gives up. Cancelled, it has taken it all the same."""
        self._changes += 1
        tiers = [tier.remaining for tier in self._tiers]
        self._tiers.clear()
        return await beside_the_loop(partial(UidSet.union, tiers), *tiers)


def _without(tiers: Sequence[UidSet], uids: UidSet) -> tuple[UidSet, list[UidSet]]:
    """What UIDs take out of some tiers, and what is left of each."""
    taken = [tier & uids for tier in tiers]
    kept = [(tier - out).ranked() for tier, out in zip(tiers, taken, strict=True)]
    return UidSet.union(taken), kept


def _limited(tiers: Sequence[Tier], limit: int) -> list[Tier]:
    limited: list[Tier] = []
    for tier in tiers:
        count = min(limit, len(tier))
        uids = tier.remaining
        uids = uids[len(uids) - count :] if tier.newest_first else uids[:count]
        limited.append(Tier(uids, newest_first=tier.newest_first))
        limit -= count
    return limited


def _count_within(uids: UidSet, sizes: Mapping[int, int], max_bytes: int, *, newest_first: bool) -> tuple[int, int]:
    """How many messages from the front fit into so many bytes, at least one, and the bytes they hold."""
    total = 0
    count = 0
    for uid in reversed(tuple(uids)) if newest_first else uids:
        size = sizes.get(uid, 0)
        if count and total + size > max_bytes:
            break
        total += size
        count += 1
    return count, total
