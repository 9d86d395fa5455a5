"""The line: bandwidth, latency, and what a test can count."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from imapipe.testing import Server, SyntheticMailbox
from imapipe.testing.pace import Pacer

Connect = Callable[[int], Awaitable[Any]]


class FakeTime:
    """A clock for a pacer whose sleeps are late, as a busy machine's are."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, late: float) -> None:
        self.now = 100.0
        self._late = late
        monkeypatch.setattr("imapipe.testing.pace.asyncio.get_running_loop", lambda: self)
        monkeypatch.setattr("imapipe.testing.pace.asyncio.sleep", self.sleep)

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        if seconds > 0:
            self.now += seconds + self._late


@pytest.mark.parametrize("late", [0.0, 0.001, 0.003])
def test_a_pace_is_kept_although_timers_are_late(monkeypatch: pytest.MonkeyPatch, late: float) -> None:
    # 100 Mbit/s: 12.5 MB take a second.
    pacer = Pacer(12_500_000)
    time = FakeTime(monkeypatch, late)

    async def send() -> None:
        for _ in range(12_500_000 // pacer.step):
            await pacer.pay(pacer.step)

    send_all = send()
    with pytest.raises(StopIteration):
        send_all.send(None)
    assert 0.98 < time.now - 100 < 1.02


def test_a_pause_is_not_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pacer = Pacer(1000)
    time = FakeTime(monkeypatch, 0.0)

    async def send() -> None:
        await pacer.pay(100)
        time.now += 60
        await pacer.pay(1000)

    send_all = send()
    with pytest.raises(StopIteration):
        send_all.send(None)
    assert time.now == pytest.approx(100.1 + 60 + 1.0)


@pytest.mark.asyncio
async def test_a_line_is_shared(connect: Connect) -> None:
    loop = asyncio.get_running_loop()
    async with Server(messages=[b"x" * 20_000], line_bytes_per_second=200_000) as server:
        clients = [await connect(server.port) for _ in range(2)]
        for client in clients:
            await client.login()
        start = loop.time()
        await asyncio.gather(*(client.ok("UID FETCH 1 BODY.PEEK[]") for client in clients))
        # Never faster than the line; slower it may be.
        assert loop.time() - start > 0.19


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
