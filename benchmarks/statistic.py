"""Medians and their spread."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """A median, with the quartiles and the ends around it."""

    median: float
    low_quartile: float
    high_quartile: float
    low: float
    high: float
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Give the median and the spread of at least one value."""
    ordered = sorted(values)
    if len(ordered) > 1:
        low, _, high = statistics.quantiles(ordered, n=4, method="inclusive")
    else:
        low = high = ordered[0]
    return Spread(statistics.median(ordered), low, high, ordered[0], ordered[-1], len(ordered))
