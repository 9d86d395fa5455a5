"""Sets of UIDs as sorted ranges: the `sequence-set` of RFC 9051 §9, for millions of messages.

Invariants of a `UidSet`, on which everything here rests:

- `_starts` and `_ends` have equal length; range *i* is `_starts[i] .. _ends[i]`, both ends included.
- Ranges ascend and never touch: `_ends[i] + 1 < _starts[i + 1]`. A set has therefore one
  representation, so equality is equality of the arrays, and `text()` is the shortest text.
- `1 <= _starts[i] <= _ends[i] <= 2**32 - 1`. The arrays hold 32-bit numbers: 8 bytes a range.
- A set never changes. The rank table and the count are computed when first asked for, then kept.

A *rank* is the position of a UID in ascending order: rank 0 is the lowest UID. `uids[a:b]` cuts by rank,
without going through the UIDs before `a`.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, repeat, starmap
from operator import add
from typing import Final, overload

from imapipe.wire.interval import (
    are_apart,
    are_few,
    ascends,
    by_start,
    count_before,
    intersect,
    intersect_few,
    join,
    join_few,
    join_numbers,
    join_runs,
    sort_numbers,
    sort_ranges,
    subtract,
    subtract_few,
)
from imapipe.wire.sequence_set import MAX_UID, parse_numbers, parse_sequence_set, require_positive

__all__ = ["MAX_UID", "UidSet", "parse_numbers"]

_RANGES_PER_BLOCK: Final = 4_096
_REPR_RANGES: Final = 8


class UidSet:
    """An immutable, hashable set of UIDs (1 … 2**32 - 1), kept as ranges.

    `len`, `in`, iteration (ascending), `==`, `<=` (subset), `|`, `&`, `-` and `^` work as those of a `frozenset`;
    the last four take time in proportion to the ranges where both sets overlap, or to those of the set that has much
    fewer, and copy the rest as blocks. For two large sets that overlap see `runtime.large_sets`.
    """

    __slots__ = ("_before", "_count", "_ends", "_starts")

    _starts: array[int]
    _ends: array[int]
    _before: array[int] | None
    _count: int

    def __init__(self) -> None:
        """Make the empty set; the other ways in are the class methods."""
        self._starts = array("I")
        self._ends = array("I")
        self._before = None
        self._count = -1

    # ---------------------------------------------------------------- construction

    @classmethod
    def from_numbers(cls, numbers: Iterable[int]) -> UidSet:
        """Make a set of UIDs in any order, with or without repetitions.

        Raises:
            ValueError: A number outside 1 … 2**32 - 1.
        """
        # iter(): an array made directly from bytes would take them for machine words.
        try:
            kept = array("I", iter(numbers))
        except OverflowError:
            raise ValueError(f"a UID is a number from 1 to {MAX_UID}") from None
        require_positive(kept)
        if not ascends(kept):
            kept = sort_numbers(kept)
        return cls._of(*join_numbers(kept))

    @classmethod
    def from_ranges(cls, ranges: Iterable[tuple[int, int]]) -> UidSet:
        """Make a set of `(first, last)` pairs, both included, in any order; `(5, 1)` means `(1, 5)`.

        Raises:
            ValueError: A number outside 1 … 2**32 - 1.
        """
        starts, ends = array("I"), array("I")
        try:
            for first, last in ranges:
                starts.append(min(first, last))
                ends.append(max(first, last))
        except OverflowError:
            raise ValueError(f"a UID is a number from 1 to {MAX_UID}") from None
        require_positive(starts)
        ordered = zip(starts, ends, strict=True) if ascends(starts) else sort_ranges(starts, ends)
        return cls._of(*join(ordered))

    @classmethod
    def union(cls, sets: Sequence[UidSet]) -> UidSet:
        """Make one set of many, which costs next to nothing where none reaches into another, whatever their order."""
        # The pieces of a list that goes down are in order when they are turned round.
        runs = join_runs(sorted(((part._starts, part._ends) for part in sets if part), key=lambda run: run[0][0]))
        made = cls._of(*runs) if runs is not None else cls.from_ranges(pair for part in sets for pair in part.ranges())
        return made.ranked()

    @classmethod
    def from_search(cls, chunks: Iterable[bytes | bytearray | memoryview]) -> UidSet:
        """Make a set of the numbers of one or more SEARCH responses, such as `b"2 84 882"`.

        Args:
            chunks: One item for each response. A number is never split over two of them.

        Raises:
            ValueError: As in `parse_numbers`.
        """
        numbers = array("I")
        for chunk in chunks:
            numbers.extend(parse_numbers(chunk))
        return cls.from_numbers(numbers)

    @classmethod
    def parse(cls, text: str | bytes | bytearray | memoryview, *, star: int | None = None) -> UidSet:
        """Read a `sequence-set` (RFC 9051 §9), such as `1:5,9`; the empty text is the empty set.

        Ranges may overlap, stand in any order and be reversed.

        Args:
            text: The set, as `text()` writes it or as a server sends it.
            star: What `*` stands for: the highest UID of the mailbox. Without it `*` is refused, because
                `7:*` would mean something else in every mailbox.

        Raises:
            ValueError: The text is not such a set, or a number is outside 1 … 2**32 - 1.
        """
        data = text.encode("utf-8", "replace") if isinstance(text, str) else text
        if not len(data):
            return cls()
        starts, ends = parse_sequence_set(data, star)
        if are_apart(starts, ends):
            # As servers write it.
            require_positive(starts)
            return cls._of(starts, ends)
        return cls.from_ranges(zip(starts, ends, strict=True))

    @classmethod
    def _of(cls, starts: array[int], ends: array[int]) -> UidSet:
        """Wrap two arrays that already satisfy the invariants."""
        made = cls()
        made._starts = starts
        made._ends = ends
        return made

    # ---------------------------------------------------------------- reading

    def __len__(self) -> int:
        if self._count < 0:
            self._count = sum(self._ends) - sum(self._starts) + len(self._starts)
        return self._count

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(map(range, self._starts, map(add, self._ends, repeat(1))))

    def __contains__(self, uid: object) -> bool:
        if not isinstance(uid, int):
            return False
        position = bisect_left(self._ends, uid)
        return position < len(self._ends) and self._starts[position] <= uid

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, UidSet):
            return NotImplemented
        return self._starts == other._starts and self._ends == other._ends

    def __hash__(self) -> int:
        return hash((self._starts.tobytes(), self._ends.tobytes()))

    def __repr__(self) -> str:
        if len(self._starts) <= _REPR_RANGES:
            return f"<UidSet {self.text() or 'empty'}>"
        return f"<UidSet of {len(self)} UIDs in {self.range_count} ranges from {self.min} to {self.max}>"

    @property
    def range_count(self) -> int:
        """The number of ranges; a single UID counts as one."""
        return len(self._starts)

    @property
    def min(self) -> int:
        """The lowest UID.

        Raises:
            ValueError: The set is empty.
        """
        if not self._starts:
            raise ValueError("an empty UidSet has no lowest UID")
        return self._starts[0]

    @property
    def max(self) -> int:
        """The highest UID.

        Raises:
            ValueError: The set is empty.
        """
        if not self._ends:
            raise ValueError("an empty UidSet has no highest UID")
        return self._ends[-1]

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Go through the ranges as `(first, last)`, both included, ascending."""
        return zip(self._starts, self._ends, strict=True)

    def text(self) -> str:
        """Write the set as a `sequence-set` (RFC 9051 §9) in its shortest form: `1:5,9`; "" when empty."""
        ranges = self.ranges()
        blocks: list[str] = []
        while block := ",".join(starmap(_range_text, islice(ranges, _RANGES_PER_BLOCK))):
            blocks.append(block)
        return ",".join(blocks)

    def texts(self, max_text_bytes: int) -> Iterator[str]:
        """Write the set as texts of its parts, none of them longer; none at all when it is empty."""
        begin = 0
        while begin < len(self):
            end = self.fit(begin, len(self), max_text_bytes)
            yield self[begin:end].text()
            begin = end

    # ---------------------------------------------------------------- cutting by rank

    @overload
    def __getitem__(self, rank: int) -> int: ...
    @overload
    def __getitem__(self, rank: slice) -> UidSet: ...
    def __getitem__(self, rank: int | slice) -> int | UidSet:
        """Return the UID at a rank, or the set of those at ranks `a` up to, not including, `b`.

        Takes the logarithm of `range_count`, plus a block copy of the ranges in the slice.

        Raises:
            IndexError: No UID has this rank.
            ValueError: A slice with a step other than 1.
        """
        if isinstance(rank, int):
            wanted = rank if rank >= 0 else rank + len(self)
            if not 0 <= wanted < len(self):
                raise IndexError(f"no rank {rank} in a set of {len(self)} UIDs")
            before = self._ranks()
            position = bisect_right(before, wanted) - 1
            return self._starts[position] + wanted - before[position]
        low, high, step = rank.indices(len(self))
        if step != 1:
            raise ValueError("a UidSet is cut in steps of 1 only")
        if low == 0 and high == len(self):
            return self
        if low >= high:
            return _EMPTY
        before = self._ranks()
        first = bisect_right(before, low) - 1
        last = bisect_right(before, high - 1) - 1
        starts = self._starts[first : last + 1]
        ends = self._ends[first : last + 1]
        starts[0] += low - before[first]
        ends[-1] = self._starts[last] + high - 1 - before[last]
        return self._of(starts, ends)

    def take(self, count: int) -> tuple[UidSet, UidSet]:
        """Cut off the `count` lowest UIDs; returns them and the rest.

        Raises:
            ValueError: A negative count.
        """
        if count < 0:
            raise ValueError("the number of UIDs to take cannot be negative")
        return self[:count], self[count:]

    def take_within(self, count: int, max_text_bytes: int) -> tuple[UidSet, UidSet]:
        """Cut off as many of the lowest UIDs as `fit` allows; returns them and the rest.

        Cutting a large set into many pieces is cheaper with `fit` and slices: nothing then copies the rest.

        Raises:
            ValueError: As in `fit`.
        """
        return self.take(self.fit(0, count, max_text_bytes))

    def fit(self, rank: int, count: int, max_text_bytes: int) -> int:
        """Find where to cut a piece that begins at `rank`: the highest `end` for `uids[rank:end]`.

        The piece holds at most `count` UIDs, and `len(uids[rank:end].text())` is at most `max_text_bytes`.
        The result is above `rank` unless no UID is left there.

        Raises:
            ValueError: `rank` is negative, `count` below 1, or not even one UID fits into `max_text_bytes`.
        """
        if rank < 0 or count < 1:
            raise ValueError("a piece begins at a rank of 0 or more and holds at least one UID")
        size = len(self)
        if rank >= size:
            return size
        before = self._ranks()
        position = bisect_right(before, rank) - 1
        end = rank
        room = max_text_bytes
        while end < size and end - rank < count:
            start = self._starts[position] + end - before[position]
            stop = min(self._ends[position], start + count - (end - rank) - 1)
            length = len(_range_text(start, stop))
            if length > room:
                # The text of a range grows with its last number only: the highest of allowed length, if any.
                digits = room - len(str(start)) - 1
                stop = max(start, min(stop, 10**digits - 1)) if digits > 0 else start
                if len(_range_text(start, stop)) <= room:
                    end += stop - start + 1
                break
            end += stop - start + 1
            room -= length + 1
            position += 1
        if end == rank:
            raise ValueError(f"not one UID fits into {max_text_bytes} bytes of text")
        return end

    def ranked(self) -> UidSet:
        """Gives itself, with its rank table: for millions of ranges it takes its time, which a thread may have."""
        self._ranks()
        return self

    def _ranks(self) -> array[int]:
        """Return the rank at which each range begins."""
        if self._before is None:
            self._before, self._count = count_before(self._starts, self._ends)
        return self._before

    # ---------------------------------------------------------------- algebra

    def __or__(self, other: UidSet) -> UidSet:
        if not isinstance(other, UidSet):
            return NotImplemented
        if not self or not other:
            return self or other
        few, many = sorted((self, other), key=lambda one: one.range_count)
        if are_few(few.range_count, many.range_count):
            joined, new = join_few((many._starts, many._ends), few.ranges())
            made = self._of(*joined)
            made._count = len(many) + new
            return made
        # Ranges that end more than one below the other set, or begin more than one above it, stay as they are.
        # At each end at most one of the two sets has any.
        low, high = self._reached(other.min - 1, other.max + 1)
        other_low, other_high = other._reached(self.min - 1, self.max + 1)
        starts, ends = join(by_start(self._cut(low, high), other._cut(other_low, other_high)))
        return self._of(
            self._starts[:low] + other._starts[:other_low] + starts + self._starts[high:] + other._starts[other_high:],
            self._ends[:low] + other._ends[:other_low] + ends + self._ends[high:] + other._ends[other_high:],
        )

    def __and__(self, other: UidSet) -> UidSet:
        if not isinstance(other, UidSet):
            return NotImplemented
        if not self or not other:
            return _EMPTY
        low, high = self._reached(other.min, other.max)
        other_low, other_high = other._reached(self.min, self.max)
        if are_few(high - low, other_high - other_low):
            return self._of(*intersect_few((other._starts, other._ends), self._cut(low, high)))
        if are_few(other_high - other_low, high - low):
            return self._of(*intersect_few((self._starts, self._ends), other._cut(other_low, other_high)))
        return self._of(*intersect(self._cut(low, high), other._cut(other_low, other_high)))

    def __sub__(self, other: UidSet) -> UidSet:
        if not isinstance(other, UidSet):
            return NotImplemented
        if not self or not other:
            return self
        if self is other:
            return _EMPTY
        low, high = self._reached(other.min, other.max)
        if low == high:
            return self
        other_low, other_high = other._reached(self.min, self.max)
        theirs = other._cut(other_low, other_high)
        if are_few(other_high - other_low, high - low):
            return self._of(*subtract_few((self._starts, self._ends), theirs))
        if are_few(high - low, other_high - other_low):
            theirs = zip(*intersect_few((other._starts, other._ends), self._cut(low, high)), strict=True)
        starts, ends = subtract(self._cut(low, high), theirs)
        return self._of(self._starts[:low] + starts + self._starts[high:], self._ends[:low] + ends + self._ends[high:])

    def __xor__(self, other: UidSet) -> UidSet:
        if not isinstance(other, UidSet):
            return NotImplemented
        return (self | other) - (self & other)

    def __le__(self, other: UidSet) -> bool:
        """Tell whether every UID of this set is in the other one."""
        if not isinstance(other, UidSet):
            return NotImplemented
        return not self - other

    def isdisjoint(self, other: UidSet) -> bool:
        """Tell whether no UID is in both sets."""
        return not self & other

    def _reached(self, low: int, high: int) -> tuple[int, int]:
        """Return the slice of ranges that have at least one number within `low .. high`."""
        first = bisect_left(self._ends, low)
        return first, max(first, bisect_right(self._starts, high))

    def _cut(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Go through the ranges at positions `first` up to, not including, `last`."""
        if first == 0 and last == len(self._starts):
            return self.ranges()
        return zip(self._starts[first:last], self._ends[first:last], strict=True)


_EMPTY: Final = UidSet()


def _range_text(start: int, end: int) -> str:
    return str(start) if start == end else f"{start}:{end}"
