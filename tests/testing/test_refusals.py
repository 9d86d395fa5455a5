"""What the server does not take is BAD or NO with a reason, and the session goes on: as clients meet it."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from imapipe.testing import Server

Connect = Callable[[int], Awaitable[Any]]

# In a selected mailbox with everything that can be had.
REFUSED: dict[str, str] = {
    "UID FETCH 1,,2 (UID)": "BAD",
    "UID FETCH 1 ?": "BAD Expected a FETCH item",
    "UID FETCH 1 (BINARY)": "BAD Unknown FETCH item BINARY",
    "UID FETCH 1 (BODY.PEEK)": "BAD Unknown FETCH item BODY.PEEK",
    "UID FETCH 1 (NONSENSE)": "BAD",
    "UID FETCH 1 (UID) (NONSENSE)": "BAD Unknown FETCH modifier NONSENSE",
    "UID FETCH 1 (UID) (VANISHED)": "BAD VANISHED needs CHANGEDSINCE",
    "UID FETCH 1:* (UID) (PARTIAL 1:-3)": "BAD Invalid PARTIAL range",
    "UID FETCH 1:* (UID) (PARTIAL 0:3)": "BAD Invalid PARTIAL range",
    "UID SEARCH ON 1-Foo-2024": "BAD Expected a date",
    "UID SEARCH ON 31-Feb-2024": "BAD No such date",
    "UID SEARCH NONSENSE": "BAD",
    "UID SEARCH NONSENSE x": "BAD Unknown search key NONSENSE",
    "UID SEARCH X-GM-NONSENSE x": "BAD Unknown search key X-GM-NONSENSE",
    "UID SEARCH RETURN (NONSENSE) ALL": "BAD Unknown search return option NONSENSE",
    "UID SEARCH FROM (ann)": "BAD",
    "STATUS INBOX ()": "BAD Empty status list",
    "STATUS INBOX (NONSENSE)": "BAD",
    "APPEND INBOX (\\Seen) \"xx\" {1+}\r\nx": "BAD Expected a date",
    "APPEND INBOX \"31-Feb-2024 00:00:00 +0000\" {1+}\r\nx": "BAD No such date",
    "APPEND INBOX nothing": "BAD",
    "SELECT INBOX (NONSENSE)": "BAD Unknown parameter NONSENSE",
    "NOTIFY SET (SELECTED (MessageNew MessageExpunge)) (SELECTED (MessageNew MessageExpunge))":
        "BAD The selected mailbox is named twice",
    "NOTIFY SET (INBOXES (Nonsense))": "BAD Invalid arguments",
    "NOTIFY SET (NONSENSE (MessageNew MessageExpunge))": "BAD",
    "NOTIFY SET (PERSONAL (AnnotationChange))": "NO [BADEVENT (",
    "DELETE INBOX": "NO [CANNOT]",
    "DELETE nowhere": "NO [NONEXISTENT]",
    "CREATE INBOX": "NO [ALREADYEXISTS]",
    "RENAME INBOX INBOX": "NO [ALREADYEXISTS]",
    "RENAME nowhere elsewhere": "NO [NONEXISTENT]",
    "COMPRESS ZSTD": "BAD Unknown compression",
    "NONSENSE": "BAD",
}  # fmt: skip


REFUSED_BEFORE_LOGIN: dict[str, str] = {
    "AUTHENTICATE NONSENSE": "NO [CANNOT]",
    "AUTHENTICATE PLAIN ?": "BAD Invalid base64",
    "AUTHENTICATE PLAIN eA==": "BAD Malformed PLAIN response",
    "STARTTLS": "BAD STARTTLS is not available",
    "UID SEARCH ALL": "BAD",
}


@pytest.mark.asyncio
async def test_refusals_end_no_session(connect: Connect) -> None:
    async with Server(messages=3, extensions="everything") as server:
        client = await connect(server.port)
        wrong = []
        for commands in (REFUSED_BEFORE_LOGIN, REFUSED):
            for command, reply in commands.items():
                answered = (await client.run(command))[-1].decode()
                if not answered.startswith(reply):
                    wrong.append((command, answered))
            if commands is REFUSED_BEFORE_LOGIN:
                await client.login()
                await client.ok("ENABLE QRESYNC")
        assert not wrong
        assert await client.ok("UID SEARCH ALL") == [b"SEARCH 1 2 3"]


@pytest.mark.asyncio
async def test_a_login_that_is_broken_off_may_be_begun_again(connect: Connect) -> None:
    async with Server() as server:
        client = await connect(server.port)
        tag = client.send("AUTHENTICATE PLAIN")
        assert (await client.read()).startswith(b"+")
        client.writer.write(b"*\r\n")
        assert (await client.finish(tag))[-1].startswith(b"BAD Authentication cancelled")
        plain = base64.b64encode(b"\0ann\0secret").decode()
        assert (await client.run(f"AUTHENTICATE PLAIN {plain}"))[-1].startswith(b"OK")


@pytest.mark.asyncio
async def test_what_needs_a_mailbox_says_so(connect: Connect) -> None:
    async with Server() as server:
        client = await connect(server.port)
        await client.ok("LOGIN ann secret")
        assert (await client.run("UID SEARCH ALL"))[-1] == b"BAD No mailbox selected"
        tag = client.send("IDLE")
        assert (await client.read()).startswith(b"+")
        client.writer.write(b"STOP\r\n")
        assert (await client.finish(tag))[-1] == b"BAD Expected DONE"


@pytest.mark.asyncio
async def test_an_inbox_that_is_renamed_leaves_its_mail_in_the_new_mailbox(connect: Connect) -> None:
    """RFC 9051, 6.3.6: INBOX itself stays, and is empty."""
    async with Server(messages=2) as server:
        client = await connect(server.port)
        await client.login()
        await client.ok("RENAME INBOX old")
        assert (len(server.mailboxes["INBOX"]), len(server.mailboxes["old"])) == (0, 2)
