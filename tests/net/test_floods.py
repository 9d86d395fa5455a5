"""Whatever a server sends, and for however long: what is kept of it is bounded, and so are files and descriptors.

Each flood goes on until the connection ends. What is counted is memory by tracemalloc, files by their descriptors.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest

import imapipe
from imapipe import search as q
from imapipe.errors import MAX_TEXT, CommandNo, ConnectionLost, ImapipeError, ProtocolError, ResponseTooLarge
from imapipe.models.message import Message, MessageContext
from imapipe.net import arrivals, holdings
from imapipe.net.authentication import Credentials
from imapipe.net.command import Command, Company, FetchCommand
from imapipe.net.dataplane import Dataplane
from imapipe.net.holdings import MAX_FILES
from imapipe.net.options import PlaneOptions
from imapipe.net.searching import SearchCommand
from imapipe.net.session import SelectedMailbox, Session
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.response import fetch as fetch_module
from imapipe.wire.response import item_value
from imapipe.wire.response.fetch import FetchScan, scan_fetch
from imapipe.wire.response.item_value import flags_of, parse_flags
from imapipe.wire.response.limits import Limits
from imapipe.wire.response.response import Status, parse_response
from imapipe.wire.response.shape import compile_shape
from imapipe.wire.uid_set import UidSet
from scripted_server import AnsweringServer, FakeTransport

MIB = 1024 * 1024
FULL = Fetch("full")


class Line:
    """A data plane that is fed by hand."""

    def __init__(self, options: PlaneOptions | None = None, *, logged_in: bool = True, messages: int = 0) -> None:
        self.session = Session(logged_in=logged_in, selected=SelectedMailbox("INBOX", exists=messages))
        self.plane = Dataplane(self.session, options)
        self.transport = FakeTransport(self.plane)
        self.messages: list[Message] = []

    def greet(self) -> Line:
        self.transport.feed(b"* OK ready\r\n")
        return self

    def ask(self, name: str = "NOOP", company: Company = Company.ALONE) -> Command:
        command = Command(name, [name.encode() + b"\r\n"], company=company)
        self.plane.submit(command)
        return command

    def fetch(self, uids: str = "1", fetch: Fetch = FULL) -> FetchCommand:
        context, shape = MessageContext("INBOX", 1, fetch), compile_shape(("UID", *fetch.names))
        command = FetchCommand([b"UID FETCH\r\n"], UidSet.parse(uids), context, shape, self.messages.extend)
        self.plane.submit(command)
        return command

    def is_paused(self) -> bool:
        return self.plane.is_reading_paused

    async def flood(self, chunks: Iterator[bytes], most: int) -> int:
        """Feed until the connection ends, or `most` bytes were fed; gives how many were."""
        fed = 0
        for chunk in chunks:
            if self.plane.error is not None or fed >= most:
                break
            self.transport.feed(chunk)
            fed += len(chunk)
            while self.transport.left and self.plane.error is None:  # noqa: ASYNC110 - the loop's turns are bounded, too
                await asyncio.sleep(0)
        return fed


@contextmanager
def peak(most_bytes: int) -> Iterator[None]:
    """No more memory than this is taken at a time."""
    tracemalloc.start()
    try:
        yield
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken < most_bytes, f"{taken:,} bytes"


def again(data: bytes) -> Iterator[bytes]:
    """The same again and again, in chunks of some size."""
    return itertools.repeat(data * max(1, 20_000 // len(data)))


def numbered(form: bytes) -> Iterator[bytes]:
    for number in itertools.count(1000, 100):
        yield b"".join(form % each for each in range(number, number + 100))


# -- untagged responses ------------------------------------------------------------------------------------------------

UNTAGGED = {
    "exists": b"* 1 EXISTS\r\n",
    "wait": b"* OK wait\r\n",
    "list": b'* LIST () "/" "some folder"\r\n',
    "literal": b'* LIST () "/" {3000}\r\n' + b"n" * 3000 + b"\r\n",
    "fetch": b"* 1 FETCH (UID 1 FLAGS (\\Seen))\r\n",
    "junk": b"* what is this\r\n",
    "status": b"* STATUS x (MESSAGES 1)\r\n",
}


@pytest.mark.parametrize("data", UNTAGGED.values(), ids=UNTAGGED.keys())
@pytest.mark.parametrize("name", ["NOOP", "LIST", "UID SEARCH"])
@pytest.mark.asyncio
async def test_what_comes_during_a_command_that_runs_alone(name: str, data: bytes) -> None:
    line = Line(PlaneOptions(limits=Limits(kept_bytes=300_000, line_bytes=300_000))).greet()
    command = line.ask(name)
    with peak(2 * MIB):
        fed = await line.flood(again(data), 3 * MIB)
    assert fed < 400_000
    with pytest.raises(ResponseTooLarge, match=f"the answer to {name}"):
        await command.finished


# How it begins, how it goes on, from number to number, and how much of it is taken at least and at most.
LISTS = {
    "scattered": (b"* SEARCH", b" %d", 2, 50_000, 150_000),
    "consecutive": (b"* SEARCH", b" %d", 1, 900_000, 1_300_000),
    "repeated": (b"* SEARCH", b" %d", 0, 900_000, 1_300_000),
    "ranges": (b"* ESEARCH UID ALL 1", b",%d", 2, 50_000, 150_000),
}


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.asyncio
async def test_of_a_long_list_what_it_says_is_kept_and_not_its_text(kind: str) -> None:
    """Neither its text nor the objects for its numbers ever stand whole, and how long it is, is bounded, too."""
    head, form, step, least, most = LISTS[kind]
    line = Line(PlaneOptions(limits=Limits(kept_bytes=300_000)), messages=4_000_000_000).greet()
    command = SearchCommand("UID SEARCH", [b"UID SEARCH ALL\r\n"], company=Company.SEARCH)
    command.begin(None)
    line.plane.submit(command)
    numbers = itertools.count(1000, step)
    chunks = (b"".join(form % number for number in itertools.islice(numbers, 500)) for _ in itertools.count())
    with peak(2 * MIB):
        fed = await line.flood(itertools.chain([head], chunks), 8 * MIB)
    with pytest.raises(ResponseTooLarge):
        await command.finished
    assert least < fed < most
    assert command.lists


@pytest.mark.asyncio
async def test_a_search_within_a_set_does_not_find_a_million_others() -> None:
    """The plan of a run stands already when it looks a second time, and another such answer would stand beside it."""
    line = Line(messages=4_000_000_000).greet()
    command = SearchCommand("UID SEARCH", [b"UID SEARCH UID 1:5\r\n"], company=Company.SEARCH)
    command.begin(UidSet.parse("1:5"))
    line.plane.submit(command)
    numbers = b"".join(b" %d" % number for number in range(10_000, 110_000, 2))
    await line.flood(iter([b"* SEARCH" + numbers + b"\r\n"]), MIB)
    with pytest.raises(ProtocolError, match="far more messages than the set has"):
        await command.finished


@pytest.mark.asyncio
async def test_a_users_own_command_may_bring_what_the_limits_allow_and_idle_only_news() -> None:
    """aioimaplib collects all lines of a command, and those of IDLE in a queue that nobody may read."""

    class Own(Command):
        is_collected = True

    class Idle(Own):
        @property
        def is_endless(self) -> bool:
            return True

    line = Line(PlaneOptions(limits=Limits(piece_bytes=1000))).greet()
    own = Own("UID SEARCH", [b"UID SEARCH ALL\r\n"])
    line.plane.submit(own)
    line.transport.feed(b"* SEARCH" + b" 1234567" * 2000 + b"\r\n" + own.tag + b" OK done\r\n")
    await own.finished
    assert len(own.untagged) == 1
    for kind, most in ((Own, 400_000), (Idle, 100_000)):
        line = Line(PlaneOptions(limits=Limits(kept_bytes=100_000, line_bytes=400_000))).greet()
        command = kind("IDLE", [b"IDLE\r\n"])
        line.plane.submit(command)
        await line.flood(again(b"* 1 EXISTS\r\n"), 2 * MIB)
        with pytest.raises(ResponseTooLarge) as caught:
            await command.finished
        assert caught.value.limit == most


@pytest.mark.parametrize("messages", [0, 4_000_000_000])
@pytest.mark.asyncio
async def test_a_line_without_an_end(messages: int) -> None:
    """However many messages a server says there are: lists of them come in pieces, and nothing else is as long."""
    line = Line(PlaneOptions(limits=Limits(line_bytes=8 * MIB)), messages=messages).greet()
    command = line.ask("UID SEARCH", Company.SEARCH)
    fed = await line.flood(itertools.repeat(b" 1234567" * 20_000), 64 * MIB)
    assert fed < 5 * MIB
    with pytest.raises(ResponseTooLarge, match="a line is too large"):
        await command.finished


@pytest.mark.asyncio
async def test_what_the_session_keeps() -> None:
    line = Line().greet()
    names = b" ".join(b"X-%d" % number for number in range(5000))
    with peak(4 * MIB):
        for word in (b"CAPABILITY", b"ENABLED", b"FLAGS ("):
            line.transport.feed(b"* " + word + b" " + names * 3 + b"\r\n")
        for start in range(0, 200_000, 1000):
            enabled = b" ".join(b"X-%d" % number for number in range(start, start + 1000))
            command = line.ask()
            line.transport.feed(b"* ENABLED " + enabled + b"\r\n" + command.tag + b" OK done\r\n")
            line.transport.feed(b"* NO [ALERT] " + b"x" * 50_000 + b"\r\n")
            await command.finished
    assert not line.session.capabilities
    assert len(line.session.enabled) <= 2000
    assert max(map(len, line.session.alerts)) <= MAX_TEXT


@pytest.mark.asyncio
async def test_commands_in_flight_together_have_one_limit() -> None:
    """32 STATUS commands, and each of them kept as much as a connection may."""
    line = Line(PlaneOptions(limits=Limits(kept_bytes=300_000, line_bytes=300_000))).greet()
    commands = [line.ask("STATUS", Company.STATUS) for _ in range(8)]
    for command in commands:
        if not command.finished.done():
            line.transport.feed(b"* STATUS x (MESSAGES 1)\r\n" * 100 + command.tag + b" OK done\r\n")
    assert commands[3].finished.done()
    with pytest.raises(ResponseTooLarge, match="the answer to STATUS"):
        await commands[-1].finished
    for command in commands:
        command.let_go()
    assert line.plane.holdings.is_empty


@pytest.mark.asyncio
async def test_several_connections_have_one_limit() -> None:
    """Each of eight connections could be made to keep as much as one may."""
    limits = Limits(kept_bytes=6 * MIB)
    lines = [Line(PlaneOptions(limits=limits)).greet() for _ in range(3)]
    commands = [line.ask("UID SEARCH") for line in lines]
    literal = b'* LIST () "/" {16000}\r\n' + b"n" * 16_000 + b"\r\n"
    assert await lines[0].flood(again(literal), 5 * MIB) >= 5 * MIB
    assert lines[0].plane.error is None
    # What is the connection's own is there all the same.
    assert await lines[1].flood(again(literal), MIB) >= MIB
    with pytest.raises(ResponseTooLarge, match="what several connections keep"):
        await asyncio.gather(lines[1].flood(again(literal), 5 * MIB), commands[1].finished)
    lines[0].transport.feed(commands[0].tag + b" OK done\r\n")
    assert (await commands[0].finished).status == "OK"
    commands[0].let_go()
    assert await lines[2].flood(again(literal), 5 * MIB) >= 5 * MIB
    assert lines[2].plane.error is None
    assert all(line.plane.holdings.is_empty for line in lines[:2])


@pytest.mark.asyncio
async def test_what_waits_to_be_inflated_is_on_the_account() -> None:
    line = Line(PlaneOptions(max_held_bytes=1000)).greet()
    compress = asyncio.ensure_future(line.plane.compress(Command("COMPRESS", [b"COMPRESS DEFLATE\r\n"])))
    await asyncio.sleep(0)
    line.transport.feed(b"P1 OK go\r\n")
    await compress
    line.fetch("1:3", Fetch(section=""))
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    body = random.Random(1).randbytes(40_000)
    told = b"".join(b"* 1 FETCH (UID %d BODY[] {40000}\r\n%b)\r\n" % (uid, body) for uid in (1, 2, 3))
    line.transport.feed(deflater.compress(told) + deflater.flush(zlib.Z_SYNC_FLUSH))
    assert line.is_paused()
    assert line.plane.holdings.stream_bytes > 0
    line.plane.abort(ConnectionLost("so"))
    for message in line.messages:
        line.plane.release(message)
    assert line.plane.holdings.is_empty


MANY_WORDS = {
    "capabilities": b"* CAPABILITY%b",
    "enabled": b"* ENABLED%b",
    "flags": b"* FLAGS (%b)",
    "attributes": b'* LIST (%b) "/" x',
    "rough-attributes": b'* LIST (a(b%b) "/" x',
    "status": b"* STATUS x (%b)",
    "fetched-flags": b"* 1 FETCH (UID 1 FLAGS (%b))",
    "items": b"* 1 FETCH (UID 1%b)",
    "code": b"* OK [CAPABILITY%b] so",
    "permanent-flags": b"* OK [PERMANENTFLAGS (%b)] so",
    "copyuid": b"* OK [COPYUID%b] so",
}


@pytest.mark.parametrize("form", MANY_WORDS.values(), ids=MANY_WORDS.keys())
def test_many_words_are_not_taken_apart(form: bytes) -> None:
    """A word of two bytes is an object of fifty, and a line has two million of them."""
    text = form % b"".join(b" X%d 1" % number for number in range(15_000))
    with peak(4 * len(text) + MIB):
        try:
            response = parse_response(text)
            if isinstance(response, FetchScan):
                parse_flags(text, response.items["FLAGS"])
            elif isinstance(response, Status) and response.code is not None:
                code = response.code
                assert not any((code.capabilities, code.permanent_flags, code.copy_uid))
                return
        except ProtocolError:
            return
    pytest.fail("it was taken apart")


def test_no_table_of_the_process_keeps_long_texts() -> None:
    for number in range(50):
        words = b"%d" % number + b" k" * 2000
        flags_of(b"(" + words + b")")
        scan_fetch(b"* 1 FETCH (UID 1 BODY[HEADER.FIELDS (" + words + b")] NIL)")
    assert max(map(len, fetch_module._NAMES)) <= fetch_module._SHORT_BYTES
    assert max(map(len, item_value._FLAG_SETS)) <= item_value._SHORT_BYTES


# -- before login ------------------------------------------------------------------------------------------------------

ENDLESS = {
    "no-line": again(b"x"),
    "open-greeting": itertools.chain([b"* OK ["], again(b"CAPABILITY ")),
    "blank": again(b"\r\n"),
    "lines": itertools.chain([b"* OK ready\r\n"], again(b"* OK wait\r\n")),
    "literal": itertools.chain([b"* X {100000}\r\n"], again(b"x")),
    "literals": itertools.chain([b"* X"], again(b" {1000}\r\n" + b"x" * 1000)),
}


@pytest.mark.parametrize("flood", ENDLESS.values(), ids=ENDLESS.keys())
@pytest.mark.asyncio
async def test_a_greeting_has_an_end(flood: Iterator[bytes]) -> None:
    line = Line(logged_in=False)
    with peak(2 * MIB):
        fed = await line.flood(flood, 8 * MIB)
    assert isinstance(line.plane.error, ProtocolError)
    assert fed <= 100_000


@pytest.mark.parametrize(
    "data", [b"* CAPABILITY IMAP4rev1\r\n", b"* CAPABILITY" + b" X" * 1000 + b"\r\n", b"* OK x\r\n"]
)
@pytest.mark.asyncio
async def test_capabilities_before_login(data: bytes) -> None:
    line = Line(logged_in=False).greet()
    command = line.ask("CAPABILITY")
    with peak(2 * MIB):
        fed = await line.flood(again(data), 8 * MIB)
    assert fed < 200_000
    with pytest.raises(ResponseTooLarge):
        await command.finished


@pytest.mark.parametrize("mechanism", ["PLAIN", "XOAUTH2", "OAUTHBEARER"])
@pytest.mark.asyncio
async def test_a_server_that_asks_on_and_on_during_login(mechanism: str) -> None:
    """Each time it was answered, and it read nothing of that."""

    async def token() -> str:
        return "secret"

    credentials = Credentials("ann", *(("secret", None) if mechanism == "PLAIN" else (None, token)))
    line = Line(logged_in=False).greet()
    login = credentials.begin("127.0.0.1", 143)
    task = asyncio.ensure_future(
        login.run(line.plane.run, frozenset({"LOGINDISABLED", f"AUTH={mechanism}", "IMAP4REV1"}))
    )
    await asyncio.sleep(0)
    with peak(2 * MIB):
        await line.flood(again(b"+ \r\n"), 8 * MIB)
    assert isinstance(line.plane.error, ProtocolError)
    assert len(line.transport.sent) < 2000
    with pytest.raises(ImapipeError):
        await task


@pytest.mark.asyncio
async def test_after_login_there_is_room() -> None:
    line = Line(logged_in=False).greet()
    line.session.logged_in = True
    noop = line.ask()
    line.transport.feed(b"P1 OK done\r\n")
    await noop.finished
    command = line.ask("LIST")
    line.transport.feed(b'* LIST () "/" ' + b"x" * 200_000 + b"\r\nP2 OK done\r\n")
    assert (await command.finished).status == "OK"


# -- parts of messages -------------------------------------------------------------------------------------------------

ONE_LARGE = b"{5000}\r\n" + b"y" * 5000
PARTS = {
    "new-names": numbered(b"* 1 FETCH (UID 1 X-%d (a b))\r\n"),
    "new-literals": numbered(b"* 1 FETCH (UID 1 X-%d " + ONE_LARGE + b")\r\n"),
    "same-item": again(b"* 1 FETCH (UID 1 FLAGS (" + b"x " * 1000 + b"))\r\n"),
    "same-literal": again(b"* 1 FETCH (UID 1 FLAGS (" + b"x " * 1000 + b") X " + ONE_LARGE + b")\r\n"),
    "many-messages": numbered(b"* 1 FETCH (UID %d FLAGS (" + b"x " * 1000 + b"))\r\n"),
    "with-size": numbered(b"* 1 FETCH (UID 1 RFC822.SIZE 9 X-%d " + ONE_LARGE + b")\r\n"),
}


@pytest.mark.parametrize("flood", PARTS.values(), ids=PARTS.keys())
@pytest.mark.asyncio
async def test_messages_in_parts(flood: Iterator[bytes]) -> None:
    line = Line(PlaneOptions(limits=Limits(kept_bytes=100_000), max_held_bytes=80_000)).greet()
    command = line.fetch("1:100000")
    del command.pending
    command.pending = {1, *range(1000, 100_000)}
    with peak(4 * MIB):
        await line.flood(flood, 8 * MIB)
    with pytest.raises(ResponseTooLarge, match="messages that are not whole"):
        await command.finished


@pytest.mark.asyncio
async def test_malformed_messages_of_one_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only some are shown, and all are on the account."""
    monkeypatch.setattr(arrivals, "_MOST_EXCERPTS", 10)
    line = Line().greet()
    command = line.fetch("1:200", Fetch("flags"))
    told = b"".join(b"* 1 FETCH (UID %d FLAGS (((" % uid + b"x" * 1000 + b"\r\n" for uid in range(1, 201))
    await line.flood(iter([told]), MIB)
    while len(command.malformed) < 200:  # noqa: ASYNC110 - what is left of a turn comes in the next
        await asyncio.sleep(0)
    assert 200 * 500 < line.plane.holdings.kept_bytes < 200 * 1000
    line.transport.feed(b"P1 OK done\r\n")
    await command.finished
    assert len(command.malformed) == 200
    assert sum(bool(failure.excerpt) for failure in command.malformed.values()) == 10
    assert line.plane.holdings.is_empty


@pytest.mark.parametrize(
    "piece",
    [
        b" {18000}\r\n" + b"x" * 18_000,
        b" X {0}\r\n" + b"y" * 9000,
        b" {0}\r\n",
        b" {100}\r\n" + b"x" * 100,
    ],
)
@pytest.mark.parametrize("most", [1 << 20, 700])
@pytest.mark.asyncio
async def test_one_response_of_many_small_literals(piece: bytes, most: int) -> None:
    """180 MB were held where `response_bytes` said 10: only what did not fit into the buffer was counted."""
    line = Line(PlaneOptions(limits=Limits(kept_bytes=1 * MIB))).greet()
    command = line.fetch()
    line.transport.feed(b"* 1 FETCH (UID 1 X (", most=most)
    with peak(4 * MIB):
        await line.flood(again(piece), 4 * MIB)
    with pytest.raises(ResponseTooLarge):
        await command.finished


# -- files -------------------------------------------------------------------------------------------------------------


def open_files() -> int:
    return psutil.Process().num_fds()


@pytest.mark.parametrize("head", [b" X", b")\r\n* 1 FETCH (UID 1 BODY[]"])
@pytest.mark.asyncio
async def test_descriptors(head: bytes) -> None:
    """3,000 literals, each in a file of its own, were the end of all files of the process."""
    line = Line(PlaneOptions(spool_above=1024)).greet()
    command = line.fetch()
    before, most = open_files(), 0
    line.transport.feed(b"* 1 FETCH (UID 1 FLAGS ()")
    while line.plane.error is None:
        line.transport.feed(head + b" {20000}\r\n" + b"x" * 20_000)
        most = max(most, open_files() - before)
    assert 1 < most <= MAX_FILES
    with pytest.raises(ResponseTooLarge, match="large literals"):
        await command.finished
    assert open_files() <= before
    assert line.plane.holdings.is_empty


@pytest.mark.asyncio
async def test_small_literals_need_no_files() -> None:
    line = Line(PlaneOptions(spool_above=0)).greet()
    command = line.fetch(fetch=Fetch(section=""))
    before = open_files()
    line.transport.feed(b"* 1 FETCH (UID 1" + b" X {2000}\r\n" + b"x" * 2000, most=700)
    for number in range(3000):
        line.transport.feed(b" X%d {2000}\r\n" % number + b"x" * 2000)
    assert open_files() == before
    line.transport.feed(b" BODY[] {3}\r\nabc)\r\n")
    line.transport.feed(command.tag + b" OK\r\n")
    await command.finished
    (message,) = line.messages
    assert message.body == b"abc"
    assert not line.plane.holdings.is_keeping


@pytest.mark.asyncio
async def test_reading_pauses_where_many_files_are_held() -> None:
    line = Line(PlaneOptions(spool_above=1024)).greet()
    count = 5 * MAX_FILES
    command = line.fetch(f"1:{count}", Fetch(section=""))
    before = open_files()
    told = b"".join(
        b"* 1 FETCH (UID %d BODY[] {17000}\r\n%b)\r\n" % (uid, b"x" * 17_000) for uid in range(1, count + 1)
    )
    line.transport.feed(told + b"P1 OK done\r\n", most=4000)
    done = 0
    while not command.finished.done():
        assert line.is_paused()
        assert open_files() - before <= MAX_FILES + 4
        while line.is_paused():
            line.plane.release(line.messages.pop(0))
            done += 1
        await asyncio.sleep(0)
    assert done + len(line.messages) == count


@pytest.mark.asyncio
async def test_many_files_in_whole_batches_do_not_stop_a_run() -> None:
    """What is gathered for a batch cannot be released before it is given out."""
    count = 3 * MAX_FILES

    def answer(command: bytes) -> bytes | None:
        if command.startswith(b"UID FETCH"):
            body = b"x" * 17_000
            return b"".join(
                b"* %d FETCH (UID %d BODY[] {17000}\r\n%b)\r\n" % (uid, uid, body) for uid in range(1, count + 1)
            ) + (b"TAG OK done\r\n")
        return None

    async with (
        AnsweringServer(answer, exists=count) as server,
        imapipe.create_pool(server.url, password="secret", spool_above=1024) as pool,
    ):
        job = pool.mailbox("INBOX").search(q.ALL).batch(count).fetch(Fetch(section=""))
        seen = 0
        async with job.batches() as batches:
            async for batch in batches:
                seen += len(batch)
        assert seen == count


@pytest.mark.parametrize(
    "each",
    [
        b" X {20000}\r\n" + b"x" * 20_000,
        b")\r\n* 1 FETCH (UID 1 BODY[] {20000}\r\n" + b"x" * 20_000,
        b")\r\n* 1 FETCH (UID 1 BODY[] {20000}\r\n"
        + b"x" * 20_000
        + b")\r\n* 2 FETCH (UID 2 BODY[] {20000}\r\n"
        + b"x" * 20_000,
    ],
)
@pytest.mark.asyncio
async def test_disk(each: bytes) -> None:
    """What is not handed over yet counts, too: nobody could release it."""
    line = Line(PlaneOptions(spool_above=1024, max_spool_bytes=100_000)).greet()
    command = line.fetch("1:2")
    line.transport.feed(b"* 1 FETCH (UID 1 FLAGS ()")
    with pytest.raises(ResponseTooLarge, match="temporary files"):
        await asyncio.gather(line.flood(again(each), 8 * MIB), command.finished)
    waiting = line.plane.holdings.kept_spooled_bytes
    assert waiting <= 100_000


@pytest.mark.asyncio
async def test_a_body_of_any_size_needs_the_room_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holdings, "ONE_BODY_BYTES", 50_000)
    for most, size, comes in ((10_000, 50_000, True), (10_000, 60_000, False), (70_000, 60_000, True)):
        line = Line(PlaneOptions(spool_above=1024, max_spool_bytes=most)).greet()
        line.fetch(fetch=Fetch(section=""))
        line.transport.feed(b"* 1 FETCH (UID 1 BODY[] {%d}\r\n%b)\r\n" % (size, b"x" * size), most=4000)
        assert len(line.messages) == comes
        assert (line.plane.error is None) is comes


@pytest.mark.asyncio
async def test_a_response_of_many_bodies_goes_to_files_and_comes() -> None:
    line = Line(PlaneOptions(spool_above=MIB)).greet()
    fetch = Fetch(section="1")
    for number in range(2, 25):
        fetch |= Fetch(section=str(number))
    line.fetch(fetch=fetch)
    sections = b" ".join(
        b"BODY[%d] {900000}\r\n%b" % (number, b"%d" % (number % 10) * 900_000) for number in range(1, 25)
    )
    told = b"* 1 FETCH (UID 1 " + sections + b")\r\n"
    with peak(12 * MIB):
        for start in range(0, len(told), 100_000):
            line.transport.feed(told[start : start + 100_000])
    (message,) = line.messages
    assert [message.section(str(n)) == b"%d" % (n % 10) * 900_000 for n in range(1, 25)] == [True] * 24
    assert message.spooled_files == 15
    assert line.plane.holdings.held_bytes < 9 * MIB


# -- what is kept for a report -----------------------------------------------------------------------------------------


def test_errors_keep_no_more_than_a_page_of_what_a_server_says() -> None:
    error = CommandNo("UID FETCH", "X" * 100_000, "y" * 1_000_000)
    assert len(str(error)) < 3 * MAX_TEXT
    assert (len(error.code), len(error.text)) == (MAX_TEXT, MAX_TEXT)


REFUSALS: dict[str, Callable[[], bytes]] = {
    "no": lambda: b"TAG NO " + b"x" * 300_000 + b"\r\n",
    "no-code": lambda: b"TAG NO [" + b"x" * 300_000 + b"] so\r\n",
    "bad": lambda: b"TAG BAD " + b"x" * 300_000 + b"\r\n",
    "malformed": lambda: b"* 1 FETCH (UID 1 FLAGS ((( " + b"x" * 300_000 + b"\r\nTAG OK done\r\n",
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS.keys())
@pytest.mark.asyncio
async def test_texts_in_a_report_are_cut(refusal: Callable[[], bytes]) -> None:
    """`NO` with a text of 1 MB for each of 3,000 messages: the report ran out of memory."""

    def answer(command: bytes) -> bytes | None:
        return refusal() if command.startswith(b"UID FETCH") else None

    async def handle(_: Message) -> None:
        """Never called."""

    async with (
        AnsweringServer(answer, exists=100) as server,
        imapipe.create_pool(server.url, password="secret") as pool,
    ):
        # All of the texts would be 30 MB, and often twice that.
        with peak(14 * MIB):
            report = await pool.mailbox("INBOX").search(q.ALL).batch(10).fetch("flags").run(handle)
        assert report.failed == 100
        assert sum(len(failure.detail) + len(failure.excerpt) for failure in report.failures.values()) < 100 * 4000
        assert len(report.to_json()) < 500_000
