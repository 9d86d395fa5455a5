"""What goes wrong on purpose goes wrong exactly there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import pytest
from tests.middleware.fakes import run_in_fake_time

from imapipe.testing import (
    Bandwidth,
    Bye,
    CutAfterBytes,
    CutConnection,
    Delay,
    Inject,
    InProgress,
    LieAboutLength,
    NilBodies,
    OmitUids,
    PoisonUids,
    RefuseConnection,
    RefuseLogin,
    ReplaceResponses,
    Reply,
    SearchCap,
    Server,
    Stall,
    SyntheticMailbox,
    Throttle,
)

# A RawClient of conftest.py, which cannot be imported from here.
Connect = Callable[[int], Awaitable[Any]]


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.001)
    pytest.fail("it did not come about")


@pytest.mark.asyncio
async def test_nth_and_times_and_connection(connect: Connect) -> None:
    second = Reply("NO", "not now", code="UNAVAILABLE", command="NOOP", nth=2, times=2)
    other = Reply("BAD", "odd", command="CHECK", connection=2)
    async with Server(messages=1, faults=[second, other]) as server:
        first = await connect(server.port)
        await first.login()
        replies = [(await first.run("NOOP"))[-1] for _ in range(4)]
        assert replies == [b"OK NOOP completed", *[b"NO [UNAVAILABLE] not now"] * 2, b"OK NOOP completed"]
        assert (second.seen, second.fired) == (4, 2)
        assert (await first.run("CHECK"))[-1] == b"OK CHECK completed"
        another = await connect(server.port)
        await another.login()
        assert (await another.run("CHECK"))[-1] == b"BAD odd"
        server.faults.clear()
        assert (await another.run("CHECK"))[-1] == b"OK CHECK completed"
        assert [record.outcome for record in server.commands.named("NOOP")] == ["OK", "NO", "NO", "OK"]


@pytest.mark.asyncio
async def test_condition_sees_the_record(connect: Connect) -> None:
    fault = Reply("NO", "no headers today", when=lambda record: "HEADER" in record.arguments)
    async with Server(messages=1, faults=[fault]) as server:
        client = await connect(server.port)
        await client.login()
        await client.ok("UID FETCH 1 (BODY.PEEK[TEXT])")
        assert (await client.run("UID FETCH 1 (BODY.PEEK[HEADER])"))[-1].startswith(b"NO")


@pytest.mark.asyncio
@pytest.mark.parametrize("cut", [0, 1, 30, 60, 100])
async def test_cut_after_bytes_of_a_response(connect: Connect, cut: int, simple_messages: list[bytes]) -> None:
    async with Server(messages=simple_messages) as server:
        client = await connect(server.port)
        await client.login()
        whole = b"".join((await client.run("UID FETCH 1:5 (BODY.PEEK[])"))[:-1])
        server.faults.add(CutAfterBytes(cut, command="UID FETCH"))
        client.send("UID FETCH 1:5 (BODY.PEEK[])")
        assert await client.rest() == whole[:cut]
        await _until(lambda: not server.sessions)
        assert server.commands[-1].outcome == "CUT"


@pytest.mark.asyncio
async def test_cut_inside_the_tagged_reply(connect: Connect) -> None:
    async with Server(messages=1, faults=[CutAfterBytes(4, command="NOOP")]) as server:
        client = await connect(server.port)
        await client.login()
        client.send("NOOP")
        assert await client.rest() == b"t3 O"


@pytest.mark.asyncio
async def test_cut_of_a_whole_connection_and_reset(connect: Connect) -> None:
    faults = [CutConnection(10, connection=1), CutConnection(10, "reset", connection=2)]
    async with Server(messages=1, faults=faults) as server:
        client = await connect(server.port)
        assert len(client.greeting) == 10
        with pytest.raises(ConnectionError):
            await (await connect(server.port)).rest()
        third = await connect(server.port)
        await third.login()


@pytest.mark.asyncio
async def test_stall_and_release(connect: Connect, simple_messages: list[bytes]) -> None:
    async with Server(messages=simple_messages, faults=[Stall(25, command="UID FETCH", times=1)]) as server:
        client = await connect(server.port)
        await client.login()
        tag = client.send("UID FETCH 1:2 (FLAGS)")
        assert len(await client.reader.readexactly(25)) == 25
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.reader.read(1), 0.05)
        assert server.commands[-1].outcome == "STALL"
        server.release_stalls()
        assert (await client.finish(tag))[-1] == b"OK UID FETCH completed"
        assert await client.ok("NOOP") == []
        assert server.commands.named("UID FETCH")[0].outcome == "OK"


@pytest.mark.asyncio
async def test_stalled_session_ends_with_the_client(connect: Connect) -> None:
    async with Server(messages=1, faults=[Stall(command="NOOP")]) as server:
        client = await connect(server.port)
        await client.login()
        client.send("NOOP")
        await _until(lambda: server.commands[-1].outcome == "STALL")
        client.writer.close()
        await _until(lambda: not server.sessions)


@pytest.mark.asyncio
async def test_bye(connect: Connect) -> None:
    faults = [
        Bye("[UNAVAILABLE] Bye", command="NOOP", connection=1, tagged="NO [LIMIT] Rate limit hit."),
        Bye("Session expired, please login again.", command="NOOP", connection=2, after_response=True),
    ]
    async with Server(messages=1, faults=faults) as server:
        first, second = await connect(server.port), await connect(server.port)
        first.send("NOOP")
        assert await first.rest() == b"* BYE [UNAVAILABLE] Bye\r\nt1 NO [LIMIT] Rate limit hit.\r\n"
        second.send("NOOP")
        assert await second.rest() == b"t1 OK NOOP completed\r\n* BYE Session expired, please login again.\r\n"


@pytest.mark.asyncio
async def test_refused_connections_and_logins(connect: Connect) -> None:
    faults = [RefuseConnection(nth=1), RefuseConnection("Overloaded", nth=2), RefuseLogin(nth=1)]
    async with Server(messages=1, faults=faults) as server:
        with pytest.raises(ConnectionError):
            await connect(server.port)
        busy = await connect(server.port)
        assert busy.greeting + await busy.rest() == b"* BYE Overloaded\r\n"
        client = await connect(server.port)
        assert (await client.run("LOGIN ann secret"))[-1] == (
            b"NO [ALERT] Too many simultaneous connections. (Failure)"
        )
        await client.ok("LOGIN ann secret")
        assert server.counters.refused_connections == 2


@pytest.mark.asyncio
async def test_too_many_connections(connect: Connect) -> None:
    async with Server(messages=1, max_connections=2) as server:
        clients = [await connect(server.port) for _ in range(3)]
        await clients[0].ok("LOGIN ann secret")
        await clients[1].ok("LOGIN ann secret")
        refused = (await clients[2].run("LOGIN ann secret"))[-1]
        assert refused.startswith(b"NO [UNAVAILABLE] Maximum number of connections")
        await clients[0].ok("LOGOUT")
        await clients[2].ok("LOGIN ann secret")
        assert (server.counters.logins, server.counters.failed_logins) == (3, 1)
        assert server.counters.peak_connections == 3


@pytest.mark.asyncio
async def test_faults_of_messages(connect: Connect, simple_messages: list[bytes]) -> None:
    faults = [
        OmitUids({1}),
        NilBodies({2}),
        ReplaceResponses({3: b"* 3 FETCH (garbage\r\n"}),
        Inject(b"* 5 EXPUNGE\r\n", where="messages", uids={4}),
        LieAboutLength({5}, by=-3),
    ]
    async with Server(messages=simple_messages, faults=faults) as server:
        client = await connect(server.port)
        await client.login()
        tag = client.send("UID FETCH 1:5 (BODY.PEEK[TEXT])")
        received = b""
        while tag + b" OK" not in received:
            received += await client.reader.read(4096)
        assert received == (
            b"* 2 FETCH (UID 2 BODY[TEXT] NIL)\r\n"
            b"* 3 FETCH (garbage\r\n"
            b"* 5 EXPUNGE\r\n* 4 FETCH (UID 4 BODY[TEXT] {8}\r\nBody 4\r\n)\r\n"
            b"* 5 FETCH (UID 5 BODY[TEXT] {5}\r\nBody 5\r\n)\r\n" + tag + b" OK UID FETCH completed\r\n"
        )
        assert server.commands[-1].messages == 4


@pytest.mark.asyncio
@pytest.mark.parametrize("deliver_before", [True, False])
async def test_poisoned_message(connect: Connect, deliver_before: bool) -> None:
    fault = PoisonUids({3}, deliver_before=deliver_before)
    async with Server(messages=SyntheticMailbox(5), faults=[fault]) as server:
        client = await connect(server.port)
        await client.login()
        responses = await client.run("UID FETCH 1:5 (UID)")
        assert responses[-1] == b"NO [SERVERBUG] UID FETCH Server error"
        assert len(responses) == (3 if deliver_before else 1)
        assert len(await client.ok("UID FETCH 4:5,1:2 (UID)")) == 4


@pytest.mark.asyncio
@pytest.mark.parametrize("action", ["cut", "reset"])
async def test_poisoned_message_that_kills(connect: Connect, action: Literal["cut", "reset"]) -> None:
    async with Server(messages=SyntheticMailbox(5), faults=[PoisonUids({3}, action=action)]) as server:
        client = await connect(server.port)
        await client.login()
        client.send("UID FETCH 3 (UID)")
        if action == "cut":
            assert await client.rest() == b""
        else:
            with pytest.raises(ConnectionError):
                await client.rest()
        assert server.commands[-1].outcome == "CUT"


@pytest.mark.asyncio
async def test_injections_progress_and_search_cap(connect: Connect) -> None:
    clock = Clock()
    faults = [
        Inject(b"* OK before\r\n", where="before", command="NOOP"),
        Inject(b"* OK last\r\n", where="reply", command="NOOP"),
        Inject(b"* OK after\r\n", where="after", command="NOOP"),
        InProgress(2, every_seconds=20.0, command="UID SEARCH"),
        SearchCap(2),
    ]
    async with Server(messages=SyntheticMailbox(5), faults=faults, clock=clock, sleep=clock.sleep) as server:
        client = await connect(server.port)
        await client.login()
        assert await client.ok("NOOP") == [b"OK before", b"OK last"]
        assert await client.read() == b"* OK after\r\n"
        assert await client.ok("UID SEARCH ALL") == [
            b'OK [INPROGRESS ("t4" 0 2)] Working',
            b'OK [INPROGRESS ("t4" 1 2)] Working',
            b"SEARCH 1 2",
        ]
        assert clock.slept == [20.0, 20.0]


@pytest.mark.asyncio
async def test_reply_after_the_data(connect: Connect) -> None:
    fault = Reply("OK", "Success [THROTTLED]", command="UID FETCH", after_response=True)
    async with Server(messages=SyntheticMailbox(2), faults=[fault]) as server:
        client = await connect(server.port)
        await client.login()
        assert await client.run("UID FETCH 1 UID") == [b"* 1 FETCH (UID 1)\r\n", b"OK Success [THROTTLED]"]


@pytest.mark.asyncio
async def test_delay_uses_the_given_sleep(connect: Connect) -> None:
    clock = Clock()
    async with Server(faults=[Delay(5.0, command="NOOP")], clock=clock, sleep=clock.sleep) as server:
        client = await connect(server.port)
        await client.ok("NOOP")
        assert clock.slept == [5.0]
        record = server.commands[0]
        assert record.finished_at is not None
        assert record.finished_at - record.received_at == pytest.approx(5.0, abs=1.0)


@pytest.mark.asyncio
async def test_commands_one_after_the_other_are_never_in_flight_together(connect: Connect) -> None:
    """Also where the process has to wait for the processor while it writes down when one came."""

    def clock() -> float:
        now = time.monotonic()
        time.sleep(0.02 if len(server.commands) == 1 and server.commands[0].finished_at is not None else 0.0)
        return now

    server = Server(clock=clock)
    async with server:
        client = await connect(server.port)
        await client.ok("NOOP")
        await client.ok("NOOP")
        first, second = server.commands
        assert first.finished_at is not None
        assert first.finished_at <= second.received_at


async def _seconds_of(server: Server, commands: bytes, *, after: bytes = b"") -> float:
    """Send commands at once, tagged A, and tell how long the loop says that they took; first `after`, untimed."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        await reader.readline()
        began = loop.time()
        for tag, sent in ((b"B", after), (b"A", commands)):
            began = loop.time()
            writer.write(sent)
            left = sent.count(tag + b" ")
            while left:
                left -= (await reader.readline()).startswith(tag + b" ")
        writer.close()
        await writer.wait_closed()
    return loop.time() - began


def test_latency_is_of_the_line_not_of_the_command() -> None:
    async def run() -> float:
        server = Server(messages=1, latency_seconds=50.0, clock=asyncio.get_running_loop().time)
        return await _seconds_of(server, b"A NOOP\r\n" * 20)

    # One round trip for all twenty.
    assert run_in_fake_time(run()) == pytest.approx(50.0, rel=0.01)


def test_bandwidth_fault_slows_down() -> None:
    async def run() -> float:
        clock = asyncio.get_running_loop().time
        fault = Bandwidth(100.0, command="UID FETCH")
        server = Server(messages=[b"Subject: x\r\n\r\n" + b"x" * 10_000], faults=[fault], clock=clock)
        login = b"B LOGIN ann secret\r\nB EXAMINE INBOX\r\n"
        return await _seconds_of(server, b"A UID FETCH 1 BODY.PEEK[]\r\n", after=login)

    # 10,014 bytes of mail, and the words around them.
    assert 100 < run_in_fake_time(run()) < 105


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("style", "reply"),
    [
        ("limit", b"NO [LIMIT] Rate limit hit."),
        ("exchange", b"BAD Request is throttled. Suggested Backoff Time: 1000 milliseconds"),
        ("gmail", b"NO [OVERQUOTA] Account exceeded command or bandwidth limits."),
    ],
)
async def test_throttle_of_messages(
    connect: Connect, style: Literal["limit", "exchange", "gmail"], reply: bytes
) -> None:
    clock = Clock()
    throttle = Throttle(messages_per_second=10, style=style, sleep_seconds=0.5, clock=clock)
    async with Server(messages=SyntheticMailbox(50), throttle=throttle, sleep=clock.sleep) as server:
        client = await connect(server.port)
        await client.login()
        await client.ok("UID FETCH 1:10 UID")
        assert (await client.run("UID FETCH 11:20 UID"))[-1] == reply
        assert server.commands[-1].throttled
        assert clock.slept == [0.5]
        clock.now += 0.5
        await client.ok("UID FETCH 11:20 UID")
        assert (server.counters.throttled, throttle.refused, throttle.messages) == (1, 1, 20)


def test_throttle_of_commands_with_penalty() -> None:
    clock = Clock()
    throttle = Throttle(commands_per_second=2, burst_seconds=2, penalty_seconds=10, clock=clock)
    assert [throttle.admit_command() for _ in range(5)] == [True] * 4 + [False]
    clock.now += 9
    assert not throttle.admit_command()
    clock.now += 10
    assert throttle.admit_command()
    assert not throttle.applies_to("NOOP")
