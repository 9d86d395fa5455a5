"""How long a server may take in all, in made-up time: whatever it says meanwhile, a command ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from tests.middleware.fakes import run_in_fake_time

import imapipe
from imapipe.errors import CommandTimeout, ConnectionFailed, ProtocolError, ServerBye
from imapipe.models.message import Message, MessageContext
from imapipe.net import watching
from imapipe.net.bridged_command import BridgedIdle
from imapipe.net.command import Command, Company, FetchCommand
from imapipe.net.dataplane import UNASKED_BYTES, Dataplane
from imapipe.net.options import PlaneOptions
from imapipe.net.patience import BYE_SECONDS, PATIENCE
from imapipe.net.session import SelectedMailbox, Session
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.command.idle import idle
from imapipe.wire.response.shape import compile_shape
from imapipe.wire.uid_set import UidSet
from scripted_server import AnsweringServer, FakeTransport

SILENCE = 60.0
FULL = Fetch("full")
HEAD = b'* 1 FETCH (UID 1 FLAGS () INTERNALDATE "17-Jul-1996 02:44:25 -0700" RFC822.SIZE 9 BODY[] {%d}\r\n'


class Line:
    """A data plane, and a server that says something every half second."""

    def __init__(self, *, messages: int = 0, rate: float = 256.0) -> None:
        self.session = Session(logged_in=True, selected=SelectedMailbox("INBOX", exists=messages))
        self.plane = Dataplane(
            self.session, PlaneOptions(command_timeout_seconds=SILENCE, minimum_bytes_per_second=rate)
        )
        self.transport = FakeTransport(self.plane)
        self.transport.feed(b"* OK ready\r\n")
        self.messages: list[Message] = []

    def noop(self) -> Command:
        return self._submit(Command("NOOP", [b"NOOP\r\n"]))

    def search(self) -> Command:
        return self._submit(Command("UID SEARCH", [b"UID SEARCH ALL\r\n"], company=Company.SEARCH))

    def append(self) -> Command:
        return self._submit(Command("APPEND", [b"APPEND INBOX {3}\r\n", b"abc\r\n"]))

    def fetch(self) -> Command:
        context, shape = MessageContext("INBOX", 1, FULL), compile_shape(("UID", *FULL.names))
        return self._submit(
            FetchCommand([b"UID FETCH 1 ALL\r\n"], UidSet.parse("1"), context, shape, self.messages.extend)
        )

    def _submit(self, command: Command) -> Command:
        self.plane.submit(command)
        return command

    async def drip(self, data: bytes, seconds: float = 1e6) -> float:
        """Say it again and again, until the connection ends or the time is over; gives how long that took."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while self.plane.error is None and loop.time() - began < seconds:
            self.transport.feed(data)
            await asyncio.sleep(0.5)
        return loop.time() - began


COMMANDS: list[Callable[[Line], Command]] = [Line.noop, Line.search, Line.append, Line.fetch]
WORDS = {
    "one-byte": b"x",
    "wait": b"* OK wait\r\n",
    "blank": b"\r\n",
    "news": b"* 5 EXISTS\r\n",
    "others": b"* 7 FETCH (UID 7 FLAGS ())\r\n",
    "nul": b"\0",
    "tag": b"Z9 OK done\r\n",
    "alert": b"* NO [ALERT] " + b"wait " * 300 + b"\r\n",
}


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS.keys())
@pytest.mark.parametrize("ask", COMMANDS, ids=lambda ask: ask.__name__)
def test_a_server_that_is_never_silent_does_not_hold_a_command(ask: Callable[[Line], Command], words: bytes) -> None:
    async def run() -> None:
        line = Line()
        command = ask(line)
        took = await line.drip(words)
        with pytest.raises(CommandTimeout, match="not silent") as caught:
            await command.finished
        assert not caught.value.was_silent
        # News during a command that runs alone count as its answer, at their rate.
        assert PATIENCE * SILENCE <= took <= 1.3 * PATIENCE * SILENCE
        assert caught.value.timeout_seconds == pytest.approx(took, rel=0.1)

    run_in_fake_time(run())


@pytest.mark.parametrize("words", [WORDS["one-byte"], WORDS["wait"], WORDS["alert"], b"* BYE again\r\n"])
@pytest.mark.parametrize("ask", COMMANDS, ids=lambda ask: ask.__name__)
def test_after_bye_the_last_moment_is_the_same_whatever_is_said(ask: Callable[[Line], Command], words: bytes) -> None:
    async def run() -> None:
        line = Line()
        command = ask(line)
        line.transport.feed(b"* BYE so\r\n")
        assert await line.drip(words) == pytest.approx(BYE_SECONDS, abs=0.6)
        with pytest.raises(ServerBye):
            await command.finished

    run_in_fake_time(run())


class Theirs:
    """What is used of a command of aioimaplib."""

    name = "IDLE"
    tag = "P1"
    args: tuple[object, ...] = ()
    prefix: str | None = None
    untagged_resp_name = "IDLE"

    def append_to_resp(self, line: bytes | bytearray) -> None: ...

    def close(self, line: bytes, result: str) -> None: ...

    def flush(self) -> None: ...


def _own_idle() -> BridgedIdle:
    return BridgedIdle(Theirs(), idle(), begun=asyncio.Event(), wake=lambda: None, quiet_seconds=SILENCE)


def _watching_idle() -> watching._Idle:
    return watching._Idle(lambda *_: None)


@pytest.mark.parametrize("words", [WORDS["one-byte"], WORDS["wait"], WORDS["news"]])
@pytest.mark.parametrize("make", [_own_idle, _watching_idle])
def test_behind_the_end_of_idle_a_server_is_waited_for_as_for_any_command(
    make: Callable[[], BridgedIdle | watching._Idle], words: bytes
) -> None:
    """IDLE has no end of its own, and DONE is the client's; a server that went on for ever was waited for, for ever."""

    async def run() -> None:
        line = Line()
        command = make()
        line.plane.submit(command)
        line.transport.feed(b"+ idling\r\n")
        await line.drip(WORDS["wait"], 1.5 * PATIENCE * SILENCE)
        assert line.plane.error is None
        command.end(line.plane.write)
        took = await line.drip(words, 1e5)
        assert PATIENCE * SILENCE <= took <= 1.3 * PATIENCE * SILENCE
        with pytest.raises(CommandTimeout, match="not silent"):
            await command.finished

    run_in_fake_time(run())


def test_a_slow_link_is_waited_for() -> None:
    """Two megabytes at a kilobyte a second take longer than any patience, and come."""

    async def run() -> None:
        line = Line()
        command = line.fetch()
        size = 2_000_000
        line.transport.feed(HEAD % size)
        assert await line.drip(b"y" * 500, size / 1000) > 3 * PATIENCE * SILENCE
        line.transport.feed(b")\r\nP1 OK done\r\n")
        assert (await command.finished).status == "OK"
        assert line.messages[0].wire_size > size

    run_in_fake_time(run())


def test_the_slowest_is_a_setting() -> None:
    async def run() -> None:
        line = Line(rate=10_000.0)
        line.fetch()
        line.transport.feed(HEAD % 2_000_000)
        took = await line.drip(b"y" * 500)
        # What came bought a tenth of its time.
        assert took == pytest.approx(PATIENCE * SILENCE / 0.9, rel=0.05)

    run_in_fake_time(run())


def test_many_messages_are_looked_at_for_longer_and_not_for_ever() -> None:
    async def run() -> None:
        for messages, more in ((50_000, 500), (4_000_000_000, 3600)):
            line = Line(messages=messages)
            line.search()
            took = await line.drip(WORDS["wait"])
            assert took == pytest.approx(PATIENCE * SILENCE + more, abs=10)

    run_in_fake_time(run())


def test_each_reply_begins_the_term_anew() -> None:
    async def run() -> None:
        line = Line()
        commands = [line.noop() for _ in range(5)]
        for number, command in enumerate(commands, 1):
            assert await line.drip(WORDS["wait"], 0.9 * PATIENCE * SILENCE)
            line.transport.feed(b"P%d OK done\r\n" % number)
            assert (await command.finished).status == "OK"

    run_in_fake_time(run())


def test_our_own_pauses_are_nobodys_delay() -> None:
    async def run() -> None:
        line = Line()
        command = line.fetch()
        line.plane._watchdog.pause()
        line.plane._intake.hold_back()
        await asyncio.sleep(10 * PATIENCE * SILENCE)
        line.plane._resume()
        assert line.plane.error is None
        line.transport.feed(b"P1 NO no\r\n")
        assert (await command.finished).status == "NO"

    run_in_fake_time(run())


# -- nothing is asked --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [b"x" * 1000, b"\r\n" * 500, b"* 5 EXISTS\r\n" * 80, b"* 1 FETCH (FLAGS ())\r\n" * 50]
)
@pytest.mark.no_cover
@pytest.mark.asyncio
async def test_an_idle_connection_that_is_flooded_is_closed(words: bytes) -> None:
    line = Line()
    command = line.noop()
    line.transport.feed(b"P1 OK done\r\n")
    await command.finished
    fed = 0
    while line.plane.error is None and fed < 4 * UNASKED_BYTES:
        line.transport.feed(words)
        fed += len(words)
        await asyncio.sleep(0)
    assert isinstance(line.plane.error, ProtocolError)
    assert line.transport.is_aborted
    assert fed <= 1.1 * UNASKED_BYTES


@pytest.mark.asyncio
async def test_news_while_nothing_is_asked_is_no_flood() -> None:
    line = Line()
    for number in range(1, 200):
        line.transport.feed(b"* %d EXISTS\r\n" % number * 100)
        command = line.noop()
        line.transport.feed(b"P%d OK done\r\n" % number)
        await command.finished
    assert line.plane.error is None
    assert line.session.messages == 199


@pytest.mark.no_cover
@pytest.mark.asyncio
async def test_a_pool_gives_out_no_connection_that_was_flooded() -> None:
    async with AnsweringServer(lambda _: None) as server, imapipe.create_pool(server.url, password="secret") as pool:
        async with pool.acquire() as connection:
            await connection.noop()
        (idle,) = pool.connections._idle
        ended = asyncio.Event()
        idle.session.lost_listeners.append(lambda _: ended.set())
        server.say_to_all(b"* 5 EXISTS\r\n" * 100_000)
        await ended.wait()
        assert pool.stats.idle == 0
        async with pool.acquire() as connection:
            await connection.noop()
        assert pool.stats.opened == 2


# -- connecting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("greeting", [b"", b"* OK rea", b"* OK ready\r\n"])
@pytest.mark.asyncio
async def test_connecting_ends_in_its_time_whatever_is_said(greeting: bytes) -> None:
    async with AnsweringServer(lambda _: b"", greeting=greeting) as server:
        pool = imapipe.create_pool(server.url, password="secret", connect_timeout_seconds=0.15)

        async def drip() -> None:
            while True:
                server.say_to_all(b"* OK wait\r\n" if greeting.endswith(b"\n") else b"x")
                await asyncio.sleep(0.01)

        dripping = asyncio.ensure_future(drip())
        with pytest.raises(ConnectionFailed, match="connect_timeout_seconds"):
            async with pool.acquire():
                pass
        dripping.cancel()
        await pool.close()
