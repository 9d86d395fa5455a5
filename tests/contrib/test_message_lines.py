"""Messages as lines: what a reader gets that is slow, gone, or told to stop."""

from __future__ import annotations

import asyncio
import json

import pytest

import imapipe
from imapipe import search as q
from imapipe.contrib.message_lines import MessageLines
from imapipe.testing import Server, Stall, SyntheticMailbox


def _lines(pool: imapipe.Pool, *, stall_timeout_seconds: float = 60.0) -> MessageLines:
    pipeline = pool.mailbox("INBOX").search(q.ALL).fetch("envelope").batch(10)
    return MessageLines(pipeline, columns=["subject"], stall_timeout_seconds=stall_timeout_seconds)


@pytest.mark.asyncio
async def test_a_reader_that_takes_nothing_for_too_long_gets_an_error_and_holds_no_connection() -> None:
    async with (
        Server(SyntheticMailbox(2000)) as server,
        imapipe.create_pool(server.url, password=server.password) as pool,
    ):
        lines = _lines(pool, stall_timeout_seconds=0.05)
        await lines.begin()
        while pool.stats.leased:
            await asyncio.sleep(0.02)
            assert pool.stats.opened == 1
        told = [json.loads(line) for line in b"".join([chunk async for chunk in lines]).splitlines()]
        assert told[-1]["error"] == {"type": "ReaderStalled", "text": "nobody read the messages for 0.05 seconds"}
        assert [each["uid"] for each in told[:-1]] == list(range(1, len(told)))
        await lines.aclose()


@pytest.mark.asyncio
async def test_a_reader_that_waits_is_told_when_somebody_else_ends_it() -> None:
    faults = [Stall(2000, command="UID FETCH")]
    async with Server(300, faults=faults) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        lines = _lines(pool)
        await lines.begin()
        reading = asyncio.create_task(_rest(lines))
        await asyncio.sleep(0.05)
        assert not reading.done()
        await lines.aclose()
        assert all("uid" in json.loads(line) for line in (await reading).splitlines())
        assert not pool.stats.leased


async def _rest(lines: MessageLines) -> bytes:
    return b"".join([chunk async for chunk in lines])


@pytest.mark.asyncio
async def test_what_goes_wrong_before_anything_was_sent_is_raised() -> None:
    async with Server(3) as server, imapipe.create_pool(server.url, password="wrong") as pool:
        lines = _lines(pool)
        with pytest.raises(imapipe.AuthenticationFailed):
            await lines.begin()
        assert await _rest(lines) == b""
        await lines.aclose()
