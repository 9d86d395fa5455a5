"""The histogram against the values themselves."""

from __future__ import annotations

import math
import random
import sys
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imapipe.models.distribution import Distribution
from imapipe.runtime.histogram import Histogram

VALUES = st.one_of(
    st.just(0.0),
    st.floats(1e-6, 1e12),
    st.integers(1, 5_000).map(float),
)


def filled(values: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


def exact_quantile(values: list[float], share: float) -> float:
    """Nearest rank, straight from the definition."""
    return sorted(values)[max(1, math.ceil(share * len(values))) - 1]


@given(st.lists(VALUES, min_size=1, max_size=200))
def test_mean_minimum_maximum_and_count_are_exact(values: list[float]) -> None:
    seen = filled(values).distribution()
    assert seen.count == len(values)
    assert seen.minimum == min(values)
    assert seen.maximum == max(values)
    assert seen.mean == pytest.approx(fmean(values), rel=1e-12)


@given(st.lists(VALUES, min_size=1, max_size=200), st.floats(0, 1))
def test_quantiles_are_within_five_per_cent(values: list[float], share: float) -> None:
    histogram = filled(values)
    for wanted in (share, 0.5, 0.95):
        assert histogram.quantile(wanted) == pytest.approx(exact_quantile(values, wanted), rel=0.05)
    seen = histogram.distribution()
    assert (seen.p50, seen.p95) == (histogram.quantile(0.5), histogram.quantile(0.95))


@given(st.lists(VALUES, min_size=1, max_size=50))
def test_quantiles_ascend_and_stay_inside(values: list[float]) -> None:
    histogram = filled(values)
    found = [histogram.quantile(share / 10) for share in range(11)]
    assert found == sorted(found)
    assert min(values) <= found[0]
    assert found[-1] <= max(values)


def test_memory_is_bounded() -> None:
    histogram = Histogram()
    chance = random.Random(1)
    for _ in range(50_000):
        histogram.add(10 ** chance.uniform(-300, 300))
    assert len(histogram) == 50_000
    assert histogram.bucket_count <= 1_300
    assert sys.getsizeof(histogram._buckets) < 100_000


def test_the_mean_does_not_drift() -> None:
    histogram = filled([1e9] + [0.1] * 100_000)
    assert histogram.distribution().mean == pytest.approx((1e9 + 10_000) / 100_001, rel=1e-15)


def test_nothing_seen_is_all_zeros() -> None:
    assert Histogram().distribution() == Distribution(0.0, 0.0, 0.0, 0.0, 0.0, 0)
    assert Histogram().quantile(0.95) == 0.0


@pytest.mark.parametrize("value", [-0.001, math.inf, math.nan, -math.inf])
def test_values_that_mean_nothing_are_refused(value: float) -> None:
    histogram = Histogram()
    with pytest.raises(ValueError, match="histogram"):
        histogram.add(value)
    assert len(histogram) == 0


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_a_share_is_between_0_and_1(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        Histogram().quantile(share)
