"""What is said of messages one after the other, as one: the last word counts.

Invariant: it takes time in proportion to what is said, and to the logarithm of how often, whatever is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TypeAlias

from imapipe.wire.uid_set import UidSet

Told: TypeAlias = tuple[Mapping[str, UidSet], UidSet]
"""Messages that failed, by reason, each of them once, and those that vanished."""


def last_failures(told: Sequence[Told]) -> dict[str, UidSet]:
    """The messages that failed by the last word of each, by reason; what vanished at last is not among them."""
    failed: dict[str, list[UidSet]] = {}
    for by_reason, _ in told:
        for reason, uids in by_reason.items():
            failed.setdefault(reason, []).append(uids)
    words = [*chain.from_iterable(failed.values()), *(vanished for _, vanished in told)]
    if sum(map(len, words)) == len(UidSet.union(words)):
        return {reason: UidSet.union(sets) for reason, sets in failed.items()}
    # The same message twice, which no single run tells. Two and two together: each word is looked at as often as
    # there are levels, not as there are words.
    rest = [({reason: uids - vanished for reason, uids in by_reason.items()}, vanished) for by_reason, vanished in told]
    while len(rest) > 1:
        pairs = [_in_order(*pair) for pair in zip(rest[::2], rest[1::2], strict=False)]
        rest = [*pairs, rest[-1]] if len(rest) % 2 else pairs
    return rest[0][0]


def _in_order(first: Told, second: Told) -> tuple[dict[str, UidSet], UidSet]:
    """What was told first, and then."""
    (before, gone_before), (after, gone_after) = first, second
    again = UidSet.union((gone_after, *after.values()))
    failed = {reason: uids - again for reason, uids in before.items()}
    for reason, uids in after.items():
        failed[reason] = failed[reason] | uids if reason in failed else uids
    return failed, gone_before | gone_after
