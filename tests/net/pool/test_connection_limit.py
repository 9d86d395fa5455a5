"""How a refusal lowers the number of connections, and how it grows again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from imapipe.net.pool.connection_limit import (
    FAILED_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    REFUSED_PAUSE_SECONDS,
    ConnectionLimit,
)

PAUSE = REFUSED_PAUSE_SECONDS


def test_a_refusal_lowers_it_to_what_works_and_it_grows_by_one() -> None:
    limit = ConnectionLimit(10)
    limit.refuse(100.0, 3)
    assert (limit.value, limit.refusals) == (3, 1)
    limit.grow(100.0 + PAUSE - 1)
    assert limit.value == 3
    limit.grow(100.0 + PAUSE)
    limit.grow(100.0 + PAUSE)
    assert limit.value == 4
    limit.grow(100.0 + 2 * PAUSE)
    assert limit.value == 5


def test_with_nothing_that_works_one_is_still_tried() -> None:
    limit = ConnectionLimit(4)
    limit.refuse(100.0, 0)
    assert limit.value == 1
    assert limit.opens_at(100.0, 0) == 100.0 + PAUSE
    assert limit.opens_at(100.0 + PAUSE, 0) == 100.0 + PAUSE


def test_when_the_next_one_may_be_opened() -> None:
    limit = ConnectionLimit(4)
    assert limit.opens_at(5.0, 3) == 5.0
    assert limit.opens_at(5.0, 4) is None
    limit.refuse(5.0, 2)
    # Beside two that work: not before the limit grows.
    assert limit.opens_at(6.0, 2) == 5.0 + PAUSE
    assert limit.opens_at(6.0, 4) is None
    limit.fail(100.0)
    assert limit.opens_at(100.0, 0) == 100.0 + FAILED_PAUSE_SECONDS


def test_refusals_in_a_row_are_followed_by_longer_and_longer_pauses() -> None:
    limit = ConnectionLimit(2)
    now, pauses = 0.0, []
    for _ in range(9):
        limit.refuse(now, 1)
        grows_at = limit.opens_at(now, 1)
        assert grows_at is not None
        pauses.append(grows_at - now)
        now = grows_at
        limit.grow(now)
        assert limit.value == 2
    assert pauses[:4] == [PAUSE, 2 * PAUSE, 4 * PAUSE, 8 * PAUSE]
    assert max(pauses) == LONGEST_PAUSE_SECONDS
    limit.succeed()
    limit.refuse(now, 1)
    assert limit.opens_at(now, 1) == now + PAUSE


@given(st.integers(1, 20), st.lists(st.tuples(st.sampled_from("refuse fail grow succeed".split()), st.integers(0, 30))))
def test_it_stays_between_one_and_the_maximum(maximum: int, steps: list[tuple[str, int]]) -> None:
    limit = ConnectionLimit(maximum)
    now = 0.0
    for what, number in steps:
        now += number
        if what == "refuse":
            limit.refuse(now, number)
        elif what == "fail":
            limit.fail(now)
        elif what == "grow":
            limit.grow(now)
        else:
            limit.succeed()
        assert 1 <= limit.value <= maximum
        opens_at = limit.opens_at(now, 0)
        assert opens_at is not None
        assert opens_at >= now
