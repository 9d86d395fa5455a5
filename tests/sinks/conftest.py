"""A server with odd messages, and one pool on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest_asyncio

import imapipe
from imapipe import search as q
from imapipe.testing import Mailbox, Server
from imapipe.testing.messages import make_messages

ODD: Final = (
    b"From: Ann Example <ann@example.org>\r\n\r\nFrom here on\r\n>From there\r\n>>From afar\r\nfrom me\r\n",
    b"From: first line\r\nSubject: no line end at the end\r\n\r\nFrom the end",
    b"Subject: ../../etc/passwd\r\nFrom: x@y\r\n\r\nbare\nline\nends\nFrom a bare line\n",
    b"Subject: =?utf-8?B?w7xtbMOkdXRlIPCfmIA=?=\r\nX-Long: " + b"x" * 3000 + b"\r\n\r\n" + b"y" * 2000 + b"\r\n",
    b"\r\n",
    b"Subject: con.txt\r\n\r\n" + b"From " * 20000 + b"\r\nFrom \r\n",
)


def files_below(folder: Path) -> list[Path]:
    """All files of a folder and of those in it."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


class Shop:
    """A server, a pool, and all messages as they are there."""

    def __init__(self, server: Server, pool: imapipe.Pool) -> None:
        self.server = server
        self.pool = pool

    def job(self, fetch: str = "full", mailbox: str = "INBOX") -> imapipe.Pipeline:
        """A job on all messages."""
        return self.pool.mailbox(mailbox).search(q.ALL).fetch(fetch)

    def add(self, mailbox: str, *messages: bytes) -> None:
        """Another mailbox."""
        self.server.mailboxes.add(mailbox, Mailbox(messages))

    async def bodies(self) -> dict[int, bytes]:
        """All messages by UID."""
        return {message.uid: message.body async for message in self.job()}


@pytest_asyncio.fixture
async def shop() -> AsyncIterator[Shop]:
    """Sixty messages, the odd ones first; those above 50,000 bytes are spooled."""
    messages = [*ODD, *make_messages(60 - len(ODD), seed=3)]
    async with (
        Server(messages) as server,
        imapipe.create_pool(server.url, password=server.password, spool_above=50_000) as pool,
    ):
        yield Shop(server, pool)
