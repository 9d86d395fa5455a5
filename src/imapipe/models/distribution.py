"""How measured values lie: what a histogram has seen, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from imapipe.models.document import Document


@dataclass(frozen=True, slots=True)
class Distribution(Document):
    """What a histogram has seen, in the unit of its values; all zeros when it saw nothing.

    Attributes:
        mean: The exact mean.
        minimum: The exact smallest value.
        maximum: The exact largest value.
        p50: The median, within 5 %.
        p95: The value that 95 % of the values do not exceed, within 5 %.
        count: The number of values.
    """

    mean: float = 0.0
    minimum: float = 0.0
    maximum: float = 0.0
    p50: float = 0.0
    p95: float = 0.0
    count: int = 0


NOTHING_SEEN: Final = Distribution()
