"""Medians and their spread."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Spread:
    """A median, with the quartiles and the ends around it, over `count` values; false over none."""

    median: float
    low_quartile: float
    high_quartile: float
    low: float
    high: float
    count: int

    def __bool__(self) -> bool:
        return self.count > 0

    def inverse(self) -> Spread:
        """The spread of one divided by each value (exact where a median or a quartile is one of the values)."""
        return Spread(
            1 / self.median, 1 / self.high_quartile, 1 / self.low_quartile, 1 / self.high, 1 / self.low, self.count
        )


NO_SPREAD: Final = Spread(0.0, 0.0, 0.0, 0.0, 0.0, 0)
"""Of no value at all."""


def spread(values: Sequence[float]) -> Spread:
    """Give the median and the spread of at least one value."""
    ordered = sorted(values)
    if len(ordered) > 1:
        low, _, high = statistics.quantiles(ordered, n=4, method="inclusive")
    else:
        low = high = ordered[0]
    return Spread(statistics.median(ordered), low, high, ordered[0], ordered[-1], len(ordered))
