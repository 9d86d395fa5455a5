"""Measured values in bounded memory.

Invariants of a `Histogram`:

- It never holds more than 1,300 buckets, however many values come: see `_LOWEST` and `_HIGHEST`.
- Bucket *i* holds the values of `(_GROWTH**(i-1), _GROWTH**i]`; it speaks for them with one value that is at most
  2.5 % from each of them. Values of 0 have a bucket of their own.
- Count, smallest and largest value are exact, and so is the mean as far as a float can be.
"""

from __future__ import annotations

import math
from typing import Final

from imapipe.models.distribution import NOTHING_SEEN, Distribution

_GROWTH: Final = 1.05
_LOG_GROWTH: Final = math.log(_GROWTH)
# From a nanosecond to a thousand million million: far outside of what is measured in seconds, messages or bytes.
_LOWEST: Final = math.floor(math.log(1e-9) / _LOG_GROWTH)
_HIGHEST: Final = math.ceil(math.log(1e18) / _LOG_GROWTH)
# The middle of a bucket, measured so that both of its ends are equally far away in per cent.
_MIDDLE: Final = 2.0 / (1.0 + _GROWTH)


class Histogram:
    """Counts values of 0 and more in buckets that grow by 5 %."""

    __slots__ = ("_buckets", "_count", "_lost", "_maximum", "_minimum", "_sum", "_zeros")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self._zeros = 0
        self._count = 0
        self._sum = 0.0
        self._lost = 0.0
        self._minimum = math.inf
        self._maximum = 0.0

    def __len__(self) -> int:
        return self._count

    @property
    def bucket_count(self) -> int:
        """The buckets in use: what the memory depends on."""
        return len(self._buckets)

    def add(self, value: float) -> None:
        """Count a value.

        Raises:
            ValueError: It is negative, infinite or not a number.
        """
        if not 0.0 <= value < math.inf:
            raise ValueError(f"a histogram takes finite values of 0 and more, not {value!r}")
        self._count += 1
        # A million small values must not vanish beside a large sum, so what each addition rounds off is kept (Kahan).
        corrected = value - self._lost
        total = self._sum + corrected
        self._lost = (total - self._sum) - corrected
        self._sum = total
        self._minimum = min(self._minimum, value)
        self._maximum = max(self._maximum, value)
        if value == 0.0:
            self._zeros += 1
            return
        index = min(max(math.ceil(math.log(value) / _LOG_GROWTH), _LOWEST), _HIGHEST)
        self._buckets[index] = self._buckets.get(index, 0) + 1

    def quantile(self, share: float) -> float:
        """The smallest value that at least `share` (0 … 1) of the values do not exceed, within 5 %; 0.0 without values.

        Raises:
            ValueError: `share` is not between 0 and 1.
        """
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"a share is between 0 and 1, not {share!r}")
        if not self._count:
            return 0.0
        wanted = max(1, math.ceil(share * self._count))
        reached = self._zeros
        if wanted <= reached:
            return 0.0
        for index in sorted(self._buckets):
            reached += self._buckets[index]
            if wanted <= reached:
                middle = _GROWTH**index * _MIDDLE
                return min(max(middle, self._minimum), self._maximum)
        return self._maximum

    def distribution(self) -> Distribution:
        """Sum up what was counted so far."""
        if not self._count:
            return NOTHING_SEEN
        mean = min(max(self._sum / self._count, self._minimum), self._maximum)
        return Distribution(
            mean=mean,
            minimum=self._minimum,
            maximum=self._maximum,
            p50=self.quantile(0.50),
            p95=self.quantile(0.95),
            count=self._count,
        )
