"""Which messages have which flags: like a dict, in a few bytes for each message."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imapipe.models.flag_table import FlagGatherer, FlagTable
from imapipe.wire.uid_set import UidSet

FLAGS = st.frozensets(st.sampled_from(["\\Seen", "\\Flagged", "$Work"]))
TABLES = st.dictionaries(st.integers(1, 40), FLAGS)
UIDS = st.sets(st.integers(1, 40))


def _table(flags: dict[int, frozenset[str]]) -> FlagTable:
    gatherer = FlagGatherer()
    for uid, of_it in flags.items():
        gatherer.add(uid, of_it)
    return gatherer.table()


@given(TABLES, TABLES, UIDS)
def test_it_is_a_mapping(first: dict[int, frozenset[str]], second: dict[int, frozenset[str]], uids: set[int]) -> None:
    one, other, some = _table(first), _table(second), UidSet.from_numbers(uids)
    assert list(one.items()) == sorted(first.items())
    assert len(one) == len(first)
    assert list(one.uids) == sorted(first)
    assert dict(one.updated(other).items()) == {**first, **second}
    assert dict(one.within(some).items()) == {uid: flags for uid, flags in first.items() if uid in uids}
    assert dict(one.without(some).items()) == {uid: flags for uid, flags in first.items() if uid not in uids}
    assert dict(one.differing(other).items()) == {u: f for u, f in first.items() if second.get(u) != f}
    assert (one == other) is (first == second)
    assert FlagTable.from_json(one.to_json()) == one


@given(st.lists(st.tuples(st.integers(1, 9), FLAGS)))
def test_what_is_told_last_counts(told: list[tuple[int, frozenset[str]]]) -> None:
    gatherer = FlagGatherer()
    for uid, flags in told:
        gatherer.add(uid, flags)
    assert dict(gatherer.table().items()) == dict(told)


def test_recent_is_no_flag_of_a_message() -> None:
    table = _table({1: frozenset({"\\Recent", "\\Seen"}), 2: frozenset({"\\Seen"}), 3: frozenset({"\\Recent"})})
    assert dict(table.items()) == {1: frozenset({"\\Seen"}), 2: frozenset({"\\Seen"}), 3: frozenset()}


def test_white_space_of_other_kinds_is_part_of_a_flag() -> None:
    table = _table({1: frozenset({"a\u00a0b", "c\u2003"})})
    assert FlagTable.from_json(table.to_json()) == table


@pytest.mark.parametrize("value", [None, [], {"\\Seen": 1}, {"\\Seen": "x"}, {"a": "1:3", "b": "3"}])
def test_what_is_no_table(value: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        FlagTable.from_json(value)


@pytest.mark.slow
@pytest.mark.no_cover
def test_a_message_takes_eight_bytes() -> None:
    kinds = [frozenset({"\\Seen"}), frozenset({"\\Flagged"}), frozenset[str]()]
    tracemalloc.start()
    try:
        gatherer = FlagGatherer()
        for uid in range(1, 50_001):
            gatherer.add(uid, kinds[uid % 3])
        gathered, _ = tracemalloc.get_traced_memory()
        table = gatherer.table()
        del gatherer
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(table) == 50_000
    # No two of them are neighbours: as ranges this is the worst there is. As numbers in sets they would be 4 MB.
    assert gathered < 600_000
    assert kept < 600_000
