"""Some messages, fetched to see how fast they come and whether they are what the server says they are.

Invariants:

- The mailbox is opened for reading only, and no message is marked as read.
- What is fetched is bounded in bytes and in time; what came before the time was over counts.
"""

from __future__ import annotations

import asyncio
import os
import zlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from imapipe.client import Pool
from imapipe.doctor.examination import Sample
from imapipe.errors import ImapipeError
from imapipe.models.message import Message
from imapipe.pipeline.batching import FixedBatch
from imapipe.search import ALL, smaller

_MAX_MESSAGE_BYTES: Final = 200_000
_BATCH: Final = 10
_MAX_MESSAGES: Final = 1000
# Fewer bytes, or a shorter time, say more of the moment than of the line.
_MIN_BYTES: Final = 100_000
_MIN_SECONDS: Final = 0.001
_COMPRESSED_BYTES: Final = 1_000_000


@dataclass(slots=True)
class _Taken:
    """What came so far."""

    bodies: list[bytes] = field(default_factory=list)
    messages: int = 0
    received: int = 0
    first_bytes: int = 0
    first_at: float = 0.0
    last_at: float = 0.0
    wrong_sizes: int = 0
    failed: int = 0
    newest: datetime | None = None

    def add(self, message: Message, now: float) -> None:
        if message.is_spooled:
            # Only small ones were asked for; what is sent all the same is not taken into memory.
            with message.open() as file:
                size = file.seek(0, os.SEEK_END)
        else:
            size = len(message.body)
            if self.received < _COMPRESSED_BYTES:
                self.bodies.append(message.body)
        if not self.messages:
            self.first_at, self.first_bytes = now, size
        self.messages += 1
        self.last_at = now
        self.received += size
        self.wrong_sizes += message.size != size
        received_at = message.internal_date
        if received_at is not None and (self.newest is None or received_at > self.newest):
            self.newest = received_at

    @property
    def bytes_per_second(self) -> float | None:
        """How fast they came, behind the first one."""
        seconds = self.last_at - self.first_at
        if self.received < _MIN_BYTES or seconds < _MIN_SECONDS:
            return None
        return (self.received - self.first_bytes) / seconds


async def take_sample(pool: Pool, mailbox: str, *, max_bytes: int, seconds: float) -> Sample:
    """Fetch the newest messages of a mailbox, none of them large.

    Args:
        pool: The account.
        mailbox: Where.
        max_bytes: No more is asked for when so many came.
        seconds: Nor after this time.

    Raises:
        ImapipeError: Nothing came.

    Cancelling it ends what is under way.
    """
    taken = _Taken()
    try:
        async with asyncio.timeout(seconds):
            await _take(pool, mailbox, taken, max_bytes)
    except TimeoutError:
        pass
    except ImapipeError:
        if not taken.messages:
            raise
    ratio = await asyncio.to_thread(_compressed_to, taken.bodies) if taken.bodies else None
    return Sample(
        mailbox=mailbox,
        messages=taken.messages,
        bytes_received=taken.received,
        bytes_per_second=taken.bytes_per_second,
        compressed_to=ratio,
        wrong_sizes=taken.wrong_sizes,
        failed=taken.failed,
        newest=taken.newest,
    )


async def _take(pool: Pool, mailbox: str, taken: _Taken, max_bytes: int) -> None:
    clock = asyncio.get_running_loop().time
    found = pool.mailbox(mailbox).search(ALL & smaller(_MAX_MESSAGE_BYTES))
    job = found.newest_first().limit(_MAX_MESSAGES).batch(FixedBatch(_BATCH)).fetch("full")
    async with job.stream() as stream:
        async for message in stream:
            taken.add(message, clock())
            if taken.received >= max_bytes:
                return
    taken.failed = stream.report.failed


def _compressed_to(bodies: list[bytes]) -> float | None:
    """The share of the bytes that is left by DEFLATE (RFC 4978 has raw streams, which learn from what came before)."""
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    before = after = 0
    for body in bodies:
        before += len(body)
        after += len(deflate.compress(body))
    return (after + len(deflate.flush())) / before if before else None
