"""When a fault happens: what all faults have in common."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Literal

from ..records import CommandRecord

Condition = Callable[[CommandRecord], bool]
CutKind = Literal["close", "reset", "stall"]
Status = Literal["OK", "NO", "BAD"]
Bytes = int | Callable[[], int]
"""A number of bytes, or what chooses one each time a fault fires."""


def exponential_bytes(mean: int, seed: int = 0) -> Callable[[], int]:
    """A choice of numbers with this mean, as of a line that breaks at random; the same for the same seed."""
    chooser = random.Random(f"bytes {seed}")
    return lambda: int(chooser.expovariate(1 / mean))


@dataclass(kw_only=True, eq=False)
class Fault:
    """Base of all faults: when one fires, and how often it did.

    Attributes:
        seen: How many commands met the conditions.
        fired: How many of them it fired for.
    """

    command: str | Collection[str] | None = None
    connection: int | None = None
    nth: int | None = None
    times: int | None = None
    when: Condition | None = None
    seen: int = field(default=0, init=False)
    fired: int = field(default=0, init=False)

    def fires(self, record: CommandRecord) -> bool:
        """Whether it fires for this command; asking counts."""
        if self.command is not None:
            names = (self.command,) if isinstance(self.command, str) else self.command
            if record.name not in names:
                return False
        if self.connection is not None and record.connection != self.connection:
            return False
        if self.when is not None and not self.when(record):
            return False
        self.seen += 1
        if self.nth is not None and self.seen < self.nth:
            return False
        limit = self.times if self.times is not None else (1 if self.nth is not None else None)
        if limit is not None and self.fired >= limit:
            return False
        self.fired += 1
        return True
