"""The testing server as seen by clients that know nothing of it."""

from __future__ import annotations

import asyncio
import imaplib

import pytest

from imapipe.testing import Server


def _use_imaplib(port: int) -> tuple[list[bytes], list[object]]:
    client = imaplib.IMAP4("127.0.0.1", port)
    client.login("ann", "secret")
    client.select("INBOX", readonly=True)
    found = client.uid("SEARCH", "ALL")[1]
    data = client.uid("FETCH", "1:3", "(FLAGS ENVELOPE BODY.PEEK[])")[1]
    client.logout()
    return found, data


@pytest.mark.asyncio
async def test_imaplib_reads() -> None:
    async with Server(messages=5) as server:
        found, data = await asyncio.to_thread(_use_imaplib, server.port)
    assert found == [b"1 2 3 4 5"]
    bodies = [item[1] for item in data if isinstance(item, tuple)]
    assert [server.mailboxes["INBOX"][uid].content.raw for uid in (1, 2, 3)] == bodies[-3:]
    assert server.counters.logins == 1
    assert server.commands.named("UID FETCH")[0].messages == 3
    assert server.commands.named("LOGIN")[0].arguments == "***"
