"""The bytes of the last 24 hours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imapipe.limits.byte_usage import ByteUsage
from imapipe.models.json_value import JSON

HOUR = 3_600
DAY = 24 * HOUR
# Not at the beginning of an hour.
NOW = 1_700_000_000.0

received = st.lists(st.tuples(st.floats(0, 5 * HOUR), st.integers(0, 10**9)), max_size=60)


@given(received)
def test_nothing_of_the_last_24_hours_is_forgotten_and_nothing_above_25_is_kept(steps: list[tuple[float, int]]) -> None:
    usage = ByteUsage()
    now = NOW
    seen: list[tuple[float, int]] = []
    for pause, count in steps:
        now += pause
        usage.add(now, count)
        seen.append((now, count))
        used = usage.used(now)
        assert sum(count for when, count in seen if when > now - DAY) <= used
        assert used <= sum(count for when, count in seen if when >= now - DAY - HOUR)


@given(received, st.floats(0, 2 * DAY))
def test_the_steps_tell_what_counts_later(steps: list[tuple[float, int]], later: float) -> None:
    usage = ByteUsage()
    now = NOW
    for pause, count in steps:
        now += pause
        usage.add(now, count)
    told = [(NOW, usage.used(now)), *usage.steps(now)]
    expected = [used for when, used in told if when <= now + later][-1]
    assert usage.used(now + later) == expected


@given(received)
def test_a_note_brings_it_all_back(steps: list[tuple[float, int]]) -> None:
    usage, other = ByteUsage(), ByteUsage()
    now = NOW
    for pause, count in steps:
        now += pause
        usage.add(now, count)
    other.recall(usage.to_note(7), now)
    assert other.used(now) == usage.used(now) + 7
    # What one knows already does not count twice.
    usage.recall(other.to_note(0), now)
    other.recall(usage.to_note(0), now)
    assert usage.used(now) == other.used(now)


def test_an_hour_counts_until_its_last_byte_is_a_day_old() -> None:
    usage = ByteUsage()
    usage.add(100 * HOUR + 60, 5)
    assert usage.used(125 * HOUR - 1) == 5
    assert usage.used(125 * HOUR) == 0


def test_what_a_wrong_clock_left_in_the_future_does_not_count_for_ever() -> None:
    usage = ByteUsage()
    usage.add(NOW + 20 * HOUR, 3)
    usage.add(NOW + 900 * DAY, 5)
    assert usage.used(NOW) == 3


@pytest.mark.parametrize(
    "note",
    [
        None,
        [],
        {},
        {"by_hour": {}},
        {"by_hour": [], "under_way": 0},
        {"by_hour": {"soon": 1}, "under_way": 0},
        {"by_hour": {"1": "much"}, "under_way": 0},
        {"by_hour": {"1": -5}, "under_way": 0},
        {"by_hour": {}, "under_way": "0"},
    ],
)
def test_what_is_no_note_is_refused(note: JSON) -> None:
    with pytest.raises(ValueError):
        ByteUsage().recall(note, NOW)
