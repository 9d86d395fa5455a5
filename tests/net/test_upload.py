"""APPEND: bodies that are read while they are sent."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import pytest

from imapipe.errors import CapabilityMissing, CommandNo, CommandTimeout, ConnectionLost
from imapipe.net.connection import Connection
from imapipe.net.dataplane import Dataplane
from imapipe.net.options import PlaneOptions
from imapipe.net.session import Session
from imapipe.net.upload import READ_BYTES
from imapipe.wire.command.append import NewMessage
from imapipe.wire.literal_argument import Body
from scripted_server import FakeTransport

pytestmark = pytest.mark.asyncio


class World:
    """A connection to a server that says what the test says."""

    def __init__(self, *capabilities: str, options: PlaneOptions | None = None) -> None:
        self.session = Session(capabilities=frozenset(capabilities), logged_in=True, greeted=True)
        self.plane = Dataplane(self.session, options)
        self.transport = FakeTransport(self.plane)
        self.plane.greeting.set_result(b"")
        self.connection = Connection(None, self.plane, self.session)

    def append(self, *bodies: bytes | Body) -> asyncio.Task[object]:
        return asyncio.create_task(self.connection.append("INBOX", *map(NewMessage, bodies)))

    async def settle(self, turns: int = 20) -> bytes:
        for _ in range(turns):
            await asyncio.sleep(0)
        return self.transport.take_sent()


async def slowly(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        await asyncio.sleep(0)
        yield chunk


class Source:
    """An asynchronous source that tells what was taken from it, and whether it was closed."""

    def __init__(self, chunk: bytes, count: int) -> None:
        self.taken = 0
        self.closed = False
        self._chunk = chunk
        self._count = count

    def __aiter__(self) -> Source:
        return self

    async def __anext__(self) -> bytes:
        if self.taken == self._count:
            raise StopAsyncIteration
        self.taken += 1
        return self._chunk

    async def aclose(self) -> None:
        self.closed = True


def from_file(data: bytes) -> Body:
    return Body.from_file(io.BytesIO(data))


def from_source(data: bytes) -> Body:
    return Body(slowly(data[:3], b"", data[3:]), len(data))


BOTH = [from_file, from_source]


@pytest.mark.parametrize("make", BOTH)
async def test_a_body_waits_until_it_is_asked_for(make: Callable[[bytes], Body]) -> None:
    world = World("UIDPLUS")
    body = bytes(range(256)) * 1000
    appending = world.append(make(body))
    noop = asyncio.create_task(world.connection.noop())
    assert await world.settle() == b'P1 APPEND "INBOX" {256000}\r\n'
    world.transport.feed(b"+ go on\r\n")
    assert await world.settle(40) == body + b"\r\n"
    # Nothing else is sent before its reply.
    world.transport.feed(b"P1 OK [APPENDUID 7 12] done\r\n")
    found = await appending
    assert repr(found).startswith("AppendUid(uidvalidity=7")
    assert await world.settle() == b"P2 NOOP\r\n"
    world.transport.feed(b"P2 OK\r\n")
    await noop
    assert max(world.transport.writes) <= READ_BYTES


@pytest.mark.parametrize("make", BOTH)
async def test_bodies_that_follow_at_once(make: Callable[[bytes], Body]) -> None:
    world = World("LITERAL+", "MULTIAPPEND")
    appending = world.append(make(b"first"), b"second", make(b"third"))
    assert await world.settle(60) == b'P1 APPEND "INBOX" {5+}\r\nfirst {6+}\r\nsecond {5+}\r\nthird\r\n'
    world.transport.feed(b"P1 OK\r\n")
    assert await appending is None


async def test_several_that_are_asked_for_one_by_one() -> None:
    world = World("MULTIAPPEND")
    when = datetime(2024, 6, 1, 12, tzinfo=UTC)
    first = NewMessage(Body(io.BytesIO(b"first, and more than is sent"), 5), ("\\Seen", "$Junk"), when)
    appending = asyncio.create_task(world.connection.append("é", first, NewMessage(b"second")))
    start = b'P1 APPEND "&AOk-" (\\Seen $Junk) "01-Jun-2024 12:00:00 +0000" {5}\r\n'
    assert await world.settle() == start
    world.transport.feed(b"+\r\n")
    assert await world.settle() == b"first {6}\r\n"
    world.transport.feed(b"+\r\n")
    assert await world.settle() == b"second\r\n"
    world.transport.feed(b"P1 OK\r\n")
    await appending
    with pytest.raises(CapabilityMissing):
        await World().append(b"a", b"b")


async def test_a_source_is_read_no_faster_than_the_server_takes_it() -> None:
    world = World()
    source = Source(b"x" * READ_BYTES, 100)
    appending = world.append(Body(source, 100 * READ_BYTES))
    await world.settle()
    world.plane.pause_writing()
    world.transport.feed(b"+\r\n")
    assert await world.settle() == b""
    assert source.taken == 0
    world.plane.resume_writing()
    await asyncio.sleep(0)
    for _ in range(3):
        await asyncio.sleep(0)
    world.plane.pause_writing()
    taken = source.taken
    sent = len(await world.settle())
    assert 0 < taken < 100
    assert sent <= taken * READ_BYTES
    # One chunk may wait in our hands, no more.
    assert source.taken <= sent // READ_BYTES + 1
    world.plane.resume_writing()
    assert sent + len(await world.settle(400)) == 100 * READ_BYTES + 2
    world.transport.feed(b"P1 OK\r\n")
    await appending
    assert source.closed


async def test_a_refusal_leaves_the_source_alone_and_the_connection_alive() -> None:
    world = World()
    source = Source(b"x", 5)
    appending = world.append(Body(source, 5))
    await world.settle()
    world.transport.feed(b"P1 NO [TRYCREATE] no such mailbox\r\n")
    with pytest.raises(CommandNo):
        await appending
    assert source.taken == 0
    assert world.connection.is_open
    noop = asyncio.create_task(world.connection.noop())
    assert await world.settle() == b"P2 NOOP\r\n"
    world.transport.feed(b"P2 OK\r\n")
    await noop


async def test_a_refusal_in_the_middle_does_not_cut_what_was_announced() -> None:
    world = World("LITERAL+")
    appending = world.append(Body(Source(b"xx", 3), 6))
    await asyncio.sleep(0)
    world.transport.feed(b"P1 NO full\r\n")
    noop = asyncio.create_task(world.connection.noop())
    with pytest.raises(CommandNo):
        await appending
    assert await world.settle() == b'P1 APPEND "INBOX" {6+}\r\nxxxxxx\r\nP2 NOOP\r\n'
    world.transport.feed(b"P2 OK\r\n")
    await noop


async def failing() -> AsyncIterator[bytes]:
    yield b"abc"
    raise OSError("the disk is gone")


async def cancelled() -> AsyncIterator[bytes]:
    yield b"abc"
    raise asyncio.CancelledError


class Broken(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        raise OSError("the disk is gone")


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: Body(io.BytesIO(b"abc"), 5), ValueError, "2 of 5 bytes too few"),
        (lambda: Body(slowly(b"abc"), 5), ValueError, "2 of 5 bytes too few"),
        (lambda: Body(slowly(b"abc", b"def"), 5), ValueError, "more than the 5 bytes"),
        (lambda: Body(failing(), 5), OSError, "the disk is gone"),
        (lambda: Body(Broken(), 5), OSError, "the disk is gone"),
        (lambda: Body(cancelled(), 5), ConnectionLost, "cancelled"),
    ],
    ids=["short file", "short source", "long source", "failing source", "failing file", "cancelled source"],
)
async def test_a_source_that_does_not_keep_its_word_ends_the_connection(
    make: Callable[[], Body], error: type[Exception], text: str, other_tasks: Callable[[], set[str]]
) -> None:
    world = World("LITERAL+")
    appending = world.append(make())
    noop = asyncio.create_task(world.connection.noop())
    with pytest.raises(error, match=text):
        await appending
    with pytest.raises(ConnectionLost, match="could not be read as it was announced"):
        await noop
    assert world.transport.is_aborted
    assert b"NOOP" not in world.transport.take_sent()
    assert not other_tasks()


@pytest.mark.parametrize("how", ["cancel", "lost"])
async def test_nothing_is_left_when_it_ends_in_the_middle(how: str, other_tasks: Callable[[], set[str]]) -> None:
    world = World("LITERAL+")
    source = Source(b"x" * READ_BYTES, 10)
    appending = world.append(Body(source, 10 * READ_BYTES))
    await asyncio.sleep(0)
    world.plane.pause_writing()
    await world.settle()
    if how == "cancel":
        appending.cancel()
    else:
        world.plane.connection_lost(None)
    with pytest.raises(asyncio.CancelledError if how == "cancel" else ConnectionLost):
        await appending
    assert world.transport.is_aborted
    assert source.closed
    assert not other_tasks()
    assert source.taken <= 2


async def test_a_slow_source_is_not_the_servers_silence() -> None:
    world = World("LITERAL+", options=PlaneOptions(command_timeout_seconds=0.05, stall_timeout_seconds=0.05))
    gate = asyncio.Event()

    async def waits() -> AsyncIterator[bytes]:
        await gate.wait()
        yield b"abc"

    appending = world.append(Body(waits(), 3))
    await asyncio.sleep(0.2)
    assert world.connection.error is None
    gate.set()
    # Once all is sent it is the server who keeps silent.
    with pytest.raises(CommandTimeout):
        await appending
    assert world.transport.take_sent().endswith(b"abc\r\n")


@pytest.mark.parametrize("status", [b"NO too large", b"OK done"])
async def test_a_server_that_answers_early_and_takes_no_more_is_not_waited_for_for_ever(status: bytes) -> None:
    """The reply is there, so no command waits for one; but the rest of its body is still to be sent."""
    options = PlaneOptions(command_timeout_seconds=0.05, stall_timeout_seconds=0.05)
    world = World("LITERAL+", options=options)
    appending = world.append(from_file(b"x" * 8 * READ_BYTES))
    await world.settle(2)
    world.plane.pause_writing()
    world.transport.feed(b"P1 " + status + b"\r\n")
    done, _ = await asyncio.wait((appending,), timeout=60)
    assert done
    assert not world.plane.is_usable
    if status.startswith(b"NO"):
        with pytest.raises(CommandNo):
            await appending
