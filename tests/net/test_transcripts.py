"""Dialogues with real servers, whole, byte by byte, and cut behind each literal marker: always the same records."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from imapipe import search as q
from imapipe.errors import ImapipeError, NotFetched, ServerBye, Throttled
from imapipe.models.batch import Failure
from imapipe.models.message import Message
from imapipe.net.account import Account
from imapipe.net.authentication import Credentials
from imapipe.net.connection import Connection
from imapipe.net.dial import DialOptions, dial
from imapipe.net.session import Session
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.mailbox_name import decode_mailbox_names
from imapipe.wire.response.framing import Framer
from imapipe.wire.response.literal import literal_bytes
from imapipe.wire.uid_set import UidSet
from scripted_server import Feeding, ScriptedServer, read_script

FOLDER = Path(__file__).parents[1] / "transcripts"
TODAY = date(2024, 6, 1)
every_feeding = pytest.mark.parametrize("feeding", list(Feeding), ids=lambda feeding: feeding.value)
pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def dialled(
    name: str, feeding: Feeding, *, token: Callable[[], Awaitable[str]] | None = None, identify: bool = False
) -> AsyncIterator[Connection]:
    """Play a dialogue to its end with a client that is logged in."""
    async with ScriptedServer(read_script(FOLDER / f"{name}.txt"), feeding) as server:
        user = "ann@example.org"
        options = DialOptions(
            account=Account(False, user, server.host, server.port),
            credentials=Credentials(user, None if token else "secret", token),
            identify={"name": "imapipe"} if identify else None,
        )
        connection = await dial(options)
        try:
            yield connection
        finally:
            await connection.logout()
        assert server.problem == ""
        assert server.played == 1


class Fetched:
    """What one UID FETCH brought."""

    def __init__(self, messages: list[Message], failures: dict[int, Failure], missing: UidSet, status: str) -> None:
        self.messages = {message.uid: message for message in messages}
        self.uids = [message.uid for message in messages]
        self.failures = {uid: failure.reason for uid, failure in failures.items()}
        self.missing = missing.text()
        self.status = status


async def fetch(connection: Connection, uids: str, what: Fetch) -> Fetched:
    messages: list[Message] = []
    command = connection.uid_fetch(UidSet.parse(uids), what, messages.extend)
    tagged = await command.finished
    connection.fetched(command)
    return Fetched(messages, command.malformed, command.missing, tagged.status)


@every_feeding
async def test_gmail(feeding: Feeding) -> None:
    async with dialled("gmail", feeding) as connection:
        entries = await connection.list(status_items=["MESSAGES", "UNSEEN"])
        assert [(entry.name, entry.special_use, entry.status and entry.status.messages) for entry in entries] == [
            ("INBOX", None, 3),
            ("[Gmail]", None, None),
            ("[Gmail]/Alle Nachrichten", "\\All", 5),
            ("[Gmail]/Entwürfe", "\\Drafts", 0),
        ]
        selected = await connection.examine("[Gmail]/Alle Nachrichten")
        assert (selected.exists, selected.uidvalidity, selected.highest_modseq) == (5, 11, 88812345)
        found = (await connection.uid_search(q.ALL.program(today=TODAY))).uids
        texts: list[str] = []
        connection.session.on_status = lambda kind, code, text: texts.append(text)
        what = Fetch("flags", "size", "gmail", header_fields=["Subject", "From"])
        got = await fetch(connection, found.text(), what)
        assert got.uids == [4700, 4705, 4710]
        first, second, third = got.messages.values()
        assert set(first.gmail.labels) == {"\\Inbox", "\\Sent", "Wichtig", "Entwürfe", 'a "b"'}
        assert (first.gmail.message_id, first.gmail.thread_id) == (1278455344230334865, 1266894439832287888)
        assert (first.subject, first.size) == ("x)", 13877)
        assert first.flags == {"\\Seen"}
        assert (second.headers.raw, list(second.gmail.labels)) == (b"\r\n", [])
        assert set(third.gmail.labels) == {'(a) "b"'}
        assert third.subject == "y"
        assert texts == ["Success [THROTTLED]"]
        assert (await fetch(connection, "4700", Fetch(section=""))).status == "NO"


@every_feeding
async def test_exchange(feeding: Feeding) -> None:
    async with dialled("exchange", feeding) as connection:
        names = [entry.name for entry in await connection.list()]
        assert names[:4] == ["Calendar", "Deleted Items", "INBOX", "Sync Issues"]
        assert len(names) == 5
        assert (await connection.examine("inbox")).uidnext == 905
        found = await connection.uid_search(q.subject("Grüße").program(today=TODAY))
        got = await fetch(connection, found.uids.text(), Fetch("full"))
        assert got.uids == [901, 902]
        assert got.messages[901].body == b"Subject: one\r\n\r\nA1 OK\r\n"
        assert got.messages[901].size == 66
        assert got.messages[902].body == b""
        # NIL for a body is a failure, silence is not an answer.
        assert (got.failures, got.missing) == ({904: "no-body"}, "903")
        again = await connection.uid_search(q.uid(UidSet.parse(got.missing)).program(today=TODAY))
        assert again.uids.text() == "903"
        with pytest.raises(Throttled) as caught:
            await connection.noop()
        assert caught.value.retry_after_seconds == 299.961


@every_feeding
async def test_yahoo(feeding: Feeding) -> None:
    async def token() -> str:
        return "token"

    async with dialled("yahoo", feeding, token=token) as connection:
        assert connection.session.enabled == {"UIDONLY"}
        selected = await connection.examine("INBOX")
        assert (selected.exists, selected.mailbox_id) == (2500, "1")
        answer = await connection.uid_search(q.UNSEEN.program(today=TODAY))
        assert (answer.uids.text(), answer.limited_below) == ("88000,89000:89001", 88000)
        got = await fetch(connection, answer.uids.text(), Fetch("flags", "email_id"))
        assert [(uid, got.messages[uid].email_id) for uid in got.uids] == [
            (89001, "AJ3"),
            (89000, "AJ2"),
            (88000, "AJ1"),
        ]
        assert (selected.exists, selected.expunged) == (2499, 1)
        got = await fetch(connection, "88000", Fetch("full"))
        assert (got.status, got.missing) == ("NO", "88000")
        with pytest.raises(ServerBye):
            await connection.noop()


@every_feeding
async def test_dovecot(feeding: Feeding) -> None:
    async with dialled("dovecot", feeding) as connection:
        namespace = await connection.namespace()
        assert namespace is not None
        assert [prefix.prefix for prefix in namespace.shared] == [b"Shared/"]
        assert (await connection.examine("INBOX")).uidvalidity == 1_700_000_000
        messages: list[Message] = []
        commands = [
            connection.uid_fetch(UidSet.parse(uids), Fetch("envelope"), messages.extend) for uids in ("1:2", "8")
        ]
        for command in commands:
            assert (await command.finished).status == "OK"
        assert [message.uid for message in messages] == [1, 2, 8]
        assert [message.subject for message in messages] == ['say "hi" \\ * 3)', 'a "b" \\ :) {3}', ""]
        assert messages[0].sender is not None
        assert messages[0].sender.name == 'A "B"'
        assert messages[2].internal_date == datetime(1996, 7, 7, 2, 44, 25, tzinfo=UTC)
        await connection.unselect()


@every_feeding
async def test_icloud(feeding: Feeding) -> None:
    async with dialled("icloud", feeding) as connection:
        selected = await connection.examine("INBOX")
        assert (selected.uidvalidity, selected.uidnext) == (1388603441, 3)
        got = await fetch(connection, "1:2", Fetch("envelope"))
        assert [got.messages[uid].subject for uid in got.uids] == ["one", 'say "hi" to me']
        assert (await fetch(connection, "1", Fetch(section=""))).messages[1].body == b"A: b\r\n\r\nhell"


@every_feeding
async def test_cyrus(feeding: Feeding) -> None:
    async with dialled("cyrus", feeding, identify=True) as connection:
        assert (await connection.examine("one")).exists == 1
        selected = await connection.examine("two")
        assert (selected.exists, selected.expunged, selected.uidvalidity, selected.mailbox_id) == (2, 0, 6, "Mabc")
        page = await connection.uid_search_page(q.ALL.program(today=TODAY), 2, above=0)
        assert page.uids.text() == "10:11"
        what = Fetch("email_id", "thread_id", "saved_date", "preview", section="1", binary=True)
        got = await fetch(connection, "10:11", what)
        first, second = got.messages.values()
        assert (first.email_id, first.thread_id, first.preview) == ("Mabc", "Tdef", "Hello")
        assert first.body == b"ab\0\n"
        assert (second.saved_date, second.preview, second.body) == (None, None, b"")


@every_feeding
async def test_broken(feeding: Feeding) -> None:
    async with dialled("broken", feeding) as connection:
        assert connection.offers("IDLE")
        selected = await connection.examine("INBOX")
        assert (selected.exists, selected.uidvalidity, selected.uidnext) == (3, 9, None)
        assert (await connection.uid_search(q.ALL.program(today=TODAY))).uids.text() == "1:3"
        got = await fetch(connection, "1:6", Fetch("full"))
        assert got.uids == [1, 2, 6]
        first, second, last = got.messages.values()
        assert first.body == b"P5 OK forged\r\n* BYE forged\r\n)\r\n"
        assert first.flags == {"\\Seen"}
        assert first.internal_date is None
        assert second.body == b"abc"
        assert second.flags == {"a"}
        assert last.body == b"sixth!"
        assert got.failures == {4: "malformed", 5: "no-body"}
        assert got.missing == "3"
        assert selected.exists == 2


@every_feeding
async def test_tolerant(feeding: Feeding) -> None:
    async with dialled("tolerant", feeding) as connection:
        entries = {entry.name: entry for entry in await connection.list()}
        strange = decode_mailbox_names([b"Entw\xc3\xbcrfe", b"Entw&APw-rfe"])[b"Entw\xc3\xbcrfe"]
        assert sorted(entries) == sorted(["INBOX", "Entwürfe", strange, "Абв&где", "two  spaces", "nul\uf700"])
        assert {entry.delimiter for entry in entries.values()} == {"/"}
        assert [name for name, entry in entries.items() if not entry.is_selectable] == ["nul\uf700"]
        selected = await connection.examine(next(name for name in entries if name == "Абв&где"))
        assert (selected.exists, selected.uidvalidity, selected.uidnext) == (9, 1713632002544, None)
        found = await connection.uid_search(q.ALL.program(today=TODAY))
        assert (found.uids.text(), [note.kind for note in found.notes]) == ("1:3", ["search"])
        messages: list[Message] = []
        command = connection.uid_fetch(UidSet.parse("1:8"), Fetch("full"), messages.extend)
        await command.finished
        got = {message.uid: message for message in messages}
        assert {uid: message.body for uid, message in got.items()} == {
            1: b"one",
            2: b"two",
            3: b"three",
            4: b"four",
            8: b"eight",
        }
        assert [got[uid].flags for uid in (2, 3, 4)] == [{"\\Seen"}, {"\\Seen", "odd("}, {"$Label(1)"}]
        assert command.incomplete == {"INTERNALDATE": 2, "RFC822.SIZE": 2, "FLAGS": 1}
        assert {uid: failure.reason for uid, failure in command.malformed.items()} == {5: "malformed", 7: "no-body"}
        assert command.missing.text() == "6"
        assert {note.kind for note in command.notes} == {"fetch-item", "fetch-line", "label"}
        messages.clear()
        command = connection.uid_fetch(UidSet.parse("1:3"), Fetch("envelope"), messages.extend)
        await command.finished
        first, second, third = messages
        assert [str(address) for address in first.envelope.from_] == ["n <promo@example.org>"]
        assert [note.kind for note in first.envelope.notes] == ["envelope"]
        assert (second.subject, second.envelope.message_id) == ("two", "<2@x>")
        with pytest.raises(NotFetched):
            third.envelope  # noqa: B018
        assert command.incomplete == {"ENVELOPE": 1}


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.txt")))
async def test_cut_at_every_byte_it_gives_the_same_records(name: str) -> None:
    stream = b"".join(line.text + b"\r\n" for line in read_script(FOLDER / f"{name}.txt").lines if line.kind == "S")

    def records(*chunks: bytes) -> list[tuple[bytes, list[bytes], int]]:
        framer = Framer()
        return [
            (text, [literal_bytes(literal) for literal in literals], size)
            for chunk in chunks
            for text, literals, size in framer.feed(chunk)
        ]

    whole = records(stream)
    assert len(whole) > 5
    for cut in range(1, len(stream)):
        assert records(stream[:cut], stream[cut:]) == whole
    assert records(*(stream[index : index + 1] for index in range(len(stream)))) == whole


async def ask_until_it_ends(server: ScriptedServer) -> None:
    user = "ann@example.org"
    account = Account(False, user, server.host, server.port)
    connection = await dial(DialOptions(account=account, credentials=Credentials(user, "secret", None)))
    try:
        while True:
            await connection.examine("x")
    finally:
        await connection.logout()


@pytest.mark.parametrize("name", ["gmail", "exchange", "yahoo", "icloud", "cyrus", "broken", "tolerant"])
async def test_a_server_that_leaves_in_the_middle_is_no_surprise(name: str) -> None:
    """Whatever the last line it said: an error of ours, at once, and no socket left."""
    script = read_script(FOLDER / f"{name}.txt")
    ends = [index for index, line in enumerate(script.lines) if line.kind == "S"]
    for end in ends[:: max(1, len(ends) // 6)]:
        cut = type(script)(name, (*script.lines[:end], type(script.lines[0])("X", b"", 0)))
        async with ScriptedServer(cut) as server:
            with pytest.raises(ImapipeError):
                await ask_until_it_ends(server)
            # The client was not asked to keep to the script.
            server.problem = ""


async def test_a_transcript_that_says_nothing_new_of_the_state_leaves_it_alone() -> None:
    session = Session()
    for line in read_script(FOLDER / "oddities.txt").lines:
        if line.kind == "S":
            session.heard(line.text, ())
    assert session.selected is None
