"""The protocol, command by command, read as raw bytes."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Literal

import pytest

from imapipe.testing import Mailbox, Server, SyntheticMailbox

# A RawClient of conftest.py, which cannot be imported from here.
Connect = Callable[[int], Awaitable[Any]]


@pytest.mark.asyncio
async def test_login_shows_more_capabilities(connect: Connect) -> None:
    async with Server() as server:
        client = await connect(server.port)
        assert b"AUTH=PLAIN" in client.greeting
        assert b"ESEARCH" not in client.greeting
        assert (await client.run("LOGIN ann wrong"))[-1].startswith(b"NO [AUTHENTICATIONFAILED]")
        assert b"ESEARCH" in (await client.run('LOGIN "ann" secret'))[-1]
        assert (await client.run("LOGIN ann secret"))[-1].startswith(b"BAD")
        assert (server.counters.logins, server.counters.failed_logins) == (1, 1)


@pytest.mark.asyncio
async def test_plain_profile_hides_extensions(connect: Connect) -> None:
    async with Server(messages=2, extensions="plain") as server:
        client = await connect(server.port)
        await client.login()
        assert await client.ok("CAPABILITY") == [b"CAPABILITY IMAP4rev1"]
        for command in (
            "UID SEARCH RETURN (ALL) ALL",
            "ENABLE CONDSTORE",
            "IDLE",
            "UID MOVE 1 x",
            "UID EXPUNGE 1",
            "UID FETCH 1 (MODSEQ)",
            "UNSELECT",
            "STATUS INBOX (SIZE)",
            "SEARCH MODSEQ 1",
            "FETCH $ FLAGS",
        ):
            assert (await client.run(command))[-1].startswith(b"BAD"), command


@pytest.mark.asyncio
@pytest.mark.parametrize("initial", [True, False])
async def test_authenticate_plain(connect: Connect, initial: bool) -> None:
    response = base64.b64encode(b"\0ann\0secret")
    async with Server() as server:
        client = await connect(server.port)
        if initial:
            await client.ok(b"AUTHENTICATE PLAIN " + response)
        else:
            tag = client.send("AUTHENTICATE PLAIN")
            assert await client.read() == b"+ \r\n"
            client.writer.write(response + b"\r\n")
            assert (await client.finish(tag))[-1].startswith(b"OK")
        assert server.commands[0].arguments == "***"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("mechanism", "form"),
    [("XOAUTH2", "user=ann\x01auth=Bearer {}\x01\x01"), ("OAUTHBEARER", "n,a=ann,\x01auth=Bearer {}\x01\x01")],
)
async def test_authenticate_with_token(connect: Connect, mechanism: str, form: str) -> None:
    async with Server(token="good") as server:
        client = await connect(server.port)
        tag = client.send(f"AUTHENTICATE {mechanism} " + base64.b64encode(form.format("bad").encode()).decode())
        assert (await client.read()).startswith(b"+ eyJ")
        client.writer.write(b"AQ==\r\n")
        assert (await client.finish(tag))[-1].startswith(b"NO [AUTHENTICATIONFAILED]")
        await client.ok(f"AUTHENTICATE {mechanism} " + base64.b64encode(form.format("good").encode()).decode())


@pytest.mark.asyncio
async def test_select_and_status(connect: Connect) -> None:
    async with Server(messages={"INBOX": 3, "Été & co": [b"Subject: x\r\n\r\n"]}) as server:
        client = await connect(server.port)
        await client.ok("LOGIN ann secret")
        lines = await client.ok('EXAMINE "inbox"')
        assert b"3 EXISTS" in lines
        assert b"OK [UIDNEXT 4] Predicted next UID" in lines
        # As Dovecot has it: no code.
        assert (await client.run("SELECT nowhere"))[-1].startswith(b"NO Mailbox doesn't exist: nowhere")
        assert (await client.run("UID FETCH 1 FLAGS"))[-1] == b"BAD No mailbox selected"
        assert await client.ok('STATUS "&AMk-t&AOk- &- co" (MESSAGES UIDNEXT SIZE)') == [
            b'STATUS "&AMk-t&AOk- &- co" (MESSAGES 1 UIDNEXT 2 SIZE 14)'
        ]
        listed = await client.ok('LIST "" "*" RETURN (STATUS (MESSAGES))')
        assert listed == [
            b'LIST () "/" "INBOX"',
            b'STATUS "INBOX" (MESSAGES 3)',
            b'LIST () "/" "&AMk-t&AOk- &- co"',
            b'STATUS "&AMk-t&AOk- &- co" (MESSAGES 1)',
        ]


@pytest.mark.asyncio
async def test_mailbox_commands(connect: Connect) -> None:
    async with Server(messages={"INBOX": 1, "Bin": Mailbox(special_use="\\Trash"), "a/b": 0}) as server:
        client = await connect(server.port)
        await client.ok("LOGIN ann secret")
        await client.ok("CREATE New")
        assert (await client.run("CREATE New"))[-1].startswith(b"NO [ALREADYEXISTS]")
        await client.ok("RENAME a/b a/c")
        await client.ok("UNSUBSCRIBE New")
        await client.ok("DELETE a/c")
        assert sorted(server.mailboxes) == ["Bin", "INBOX", "New"]
        assert await client.ok('LIST "" %') == [
            b'LIST (\\HasNoChildren) "/" "INBOX"',
            b'LIST (\\HasNoChildren \\Trash) "/" "Bin"',
            b'LIST (\\HasNoChildren) "/" "New"',
        ]
        # A name stays subscribed to when its mailbox goes (RFC 3501 6.3.6).
        assert await client.ok('LSUB "" *') == [
            b'LSUB () "/" "INBOX"',
            b'LSUB (\\Trash) "/" "Bin"',
            b'LSUB () "/" "a/b"',
        ]
        assert await client.ok('LIST (SPECIAL-USE) "" *') == [b'LIST (\\Trash) "/" "Bin"']
        assert await client.ok('LIST "" ""') == [b'LIST (\\Noselect) "/" ""']
        assert await client.ok("NAMESPACE") == [b'NAMESPACE (("" "/")) NIL NIL']


@pytest.mark.asyncio
async def test_literals_in_arguments(connect: Connect) -> None:
    async with Server(messages=1) as server:
        client = await connect(server.port)
        tag = client.send(b"LOGIN {3}\r\nann {6}")
        client.writer.write(b"secret\r\n")
        assert (await client.read()).startswith(b"+ ")
        assert (await client.read()).startswith(b"+ ")
        assert (await client.finish(tag))[-1].startswith(b"OK")
        await client.ok(b"EXAMINE {5+}\r\nINBOX")


@pytest.mark.asyncio
async def test_literal_minus_ends_at_4096_bytes(connect: Connect) -> None:
    async with Server(remove_extensions=["LITERAL+"], add_extensions=["LITERAL-"]) as server:
        client = await connect(server.port)
        await client.ok("LOGIN ann secret")
        await client.ok(b"APPEND INBOX {4096+}\r\n" + b"x" * 4096)
        assert (await client.run(b"APPEND INBOX {4097+}\r\n" + b"x" * 4097))[-1].startswith(b"BAD [TOOBIG]")
        await client.ok("NOOP")


@pytest.mark.asyncio
async def test_too_long_command_is_bad_and_the_session_goes_on(connect: Connect) -> None:
    async with Server(messages=1, max_command_bytes=1000) as server:
        client = await connect(server.port)
        await client.login()
        assert (await client.run("UID FETCH " + "1," * 500_000 + "1 FLAGS"))[-1].startswith(b"BAD [TOOBIG]")
        assert await client.ok("UID FETCH 1 FLAGS") == [b"1 FETCH (UID 1 FLAGS ())"]


@pytest.mark.asyncio
async def test_append_store_copy_move_expunge(connect: Connect) -> None:
    async with Server(messages={"INBOX": 0, "Other": 0}) as server:
        client = await connect(server.port)
        await client.login()
        box, other = server.mailboxes["INBOX"], server.mailboxes["Other"]
        appended = await client.run(b'APPEND INBOX (\\Seen $x) " 7-Feb-1994 21:52:25 -0800" {3+}\r\none {3+}\r\ntwo')
        assert appended[0] == b"* 2 EXISTS\r\n"
        assert appended[-1] == b"OK [APPENDUID %d 1:2] APPEND completed" % box.uidvalidity
        assert box[1].flags == {"\\Seen", "$x"}
        assert box[1].internal_date.astimezone(UTC) == datetime(1994, 2, 8, 5, 52, 25, tzinfo=UTC)
        assert await client.ok("UID STORE 1:2 +FLAGS (\\Deleted)") == [
            b"1 FETCH (UID 1 FLAGS ($x \\Deleted \\Seen))",
            b"2 FETCH (UID 2 FLAGS (\\Deleted))",
        ]
        assert await client.ok("STORE 2 -FLAGS.SILENT \\deleted") == []
        copied = await client.run("UID COPY 1:2 Other")
        assert copied[-1] == b"OK [COPYUID %d 1:2 1:2] UID COPY completed" % other.uidvalidity
        assert await client.ok("UID EXPUNGE 2") == []
        assert await client.ok("UID EXPUNGE 1:*") == [b"1 EXPUNGE"]
        moved = await client.ok("UID MOVE 2 Other")
        assert moved == [b"OK [COPYUID %d 2 3] Moved" % other.uidvalidity, b"1 EXPUNGE"]
        assert len(box) == 0
        assert [message.content.raw for message in other] == [b"one", b"two", b"two"]
        assert (await client.run("UID COPY 9 Nowhere"))[-1].startswith(b"NO [TRYCREATE]")
        await client.ok("EXAMINE Other")
        assert (await client.run("STORE 1 FLAGS ()"))[-1].startswith(b"NO [READ-ONLY]")


@pytest.mark.asyncio
async def test_close_expunges_and_examine_does_not(connect: Connect) -> None:
    async with Server(messages=2) as server:
        box = server.mailboxes["INBOX"]
        box.set_flags(1, ["\\deleted"])
        client = await connect(server.port)
        await client.login(command="EXAMINE")
        await client.ok("CLOSE")
        assert len(box) == 2
        await client.ok("SELECT INBOX")
        await client.ok("CLOSE")
        assert list(box.uids) == [2]


@pytest.mark.asyncio
async def test_changes_are_told(connect: Connect, simple_messages: list[bytes]) -> None:
    async with Server(messages=simple_messages) as server:
        box = server.mailboxes["INBOX"]
        client = await connect(server.port)
        await client.login()
        box.expunge([2, 4])
        box.append(b"Subject: new\r\n\r\n")
        box.set_flags(5, ["\\Seen"])
        # Message numbers hold during FETCH, so only the arrival is told (RFC 3501 7.4.1).
        assert await client.ok("FETCH 1,5 UID") == [
            b"1 FETCH (UID 1)",
            b"5 FETCH (UID 5)",
            b"6 EXISTS",
            b"5 FETCH (FLAGS (\\Seen))",
        ]
        assert (await client.run("FETCH 2 UID"))[-1].startswith(b"NO [EXPUNGEISSUED]")
        assert await client.ok("NOOP") == [b"2 EXPUNGE", b"3 EXPUNGE"]
        assert await client.ok("UID SEARCH ALL") == [b"SEARCH 1 3 5 6"]


@pytest.mark.asyncio
async def test_idle_tells_at_once(connect: Connect) -> None:
    async with Server(messages=2) as server:
        client = await connect(server.port)
        await client.login()
        tag = client.send("IDLE")
        assert await client.read() == b"+ idling\r\n"
        server.mailboxes["INBOX"].append(b"Subject: new\r\n\r\n")
        assert await client.read() == b"* 3 EXISTS\r\n"
        server.mailboxes["INBOX"].expunge([1])
        assert await client.read() == b"* 1 EXPUNGE\r\n"
        client.writer.write(b"DONE\r\n")
        assert await client.finish(tag) == [b"OK IDLE terminated"]


@pytest.mark.asyncio
async def test_new_uidvalidity_disconnects(connect: Connect) -> None:
    async with Server(messages=2) as server:
        client = await connect(server.port)
        await client.login()
        new = server.mailboxes["INBOX"].change_uidvalidity()
        assert (await client.rest()).startswith(b"* BYE ")
        again = await connect(server.port)
        await again.ok("LOGIN ann secret")
        assert b"OK [UIDVALIDITY %d] UIDs valid" % new in await again.ok("SELECT INBOX")


@pytest.mark.asyncio
async def test_compress(connect: Connect) -> None:
    async with Server(messages=50) as server:
        client = await connect(server.port)
        await client.login()
        deflate, inflate = zlib.compressobj(wbits=-15), zlib.decompressobj(wbits=-15)
        # The next command shares the segment with COMPRESS and is compressed already.
        command = deflate.compress(b"z UID FETCH 1:* (BODY.PEEK[])\r\n") + deflate.flush(zlib.Z_SYNC_FLUSH)
        client.writer.write(b"c COMPRESS DEFLATE\r\n" + command)
        assert await client.read() == b"c OK Compression active\r\n"
        out_before, data = server.counters.bytes_out, b""
        while b"\r\nz OK" not in data:
            data += inflate.decompress(await client.reader.read(65536))
        assert data.count(b" FETCH (UID ") >= 50
        assert server.counters.bytes_out - out_before < len(data)
        assert server.commands[-1].bytes_out == len(data)


@pytest.mark.asyncio
async def test_condstore(connect: Connect, simple_messages: list[bytes]) -> None:
    async with Server(messages=simple_messages) as server:
        box = server.mailboxes["INBOX"]
        client = await connect(server.port)
        await client.login()
        before = box.highest_modseq
        box.set_flags(3, ["\\Seen"])
        assert await client.ok(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {before})") == [
            b"3 FETCH (UID 3 FLAGS (\\Seen) MODSEQ (%d))" % (before + 1)
        ]
        assert (await client.run(f"UID STORE 2:3 (UNCHANGEDSINCE {before}) +FLAGS.SILENT (\\Flagged)")) == [
            b"* 2 FETCH (UID 2 MODSEQ (%d))\r\n" % (before + 2),
            b"OK [MODIFIED 3] UID STORE completed",
        ]
        assert await client.ok(f"UID SEARCH MODSEQ {before + 1}") == [b"SEARCH 2 3 (MODSEQ %d)" % (before + 2)]
        assert await client.ok(f"UID SEARCH RETURN (COUNT) MODSEQ {before + 1}") == [
            b'ESEARCH (TAG "t6") UID COUNT 2 MODSEQ %d' % (before + 2)
        ]


@pytest.mark.asyncio
async def test_qresync(connect: Connect, simple_messages: list[bytes]) -> None:
    async with Server(messages=simple_messages) as server:
        box = server.mailboxes["INBOX"]
        client = await connect(server.port)
        await client.ok("LOGIN ann secret")
        assert await client.ok("ENABLE QRESYNC X-UNKNOWN") == [b"ENABLED QRESYNC"]
        before = box.highest_modseq
        box.expunge([1, 2])
        box.set_flags(4, ["\\Seen"])
        lines = await client.ok(f"SELECT INBOX (QRESYNC ({box.uidvalidity} {before} 1:5))")
        assert lines[-2] == b"VANISHED (EARLIER) 1:2"
        assert lines[-1].startswith(b"2 FETCH (UID 4 FLAGS (\\Seen) MODSEQ (")
        box.expunge([5])
        assert await client.ok("NOOP") == [b"VANISHED 5"]
        assert (await client.ok(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {before} VANISHED)"))[0] == (
            b"VANISHED (EARLIER) 1:2,5"
        )


@pytest.mark.asyncio
async def test_uid_only(connect: Connect, simple_messages: list[bytes]) -> None:
    async with Server(messages=simple_messages, add_extensions=["UIDONLY"]) as server:
        client = await connect(server.port)
        await client.ok("LOGIN ann secret")
        assert await client.ok("ENABLE UIDONLY") == [b"ENABLED UIDONLY"]
        await client.ok("SELECT INBOX")
        assert await client.ok("UID FETCH 2:3 (FLAGS)") == [b"2 UIDFETCH (FLAGS ())", b"3 UIDFETCH (FLAGS ())"]
        for command in ("FETCH 1 FLAGS", "SEARCH ALL", "UID SEARCH 1:2", "STORE 1 FLAGS ()"):
            assert (await client.run(command))[-1].startswith(b"BAD [UIDREQUIRED]"), command
        server.mailboxes["INBOX"].expunge([1, 2])
        assert await client.ok("NOOP") == [b"VANISHED 1:2"]


@pytest.mark.asyncio
@pytest.mark.parametrize(("side", "visible"), [("newest", "91:100"), ("oldest", "1:10")])
async def test_only_some_messages_are_visible_without_uid_only(
    connect: Connect, side: Literal["newest", "oldest"], visible: str
) -> None:
    box = SyntheticMailbox(100)
    async with Server(messages=box, extensions="yahoo", visible_limit=10, visible_side=side) as server:
        client = await connect(server.port)
        await client.ok("LOGIN ann secret")
        assert b"10 EXISTS" in await client.ok("SELECT INBOX")
        assert await client.ok("UID SEARCH RETURN (ALL) ALL") == [b'ESEARCH (TAG "t3") UID ALL ' + visible.encode()]
        await client.ok("UNSELECT")
        await client.ok("ENABLE UIDONLY")
        assert b"100 EXISTS" in await client.ok("SELECT INBOX")


@pytest.mark.asyncio
async def test_message_limit(connect: Connect) -> None:
    async with Server(messages=SyntheticMailbox(10), message_limit=3) as server:
        client = await connect(server.port)
        await client.login()
        assert b"MESSAGELIMIT=3" in (await client.ok("CAPABILITY"))[0]
        responses = await client.run("UID FETCH 1:9 (UID)")
        assert responses == [
            b"* 9 FETCH (UID 9)\r\n",
            b"* 8 FETCH (UID 8)\r\n",
            b"* 7 FETCH (UID 7)\r\n",
            b"OK [MESSAGELIMIT 3 7] UID FETCH completed",
        ]
        assert await client.run("UID SEARCH ALL") == [
            b"* SEARCH 8 9 10\r\n",
            b"OK [MESSAGELIMIT 3 8] UID SEARCH completed",
        ]
        assert (await client.run("UID FETCH 1:3 (UID)"))[-1] == b"OK UID FETCH completed"
        assert (await client.run("UID COPY 1:9 INBOX"))[-1].startswith(b"NO [MESSAGELIMIT 3]")


@pytest.mark.asyncio
async def test_uid_batches(connect: Connect) -> None:
    box = SyntheticMailbox(2500, step=3)
    async with Server(messages=box) as server:
        client = await connect(server.port)
        await client.login()
        assert await client.ok("UIDBATCHES 1000") == [b'UIDBATCHES (TAG "t3") 7498:4499,4498:1499,1498:1']
        assert await client.ok("UIDBATCHES 1000 2:2") == [b'UIDBATCHES (TAG "t4") 4498:1499']
        assert await client.ok("UIDBATCHES 1000 9:10") == [b'UIDBATCHES (TAG "t5")']
        assert (await client.run("UIDBATCHES 10"))[-1].startswith(b"NO [TOOFEW]")
        assert (await client.run("UIDBATCHES 1000 3:2"))[-1].startswith(b"BAD [CLIENTBUG]")
        assert (await client.run("UIDBATCHES 1000 1:101"))[-1].startswith(b"NO [TOOMANY]")
        assert await client.ok("UID SEARCH RETURN (COUNT) UID 7498:4499") == [b'ESEARCH (TAG "t9") UID COUNT 1000']


@pytest.mark.asyncio
async def test_gmail_attributes(connect: Connect) -> None:
    async with Server(messages=SyntheticMailbox(5), extensions="gmail") as server:
        client = await connect(server.port)
        await client.login()
        (line,) = await client.ok("UID FETCH 5 (X-GM-MSGID X-GM-THRID X-GM-LABELS)")
        assert line == (
            b"5 FETCH (UID 5 X-GM-MSGID 1700000000000000005 X-GM-THRID 1700000000000000001 "
            b'X-GM-LABELS ("\\\\Inbox" "label &AOk-"))'
        )
        await client.ok('UID STORE 5 +X-GM-LABELS ("&AOk-")')
        assert "é" in server.mailboxes["INBOX"][5].labels


@pytest.mark.asyncio
async def test_object_ids_follow_a_copy(connect: Connect, simple_messages: list[bytes]) -> None:
    async with Server(messages={"INBOX": simple_messages, "Other": 0}) as server:
        client = await connect(server.port)
        await client.login()
        (original,) = await client.ok("UID FETCH 2 (EMAILID THREADID SAVEDATE)")
        await client.ok("UID COPY 2 Other")
        await client.ok("SELECT Other")
        (copied,) = await client.ok("UID FETCH 1 (EMAILID)")
        assert copied.removeprefix(b"1 FETCH (UID 1 ").removesuffix(b")") in original


@pytest.mark.asyncio
async def test_unknown_things_are_bad(connect: Connect) -> None:
    async with Server(messages=1) as server:
        client = await connect(server.port)
        assert (await client.run("FROBNICATE"))[-1] == b"BAD Unknown command FROBNICATE"
        assert (await client.run("SELECT INBOX"))[-1] == b"BAD Log in first"
        await client.login()
        for command in (
            "UID FETCH 0 FLAGS",
            "UID FETCH 1 NONSENSE",
            "UID FETCH 1 (FLAGS",
            "UID FETCH a FLAGS",
            "FETCH 2 FLAGS",
            "UID SEARCH NONSENSE",
            "UID SEARCH SINCE 32-Feb-2024",
            "UID SEARCH (ALL",
            "UID FETCH 1 BODY[MIME]",
            "UID FETCH 1 BODY[1.]",
            "STORE 1 NONSENSE (x)",
        ):
            assert (await client.run(command))[-1].startswith(b"BAD"), command
        client.writer.write(b"\r\n")
        assert (await client.read()).startswith(b"* BAD")
        assert await client.ok("NOOP") == []
