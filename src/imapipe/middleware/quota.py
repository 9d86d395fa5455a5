"""An account whose quota is used up: one batch at a time finds out whether it is served again (`retry`).

Gmail counts bytes by the day and answers NO [OVERQUOTA] then, whatever is asked for. Each batch asking again by itself
would be as many refusals as there are batches under way, and each may make it longer.

Invariants:

- While an account is refused, one batch at a time is sent, a wait after the refusal of the one before; the others, of
  all runs on the account, wait for what comes of it.
- What was sent before a refusal was known, and is refused too, counts with it as one.
- When the tries are used up nothing is sent for a while, by nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from imapipe.errors import Throttled

# For so long after the last try nobody asks whether the account is served again.
_REST_SECONDS: Final = 60.0


class Quota:
    """How one account stands.

    Args:
        tries: How many refusals one after the other are the end.
        wait_seconds: How long to wait after so many of them.
        sleep: What waits.

    Attributes:
        refusal: The last one, while the account is refused; else None.
        users: How many runs go by it.
    """

    __slots__ = ("_refused_at", "_sleep", "_tries", "_turn", "_wait_seconds", "count", "refusal", "users")

    def __init__(
        self,
        tries: int,
        wait_seconds: Callable[[int, Throttled], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.refusal: Throttled | None = None
        self.count = 0
        self.users = 0
        self._tries = tries
        self._wait_seconds = wait_seconds
        self._sleep = sleep
        self._refused_at = 0.0
        self._turn = asyncio.Lock()

    @property
    def is_used_up(self) -> bool:
        """Whether nothing is to be sent now: the tries are over."""
        return self.count >= self._tries and _now() < self._refused_at + _REST_SECONDS

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until a batch may go, or until nothing may (`is_used_up`); within the block it is under way."""
        if self.refusal is None:
            yield
            return
        await self._turn.acquire()
        is_trying = False
        try:
            # Whoever had the turn before may have been served.
            is_trying = await self._wait()
        finally:
            if not is_trying:
                self._turn.release()
        try:
            yield
        finally:
            if is_trying:
                self._turn.release()

    async def _wait(self) -> bool:
        """Wait before the next try; False where none is needed."""
        if self.refusal is None:
            return False
        if not self.is_used_up:
            seconds = self._refused_at + self._wait_seconds(self.count, self.refusal) - _now()
            if seconds > 0:
                await self._sleep(seconds)
        return True

    def refused(self, error: Throttled, sent_at: float) -> None:
        """A batch that was sent then was refused."""
        if self.refusal is None or sent_at >= self._refused_at:
            self.count += 1
            self._refused_at = _now()
        self.refusal = error

    def served(self, sent_at: float) -> None:
        """A batch that was sent then brought something."""
        if self.refusal is not None and sent_at >= self._refused_at:
            self.refusal = None
            self.count = 0


class Quotas:
    """Those of all accounts of one event loop; each is forgotten when no run goes by it, and no job of several runs."""

    __slots__ = ("_jobs", "_make", "_quotas")

    def __init__(self, make: Callable[[], Quota]) -> None:
        self._make = make
        self._jobs = 0
        self._quotas: dict[str, Quota] = {}

    def take(self, account: str) -> Quota:
        """That of an account, for a run that begins."""
        quota = self._quotas.setdefault(account, self._make())
        quota.users += 1
        return quota

    def give_back(self, account: str) -> None:
        """A run is over."""
        self._quotas[account].users -= 1
        self._forget()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Forget nothing between the runs of a job."""
        self._jobs += 1
        try:
            yield
        finally:
            self._jobs -= 1
            self._forget()

    def _forget(self) -> None:
        if not self._jobs:
            self._quotas = {account: quota for account, quota in self._quotas.items() if quota.users}


def _now() -> float:
    return asyncio.get_running_loop().time()
