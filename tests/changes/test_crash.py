"""A process that is killed while it is told of changes repeats only what was in hand."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

import imapipe
from imapipe.testing import Mailbox, Server
from imapipe.testing.messages import make_messages

COUNT = 50
_KILLED = """
import asyncio, os, signal, sys
import imapipe

async def main(url, password, path, last):
    async with imapipe.create_pool(url, password=password) as pool:
        async for change in pool.mailbox("INBOX").changes(path):
            if change.uid == int(last):
                os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.asyncio
async def test_kill_repeats_what_was_in_hand(tmp_path: Path) -> None:
    path = tmp_path / "sync.json"
    async with Server({"INBOX": Mailbox(make_messages(COUNT))}) as server:
        for last in (1, 2, 30):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", _KILLED, server.url, server.password, str(path), str(last)
            )
            assert await process.wait() < 0
        async with imapipe.create_pool(server.url, password=server.password) as pool:
            told = [change.uid async for change in pool.mailbox("INBOX").changes(path)]
    assert told == list(range(30, COUNT + 1))
