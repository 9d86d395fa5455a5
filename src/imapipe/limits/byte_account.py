"""What was received from an account, and what is under way: by all runs of a process, and by other processes.

Invariants:

- What came is counted before anything is decided by it.
- A batch that was let through is counted as under way until it is back, at what it is thought to bring.
- Where other processes share the account, nothing is decided without their part, and they see ours as soon as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol
from weakref import WeakKeyDictionary

from imapipe.limits.byte_usage import ByteUsage
from imapipe.limits.shared_bytes import SharedCount
from imapipe.limits.worth import Worth
from imapipe.models.batch import Batch


class RunBytes(Protocol):
    """One run on the account."""

    @property
    def reserved(self) -> int:
        """What its batches under way are thought to bring."""

    @property
    def notes_path(self) -> str | None:
        """Where what it received is written down; None where it is not."""

    def count(self, now: float) -> None:
        """Count what it received since the last time."""


class ByteAccount:
    """What all runs on one account share.

    Args:
        shared: Where it is counted for other processes too, or None.

    Attributes:
        shared: See above.
        usage: What was received.
        runs: Those of its runs that are under way.
        under_way: How many batches were let through and are not back.
        others: The batches of other processes that are not back, and what they are thought to bring.
        worth: What a message brings.
    """

    __slots__ = ("_landings", "_queues", "others", "runs", "shared", "under_way", "usage", "worth")

    def __init__(self, shared: SharedCount | None = None) -> None:
        self.shared = shared
        self.others = (0, 0)
        self.usage = ByteUsage()
        self.runs: list[RunBytes] = []
        self.under_way = 0
        self.worth = Worth()
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
        self._landings: list[asyncio.Future[None]] = []

    def queue(self) -> asyncio.Lock:
        """The queue of the running loop; asyncio's lock is fair."""
        return self._queues.setdefault(asyncio.get_running_loop(), asyncio.Lock())

    def count(self, now: float) -> None:
        """Count what came since the last time."""
        for run in self.runs:
            run.count(now)

    def add(self, now: float, count: int) -> None:
        """So many bytes were received."""
        self.usage.add(now, count)
        if self.shared is not None:
            self.shared.pending.add(now, count)

    @asynccontextmanager
    async def alone(self, now: float) -> AsyncIterator[None]:
        """Count what came, also to other processes; they see what this one does in the block, and change nothing in it.

        There is to be no `await` in the block. Raises CheckpointError.
        """
        self.count(now)
        if self.shared is None:
            yield
            return
        async with self.shared.hold(now) as row:
            row.under_way.pop(self.shared.token, None)
            self.usage = row.usage
            self.others = (
                sum(batches for batches, _ in row.under_way.values()),
                sum(count for _, count in row.under_way.values()),
            )
            self.worth.believe(row.bytes_per_message)
            yield
            row.bytes_per_message = self.worth.bytes_per_message
            if self.under_way:
                row.under_way[self.shared.token] = self.under_way, self.reserved

    def price(self, batch: Batch) -> int | None:
        """What a batch is thought to bring, or None where nothing is known."""
        price = self.worth.price(batch)
        return None if price is None else round(price)

    def fits(self, price: int | None, now: float, budget: int) -> bool:
        """Whether a batch may go."""
        used = self.usage.used(now)
        if not self.under_way and not self.others[0]:
            # Alone: also one whose price is unknown, and one that would never fit.
            return used == 0 or used + (price or 1) <= budget
        return price is not None and used + self.reserved + self.others[1] + price <= budget

    def fits_at(self, price: int, now: float, budget: int) -> float:
        """When a batch may go, alone."""
        return next((when for when, used in self.usage.steps(now) if not used or used + max(1, price) <= budget), now)

    async def landing(self) -> None:
        """Wait until a batch is back."""
        landing = asyncio.get_running_loop().create_future()
        self._landings.append(landing)
        try:
            await landing
        finally:
            self._landings.remove(landing)

    def landed(self) -> None:
        """A batch is back."""
        for landing in self._landings:
            if not landing.done():
                landing.set_result(None)

    @property
    def reserved(self) -> int:
        """What the batches under way are thought to bring, those of all runs together."""
        return sum(run.reserved for run in self.runs)
