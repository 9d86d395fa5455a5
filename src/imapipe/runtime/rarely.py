"""Telling of what goes on for long: once in a while, whoever meets it and however often."""

from __future__ import annotations

import math
import time


class Rarely:
    """Says when something is to be told again. For one thread, or one event loop.

    Args:
        every_seconds: How long nothing is told after it was.
    """

    __slots__ = ("_due", "_every_seconds")

    def __init__(self, every_seconds: float) -> None:
        self._every_seconds = every_seconds
        self._due = -math.inf

    def is_due(self) -> bool:
        """Whether it is to be told now, which is taken as done."""
        now = time.monotonic()
        if now < self._due:
            return False
        self._due = now + self._every_seconds
        return True
