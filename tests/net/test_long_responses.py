"""Long responses are read in threads: the event loop reads how they begin, and all keep their order.

What a response costs is counted in bytes: those that a parser is given in the thread of the event loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Final

import pytest

from imapipe.errors import CommandTimeout, ConnectionLost, ProtocolError
from imapipe.models import attributes
from imapipe.models.message import Message, MessageContext
from imapipe.net import long_responses, session
from imapipe.net.changed_flags import fetch_changed_flags
from imapipe.net.command import FetchCommand
from imapipe.net.connection import Connection
from imapipe.net.dataplane import Dataplane
from imapipe.net.options import PlaneOptions
from imapipe.net.session import SelectedMailbox, Session
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.command.store import FlagChange
from imapipe.wire.response import salvage
from imapipe.wire.response.limits import LONG_BYTES
from imapipe.wire.response.salvage import Answer, read_fetch
from imapipe.wire.response.shape import compile_shape
from imapipe.wire.uid_set import UidSet
from scripted_server import FakeTransport

# By what is long: the preset, the answer, and one with the same items and little in them.
_REST: Final = b'FLAGS () INTERNALDATE "17-Jul-1996 02:44:25 -0700" RFC822.SIZE 7'
_ENVELOPE: Final = _REST + b' ENVELOPE ("Fri, 21 Nov 1997 09:55:06 -0600" "s" NIL NIL NIL %b NIL NIL NIL "<x>")'
_STRUCTURE: Final = _ENVELOPE % b"NIL" + b" BODYSTRUCTURE "
_PART: Final = b'("TEXT" "PLAIN" NIL NIL NIL "7BIT" 4 1)'
ANSWERS: Final = {
    "flags": ("flags", b"FLAGS (%b)" % b" ".join(b"$k%d" % n for n in range(4000)), b"FLAGS ()"),
    "too many flags": ("flags", b"FLAGS (%b)" % (b"a " * 60_000), b"FLAGS ()"),
    "envelope": ("envelope", _ENVELOPE % (b"(%b)" % (b'(NIL NIL "a" "b")' * 6000)), _ENVELOPE % b"NIL"),
    "structure": ("structure", _STRUCTURE + b'(%b "MIXED")' % (_PART * 900), _STRUCTURE + _PART),
    "too many parts": ("structure", _STRUCTURE + b'(%b "MIXED")' % (_PART * 9000), _STRUCTURE + _PART),
    "parentheses": ("structure", _STRUCTURE + b"(" * 90 + b"(()())" * 20_000 + b")" * 90, _STRUCTURE + _PART),
    "broken": ("flags", b"FLAGS ((%b)" % (b"a(b " * 30_000), b"FLAGS ()"),
}
UIDS: Final = b",".join(b"%d" % (2 * number) for number in range(1, 10_000))
GONE: Final = b",".join(b"%d:%d" % (10 * uid, 10 * uid + 5) for uid in range(1, 10_001))


class Line:
    """A data plane with a FETCH of three messages in flight, and how much parsers were given in its thread."""

    def __init__(self, preset: str, options: PlaneOptions | None = None) -> None:
        self.session = Session(logged_in=True, selected=SelectedMailbox("INBOX", exists=100_000))
        self.plane = Dataplane(self.session, options)
        self.transport = FakeTransport(self.plane)
        self.transport.feed(b"* OK ready\r\n")
        self.messages: list[Message] = []
        fetch = Fetch(preset)
        shape = compile_shape(("UID", *fetch.names))
        line = b"UID FETCH 1:3 %b\r\n" % fetch.command()
        uids = UidSet.parse("1:3")
        self.command = FetchCommand([line], uids, MessageContext("INBOX", 1, fetch), shape, self.messages.extend)
        self.plane.submit(self.command)


class Reading:
    """What was read: in the thread of the event loop, and elsewhere."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self.here: list[int] = [0]
        self.elsewhere: list[int] = [0]

    def count(self, parse: Callable[..., object]) -> Callable[..., object]:
        def counted(text: bytes, *arguments: object) -> object:
            (self.here if threading.get_ident() == self._thread else self.elsewhere).append(len(text))
            return parse(text, *arguments)

        return counted


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Reading:
    counts = Reading()
    for module, name in (
        (salvage, "scan_fetch"),
        (salvage, "salvage_fetch"),
        (session, "parse_response"),
        (long_responses, "parse_response"),
        (attributes, "parse_envelope"),
        (attributes, "parse_body_structure"),
    ):
        monkeypatch.setattr(module, name, counts.count(getattr(module, name)))
    return counts


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.asyncio
async def test_the_event_loop_reads_nothing_long_and_the_order_holds(reading: Reading, kind: str) -> None:
    preset, long, short = ANSWERS[kind]
    line = Line(preset)
    line.transport.feed(
        b"* 1 FETCH (UID 1 %b)\r\n* 2 FETCH (UID 2 %b)\r\n* 7 RECENT\r\n* 3 FETCH (UID 3 %b)\r\n%b OK\r\n"
        % (short, long, short, line.command.tag)
    )
    assert line.transport.is_paused
    assert [message.uid for message in line.messages] == [1]
    await line.command.finished
    told = [message.uid for message in line.messages]
    assert told == sorted(told)
    assert {*told, *line.command.malformed, *line.command.missing} == {1, 2, 3}
    assert max(reading.elsewhere) >= len(long)
    for message in line.messages:
        try:
            getattr(message, preset)
        except ProtocolError:
            assert message.uid == 2
    assert max(reading.here) <= LONG_BYTES
    assert not line.transport.is_paused


@pytest.mark.asyncio
async def test_what_is_deleted_at_once_is_counted_by_a_thread(reading: Reading) -> None:
    line = Line("flags")
    line.transport.feed(b"* VANISHED %b\r\n* VANISHED 100003\r\n%b OK\r\n" % (GONE, line.command.tag))
    await line.command.finished
    assert line.session.selected is not None
    assert line.session.selected.exists == 100_000 - 60_000 - 1
    assert max(reading.here) <= LONG_BYTES
    line = Line("flags")
    line.transport.feed(b"* VANISHED %b\r\n%b OK\r\n" % (GONE + b",x:", line.command.tag))
    line.transport.feed(b"* VANISHED (EARLIER) %b\r\n* 3 EXISTS\r\n" % GONE)
    await line.command.finished
    assert line.session.selected is not None
    assert line.session.selected.exists in (3, 100_000 - 60_000)


@pytest.mark.asyncio
async def test_a_connection_that_ends_meanwhile_forgets_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = threading.Event()

    def wait(text: bytes, literals: tuple[bytes, ...]) -> Answer:
        goes_on.wait(60)
        return read_fetch(text, literals)

    monkeypatch.setattr(long_responses, "read_fetch", wait)
    line = Line("flags")
    line.transport.feed(b"* 1 FETCH (UID 1 FLAGS ())\r\n* 2 FETCH (UID 2 %b)\r\n" % ANSWERS["flags"][1])
    line.plane.abort(ConnectionLost("gone"))
    goes_on.set()
    await asyncio.get_running_loop().shutdown_default_executor()
    await asyncio.sleep(0)
    assert [message.uid for message in line.messages] == [1]
    assert line.command.missing == UidSet.parse("2:3")
    with pytest.raises(ConnectionLost):
        await line.command.finished


@pytest.mark.asyncio
async def test_what_a_thread_cannot_read_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(text: bytes, literals: tuple[bytes, ...]) -> Answer:
        raise MemoryError

    monkeypatch.setattr(long_responses, "read_fetch", fail)
    line = Line("flags")
    line.transport.feed(b"* 2 FETCH (UID 2 %b)\r\n" % ANSWERS["flags"][1])
    with pytest.raises(BaseException) as raised:
        await line.command.finished
    assert isinstance(raised.value.__cause__ or raised.value, MemoryError)
    assert not line.plane.is_usable


@pytest.mark.asyncio
async def test_a_server_is_not_silent_while_a_thread_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    began, goes_on = threading.Event(), threading.Event()

    def wait(text: bytes, literals: tuple[bytes, ...]) -> Answer:
        began.set()
        goes_on.wait(60)
        return read_fetch(text, literals)

    monkeypatch.setattr(long_responses, "read_fetch", wait)
    line = Line("flags", PlaneOptions(command_timeout_seconds=0.02, stall_timeout_seconds=0.02))
    line.transport.feed(b"* 2 FETCH (UID 2 %b)\r\n" % ANSWERS["envelope"][1])
    await asyncio.to_thread(began.wait, 60)
    await asyncio.sleep(0.1)
    assert line.plane.is_usable
    goes_on.set()
    with pytest.raises(CommandTimeout):
        await line.command.finished


@pytest.mark.parametrize("verb", ["copy", "move", "store", "changes"])
@pytest.mark.asyncio
async def test_long_sets_in_the_answers_to_a_change_are_read_by_threads(
    monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    here = threading.get_ident()
    read_here: list[int] = [0]
    parse = UidSet.parse

    def counted(text: bytes) -> UidSet:
        if threading.get_ident() == here:
            read_here.append(len(text))
        return parse(text)

    script = {
        "copy": b"TAG OK [COPYUID 7 %b %b] done" % (UIDS, UIDS),
        "move": b"* OK [COPYUID 7 %b %b] moved\r\nTAG OK done" % (UIDS, UIDS),
        "store": b"TAG OK [MODIFIED %b] done" % UIDS,
        "changes": b"* VANISHED (EARLIER) %b\r\nTAG OK done" % UIDS,
    }
    plane_session = Session(frozenset({"MOVE", "CONDSTORE", "QRESYNC"}), logged_in=True)
    plane_session.selected = SelectedMailbox("INBOX")
    connection = Connection(None, Dataplane(plane_session), plane_session)
    transport = FakeTransport(connection.plane)
    transport.feed(b"* OK ready\r\n")
    some = UidSet.parse("1:9")
    asked: Coroutine[object, object, object]
    if verb == "copy":
        asked = connection.uid_copy(some, "Archive")
    elif verb == "move":
        asked = connection.uid_move(some, "Archive")
    elif verb == "store":
        asked = connection.uid_store(some, FlagChange.ADD, ["\\Seen"], unchanged_since=1)
    else:
        asked = fetch_changed_flags(connection, 1, vanished=True)
    task = asyncio.ensure_future(asked)
    await asyncio.sleep(0)
    tag = transport.take_sent().partition(b" ")[0]
    monkeypatch.setattr(UidSet, "parse", counted)
    transport.feed(script[verb].replace(b"TAG", tag) + b"\r\n")
    assert "of 9999 UIDs" in repr(await task)
    assert max(read_here) <= LONG_BYTES
