"""What our encoder writes, a real server and the testing server read as meant."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from dovecot_server import DovecotServer
from imapipe import search as q
from imapipe.models.message import Message
from imapipe.net.account import parse_url
from imapipe.net.authentication import Credentials
from imapipe.net.connection import Connection
from imapipe.net.dial import DialOptions, dial
from imapipe.testing import Server
from imapipe.wire.command.append import NewMessage
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.command.store import FlagChange
from imapipe.wire.literal_argument import Body
from imapipe.wire.uid_set import UidSet

pytestmark = pytest.mark.asyncio

NAMES = [
    "Entwürfe",
    "R&D",
    'a "b" \\c',
    "日本語/東京",
    "😀",
    "&",
    "a b",
    "Sent & Öl &-",
    "x%",
    "x*",
    "(a)",
    "{5}",
]
SERVERS = ["dovecot", "testing", "testing, plain"]


@asynccontextmanager
async def connected(which: str, request: pytest.FixtureRequest) -> AsyncIterator[Connection]:
    """A connection with an empty account on one of the servers."""
    if which == "dovecot":
        dovecot: DovecotServer = request.getfixturevalue("dovecot")
        user = dovecot.new_user()
        async with logged_in(dovecot.url(user, tls=False), user, dovecot.password) as connection:
            yield connection
        return
    extensions = "plain" if which.endswith("plain") else "modern"
    async with Server({"INBOX": 0}, extensions=extensions) as server:
        async with logged_in(f"imap://ann@127.0.0.1:{server.port}", "ann", "secret") as connection:
            yield connection
        assert not [record for record in server.commands if record.outcome not in ("OK", "NO")]


@asynccontextmanager
async def logged_in(url: str, user: str, password: str) -> AsyncIterator[Connection]:
    credentials = Credentials(user, password, None)
    connection = await dial(DialOptions(account=parse_url(url), credentials=credentials))
    try:
        yield connection
    finally:
        await connection.logout()


async def fetch(connection: Connection, what: Fetch) -> list[Message]:
    """All messages of the open mailbox."""
    found: list[Message] = []

    def take(messages: list[Message]) -> None:
        found.extend(messages)
        for message in messages:
            connection.release(message)

    answer = await connection.uid_search(q.ALL.program(today=date(2024, 6, 1)))
    command = connection.uid_fetch(answer.uids, what, take)
    assert (await command.finished).status == "OK"
    return sorted(found, key=lambda message: message.uid)


@pytest.mark.parametrize(("which", "utf8"), [*((which, False) for which in SERVERS), ("testing", True)])
async def test_names_of_mailboxes(which: str, utf8: bool, request: pytest.FixtureRequest) -> None:
    async with connected(which, request) as connection:
        if utf8:
            assert "UTF8=ACCEPT" in await connection.enable("UTF8=ACCEPT")
        for name in NAMES:
            await connection.create(name)
            assert (await connection.status(name, ["MESSAGES", "UIDNEXT"])).messages == 0
            await connection.subscribe(name)
            await connection.unsubscribe(name)
            assert (await connection.examine(name)).name == name
            await connection.unselect()
        listed = {entry.name for entry in await connection.list()}
        assert set(NAMES) <= listed
        for name in NAMES:
            if not {"%", "*"} & set(name):
                assert [entry.name for entry in await connection.list(name)] == [name]
        # Wildcards stay wildcards; an empty pattern asks for the separator (RFC 9051 §6.3.9).
        assert {entry.name for entry in await connection.list("x%", status_items=["MESSAGES"])} == {"x%", "x*"}
        assert {entry.name for entry in await connection.list("日本語/*")} == {"日本語/東京"}
        assert [entry.name for entry in await connection.list("")] in ([], [""])
        await connection.rename('a "b" \\c', "Ü & \\ (neu)")
        await connection.delete("&")
        assert {entry.name for entry in await connection.list()} ^ listed == {'a "b" \\c', "Ü & \\ (neu)", "&"}


@pytest.mark.parametrize("which", SERVERS)
async def test_messages_flags_and_dates(which: str, request: pytest.FixtureRequest) -> None:
    zone = timezone(timedelta(hours=-5, minutes=-30))
    moment = datetime(2024, 3, 1, 2, 3, 4, tzinfo=zone)
    async with connected(which, request) as connection:
        await connection.create("Übersicht")
        body = b"Subject: one\r\n\r\nP9 OK forged {5}\r\n"
        flags = (
            ["\\Seen", "\\Flagged", "$Junk", "a.b-c", "}"] if which != "dovecot" else ["\\Seen", "\\Flagged", "$Junk"]
        )
        found = await connection.append("Übersicht", NewMessage(body, flags, moment))
        assert (found is not None) is connection.offers("UIDPLUS")
        await connection.append("Übersicht", NewMessage(b"Subject: two\r\n\r\n"))
        await connection.select("Übersicht")
        first, second = await fetch(connection, Fetch("full"))
        assert (first.body, second.body) == (body, b"Subject: two\r\n\r\n")
        assert first.flags - {"\\Recent"} == set(flags)
        assert first.internal_date == moment
        both = UidSet.from_numbers([first.uid, second.uid])
        await connection.uid_store(both, FlagChange.ADD, ["$Label1", "\\Answered"])
        await connection.uid_store(both, FlagChange.REMOVE, ["\\Seen", "$Junk"], silent=False)
        first, second = await fetch(connection, Fetch("flags"))
        assert second.flags - {"\\Recent"} == {"$Label1", "\\Answered"}
        await connection.uid_store(both, FlagChange.REPLACE, [])
        first, second = await fetch(connection, Fetch("flags"))
        assert (first.flags | second.flags) - {"\\Recent"} == set()
        copied = await connection.uid_copy(both, "INBOX")
        assert (copied is not None) is connection.offers("UIDPLUS")
        if connection.offers("CONDSTORE"):
            left = await connection.uid_store(both, FlagChange.ADD, ["\\Seen"], unchanged_since=1)
            assert left == both
        if connection.offers("UIDPLUS"):
            await connection.uid_store(both, FlagChange.ADD, ["\\Deleted"])
            await connection.uid_expunge(UidSet.from_numbers([first.uid]))
            assert [message.uid for message in await fetch(connection, Fetch("flags"))] == [second.uid]
        if connection.offers("MOVE"):
            moved = await connection.uid_move(UidSet.from_numbers([second.uid]), "INBOX")
            assert moved is None or [*moved.source] == [second.uid]
            assert connection.selected is not None
            assert connection.selected.exists == 0


@pytest.mark.parametrize("which", SERVERS)
async def test_a_large_message_from_a_file_and_from_a_source(which: str, request: pytest.FixtureRequest) -> None:
    line = b"".join(b"%07d " % number for number in range(9)) + b"\r\n"
    large = b"Subject: large\r\n\r\n" + line * 60_000
    assert len(large) > 4_000_000

    async def source() -> AsyncIterator[bytes]:
        for start in range(0, len(large), 100_001):
            await asyncio.sleep(0)
            yield large[start : start + 100_001]

    bodies: list[bytes | Body] = [large, Body.from_file(io.BytesIO(large)), Body(source(), len(large))]
    async with connected(which, request) as connection:
        messages = [NewMessage(body, ["\\Seen"]) for body in (*bodies, b"Subject: small\r\n\r\n")]
        if connection.offers("MULTIAPPEND"):
            await connection.append("INBOX", *messages)
        else:
            for message in messages:
                await connection.append("INBOX", message)
        await connection.examine("INBOX")
        digests = [hashlib.sha256(message.body).digest() for message in await fetch(connection, Fetch("full"))]
    assert digests == [hashlib.sha256(large).digest()] * 3 + [hashlib.sha256(b"Subject: small\r\n\r\n").digest()]


@pytest.mark.parametrize("which", SERVERS)
async def test_searches_with_literals(which: str, request: pytest.FixtureRequest) -> None:
    subjects = ["Grüße", 'say "hi" \\o/', "plain (x) {5}", "日本"]
    async with connected(which, request) as connection:
        for subject in subjects:
            head = f"Subject: {subject}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
            await connection.append("INBOX", NewMessage(f"{head}{subject}\r\n".encode()))
        await connection.examine("INBOX")
        everything = (await connection.uid_search(q.ALL.program(today=date(2024, 6, 1)))).uids
        for literal_plus in {False, connection.offers("LITERAL-")}:
            for rank, subject in enumerate(subjects):
                for key in (q.body(subject), q.body(subject) & q.any_of(q.raw("SEEN"), q.raw("NOT SEEN"))):
                    program = key.program(today=date(2024, 6, 1), literal_plus=literal_plus)
                    assert [*(await connection.uid_search(program)).uids] == [everything[rank]]
                    within = await connection.uid_search(program, within=everything, save=True)
                    assert [*within.uids] == [everything[rank]]
        long = q.body("x" * 5000).program(today=date(2024, 6, 1), literal_plus=True)
        assert not (await connection.uid_search(long)).uids


@pytest.mark.parametrize("which", ["dovecot", "testing"])
async def test_ids(which: str, request: pytest.FixtureRequest) -> None:
    async with connected(which, request) as connection:
        assert (await connection.identify({"name": 'im"a\\pipe', "version": None, "vendor": "Müller & Söhne"}))["name"]
        await connection.noop()


async def test_an_id_as_the_testing_server_reads_it() -> None:
    fields = {"name": 'im"a\\pipe', "version": None, "vendor": "Müller & Söhne"}
    async with Server({"INBOX": 0}) as server:
        async with logged_in(f"imap://ann@127.0.0.1:{server.port}", "ann", "secret") as connection:
            await connection.identify(fields)
        (sent,) = server.client_ids.values()
    assert sent == fields


async def test_moments_of_the_past(dovecot: DovecotServer) -> None:
    user = dovecot.new_user()
    async with logged_in(dovecot.url(user, tls=False), user, dovecot.password) as connection:
        moment = datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC)
        await connection.append("INBOX", NewMessage(b"Subject: x\r\n\r\n", (), moment))
        await connection.examine("INBOX")
        (message,) = await fetch(connection, Fetch("envelope"))
        assert message.internal_date == moment
