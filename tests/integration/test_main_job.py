"""The main job on a real Dovecot: 20,000 messages, every byte, over every kind of connection."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

import imapipe
from dovecot_server import DovecotServer
from imapipe import search as q

COUNT = 20_000


@dataclass(frozen=True)
class Filled:
    """A mailbox that all tests here read.

    Attributes:
        server: The server.
        user: Whose INBOX it is.
        digests: Of what was stored, by UID.
        subjects: By UID.
    """

    server: DovecotServer
    user: str
    digests: dict[int, bytes]
    subjects: dict[int, str]

    def pool(self, *, tls: bool = False, **options: object) -> imapipe.Pool:
        """A pool for its account."""
        return imapipe.create_pool(self.server.url(self.user, tls=tls), password=self.server.password, **options)  # type: ignore[arg-type]


def _subject(uid: int) -> str:
    return f'{uid}: 5 * 3 = 15 :) (a "quoted" one' if uid % 7 == 0 else f"message {uid}"


def _content(uid: int) -> bytes:
    """A small message, no two alike, some of them with lines that look like protocol."""
    lines = [
        f"Message-ID: <{uid}@example.org>",
        "Date: Mon, 01 Jan 2024 10:00:00 +0000",
        f"From: Ann <ann{uid % 97}@example.org>",
        f"Subject: {_subject(uid)}",
        "",
        f"Body of {uid}.",
    ]
    if uid % 5 == 0:
        lines += [f"* {uid} FETCH (UID {uid} FLAGS (\\Seen))", "P7 OK done", "x" * (uid % 400), "{12}"]
    return "\r\n".join(lines).encode() + b"\r\n"


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=12).digest()


@pytest.fixture(scope="module")
def filled(dovecot: DovecotServer) -> Iterator[Filled]:
    """One mailbox for all tests of this file: none of them changes it."""
    user = dovecot.new_user("main")
    contents = [_content(uid) for uid in range(1, COUNT + 1)]
    uids = dovecot.fill(user, "INBOX", contents)
    yield Filled(
        dovecot,
        user,
        {uid: _digest(content) for uid, content in zip(uids, contents, strict=True)},
        {uid: _subject(uid) for uid in uids},
    )
    # Read-only all along: no test has marked anything.
    client = dovecot.login(user)
    try:
        client.select("INBOX", readonly=True)
        assert client.search(None, "SEEN")[1] == [b""]
    finally:
        client.logout()


async def _check_bodies(filled: Filled, pool: imapipe.Pool, connections: int) -> imapipe.RunReport:
    seen: dict[int, bytes] = {}

    async def handle(message: imapipe.Message) -> None:
        assert message.uid not in seen
        assert message.size == len(message.body)
        # However late the last connection is, the others have not done all of the work.
        while pool.stats.opened < connections:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.001)
        seen[message.uid] = _digest(message.body)

    report = await pool.mailbox("INBOX").search(q.ALL).fetch("full").run(handle, connections=connections)
    assert report.planned == report.done == COUNT
    assert report.complete
    assert seen == filled.digests
    return report


@pytest.mark.asyncio
async def test_envelopes(filled: Filled) -> None:
    subjects: dict[int, str] = {}

    async def handle(message: imapipe.Message) -> None:
        subjects[message.uid] = message.envelope.subject
        assert "\\Seen" not in message.flags
        assert message.envelope.message_id == f"<{message.uid}@example.org>"

    async with filled.pool() as pool:
        report = await pool.mailbox("INBOX").search(q.ALL).fetch("envelope").run(handle)
    assert report.planned == report.done == COUNT
    assert report.complete
    assert subjects == filled.subjects


@pytest.mark.asyncio
async def test_bodies_over_one_connection(filled: Filled) -> None:
    async with filled.pool(max_size=1) as pool:
        report = await _check_bodies(filled, pool, 1)
        assert pool.stats.opened == 1
    assert report.reconnects == report.retries == 0


@pytest.mark.asyncio
async def test_bodies_over_four_connections(filled: Filled) -> None:
    async with filled.pool(max_size=4) as pool:
        await _check_bodies(filled, pool, 4)
        assert pool.stats.opened == 4


@pytest.mark.asyncio
async def test_bodies_compressed(filled: Filled) -> None:
    async with filled.pool(max_size=2, compress=True) as pool:
        report = await _check_bodies(filled, pool, 2)
        async with pool.acquire() as connection:
            assert connection.plane.is_compressed
    assert report.wire_bytes < report.bytes_received / 2


@pytest.mark.asyncio
async def test_bodies_over_tls(filled: Filled) -> None:
    async with filled.pool(tls=True, max_size=2, ssl_context=filled.server.ssl_context()) as pool:
        await _check_bodies(filled, pool, 2)


@pytest.mark.asyncio
async def test_bodies_through_starttls(filled: Filled) -> None:
    async with filled.pool(max_size=2, starttls=True, ssl_context=filled.server.ssl_context()) as pool:
        await _check_bodies(filled, pool, 2)
        async with pool.acquire() as connection:
            transport = connection.plane.transport
            assert transport is not None
            assert transport.get_extra_info("cipher")


@pytest.mark.asyncio
async def test_tls_with_a_certificate_that_nobody_knows(filled: Filled) -> None:
    async with filled.pool(tls=True) as pool:
        with pytest.raises(imapipe.ConnectionFailed, match="certificate"):
            await pool.mailbox("INBOX").search(q.ALL).uids()


@pytest.mark.asyncio
async def test_a_loop_that_is_left_early_and_batches(filled: Filled) -> None:
    async with filled.pool(max_size=1) as pool:
        job = pool.mailbox("INBOX").search(q.ALL).fetch("full")
        seen = 0
        async for message in job:
            assert _digest(message.body) == filled.digests[message.uid]
            seen += 1
            if seen == 700:
                break
        sizes = [len(batch) async for batch in job.newest_first().limit(1000).batch(300).batches()]
    assert sizes == [300, 300, 300, 100]
