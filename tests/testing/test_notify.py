"""NOTIFY (RFC 5465), IDLE, and what other sessions are told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from imapipe.testing import Server

Connect = Callable[[int], Awaitable[Any]]

_MESSAGE = b"Subject: new\r\n\r\n"
_ALL = "MessageNew MessageExpunge FlagChange"


@pytest.mark.asyncio
async def test_selected_mailbox_is_told_at_once(connect: Connect, simple_messages: list[bytes]) -> None:
    async with Server(messages=simple_messages) as server:
        box = server.mailboxes["INBOX"]
        client, other = await connect(server.port), await connect(server.port)
        await client.login()
        await other.login()
        await client.ok(f"NOTIFY SET (selected (MessageNew (UID FLAGS) {_ALL.removeprefix('MessageNew ')}))")
        await other.ok(b"APPEND INBOX (\\Seen) {16+}\r\n" + _MESSAGE)
        assert [await client.read() for _ in range(2)] == [
            b"* 6 EXISTS\r\n",
            b"* 6 FETCH (UID 6 FLAGS (\\Seen))\r\n",
        ]
        box.set_flags(2, ["\\Flagged"])
        assert await client.read() == b"* 2 FETCH (FLAGS (\\Flagged))\r\n"
        box.expunge([1])
        assert await client.read() == b"* 1 EXPUNGE\r\n"
        await client.ok("NOTIFY NONE")
        box.expunge([2])
        # Without NOTIFY only with the next command.
        assert await client.ok("NOOP") == [b"1 EXPUNGE"]
        await client.ok(f"NOTIFY SET (selected-delayed ({_ALL}))")
        box.expunge([3])
        box.append(_MESSAGE)
        assert await client.read() == b"* 5 EXISTS\r\n"
        assert await client.ok("NOOP") == [b"1 EXPUNGE"]


@pytest.mark.asyncio
async def test_other_mailboxes_by_status(connect: Connect) -> None:
    boxes = {"INBOX": 2, "a": 0, "a/b": 0, "ab": 0, "c": 0, "d": 0}
    async with Server(messages=boxes) as server:
        client = await connect(server.port)
        await client.login()
        events = f"({_ALL})"
        filters = f"(mailboxes c NONE) (subtree a {events}) (mailboxes (c d) {events}) (inboxes {events})"
        told = await client.ok(f"NOTIFY SET STATUS {filters}")
        assert [line.split()[1] for line in told] == [b'"a"', b'"a/b"', b'"d"']
        for name in ("ab", "c", "d", "a/b"):
            server.mailboxes[name].append(_MESSAGE)
        told = [await client.read() for _ in range(2)]
        assert told == [
            b'* STATUS "%s" (MESSAGES 1 UIDNEXT 2 UIDVALIDITY %d UNSEEN 1)\r\n'
            % (name.encode(), server.mailboxes[name].uidvalidity)
            for name in ("d", "a/b")
        ]
        server.mailboxes["d"].set_flags(1, ["\\Seen"])
        assert b"UNSEEN 0" in await client.read()
        server.mailboxes["d"].expunge([1])
        assert b"MESSAGES 0" in await client.read()
        await client.ok("ENABLE CONDSTORE")
        server.mailboxes["d"].append(_MESSAGE)
        assert b"HIGHESTMODSEQ" in await client.read()
        # Of the selected one nothing was said: it is told as without NOTIFY.
        server.mailboxes["INBOX"].append(_MESSAGE)
        assert await client.ok("NOOP") == [b"3 EXISTS"]
        await client.ok("SELECT c")
        server.mailboxes["INBOX"].append(_MESSAGE)
        assert (await client.read()).startswith(b'* STATUS "INBOX" (MESSAGES 4')


@pytest.mark.asyncio
async def test_names_and_subscriptions(connect: Connect) -> None:
    async with Server(messages={"INBOX": 1, "old": 0}) as server:
        client, other = await connect(server.port), await connect(server.port)
        await client.ok("LOGIN ann secret")
        await other.ok("LOGIN ann secret")
        await client.ok("NOTIFY SET (personal (MailboxName SubscriptionChange))")
        for command, told in (
            ("CREATE New", b'* LIST () "/" "New"'),
            ("RENAME old young", b'* LIST () "/" "young" ("OLDNAME" ("old"))'),
            ("SUBSCRIBE New", b'* LIST (\\Subscribed) "/" "New"'),
            ("DELETE New", b'* LIST (\\NonExistent) "/" "New"'),
        ):
            await other.ok(command)
            assert await client.read() == told + b"\r\n"
        server.mailboxes["young"].append(_MESSAGE)
        assert await client.ok("NOOP") == []


@pytest.mark.asyncio
async def test_refusals_of_notify(connect: Connect) -> None:
    async with Server(messages=1) as server:
        client = await connect(server.port)
        await client.login()
        for command in (
            "NOTIFY SET (selected (MessageNew))",
            "NOTIFY SET (personal (MessageExpunge))",
            "NOTIFY SET (personal (FlagChange))",
            "NOTIFY SET (nonsense (MessageNew MessageExpunge))",
            "NOTIFY SET (personal (MessageNew (UID) MessageExpunge))",
            "NOTIFY SET (selected (MailboxName))",
            "NOTIFY SET",
            "NOTIFY OFTEN",
        ):
            assert (await client.run(command))[-1].startswith(b"BAD"), command
        refused = (await client.run("NOTIFY SET (personal (AnnotationChange))"))[-1]
        assert refused.startswith(b"NO [BADEVENT (FlagChange MailboxName MessageExpunge")
        async with Server(messages=1, extensions="gmail") as plain:
            client = await connect(plain.port)
            await client.login()
            assert (await client.run("NOTIFY NONE"))[-1].startswith(b"BAD")


@pytest.mark.asyncio
async def test_a_session_that_watched_leaves_nothing(connect: Connect) -> None:
    async with Server(messages={"INBOX": 1, "a": 0}) as server:
        client = await connect(server.port)
        await client.login()
        await client.ok("NOTIFY SET (personal (MessageNew MessageExpunge))")
        assert server.mailboxes["a"].observers
        await client.ok("LOGOUT")
        assert not server.mailboxes["a"].observers
        assert not server.mailboxes["INBOX"].listeners


@pytest.mark.asyncio
async def test_idle_tells_what_other_sessions_do(connect: Connect, simple_messages: list[bytes]) -> None:
    async with Server(messages=simple_messages) as server:
        idler, other = await connect(server.port), await connect(server.port)
        await idler.login()
        await other.login()
        tag = idler.send("IDLE")
        assert await idler.read() == b"+ idling\r\n"
        await other.ok("UID STORE 2 +FLAGS.SILENT (\\Deleted kw)")
        assert [await idler.read() for _ in range(3)] == [
            b"* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft kw)\r\n",
            b"* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft kw \\*)] Flags permitted\r\n",
            b"* 2 FETCH (FLAGS (\\Deleted kw))\r\n",
        ]
        await other.ok("UID EXPUNGE 2")
        assert await idler.read() == b"* 2 EXPUNGE\r\n"
        await other.ok("UID COPY 1 INBOX")
        assert await idler.read() == b"* 5 EXISTS\r\n"
        idler.writer.write(b"DONE\r\n")
        assert await idler.finish(tag) == [b"OK IDLE terminated"]
