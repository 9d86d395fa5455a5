"""Numbers of bytes as people write them."""

from __future__ import annotations

import math
import re
from typing import Final

from imapipe.cli.errors import Mistake

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kMG]?)B?", re.IGNORECASE)
_FACTORS: Final = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}


def parse_size(text: str, option: str) -> float:
    """Read a number of bytes such as `500k`, `5M` or `1.5MB` (powers of 1000).

    Raises:
        Mistake: It is none, 0, or more than any number.
    """
    match = _SIZE.fullmatch(text.strip())
    size = float(match[1]) * _FACTORS[match[2].lower()] if match else 0.0
    if not 0 < size < math.inf:
        raise Mistake(f"{option} {text}: use a number of bytes such as 500k or 5M")
    return size
