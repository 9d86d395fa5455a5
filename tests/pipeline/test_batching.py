"""Plans and batch policies: pure, so checked without a server."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imapipe.models.batch import Batch, BatchResult
from imapipe.pipeline.batching import AdaptiveBatch, FixedBatch
from imapipe.pipeline.plan import Plan
from imapipe.pipeline.source.sizes import Sizes
from imapipe.wire.uid_set import UidSet

uid_sets = st.builds(UidSet.from_numbers, st.sets(st.integers(1, 5000), max_size=300))


def _result(count: int, seconds: float) -> BatchResult:
    return BatchResult(Batch(1, UidSet.from_ranges([(1, count)])), elapsed_seconds=seconds)


def test_an_adaptive_batch_follows_the_time() -> None:
    sizer = AdaptiveBatch(
        start=100, minimum=50, maximum=150, target_seconds=2.0, slow_seconds=5.0, grow=1.2, shrink=0.8
    ).sizer()
    sizer.observe(_result(100, 1.0))
    assert sizer.size == 120
    sizer.observe(_result(120, 3.0))
    assert sizer.size == 120
    for _ in range(5):
        sizer.observe(_result(sizer.size, 0.1))
    assert sizer.size == 150
    for _ in range(10):
        sizer.observe(_result(150, 6.0))
    assert sizer.size == 50
    # The last batch of a plan is small: that it was quick says nothing.
    sizer.observe(_result(3, 0.01))
    assert sizer.size == 50


def test_small_sizes_grow_too() -> None:
    sizer = AdaptiveBatch(start=1, minimum=1, maximum=10, target_seconds=1.0).sizer()
    sizer.observe(_result(1, 0.1))
    assert sizer.size == 2


@pytest.mark.parametrize(
    "options",
    [
        {"start": 10, "minimum": 20},
        {"start": 3000},
        {"minimum": 0},
        {"target_seconds": 0.0},
        {"target_seconds": 2.0, "slow_seconds": 1.0},
        {"grow": 1.0},
        {"shrink": 1.0},
        {"max_bytes": 0},
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must|use|minimum"):
        AdaptiveBatch(**options)  # type: ignore[arg-type]


def test_fixed_sizes_are_checked() -> None:
    for options in ({"size": 0}, {"max_bytes": 0}):
        with pytest.raises(ValueError, match="1"):
            FixedBatch(**options)


@given(
    uids=uid_sets,
    skipped=uid_sets,
    size=st.integers(1, 60),
    newest=st.booleans(),
    limit=st.one_of(st.none(), st.integers(0, 400)),
    text_bytes=st.integers(16, 200),
)
def test_every_planned_message_is_skipped_or_given_out_once(
    uids: UidSet, skipped: UidSet, size: int, newest: bool, limit: int | None, text_bytes: int
) -> None:
    plan = Plan(uids, newest_first=newest, limit=limit, max_command_bytes=text_bytes)
    count = len(uids) if limit is None else min(limit, len(uids))
    assert plan.planned == (uids[len(uids) - count :] if newest else uids[:count])
    taken = asyncio.run(plan.skip(skipped))
    assert taken == plan.planned & skipped
    sizer = FixedBatch(size).sizer()
    given_out = UidSet()
    while (batch := plan.next_batch(sizer, lane=3)) is not None:
        assert 1 <= len(batch) <= size
        assert len(batch.uids.text()) <= text_bytes
        assert not given_out & batch.uids
        assert batch.lane == 3
        if given_out:
            assert batch.uids.max < given_out.min if newest else batch.uids.min > given_out.max
        given_out |= batch.uids
        assert plan.remaining_count == len(plan.remaining)
    assert given_out == plan.planned - skipped
    assert not asyncio.run(plan.take_rest())


@given(uids=uid_sets, newest=st.booleans(), max_bytes=st.integers(1, 5000))
def test_batches_bounded_in_bytes(uids: UidSet, newest: bool, max_bytes: int) -> None:
    sizes = {uid: uid * 7 % 1000 for uid in uids}
    plan = Plan(uids, newest_first=newest)
    plan.know_sizes(Sizes(sizes))
    sizer = FixedBatch(50, max_bytes=max_bytes).sizer()
    given_out = UidSet()
    while (batch := plan.next_batch(sizer, lane=0)) is not None:
        total = sum(sizes[uid] for uid in batch.uids)
        assert batch.size_bytes == total
        assert total <= max_bytes or len(batch) == 1
        given_out |= batch.uids
    assert given_out == uids


@pytest.mark.asyncio
async def test_what_a_plan_gives_up_is_all_that_is_left() -> None:
    plan = Plan(UidSet.parse("1:100"))
    plan.next_batch(FixedBatch(30).sizer(), lane=0)
    assert await plan.take_rest() == UidSet.parse("31:100")
    assert plan.remaining_count == 0
    assert plan.planned == UidSet.parse("1:100")


def test_sizes_are_found_by_uid() -> None:
    sizes = Sizes({9: 90, 3: 30})
    sizes.extend(Sizes({12: 2**33}))
    assert dict(sizes) == {3: 30, 9: 90, 12: 2**33}
    assert len(sizes) == 3
    assert sizes.total_bytes == 120 + 2**33
    assert 4 not in sizes
    assert sizes.get(13, 0) == 0
