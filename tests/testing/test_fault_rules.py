"""Faults that say any answer, at any moment, and what a test can do meanwhile."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from imapipe.testing import (
    Act,
    CutAfterBytes,
    CutConnection,
    CutInput,
    Delay,
    Drip,
    Flood,
    NilBodies,
    OmitItems,
    PoisonUids,
    RefuseConnection,
    RefuseCredentials,
    Reply,
    Rewrite,
    Server,
    Stall,
    WrongPartial,
    exponential_bytes,
)
from imapipe.testing.faults.messages import PartialLie

Connect = Callable[[int], Awaitable[Any]]


class Sleep:
    """A sleep that takes no time."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.mark.asyncio
async def test_rewrite_gets_whole_responses(connect: Connect, simple_messages: list[bytes]) -> None:
    seen: list[bytes] = []

    def change(response: bytes) -> bytes:
        seen.append(response)
        return b"* odd\r\n" if b"FETCH" in response and b"UID 2" in response else response

    async with Server(messages=simple_messages, faults=[Rewrite(change, command="UID FETCH")]) as server:
        client = await connect(server.port)
        await client.login()
        responses = await client.run("UID FETCH 1:3 (BODY.PEEK[] FLAGS)")
    assert seen[1].endswith(b"Body 2\r\n FLAGS ())\r\n")
    assert len(seen) == 4
    assert responses[1] == b"* odd\r\n"
    assert responses[3] == b"OK UID FETCH completed"


@pytest.mark.asyncio
async def test_rewrites_break_lines_of_every_command(connect: Connect) -> None:
    faults = [
        Rewrite(lambda line: line.replace(b"* SEARCH", b"* SEARCH 0"), command="UID SEARCH"),
        Rewrite(lambda line: line.replace(b'"/"', b"/"), command="LIST"),
        Rewrite(lambda line: line.replace(b")\r\n", b"\r\n)\r\n"), command="STATUS", times=1),
        # The rest of the response on a stray line.
        Rewrite(lambda line: line.replace(b" FLAGS ())", b"\r\n FLAGS ())"), command="UID FETCH"),
        Rewrite(lambda line: b"" if line.startswith(b"* ") else line, command="EXAMINE"),
    ]
    async with Server(messages=2, faults=faults) as server:
        client = await connect(server.port)
        await client.login()
        assert await client.ok("UID SEARCH ALL") == [b"SEARCH 0 1 2"]
        assert await client.ok('LIST "" *') == [b'LIST (\\HasNoChildren) / "INBOX"']
        assert await client.ok("STATUS INBOX (MESSAGES)") == [b'STATUS "INBOX" (MESSAGES 2', b")"]
        assert await client.ok("STATUS INBOX (MESSAGES)") == [b'STATUS "INBOX" (MESSAGES 2)']
        assert await client.ok("UID FETCH 1 (FLAGS)") == [b"1 FETCH (UID 1", b" FLAGS ())"]
        assert await client.ok("EXAMINE INBOX") == []


@pytest.mark.asyncio
async def test_the_greeting_is_a_moment(connect: Connect) -> None:
    sleep = Sleep()
    faults = [
        Stall(command="GREETING", connection=1),
        Rewrite(lambda line: b"421 Server is busy\r\n", command="GREETING", connection=2),
        RefuseConnection(raw=b"421 Server is busy, try again later.\r\n", connection=3),
        Delay(9.0, command="GREETING", connection=4),
        Reply("BAD", "go away", command="GREETING", connection=5),
        # Without a name it is for commands only.
        Reply("NO", "not you", connection=6),
    ]
    async with Server(faults=faults, sleep=sleep) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.05)
        server.release_stalls()
        assert (await reader.readline()).startswith(b"* OK")
        writer.close()
        await writer.wait_closed()
        busy = await connect(server.port)
        assert busy.greeting == b"421 Server is busy\r\n"
        await busy.ok("NOOP")
        refused = await connect(server.port)
        assert refused.greeting + await refused.rest() == b"421 Server is busy, try again later.\r\n"
        assert (await connect(server.port)).greeting.startswith(b"* OK")
        assert sleep.slept == [9.0]
        assert (await connect(server.port)).greeting == b"* BAD go away\r\n"
        last = await connect(server.port)
        assert last.greeting.startswith(b"* OK")
        assert (await last.run("NOOP"))[-1] == b"NO not you"


@pytest.mark.asyncio
async def test_a_flood_is_streamed_and_a_drip_is_slow(connect: Connect) -> None:
    sleep = Sleep()
    faults = [
        Flood(b"* OK wait\r\n", count=100_000, command="NOOP"),
        Flood(b"+ \r\n", count=3, every_seconds=0.5, command="LOGIN"),
        Flood(b"* ", count=5, command="GREETING", connection=2),
        Drip(2.0, count=3, command="CHECK"),
    ]
    async with Server(messages=1, faults=faults, sleep=sleep) as server:
        client = await connect(server.port)
        assert (await client.run("LOGIN ann secret"))[:3] == [b"+ \r\n"] * 3
        assert sleep.slept == [0.5] * 3
        await client.ok("EXAMINE INBOX")
        client.send("NOOP")
        received = 0
        while received < 1_100_000:
            received += len(await client.reader.read(1 << 20))
        assert server.sessions[0].link.pending < 200_000
        sleep.slept.clear()
        tag = client.send("CHECK")
        reply = tag + b" OK CHECK completed\r\n"
        await client.finish(tag)
        assert sleep.slept == [2.0] * -(-len(reply) // 3)
        assert (await connect(server.port)).greeting.startswith(b"* * * * * * OK")


@pytest.mark.asyncio
async def test_what_nobody_asked_for(connect: Connect) -> None:
    async with Server(messages=1) as server:
        clients = [await connect(server.port) for _ in range(2)]
        for client in clients:
            await client.login()
        assert server.push(b"* OK still there\r\n", connection=2) == 1
        assert await clients[1].read() == b"* OK still there\r\n"
        assert server.push(b"* 9 EXISTS\r\n") == 2
        assert [await client.read() for client in clients] == [b"* 9 EXISTS\r\n"] * 2
        server.push(b"* OK x\r\n", count=50_000, connection=1)
        received = 0
        while received < 400_000:
            received += len(await clients[0].reader.read(1 << 20))
        await clients[0].ok("NOOP")


@pytest.mark.asyncio
async def test_act_changes_things_meanwhile(connect: Connect, simple_messages: list[bytes]) -> None:
    async with Server(messages=simple_messages) as server:
        box = server.mailboxes["INBOX"]
        server.faults.add(
            Act(lambda record: box.expunge([4]), where="messages", uids={2}, times=1, command="UID FETCH"),
            Act(lambda record: box.append(b"Subject: new\r\n\r\n"), command="NOOP", times=1),
            Act(lambda record: server.disconnect_all(), where="reply", command="CHECK"),
        )
        client = await connect(server.port)
        await client.login()
        assert await client.ok("UID FETCH 1:5 UID") == [
            *[b"%d FETCH (UID %d)" % (uid, uid) for uid in (1, 2, 3, 5)],
            b"4 EXPUNGE",
        ]
        assert await client.ok("NOOP") == [b"5 EXISTS"]
        client.send("CHECK")
        assert await client.rest() == b""


@pytest.mark.asyncio
async def test_cut_before_and_after_the_work(connect: Connect) -> None:
    faults = [
        CutInput(2, command="APPEND", connection=1),
        CutInput(command="STORE", connection=2),
        CutAfterBytes(0, command="STORE", connection=3),
        CutInput(command="APPEND", nth=2, kind="reset"),
    ]
    async with Server(messages=1, faults=faults) as server:
        box = server.mailboxes["INBOX"]
        first = await connect(server.port)
        await first.login()
        first.send(b"APPEND INBOX {5}\r\n12345")
        assert await first.read() == b"+ Ready\r\n"
        assert await first.rest() == b""
        assert [record.outcome for record in server.commands.named("APPEND")] == ["CUT"]
        for flags in (frozenset(), frozenset({"\\Seen"})):
            client = await connect(server.port)
            await client.login()
            client.send("STORE 1 +FLAGS (\\Seen)")
            assert await client.rest() == b""
            assert box[1].flags == flags
        last = await connect(server.port)
        await last.login()
        last.send(b"APPEND INBOX {5+}\r\n12345 {5+}\r\n12345")
        with pytest.raises(ConnectionError):
            await last.rest()
        assert len(box) == 1


@pytest.mark.asyncio
async def test_items_left_out(connect: Connect, simple_messages: list[bytes]) -> None:
    faults = [OmitItems({"INTERNALDATE", "BODY[]"}, uids={2}), OmitItems({"UID"}, uids={3})]
    async with Server(messages=simple_messages, faults=faults) as server:
        client = await connect(server.port)
        await client.login()
        lines = await client.ok("UID FETCH 1:3 (FLAGS INTERNALDATE BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    assert b"INTERNALDATE" in lines[0]
    assert lines[1] == b"2 FETCH (UID 2 FLAGS ())"
    assert lines[2].startswith(b"3 FETCH (FLAGS () INTERNALDATE")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("shifted", b"BODY[TEXT]<2> {3}\r\n567)"),
        ("relabelled", b"BODY[TEXT]<5> {3}\r\n567)"),
        ("longer", b"BODY[TEXT]<2> {6}\r\n234567)"),
        ("whole", b"BODY[TEXT]<2> {10}\r\n0123456789)"),
        ("unlabelled", b"BODY[TEXT] {10}\r\n0123456789)"),
    ],
)
async def test_partial_fetch_answered_wrongly(connect: Connect, kind: PartialLie, answer: bytes) -> None:
    fault = WrongPartial(kind, by=3, times=1)
    async with Server(messages=[b"Subject: x\r\n\r\n0123456789"], faults=[fault]) as server:
        client = await connect(server.port)
        await client.login()
        assert await client.ok("UID FETCH 1 (BODY.PEEK[TEXT]<2.3>)") == [b"1 FETCH (UID 1 " + answer]
        assert await client.ok("UID FETCH 1 (BODY.PEEK[TEXT]<2.3>)") == [b"1 FETCH (UID 1 BODY[TEXT]<2> {3}\r\n234)"]


@pytest.mark.asyncio
async def test_token_refused_once(connect: Connect) -> None:
    response = base64.b64encode(b"user=ann\x01auth=Bearer token\x01\x01").decode()
    async with Server(faults=[RefuseCredentials(times=1)]) as server:
        client = await connect(server.port)
        tag = client.send(f"AUTHENTICATE XOAUTH2 {response}")
        assert (await client.read()).startswith(b"+ ")
        client.writer.write(b"\r\n")
        assert (await client.finish(tag))[-1].startswith(b"NO [AUTHENTICATIONFAILED]")
        await client.ok(f"AUTHENTICATE XOAUTH2 {response}")


@pytest.mark.asyncio
async def test_dovecots_and_couriers_answers_for_what_is_gone(connect: Connect, simple_messages: list[bytes]) -> None:
    async with Server(messages=simple_messages, expunged_fetch="nil") as server:
        client = await connect(server.port)
        await client.login()
        server.mailboxes["INBOX"].expunge([2])
        assert await client.run("UID FETCH 2 (BODY.PEEK[])") == [
            b"* 2 FETCH (UID 2 BODY[] NIL)\r\n",
            b"* 2 EXPUNGE\r\n",
            b"OK [EXPUNGEISSUED] Some messages were already expunged",
        ]
        # The same by script, of a message that is there.
        text = "Some messages were already expunged"
        server.faults.add(
            NilBodies({3}), Reply("OK", text, code="EXPUNGEISSUED", after_response=True, command="UID FETCH")
        )
        assert (await client.run("UID FETCH 3 (BODY.PEEK[])"))[-1].startswith(b"OK [EXPUNGEISSUED]")
    async with Server(messages=simple_messages, expunged_fetch="invent") as server:
        client = await connect(server.port)
        await client.login()
        server.mailboxes["INBOX"].expunge([2])
        for _ in range(2):
            (line,) = await client.ok("UID FETCH 2 (RFC822.SIZE BODY.PEEK[])")
            assert b"RFC822.SIZE 129" in line
            assert b"Subject: message unavailable" in line
        assert await client.ok("UID SEARCH ALL") == [b"SEARCH 1 2 3 4 5"]
        assert await client.ok("NOOP") == [b"2 EXPUNGE"]


@pytest.mark.asyncio
async def test_the_port_is_closed_for_a_while(connect: Connect) -> None:
    async with Server(messages=1, faults=[RefuseConnection(nth=3, kind="close")]) as server:
        port = server.port
        client = await connect(port)
        await client.login()
        await server.close_port()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        await client.ok("NOOP")
        await server.open_port()
        assert server.port == port
        await (await connect(port)).login()
        refused = await connect(port)
        assert refused.greeting == b""


@pytest.mark.asyncio
async def test_cuts_at_random_are_the_same_each_time(connect: Connect) -> None:
    chosen = [exponential_bytes(300_000, seed=3) for _ in range(2)]
    one, other = ([choose() for _ in range(2000)] for choose in chosen)
    assert one == other
    assert 270_000 < sum(one) / len(one) < 330_000
    lengths = iter([10, 25])
    faults = [CutConnection(lambda: next(lengths), times=2)]
    async with Server(faults=faults) as server:
        assert [len((await connect(server.port)).greeting) for _ in range(2)] == [10, 25]


@pytest.mark.asyncio
async def test_optional_commands_refused(connect: Connect) -> None:
    faults = [
        Reply("BAD", "Unknown command", command=("ID", "ENABLE", "COMPRESS", "NAMESPACE")),
        Reply("BAD", "Parse error", command=("UID SEARCH", "LIST"), when=lambda record: "RETURN" in record.arguments),
        Reply("NO", "Too many keywords", code="LIMIT", command="UID STORE", nth=2),
        Reply("NO", "Quota exceeded", code="OVERQUOTA", command="UID COPY"),
        PoisonUids({2}, action="NO", code="UNAVAILABLE", text="not now"),
    ]
    async with Server(messages=2, faults=faults) as server:
        client = await connect(server.port)
        await client.login()
        for command in ("ID NIL", "ENABLE CONDSTORE", "COMPRESS DEFLATE", "NAMESPACE", "UID SEARCH RETURN () ALL"):
            assert (await client.run(command))[-1].startswith(b"BAD"), command
        await client.ok("UID SEARCH ALL")
        await client.ok('LIST "" *')
        await client.ok("UID STORE 1 +FLAGS (a)")
        assert (await client.run("UID STORE 1 +FLAGS (b)"))[-1] == b"NO [LIMIT] Too many keywords"
        assert (await client.run("UID COPY 1 INBOX"))[-1] == b"NO [OVERQUOTA] Quota exceeded"
        assert server.mailboxes["INBOX"][1].flags == {"a"}
