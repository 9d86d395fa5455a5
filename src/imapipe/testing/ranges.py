"""Message sets: read from their text, and counted, cut and written as ranges of indexes (RFC 3501 ``sequence-set``)."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from .arguments import Arguments, BadCommand

_SET_ITEM = re.compile(rb"(\d+|\*)(?::(\d+|\*))?")
_STAR = 0

IndexRanges = list[tuple[int, int]]
"""Half-open ranges of indexes into a sequence of UIDs, ascending and disjoint."""


def parse_set(text: bytes) -> list[tuple[int, int]]:
    """Parse a set into ``(low, high)`` pairs as written; ``*`` is 0.

    Raises:
        BadCommand: A number is 0 or above 4294967295.
    """
    pairs: list[tuple[int, int]] = []
    for item in text.split(b","):
        match = _SET_ITEM.fullmatch(item)
        if match is None:
            raise BadCommand("Invalid message set")
        first = _set_number(match.group(1))
        second = first if match.group(2) is None else _set_number(match.group(2))
        pairs.append((first, second))
    return pairs


def _set_number(text: bytes) -> int:
    if text == b"*":
        return _STAR
    value = int(text)
    if not 1 <= value <= 0xFFFFFFFF:
        raise BadCommand("Invalid message number")
    return value


def resolve_set(text: bytes, view: Sequence[int], by_uid: bool) -> IndexRanges:
    """The messages of a view that a set names, as index ranges.

    Args:
        text: The set as written, not ``$``.
        view: UIDs of the messages, ascending; the message number of ``view[i]`` is i + 1.
        by_uid: Whether the numbers are UIDs. UIDs that are not there are ignored (RFC 3501 6.4.8).

    Raises:
        BadCommand: A message number is not there.
    """
    ranges: IndexRanges = []
    count = len(view)
    for first, second in parse_set(text):
        last = view[-1] if by_uid and count else count
        low, high = (last if number == _STAR else number for number in (first, second))
        if low > high:
            low, high = high, low
        if by_uid:
            ranges.append((bisect_left(view, low), bisect_right(view, high)))
        elif high > count or low < 1:
            raise BadCommand("Invalid message number")
        else:
            ranges.append((low - 1, high))
    return merge_ranges(ranges)


def merge_ranges(ranges: IndexRanges) -> IndexRanges:
    """Sort and join ranges that overlap or touch; empty ones are dropped."""
    merged: IndexRanges = []
    for low, high in sorted(ranges):
        if low >= high:
            continue
        if merged and low <= merged[-1][1]:
            if high > merged[-1][1]:
                merged[-1] = (merged[-1][0], high)
        else:
            merged.append((low, high))
    return merged


def count_ranges(ranges: IndexRanges) -> int:
    """How many indexes the ranges hold."""
    return sum(high - low for low, high in ranges)


def format_uids(uids: Sequence[int]) -> bytes:
    """Ascending UIDs as a compact set, ``1:3,7``."""
    if isinstance(uids, range) and uids.step == 1 and len(uids) > 1:
        return b"%d:%d" % (uids[0], uids[-1])
    out: list[bytes] = []
    start = previous = 0
    for uid in uids:
        if start and uid == previous + 1:
            previous = uid
            continue
        if start:
            out.append(b"%d" % start if start == previous else b"%d:%d" % (start, previous))
        start = previous = uid
    if start:
        out.append(b"%d" % start if start == previous else b"%d:%d" % (start, previous))
    return b",".join(out)


def read_partial(arguments: Arguments) -> tuple[int, int]:
    """Read ``a:b`` or ``-a:-b`` of PARTIAL (RFC 9394); from the end both are negative."""
    negative = arguments.take(b"-")
    first = arguments.number()
    arguments.expect(b":")
    if arguments.take(b"-") is not negative:
        raise BadCommand("Invalid PARTIAL range")
    second = arguments.number()
    if not first or not second:
        raise BadCommand("Invalid PARTIAL range")
    low, high = min(first, second), max(first, second)
    return (-high, -low) if negative else (low, high)


def take_partial(ranges: IndexRanges, partial: tuple[int, int]) -> IndexRanges:
    """The part of the messages that PARTIAL names, counted from the lowest, or from the highest if negative."""
    total = count_ranges(ranges)
    low, high = partial
    start, stop = (low - 1, high) if low > 0 else (total + low, total + high + 1)
    return slice_ranges(ranges, max(start, 0), max(min(stop, total), 0))


def slice_ranges(ranges: IndexRanges, start: int, stop: int) -> IndexRanges:
    """Indexes by rank: ``ranges[start:stop]`` if they were written out."""
    taken: IndexRanges = []
    rank = 0
    for low, high in ranges:
        first, last = max(start - rank, 0), min(stop - rank, high - low)
        if first < last:
            taken.append((low + first, low + last))
        rank += high - low
    return taken
