"""What happens in a job, for whoever listens: a bounded ring of events, and subscriptions to it.

Invariants:

- A job never waits for a subscriber: `append` puts an event into the ring and wakes who waits.
- A subscriber is a number, that of its next event, and so costs the same however slow it is. What the ring does not
  hold any more when it comes for it is lost to it, and one event `lost` says how many that were.
- An event is encoded once, however many listen.
- The numbers of events of one ring are without a gap. An id names its ring too, so that one of an earlier process is
  never taken for one of this.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

import orjson

from imapipe.models.document import Document
from imapipe.models.json_value import JSON

CAPACITY: Final = 256
"""Events that a ring holds, unless it is told otherwise."""
# What servers say is in some; a ring of such is no longer than this, or one event.
_MOST_BYTES: Final = 1024 * 1024
MOST_DIGITS: Final = 18
"""No number that a client gives has more: none is of an event, and nobody wants so many messages."""


@dataclass(frozen=True, slots=True)
class JobEvent:
    """Something that happened in a job.

    Attributes:
        id: Names it; to be given back to go on behind it (`Last-Event-ID`).
        kind: "state", "progress", "failures", "waits", "news", "end", or "lost".
        text: What is told of it, as a JSON object on one line.
    """

    id: str
    kind: str
    text: str

    @property
    def data(self) -> dict[str, JSON]:
        """What is told of it; see docs/services.md for what each kind holds, and docs/schemas.json for the schemas."""
        data: dict[str, JSON] = orjson.loads(self.text)
        return data

    @property
    def line(self) -> str:
        """The event as a line of JSON, with its end: `{"id": …, "event": …, "data": …}`."""
        return f'{{"id":"{self.id}","event":"{self.kind}","data":{self.text}}}\n'


@dataclass(frozen=True, slots=True)
class LostData(Document):
    """Events that a listener did not come for in time.

    Attributes:
        count: How many; None where nobody knows.
    """

    count: int | None


class EventRing:
    """The last events of a job.

    Args:
        capacity: How many are kept.
    """

    __slots__ = ("_bytes", "_events", "_is_closed", "_last", "_token", "_waiting")

    def __init__(self, capacity: int = CAPACITY) -> None:
        if capacity < 1:
            raise ValueError(f"a ring holds 1 event or more, not {capacity}")
        self._events: deque[JobEvent] = deque(maxlen=capacity)
        self._bytes = 0
        self._token = secrets.token_hex(4)
        self._last = 0
        self._is_closed = False
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def first(self) -> int:
        """The number of the oldest event that is kept; that of the next one where there is none."""
        return self._last + 1 - len(self._events)

    @property
    def last(self) -> int:
        """The number of the newest event, 0 before the first."""
        return self._last

    @property
    def is_closed(self) -> bool:
        """Whether no further event comes."""
        return self._is_closed

    def append(self, kind: str, data: Mapping[str, JSON]) -> None:
        """Tell of something. Takes microseconds, and wakes those who wait."""
        self._last += 1
        event = JobEvent(self.id_of(self._last), kind, orjson.dumps(data).decode())
        events = self._events
        self._bytes += len(event.text)
        while events and (len(events) == events.maxlen or self._bytes > _MOST_BYTES):
            self._bytes -= len(events.popleft().text)
        events.append(event)
        self._wake()

    def close(self) -> None:
        """Nothing more comes: subscriptions end when they have told what is there."""
        self._is_closed = True
        self._wake()

    def subscribe(self, after: str | None = None) -> Subscription:
        """Listen.

        Args:
            after: The id of the last event that is known; None for all that are kept. Behind one of another process
                it is unknown how many were lost, and `lost` says so.
        """
        if not after:
            return Subscription(self, self.first)
        token, _, number = after.rpartition("-")
        if token == self._token and is_number(number) and int(number) <= self._last:
            return Subscription(self, int(number) + 1)
        return Subscription(self, self.first, is_of_another=True)

    def id_of(self, number: int) -> str:
        """The id of the event of this number."""
        return f"{self._token}-{number}"

    def event(self, number: int) -> JobEvent:
        """The event of this number, which is kept."""
        return self._events[number - self.first]

    async def wait(self) -> None:
        """Wait until there is something new; a cancellation leaves nothing behind."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)


class Subscription:
    """The events of a job, one after the other: `async for event in job.events()`. Ends when the job does."""

    __slots__ = ("_is_ended", "_is_of_another", "_next", "_ring")

    def __init__(self, ring: EventRing, first: int, *, is_of_another: bool = False) -> None:
        self._ring = ring
        self._next = first
        self._is_of_another = is_of_another
        self._is_ended = False

    def __aiter__(self) -> Self:
        return self

    @property
    def is_at_end(self) -> bool:
        """Whether everything was told, and nothing more comes."""
        return self._is_ended or (self._ring.is_closed and self._next > self._ring.last)

    def end(self) -> None:
        """Tell nothing more; who waits for the next event is told that there is none at the next one of the job."""
        self._is_ended = True

    async def __anext__(self) -> JobEvent:
        while True:
            if self.is_at_end:
                raise StopAsyncIteration
            ring = self._ring
            if self._is_of_another or self._next < ring.first:
                count = None if self._is_of_another else ring.first - self._next
                self._is_of_another, self._next = False, ring.first
                return JobEvent(ring.id_of(ring.first - 1), "lost", orjson.dumps(LostData(count).to_dict()).decode())
            if self._next <= ring.last:
                event = ring.event(self._next)
                self._next += 1
                return event
            await ring.wait()


def is_number(text: str) -> bool:
    """Whether a text of a client is a number that may be looked at."""
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS
