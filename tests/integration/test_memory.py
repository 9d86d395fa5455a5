"""What is held while a mailbox is read does not grow with the mailbox (sizes are asserted, not times)."""

from __future__ import annotations

import asyncio
import hashlib
import tracemalloc

import pytest

import imapipe
from dovecot_server import DovecotServer
from imapipe import search as q
from imapipe.net.connection import Connection
from imapipe.wire.response.framing import BUFFER_BYTES

MIB = 1024 * 1024
CAP = 2 * MIB
# Of messages, for a whole batch of which one connection has no room.
BATCH = 1000


def _content(uid: int, size: int) -> bytes:
    line = f"{uid} ".encode().ljust(76, b"x") + b"\r\n"
    return f"Subject: {uid}\r\n\r\n".encode() + line * (size // len(line))


class _Watch:
    """A handler that looks at the connections while messages are handled.

    Args:
        fills: Whether it begins when as much is held as may be: else that follows how busy the machine is.
    """

    def __init__(self, pool: imapipe.Pool, *, fills: bool = False) -> None:
        self._pool = pool
        self._fills = fills
        self.connections: set[Connection] = set()
        self.most_spooled = 0
        self.count = 0
        self.digest = hashlib.blake2b()

    async def __call__(self, message: imapipe.Message) -> None:
        self.count += 1
        self.connections |= self._pool.connections._leased
        while self._fills:
            self._fills = not all(connection.plane.is_reading_paused for connection in self.connections)
            await asyncio.sleep(0.001)
        self.most_spooled = max(self.most_spooled, sum(c.plane.holdings.spooled_bytes for c in self.connections))
        with message.open() as file:
            while chunk := file.read(MIB):
                self.digest.update(chunk)

    @property
    def most_held(self) -> int:
        """The most that one connection held in memory."""
        return max(connection.plane.holdings.max_held_seen for connection in self.connections)


async def _read(
    dovecot: DovecotServer, user: str, *, max_spool_bytes: int = 1024 * MIB, connections: int = 2, fills: bool = False
) -> tuple[_Watch, int]:
    """Read a whole mailbox; gives what was seen, and the most Python memory beyond that at the start."""
    async with imapipe.create_pool(
        dovecot.url(user), password=dovecot.password, max_size=2, max_held_bytes=CAP, max_spool_bytes=max_spool_bytes
    ) as pool:
        job = pool.mailbox("INBOX").search(q.ALL).fetch("full").batch(BATCH)
        await job.limit(1).run(_Watch(pool))
        watch = _Watch(pool, fills=fills)
        tracemalloc.start()
        try:
            report = await job.run(watch, concurrency=2, connections=connections)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert report.complete
        assert watch.count == report.planned
        for connection in watch.connections:
            assert connection.plane.holdings.held_bytes == 0
            assert connection.plane.holdings.spooled_bytes == 0
    return watch, peak


@pytest.mark.asyncio
async def test_held_bytes_do_not_grow_with_the_number_of_messages(dovecot: DovecotServer) -> None:
    peaks = []
    for count in (BATCH, 4 * BATCH):
        user = dovecot.new_user()
        dovecot.fill(user, "INBOX", (_content(uid, 4000) for uid in range(1, count + 1)))
        watch, peak = await _read(dovecot, user, connections=1, fills=True)
        # What one read of the socket brings comes on top of the cap.
        assert watch.most_held <= CAP + BUFFER_BYTES
        peaks.append(peak)
    few, many = peaks
    assert many < few + MIB
    assert many < CAP + 2 * BUFFER_BYTES + 4 * MIB


@pytest.mark.asyncio
@pytest.mark.slow
async def test_forty_messages_of_eight_megabytes_are_never_in_memory(dovecot: DovecotServer) -> None:
    user = dovecot.new_user()
    size = 8 * MIB
    dovecot.fill(user, "INBOX", (_content(uid, size) for uid in range(1, 41)))
    watch, peak = await _read(dovecot, user, max_spool_bytes=40 * MIB)
    assert watch.count == 40
    assert watch.most_held <= CAP + BUFFER_BYTES
    # Reading stops above the cap of each connection, and one message may be under way.
    assert watch.most_spooled <= 2 * (40 * MIB + 2 * size)
    assert peak < 12 * MIB
