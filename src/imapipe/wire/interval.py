"""The loops under `UidSet`: closed ranges of 32-bit numbers, ascending by their starts.

A *run* is an iterator of `(first, last)` with `1 <= first <= last <= MAX_UID`, ascending and disjoint. Results are two
arrays, starts and ends, in which no two ranges touch. Every function is one pass over what it is given, and no call
into C goes over more than a block of it: sets of millions are read in threads, which give way between two calls only.
Where one side has a few ranges only, they are looked up in the other, which is copied as blocks.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, compress, pairwise, repeat, starmap
from operator import add, le, lt, sub
from typing import Final

from imapipe.wire.sequence_set import MAX_UID

Arrays = tuple["array[int]", "array[int]"]
Run = Iterator[tuple[int, int]]

BLOCK: Final = 16_384
"""So many numbers take a millisecond."""

FEW: Final = 16
"""To look one range up takes as long as to go past so many of them."""

_NO_RANGE: Final = (MAX_UID + 1, MAX_UID + 1)
"""Stands after the last range of a run: it begins above every UID, so it is never reached."""


def join(ranges: Iterable[tuple[int, int]]) -> Arrays:
    """Put ranges that ascend by their starts into arrays, joining those that overlap or touch."""
    starts, ends = array("I"), array("I")
    highest = -1
    for start, end in ranges:
        if start > highest + 1:
            starts.append(start)
            ends.append(end)
            highest = end
        elif end > highest:
            ends[-1] = highest = end
    return starts, ends


def join_numbers(numbers: array[int]) -> Arrays:
    """Make ranges of ascending numbers, which may repeat."""
    starts, ends = numbers[:1], array("I")
    for at in range(0, len(numbers), BLOCK):
        block, following = numbers[at : at + BLOCK], numbers[at + 1 : at + 1 + BLOCK]
        # Whether a gap is in front of each number but the first; no Python code runs for any of them.
        gaps = bytes(map(lt, repeat(1), map(sub, following, block)))
        ends.extend(compress(block, gaps))
        starts.extend(compress(following, gaps))
    ends.extend(numbers[-1:])
    return starts, ends


def join_runs(parts: Sequence[Arrays]) -> Arrays | None:
    """Put runs, none of them empty, behind each other; None where one does not begin above the one before it."""
    starts, ends = array("I"), array("I")
    for their_starts, their_ends in parts:
        if not starts or their_starts[0] > ends[-1] + 1:
            starts.extend(their_starts)
            ends.extend(their_ends)
        elif their_starts[0] == ends[-1] + 1:
            ends[-1] = their_ends[0]
            starts.extend(their_starts[1:])
            ends.extend(their_ends[1:])
        else:
            return None
    return starts, ends


def count_before(starts: array[int], ends: array[int]) -> tuple[array[int], int]:
    """How many numbers are in front of each range, and in all of them."""
    before = array("I")
    total = 0
    for at in range(0, len(starts), BLOCK):
        widths = map(add, map(sub, ends[at : at + BLOCK], starts[at : at + BLOCK]), repeat(1))
        block = list(accumulate(widths, initial=total))
        total = block.pop()
        before.extend(block)
    return before, total


def by_start(left: Run, right: Run) -> Iterator[tuple[int, int]]:
    """Merge two runs into one sequence that ascends by the starts, for `join`."""
    mine, theirs = next(left, _NO_RANGE), next(right, _NO_RANGE)
    while mine is not theirs:
        if mine <= theirs:
            yield mine
            mine = next(left, _NO_RANGE)
        else:
            yield theirs
            theirs = next(right, _NO_RANGE)


def intersect(left: Run, right: Run) -> Arrays:
    """Keep what both runs cover."""
    starts, ends = array("I"), array("I")
    their_start, their_end = next(right, _NO_RANGE)
    for start, end in left:
        while their_end < start:
            their_start, their_end = next(right, _NO_RANGE)
        while their_start <= end:
            starts.append(max(start, their_start))
            ends.append(min(end, their_end))
            if their_end > end:
                break
            their_start, their_end = next(right, _NO_RANGE)
    return starts, ends


def subtract(left: Run, right: Run) -> Arrays:
    """Keep what the left run covers and the right one does not."""
    starts, ends = array("I"), array("I")
    their_start, their_end = next(right, _NO_RANGE)
    for start, end in left:
        rest = start
        while their_end < rest:
            their_start, their_end = next(right, _NO_RANGE)
        while their_start <= end:
            if rest < their_start:
                starts.append(rest)
                ends.append(their_start - 1)
            rest = their_end + 1
            if their_end >= end:
                break
            their_start, their_end = next(right, _NO_RANGE)
        if rest <= end:
            starts.append(rest)
            ends.append(end)
    return starts, ends


def are_few(count: int, others: int) -> bool:
    """Tell whether so many ranges are better looked up in so many others than both gone through."""
    return count * FEW < others


def intersect_few(many: Arrays, few: Iterable[tuple[int, int]]) -> Arrays:
    """Keep what both cover; `few` ascend and do not touch."""
    starts, ends = array("I"), array("I")
    their_starts, their_ends = many
    first = 0
    for low, high in few:
        first = bisect_left(their_ends, low, first)
        last = bisect_right(their_starts, high, first)
        if first == last:
            continue
        at = len(starts)
        starts.extend(their_starts[first:last])
        ends.extend(their_ends[first:last])
        starts[at] = max(low, starts[at])
        ends[-1] = min(high, ends[-1])
    return starts, ends


def subtract_few(many: Arrays, few: Iterable[tuple[int, int]]) -> Arrays:
    """Keep of many ranges what a few do not cover."""
    return intersect_few(many, _between(few))


def join_few(many: Arrays, few: Iterable[tuple[int, int]]) -> tuple[Arrays, int]:
    """Put a few ranges into many; gives how many numbers are new, too."""
    starts, ends = array("I"), array("I")
    their_starts, their_ends = many
    new = at = 0
    for low, high in few:
        first = bisect_left(their_ends, low - 1, at)
        last = bisect_right(their_starts, high + 1, first)
        starts.extend(their_starts[at:first])
        ends.extend(their_ends[at:first])
        if first < last:
            low, high = min(low, their_starts[first]), max(high, their_ends[last - 1])  # noqa: PLW2901
            new += sum(their_starts[first:last]) - sum(their_ends[first:last]) - (last - first)
        if ends and low <= ends[-1] + 1:
            # It touches what the range before it was put into.
            new += max(high, ends[-1]) - ends[-1]
            ends[-1] = max(high, ends[-1])
        else:
            new += high - low + 1
            starts.append(low)
            ends.append(high)
        at = last
    starts.extend(their_starts[at:])
    ends.extend(their_ends[at:])
    return (starts, ends), new


def _between(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What ascending ranges that do not touch leave out."""
    low = 1
    for first, last in ranges:
        if low < first:
            yield low, first - 1
        low = last + 1
    if low <= MAX_UID:
        yield low, MAX_UID


def ascends(numbers: array[int]) -> bool:
    """Tell whether no number is lower than the one before it."""
    return all(all(starmap(le, pairwise(numbers[at : at + 1 + BLOCK]))) for at in range(0, len(numbers), BLOCK))


def are_apart(starts: array[int], ends: array[int]) -> bool:
    """Tell whether ranges ascend, and neither overlap nor touch: nothing of them is left to sort or to join."""
    return all(
        min(map(sub, starts[at + 1 : at + 1 + BLOCK], ends[at : at + BLOCK]), default=2) > 1
        and all(map(le, starts[at : at + BLOCK], ends[at : at + BLOCK]))
        for at in range(0, len(starts), BLOCK)
    )


def sort_numbers(numbers: array[int]) -> array[int]:
    """Sort by the upper 16 bits first, so that only one part at a time exists as Python integers."""
    parts: dict[int, array[int]] = {}
    for number in numbers:
        part = parts.get(number >> 16)
        if part is None:
            part = parts[number >> 16] = array("I")
        part.append(number)
    ordered = array("I")
    for upper in sorted(parts):
        ordered.extend(sorted(parts.pop(upper)))
    return ordered


def sort_ranges(starts: array[int], ends: array[int]) -> Iterator[tuple[int, int]]:
    """Sort ranges by their starts, both numbers packed into one: a list of pairs would take three times the memory."""
    parts: dict[int, array[int]] = {}
    for start, end in zip(starts, ends, strict=True):
        part = parts.get(start >> 16)
        if part is None:
            part = parts[start >> 16] = array("Q")
        part.append(start << 32 | end)
    for upper in sorted(parts):
        for pair in sorted(parts.pop(upper)):
            yield pair >> 32, pair & MAX_UID
