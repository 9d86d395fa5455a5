"""The law of the adaptive rate, on its own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imapipe.limits.adaptive_rate import AdaptiveRate, Bounds, Passage


def rate_from(start: float, *, minimum: float = 0.01, maximum: float = 1e9, target: float | None = 1.0) -> AdaptiveRate:
    return AdaptiveRate(Bounds(start, minimum, maximum, target), 0.0)


def send(rate: AdaptiveRate, seconds: float, *, begin: float, amount: float = 1.0) -> Iterator[Passage]:
    """Commands one after the other at the rate, as a gate in full use lets them through."""
    now = begin
    while now < begin + seconds:
        yield rate.passed(now, amount, was_held=True)
        now += rate.interval(amount)


def use(rate: AdaptiveRate, seconds: float, *, begin: float, amount: float = 1.0) -> Passage:
    """All of that served at once; gives the last one."""
    last = Passage(begin)
    for passage in send(rate, seconds, begin=begin, amount=amount):
        last = passage
        rate.served(passage.time, passage, 0.01)
    return last


def refuse(rate: AdaptiveRate, now: float) -> float:
    """One more command, and the server refuses it at once."""
    return rate.throttled(now, rate.passed(now, 1.0, was_held=True))


def test_while_nothing_is_refused_the_rate_grows_by_a_quarter_a_second() -> None:
    rate = rate_from(10)
    use(rate, 8, begin=0)
    assert rate.per_second == pytest.approx(10 * 1.25**8, rel=0.05)
    assert rate.ceiling is None


def test_a_rate_that_is_not_used_does_not_grow() -> None:
    rate = rate_from(10)
    for second in range(100):
        rate.served(second, rate.passed(second, 1, was_held=False), 0.01)
    assert rate.per_second == 10


def test_the_first_refusal_takes_the_rate_below_what_was_borne() -> None:
    rate = rate_from(10, maximum=20)
    last = use(rate, 60, begin=0)
    assert rate.per_second == 20
    refuse(rate, last.time + 0.05)
    assert rate.ceiling == pytest.approx(20, rel=0.02)
    assert rate.per_second == pytest.approx(17, rel=0.02)


def test_after_a_refusal_the_rate_returns_to_the_ceiling_stays_and_only_then_looks_for_more() -> None:
    rate = rate_from(20)
    now = use(rate, 8, begin=0).time
    refuse(rate, now)
    ceiling = rate.ceiling
    assert ceiling is not None
    seen = [rate.per_second / ceiling]
    for _ in range(45):
        now = use(rate, 1, begin=now + rate.interval(1)).time
        seen.append(rate.per_second / ceiling)
    assert seen == sorted(seen)
    assert seen[0] == pytest.approx(0.85, abs=0.01)
    # More than half of the way back in the first quarter of the time, then slowly.
    assert seen[5] > 0.93
    assert all(0.995 < share < 1.005 for share in seen[15:25])
    assert 1.05 < seen[40] < 1.3


def test_what_was_in_flight_when_the_rate_fell_makes_it_fall_no_further() -> None:
    rate = rate_from(50)
    flight = list(send(rate, 2, begin=0))
    now = 2.1
    before = rate.per_second
    rate.throttled(now, flight[-10])
    fallen = rate.per_second
    assert fallen < before
    for passage in flight[-9:]:
        now += 0.01
        assert rate.throttled(now, passage) == 0
        rate.troubled(now, passage)
    assert rate.per_second == fallen


def test_what_the_server_says_by_itself_counts_once_for_what_is_in_flight() -> None:
    rate = rate_from(50)
    use(rate, 5, begin=0)
    rate.throttled(5.0)
    fallen = rate.per_second
    for step in range(5):
        rate.throttled(5.05 + step / 20)
    assert rate.per_second == fallen
    use(rate, 1, begin=6.0)
    before = rate.per_second
    rate.throttled(7.0)
    assert rate.per_second < before


def test_refusals_in_a_row_make_pauses_that_double_and_leave_the_rate() -> None:
    rate = rate_from(20)
    now = use(rate, 10, begin=0).time
    pauses = []
    rates = []
    for _ in range(12):
        now += 0.5
        pause = refuse(rate, now)
        rate.paused(now, now + pause)
        now += pause
        pauses.append(pause)
        rates.append(rate.per_second)
    assert pauses == [0.0, 0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert len(set(rates[1:])) == 1
    assert rates[0] >= 0.5 * 20


def test_after_two_refusals_in_a_row_the_next_command_goes_alone() -> None:
    rate = rate_from(100)
    now = use(rate, 3, begin=0).time
    for _ in range(2):
        now += 1
        rate.throttled(now + 0.4, rate.passed(now, 1, was_held=True))
    assert rate.interval(1) == pytest.approx(0.6)
    now += 1
    rate.served(now + 0.4, rate.passed(now, 1, was_held=True), 0.4)
    assert rate.interval(1) == pytest.approx(1 / rate.per_second)


def test_slow_answers_lower_the_rate_a_little_at_a_time_down_to_one_command_at_a_time() -> None:
    rate = rate_from(10, target=1.0)
    now = 0.0
    seen = [rate.per_second]
    for _ in range(200):
        now += 4.0
        rate.served(now, rate.passed(now - 2.0, 1, was_held=False), 2.0)
        seen.append(rate.per_second)
    assert seen[1] == pytest.approx(9.5)
    assert all(after >= 0.95 * before for before, after in pairwise(seen))
    assert seen[-1] == pytest.approx(1 / 2.0)


def test_slow_answers_are_no_news_where_nobody_asked_for_it() -> None:
    rate = rate_from(10, target=None)
    for second in range(1, 50):
        rate.served(second * 4, rate.passed(second * 4 - 2, 1, was_held=True), 30.0)
    assert rate.per_second > 10


def test_a_server_that_says_no_lowers_the_rate_a_little() -> None:
    rate = rate_from(10)
    rate.troubled(1.0, rate.passed(0.5, 1, was_held=False))
    assert rate.per_second == pytest.approx(9.5)


def test_a_long_pause_is_no_time_in_which_little_passed() -> None:
    rate = rate_from(20, maximum=20)
    now = use(rate, 30, begin=0).time
    refuse(rate, now + 0.05)
    ceiling = rate.ceiling
    rate.paused(now + 0.05, now + 300)
    last = use(rate, 30, begin=now + 300)
    refuse(rate, last.time + 0.05)
    assert rate.ceiling == pytest.approx(ceiling, rel=0.1)


happenings = st.lists(
    st.tuples(
        st.sampled_from(["served", "slow", "throttled", "said", "troubled", "paused"]),
        st.floats(0.0, 5.0),
        st.floats(0.0, 3.0),
        st.integers(1, 500),
        st.booleans(),
    ),
    max_size=120,
)


@settings(max_examples=150, deadline=None)
@given(start=st.floats(0.1, 1_000), span=st.floats(1.0, 50.0), happenings=happenings)
def test_whatever_happens_the_rate_keeps_its_bounds_and_moves_in_steps(
    start: float, span: float, happenings: list[tuple[str, float, float, int, bool]]
) -> None:
    minimum, maximum = start / span, start * span
    rate = rate_from(start, minimum=minimum, maximum=maximum)
    now = 0.0
    for what, later, took, amount, held in happenings:
        now += later
        before = rate.per_second
        passage = rate.passed(now, amount, was_held=held)
        assert before <= rate.per_second <= before * 1.2501
        before = rate.per_second
        now += took
        match what:
            case "served":
                rate.served(now, passage, 0.1)
            case "slow":
                rate.served(now, passage, 5.0)
            case "throttled":
                assert 0 <= rate.throttled(now, passage) <= 60
            case "said":
                rate.throttled(now)
            case "troubled":
                rate.troubled(now, passage)
            case _:
                rate.paused(now, now + took)
        assert minimum <= rate.per_second <= maximum
        assert 0.4999 * before <= rate.per_second <= before
        assert rate.interval(amount) > 0
