"""Limits and refusals of changes, mod-sequences, and mailboxes that are not what they were."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from imapipe.testing import Mailbox, Quota, Server, SyntheticMailbox

Connect = Callable[[int], Awaitable[Any]]


@pytest.mark.asyncio
async def test_append_limit_is_known_and_kept(connect: Connect) -> None:
    async with Server(append_limit=10) as server:
        client = await connect(server.port)
        await client.login()
        assert b"APPENDLIMIT=10" in (await client.ok("CAPABILITY"))[0].split()
        assert await client.ok("STATUS INBOX (APPENDLIMIT)") == [b'STATUS "INBOX" (APPENDLIMIT 10)']
        # Refused before it is sent, where the client asks first.
        assert await client.run("APPEND INBOX {11}") == [b"NO [TOOBIG] Message is larger than 10 bytes"]
        assert (await client.run("APPEND nowhere {5}"))[-1].startswith(b"NO [TRYCREATE]")
        assert (await client.run(b"APPEND INBOX {11+}\r\n" + b"x" * 11))[-1].startswith(b"NO [TOOBIG]")
        # All or nothing (RFC 3502).
        assert (await client.run(b"APPEND INBOX {1+}\r\nx {11+}\r\n" + b"x" * 11))[-1].startswith(b"NO [TOOBIG]")
        await client.ok(b"APPEND INBOX {10+}\r\n" + b"x" * 10)
        assert len(server.mailboxes["INBOX"]) == 1


@pytest.mark.asyncio
async def test_quota(connect: Connect) -> None:
    boxes = {"INBOX": [b"x" * 1500], "Other": [b"y" * 500]}
    async with Server(boxes, quota=Quota(storage_bytes=4096, messages=4)) as server:
        client = await connect(server.port)
        await client.login()
        assert b"QUOTA=RES-STORAGE" in (await client.ok("CAPABILITY"))[0].split()
        assert await client.ok("GETQUOTAROOT INBOX") == [
            b'QUOTAROOT "INBOX" "User quota"',
            b'QUOTA "User quota" (STORAGE 2 4 MESSAGE 2 4)',
        ]
        assert (await client.run("GETQUOTA none"))[-1].startswith(b"NO [NONEXISTENT]")
        await client.ok("UID COPY 1 Other")
        assert (await client.run("UID COPY 1 Other"))[-1].startswith(b"NO [OVERQUOTA]")
        assert (await client.run("APPEND INBOX {600}"))[-1].startswith(b"NO [OVERQUOTA]")
        await client.ok(b"APPEND INBOX {5+}\r\nsmall")
        assert (await client.run(b"APPEND INBOX {5+}\r\nsmall"))[-1].startswith(b"NO [OVERQUOTA]")
        # A move inside the account takes no more room.
        await client.ok("UID MOVE 1 Other")


@pytest.mark.asyncio
async def test_keywords_are_limited(connect: Connect) -> None:
    few, fixed = Mailbox([b"a\r\n"], max_keywords=2), Mailbox([b"b\r\n"], permanent_keywords=["$Junk"])
    async with Server({"INBOX": few, "Fixed": fixed}) as server:
        client = await connect(server.port)
        await client.login()
        await client.ok("UID STORE 1 +FLAGS (one two)")
        assert (await client.run("UID STORE 1 +FLAGS (three)"))[-1].startswith(b"NO [LIMIT]")
        assert (await client.run(b"APPEND INBOX (four) {1+}\r\nx"))[-1].startswith(b"NO [LIMIT]")
        lines = await client.ok("SELECT Fixed")
        expected = b"OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Junk)] Flags permitted"
        assert expected in lines
        assert await client.ok("UID STORE 1 FLAGS (\\Seen $junk other)") == [
            *_flag_lines(server),
            b"1 FETCH (UID 1 FLAGS ($junk \\Seen))",
        ]


def _flag_lines(server: Server) -> list[bytes]:
    names = b"\\Answered \\Flagged \\Deleted \\Seen \\Draft"
    assert server.mailboxes["Fixed"].keywords == ["$junk"]
    return [
        b"FLAGS (" + names + b" $junk)",
        b"OK [PERMANENTFLAGS (" + names + b" $Junk)] Flags permitted",
    ]


@pytest.mark.asyncio
async def test_without_mod_sequences(connect: Connect) -> None:
    async with Server({"INBOX": Mailbox([b"a\r\n"], mod_sequences=False)}) as server:
        client = await connect(server.port)
        await client.ok("LOGIN ann secret")
        await client.ok("ENABLE QRESYNC")
        lines = await client.ok("SELECT INBOX (QRESYNC (1600000000 1))")
        assert b"OK [NOMODSEQ] No permanent mod-sequences" in lines
        assert not [line for line in lines if b"FETCH" in line]
        for command in (
            "UID FETCH 1 (MODSEQ)",
            "UID FETCH 1 (FLAGS) (CHANGEDSINCE 1)",
            "UID STORE 1 (UNCHANGEDSINCE 1) +FLAGS (x)",
            "UID SEARCH MODSEQ 1",
        ):
            assert (await client.run(command))[-1].startswith(b"BAD [NOMODSEQ]"), command
        assert await client.ok("STATUS INBOX (HIGHESTMODSEQ)") == [b'STATUS "INBOX" (HIGHESTMODSEQ 0)']


@pytest.mark.asyncio
async def test_expunge_tells_the_mod_sequence_to_go_on_from(connect: Connect, simple_messages: list[bytes]) -> None:
    async with Server(messages={"INBOX": simple_messages, "Other": 0}) as server:
        box = server.mailboxes["INBOX"]
        client = await connect(server.port)
        await client.ok("LOGIN ann secret")
        await client.ok("ENABLE QRESYNC")
        await client.ok("SELECT INBOX")
        await client.ok("UID STORE 1,4 +FLAGS.SILENT (\\Deleted)")
        reply = await client.run("UID EXPUNGE 1")
        assert reply == [b"* VANISHED 1\r\n", b"OK [HIGHESTMODSEQ %d] UID EXPUNGE completed" % box.highest_modseq]
        moved = await client.run("UID MOVE 2 Other")
        assert moved[-1] == b"OK [HIGHESTMODSEQ %d] UID MOVE completed" % box.highest_modseq
        assert (await client.run("CLOSE"))[-1] == b"OK [HIGHESTMODSEQ %d] CLOSE completed" % box.highest_modseq
        assert list(box.uids) == [3, 5]


@pytest.mark.asyncio
async def test_forgotten_expunges(connect: Connect, simple_messages: list[bytes]) -> None:
    async with Server(messages=simple_messages) as server:
        box = server.mailboxes["INBOX"]
        client = await connect(server.port)
        await client.ok("LOGIN ann secret")
        await client.ok("ENABLE QRESYNC")
        before = box.highest_modseq
        box.expunge([2])
        box.forget_expunges()
        known = box.highest_modseq
        box.expunge([4])
        select = f"SELECT INBOX (QRESYNC ({box.uidvalidity} %d 1:5))"
        assert (await client.ok(select % before))[-1] == b"VANISHED (EARLIER) 2,4"
        assert (await client.ok(select % known))[-1] == b"VANISHED (EARLIER) 4"


@pytest.mark.asyncio
@pytest.mark.parametrize("synthetic", [False, True])
async def test_renumbered(connect: Connect, synthetic: bool, simple_messages: list[bytes]) -> None:
    box = SyntheticMailbox(5) if synthetic else Mailbox(simple_messages)
    async with Server(messages=box) as server:
        client = await connect(server.port)
        await client.login()
        before = [(message.email_id, message.content.raw) for message in box]
        old = box.uidvalidity
        assert box.renumber(first_uid=101) == old + 1
        assert (await client.rest()).startswith(b"* BYE")
        assert list(box.uids) == [101, 102, 103, 104, 105]
        assert [(message.email_id, message.content.raw) for message in box] == before
        assert box.get(1) is None
        again = await connect(server.port)
        await again.ok("LOGIN ann secret")
        assert b"OK [MAILBOXID (%s)] Ok" % box.mailbox_id.encode() in await again.ok("SELECT INBOX")


@pytest.mark.asyncio
@pytest.mark.parametrize("synthetic", [False, True])
async def test_uidnext_rewound(connect: Connect, synthetic: bool, simple_messages: list[bytes]) -> None:
    box = SyntheticMailbox(5) if synthetic else Mailbox(simple_messages)
    async with Server(messages=box) as server:
        client = await connect(server.port)
        await client.login()
        box.rewind_uidnext(4)
        box.append(b"Subject: other\r\n\r\n")
        assert (await client.rest()).startswith(b"* BYE")
        again = await connect(server.port)
        await again.login()
        assert await again.ok("UID SEARCH ALL") == [b"SEARCH 1 2 3 4"]
        assert b"Subject: other" in (await again.ok("UID FETCH 4 BODY.PEEK[]"))[0]
        assert b"OK [UIDVALIDITY 1600000000] UIDs valid" in await again.ok("SELECT INBOX")


@pytest.mark.asyncio
async def test_renamed_behind_the_clients_back(connect: Connect) -> None:
    async with Server({"INBOX": 0, "a": 3, "a/b": 1}) as server:
        client = await connect(server.port)
        await client.login("a")
        mailbox_id = (await client.ok("STATUS a (MAILBOXID)"))[0].split()[-1]
        server.mailboxes.rename("a", "z")
        assert len(await client.ok("UID FETCH 1:* UID")) == 3
        assert (await client.run("SELECT a"))[-1].startswith(b"NO Mailbox doesn't exist: a")
        assert (await client.ok("STATUS z (MAILBOXID)"))[0].split()[-1] == mailbox_id
        assert list(server.mailboxes) == ["INBOX", "z", "z/b"]


@pytest.mark.asyncio
async def test_create_with_a_use(connect: Connect) -> None:
    async with Server() as server:
        client = await connect(server.port)
        await client.ok("LOGIN ann secret")
        await client.ok("CREATE Old (USE (\\Archive))")
        assert (await client.run("CREATE Older (USE (\\Archive))"))[-1].startswith(b"NO [USEATTR]")
        assert (await client.run("CREATE Odd (USE (\\Odd))"))[-1].startswith(b"NO [USEATTR]")
        assert await client.ok('LIST "" O*') == [b'LIST (\\HasNoChildren \\Archive) "/" "Old"']
        # Nobody subscribes for the client.
        assert await client.ok('LSUB "" O*') == []


@pytest.mark.asyncio
async def test_time_of_day_is_the_tests(connect: Connect) -> None:
    now = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    async with Server({"INBOX": 0, "Other": 0}, now=lambda: now) as server:
        client = await connect(server.port)
        await client.login()
        await client.ok(b"APPEND INBOX {1+}\r\nx")
        await client.ok("UID COPY 1 Other")
        assert server.mailboxes["INBOX"][1].internal_date == now
        assert server.mailboxes["Other"][1].save_date == now
        assert await client.ok("UID SEARCH YOUNGER 60") == [b"SEARCH 1"]


@pytest.mark.asyncio
async def test_subscribed_names_outlive_their_mailboxes(connect: Connect) -> None:
    async with Server({"INBOX": 0, "a/b/c": 0}) as server:
        client = await connect(server.port)
        await client.ok("LOGIN ann secret")
        await client.ok("DELETE a/b/c")
        assert await client.ok('LIST (SUBSCRIBED) "" *') == [
            b'LIST (\\Subscribed) "/" "INBOX"',
            b'LIST (\\NonExistent \\Subscribed) "/" "a/b/c"',
        ]
        assert await client.ok('LIST (SUBSCRIBED RECURSIVEMATCH) "" %') == [
            b'LIST (\\Subscribed) "/" "INBOX"',
            b'LIST (\\NonExistent) "/" "a" ("CHILDINFO" ("SUBSCRIBED"))',
        ]
        assert await client.ok('LSUB "" a/%') == [b'LSUB (\\Noselect) "/" "a/b"']
        await client.ok("UNSUBSCRIBE a/b/c")
        assert await client.ok('LSUB "" a*') == []


@pytest.mark.asyncio
async def test_extended_list_is_refused_where_it_is_not_offered(connect: Connect) -> None:
    async with Server(extensions="exchange") as server:
        client = await connect(server.port)
        await client.ok("LOGIN ann secret")
        for command in ('LIST (SUBSCRIBED) "" *', 'LIST "" * RETURN (CHILDREN)', 'LIST "" (a b)'):
            assert (await client.run(command))[-1].startswith(b"BAD"), command
        assert await client.ok('LIST "" *') == [b'LIST (\\HasNoChildren) "/" "INBOX"']
    async with Server(extensions="plain") as server:
        client = await connect(server.port)
        await client.ok("LOGIN ann secret")
        assert await client.ok('LIST "" *') == [b'LIST () "/" "INBOX"']
