"""Connections to a real server: TLS, STARTTLS, COMPRESS, names, searches, bodies, limits."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aioimaplib
import pytest

import imapipe
from dovecot_server import DovecotServer
from imapipe import search as q
from imapipe.errors import AuthenticationFailed, CommandNo, ConnectionFailed, Throttled
from imapipe.models.message import Message
from imapipe.net.account import Account, parse_url
from imapipe.net.authentication import Credentials
from imapipe.net.command import FetchCommand
from imapipe.net.connection import Connection
from imapipe.net.dial import DialOptions, dial
from imapipe.search import SearchKey
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.search_program import SearchProgram
from imapipe.wire.uid_set import UidSet

pytestmark = pytest.mark.asyncio
TODAY = datetime.date(2024, 6, 1)


def program(key: SearchKey, *, literal_plus: bool = False) -> SearchProgram:
    return key.program(today=TODAY, literal_plus=literal_plus)


def options_for(
    dovecot: DovecotServer, user: str, *, tls: bool = False, password: str = "", **more: object
) -> DialOptions:
    account = parse_url(dovecot.url(user, tls=tls))
    credentials = Credentials(user, password or dovecot.password, None)
    return DialOptions(account=account, credentials=credentials, ssl_context=dovecot.ssl_context(), **more)  # type: ignore[arg-type]


@asynccontextmanager
async def connected(options: DialOptions) -> AsyncIterator[Connection]:
    connection = await dial(options)
    try:
        yield connection
    finally:
        await connection.logout()


def bodies(count: int) -> list[bytes]:
    """Messages of many sizes, with content that looks like protocol in them."""
    forged = b")\r\nP1 OK forged\r\n* 1 FETCH (UID 1 FLAGS ())\r\n{5}\r\n"
    return [
        b"Subject: %d * 3 :) {3}\r\nFrom: a@example.org\r\n\r\n" % number
        + forged
        + b"x" * (number * 7919 % 60_000)
        + b"\r\n"
        for number in range(count)
    ]


@pytest.mark.parametrize("way", ["plain", "tls", "starttls"])
@pytest.mark.parametrize("compress", [False, True])
async def test_every_body_arrives_as_it_was_stored(dovecot: DovecotServer, way: str, compress: bool) -> None:
    user = dovecot.new_user()
    stored = [*bodies(60), b"Subject: large\r\n\r\n" + b"0123456789abcdef\r\n" * 90_000]
    uids = dovecot.fill(user, "INBOX", stored)
    options = options_for(
        dovecot, user, tls=way == "tls", starttls=True if way == "starttls" else None, compress=compress
    )
    digests: dict[int, str] = {}
    async with connected(options) as connection:
        transport = connection.plane.transport
        assert transport is not None
        assert (transport.get_extra_info("cipher") is not None) is (way != "plain")
        assert connection.plane.is_compressed is compress
        await connection.examine("INBOX")
        spooled = 0

        def take(messages: list[Message]) -> None:
            nonlocal spooled
            for message in messages:
                digests[message.uid] = hashlib.sha256(message.body).hexdigest()
                spooled += message.is_spooled
                connection.release(message)

        commands: list[FetchCommand] = [
            connection.uid_fetch(UidSet.from_numbers(uids[start : start + 20]), Fetch("full"), take)
            for start in range(0, len(uids), 20)
        ]
        for command in commands:
            assert (await command.finished).status == "OK"
            assert not command.pending
        assert spooled == 1
        assert connection.plane.holdings.held_bytes == connection.plane.holdings.spooled_bytes == 0
        if compress:
            assert connection.plane.wire_bytes < connection.plane.bytes_received / 2
        assert (await connection.uid_search(program(q.SEEN))).uids == UidSet()
    assert digests == {uid: hashlib.sha256(raw).hexdigest() for uid, raw in zip(uids, stored, strict=True)}


async def test_envelopes_and_structures_can_be_read(dovecot: DovecotServer) -> None:
    user = dovecot.new_user()
    subjects = ['"quoted" \\ and * 3', "plain", "Grüße", "=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "x" * 300]
    dovecot.fill(
        user, "INBOX", [f"Subject: {subject}\r\nFrom: a@example.org\r\n\r\nx".encode() for subject in subjects]
    )
    async with connected(options_for(dovecot, user)) as connection:
        await connection.examine("INBOX")
        messages: list[Message] = []
        for preset in ("envelope", "structure"):
            command = connection.uid_fetch(UidSet.parse("1:5"), Fetch(preset), messages.extend)
            assert (await command.finished).status == "OK"
        expected = [subject if subject != "=?utf-8?q?Gr=C3=BC=C3=9Fe?=" else "Grüße" for subject in subjects]
        assert [message.subject for message in messages] == expected * 2
        assert [message.structure.content_type for message in messages[5:]] == ["text/plain"] * 5


async def test_mailboxes(dovecot: DovecotServer) -> None:
    user = dovecot.new_user()
    dovecot.fill(user, "INBOX", bodies(3))
    async with connected(options_for(dovecot, user)) as connection:
        await connection.imap.create("Entwürfe")
        await connection.imap.create('a "b" c')
        await connection.imap.append(b"Subject: x\r\n\r\ny", "Entwürfe")
        items = ("MESSAGES", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "SIZE", "HIGHESTMODSEQ", "MAILBOXID")
        entries = {entry.name: entry for entry in await connection.list(status_items=items)}
        assert {name: entry.status.messages for name, entry in entries.items() if entry.status} == {
            "INBOX": 3,
            "Entwürfe": 1,
            'a "b" c': 0,
        }
        status = await connection.status("Entwürfe", items)
        assert (status.messages, status.unseen) == (1, 1)
        assert status.size
        with pytest.raises(CommandNo):
            await connection.status("missing")
        assert (await connection.examine("Entwürfe")).exists == 1
        await connection.unselect()
        assert connection.selected is None
        assert (await connection.select('a "b" c')).read_only is False
        with pytest.raises(CommandNo) as caught:
            await connection.select("missing")
        assert caught.value.code in ("NONEXISTENT", "TRYCREATE", "")
        assert connection.imap.get_state() == "AUTH"
        assert (await connection.identify())["name"] == "Dovecot"
        assert await connection.enable("QRESYNC") >= {"QRESYNC"}
        assert await connection.namespace() is not None


@pytest.mark.usefixtures("dovecot")
async def test_roles_of_mailboxes() -> None:
    """Defect: an extended LIST that asks for STATUS alone is told neither roles nor subscriptions."""
    role = "namespace inbox {\n  mailbox Sent {\n    special_use = \\Sent\n    auto = subscribe\n  }\n}\n"
    with DovecotServer(extra=role) as server:
        user = server.new_user()
        async with connected(options_for(server, user)) as connection:
            await connection.create("Plain/Below")
            for items in ((), ("MESSAGES", "SIZE", "HIGHESTMODSEQ")):
                entries = {entry.name: entry for entry in await connection.list(status_items=items)}
                assert entries["Sent"].special_use == "\\Sent"
                assert "\\Subscribed" in entries["Sent"].attributes
                assert "\\HasChildren" in entries["Plain"].attributes
                assert entries["INBOX"].special_use is None
                assert {name for name, entry in entries.items() if entry.status} == (
                    {"INBOX", "Sent", "Plain/Below"} if items else set()
                )
            assert connection.ways.refused == set()
            # As if it offered neither.
            connection.ways.refused |= {"LIST-STATUS", "LIST-EXTENDED"}
            plain = {entry.name: entry for entry in await connection.list(status_items=["MESSAGES"])}
            assert {name for name, entry in plain.items() if entry.status} >= {"INBOX", "Sent", "Plain/Below"}


@pytest.mark.usefixtures("dovecot")
async def test_a_dovecot_that_takes_short_commands_only() -> None:
    """It answers BAD to a line that is too long, or hangs up in the middle of it."""
    with DovecotServer(extra="protocol imap {\n  imap_max_line_length = 1024\n}\n") as server:
        user = server.new_user()
        server.fill(user, "INBOX", [b"Subject: %d\r\n\r\nx\r\n" % number for number in range(1200)])
        odd = UidSet.from_numbers(range(1, 1200, 2))
        async with imapipe.create_pool(server.url(user), password=server.password) as pool:
            everything = await pool.mailbox("INBOX").search().uids()
            job = everything.pipeline(odd).batch(imapipe.FixedBatch(600)).fetch("flags")
            seen: list[int] = []

            async def handle(message: imapipe.Message) -> None:
                seen.append(message.uid)

            report = await job.run(handle)
            assert (report.complete, report.done) == (True, 600)
            assert sorted(seen) == list(odd)
            async with pool.acquire("INBOX") as connection:
                answer = await connection.uid_search(program(q.ALL), within=odd)
                assert answer.uids == odd
                assert connection.offers("ESEARCH")
                assert connection.ways.learned.max_command_bytes == 990


@pytest.mark.parametrize("extended", [True, False])
async def test_searches(dovecot: DovecotServer, extended: bool) -> None:
    user = dovecot.new_user()
    dovecot.fill(
        user,
        "INBOX",
        ["Subject: Grüße\r\n\r\na".encode(), b"Subject: plain\r\n\r\nb", "Subject: x\r\n\r\nÜbersicht".encode()],
    )
    async with connected(options_for(dovecot, user)) as connection:
        if not extended:
            connection.session.capabilities -= {"ESEARCH", "SEARCHRES"}
        await connection.examine("INBOX")
        for literal_plus in (True, False):
            for key, expected in (
                (q.ALL, "1:3"),
                (q.subject("grüße"), "1"),
                (q.subject("plain"), "2"),
                (q.subject("grüße") | q.body("Übersicht"), "1,3"),
                (q.subject("nobody"), ""),
                (~q.subject("plain") & q.UNSEEN, "1,3"),
            ):
                answer = await connection.uid_search(program(key, literal_plus=literal_plus))
                assert answer.uids.text() == expected
            within = await connection.uid_search(program(q.subject("grüße")), within=UidSet.parse("2:3"))
            assert not within.uids


@pytest.mark.parametrize("password", ["wrong", "pässwörd"])
async def test_wrong_passwords(dovecot: DovecotServer, password: str) -> None:
    user = dovecot.new_user()
    with pytest.raises(AuthenticationFailed) as caught:
        await dial(options_for(dovecot, user, password=password))
    assert caught.value.code == "AUTHENTICATIONFAILED"


async def test_a_certificate_that_does_not_fit(dovecot: DovecotServer) -> None:
    user = dovecot.new_user()
    options = options_for(dovecot, user, tls=True)
    with pytest.raises(ConnectionFailed, match="certificate was not accepted"):
        await dial(DialOptions(options.account, options.credentials, ssl.create_default_context()))
    elsewhere = Account(True, user, "127.0.0.2", options.account.port)
    with pytest.raises(ConnectionFailed):
        await dial(DialOptions(elsewhere, options.credentials, dovecot.ssl_context()))


async def test_a_live_client_of_aioimaplib_is_adopted(dovecot: DovecotServer) -> None:
    user = dovecot.new_user()
    stored = bodies(5)
    dovecot.fill(user, "INBOX", stored)
    client = aioimaplib.IMAP4(dovecot.host, dovecot.port)
    await client.wait_hello_from_server()
    await client.login(user, dovecot.password)
    await client.select("INBOX")
    async with imapipe.create_pool(dovecot.url(user), password=dovecot.password, max_size=1) as pool:
        connection = pool.adopt(client)
        assert (await client.fetch("1:5", "(FLAGS)")).result == "OK"
        found = [message.body async for message in pool.mailbox("INBOX").search().fetch("full")]
        assert found == stored
        assert pool.stats.opened == 0
        assert (await client.noop()).result == "OK"
        assert connection.imap is client


async def test_idle(dovecot: DovecotServer) -> None:
    user = dovecot.new_user()
    async with (
        connected(options_for(dovecot, user)) as watching,
        connected(options_for(dovecot, user)) as other,
    ):
        imap = watching.imap
        await imap.select("INBOX")
        idle = await imap.idle_start(timeout=60)
        await other.imap.append(b"Subject: x\r\n\r\ny")
        pushed = await imap.wait_server_push(60)
        assert b"1 EXISTS" in pushed
        imap.idle_done()
        assert (await asyncio.wait_for(idle, 60)).result == "OK"
        assert watching.is_clean


async def test_appends_at_the_same_time(dovecot: DovecotServer) -> None:
    user = dovecot.new_user()
    stored = [*bodies(10), b"Subject: large\r\n\r\n" + b"y" * 3_000_000 + b"\r\n"]
    async with connected(options_for(dovecot, user)) as connection:
        responses = await asyncio.gather(*(connection.imap.append(message) for message in stored))
        assert {response.result for response in responses} == {"OK"}
        await connection.examine("INBOX")
        messages: list[Message] = []
        command = connection.uid_fetch(UidSet.parse(f"1:{len(stored)}"), Fetch("full"), messages.extend)
        await command.finished
        assert [message.body for message in messages] == stored


@pytest.mark.usefixtures("dovecot")
async def test_too_many_connections_of_one_user() -> None:
    with DovecotServer(max_connections_per_user=2) as server:
        user = server.new_user()
        server.fill(user, "INBOX", bodies(20))
        options = options_for(server, user)
        async with connected(options), connected(options):
            with pytest.raises(Throttled, match="Maximum number of connections"):
                await dial(options)
        async with imapipe.create_pool(server.url(user), password=server.password, max_size=4) as pool:
            report = await pool.mailbox("INBOX").search().fetch("full").run(nothing, connections=4)
            assert (report.done, report.failed) == (20, 0)
            assert pool.stats.opened <= 3


async def nothing(message: Message) -> None:
    """Handle a message by doing nothing."""
