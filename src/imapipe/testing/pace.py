"""The pace of output: a bandwidth, of one connection or of a line that several share, and a drip."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

CHUNK = 65_536
"""Bytes gathered before they are handed to the transport."""

_SHORT_SECONDS = 0.02
# What a timer may be late; a pause that is longer was none of ours, and what it missed is not made up for.
_LATE_SECONDS = 0.02


@dataclass(slots=True)
class Pacer:
    """A bandwidth; who pays for bytes waits until the line is free again.

    Args:
        bytes_per_second: The bandwidth.
    """

    bytes_per_second: float
    _free_at: float = 0.0

    @property
    def step(self) -> int:
        """How many bytes to send at a time."""
        return max(1, min(CHUNK, int(self.bytes_per_second * _SHORT_SECONDS)))

    async def pay(self, count: int) -> None:
        """Wait for as long as so many bytes take, after those that others have paid for."""
        now = asyncio.get_running_loop().time()
        start = self._free_at if self._free_at > now - _LATE_SECONDS else now
        self._free_at = start + count / self.bytes_per_second
        await asyncio.sleep(self._free_at - now)


@dataclass(frozen=True, slots=True)
class Dripping:
    """So many bytes at a time, with a pause after each."""

    count: int
    seconds: float
    sleep: Callable[[float], Awaitable[None]]
