"""What aioimaplib does wrong beneath its methods, row by row, and that a leased connection does not.

Each test plays the same bytes to plain aioimaplib first and shows the defect, so that the second half can fail; then
to the client that a lease gives. Rows about cost count operations.
"""

from __future__ import annotations

import asyncio
import datetime
import inspect
import logging
import re
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import aioimaplib
import pytest
from aioimaplib import aioimaplib as private

import imapipe
from imapipe.errors import ConnectionLost
from imapipe.models.message import Message, MessageContext
from imapipe.net.bridge import BridgeProtocol
from imapipe.net.command import FetchCommand
from imapipe.net.connection import Connection
from imapipe.net.dataplane import Dataplane
from imapipe.net.options import PlaneOptions
from imapipe.net.session import SelectedMailbox, Session
from imapipe.testing import Server
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.response.literal import Literal
from imapipe.wire.response.salvage import Answer, read_fetch
from imapipe.wire.response.shape import compile_shape
from imapipe.wire.uid_set import UidSet
from scripted_server import FakeTransport

T = TypeVar("T")
TODAY = datetime.date(2024, 6, 1)
pytestmark = pytest.mark.asyncio


class Plain:
    """aioimaplib as it is, on a transport without a socket."""

    def __init__(self, state: str = private.SELECTED) -> None:
        self.protocol = private.IMAP4ClientProtocol(asyncio.get_running_loop())
        self.transport = FakeTransport(asyncio.BufferedProtocol())
        self.protocol.connection_made(self.transport)
        self.protocol.state = state
        self.protocol.capabilities = {"IDLE", "MOVE", "UIDPLUS"}

    def feed(self, data: bytes) -> None:
        self.protocol.data_received(data)


class Ours:
    """The client of a leased connection, on the same kind of transport."""

    def __init__(self, state: str = private.SELECTED, options: PlaneOptions | None = None) -> None:
        self.session = Session(
            capabilities=frozenset({"IDLE", "MOVE", "UIDPLUS"}), logged_in=state != private.NONAUTH, greeted=True
        )
        if state == private.SELECTED:
            self.session.selected = SelectedMailbox("INBOX", read_only=False)
        self.plane = Dataplane(self.session, options)
        self.transport = FakeTransport(self.plane)
        self.plane.greeting.set_result(b"")
        self.protocol = BridgeProtocol(self.plane, self.session)

    def feed(self, data: bytes) -> None:
        self.transport.feed(data)


Side = Plain | Ours


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def start(side: Side, work: Coroutine[Any, Any, T]) -> tuple[asyncio.Task[T], bytes]:
    """Start a command; the task, and the tag under which it was sent."""
    task = asyncio.ensure_future(work)
    await turns()
    return task, bytes(side.transport.sent).rpartition(b"\r\n")[0].rpartition(b"\r\n")[2].partition(b" ")[0]


async def ended(task: asyncio.Task[T]) -> T:
    """What a task gives that needs nothing but its turns; they are counted, as a busy machine makes each one longer."""
    for _ in range(10_000):
        if task.done():
            break
        await asyncio.sleep(0)
    assert task.done()
    return task.result()


async def exchange(side: Side, work: Coroutine[Any, Any, T], *chunks: bytes) -> T:
    """Send a command, feed the chunks of its answer (`%T` is its tag), give its response."""
    task, tag = await start(side, work)
    for chunk in chunks:
        side.feed(chunk.replace(b"%T", tag))
        await turns()
    return await ended(task)


def flags(count: int) -> bytes:
    return b"".join(b"* %d FETCH (FLAGS (\\Seen))\r\n" % seq for seq in range(1, count + 1))


async def test_row_1_a_thousand_lines_in_one_chunk() -> None:
    plain = Plain()
    task, _ = await start(plain, plain.protocol.fetch("1:*", "(FLAGS)", timeout=1))
    with pytest.raises(RecursionError):
        plain.feed(flags(sys.getrecursionlimit() + 100))
    task.cancel()
    ours = Ours()
    response = await exchange(ours, ours.protocol.fetch("1:*", "(FLAGS)"), flags(50_000) + b"%T OK done\r\n")
    assert (response.result, len(response.lines)) == ("OK", 50_001)


async def test_row_2_the_cost_of_a_response_grows_with_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    async def cost_of_plain(count: int) -> int:
        looked_at = 0
        real = private.matched_parenthesis
        handle = private.IMAP4ClientProtocol._handle_responses

        def noted_match(data: bytes) -> bool:
            nonlocal looked_at
            looked_at += len(data)
            return bool(real(data))

        def noted_handle(self: object, data: bytes, *more: object, **named: object) -> object:
            nonlocal looked_at
            looked_at += len(data)
            return handle(self, data, *more, **named)

        monkeypatch.setattr(private, "matched_parenthesis", noted_match)
        monkeypatch.setattr(private.IMAP4ClientProtocol, "_handle_responses", noted_handle)
        plain = Plain()
        await exchange(plain, plain.protocol.fetch("1:*", "(FLAGS)"), flags(count) + b"%T OK done\r\n")
        monkeypatch.undo()
        return looked_at

    async def cost_of_ours(count: int) -> int:
        looked_at = 0

        def noted(text: bytes, literals: Sequence[Literal]) -> Answer:
            nonlocal looked_at
            looked_at += len(text)
            return read_fetch(text, literals)

        monkeypatch.setattr("imapipe.net.arrivals.read_fetch", noted)
        ours = Ours()
        await exchange(ours, ours.protocol.fetch("1:*", "(FLAGS)"), flags(count) + b"%T OK done\r\n")
        monkeypatch.undo()
        framer = ours.plane._intake._framer
        # Each byte is looked for once by the framer, and moved at most a few times.
        return looked_at + framer.copied_bytes + framer.total_bytes

    assert await cost_of_plain(400) > 3.5 * await cost_of_plain(200)
    small, large = await cost_of_ours(10_000), await cost_of_ours(40_000)
    assert large < 4.5 * small


class Noted(bytes):
    """Bytes that count how often they are made into text."""

    shown = 0

    def __str__(self) -> str:
        Noted.shown += 1
        return "..."


async def test_row_3_every_chunk_is_formatted_for_a_log_that_is_off(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    Noted.shown = 0
    plain = Plain()
    plain.feed(Noted(b"* 3 EXISTS\r\n"))
    assert Noted.shown == 1
    calls: list[object] = []
    ours = Ours()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.Logger, "debug", lambda self, *words: calls.append(words))
        patch.setattr(logging.Logger, "info", lambda self, *words: calls.append(words))
        await exchange(ours, ours.protocol.fetch("1:*", "(FLAGS)"), *[flags(10)] * 10, b"%T OK done\r\n")
    assert calls == []


async def test_row_4_a_timer_for_every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0
    loop = asyncio.get_running_loop()
    real = loop.call_later

    def noted(delay: float, callback: Callable[..., object], *words: object) -> asyncio.TimerHandle:
        nonlocal made
        made += 1
        return real(delay, callback, *words)

    async def timers(side: Side) -> int:
        nonlocal made
        made = 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "call_later", noted)
            task, tag = await start(side, side.protocol.fetch("1:*", "(FLAGS)", timeout=60))
            side.feed(flags(300) + tag + b" OK done\r\n")
            await task
        return made

    assert await timers(Plain()) > 300
    assert await timers(Ours()) <= 2


async def test_row_5_an_asterisk_in_the_middle_is_removed() -> None:
    told = b'* 1 FETCH (ENVELOPE (NIL "5 * 3 = 15" NIL))\r\n%T OK done\r\n'
    plain, ours = Plain(), Ours()
    assert b"5 3 = 15" in (await exchange(plain, plain.protocol.fetch("1", "ENVELOPE"), told)).lines[0]
    assert b"5 * 3 = 15" in (await exchange(ours, ours.protocol.fetch("1", "ENVELOPE"), told)).lines[0]


FORGED = b"* 2 FETCH (UID 666 FLAGS (\\Deleted))\r\n"


async def test_row_6_parentheses_in_strings_decide_whose_line_it_is() -> None:
    told = b'* 1 FETCH (ENVELOPE ("sad :("))\r\n* 2 FETCH (ENVELOPE ("x"))\r\n%T OK done\r\n'
    plain, ours = Plain(), Ours()
    lines = (await exchange(plain, plain.protocol.fetch("1:2", "ENVELOPE"), told)).lines
    assert lines[1].startswith(b"* 2 FETCH")
    lines = (await exchange(ours, ours.protocol.fetch("1:2", "ENVELOPE"), told)).lines
    assert lines[:2] == [b'1 FETCH (ENVELOPE ("sad :("))', b'2 FETCH (ENVELOPE ("x"))']
    # When a chunk ends at the marker, the message is read as protocol: data for a message that was never sent.
    head = b'* 1 FETCH (ENVELOPE ("smile :)") BODY[] {%d}\r\n' % len(FORGED)
    body = FORGED + b")\r\n%T OK done\r\n"
    plain, ours = Plain(), Ours()
    lines = (await exchange(plain, plain.protocol.fetch("1", "BODY[]"), head, body)).lines
    assert b"2 FETCH (UID 666 FLAGS (\\Deleted))" in lines
    lines = (await exchange(ours, ours.protocol.fetch("1", "BODY[]"), head, body)).lines
    assert lines == [head.removeprefix(b"* ").removesuffix(b"\r\n"), bytearray(FORGED), b")", b"done"]


async def test_row_7_markers_where_there_are_none_and_none_where_there_is_one() -> None:
    told = b"* OK quota left {%d}\r\n" % len(flags(1)) + flags(1) + b"%T OK done\r\n"
    plain, ours = Plain(), Ours()
    assert (await exchange(plain, plain.protocol.fetch("1", "FLAGS"), told)).lines == [b"done"]
    assert (await exchange(ours, ours.protocol.fetch("1", "FLAGS"), told)).lines == [
        b"1 FETCH (FLAGS (\\Seen))",
        b"done",
    ]
    told = b"* 1 FETCH (X-ODD a\nb BODY[] {%d}\r\n%b)\r\n%%T OK done\r\n" % (len(FORGED), FORGED)
    plain, ours = Plain(), Ours()
    lines = (await exchange(plain, plain.protocol.fetch("1", "BODY[]"), told)).lines
    assert not any(isinstance(line, bytearray) for line in lines)
    assert (await exchange(ours, ours.protocol.fetch("1", "BODY[]"), told)).lines[1] == bytearray(FORGED)


async def test_row_8_content_can_close_a_command() -> None:
    plain, ours = Plain(), Ours()
    for side, expected in ((plain, b"forged"), (ours, b"done")):
        task, tag = await start(side, side.protocol.fetch("1", "BODY[]"))
        content = tag + b" OK forged\r\n"
        side.feed(b'* 1 FETCH (ENVELOPE ("smile :)") BODY[] {%d}\r\n' % len(content))
        side.feed(content + b")\r\n")
        if side is ours:
            side.feed(tag + b" OK done\r\n")
        assert (await ended(task)).lines[-1] == expected


async def test_row_9_responses_that_are_dropped_or_raise() -> None:
    plain = Plain()
    search = plain.protocol.search("RETURN (ALL) ALL", charset=None, by_uid=True)
    assert (await exchange(plain, search, b'* ESEARCH (TAG "%T") UID ALL 1:5\r\n%T OK done\r\n')).lines == [b"done"]
    expunge = plain.protocol.expunge("1:5", by_uid=True)
    assert (await exchange(plain, expunge, b"* VANISHED 1:2\r\n%T OK done\r\n")).lines == [b"done"]
    fetch = plain.protocol.fetch("1", "FLAGS")
    assert (await exchange(plain, fetch, b"* 1 Fetch (FLAGS ())\r\n%T OK done\r\n")).lines == [b"done"]
    with pytest.raises(UnicodeDecodeError):
        plain.feed(b"* \xdcBERRASCHUNG\r\n")

    ours = Ours()
    search = ours.protocol.search("RETURN (ALL) ALL", charset=None, by_uid=True)
    response = await exchange(ours, search, b'* ESEARCH (TAG "x") UID ALL 1:5\r\n%T OK done\r\n')
    assert response.lines == [b'ESEARCH (TAG "x") UID ALL 1:5', b"done"]
    expunge = ours.protocol.expunge("1:5", by_uid=True)
    assert (await exchange(ours, expunge, b"* VANISHED 1:2\r\n%T OK done\r\n")).lines == [b"VANISHED 1:2", b"done"]
    fetch = ours.protocol.fetch("1", "FLAGS")
    told = b"* \xdcBERRASCHUNG\r\n* 1 Fetch (FLAGS ())\r\n%T OK done\r\n"
    assert (await exchange(ours, fetch, told)).lines == [b"1 Fetch (FLAGS ())", b"done"]


async def test_row_10_three_fetches_at_a_time() -> None:
    async def three(side: Side, seconds: float) -> list[object]:
        tasks = [asyncio.ensure_future(side.protocol.fetch(str(seq), "FLAGS", timeout=seconds)) for seq in (1, 2, 3)]
        answered = 0
        for _ in range(3):
            await turns()
            sent = bytes(side.transport.sent).split(b"\r\n")[:-1]
            for line in sent[answered:]:
                tag, _, rest = line.partition(b" ")
                side.feed(b"* %b FETCH (FLAGS ())\r\n" % rest.split()[1])
                try:
                    side.feed(tag + b" OK done\r\n")
                except private.Abort as error:
                    return [error]
            answered = len(sent)
        return [response.lines for response in await asyncio.gather(*tasks)]

    (died,) = await three(Plain(), 0.01)
    assert isinstance(died, private.Abort)
    await asyncio.sleep(0.02)
    assert await three(Ours(), 5.0) == [[b"%d FETCH (FLAGS ())" % seq, b"done"] for seq in (1, 2, 3)]


@pytest.mark.usefixtures("made_up_time")
async def test_row_11_what_a_timed_out_command_leaves_behind() -> None:
    plain = Plain()
    task, tag = await start(plain, plain.protocol.fetch("1", "FLAGS", timeout=0.01))
    with pytest.raises(private.CommandTimeout):
        await task
    with pytest.raises(private.Abort, match="unexpected tagged"):
        plain.feed(tag + b" OK too late\r\n")
    task, _ = await start(plain, plain.protocol.fetch("2", "FLAGS", timeout=0.1))
    plain.feed(b"* 1 FETCH (FLAGS (late))\r\n")
    with pytest.raises(private.CommandTimeout) as caught:
        await task
    assert caught.value.command.response.lines[0] == b"1 FETCH (FLAGS (late))"

    ours = Ours()
    task, tag = await start(ours, ours.protocol.fetch("1", "FLAGS", timeout=0.01))
    with pytest.raises(private.CommandTimeout):
        await task
    assert ours.transport.is_aborted
    ours.feed(b"* 1 FETCH (FLAGS (late))\r\n" + tag + b" OK too late\r\n")
    with pytest.raises(private.CommandTimeout):
        await ours.protocol.fetch("2", "FLAGS", timeout=0.1)


@pytest.mark.usefixtures("made_up_time")
async def test_row_12_a_lost_connection_fails_nobody() -> None:
    plain, ours = Plain(), Ours()
    for side in (plain, ours):
        tasks = [
            (await start(side, side.protocol.store("1", "+FLAGS", "(x)", by_uid=True)))[0],
            (await start(side, side.protocol.copy("1", "Sent", by_uid=True)))[0],
        ]
        (side.protocol if side is plain else ours.plane).connection_lost(ConnectionResetError("reset"))
        done, pending = await asyncio.wait(tasks, timeout=0.05)
        assert len(done) == (0 if side is plain else 2)
        for task in done:
            assert isinstance(task.exception(), ConnectionLost)
        for task in pending:
            task.cancel()


async def test_row_13_nothing_holds_the_server_back() -> None:
    message = b"* %d FETCH (UID %d BODY[] {10000}\r\n" + b"x" * 10_000 + b")\r\n"
    plain = Plain()
    task, _ = await start(plain, plain.protocol.fetch("1:500", "BODY[]", by_uid=True))
    for uid in range(1, 501):
        plain.feed(message % (uid, uid))
    assert plain.transport.pauses == 0
    held = next(iter(plain.protocol.pending_async_commands.values()))
    assert sum(map(len, held._resp_lines)) > 5_000_000
    task.cancel()

    ours = Ours(options=PlaneOptions(max_held_bytes=100_000))
    fetch = Fetch(section="")
    messages: list[Message] = []
    context = MessageContext("INBOX", 1, fetch)
    shape = compile_shape(("UID", *fetch.names))
    ours.plane.submit(FetchCommand([b"UID FETCH 1:500 x\r\n"], UidSet.parse("1:500"), context, shape, messages.extend))
    for uid in range(1, 501):
        ours.feed(message % (uid, uid))
    assert ours.transport.pauses == 1
    assert 100_000 < ours.plane.holdings.held_bytes < 100_000 + 2 * len(message)


async def test_row_14_capabilities_with_brackets() -> None:
    told = b"%T OK [CAPABILITY IMAP4rev1 IDLE MOVE] Logged in\r\n"
    plain, ours = Plain(private.NONAUTH), Ours(private.NONAUTH)
    plain.protocol.capabilities = set()
    await exchange(plain, plain.protocol.login("ann", "secret"), told)
    assert {"[CAPABILITY", "MOVE]"} & plain.protocol.capabilities
    assert "MOVE" not in plain.protocol.capabilities
    await exchange(ours, ours.protocol.login("ann", "secret"), told)
    assert ours.protocol.capabilities == {"IMAP4REV1", "IDLE", "MOVE"}
    assert ours.protocol.state == private.AUTH


async def test_row_15_the_state_after_examine_and_after_a_refused_select() -> None:
    async def states(side: Side) -> list[str]:
        seen = []
        for work, told in (
            (side.protocol.simple_command("EXAMINE", "INBOX"), b"* 3 EXISTS\r\n%T OK [READ-ONLY] done\r\n"),
            (side.protocol.select("INBOX"), b"* 3 EXISTS\r\n%T OK done\r\n"),
            (side.protocol.select("missing"), b"%T NO none\r\n"),
        ):
            await exchange(side, work, told)
            seen.append(side.protocol.state)
        return seen

    assert await states(Plain(private.AUTH)) == ["AUTH", "SELECTED", "SELECTED"]
    ours = Ours(private.AUTH)
    assert await states(ours) == ["SELECTED", "SELECTED", "AUTH"]
    assert "UNSELECT" not in private.Commands
    await exchange(ours, ours.protocol.select("INBOX"), b"%T OK done\r\n")
    unselect = ours.protocol.execute(private.Command("UNSELECT", ours.protocol.new_tag()))
    await exchange(ours, unselect, b"%T OK done\r\n")
    assert ours.protocol.state == private.AUTH


async def test_row_16_names_are_neither_quoted_nor_encoded() -> None:
    names = ("My Folder é", "Entwürfe", "INBOX", "R&-D", '"quoted already"', "INBOX.&AOk-t&AOk-", 'a"b')

    async def sent(side: Side) -> list[str]:
        for name in names:
            await exchange(side, side.protocol.select(name), b"%T OK done\r\n")
        await exchange(side, side.protocol.copy("1", "My Folder", by_uid=True), b"%T OK done\r\n")
        await exchange(side, side.protocol.simple_command("LIST", '""', "My *"), b"%T OK done\r\n")
        return [line.partition(" ")[2] for line in side.transport.take_sent().decode().split("\r\n")[:-1]]

    lines = await sent(Plain())
    assert lines[0] == "SELECT My Folder é"
    assert lines[7] == "UID COPY 1 My Folder"
    assert await sent(Ours()) == [
        'SELECT "My Folder &AOk-"',
        "SELECT Entw&APw-rfe",
        "SELECT INBOX",
        "SELECT R&-D",
        'SELECT "quoted already"',
        "SELECT INBOX.&AOk-t&AOk-",
        'SELECT "a\\"b"',
        'UID COPY 1 "My Folder"',
        'LIST "" "My *"',
    ]
    plain, ours = Plain(private.NONAUTH), Ours(private.NONAUTH)
    for side in (plain, ours):
        await exchange(side, side.protocol.login("ann b", "se cret"), b"%T NO\r\n")
    assert plain.transport.take_sent().endswith(b' LOGIN ann b "se cret"\r\n')
    assert ours.transport.take_sent().endswith(b' LOGIN "ann b" "se cret"\r\n')


async def test_row_17_every_search_has_a_charset() -> None:
    async def sent(side: Side, *criteria: str) -> bytes:
        await exchange(side, side.protocol.search(*criteria, by_uid=True), b"* SEARCH 1\r\n%T OK done\r\n")
        return side.transport.take_sent().partition(b" ")[2]

    assert await sent(Plain(), "ALL") == b"UID SEARCH CHARSET utf-8 ALL\r\n"
    assert await sent(Ours(), "ALL") == b"UID SEARCH ALL\r\n"
    assert await sent(Ours(), "RETURN (ALL)", "UNSEEN") == b"UID SEARCH RETURN (ALL) UNSEEN\r\n"
    assert await sent(Ours(), "SUBJECT", '"Grüße"') == 'UID SEARCH CHARSET utf-8 SUBJECT "Grüße"\r\n'.encode()


async def test_row_18_a_refused_token_is_waited_for_in_vain() -> None:
    plain, ours = Plain(private.NONAUTH), Ours(private.NONAUTH)
    for side in (plain, ours):
        task, tag = await start(side, side.protocol.xoauth2("ann", "expired"))
        side.transport.take_sent()
        side.feed(b"+ eyJzdGF0dXMiOiI0MDAifQ==\r\n")
        await turns()
        if side is plain:
            assert side.transport.take_sent() == b""
            task.cancel()
        else:
            assert side.transport.take_sent() == b"\r\n"
            side.feed(tag + b" NO [AUTHENTICATIONFAILED] Invalid credentials\r\n")
            assert (await task).result == "NO"


async def test_row_19_goodbyes() -> None:
    plain, ours = Plain(), Ours()
    for side in (plain, ours):
        await exchange(side, side.protocol.logout(), b"* BYE see you\r\n%T OK done\r\n")
        assert side.transport.is_closing() is (side is ours)
    assert ours.protocol.state == private.LOGOUT
    # The callback for a lost connection: IMAP4_SSL has no way to name one, an adopted client keeps its own.
    assert "conn_lost_cb" not in inspect.signature(aioimaplib.IMAP4_SSL).parameters
    heard: list[Exception | None] = []
    session = Session(greeted=True)
    plane = Dataplane(session)
    BridgeProtocol(plane, session, heard.append)
    plane.abort(ConnectionLost("gone"))
    await turns()
    assert [str(error) for error in heard] == ["no connection: gone"]
    # close() is IMAP CLOSE, which expunges; nothing of ours ever sends it.
    await exchange(plain2 := Plain(), plain2.protocol.close(), b"%T OK done\r\n")
    assert plain2.transport.take_sent().endswith(b" CLOSE\r\n")
    async with Server(3) as server:
        server.mailboxes["INBOX"].set_flags(2, frozenset({"\\Deleted"}))
        async with imapipe.create_pool(server.url, password="secret") as pool, pool.acquire() as connection:
            await connection.select("INBOX")
            await connection.unselect()
            await connection.select("INBOX")
        assert list(server.mailboxes["INBOX"].uids) == [1, 2, 3]
        assert not {"CLOSE", "EXPUNGE", "UID EXPUNGE"} & set(server.commands.names)


async def test_row_20_two_messages_appended_at_a_time() -> None:
    async def two(side: Side) -> bytes:
        tasks = [asyncio.ensure_future(side.protocol.append(message)) for message in (b"first", b"the second")]
        sent = b""
        for count in (1, 2):
            await turns()
            sent = bytes(side.transport.sent)
            if sent.count(b" APPEND ") == count:
                side.feed(b"+ go on\r\n")
                tag = sent.rpartition(b" APPEND ")[0].rpartition(b"\r\n")[2]
                await turns()
                sent = bytes(side.transport.sent)
                if side is plain:
                    break
                side.feed(tag + b" OK done\r\n")
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return b"\r\n".join(re.sub(rb"\A[A-P]+\d+ ", b"T ", line) for line in sent.split(b"\r\n"))

    plain = Plain()
    assert await two(plain) == b"T APPEND INBOX {5}\r\nthe second\r\n"
    assert await two(Ours()) == b"T APPEND INBOX {5}\r\nfirst\r\nT APPEND INBOX {10}\r\nthe second\r\n"


@pytest.fixture
def no_plain_words() -> None:
    """What aioimaplib has no word for."""
    words = ("starttls", "compress", "authenticate", "plain", "oauthbearer", "unselect")
    assert not [word for word in words if hasattr(aioimaplib.IMAP4, word)]
    assert "sock" not in inspect.signature(aioimaplib.IMAP4).parameters


@pytest.mark.usefixtures("no_plain_words")
async def test_last_row_what_is_missing() -> None:
    """STARTTLS, PLAIN and OAUTHBEARER are in test_dial; here the rest, on one connection."""
    bodies = ["Subject: Grüße\r\n\r\nx".encode(), b"Subject: y\r\n\r\ny"]
    sockets = 0

    async def open_socket(host: str, port: int) -> socket.socket:
        """Where a proxy would be asked for a connection."""
        nonlocal sockets
        sockets += 1
        loop = asyncio.get_running_loop()
        connected = socket.socket()
        connected.setblocking(False)
        await loop.sock_connect(connected, (host, port))
        return connected

    async with (
        Server({"INBOX": bodies, "Über": bodies}) as server,
        imapipe.create_pool(server.url, password="secret", compress=True, open_socket=open_socket) as pool,
        pool.acquire() as connection,
    ):
        assert isinstance(connection, Connection)
        assert (sockets, connection.plane.is_compressed) == (1, True)
        assert (await connection.examine("INBOX")).exists == 2
        answer = await connection.uid_search(imapipe.search.subject("Grüße").program(today=TODAY, literal_plus=True))
        assert list(answer.uids) == [1]
        await connection.enable("UTF8=ACCEPT")
        assert (await connection.examine("Über")).exists == 2
        record = server.commands.named("UID SEARCH")[0]
        assert "RETURN (ALL COUNT)" in record.arguments
        assert "+}" in record.arguments
