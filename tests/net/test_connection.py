"""What may be asked of a connection, on the testing server and on dialogues."""

from __future__ import annotations

import asyncio
import datetime
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest

from imapipe import search as q
from imapipe.errors import CapabilityMissing, CommandBad, CommandNo, ConnectionLost, ProtocolError
from imapipe.models.message import Message
from imapipe.net import searching
from imapipe.net.account import parse_url
from imapipe.net.authentication import Credentials
from imapipe.net.connection import Connection, SearchAnswer
from imapipe.net.dial import DialOptions, dial
from imapipe.search import SearchKey
from imapipe.testing import Inject, NilBodies, OmitUids, Reply, Server, Stall
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.command.search import read_search
from imapipe.wire.response.response import Response, Tagged
from imapipe.wire.search_program import SearchProgram
from imapipe.wire.uid_set import UidSet
from scripted_server import ScriptedServer
from scripted_server.script import Line, Script

TODAY = datetime.date(2024, 6, 1)


@asynccontextmanager
async def connected(server: Server | ScriptedServer, **more: float) -> AsyncIterator[Connection]:
    account = parse_url(f"imap://ann@127.0.0.1:{server.port}")
    connection = await dial(DialOptions(account=account, credentials=Credentials("ann", "secret", None), **more))  # type: ignore[arg-type]
    try:
        yield connection
    finally:
        await connection.logout()


@asynccontextmanager
async def dialogue(*lines: str, capabilities: str = "IMAP4rev1") -> AsyncIterator[Connection]:
    """A connection to a server that says these lines, greeting, login and logout left out."""
    all_lines = [
        f"S: * OK [CAPABILITY {capabilities}] ready",
        "C: <login> LOGIN …",
        f"S: <login> OK [CAPABILITY {capabilities}] done",
        *lines,
        "C: <bye> LOGOUT",
        "S: <bye> OK",
    ]
    script = Script("test", tuple(Line(line[:1], line[3:].encode(), number) for number, line in enumerate(all_lines)))
    async with ScriptedServer(script) as server, connected(server) as connection:
        yield connection
    assert server.problem == ""


def program(key: SearchKey, *, literal_plus: bool = False) -> SearchProgram:
    return key.program(today=TODAY, literal_plus=literal_plus)


def selected_name(connection: Connection) -> str | None:
    return connection.selected.name if connection.selected is not None else None


MAILBOXES = {"INBOX": 20, "Entwürfe": 0, "Entwürfe/Übersicht": 3, 'with "quotes" \\': 1, "empty": 0}


# -- mailboxes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extensions", ["modern", "plain"])
@pytest.mark.asyncio
async def test_list_with_status(extensions: str) -> None:
    items = ("MESSAGES", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "SIZE", "HIGHESTMODSEQ", "MAILBOXID")
    async with Server(MAILBOXES, extensions=extensions) as server, connected(server) as connection:
        entries = {entry.name: entry for entry in await connection.list(status_items=items)}
        assert {name: entry.status.messages for name, entry in entries.items() if entry.status} == MAILBOXES
        assert all(entry.delimiter == "/" for entry in entries.values())
        assert [entry.name for entry in await connection.list("Entwürfe/*")] == ["Entwürfe/Übersicht"]
        assert {entry.name for entry in await connection.list("%")} == {*MAILBOXES} - {"Entwürfe/Übersicht"}
        assert [entry.name for entry in await connection.list("inbox")] == ["INBOX"]
    status = entries["INBOX"].status
    assert status is not None
    assert (status.size is None) is (extensions == "plain")
    assert len(server.commands.named("STATUS")) == (0 if extensions == "modern" else 5)
    assert not [record for record in server.commands if record.outcome != "OK"]


@pytest.mark.asyncio
async def test_a_mailbox_that_cannot_be_asked_is_listed_all_the_same() -> None:
    fault = Reply("NO", "no permission", command="STATUS", nth=2)
    async with Server(MAILBOXES, extensions="plain", faults=[fault]) as server, connected(server) as connection:
        entries = await connection.list(status_items=["MESSAGES"])
    assert [entry.status is None for entry in entries].count(True) == 1
    assert len(entries) == 5


@pytest.mark.asyncio
async def test_lists_that_servers_break() -> None:
    async with dialogue(
        'C: <a> LIST "" "*"',
        'S: * LIST (\\HasNoChildren) "/" INBOX',
        'S: * LIST (\\HasNoChildren "/" "never closed',
        'S: * LIST (\\Noselect) "/" "Shared"',
        "S: * STATUS INBOX (MESSAGES 3 )",
        'S: * LIST (\\Sent \\HasNoChildren) "/" Sent Items',
        "S: <a> OK done",
    ) as connection:
        entries = await connection.list()
    assert [entry.name for entry in entries] == ["INBOX", "Shared", "Sent Items"]
    assert [entry.is_selectable for entry in entries] == [True, False, True]
    assert [entry.special_use for entry in entries] == [None, None, "\\Sent"]
    assert entries[0].status is not None
    assert entries[0].status.messages == 3


@pytest.mark.asyncio
async def test_status() -> None:
    async with Server(MAILBOXES) as server, connected(server) as connection:
        status = await connection.status("Entwürfe/Übersicht", ["MESSAGES", "UNSEEN", "SIZE", "MAILBOXID"])
        assert (status.name, status.messages) == ("Entwürfe/Übersicht", 3)
        assert status.size
        with pytest.raises(CommandNo) as caught:
            await connection.status("missing")
        # The testing server gives no code, as Dovecot does not.
        assert (caught.value.command, caught.value.code) == ("STATUS", "")
        assert (await connection.status("INBOX", ["X-UNKNOWN"][:0])).messages == 20
    async with dialogue("C: <a> STATUS …", "S: <a> OK") as connection:
        with pytest.raises(ProtocolError, match="without a STATUS response"):
            await connection.status("INBOX")


@pytest.mark.asyncio
async def test_examine_select_and_leaving() -> None:
    async with Server(MAILBOXES) as server, connected(server) as connection:
        examined = await connection.examine('with "quotes" \\')
        assert (examined.exists, examined.read_only) == (1, True)
        selected = await connection.select("Entwürfe/Übersicht")
        assert (selected.exists, selected.read_only) == (3, False)
        assert selected_name(connection) == "Entwürfe/Übersicht"
        await connection.unselect()
        await connection.unselect()
        with pytest.raises(CommandNo):
            await connection.examine("missing")
        assert selected_name(connection) is None
    assert server.commands.names[-4:] == ["SELECT", "UNSELECT", "EXAMINE", "LOGOUT"]


@pytest.mark.asyncio
async def test_leaving_without_unselect_expunges_nothing() -> None:
    async with Server(MAILBOXES, extensions="plain") as server, connected(server) as connection:
        await connection.select("INBOX")
        await connection.unselect()
        assert selected_name(connection) is None
        with pytest.raises(ProtocolError, match="needs a selected mailbox"):
            connection.uid_fetch(UidSet.parse("1"), Fetch("flags"), lambda messages: None)
    assert server.commands.names[-3:] == ["SELECT", "EXAMINE", "LOGOUT"]
    assert "CLOSE" not in server.commands.names


@pytest.mark.asyncio
async def test_netease_wants_to_know_who_we_are_before_it_opens_a_mailbox() -> None:
    lines = (
        'C: <a> EXAMINE "INBOX"',
        "S: <a> NO EXAMINE Unsafe Login. Please contact kefu@188.com for help",
        'C: <b> ID ("name" "imapipe")',
        "S: * ID NIL",
        "S: <b> OK ID completed",
        'C: <c> EXAMINE "INBOX"',
        "S: * 7 EXISTS",
        "S: <c> OK [READ-ONLY] EXAMINE completed",
        'C: <d> EXAMINE "other"',
        "S: <d> NO EXAMINE Unsafe Login. Please contact kefu@188.com for help",
    )
    async with dialogue(*lines, capabilities="IMAP4rev1 ID") as connection:
        assert (await connection.examine("INBOX")).exists == 7
        # Asked once: who is refused after that is told so.
        with pytest.raises(CommandNo, match="Unsafe Login"):
            await connection.examine("other")


@pytest.mark.asyncio
async def test_who_cannot_say_who_we_are_is_told_that_the_mailbox_is_refused() -> None:
    lines = ('C: <a> EXAMINE "INBOX"', "S: <a> NO EXAMINE Unsafe Login. Please contact kefu@188.com for help")
    async with dialogue(*lines) as connection:
        with pytest.raises(CommandNo, match="Unsafe Login"):
            await connection.examine("INBOX")


@pytest.mark.asyncio
async def test_a_mailbox_that_is_opened_where_there_is_none_is_no_way_out_of_another() -> None:
    lines = (
        'C: <a> EXAMINE "INBOX"',
        "S: * 7 EXISTS",
        "S: <a> OK [READ-ONLY] EXAMINE completed",
        "C: <b> EXAMINE …",
        "S: * 1 EXISTS",
        "S: <b> OK [READ-ONLY] EXAMINE completed",
    )
    async with dialogue(*lines) as connection:
        await connection.examine("INBOX")
        with pytest.raises(ProtocolError, match="a mailbox that should not exist was opened"):
            await connection.unselect()


# -- words about ourselves ---------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_id_enable_namespace_noop() -> None:
    async with Server(MAILBOXES) as server, connected(server) as connection:
        assert await connection.identify() == {"name": "imapipe.testing"}
        assert server.client_ids[1] == {"name": "imapipe"}
        with pytest.raises(ValueError, match="CR, LF and NUL"):
            await connection.identify({"name": "a\r\nb"})
        assert await connection.enable("CONDSTORE", "UTF8=ACCEPT", "X-NONE") == {"CONDSTORE", "UTF8=ACCEPT"}
        namespace = await connection.namespace()
        assert namespace is not None
        assert [(prefix.prefix, prefix.delimiter) for prefix in namespace.personal] == [(b"", "/")]
        await connection.noop()
        # From now on names go as UTF-8.
        assert (await connection.examine("Entwürfe/Übersicht")).exists == 3
        assert (await connection.status("Entwürfe/Übersicht")).messages == 3
    assert server.commands.named("EXAMINE")[0].arguments.encode("latin-1").decode() == '"Entwürfe/Übersicht"'


@pytest.mark.asyncio
async def test_capabilities() -> None:
    async with dialogue(capabilities="IMAP4rev2 QRESYNC LITERAL+ X") as connection:
        assert connection.offers("ESEARCH")
        assert connection.offers("CONDSTORE")
        assert connection.offers("LITERAL-")
        assert not connection.offers("COMPRESS=DEFLATE")
        connection.require(["X", "UNSELECT", "CONDSTORE"])
        with pytest.raises(CapabilityMissing) as caught:
            connection.require(["X", "X-GM-EXT-1"])
        assert caught.value.capability == "X-GM-EXT-1"


# -- searching ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extensions", ["modern", "plain"])
@pytest.mark.asyncio
async def test_search(extensions: str) -> None:
    bodies = [
        "Subject: Grüße\r\n\r\neins".encode(),
        b"Subject: plain\r\n\r\nzwei",
        "Subject: Übersicht\r\n\r\ndrei \U0001f600".encode(),
    ]
    async with Server(bodies, extensions=extensions) as server, connected(server) as connection:
        await connection.examine("INBOX")
        assert (await connection.uid_search(program(q.ALL))).uids == UidSet.parse("1:3")
        assert (await connection.uid_search(program(q.subject("plain")))).uids == UidSet.parse("2")
        for literal_plus in (False, True) if extensions == "modern" else (False,):
            key = program(q.subject("Grüße") | q.subject("Übersicht"), literal_plus=literal_plus)
            answer = await connection.uid_search(key, within=UidSet.parse("1:2,9"))
            assert answer.uids == UidSet.parse("1")
            assert (await connection.uid_search(key)).uids == UidSet.parse("1,3")
        assert not (await connection.uid_search(program(q.subject("nobody")))).uids
        assert not (await connection.uid_search(program(q.ALL), within=UidSet())).uids
    searches = server.commands.named("UID SEARCH")
    assert all(record.outcome == "OK" for record in searches)
    assert ["RETURN" in record.arguments for record in searches] == [extensions == "modern"] * len(searches)
    assert ["CHARSET" in record.arguments for record in searches[:2]] == [False, False]


@pytest.mark.parametrize("extensions", ["modern", "plain"])
@pytest.mark.asyncio
async def test_a_search_that_is_refused_while_a_literal_is_awaited(extensions: str) -> None:
    fault = Reply("NO", "[BADCHARSET (US-ASCII)] no", command="UID SEARCH", nth=1)
    async with Server(3, extensions=extensions, faults=[fault]) as server, connected(server) as connection:
        await connection.examine("INBOX")
        with pytest.raises(CommandNo, match="BADCHARSET"):
            await connection.uid_search(program(q.subject("Grüße")))
        assert len((await connection.uid_search(program(q.ALL))).uids) == 3


@pytest.mark.asyncio
async def test_searches_that_servers_answer_in_their_own_way() -> None:
    lines = (
        "C: <a> UID SEARCH RETURN (ALL COUNT) ALL",
        "S: * SEARCH 5 3",
        "S: * SEARCH 9 ",
        "S: <a> OK",
        "C: <b> UID SEARCH RETURN (ALL COUNT) ALL",
        "S: * ESEARCH UID COUNT 2 ALL 1:2",
        "S: <b> OK",
        "C: <c> UID SEARCH RETURN (ALL COUNT) ALL",
        'S: * ESEARCH (TAG "<c>") UID COUNT 0',
        "S: <c> OK [MESSAGELIMIT 1000 23221] partial",
    )
    async with dialogue(*lines, capabilities="IMAP4rev1 ESEARCH") as connection:
        assert (await connection.uid_search(program(q.ALL))).uids == UidSet.parse("3,5,9")
        assert (await connection.uid_search(program(q.ALL))).uids == UidSet.parse("1:2")
        answer = await connection.uid_search(program(q.ALL))
        assert (answer.uids, answer.limited_below) == (UidSet(), 23221)


@pytest.mark.asyncio
async def test_a_search_answer_of_a_million_uids_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    def read(responses: Iterable[Response], tagged: Tagged) -> SearchAnswer:
        threads.append(threading.get_ident())
        return read_search(responses, tagged)

    monkeypatch.setattr(searching, "read_search", read)
    count = 300_000
    numbers = " ".join(map(str, range(1, 2 * count, 2)))
    lines = ("C: <a> UID SEARCH ALL", f"S: * SEARCH {numbers}", "S: <a> OK")
    async with dialogue(*lines) as connection:
        answer = await connection.uid_search(program(q.ALL))
    assert (len(answer.uids), answer.uids.max) == (count, 2 * count - 1)
    assert threads
    assert threading.get_ident() not in threads


# -- fetching ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["asked", "uid_last", "shuffled"])
@pytest.mark.parametrize("preset", ["flags", "envelope", "structure", "headers", "full"])
@pytest.mark.asyncio
async def test_fetch_in_whatever_order_the_items_come(order: str, preset: str) -> None:
    async with Server(30, fetch_order=order) as server, connected(server) as connection:  # type: ignore[arg-type]
        await connection.examine("INBOX")
        messages: list[Message] = []
        commands = [
            connection.uid_fetch(UidSet.parse(f"{start}:{start + 9}"), Fetch(preset), messages.extend)
            for start in (1, 11, 21)
        ]
        for command in commands:
            assert (await command.finished).status == "OK"
            connection.fetched(command)
        assert sorted(message.uid for message in messages) == list(range(1, 31))
        box = server.mailboxes["INBOX"]
        for message in messages:
            stored = box[message.uid]
            assert message.flags == stored.flags
            if preset == "full":
                assert message.body == stored.content.raw
            if preset in ("envelope", "structure", "headers", "full"):
                assert message.size == len(stored.content.raw)
                assert message.subject
            connection.release(message)
        assert connection.plane.holdings.held_bytes == 0


@pytest.mark.asyncio
async def test_what_a_fetch_does_not_bring() -> None:
    faults = [OmitUids({2}), NilBodies({3})]
    async with Server(5, faults=faults) as server, connected(server) as connection:
        await connection.examine("INBOX")
        server.mailboxes["INBOX"].expunge([5])
        messages: list[Message] = []
        command = connection.uid_fetch(UidSet.parse("1:6"), Fetch("full"), messages.extend)
        assert (await command.finished).status == "OK"
        assert [message.uid for message in messages] == [1, 4]
        assert command.missing == UidSet.parse("2,5:6")
        assert {uid: failure.reason for uid, failure in command.malformed.items()} == {3: "no-body"}
        assert connection.selected is not None
        assert (connection.selected.exists, connection.selected.expunged) == (4, 1)


@pytest.mark.asyncio
async def test_expunges_and_other_news_in_the_middle_of_a_fetch() -> None:
    noise = b"* 9 EXPUNGE\r\n* 12 EXISTS\r\n* 1 FETCH (FLAGS (\\Seen))\r\n* OK still here {5}\r\n"
    noise += b"* 2 FETCH (UID 2 FLAGS (x))\r\n"
    fault = Inject(noise, where="messages", uids={2, 3})
    async with Server(5, faults=[fault]) as server, connected(server) as connection:
        await connection.examine("INBOX")
        messages: list[Message] = []
        command = connection.uid_fetch(UidSet.parse("1:5"), Fetch("full"), messages.extend)
        await command.finished
        assert [message.uid for message in messages] == [1, 2, 3, 4, 5]
        assert [message.body for message in messages] == [server.mailboxes["INBOX"][u].content.raw for u in range(1, 6)]


@pytest.mark.asyncio
async def test_uidonly() -> None:
    async with Server(5, extensions="everything") as server, connected(server) as connection:
        assert "UIDONLY" in connection.session.enabled
        await connection.examine("INBOX")
        messages: list[Message] = []
        for preset in ("flags", "full"):
            command = connection.uid_fetch(UidSet.parse("1:5"), Fetch(preset), messages.extend)
            assert (await command.finished).status == "OK"
        assert [message.uid for message in messages] == [1, 2, 3, 4, 5] * 2
        server.mailboxes["INBOX"].expunge([1, 2])
        await connection.noop()
        assert connection.selected is not None
        assert connection.selected.exists == 3


# -- ends --------------------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_logout_closes_the_transport_whatever_the_server_does() -> None:
    async with Server(3, faults=[Stall(0, command="LOGOUT")]) as server, connected(server) as connection:
        await connection.logout(0.05)
        assert not connection.is_open
        await connection.logout()
        with pytest.raises(ConnectionLost):
            await connection.noop()
    assert server.counters.open_connections == 0


@pytest.mark.asyncio
async def test_a_refused_command_leaves_the_connection_usable() -> None:
    faults = [Reply("BAD", "what?", command="NOOP", nth=1), Reply("NO", "no", command="NOOP", nth=1)]
    async with Server(3, faults=faults) as server, connected(server) as connection:
        with pytest.raises((CommandBad, CommandNo)):
            await connection.noop()
        await connection.noop()
        assert connection.is_clean


@pytest.mark.asyncio
async def test_a_method_that_is_cancelled_ends_the_connection() -> None:
    async with Server(3, faults=[Stall(0, command="NOOP")]) as server, connected(server) as connection:
        task = asyncio.ensure_future(connection.noop())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not connection.is_open
        assert not connection.is_clean
