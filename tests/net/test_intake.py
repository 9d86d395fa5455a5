"""What comes is taken in turns: no turn of the event loop takes long, nothing is lost or changes its place."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable

import pytest

import imapipe
from imapipe.models.message import Message, MessageContext
from imapipe.net import conversation, intake, searching
from imapipe.net.command import Command, Company, FetchCommand
from imapipe.net.dataplane import Dataplane
from imapipe.net.intake import TURN_RESPONSES
from imapipe.net.options import PlaneOptions
from imapipe.net.searching import SearchCommand
from imapipe.net.session import Session
from imapipe.testing import Server
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.command.search import read_search
from imapipe.wire.response.framing import BUFFER_BYTES
from imapipe.wire.response.limits import Limits
from imapipe.wire.response.literal import Literal
from imapipe.wire.response.response import Response, parse_response
from imapipe.wire.response.shape import compile_shape
from imapipe.wire.uid_set import UidSet
from scripted_server import FakeTransport

FLAGS = Fetch("flags")
ANSWER_BYTES = len(b"* 1 FETCH (UID 1 FLAGS ())\r\n")


class Counting(Session):
    """Counts what it hears, turn by turn of the event loop."""

    def __init__(self) -> None:
        super().__init__(logged_in=True)
        self.texts: list[bytes] = []

    def heard(self, text: bytes, literals: tuple[Literal, ...], response: Response | None = None) -> None:
        self.texts.append(text)
        super().heard(text, literals, response)


class Line:
    """A data plane, and how much each turn took."""

    def __init__(self, options: PlaneOptions | None = None) -> None:
        self.session = Counting()
        self.plane = Dataplane(self.session, options)
        self.transport = FakeTransport(self.plane)
        self.transport.feed(b"* OK ready\r\n")
        self.messages: list[Message] = []
        self.turns: list[tuple[int, int]] = []

    async def compress(self) -> Callable[[bytes], bytes]:
        compress = asyncio.ensure_future(self.plane.compress(Command("COMPRESS", [b"COMPRESS DEFLATE\r\n"])))
        await asyncio.sleep(0)
        self.transport.feed(b"P1 OK go\r\n")
        await compress
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return lambda data: deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH)

    def fetch(self, count: int) -> FetchCommand:
        line = b"UID FETCH 1:%d %b\r\n" % (count, FLAGS.command())
        context = MessageContext("INBOX", 1, FLAGS)
        shape = compile_shape(("UID", "FLAGS"))
        command = FetchCommand([line], UidSet.parse(f"1:{count}"), context, shape, self.messages.extend)
        self.plane.submit(command)
        return command

    async def feed(self, data: bytes) -> None:
        """Give bytes to the plane as a socket would, and note what each turn took of them."""
        taken = (len(self.session.texts), len(self.messages))
        self.transport.feed(data)
        still = 0
        while still < 3:
            now = (len(self.session.texts), len(self.messages))
            self.turns.append((now[0] - taken[0], now[1] - taken[1]))
            still = still + 1 if now == taken else 0
            taken = now
            await asyncio.sleep(0)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.asyncio
async def test_a_flood_of_tiny_responses_is_taken_in_turns(compressed: bool) -> None:
    """130 KB of deflated tiny responses were one callback of 16 seconds."""
    line = Line()
    pack = await line.compress() if compressed else bytes
    tag = b"P2" if compressed else b"P1"
    command = Command("NOOP", [b"NOOP\r\n"])
    line.plane.submit(command)
    await line.feed(pack(b"* %d RECENT\r\n" % 7 * 20_000 + tag + b" OK\r\n"))
    assert len(line.session.texts) == 20_000
    assert max(heard for heard, _ in line.turns) <= TURN_RESPONSES
    assert command.finished.done()
    assert not line.transport.is_paused


@pytest.mark.asyncio
async def test_nothing_is_read_while_responses_wait_for_their_turn() -> None:
    line = Line()
    line.transport.feed(b"* 7 RECENT\r\n" * 1000)
    assert line.transport.is_paused
    assert not line.plane.is_reading_paused
    await line.feed(b"* 8 RECENT\r\n")
    assert len(line.session.texts) == 1001
    assert line.session.texts[-1] == b"* 8 RECENT"
    assert not line.transport.is_paused


@pytest.mark.asyncio
async def test_long_responses_take_a_turn_of_their_own() -> None:
    line = Line()
    await line.feed(b"* OK %b\r\n" % (b"x" * 200_000) * 5)
    assert [heard for heard, _ in line.turns if heard] == [1] * 5


@pytest.mark.asyncio
async def test_messages_that_were_compressed_well_are_taken_in_turns() -> None:
    """Nothing of them is parsed, but they are many."""
    line = Line()
    pack = await line.compress()
    command = line.fetch(30_000)
    await line.feed(pack(b"".join(b"* 1 FETCH (UID %d FLAGS ())\r\n" % uid for uid in range(1, 30_001)) + b"P2 OK\r\n"))
    assert [message.uid for message in line.messages] == list(range(1, 30_001))
    assert command.finished.done()
    assert max(brought for _, brought in line.turns) <= BUFFER_BYTES // ANSWER_BYTES


LISTS = {
    "search": (b"* SEARCH", b" %d"),
    "esearch": (b'* ESEARCH (TAG "P1") UID ALL 1', b",%d"),
}


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.asyncio
async def test_a_long_list_is_read_in_turns_as_it_comes(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """One of a million UIDs was read by a thread, in a second in which the event loop waited for it again and again."""
    line = Line()
    texts: list[int] = []
    by_turn: list[int] = []

    def parse(text: bytes, literals: tuple[Literal, ...]) -> Response:
        texts.append(len(text))
        return parse_response(text, literals)

    monkeypatch.setattr(searching, "parse_response", parse)
    command = SearchCommand("UID SEARCH", [b"UID SEARCH ALL\r\n"], company=Company.SEARCH)
    command.begin(None)
    line.plane.submit(command)
    head, form = LISTS[kind]
    numbers = range(1000, 400_000, 2)
    line.transport.feed(head + b"".join(form % number for number in numbers) + b"\r\nP1 OK\r\n")
    while not command.finished.done():
        by_turn.append(sum(texts))
        texts.clear()
        await asyncio.sleep(0)
    assert max(by_turn) <= 3 * Limits().piece_bytes
    assert len(by_turn) > 10
    # What is short is read when all has come.
    rest = [parse_response(*answer) for answer in command.untagged]
    found = read_search([*command.lists, *rest], await command.finished)
    assert found.uids == UidSet.from_numbers(numbers) | UidSet.parse("1" if kind == "esearch" else "")


@pytest.mark.asyncio
async def test_a_buffer_that_grew_for_a_long_line_takes_no_more_at_a_time() -> None:
    line = Line()
    line.transport.feed(b"* OK " + b"x" * 5_000_000)
    assert len(line.plane.get_buffer(-1)) <= BUFFER_BYTES


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("turn", [1, 2, 5])
@pytest.mark.asyncio
async def test_whatever_a_turn_is_everything_comes_in_its_order(
    monkeypatch: pytest.MonkeyPatch, turn: int, compressed: bool
) -> None:
    """Messages, what others did, a full hold in between, and the end."""
    monkeypatch.setattr(intake, "TURN_RESPONSES", turn)
    line = Line(PlaneOptions(max_held_bytes=1000))
    pack = await line.compress() if compressed else bytes
    command = line.fetch(300)
    pieces: list[bytes] = []
    for uid in range(1, 301):
        pieces.append(b"* 1 FETCH (UID %d FLAGS ())\r\n" % uid)
        pieces.append(b"* %d RECENT\r\n" % uid if uid % 3 else b"* 1 FETCH (FLAGS () UID 999)\r\n")
    data = pack(b"".join(pieces) + command.tag + b" OK done\r\n")
    for begin in range(0, len(data), 700):
        await line.feed(data[begin : begin + 700])
        while line.plane.is_reading_paused:
            for message in line.messages[-100:]:
                line.plane.release(message)
            await line.feed(b"")
    assert command.finished.done()
    assert [message.uid for message in line.messages] == list(range(1, 301))
    assert [text for text in line.session.texts if b"RECENT" in text] == [
        b"* %d RECENT" % uid for uid in range(1, 301) if uid % 3
    ]


@pytest.mark.asyncio
async def test_the_end_of_a_connection_forgets_what_waits() -> None:
    line = Line()
    line.transport.feed(b"* 7 RECENT\r\n" * 1000)
    line.transport.abort()
    await line.feed(b"")
    # The socket is closed in a turn of its own, behind the one that was waited for.
    assert len(line.session.texts) == 2 * TURN_RESPONSES
    assert line.plane.error is not None


@pytest.mark.asyncio
async def test_a_long_list_is_read_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    read = most = 0

    def count(text: bytes, literals: tuple[Literal, ...]) -> Response:
        nonlocal read, most
        read += 1
        most = max(most, read)
        return parse_response(text, literals)

    async def others() -> None:
        nonlocal read
        while True:
            read = 0
            await asyncio.sleep(0)

    monkeypatch.setattr(conversation, "parse_response", count)
    async with (
        Server({f"folder {number}": [] for number in range(1000)}) as server,
        imapipe.create_pool(server.url, password="secret") as pool,
        pool.acquire() as lease,
    ):
        task = asyncio.ensure_future(others())
        assert len(await lease.list()) >= 1000
        task.cancel()
    assert TURN_RESPONSES // 2 < most <= TURN_RESPONSES
