"""The clock by which a lease is counted: it goes on while the machine is asleep, and nobody sets it."""

from __future__ import annotations

import sys
import time


def uptime() -> float:
    """Seconds since some moment before this process began; the same for every process of the machine."""
    return time.clock_gettime(_CLOCK) if _CLOCK is not None else time.monotonic()


def _clock() -> int | None:
    """CLOCK_MONOTONIC stands still in a suspended Linux, and time.monotonic in a sleeping macOS."""
    if sys.platform == "darwin":
        return time.CLOCK_MONOTONIC
    return getattr(time, "CLOCK_BOOTTIME", None)


_CLOCK = _clock()
