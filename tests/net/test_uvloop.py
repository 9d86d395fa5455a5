"""The same on uvloop, whose transports are not asyncio's."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time

import pytest

import imapipe
from imapipe.net.watchdog import Watchdog
from imapipe.testing import Server

uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed (pip install imapipe[uvloop])")


@pytest.mark.parametrize("way", ["plain", "tls", "starttls"])
@pytest.mark.parametrize("compress", [False, True])
def test_bodies_pauses_and_idle(contexts: tuple[ssl.SSLContext, ssl.SSLContext], way: str, compress: bool) -> None:
    stored = [b"Subject: %d\r\n\r\n" % number + b"x" * (number * 7919 % 90_000) for number in range(60)]

    async def main() -> None:
        assert type(asyncio.get_running_loop()).__module__.startswith("uvloop")
        server_context, client_context = contexts
        async with (
            Server(
                stored,
                tls=server_context if way == "tls" else None,
                starttls=server_context if way == "starttls" else None,
            ) as server,
            imapipe.create_pool(
                server.url,
                password="secret",
                ssl_context=client_context,
                starttls=True if way == "starttls" else None,
                compress=compress,
                max_held_bytes=100_000,
                spool_above=60_000,
            ) as pool,
        ):
            found = [m.body async for m in pool.mailbox("INBOX").search().batch(10).fetch("full")]
            assert found == stored
            async with pool.acquire("INBOX") as connection:
                assert connection.plane.holdings.max_held_seen > 0
                await connection.imap.select()
                idle = await connection.imap.idle_start(timeout=60)
                server.mailboxes["INBOX"].extend([b"new"])
                assert await connection.imap.wait_server_push(60) == [b"61 EXISTS"]
                connection.imap.idle_done()
                assert (await idle).result == "OK"
        assert server.counters.open_connections == 0

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_what_came_while_the_loop_was_blocked_is_heard_before_the_timer() -> None:
    """Defect: uvloop calls timers before it reads, so that an answer that was there ended in a timeout."""

    async def main() -> list[float | None]:
        loop = asyncio.get_running_loop()
        here, there = socket.socketpair()
        expired: list[float | None] = []
        dog = Watchdog(loop, lambda: 0.02, lambda: float("inf"), 0.02, expired.append)
        heard = asyncio.Event()

        def hear() -> None:
            if here.recv(100) == b"* OK wait":
                # Something else that is read keeps the loop busy, and the answer comes meanwhile.
                time.sleep(0.05)
                there.send(b"* OK still here")
            else:
                dog.stop()
                heard.set()

        with here, there:
            loop.add_reader(here, hear)
            dog.watch()
            there.send(b"* OK wait")
            await heard.wait()
            loop.remove_reader(here)
        return expired

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) == []
