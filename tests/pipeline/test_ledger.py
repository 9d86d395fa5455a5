"""The ledger: counts that are exact at any time, groups that are never larger than asked for."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imapipe.models.batch import Failure
from imapipe.pipeline.ledger import GROUP, MAX_FAILURE_DETAILS, Ledger
from imapipe.wire.uid_set import UidSet


class _Heard:
    """A subscriber that checks each group when it comes."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.done = UidSet()
        self.failed = UidSet()
        self.vanished = UidSet()

    def __call__(self, done: UidSet, failed: Mapping[int, Failure], vanished: UidSet) -> None:
        assert len(done) + len(failed) <= self.every
        # Nothing is told twice.
        assert not done & self.done
        assert not UidSet.from_numbers(failed) & self.failed
        self.done |= done
        self.failed |= UidSet.from_numbers(failed)
        self.vanished |= vanished


outcomes = st.lists(st.tuples(st.integers(1, 400), st.sampled_from("dfv")), unique_by=lambda pair: pair[0])


@given(outcomes=outcomes, every=st.integers(1, 50))
def test_every_outcome_is_told_once_and_in_time(outcomes: list[tuple[int, str]], every: int) -> None:
    ledger = Ledger()
    heard = _Heard(every)
    unsubscribe = ledger.subscribe(every, heard)
    told = {"d": 0, "f": 0, "v": 0}
    for uid, outcome in outcomes:
        if outcome == "d":
            ledger.settle(uid)
        elif outcome == "f":
            ledger.fail(Failure(uid, "no"))
            ledger.fail(Failure(uid, "again"))
        else:
            ledger.vanish(UidSet.from_numbers([uid]))
        told[outcome] += 1
        assert (ledger.done_count, ledger.failed_count, ledger.vanished_count) == tuple(told.values())
        assert told["d"] + told["f"] - len(heard.done) - len(heard.failed) < every
    everything = UidSet.from_numbers(uid for uid, _ in outcomes)
    assert ledger.outcome_of(UidSet.parse("1:1000")) == everything
    assert (heard.done, heard.failed, heard.vanished) == (ledger.done, ledger.failed, ledger.vanished)
    assert set(ledger.failures) == set(ledger.failed)
    unsubscribe()
    unsubscribe()
    ledger.settle(5000)
    ledger.flush()
    assert 5000 not in heard.done


@pytest.mark.asyncio
async def test_what_was_given_up_is_counted_and_not_told() -> None:
    ledger = Ledger()
    heard = _Heard(GROUP)
    ledger.subscribe(GROUP, heard)
    ledger.fail(Failure(1, "no"))
    await ledger.give_up(UidSet.parse("2:30000"), "too late")
    ledger.flush()
    assert ledger.failed_count == 30_000
    assert len(ledger.failed) == 30_000
    assert len(ledger.failures) == MAX_FAILURE_DETAILS
    assert ledger.failures[2] == Failure(2, "not-tried", "too late")
    assert heard.failed == UidSet.parse("1")


@pytest.mark.asyncio
async def test_what_was_refused_is_counted_apart_and_not_told() -> None:
    ledger = Ledger()
    heard = _Heard(GROUP)
    ledger.subscribe(GROUP, heard)
    await ledger.refuse(UidSet.parse("2:30000"), "ValueError", "failed before")
    ledger.fail(Failure(1, "no"))
    ledger.flush()
    assert (ledger.failed_count, ledger.refused_count) == (30_000, 29_999)
    assert ledger.failures[2] == Failure(2, "ValueError", "failed before")
    assert heard.failed == UidSet.parse("1")


def test_the_smallest_wish_decides() -> None:
    ledger = Ledger()
    often, seldom = _Heard(2), _Heard(GROUP)
    ledger.subscribe(GROUP, seldom)
    stop = ledger.subscribe(2, often)
    for uid in range(1, 6):
        ledger.settle(uid)
    assert len(seldom.done) == 4
    stop()
    for uid in range(6, 100):
        ledger.settle(uid)
    assert len(seldom.done) == 4
    assert ledger.done_count == 99
