"""The same on uvloop, whose transports are not asyncio's."""

from __future__ import annotations

import asyncio
import ssl

import pytest

import imapipe
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
                assert await connection.imap.wait_server_push(5) == [b"61 EXISTS"]
                connection.imap.idle_done()
                assert (await idle).result == "OK"
        assert server.counters.open_connections == 0

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
