"""The account of a connection: what is on it is counted in and out once, whatever a server answers."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import imapipe
from imapipe import search as q
from imapipe.models.message import Message, MessageContext
from imapipe.net.connection import Connection
from imapipe.net.dataplane import Dataplane
from imapipe.net.holdings import Holdings, Reserve
from imapipe.net.session import Session
from imapipe.wire.command.fetch import Fetch
from scripted_server import AnsweringServer, FakeTransport

LARGE = 17_000
SPOOL_ABOVE = 1024


class Spooled:
    """Stands in for a literal in a temporary file."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size


def message(size: int, spooled: int = 0, uid: int = 1) -> Message:
    literals = (Spooled(spooled),) if spooled else ()
    return Message(MessageContext("INBOX", 1, Fetch("flags")), uid, size, None, None, literals)  # type: ignore[arg-type]


def counts(holdings: Holdings) -> tuple[int, int]:
    return holdings.held_bytes, holdings.spooled_bytes


def test_a_message_is_released_once_and_whole() -> None:
    holdings = Holdings(1000, 1000, 1000, 1000, Reserve())
    one, other = message(300), message(700, spooled=600)
    holdings.hold([one, other])
    assert counts(holdings) == (400, 600)
    for _ in range(3):
        holdings.release(other)
        assert counts(holdings) == (300, 0)
    holdings.release(one)
    assert holdings.is_empty


def test_what_is_joined_holds_the_bytes_of_both_and_they_hold_nothing() -> None:
    holdings = Holdings(1000, 1000, 1000, 1000, Reserve())
    context = MessageContext("INBOX", 1, Fetch("flags"))
    one = Message.from_items(context, 1, 100, {})
    other = Message.from_items(context, 1, 900, {}, (Spooled(800),))  # type: ignore[arg-type]
    holdings.hold([one, other])
    whole = one.joined(other)
    for part in (one, other):
        holdings.release(part)
    assert counts(holdings) == (200, 800)
    holdings.release(whole)
    assert holdings.is_empty


def test_what_is_joined_of_something_released_is_held_by_nobody() -> None:
    holdings = Holdings(1000, 1000, 1000, 1000, Reserve())
    context = MessageContext("INBOX", 1, Fetch("flags"))
    one, other = Message.from_items(context, 1, 100, {}), Message.from_items(context, 1, 200, {})
    holdings.hold([one, other])
    holdings.release(one)
    whole = one.joined(other)
    holdings.release(whole)
    assert counts(holdings) == (200, 0)
    holdings.release(other)
    assert holdings.is_empty


# -- whole runs, random answers ----------------------------------------------------------------------------------------

ITEMS = [
    b"FLAGS (\\Seen)",
    b"FLAGS (",
    b"RFC822.SIZE 600",
    b"RFC822.SIZE 0",
    b"RFC822.SIZE 129",
    b"RFC822.SIZE abc",
    b'INTERNALDATE "17-Jul-1996 02:44:25 -0700"',
    b"BODY[] NIL",
    b"BODY[] {5}\r\nA: b\r\n",
    b"BODY[] {%d}\r\n%b" % (LARGE, b"x" * LARGE),
    b"BODY[1] {%d}\r\n%b" % (LARGE, b"y" * LARGE),
    b"BODY[1] {3}\r\nabc",
    b"BODY[HEADER] {%d}\r\n%b" % (LARGE, b"z" * LARGE),
    b"X-NEW {%d}\r\n%b" % (LARGE, b"n" * LARGE),
    b'BODYSTRUCTURE ("TEXT" "PLAIN" NIL NIL NIL "7BIT" 5 1)',
    b"BODYSTRUCTURE {%d}\r\n%b" % (LARGE, b"(" * LARGE),
    b"BODYSTRUCTURE ((((",
    b'ENVELOPE ("x" "y" NIL NIL NIL NIL NIL NIL NIL NIL)',
    b"ENVELOPE (NIL {%d}\r\n%b NIL NIL NIL NIL NIL NIL NIL NIL)" % (LARGE, b"s" * LARGE),
]
ENDS = [b"TAG OK done\r\n", b"TAG OK [EXPUNGEISSUED] done\r\n", b"TAG NO no\r\n", b"TAG BAD bad\r\n", b"* BYE so\r\n"]
JOBS = [("size",), ("flags",), ("full",), ("headers",), ("structure",), ("envelope",), ("text",)]


def random_answer(rng: random.Random, usual: bytes) -> bytes:
    """Answers to a FETCH: what is usual, with what is not among it, before it, in the place of it."""
    told: list[bytes] = []
    for _ in range(rng.randrange(8)):
        items = rng.sample(ITEMS, rng.randrange(1, 5))
        if rng.random() < 0.9:
            items.insert(rng.randrange(len(items) + 1), b"UID %d" % rng.randrange(1, 5))
        told.append(
            b"* %d FETCH (%b%b\r\n" % (rng.randrange(1, 5), b" ".join(items), rng.choice([b")", b")", b")", b""]))
        )
    if rng.random() < 0.7:
        told.insert(rng.randrange(len(told) + 1), usual)
    return b"".join(told) + rng.choices(ENDS, [12, 2, 1, 1, 1])[0]


def usual_answer(command: bytes) -> bytes:
    values = {
        b"FLAGS": b"FLAGS ()",
        b"INTERNALDATE": b'INTERNALDATE "17-Jul-1996 02:44:25 -0700"',
        b"RFC822.SIZE": b"RFC822.SIZE 600",
        b"ENVELOPE": ITEMS[-2],
        b"BODYSTRUCTURE": ITEMS[14],
        b"BODY.PEEK[HEADER]": ITEMS[12],
        b"BODY.PEEK[1]": ITEMS[10],
        b"BODY.PEEK[]": ITEMS[9],
    }
    items = [value for name, value in values.items() if name in command]
    return b"".join(b"* %d FETCH (UID %d %b)\r\n" % (uid, uid, b" ".join(items)) for uid in (1, 2, 3))


@pytest.mark.parametrize("fetch", JOBS, ids="-".join)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(seed=st.integers(0, 1 << 32))
def test_after_every_run_nothing_is_held(fetch: tuple[str, ...], seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    planes: list[Dataplane] = []
    make = Dataplane.__init__

    def noted(plane: Dataplane, *args: object) -> None:
        make(plane, *args)  # type: ignore[arg-type]
        planes.append(plane)

    def answer(command: bytes) -> bytes | None:
        return random_answer(rng, usual_answer(command)) if command.startswith(b"UID FETCH") else None

    async def handle(_: Message) -> None:
        if rng.random() < 0.2:
            raise ValueError

    async def run() -> imapipe.RunReport:
        async with (
            AnsweringServer(answer) as server,
            imapipe.create_pool(
                server.url, password="secret", spool_above=SPOOL_ABOVE, max_held_bytes=20_000, max_spool_bytes=2 * LARGE
            ) as pool,
        ):
            batch = imapipe.FixedBatch(2, max_bytes=1000 if rng.random() < 0.5 else None)
            return await pool.mailbox("INBOX").search(q.ALL).batch(batch).fetch(*fetch).run(handle)

    with monkeypatch.context() as patched:
        patched.setattr(Dataplane, "__init__", noted)
        try:
            report = asyncio.run(run())
        except imapipe.ImapipeError:
            # What a server says while the sizes are asked for ends the run; nothing is held by it either.
            report = None
    if report is not None:
        assert report.planned == report.done + report.vanished + report.failed == 3
    assert planes
    for plane in planes:
        assert plane.holdings.is_empty


@pytest.mark.parametrize("turns", range(1, 6))
@pytest.mark.asyncio
async def test_who_is_cancelled_while_he_reads_an_answer_keeps_nothing_of_it(turns: int) -> None:
    """The command has its reply by then, so the end of the connection is not told to it any more."""
    session = Session(logged_in=True, greeted=True)
    plane = Dataplane(session)
    transport = FakeTransport(plane)
    plane.greeting.set_result(b"")
    counting = asyncio.create_task(Connection(None, plane, session)._count_once(["a", "b"], ["MESSAGES"]))
    await asyncio.sleep(0)
    transport.feed(b"* STATUS a (MESSAGES 1)\r\n" + b"* 7 EXISTS\r\n" * 250)
    transport.feed(b"* 7 EXISTS\r\n" * 250 + b"P1 OK\r\n")
    for _ in range(turns):
        await asyncio.sleep(0)
    counting.cancel()
    await asyncio.wait((counting,))
    assert plane.error is not None
    assert plane.holdings.is_empty
