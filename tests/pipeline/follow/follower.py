"""What tests of following share: a handler that counts, and waits for what a test wants to see."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import imapipe
from imapipe.events import Event, MailboxFollowed


class Follower:
    """A job that is followed, and what it handled."""

    def __init__(self, pool: imapipe.Pool) -> None:
        self.handled: Counter[tuple[str, int]] = Counter()
        self.events: list[Event] = []
        self._came = asyncio.Event()
        pool.events.subscribe(self._hear)

    def _hear(self, event: Event) -> None:
        self.events.append(event)
        self._came.set()

    async def handle(self, message: imapipe.Message) -> None:
        self.handled[message.mailbox, message.uid] += 1
        self._came.set()

    async def until(self, wanted: Callable[[], bool], seconds: float = 60.0) -> None:
        async with asyncio.timeout(seconds):
            while not wanted():
                self._came.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await self._came.wait()

    @property
    def told(self) -> list[tuple[str, str]]:
        """By which way news of which mailbox comes, as it was told."""
        return [(event.mailbox, event.way) for event in self.events if isinstance(event, MailboxFollowed)]

    def is_watched(self, *ways: str) -> bool:
        return sorted(dict(self.told).values()) == sorted(ways)


async def awaited(follow: imapipe.Follow) -> imapipe.FollowReport:
    """As a coroutine, for a task."""
    return await follow
