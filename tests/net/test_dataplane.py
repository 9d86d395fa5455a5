"""The data plane on a transport without a socket: every byte, pause and command by hand."""

from __future__ import annotations

import asyncio
import re
import ssl
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.middleware.fakes import run_in_fake_time

from imapipe.errors import CommandTimeout, ConnectionLost, ProtocolError, ResponseTooLarge, ServerBye
from imapipe.models.message import Message, MessageContext
from imapipe.net.command import Command, Company, FetchCommand
from imapipe.net.dataplane import Dataplane
from imapipe.net.options import PlaneOptions
from imapipe.net.session import Session
from imapipe.net.upgrade import start_tls
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.response.framing import DIRECT_BYTES
from imapipe.wire.response.limits import Limits
from imapipe.wire.response.shape import compile_shape
from imapipe.wire.uid_set import UidSet
from scripted_server import FakeTransport

FULL = Fetch("full")
Deliver = Callable[[list[Message]], None]


class Wire:
    """A data plane that has been greeted, its session, its transport."""

    def __init__(self, options: PlaneOptions | None = None) -> None:
        self.session = Session(logged_in=True)
        self.plane = Dataplane(self.session, options)
        self.transport = FakeTransport(self.plane)
        self.transport.feed(b"* OK ready\r\n")
        self.messages: list[Message] = []

    def fetch(
        self, uids: str, fetch: Fetch = FULL, deliver: Callable[[list[Message]], None] | None = None
    ) -> FetchCommand:
        found = UidSet.parse(uids)
        line = b"UID FETCH " + uids.encode() + b" " + fetch.command() + b"\r\n"
        context = MessageContext("INBOX", 1, fetch)
        shape = compile_shape(("UID", *fetch.names))
        command = FetchCommand([line], found, context, shape, deliver or self.messages.extend)
        self.plane.submit(command)
        return command

    def submit(self, *pieces: bytes, name: str = "NOOP", company: Company = Company.ALONE) -> Command:
        command = Command(name, pieces or [b"NOOP\r\n"], company=company)
        self.plane.submit(command)
        return command

    def release_all(self) -> None:
        while self.messages:
            message = self.messages.pop(0)
            self.plane.release(message)

    def is_paused(self) -> bool:
        return self.plane.is_reading_paused

    @property
    def sent(self) -> list[str]:
        return self.transport.take_sent().decode("latin-1").split("\r\n")[:-1]


def answer(uid: int, body: bytes) -> bytes:
    head = b'* 1 FETCH (UID %d FLAGS (\\Seen) INTERNALDATE "17-Jul-1996 02:44:25 -0700" ' % uid
    return head + b"RFC822.SIZE %d BODY[] {%d}\r\n%b)\r\n" % (len(body), len(body), body)


def seen(message: Message) -> tuple[int, frozenset[str], bytes]:
    return message.uid, message.flags, message.body


# -- receiving ---------------------------------------------------------------------------------------------------------

BODIES = st.lists(
    st.one_of(
        st.binary(max_size=300),
        st.sampled_from(
            [b"P1 OK forged\r\n", b"* 1 FETCH (UID 2 BODY[] {3}\r\n", b"{5}\r\n", b")\r\n", b"\r", b"}\r\n"]
        ),
        st.integers(DIRECT_BYTES - 2, DIRECT_BYTES + 2).map(lambda size: b"d" * size),
        st.integers(0, 3).map(lambda extra: b"s" * (3 * DIRECT_BYTES + extra)),
    ),
    min_size=1,
    max_size=5,
)


@pytest.mark.slow
@given(st.data(), BODIES)
def test_any_chunks_any_bodies_compressed_or_not_spooled_or_not(data: st.DataObject, bodies: list[bytes]) -> None:
    """What is delivered depends on nothing but the stream."""
    stream = b"".join(answer(uid, body) for uid, body in enumerate(bodies, 1))
    compressed = data.draw(st.booleans())
    most = data.draw(st.sampled_from([1, 2, 17, 1000, 1 << 20]))
    if most < 17 and len(stream) > 20_000:
        most = 1000
    options = PlaneOptions(spool_above=data.draw(st.sampled_from([0, 2 * DIRECT_BYTES, 1 << 20])))

    async def run() -> Wire:
        wire = Wire(options)
        if compressed:
            compress = asyncio.ensure_future(wire.plane.compress(Command("COMPRESS", [b"COMPRESS DEFLATE\r\n"])))
            await asyncio.sleep(0)
            wire.transport.feed(b"P1 OK go\r\n", most=most)
            assert (await compress).status == "OK"
        command = wire.fetch(f"1:{len(bodies)}")
        told = stream + command.tag + b" OK done\r\n"
        if compressed:
            deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
            told = deflater.compress(told) + deflater.flush(zlib.Z_SYNC_FLUSH)
        wire.transport.feed(told, most=most)
        assert (await command.finished).status == "OK"
        assert not command.pending
        return wire

    wire = asyncio.run(run())
    assert [seen(message) for message in wire.messages] == [
        (uid, frozenset({"\\Seen"}), body) for uid, body in enumerate(bodies, 1)
    ]
    holdings = wire.plane.holdings
    assert holdings.held_bytes + holdings.spooled_bytes == sum(m.wire_size for m in wire.messages)
    assert holdings.spooled_bytes == sum(
        len(body) for body in bodies if len(body) > max(options.spool_above, DIRECT_BYTES)
    )
    wire.release_all()
    assert (holdings.held_bytes, holdings.spooled_bytes) == (0, 0)


@pytest.mark.asyncio
async def test_the_buffer_is_a_memoryview_in_every_state() -> None:
    wire = Wire()
    assert isinstance(wire.plane.get_buffer(-1), memoryview)
    wire.fetch("1")
    wire.transport.feed(b"* 1 FETCH (BODY[] {100000}\r\n")
    assert isinstance(wire.plane.get_buffer(-1), memoryview)
    wire.plane.abort(ConnectionLost())
    assert isinstance(wire.plane.get_buffer(-1), memoryview)


@pytest.mark.asyncio
async def test_answers_in_any_order_and_shape_reach_who_asked() -> None:
    wire = Wire()
    first, second = wire.fetch("1:3", Fetch("flags", "size")), wire.fetch("4:6", Fetch("flags", "size"))
    wire.transport.feed(
        b"* 6 FETCH (UID 6 FLAGS () RFC822.SIZE 6)\r\n"
        b"* 2 FETCH (FLAGS (\\Seen) RFC822.SIZE 2 UID 2)\r\n"
        b"* 5 fetch (uid 5 flags (a) rfc822.size 5)\r\n"
        b"\0\0* 1 FETCH (UID 1  FLAGS () RFC822.SIZE 1)\r\n"
        b"4 FETCH (UID 4 FLAGS () RFC822.SIZE 4)\r\n"
        b"* 9 FETCH (FLAGS (\\Seen))\r\n"
        b"* 9 FETCH (UID 9 FLAGS (\\Seen) RFC822.SIZE 9)\r\n"
        b"* 0 FETCH (FLAGS ())\r\n"
        b"* 3 FETCH (UID 3 FLAGS ())\r\n"
        b"P2 OK done\r\n"
        b"* 3 FETCH (UID 3 RFC822.SIZE 3)\r\n"
        b"* 3 FETCH (UID 3 FLAGS (\\Seen) RFC822.SIZE 33)\r\n"
        b"P1 OK done\r\n"
    )
    assert sorted(message.uid for message in wire.messages) == [1, 2, 3, 4, 5, 6]
    assert all(message.size == message.uid for message in wire.messages)
    assert (await first.finished).status == (await second.finished).status == "OK"
    assert not first.pending
    assert not second.pending


@pytest.mark.asyncio
async def test_items_that_come_apart_are_joined_and_flags_that_change_meanwhile_are_no_answer() -> None:
    wire = Wire()
    command = wire.fetch("7,8")
    wire.transport.feed(b"* 1 FETCH (UID 7 FLAGS (\\Deleted))\r\n")
    assert wire.messages == []
    assert wire.plane.holdings.held_bytes == 0
    wire.transport.feed(
        answer(7, b"whole") + b'* 2 FETCH (UID 8 FLAGS (a) INTERNALDATE "17-Jul-1996 02:44:25 -0700")\r\n'
    )
    wire.transport.feed(b"* 2 FETCH (UID 8 BODY[] {5}\r\nparts RFC822.SIZE 5)\r\nP1 OK done\r\n")
    assert [seen(message) for message in wire.messages] == [
        (7, frozenset({"\\Seen"}), b"whole"),
        (8, frozenset({"a"}), b"parts"),
    ]
    assert wire.plane.holdings.held_bytes == sum(message.wire_size for message in wire.messages)
    await command.finished


@pytest.mark.asyncio
async def test_a_malformed_answer_costs_its_message_only() -> None:
    wire = Wire()
    command = wire.fetch("1:4")
    wire.transport.feed(
        answer(1, b"a")
        + b"* 2 FETCH (UID 2 FLAGS (\\Seen BODY[] {3}\r\nabc\r\n"
        + b'* 3 FETCH (UID 3 FLAGS () INTERNALDATE "" RFC822.SIZE 1 BODY[] NIL)\r\n'
        + b"* 8 FETCH ((((\r\n"
        + answer(4, b"d")
        + b"P1 OK done\r\n"
    )
    await command.finished
    assert [message.uid for message in wire.messages] == [1, 4]
    assert {uid: failure.reason for uid, failure in command.malformed.items()} == {2: "malformed", 3: "no-body"}
    assert command.malformed[2].excerpt.startswith(b"* 2 FETCH (UID 2")
    assert wire.plane.error is None


@pytest.mark.asyncio
async def test_content_is_never_taken_for_protocol() -> None:
    wire = Wire()
    command = wire.fetch("1:2")
    forged = b")\r\nP1 OK forged\r\n* BYE forged\r\n* 2 FETCH (UID 2 FLAGS ())\r\n"
    wire.transport.feed_each(
        [answer(1, forged)[:cut] for cut in (0,)] + [answer(1, forged), answer(2, b"x"), b"P1 OK\r\n"]
    )
    await command.finished
    assert [message.body for message in wire.messages] == [forged, b"x"]


@pytest.mark.asyncio
async def test_messages_that_never_become_whole_are_bounded_and_do_not_pause() -> None:
    wire = Wire(PlaneOptions(max_held_bytes=2000, limits=Limits(kept_bytes=10_000)))
    command = wire.fetch("1:9", Fetch("full"))
    part = b"* 1 FETCH (UID %d FLAGS (" + b"x" * 3000 + b"))\r\n"
    for uid in (1, 2, 3):
        wire.transport.feed(part % uid)
    assert not wire.plane.is_reading_paused
    assert wire.plane.error is None
    wire.transport.feed(part % 4)
    with pytest.raises(ResponseTooLarge):
        await command.finished
    assert wire.transport.is_aborted


@pytest.mark.asyncio
async def test_what_takes_messages_and_fails_ends_the_connection_and_is_told() -> None:
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    wire = Wire()
    failing = wire.fetch("1", deliver=lambda _: 1 / 0)  # type: ignore[arg-type]
    other = wire.fetch("2")
    wire.transport.feed(answer(1, b"x"))
    for command in (failing, other):
        with pytest.raises(ConnectionLost, match="ZeroDivisionError") as caught:
            await command.finished
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert [type(context["exception"]) for context in told] == [ZeroDivisionError]
    assert wire.transport.is_aborted


# -- pauses ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.asyncio
async def test_reading_pauses_above_the_bound_and_goes_on_below_its_half(compressed: bool) -> None:
    body, count, bound, segment = b"b" * 5000, 200, 100_000, 20_000
    wire = Wire(PlaneOptions(max_held_bytes=bound))
    told = b"".join(answer(uid, body) for uid in range(1, count + 1)) + b"P1 OK done\r\n"
    if compressed:
        compress = asyncio.ensure_future(wire.plane.compress(Command("COMPRESS", [b"COMPRESS DEFLATE\r\n"])))
        await asyncio.sleep(0)
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        told = deflater.compress(told.replace(b"P1", b"P2")) + deflater.flush(zlib.Z_SYNC_FLUSH)
        # All of it in the segment of the OK: most of it stays compressed.
        command = wire.fetch(f"1:{count}")
        wire.transport.feed(b"P1 OK go\r\n" + told, most=1 << 18)
        await compress
        segment = 64 * 1024
    else:
        command = wire.fetch(f"1:{count}")
        wire.transport.feed(told, most=segment)
    received: list[int] = []
    pauses = 0
    while not command.finished.done():
        assert wire.is_paused() is wire.transport.is_paused is True
        pauses += 1
        assert bound < wire.plane.holdings.held_bytes <= bound + segment + len(answer(1, body))
        while wire.is_paused():
            assert wire.plane.holdings.held_bytes > bound // 2
            message = wire.messages.pop(0)
            received.append(message.uid)
            wire.plane.release(message)
        # What was compressed is taken up in a turn of its own.
        await asyncio.sleep(0)
    received += [message.uid for message in wire.messages]
    assert received == list(range(1, count + 1))
    # The last one may come with the tagged reply.
    assert 5 <= pauses <= wire.transport.pauses <= pauses + 1
    assert wire.plane.holdings.max_held_seen <= bound + segment + len(answer(1, body))
    assert not wire.plane.is_reading_paused or wire.plane.holdings.held_bytes > bound // 2


@pytest.mark.asyncio
async def test_files_are_counted_apart_and_pause_too() -> None:
    wire = Wire(PlaneOptions(spool_above=1024, max_spool_bytes=50_000, max_held_bytes=1024))
    command = wire.fetch("1:5")
    told = b"".join(answer(uid, b"%d" % uid * 20_000) for uid in range(1, 6)) + b"P1 OK done\r\n"
    wire.transport.feed(told, most=5000)
    assert len(wire.messages) == 3
    assert wire.plane.is_reading_paused
    assert wire.plane.holdings.spooled_bytes == 60_000
    assert wire.plane.holdings.held_bytes < 1024
    bodies: list[bytes] = []
    while not command.finished.done():
        message = wire.messages.pop(0)
        bodies.append(message.body)
        wire.plane.release(message)
        await asyncio.sleep(0)
    bodies += [message.body for message in wire.messages]
    assert bodies == [b"%d" % uid * 20_000 for uid in range(1, 6)]


@pytest.mark.asyncio
async def test_one_body_larger_than_all_files_may_be_is_received_all_the_same() -> None:
    wire = Wire(PlaneOptions(spool_above=1024, max_spool_bytes=5_000))
    command = wire.fetch("1:2")
    wire.transport.feed(answer(1, b"1" * 50_000), most=5000)
    assert wire.plane.is_reading_paused
    wire.transport.feed(answer(2, b"2" * 50_000) + b"P1 OK done\r\n", most=5000)
    assert len(wire.messages) == 1
    wire.release_all()
    await command.finished
    assert len(wire.messages) == 1


@pytest.mark.asyncio
async def test_a_deflate_stream_that_ends_in_the_middle_of_a_step_leaves_nothing_behind() -> None:
    """The inflater may keep output that did not fit into a step although all input was taken."""
    for size in range(64 * 1024 - 20, 64 * 1024 + 20):
        wire = Wire()
        compress = asyncio.ensure_future(wire.plane.compress(Command("COMPRESS", [b"COMPRESS DEFLATE\r\n"])))
        await asyncio.sleep(0)
        wire.transport.feed(b"P1 OK go\r\n")
        await compress
        command = wire.submit()
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        told = b"* OK " + b"x" * (size - 7) + b"\r\nP2 OK done\r\n"
        wire.transport.feed(deflater.compress(told) + deflater.flush(zlib.Z_SYNC_FLUSH))
        # A busy machine may end the turn of the event loop before all is read: it goes on in the next one.
        await command.finished
        assert wire.plane.bytes_received == len(told) + len(b"* OK ready\r\nP1 OK go\r\n")
        assert wire.plane.wire_bytes < 1000
        assert wire.plane.is_compressed


@pytest.mark.parametrize("garbage", [b"* OK not compressed\r\n", b"\x03\x00more behind the end"])
@pytest.mark.asyncio
async def test_what_cannot_be_inflated_ends_the_connection(garbage: bytes) -> None:
    wire = Wire()
    compress = asyncio.ensure_future(wire.plane.compress(Command("COMPRESS", [b"COMPRESS DEFLATE\r\n"])))
    await asyncio.sleep(0)
    wire.transport.feed(b"P1 OK go\r\n" + garbage)
    await compress
    assert isinstance(wire.plane.error, ProtocolError)


@pytest.mark.asyncio
async def test_compress_refused_leaves_all_as_it_was() -> None:
    wire = Wire()
    compress = asyncio.ensure_future(wire.plane.compress(Command("COMPRESS", [b"COMPRESS DEFLATE\r\n"])))
    await asyncio.sleep(0)
    wire.transport.feed(b"P1 NO [COMPRESSIONACTIVE] no\r\n* 3 EXISTS\r\n")
    assert (await compress).status == "NO"
    assert not wire.plane.is_compressed
    command = wire.submit()
    wire.transport.feed(b"P2 OK done\r\n")
    assert (await command.finished).status == "OK"


# -- sending -----------------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_what_may_travel_together() -> None:
    wire = Wire()
    wire.fetch("1", Fetch("flags"))
    wire.submit(b"UID SEARCH RETURN (ALL) ALL\r\n", name="UID SEARCH", company=Company.SEARCH)
    wire.fetch("2", Fetch("flags"))
    wire.submit(b"NOOP\r\n")
    wire.fetch("3", Fetch("flags"))
    assert wire.sent == ["P1 UID FETCH 1 (UID FLAGS)", "P2 UID SEARCH RETURN (ALL) ALL", "P3 UID FETCH 2 (UID FLAGS)"]
    wire.transport.feed(b"P1 OK\r\nP3 OK\r\n")
    assert wire.sent == []
    wire.transport.feed(b"P2 OK\r\n")
    assert wire.sent == ["P4 NOOP"]
    wire.transport.feed(b"P4 OK\r\n")
    assert wire.sent == ["P5 UID FETCH 3 (UID FLAGS)"]


@pytest.mark.asyncio
async def test_a_removal_goes_out_behind_the_last_look_and_nothing_behind_it() -> None:
    wire = Wire()
    look = wire.fetch("1", Fetch("flags"))
    removal = wire.submit(b"UID EXPUNGE 1\r\n", name="UID EXPUNGE", company=Company.EXPUNGE)
    wire.fetch("2", Fetch("flags"))
    assert wire.sent == ["P1 UID FETCH 1 (UID FLAGS)", "P2 UID EXPUNGE 1"]
    wire.transport.feed(b"* 1 FETCH (UID 1 FLAGS ($Theirs))\r\nP1 OK\r\n* 1 EXPUNGE\r\n")
    assert (await look.finished).status == "OK"
    assert [message.flags for message in wire.messages] == [{"$Theirs"}]
    assert wire.sent == []
    wire.transport.feed(b"P2 OK\r\n")
    assert [text for text, _ in removal.untagged] == [b"* 1 EXPUNGE"]
    assert wire.sent == ["P3 UID FETCH 2 (UID FLAGS)"]
    wire.submit(b"UID SEARCH RETURN () 1\r\n", name="UID SEARCH", company=Company.SEARCH)
    wire.submit(b"UID EXPUNGE 2\r\n", name="UID EXPUNGE", company=Company.EXPUNGE)
    assert wire.sent == ["P4 UID SEARCH RETURN () 1"]


@pytest.mark.asyncio
async def test_nothing_is_sent_while_a_continuation_is_awaited() -> None:
    wire = Wire()
    search = wire.submit(b"UID SEARCH {3}\r\n", b"abc {2}\r\n", b"de\r\n", name="UID SEARCH", company=Company.SEARCH)
    wire.fetch("1", Fetch("flags"))
    assert wire.sent == ["P1 UID SEARCH {3}"]
    wire.transport.feed(b"+ go on\r\n")
    assert wire.sent == ["abc {2}"]
    wire.transport.feed(b"+\r\n")
    assert wire.sent == ["de", "P2 UID FETCH 1 (UID FLAGS)"]
    # A request that nobody waits for is ignored.
    wire.transport.feed(b"+ what else?\r\nP1 OK\r\nP2 OK\r\n")
    assert wire.sent == []
    assert (await search.finished).status == "OK"


@pytest.mark.parametrize("status", [b"NO", b"BAD"])
@pytest.mark.asyncio
async def test_a_refusal_instead_of_a_continuation_frees_the_line(status: bytes) -> None:
    wire = Wire()
    append = wire.submit(b"APPEND INBOX {3}\r\n", b"abc\r\n", name="APPEND")
    wire.fetch("1", Fetch("flags"))
    wire.transport.feed(b"P1 " + status + b" [TOOBIG] no\r\n")
    assert (await append.finished).status == status.decode()
    assert wire.sent == ["P1 APPEND INBOX {3}", "P2 UID FETCH 1 (UID FLAGS)"]
    wire.transport.feed(b"+ too late\r\n")
    assert wire.sent == []


@pytest.mark.asyncio
async def test_answers_to_searches_find_the_search() -> None:
    wire = Wire()
    wire.fetch("9", Fetch("flags"))
    first = wire.submit(b"UID SEARCH RETURN () 1\r\n", name="UID SEARCH", company=Company.SEARCH)
    second = wire.submit(b"UID SEARCH RETURN () 2\r\n", name="UID SEARCH", company=Company.SEARCH)
    wire.transport.feed(b'* ESEARCH (TAG "p3") UID ALL 3\r\n* esearch (tag P2) UID ALL 2\r\n')
    wire.transport.feed(
        b'* ESEARCH (TAG "P99") UID ALL 99\r\n* 4 EXISTS\r\n* ESEARCH UID ALL 4\r\n* SEARCH 5\r\nP2 OK\r\n'
    )
    wire.transport.feed(b"* SEARCH 6\r\nP3 OK\r\n")
    assert [text for text, _ in first.untagged] == [
        b"* esearch (tag P2) UID ALL 2",
        b"* ESEARCH UID ALL 4",
        b"* SEARCH 5",
    ]
    assert [text for text, _ in second.untagged] == [b'* ESEARCH (TAG "p3") UID ALL 3', b"* SEARCH 6"]


@pytest.mark.asyncio
async def test_a_large_literal_goes_out_in_pieces_as_the_transport_takes_it() -> None:
    wire = Wire()
    message = bytes(range(256)) * 4096
    append = wire.submit(b"APPEND INBOX {%d}\r\n" % len(message), message + b"\r\n", name="APPEND")
    wire.submit(b"NOOP\r\n")
    wire.transport.feed(b"+ go on\r\n")
    plane = wire.plane
    # It takes all of it while nobody asks for a pause …
    assert max(wire.transport.writes) <= 64 * 1024
    assert wire.transport.take_sent() == b"P1 APPEND INBOX {%d}\r\n" % len(message) + message + b"\r\n"
    wire.transport.feed(b"P1 OK done\r\n")
    assert wire.sent == ["P2 NOOP"]
    await append.finished
    # … and one piece at a time while somebody does.
    wire.transport.feed(b"P2 OK\r\n")
    append = wire.submit(b"APPEND INBOX {%d}\r\n" % len(message), message + b"\r\n", name="APPEND")
    wire.transport.take_sent()
    plane.pause_writing()
    wire.transport.feed(b"+ go on\r\n")
    assert wire.sent == []
    assert plane.is_busy
    plane.resume_writing()
    assert wire.transport.take_sent() == message + b"\r\n"


@pytest.mark.asyncio
async def test_no_command_goes_between_the_pieces_of_a_literal() -> None:
    wire = Wire()
    written: list[int] = []
    real = wire.transport.write

    def write(data: bytes | bytearray | memoryview) -> None:
        real(data)
        written.append(len(data))
        if len(data) > 1000:
            wire.plane.pause_writing()

    wire.transport.write = write  # type: ignore[method-assign]
    wire.submit(b"UID SEARCH {200000}\r\n", b"s" * 200_000 + b"\r\n", name="UID SEARCH", company=Company.SEARCH)
    wire.fetch("1", Fetch("flags"))
    wire.transport.feed(b"+\r\n")
    for _ in range(10):
        wire.plane.resume_writing()
    told = wire.transport.take_sent()
    assert told.endswith(b"s\r\nP2 UID FETCH 1 (UID FLAGS)\r\n")
    assert re.search(rb"\r\ns{200000}\r\n", told)
    assert max(written) == 64 * 1024


# -- ends --------------------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_wait_that_is_cancelled_before_it_was_sent_harms_nobody() -> None:
    wire = Wire()
    wire.submit(b"NOOP\r\n")
    waiting = asyncio.ensure_future(wire.plane.run(Command("STATUS", [b"STATUS x\r\n"])))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert wire.plane.error is None
    wire.transport.feed(b"P1 OK\r\n")
    assert wire.sent == ["P1 NOOP"]
    assert not wire.plane.is_busy


@pytest.mark.asyncio
async def test_a_wait_that_is_cancelled_under_way_ends_the_connection() -> None:
    wire = Wire()
    running = asyncio.ensure_future(wire.plane.run(Command("STATUS", [b"STATUS x\r\n"])))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert isinstance(wire.plane.error, ConnectionLost)
    assert wire.transport.is_aborted


@pytest.mark.asyncio
async def test_a_wait_that_is_cancelled_when_its_reply_is_there_keeps_the_connection() -> None:
    wire = Wire()
    running = asyncio.ensure_future(wire.plane.run(Command("STATUS", [b"STATUS x\r\n"])))
    await asyncio.sleep(0)
    wire.transport.feed(b"P1 OK\r\n")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert wire.plane.error is None


@pytest.mark.asyncio
async def test_losing_the_connection_fails_everything_and_delivers_what_is_whole() -> None:
    wire = Wire()
    fetch, waiting = wire.fetch("1:2"), wire.submit()
    wire.transport.feed(answer(1, b"whole") + answer(2, b"half")[:-4])
    wire.plane.connection_lost(ConnectionResetError("reset by peer"))
    for command in (fetch, waiting):
        with pytest.raises(ConnectionLost, match="reset by peer"):
            await command.finished
    assert [message.uid for message in wire.messages] == [1]
    assert list(fetch.missing) == [2]
    assert wire.session.error is wire.plane.error
    with pytest.raises(ConnectionLost):
        wire.submit()
    wire.release_all()
    wire.transport.feed(b"* 1 EXISTS\r\n")


@pytest.mark.asyncio
async def test_bye_then_a_tagged_no_is_the_answer_to_the_command() -> None:
    """Yahoo: `* BYE …`, then the tagged NO."""
    wire = Wire()
    fetch, waiting = wire.fetch("1"), wire.submit()
    wire.transport.feed(b"* BYE slow down\r\n")
    assert not wire.plane.is_usable
    with pytest.raises(ServerBye, match="slow down"):
        wire.submit()
    wire.transport.feed(b"P1 NO [LIMIT] UID FETCH Rate limit hit.\r\n")
    assert (await fetch.finished).status == "NO"
    with pytest.raises(ServerBye) as caught:
        await waiting.finished
    assert (caught.value.command, caught.value.text) == ("NOOP", "slow down")
    assert wire.sent == ["P1 UID FETCH 1 " + FULL.command().decode()]
    assert wire.transport.is_aborted


@pytest.mark.asyncio
async def test_bye_with_nothing_under_way_ends_the_connection_at_once() -> None:
    wire = Wire()
    wire.transport.feed(b"* BYE Autologout; idle for too long\r\n* BYE Autologout; idle for too long\r\n")
    assert isinstance(wire.plane.error, ServerBye)
    assert wire.session.error is not None


@pytest.mark.asyncio
async def test_bye_and_silence_is_not_waited_for_long() -> None:
    wire = Wire(PlaneOptions(stall_timeout_seconds=0.02, command_timeout_seconds=60))
    fetch = wire.fetch("1")
    wire.transport.feed(b"* BYE\r\n")
    with pytest.raises(ServerBye):
        await fetch.finished


@pytest.mark.asyncio
async def test_bye_in_a_literal_is_content_and_a_stall_there_is_a_timeout() -> None:
    wire = Wire(PlaneOptions(stall_timeout_seconds=0.02, command_timeout_seconds=60))
    fetch = wire.fetch("1")
    wire.transport.feed(b"* 1 FETCH (UID 1 BODY[] {100}\r\n* BYE\r\n")
    with pytest.raises(CommandTimeout) as caught:
        await fetch.finished
    assert (caught.value.command, caught.value.timeout_seconds) == ("UID FETCH", 0.02)


def test_our_own_pause_is_no_stall() -> None:
    async def run() -> None:
        wire = Wire(PlaneOptions(stall_timeout_seconds=20, command_timeout_seconds=20, max_held_bytes=1024))
        fetch = wire.fetch("1:2")
        wire.transport.feed(answer(1, b"x" * 2000))
        assert wire.plane.is_reading_paused
        await asyncio.sleep(100)
        assert wire.plane.error is None
        wire.release_all()
        wire.transport.feed(answer(2, b"y") + b"P1 OK\r\n")
        assert (await fetch.finished).status == "OK"
        assert fetch.paused_seconds == pytest.approx(100, rel=1e-6)
        assert fetch.elapsed_seconds == pytest.approx(0, abs=1e-3)

    run_in_fake_time(run())


@pytest.mark.parametrize("line", [b"P1 WHAT is this\r\n"])
@pytest.mark.asyncio
async def test_a_tagged_reply_without_a_status_ends_the_connection(line: bytes) -> None:
    wire = Wire()
    command = wire.submit()
    wire.transport.feed(line)
    with pytest.raises(ProtocolError):
        await command.finished


@pytest.mark.asyncio
async def test_sizes_beyond_the_limits_end_the_connection_with_a_clear_error() -> None:
    for size in (b"4294967296", b"99999999999999999999"):
        wire = Wire()
        fetch = wire.fetch("1")
        wire.transport.feed(b"* 1 FETCH (UID 1 BODY[] {%b}\r\n" % size)
        with pytest.raises(ResponseTooLarge, match="a literal is too large"):
            await fetch.finished


@pytest.mark.asyncio
async def test_a_transport_that_comes_after_the_end_is_closed() -> None:
    plane = Dataplane(Session())
    plane.abort(ConnectionLost("given up"))
    assert FakeTransport(plane).is_aborted


# -- STARTTLS ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.asyncio
async def test_bytes_before_the_handshake_are_an_attack(later: bool) -> None:
    wire = Wire()
    context = ssl.create_default_context()
    upgrade = asyncio.ensure_future(start_tls(wire.plane, context, "mail.example.org"))
    await asyncio.sleep(0)
    injected = b"* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n* PREAUTH welcome\r\n"
    wire.transport.feed(b"P1 OK begin\r\n" + (b"" if later else injected))
    assert wire.transport.is_paused
    if later:
        # A transport may still have some of it in hand when it is paused.
        wire.plane.get_buffer(-1)[: len(injected)] = injected
        wire.plane.buffer_updated(len(injected))
    with pytest.raises(ProtocolError, match="STARTTLS injection"):
        await upgrade
    assert wire.transport.is_aborted
    assert wire.session.capabilities == frozenset()


@pytest.mark.asyncio
async def test_starttls_refused_leaves_all_as_it_was() -> None:
    wire = Wire()
    context = ssl.create_default_context()
    upgrade = asyncio.ensure_future(start_tls(wire.plane, context, "x"))
    await asyncio.sleep(0)
    wire.transport.feed(b"P1 NO not now\r\n")
    assert (await upgrade).status == "NO"
    assert not wire.transport.is_paused
    command = wire.submit()
    wire.transport.feed(b"P2 OK\r\n")
    await command.finished
