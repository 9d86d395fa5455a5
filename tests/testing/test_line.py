"""The line: bandwidth, latency, and what a test can count."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.middleware.fakes import run_in_fake_time

from imapipe.testing import Server, SyntheticMailbox
from imapipe.testing.pace import Pacer

Connect = Callable[[int], Awaitable[Any]]


async def _pay(bytes_per_second: float, *amounts: int, idle_seconds: float = 0.0) -> float:
    """Pay for bytes one after the other, with pauses between, and tell how long it took by the loop's time."""
    loop, pacer = asyncio.get_running_loop(), Pacer(bytes_per_second)
    began = loop.time()
    for amount in amounts:
        await pacer.pay(amount)
        if idle_seconds:
            await asyncio.sleep(idle_seconds)
    return loop.time() - began


@pytest.mark.parametrize("late", [0.0, 0.001, 0.01])
def test_a_pace_is_kept_although_timers_are_late(late: float) -> None:
    # 100 Mbit/s for a second; at the end it may be late once.
    seconds = run_in_fake_time(_pay(12_500_000, *[50_000] * 250), lateness=late)
    assert 1.0 <= seconds + 0.0001 < 1.0002 + 2 * late


def test_a_pause_is_not_made_up_for() -> None:
    assert run_in_fake_time(_pay(1000, 100, 1000, idle_seconds=60)) == pytest.approx(0.1 + 60 + 1 + 60, abs=0.001)


def test_a_line_is_shared() -> None:
    async def fetch(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"A LOGIN ann secret\r\nB EXAMINE INBOX\r\nC UID FETCH 1 BODY.PEEK[]\r\n")
        while not (await reader.readline()).startswith(b"C OK"):
            pass
        writer.close()
        await writer.wait_closed()

    async def run() -> float:
        loop = asyncio.get_running_loop()
        async with Server(messages=[b"x" * 10_000], line_bytes_per_second=1000, clock=loop.time) as server:
            began = loop.time()
            await asyncio.gather(*(fetch(server.port) for _ in range(3)))
            return loop.time() - began

    # Three times 10,000 bytes of mail, and the words around them.
    assert 30 < run_in_fake_time(run()) < 36


@pytest.mark.asyncio
async def test_round_trips_and_what_was_fetched(connect: Connect) -> None:
    async with Server(messages=SyntheticMailbox(10), latency_seconds=0.02) as server:
        client = await connect(server.port)
        await client.login()
        server.commands.clear()
        tags = [client.send(f"UID FETCH {first}:{first + 2} (FLAGS)") for first in (1, 3, 5)]
        for tag in tags:
            await client.finish(tag)
        assert server.commands.round_trips() == 1
        await client.ok("NOOP")
        tag = client.send(b"APPEND INBOX {3}")
        assert await client.read() == b"+ Ready\r\n"
        client.writer.write(b"one\r\n")
        await client.finish(tag)
        assert server.commands.round_trips(connection=1) == 4
        assert server.commands.round_trips(connection=2) == 0
        fetched = server.commands.fetched()
        assert sorted(fetched) == [1, 2, 3, 4, 5, 6, 7]
        assert [uid for uid, times in fetched.items() if times == 2] == [3, 5]
        assert list(server.commands.named("UID FETCH")[0].fetched) == [1, 2, 3]
