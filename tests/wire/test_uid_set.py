"""UidSet against Python's own sets, and the properties a set of ranges adds to them."""

from __future__ import annotations

import copy
import pickle
import random
import tracemalloc
from array import array
from collections.abc import Callable, Iterable
from itertools import pairwise
from operator import and_, or_, sub, xor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imapipe.wire import interval, sequence_set, uid_set
from imapipe.wire.uid_set import MAX_UID, UidSet, parse_numbers

# Small numbers collide, touch and overlap; the upper edge is where 32 bits end.
UIDS = st.one_of(st.integers(1, 60), st.integers(MAX_UID - 20, MAX_UID), st.integers(1, MAX_UID))
SETS = st.frozensets(UIDS, max_size=60)
RANGES = st.lists(st.tuples(st.integers(1, 80), st.integers(1, 80)), max_size=30)
FEW_RANGES = st.tuples(st.integers(1, 420), st.integers(1, 420)).map(lambda pair: (min(pair), max(pair)))


def assert_invariants(uids: UidSet) -> None:
    ranges = list(uids.ranges())
    assert all(1 <= first <= last <= MAX_UID for first, last in ranges)
    assert all(left[1] + 1 < right[0] for left, right in pairwise(ranges))
    assert len(ranges) == uids.range_count


@given(st.lists(UIDS))
def test_from_numbers_is_the_set_of_the_numbers(numbers: list[int]) -> None:
    uids = UidSet.from_numbers(numbers)
    assert_invariants(uids)
    assert list(uids) == sorted(set(numbers))
    assert len(uids) == len(set(numbers))
    assert bool(uids) == bool(numbers)


@given(RANGES)
def test_from_ranges_takes_any_order_overlap_and_direction(ranges: list[tuple[int, int]]) -> None:
    expected = {uid for first, last in ranges for uid in range(min(first, last), max(first, last) + 1)}
    uids = UidSet.from_ranges(ranges)
    assert_invariants(uids)
    assert set(uids) == expected
    assert UidSet.parse(",".join(f"{first}:{last}" for first, last in ranges)) == uids


@given(st.lists(SETS, max_size=8))
def test_a_union_of_many_is_the_set_of_all(parts: list[frozenset[int]]) -> None:
    uids = UidSet.union([UidSet.from_numbers(part) for part in parts])
    assert_invariants(uids)
    assert list(uids) == sorted(frozenset[int]().union(*parts))


@pytest.mark.parametrize("step", [1, -1])
def test_a_union_of_pieces_takes_no_more_than_they_do(step: int) -> None:
    """In whatever direction a server lists: here each piece is of every other number of a thousand."""
    pieces = [UidSet.from_numbers(range(first, first + 1_000, 2)) for first in range(1, 400_000, 1_000)][::step]
    tracemalloc.start()
    uids = UidSet.union(pieces)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(uids) == 200_000
    # Two arrays of it, the counts beside them, and what an array has in reserve while it grows.
    assert peak < 200_000 * 22


@pytest.mark.parametrize("operation", [or_, and_, sub, xor])
@given(left=SETS, right=SETS)
def test_algebra_is_that_of_python_sets(
    operation: Callable[[object, object], object], left: frozenset[int], right: frozenset[int]
) -> None:
    result = operation(UidSet.from_numbers(left), UidSet.from_numbers(right))
    assert isinstance(result, UidSet)
    assert_invariants(result)
    assert set(result) == operation(left, right)


@given(RANGES, RANGES)
def test_algebra_of_long_ranges(left: list[tuple[int, int]], right: list[tuple[int, int]]) -> None:
    mine, theirs = UidSet.from_ranges(left), UidSet.from_ranges(right)
    for operation in (or_, and_, sub, xor):
        result = operation(mine, theirs)
        assert_invariants(result)
        assert set(result) == operation(set(mine), set(theirs))


@given(SETS, SETS)
def test_comparisons(left: frozenset[int], right: frozenset[int]) -> None:
    mine, theirs = UidSet.from_numbers(left), UidSet.from_numbers(right)
    assert (mine == theirs) == (left == right)
    assert (mine <= theirs) == (left <= right)
    assert (mine & theirs) <= theirs
    assert mine.isdisjoint(theirs) == left.isdisjoint(right)
    if left == right:
        assert hash(mine) == hash(theirs)


@given(SETS, UIDS)
def test_membership(numbers: frozenset[int], uid: int) -> None:
    uids = UidSet.from_numbers(numbers)
    assert (uid in uids) == (uid in numbers)
    assert all(number in uids for number in numbers)
    assert "1" not in uids
    assert 0 not in uids
    assert MAX_UID + 1 not in uids


@given(SETS, st.one_of(st.none(), st.integers(-70, 70)), st.one_of(st.none(), st.integers(-70, 70)))
def test_slices_are_by_rank(numbers: frozenset[int], low: int | None, high: int | None) -> None:
    uids = UidSet.from_numbers(numbers)
    piece = uids[low:high]
    assert_invariants(piece)
    assert list(piece) == sorted(numbers)[low:high]


@given(SETS.filter(bool), st.data())
def test_single_ranks(numbers: frozenset[int], data: st.DataObject) -> None:
    uids = UidSet.from_numbers(numbers)
    rank = data.draw(st.integers(-len(numbers), len(numbers) - 1))
    assert uids[rank] == sorted(numbers)[rank]
    with pytest.raises(IndexError):
        uids[len(numbers)]
    with pytest.raises(IndexError):
        uids[-len(numbers) - 1]


def test_a_slice_with_a_step_is_refused() -> None:
    with pytest.raises(ValueError, match="steps of 1"):
        UidSet.parse("1:9")[::2]


@given(SETS, st.integers(0, 70))
def test_take(numbers: frozenset[int], count: int) -> None:
    uids = UidSet.from_numbers(numbers)
    head, tail = uids.take(count)
    assert list(head) == sorted(numbers)[:count]
    assert list(tail) == sorted(numbers)[count:]


@given(SETS.filter(bool), st.integers(1, 70), st.integers(10, 120), st.data())
def test_fit_is_the_longest_piece_within_both_limits(
    numbers: frozenset[int], count: int, room: int, data: st.DataObject
) -> None:
    uids = UidSet.from_numbers(numbers)
    rank = data.draw(st.integers(0, len(uids) - 1))
    end = uids.fit(rank, count, room)
    fitting = [
        stop
        for stop in range(rank + 1, min(rank + count, len(uids)) + 1)
        if len(UidSet.from_numbers(sorted(numbers)[rank:stop]).text()) <= room
    ]
    assert end == max(fitting)


@given(st.integers(1, 12_000), st.integers(1, 12_000), st.integers(4, 14), st.integers(1, 12_000))
def test_fit_cuts_inside_a_long_range(first: int, length: int, room: int, count: int) -> None:
    uids = UidSet.from_ranges([(first, first + length - 1)])
    try:
        end = uids.fit(0, count, room)
    except ValueError:
        assert len(str(first)) > room
        return
    assert 1 <= end <= count
    assert len(uids[:end].text()) <= room
    if end < min(count, length):
        assert len(uids[: end + 1].text()) > room


@given(SETS, st.integers(1, 70), st.integers(10, 60))
def test_take_within_makes_progress_and_loses_nothing(numbers: frozenset[int], count: int, room: int) -> None:
    rest = UidSet.from_numbers(numbers)
    pieces: list[int] = []
    while rest:
        head, rest = rest.take_within(count, room)
        assert 1 <= len(head) <= count
        assert len(head.text()) <= room
        pieces.extend(head)
    assert pieces == sorted(numbers)


def test_fit_refuses_what_can_never_make_progress() -> None:
    uids = UidSet.parse("1000:2000")
    with pytest.raises(ValueError, match="not one UID fits into 3 bytes"):
        uids.fit(0, 5, 3)
    with pytest.raises(ValueError, match="at least one"):
        uids.fit(0, 0, 100)
    with pytest.raises(ValueError, match="rank of 0 or more"):
        uids.fit(-1, 5, 100)
    with pytest.raises(ValueError, match="negative"):
        uids.take(-1)
    assert uids.fit(1001, 5, 100) == 1001
    assert UidSet().take_within(5, 1) == (UidSet(), UidSet())


@given(SETS)
def test_text_round_trip_and_is_shortest(numbers: frozenset[int]) -> None:
    uids = UidSet.from_numbers(numbers)
    text = uids.text()
    assert UidSet.parse(text) == uids
    assert UidSet.parse(text.encode()) == uids
    assert UidSet.parse(memoryview(text.encode())) == uids
    assert text.count(",") == max(0, uids.range_count - 1)


def test_text_of_more_ranges_than_one_block() -> None:
    uids = UidSet.from_numbers(range(1, 20_001, 2))
    assert uids.text() == ",".join(map(str, range(1, 20_001, 2)))


@pytest.mark.parametrize(
    ("text", "star", "expected"),
    [
        ("1:5,9", None, [1, 2, 3, 4, 5, 9]),
        ("5:1", None, [1, 2, 3, 4, 5]),
        ("9,1:3,2:4", None, [1, 2, 3, 4, 9]),
        ("1,2,3", None, [1, 2, 3]),
        ("7:*", 9, [7, 8, 9]),
        ("*:7", 9, [7, 8, 9]),
        # RFC 9051 §9: "n:*" includes the last message even when n lies above it.
        ("7:*", 5, [5, 6, 7]),
        ("*", 9, [9]),
        ("1,*:*", 9, [1, 9]),
        ("", None, []),
    ],
)
def test_parse(text: str, star: int | None, expected: list[int]) -> None:
    assert list(UidSet.parse(text, star=star)) == expected
    assert list(UidSet.parse(text.encode(), star=star)) == expected


@pytest.mark.parametrize(
    "text",
    [
        *[
            ",",
            "1,",
            ",1",
            "1,,2",
            ":",
            "1:",
            ":1",
            "1:2:3",
            "a",
            "1 ",
            "+1",
            "1_0",
            "-1",
            "0",
            "0:5",
            "1.5",
            "$",
            "**",
        ],
        *["1*", str(2**32), f"1:{2**32}", "9" * 5_000, "1" * 70_000, "\u0661", "1,\x00"],
    ],
)
def test_parse_refuses_malformed_text(text: str) -> None:
    with pytest.raises(ValueError, match="UID") as caught:
        UidSet.parse(text, star=9)
    assert len(str(caught.value)) < 120


def test_a_star_needs_a_meaning() -> None:
    with pytest.raises(ValueError, match="star="):
        UidSet.parse("1:*")
    with pytest.raises(ValueError, match="0 is not a UID"):
        UidSet.parse("1:*", star=0)


@pytest.mark.parametrize("number", [0, -1, 2**32])
def test_numbers_outside_the_limits_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match="a UID is a number"):
        UidSet.from_numbers([5, number])
    with pytest.raises(ValueError, match="a UID is a number"):
        UidSet.from_ranges([(5, number)])


@given(st.lists(UIDS), st.sampled_from([b" ", b"  "]), st.booleans())
def test_parse_numbers_keeps_order(numbers: list[int], separator: bytes, trailing: bool) -> None:
    line = separator.join(str(number).encode() for number in numbers) + (b" " if trailing else b"")
    assert list(parse_numbers(line)) == numbers
    assert list(parse_numbers(memoryview(line))) == numbers
    assert set(UidSet.from_search([line, bytearray(b"7 8")])) == {*numbers, 7, 8}


@pytest.mark.parametrize("line", [b"1 x", b"1,2", b"+1", b"1_0", b"0", b"4294967296", b"1" * 70_000, b"9.3736e+06"])
def test_parse_numbers_refuses_malformed_lines(line: bytes) -> None:
    with pytest.raises(ValueError, match="number"):
        parse_numbers(line)


@pytest.mark.parametrize("window", [1, 2, 7, 12])
@given(numbers=SETS)
def test_the_windows_change_nothing(window: int, numbers: frozenset[int]) -> None:
    numbers = frozenset(number for number in numbers if number < 10**window)
    line = " ".join(map(str, numbers))
    text = UidSet.from_numbers(numbers).text()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequence_set, "_WINDOW_BYTES", 2 * window + 2)
        assert list(parse_numbers(line.encode())) == list(numbers)
        assert set(UidSet.parse(text)) == numbers


def test_a_set_is_a_value() -> None:
    uids = UidSet.parse("1:5,9")
    assert {uids: 1}[UidSet.from_numbers([9, 5, 4, 3, 2, 1])] == 1
    assert pickle.loads(pickle.dumps(uids)) == uids
    assert copy.deepcopy(uids) == uids
    assert uids != {1, 2, 3, 4, 5, 9}
    assert uids | UidSet() == uids
    assert not hasattr(uids, "__dict__")
    with pytest.raises(TypeError):
        uids | {1}  # type: ignore[operator]


def test_lowest_and_highest() -> None:
    assert (UidSet.parse("4:5,9").min, UidSet.parse("4:5,9").max) == (4, 9)
    with pytest.raises(ValueError, match="empty"):
        _ = UidSet().min
    with pytest.raises(ValueError, match="empty"):
        _ = UidSet().max


def test_repr_is_short() -> None:
    assert repr(UidSet()) == "<UidSet empty>"
    assert repr(UidSet.parse("1:5,9")) == "<UidSet 1:5,9>"
    assert repr(UidSet.from_numbers(range(2, 201, 2))) == "<UidSet of 100 UIDs in 100 ranges from 2 to 200>"


def test_the_whole_uid_space_costs_nothing() -> None:
    everything = UidSet.parse(f"1:{MAX_UID}")
    assert len(everything) == MAX_UID
    assert everything[MAX_UID - 1] == MAX_UID
    assert (everything - UidSet.parse("7")).text() == f"1:6,8:{MAX_UID}"
    assert everything[10:12].text() == "11:12"


def test_appending_to_a_large_set_copies_blocks_and_merges_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    large = UidSet.from_numbers(range(1, 200_000, 2))
    merged: list[tuple[int, int]] = []

    def counting(ranges: Iterable[tuple[int, int]]) -> interval.Arrays:
        kept = list(ranges)
        merged.extend(kept)
        return interval.join(kept)

    monkeypatch.setattr(uid_set, "join", counting)
    batch = UidSet.from_ranges([(100_000, 100_010), (300_000, 300_500)])
    merged.clear()
    assert len(large | UidSet.from_ranges([(300_000, 300_500)])) == len(large) + 501
    assert len(merged) <= 2
    merged.clear()
    united = large | UidSet.from_ranges([(100_000, 100_010)])
    assert len(united) == len(large) + 6
    assert len(merged) <= 10
    assert batch - united == UidSet.from_ranges([(300_000, 300_500)])


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.parametrize("order", ["ascending", "random"])
def test_half_of_all_uids_take_little_memory(order: str) -> None:
    numbers = random.Random(7).sample(range(1, 200_001), 100_000)
    if order == "ascending":
        numbers.sort()
    line = b" ".join(b"%d" % number for number in numbers)
    del numbers
    tracemalloc.start()
    try:
        uids = UidSet.from_search([line])
        text = uids.text().encode()
        again = UidSet.parse(text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(uids) == 100_000
    assert again == uids
    # A list of the numbers alone would be 3.6 MB; the numbers in an array are 0.4 MB.
    assert peak < 3_000_000, peak


@pytest.mark.parametrize("block", [1, 2, 3])
@given(
    numbers=st.lists(st.integers(1, 40), max_size=30),
    ranges=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60))),
)
def test_blocks_change_nothing(block: int, numbers: list[int], ranges: list[tuple[int, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interval, "BLOCK", block)
        found = UidSet.from_numbers(numbers)
        text = ",".join(f"{first}:{last}" for first, last in ranges)
        parsed = UidSet.parse(text)
    assert list(found) == sorted(set(numbers))
    assert set(parsed) == {uid for first, last in ranges for uid in range(min(first, last), max(first, last) + 1)}
    assert all(end + 1 < start for (_, end), (start, _) in pairwise(parsed.ranges()))


def test_no_call_goes_over_more_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that read millions of UIDs give way between two calls into C, and not within one."""
    most = 0

    def counted_map(function: Callable[..., int], *values: Iterable[int]) -> Iterable[int]:
        nonlocal most
        most = max([most, *(len(value) for value in values if isinstance(value, array))])
        return map(function, *values)

    def counted_sorted(values: Iterable[int]) -> list[int]:
        nonlocal most
        ordered = sorted(values)
        most = max(most, len(ordered))
        return ordered

    monkeypatch.setattr(interval, "map", counted_map, raising=False)
    monkeypatch.setattr(interval, "sorted", counted_sorted, raising=False)
    numbers = [*range(1, 300_000, 3)]
    ascending = UidSet.from_numbers(numbers)
    assert UidSet.parse(",".join(map(str, numbers))) == ascending
    random.Random(1).shuffle(numbers)
    assert UidSet.parse(",".join(map(str, numbers))) == UidSet.from_numbers(numbers) == ascending
    assert 0 < most <= 65_536


@pytest.mark.parametrize("operation", [or_, and_, sub, xor])
@given(data=st.data())
def test_algebra_of_many_ranges_with_a_few(operation: Callable[[object, object], object], data: st.DataObject) -> None:
    """Where one side has much fewer ranges than the other, it is looked up in it."""
    many = frozenset(data.draw(st.sampled_from([range(2, 400, 2), range(1, 400, 3), [*range(9, 300, 5), MAX_UID]])))
    few = {uid for low, high in data.draw(st.lists(FEW_RANGES, max_size=4)) for uid in range(low, high + 1)}
    few |= data.draw(st.sampled_from([frozenset(), frozenset([MAX_UID]), frozenset([1, MAX_UID - 1])]))
    left, right = data.draw(st.permutations([many, frozenset(few)]))
    mine, theirs = UidSet.from_numbers(left), UidSet.from_numbers(right)
    # What was counted before is not counted again.
    data.draw(st.sampled_from([len, repr]))(mine)
    result = operation(mine, theirs)
    assert isinstance(result, UidSet)
    assert_invariants(result)
    assert set(result) == operation(left, right)
    assert len(result) == len(set(result))


@pytest.mark.parametrize("operation", [or_, and_, sub])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_few_ranges_are_looked_up(
    monkeypatch: pytest.MonkeyPatch, operation: Callable[[object, object], object], swapped: bool
) -> None:
    """Those of the other set are gone through by no code of ours."""

    many, few = UidSet.from_numbers(range(1, 9000, 2)), UidSet.from_numbers([4, 5, 6, 7000, 8999])
    expected = operation(set(few), set(many)) if swapped else operation(set(many), set(few))
    for name in ("intersect", "subtract", "join"):
        monkeypatch.setattr(uid_set, name, _within(getattr(interval, name), 100))
    result = operation(few, many) if swapped else operation(many, few)
    assert isinstance(result, UidSet)
    assert set(result) == expected


def _within(function: Callable[..., object], most: int) -> Callable[..., object]:
    def limited(*runs: Iterable[tuple[int, int]]) -> object:
        gone = [list(run) for run in runs]
        assert sum(map(len, gone)) < most
        return function(*map(iter, gone))

    return limited
