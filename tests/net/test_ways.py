"""What a server offers and refuses is left out, and the plain way is taken."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from tests.net.test_connection import connected, dialogue, program

import imapipe
from imapipe import search as q
from imapipe.errors import CommandBad, CommandNo, ConnectionLost, ProtocolError
from imapipe.net.account import Account, parse_url
from imapipe.net.authentication import Credentials
from imapipe.net.dial import DialOptions, dial
from imapipe.net.learned import Learned
from imapipe.pipeline.source import find as find_module
from imapipe.pipeline.source.find import find_uids
from imapipe.testing import Bye, CommandRecord, CutAfterBytes, Fault, Inject, Reply, Rewrite, Server, Stall
from imapipe.wire.uid_set import UidSet

pytestmark = pytest.mark.asyncio

ALL, UNSEEN = program(q.ALL), program(q.UNSEEN)
REFUSALS = pytest.mark.parametrize("status", ["NO", "BAD"])


def with_word(word: str) -> Callable[[CommandRecord], bool]:
    return lambda record: word in record.arguments


def refusing(word: str, status: str, *commands: str) -> Reply:
    return Reply(status, "no idea", command=commands or ("UID SEARCH",), when=with_word(word))  # type: ignore[arg-type]


# -- searching ---------------------------------------------------------------------------------------------------------


@REFUSALS
async def test_esearch_that_is_offered_and_refused(status: str) -> None:
    async with Server(3, faults=[refusing("RETURN", status)]) as server, connected(server) as connection:
        await connection.examine("INBOX")
        for _ in range(2):
            assert (await connection.uid_search(ALL, save=True)).uids == UidSet.parse("1:3")
        asked = [record.arguments for record in server.commands.named("UID SEARCH")]
    assert asked == ["RETURN (SAVE ALL COUNT) ALL", "RETURN (ALL COUNT) ALL", "ALL", "ALL"]


@REFUSALS
async def test_a_result_that_cannot_be_saved(status: str) -> None:
    async with Server(3, faults=[refusing("SAVE", status)]) as server, connected(server) as connection:
        await connection.examine("INBOX")
        for _ in range(2):
            assert (await connection.uid_search(ALL, save=True)).uids == UidSet.parse("1:3")
            assert connection.selected is not None
            assert connection.selected.saved is None
        assert (connection.offers("SEARCHRES"), connection.offers("ESEARCH")) == (False, True)
        assert len(server.commands.named("UID SEARCH")) == 3


@REFUSALS
async def test_a_saved_result_that_cannot_be_used(status: str) -> None:
    async with Server(3, faults=[refusing("$", status)]) as server, connected(server) as connection:
        await connection.examine("INBOX")
        saved = (await connection.uid_search(ALL, save=True)).uids
        for _ in range(2):
            assert (await connection.uid_search(ALL, within=saved)).uids == saved
        assert [record.arguments for record in server.commands.named("UID SEARCH")][-2:] == [
            "RETURN (ALL COUNT) UID 1:3 ALL",
            "RETURN (ALL COUNT) UID 1:3 ALL",
        ]


@REFUSALS
@pytest.mark.parametrize(
    ("extension", "word", "asked"),
    [
        ("PARTIAL", "PARTIAL", ["UID SEARCH", "UID SEARCH", "UID SEARCH"]),
        ("UIDBATCHES", "", ["UIDBATCHES", "UID SEARCH", "UID SEARCH"]),
    ],
)
async def test_large_mailboxes_without_what_is_offered_for_them(
    status: str, extension: str, word: str, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find_module, "PAGE_MESSAGES", 2)
    fault = refusing(word, status, "UID SEARCH" if word else "UIDBATCHES")
    extensions = {"ESEARCH", extension}
    async with Server(5, extensions=extensions, faults=[fault]) as server, connected(server) as connection:
        await connection.examine("INBOX")
        for _ in range(2):
            assert await find_uids(connection, ALL, 5) == UidSet.parse("1:5")
        assert [name for name in server.commands.names if name in ("UID SEARCH", "UIDBATCHES")] == asked


@REFUSALS
async def test_a_page_that_is_refused_in_the_middle(status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_module, "PAGE_MESSAGES", 2)
    async with Server(5, faults=[refusing("UID 3:", status)]) as server, connected(server) as connection:
        await connection.examine("INBOX")
        assert await find_uids(connection, ALL, 5) == UidSet.parse("1:5")
        assert not connection.offers("PARTIAL")


async def test_what_is_refused_in_every_form_is_refused() -> None:
    async with Server(3, faults=[Reply("NO", "no", command="UID SEARCH", times=2)]) as server:
        async with connected(server) as connection:
            await connection.examine("INBOX")
            with pytest.raises(CommandNo):
                await connection.uid_search(ALL)
            assert connection.ways.refused == set()
            assert (await connection.uid_search(ALL)).uids == UidSet.parse("1:3")
        assert len(server.commands.named("UID SEARCH")) == 3


@pytest.mark.parametrize(
    "answer",
    [
        [],
        # Of another command (its tag cannot be ours).
        ['S: * ESEARCH (TAG "X9") UID ALL 1:2'],
        ['S: * ESEARCH (TAG "<a>") UID COUNT 3 ALL 1:2'],
        ['S: * ESEARCH (TAG "<a>") UID ALL 1:x'],
        ['S: * ESEARCH (TAG "<a>'],
    ],
)
async def test_an_extended_answer_that_says_nothing_sensible(answer: list[str]) -> None:
    """Defect: without an ESEARCH for its tag a search was answered with nothing found."""
    async with dialogue(
        "C: <a> UID SEARCH RETURN (ALL COUNT) ALL",
        *answer,
        "S: <a> OK",
        "C: <b> UID SEARCH ALL",
        "S: * SEARCH 1 2 3",
        "S: <b> OK",
        capabilities="IMAP4rev1 ESEARCH",
    ) as connection:
        assert (await connection.uid_search(ALL)).uids == UidSet.parse("1:3")
        assert not connection.offers("ESEARCH")


@pytest.mark.parametrize("answer", ['* ESEARCH (TAG "<a>") UID', '* ESEARCH (TAG "<a>")', "* ESEARCH UID", "* ESEARCH"])
async def test_an_extended_answer_without_anything_is_nothing_found(answer: str) -> None:
    """Gmail, Cyrus (go-imap 599, Cyrus 1725)."""
    async with dialogue(
        "C: <a> UID SEARCH RETURN (ALL COUNT) ALL", f"S: {answer}", "S: <a> OK", capabilities="IMAP4rev1 ESEARCH"
    ) as connection:
        assert not (await connection.uid_search(ALL)).uids
        assert connection.offers("ESEARCH")


async def test_a_mod_sequence_in_parentheses_costs_no_search() -> None:
    """MailKit 323."""
    async with dialogue(
        "C: <a> UID SEARCH RETURN (ALL COUNT) ALL",
        'S: * ESEARCH (TAG "<a>") UID ALL 3,5 (MODSEQ 284535)',
        "S: <a> OK",
        "C: <b> UID SEARCH ALL",
        "S: * SEARCH 3 5 (MODSEQ 284535)",
        "S: <b> OK",
        capabilities="IMAP4rev1 ESEARCH",
    ) as connection:
        answer = await connection.uid_search(ALL)
        assert (answer.uids, answer.modseq) == (UidSet.parse("3,5"), 284535)


async def test_a_plain_answer_that_cannot_be_read_is_an_error() -> None:
    async with dialogue("C: <a> UID SEARCH ALL", "S: * SEARCH 1 x (", "S: <a> OK") as connection:
        with pytest.raises(ProtocolError):
            await connection.uid_search(ALL)


async def test_a_plain_search_that_finds_nothing_may_say_nothing() -> None:
    async with dialogue("C: <a> UID SEARCH ALL", "S: <a> OK") as connection:
        assert not (await connection.uid_search(ALL)).uids


# -- opening and leaving -----------------------------------------------------------------------------------------------


@REFUSALS
@pytest.mark.parametrize("command", ["EXAMINE", "SELECT"])
async def test_a_mailbox_that_cannot_be_opened_with_condstore(status: str, command: str) -> None:
    async with Server(3, faults=[refusing("CONDSTORE", status, command)]) as server, connected(server) as connection:
        open_it = connection.examine if command == "EXAMINE" else connection.select
        for _ in range(2):
            assert (await open_it("INBOX", condstore=True)).exists == 3
        asked = [record.arguments for record in server.commands.named(command)]
        assert asked == ['"INBOX" (CONDSTORE)', '"INBOX"', '"INBOX"']
        assert connection.offers("CONDSTORE")


async def test_a_mailbox_that_is_not_there_is_asked_for_once_where_the_server_says_so_with_a_code() -> None:
    missing = Reply("NO", "Mailbox doesn't exist", code="NONEXISTENT", command="EXAMINE")
    async with Server(3, faults=[missing]) as server, connected(server) as connection:
        with pytest.raises(CommandNo):
            await connection.examine("missing", condstore=True)
        assert len(server.commands.named("EXAMINE")) == 1


@REFUSALS
async def test_unselect_that_is_offered_and_refused(status: str) -> None:
    async with Server(3, faults=[refusing("", status, "UNSELECT")]) as server, connected(server) as connection:
        for _ in range(2):
            await connection.select("INBOX")
            await connection.unselect()
            assert connection.selected is None
        assert len(server.commands.named("UNSELECT")) == 1
        assert "CLOSE" not in server.commands.names


# -- odd lines ---------------------------------------------------------------------------------------------------------


async def test_a_line_that_cannot_be_read_and_is_no_answer_ends_no_search() -> None:
    odd = Inject(b'* LIST (\\Odd "/" "never closed\r\n', command="UID SEARCH")
    async with Server(3, extensions="plain", faults=[odd]) as server, connected(server) as connection:
        await connection.examine("INBOX")
        assert (await connection.uid_search(ALL)).uids == UidSet.parse("1:3")
        assert [note.kind for note in connection.ways.learned.notes] == ["list"]


async def test_a_server_that_answers_by_search_what_was_asked_by_esearch_is_believed() -> None:
    plain = Rewrite(lambda line: b"* SEARCH 2\r\n" if b"ESEARCH" in line else line, command="UID SEARCH")
    async with Server(3, faults=[plain]) as server, connected(server) as connection:
        await connection.examine("INBOX")
        assert (await connection.uid_search(UNSEEN)).uids == UidSet.parse("2")
        assert connection.offers("ESEARCH")


@pytest.mark.parametrize("code", ["UNAVAILABLE", "SERVERBUG", "INUSE"])
async def test_a_server_that_is_in_trouble_is_not_asked_in_other_words(code: str) -> None:
    fault = Reply("NO", "no", code=code, command="UID SEARCH")
    async with Server(3, faults=[fault]) as server, connected(server) as connection:
        await connection.examine("INBOX")
        with pytest.raises((CommandNo, CommandBad)):
            await connection.uid_search(ALL)
        assert (len(server.commands.named("UID SEARCH")), connection.ways.refused) == (1, set())


# -- ways in which connections end -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        CutAfterBytes(0, command="LIST", when=with_word("RETURN")),
        Bye("not like that", command="LIST", when=with_word("RETURN")),
        Stall(command="LIST", when=with_word("RETURN")),
    ],
)
@pytest.mark.usefixtures("made_up_time")
async def test_a_way_in_which_connections_end_is_not_taken_a_third_time(fault: Fault) -> None:
    """Defect: each new connection asked in the same way, and ended in it."""
    async with Server(3, faults=[fault]) as server:
        pool = imapipe.create_pool(server.url, password="secret")
        async with pool:
            # Twice with STATUS, twice without; a call tries two connections where they end and are not just silent.
            for _ in range(4):
                with suppress(imapipe.ImapipeError):
                    assert len(await pool.mailboxes()) == 1
            assert [entry.name for entry in await pool.mailboxes()] == ["INBOX"]
        asked = [record.arguments for record in server.commands.named("LIST")]
        assert sum("RETURN (SUBSCRIBED CHILDREN SPECIAL-USE STATUS" in text for text in asked) == 2


async def test_a_connection_that_ends_in_a_way_that_was_answered_closes_nothing() -> None:
    fault = CutAfterBytes(0, command="LIST", nth=2, times=3)
    async with Server(3, faults=[fault]) as server, imapipe.create_pool(server.url, password="secret") as pool:
        await pool.mailboxes()
        for _ in range(2):
            with suppress(imapipe.ImapipeError):
                await pool.mailboxes()
        await pool.mailboxes()
        assert all("STATUS" in record.arguments for record in server.commands.named("LIST"))


async def test_a_server_that_hangs_up_at_compress_is_not_asked_for_it_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Account, "is_loopback", False)
    learned = Learned()
    async with Server(3, faults=[CutAfterBytes(0, command="COMPRESS")]) as server:
        account = parse_url(server.url)
        options = DialOptions(account=account, credentials=Credentials("ann", "secret", None), allow_plaintext=True)
        for _ in range(2):
            with pytest.raises(ConnectionLost):
                await dial(options, slow_link=True, learned=learned)
        connection = await dial(options, slow_link=True, learned=learned)
        await connection.logout()
        assert server.commands.names.count("COMPRESS") == 2


async def test_a_server_that_asks_for_less_closes_no_way() -> None:
    fault = Bye("Too many requests", command="UID SEARCH", times=3)
    async with Server(3, faults=[fault]) as server, imapipe.create_pool(server.url, password="secret") as pool:
        for _ in range(3):
            async with pool.acquire("INBOX") as connection:
                with pytest.raises(imapipe.ImapipeError):
                    await connection.uid_search(ALL)
        async with pool.acquire("INBOX") as connection:
            await connection.uid_search(ALL)
        assert all("RETURN" in record.arguments for record in server.commands.named("UID SEARCH"))
