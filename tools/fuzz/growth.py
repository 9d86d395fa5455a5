"""How the cost of a function grows with its input.

What is compared is the processor time of this thread for inputs of n and 8n bytes, each the best of several tries, so
that a busy machine does not matter. Linear is a factor of 8, quadratic one of 64; the bar stands in between.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

Text = TypeVar("Text", bytes, str)
Input = TypeVar("Input")

FACTOR: Final = 8
BAR: Final = 30
# Below this a clock and a cache say more than the function does.
_FLOOR_SECONDS: Final = 0.0004
_TRIES: Final = 4


def pumped(prefix: Text, pump: Text, suffix: Text, size: int) -> Text:
    """An input of about `size`: the pump, as often as it fits, between what leads to it and what breaks it."""
    return prefix + pump * max(1, size // len(pump)) + suffix


def superlinear(run: Callable[[Input], object], make: Callable[[int], Input], sizes: tuple[int, ...]) -> float | None:
    """How many times as long the input of one size takes as one of an eighth, where that is more than linear.

    Args:
        run: The function; what it raises is its own affair.
        make: An input of a size.
        sizes: Ascending, each `FACTOR` times the one before: what explodes is found while it is small.
    """
    before = _seconds(run, make(sizes[0]), 1)
    for size in sizes[1:]:
        text = make(size)
        tries = 1
        while (now := _seconds(run, text, tries)) > BAR * max(before, _FLOOR_SECONDS):
            if tries > _TRIES:
                return now / max(before, _FLOOR_SECONDS)
            tries += 1
            before = max(before, _seconds(run, make(size // FACTOR), tries))
        before = now
    return None


def _seconds(run: Callable[[Input], object], text: Input, tries: int) -> float:
    best = float("inf")
    gc.disable()
    try:
        for _ in range(tries):
            begin = time.thread_time()
            # The cost is asked for, not the result.
            with suppress(Exception):
                run(text)
            best = min(best, time.thread_time() - begin)
    finally:
        gc.enable()
    return best
