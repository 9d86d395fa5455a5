"""Which mailboxes there are: extended LIST, STATUS of many, and what a refusal or an odd line costs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest
from tests.net.test_connection import connected, dialogue

import imapipe
from imapipe.errors import CommandNo, ProtocolError, Throttled
from imapipe.net.listing import MAX_IN_FLIGHT, STATUS_ITEMS
from imapipe.testing import CommandRecord, Fault, Inject, Mailboxes, Reply, Rewrite, Server, Stall

MORE_ITEMS = (*STATUS_ITEMS, "SIZE", "HIGHESTMODSEQ", "MAILBOXID")
MANY = {f"folder {number:03}": number % 3 for number in range(200)}
MORE_THAN_A_WINDOW = {f"folder {number:03}": 0 for number in range(MAX_IN_FLIGHT + 20)}


def with_roles() -> Mailboxes:
    boxes = Mailboxes()
    boxes.add("INBOX")
    boxes.add("Sent", special_use="\\Sent")
    boxes.add("Sent/2026", subscribed=False)
    return boxes


async def fired(fault: Fault) -> None:
    for _ in range(1_000_000):
        if fault.fired:
            return
        await asyncio.sleep(0)
    raise AssertionError("it never fired")


def names_with(word: str) -> Callable[[CommandRecord], bool]:
    return lambda record: word in record.arguments


# -- what an extended LIST is asked for --------------------------------------------------------------------------------


@pytest.mark.parametrize("extensions", ["modern", "dovecot", "gmail", "yahoo"])
@pytest.mark.parametrize("items", [(), STATUS_ITEMS])
@pytest.mark.asyncio
async def test_an_extended_list_asks_for_roles(extensions: str, items: tuple[str, ...]) -> None:
    """Defect: `LIST … RETURN (STATUS …)` gives what is named and nothing else, so nothing had a special use."""
    async with Server(with_roles(), extensions=extensions) as server, connected(server) as connection:
        entries = await connection.list(status_items=items)
        assert {entry.name: entry.special_use for entry in entries} == {
            "INBOX": None,
            "Sent": "\\Sent",
            "Sent/2026": None,
        }
        assert len(server.commands.named("LIST")) == 1
        assert not server.commands.named("STATUS")


@pytest.mark.asyncio
async def test_subscriptions_and_children_are_told() -> None:
    async with Server(with_roles()) as server, connected(server) as connection:
        entries = {entry.name: entry.attributes for entry in await connection.list(status_items=STATUS_ITEMS)}
    assert entries["Sent"] == {"\\Sent", "\\Subscribed", "\\HasChildren"}
    assert entries["Sent/2026"] == {"\\HasNoChildren"}


@pytest.mark.asyncio
async def test_a_server_without_the_extensions_is_asked_in_the_old_way() -> None:
    async with Server(with_roles(), extensions="plain") as server, connected(server) as connection:
        await connection.list()
    assert [record.arguments for record in server.commands.named("LIST")] == ['"" "*"']


@pytest.mark.parametrize("status", ["NO", "BAD"])
@pytest.mark.parametrize(
    ("word", "asked"),
    [
        # What it chokes on, and the LISTs and STATUS commands of two listings.
        ("STATUS", (3, 2 * 200 + 2)),
        ("RETURN", (4, 2 * 200 + 2)),
        ("MAILBOXID", (3, 2 * (200 + 1) + 200 + 1)),
    ],
)
@pytest.mark.asyncio
async def test_a_list_that_is_refused_is_made_in_a_plainer_way(status: str, word: str, asked: tuple[int, int]) -> None:
    fault = Reply(status, "no idea", command=("LIST", "STATUS"), when=names_with(word))  # type: ignore[arg-type]
    async with Server(MANY, faults=[fault]) as server, connected(server) as connection:
        for _ in range(2):
            entries = await connection.list(status_items=MORE_ITEMS)
            counts = {entry.name: entry.status.messages for entry in entries if entry.status is not None}
            assert counts == {"INBOX": 0, **MANY}
        # The second listing began with what was taken.
        assert (len(server.commands.named("LIST")), len(server.commands.named("STATUS"))) == asked
        assert connection.is_clean


@pytest.mark.asyncio
async def test_where_the_plain_way_is_refused_too_no_way_is_closed() -> None:
    async with (
        Server(3, faults=[Reply("NO", "no", command="LIST", times=3)]) as server,
        connected(server) as connection,
    ):
        with pytest.raises(CommandNo):
            await connection.list(status_items=STATUS_ITEMS)
        assert connection.ways.refused == set()
        await connection.list(status_items=STATUS_ITEMS)
        assert "RETURN (SUBSCRIBED" in server.commands.named("LIST")[-1].arguments


@pytest.mark.parametrize("code", ["UNAVAILABLE", "INUSE", "NOPERM", "LIMIT"])
@pytest.mark.asyncio
async def test_a_refusal_that_speaks_of_something_else_is_no_matter_of_the_way(code: str) -> None:
    async with Server(3, faults=[Reply("NO", "no", code=code, command="LIST")]) as server:
        async with connected(server) as connection:
            with pytest.raises((CommandNo, Throttled)):
                await connection.list()
            assert connection.ways.refused == set()
        assert len(server.commands.named("LIST")) == 1


# -- servers that others met -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extensions", [{"LIST-EXTENDED"}, {"LIST-EXTENDED", "LIST-STATUS"}, {"LIST-STATUS"}])
@pytest.mark.asyncio
async def test_zimbra_is_not_asked_for_the_special_uses_that_it_does_not_offer(extensions: set[str]) -> None:
    async with Server(with_roles(), extensions=extensions) as server, connected(server) as connection:
        entries = await connection.list(status_items=STATUS_ITEMS)
        assert len(entries) == 3
        assert all(entry.status is not None for entry in entries)
        asked = server.commands.named("LIST")
    assert [record.outcome for record in asked] == ["OK"]
    assert "SPECIAL-USE" not in asked[0].arguments
    assert ("SUBSCRIBED" in asked[0].arguments) == ("LIST-EXTENDED" in extensions)


@pytest.mark.parametrize("items", [(), STATUS_ITEMS])
@pytest.mark.asyncio
async def test_davmail_that_lists_mailboxes_with_a_role_only(items: tuple[str, ...]) -> None:
    """Others showed these few mailboxes as all there are."""

    def choose(line: bytes) -> bytes:
        return b"" if line.startswith((b"* LIST", b"* STATUS")) and b"\\Sent" not in line else line

    fault = Rewrite(choose, command="LIST", when=names_with("RETURN"))
    async with Server(with_roles(), faults=[fault]) as server, connected(server) as connection:
        for _ in range(2):
            entries = await connection.list(status_items=items)
            assert {entry.name: entry.special_use for entry in entries} == {
                "INBOX": None,
                "Sent": "\\Sent",
                "Sent/2026": None,
            }
            assert all(entry.status is not None for entry in entries) or not items


@pytest.mark.asyncio
async def test_a_part_of_the_mailboxes_may_be_without_inbox() -> None:
    async with Server(with_roles()) as server, connected(server) as connection:
        assert [entry.name for entry in await connection.list("Sent%")] == ["Sent"]
        assert [entry.name for entry in await connection.list("*", reference="Sent/")] == ["Sent/2026"]
        assert len(server.commands.named("LIST")) == 2
        assert connection.ways.refused == set()


@pytest.mark.asyncio
async def test_zoho_tells_roles_without_offering_them() -> None:
    async with dialogue(
        'C: <a> LIST "" "*"', 'S: * LIST (\\HasNoChildren \\Sent) "/" "Sent"', "S: <a> OK done"
    ) as connection:
        assert [entry.special_use for entry in await connection.list()] == ["\\Sent"]


@pytest.mark.asyncio
async def test_a_server_with_special_use_and_no_extended_list_is_asked_in_the_old_way() -> None:
    async with Server(with_roles(), extensions={"SPECIAL-USE"}) as server, connected(server) as connection:
        roles = {entry.name: entry.special_use for entry in await connection.list(status_items=STATUS_ITEMS)}
        assert roles["Sent"] == "\\Sent"
        assert [record.arguments for record in server.commands.named("LIST")] == ['"" "*"']


@pytest.mark.asyncio
async def test_cyrus_tells_roles_only_when_it_is_asked() -> None:
    plain = Rewrite(
        lambda line: line.replace(b"\\Sent", b"\\Marked"), command="LIST", when=lambda r: "RETURN" not in r.arguments
    )
    async with Server(with_roles(), faults=[plain]) as server, connected(server) as connection:
        assert [entry.special_use for entry in await connection.list()] == [None, "\\Sent", None]


@pytest.mark.asyncio
async def test_stalwart_lists_all_names_before_all_counts() -> None:
    async with dialogue(
        'C: <a> LIST "" "*" RETURN (STATUS (MESSAGES))',
        'S: * LIST () "/" "Archive"',
        'S: * LIST (\\NonExistent) "/" "Shared"',
        'S: * LIST () "/" "INBOX"',
        'S: * STATUS "Archive" (MESSAGES 1)',
        'S: * STATUS "INBOX" (MESSAGES 80)',
        "S: <a> OK done",
        capabilities="IMAP4rev1 LIST-STATUS",
    ) as connection:
        entries = await connection.list(status_items=["MESSAGES"])
    assert [(entry.name, entry.status and entry.status.messages) for entry in entries] == [
        ("Archive", 1),
        ("Shared", None),
        ("INBOX", 80),
    ]


@pytest.mark.asyncio
async def test_purelymail_takes_the_rest_of_what_it_refuses_for_commands() -> None:
    async with dialogue(
        'C: <a> LIST "" "*" RETURN (SUBSCRIBED CHILDREN)',
        "S: <a> BAD LIST failed. Illegal arguments.",
        "S: ETURN BAD failed. Unknown command.",
        "S: * BAD failed. Unknown command.",
        'C: <b> LIST "" "*"',
        'S: * LIST () "/" INBOX',
        "S: <b> OK",
        "C: <c> NOOP",
        "S: <c> OK",
        capabilities="IMAP4rev1 LIST-EXTENDED",
    ) as connection:
        assert [entry.name for entry in await connection.list()] == ["INBOX"]
        await connection.noop()


@pytest.mark.asyncio
async def test_names_that_others_could_not_read() -> None:
    async with dialogue(
        'C: <a> LIST "" "*"',
        # SEINE, MsgServe; Dovecot; Domino; Airmail; Grommunio; Exchange.
        'S: * LIST (\\NoInferiors) NIL "INBOX"',
        'S: * LIST (\\HasNoChildren) "/" 200',
        'S: * LIST (\\HasNoChildren) "\\\\" Folder\\Subfolder 1',
        'S: * LIST (\\HasChildren) "." Trash.[Airmail]',
        'S: * LIST () "/" Deleted Items',
        'S: * LIST () "/" folder (name)',
        'S: * LIST () "/" work ',
        'S: * LIST () "/" parent ("CHILDINFO" ("SUBSCRIBED"))',
        "S: * STATUS 200 (MESSAGES 2)",
        "S: * STATUS Folder\\Subfolder 1 (MESSAGES 3)",
        "S: * STATUS Trash.[Airmail] (MESSAGES 4)",
        "S: * STATUS Deleted Items (MESSAGES 5 UNSEEN 0 RECENT 0)",
        "S: * STATUS folder (name) (MESSAGES 6)",
        "S: * STATUS work (MESSAGES 7 UNSEEN NIL)",
        "S: * STATUS parent ()",
        "S: <a> OK done",
    ) as connection:
        entries = await connection.list()
        assert connection.ways.learned.notes == {}
    assert [(entry.name, entry.delimiter, entry.status and entry.status.messages) for entry in entries] == [
        ("INBOX", None, None),
        ("200", "/", 2),
        ("Folder\\Subfolder 1", "\\", 3),
        ("Trash.[Airmail]", ".", 4),
        ("Deleted Items", "/", 5),
        ("folder (name)", "/", 6),
        ("work", "/", 7),
        ("parent", "/", None),
    ]


# -- STATUS of many ----------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_without_list_status_the_mailboxes_are_asked_together() -> None:
    """Defect: one STATUS after the other: 200 mailboxes at 50 ms took 10 seconds."""
    async with Server(MANY, extensions="plain", latency_seconds=0.05) as server, connected(server) as connection:
        entries = await connection.list(status_items=STATUS_ITEMS)
        asked = server.commands.named("STATUS")
    assert {entry.name: entry.status.messages for entry in entries if entry.status} == {"INBOX": 0, **MANY}
    assert len(asked) == 201
    # All but the first one were there before the answer to the one before them had gone out.
    assert sum(record.pipelined for record in asked) == 200


@pytest.mark.asyncio
async def test_no_more_than_a_window_is_on_its_way_and_300_mailboxes_fit_in_it() -> None:
    assert MAX_IN_FLIGHT > 300
    fault = Stall(command="STATUS", nth=1)
    async with (
        Server(MORE_THAN_A_WINDOW, extensions="plain", faults=[fault]) as server,
        connected(server) as connection,
    ):
        listing = asyncio.create_task(connection.list(status_items=STATUS_ITEMS))
        await fired(fault)
        assert len(connection.plane._outbox.flight) == MAX_IN_FLIGHT
        server.release_stalls()
        assert len(await listing) == 1 + len(MORE_THAN_A_WINDOW)


@pytest.mark.parametrize("status", ["NO", "BAD"])
@pytest.mark.parametrize("extensions", ["plain", "exchange"])
@pytest.mark.asyncio
async def test_a_refused_status_concerns_its_mailbox_only(status: str, extensions: str) -> None:
    fault = Reply(status, "no permission", command="STATUS", when=names_with("007"))  # type: ignore[arg-type]
    async with Server(MANY, extensions=extensions, faults=[fault]) as server, connected(server) as connection:
        entries = await connection.list(status_items=MORE_ITEMS)
        assert [entry.name for entry in entries if entry.status is None] == ["folder 007"]
        assert len(entries) == 201
        assert connection.ways.refused == set()
        assert [(note.kind, count) for note, count in connection.ways.learned.notes.items()] == [("status", 1)]


@pytest.mark.asyncio
async def test_counts_that_an_extended_list_leaves_out_are_asked_for() -> None:
    """RFC 5819 §2 lets a server leave out what it cannot tell; some leave out all."""
    dropped = Rewrite(lambda line: b"" if line.startswith(b"* STATUS") else line, command="LIST")
    async with Server({"INBOX": 3, "x": 1}, faults=[dropped]) as server, connected(server) as connection:
        entries = await connection.list(status_items=STATUS_ITEMS)
        assert {entry.name: entry.status.messages for entry in entries if entry.status} == {"INBOX": 3, "x": 1}
        assert len(server.commands.named("STATUS")) == 2


@pytest.mark.asyncio
async def test_a_status_item_that_is_offered_and_refused_costs_that_item() -> None:
    fault = Reply("BAD", "Unknown item", command="STATUS", when=names_with("MAILBOXID"))
    async with Server(3, faults=[fault]) as server, connected(server) as connection:
        for _ in range(2):
            status = await connection.status("INBOX", MORE_ITEMS)
            assert (status.messages, status.mailbox_id) == (3, None)
        assert len(server.commands.named("STATUS")) == 3
        assert connection.offers("OBJECTID")


@pytest.mark.asyncio
async def test_answers_are_told_apart_by_their_names() -> None:
    async with dialogue(
        'C: <a> LIST "" "*"',
        'S: * LIST () "/" one',
        'S: * LIST () "/" two',
        'S: * LIST () "/" "Entw&APw-rfe"',
        "S: <a> OK done",
        'C: <b> STATUS "one" …',
        'C: <c> STATUS "two" …',
        'C: <d> STATUS "Entw&APw-rfe" …',
        "S: * STATUS two (MESSAGES 2)",
        "S: * STATUS one (MESSAGES 1)",
        "S: <b> OK done",
        "S: * STATUS one (MESSAGES 11",
        "S: * 5 FETCH (",
        "S: <c> OK done",
        # Another spelling of its name.
        'S: * STATUS "Entw&-rfe" (MESSAGES 3)',
        "S: <d> OK done",
    ) as connection:
        entries = await connection.list(status_items=["MESSAGES"])
        assert [entry.status.messages for entry in entries if entry.status] == [1, 2, 3]


@pytest.mark.asyncio
async def test_a_server_that_asks_for_less_is_not_asked_for_more() -> None:
    fault = Reply("NO", "Rate limit hit.", code="LIMIT", command="STATUS", nth=5)
    async with (
        Server(MORE_THAN_A_WINDOW, extensions="plain", faults=[fault]) as server,
        connected(server) as connection,
    ):
        with pytest.raises(Throttled):
            await connection.list(status_items=STATUS_ITEMS)
        assert connection.is_clean
        assert len(server.commands.named("STATUS")) <= MAX_IN_FLIGHT + 4


@pytest.mark.asyncio
async def test_cancelled_in_the_middle_it_ends_the_connection() -> None:
    fault = Stall(command="STATUS", nth=5)
    async with Server(MANY, extensions="plain", faults=[fault]) as server, connected(server) as connection:
        listing = asyncio.create_task(connection.list(status_items=STATUS_ITEMS))
        await fired(fault)
        listing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listing
        assert not connection.is_open


# -- what is passed over is told ---------------------------------------------------------------------------------------

ODD_LIST = b'* LIST (\\HasNoChildren "/" "never closed\r\n'


@pytest.mark.asyncio
async def test_a_line_of_a_list_that_cannot_be_read_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Defect: the mailbox was not in the list, and nobody knew."""
    async with (
        Server(3, faults=[Inject(ODD_LIST, command="LIST")]) as server,
        imapipe.create_pool(server.url, password="secret") as pool,
    ):
        assert pool.notes == {}
        with caplog.at_level(logging.WARNING, "imapipe"):
            assert [entry.name for entry in await pool.mailboxes()] == ["INBOX"]
            await pool.mailboxes()
        [(note, count)] = pool.notes.items()
    assert (note.kind, count) == ("list", 2)
    assert "LIST" in note.detail
    assert len([record for record in caplog.records if "passed over" in record.message]) == 1


@pytest.mark.asyncio
async def test_odd_lines_that_are_no_answer_end_no_command() -> None:
    odd = Inject(b"* QUOTA (\r\n* ID (\r\n" + ODD_LIST, command=("STATUS", "NAMESPACE"))
    async with Server(3, faults=[odd]) as server, connected(server) as connection:
        assert (await connection.status("INBOX")).messages == 3
        assert await connection.namespace() is not None
        assert {note.kind for note in connection.ways.learned.notes} == {"id", "list", "quota"}


@pytest.mark.asyncio
async def test_an_answer_that_cannot_be_read_is_no_answer() -> None:
    odd = Rewrite(
        lambda line: b"* STATUS INBOX (MESSAGES\r\n" if line.startswith(b"* STATUS") else line, command="STATUS"
    )
    async with Server(3, faults=[odd]) as server, connected(server) as connection:
        with pytest.raises(ProtocolError, match="without a STATUS response"):
            await connection.status("INBOX")
        assert [note.kind for note in connection.ways.learned.notes] == ["status"]


# -- names that are spelled otherwise ----------------------------------------------------------------------------------

LIST_OF_ODD = (
    'C: <l> LIST "" "*"',
    'S: * LIST () "/" "Entw&APw-rfe"',
    # Base64 that holds more than it must, characters composed of two, raw UTF-8.
    'S: * LIST () "/" "&AGEA5A-"',
    'S: * LIST () "/" "U&Awg-bersicht"',
    'S: * LIST () "/" "Größe"',
    "S: <l> OK done",
)


@pytest.mark.parametrize(
    ("typed", "sent", "spelled"),
    [
        ("aä", '"a&AOQ-"', '"&AGEA5A-"'),
        ("Übersicht", '"&ANw-bersicht"', '"U&Awg-bersicht"'),
        ("Größe", '"Gr&APYA3w-e"', '"Größe"'),
        ("Entw&APw-rfe", '"Entw&-APw-rfe"', '"Entw&APw-rfe"'),
    ],
)
@pytest.mark.asyncio
async def test_a_name_that_is_typed_by_hand_opens_what_the_server_spells_otherwise(
    typed: str, sent: str, spelled: str
) -> None:
    """Defect: only a name that came out of a list opened."""
    async with dialogue(
        f"C: <a> EXAMINE {sent}",
        "S: <a> NO no such mailbox",
        *LIST_OF_ODD,
        f"C: <b> EXAMINE {spelled}",
        "S: * 3 EXISTS",
        "S: <b> OK done",
        # From now on it is known.
        f"C: <c> SELECT {spelled}",
        "S: * 3 EXISTS",
        "S: <c> OK done",
        f"C: <d> STATUS {spelled} (MESSAGES)",
        f"S: * STATUS {spelled} (MESSAGES 3)",
        "S: <d> OK done",
    ) as connection:
        assert (await connection.examine(typed)).name == typed
        assert (await connection.select(typed)).exists == 3
        assert (await connection.status(typed, ["MESSAGES"])).name == typed


@pytest.mark.asyncio
async def test_the_counts_of_a_name_that_is_typed_by_hand() -> None:
    async with dialogue(
        'C: <a> STATUS "a&AOQ-" (MESSAGES)',
        "S: <a> NO no such mailbox",
        *LIST_OF_ODD,
        'C: <b> STATUS "&AGEA5A-" (MESSAGES)',
        'S: * STATUS "&AGEA5A-" (MESSAGES 3)',
        "S: <b> OK done",
    ) as connection:
        assert (await connection.status("aä", ["MESSAGES"])).messages == 3


@pytest.mark.asyncio
async def test_a_name_out_of_a_list_opens_at_once_and_is_told_as_text() -> None:
    async with dialogue(
        *LIST_OF_ODD,
        'C: <a> EXAMINE "&AGEA5A-"',
        "S: * 3 EXISTS",
        "S: <a> OK done",
        'C: <b> SELECT "&AGEA5A-"',
        "S: * 3 EXISTS",
        "S: <b> OK done",
    ) as connection:
        [name] = [entry.name for entry in await connection.list() if entry.name == "aä"]
        told = (await connection.examine(name)).name
        assert (type(told), told) == (str, "aä")
        await connection.select(told)


@pytest.mark.asyncio
async def test_a_name_that_is_not_there_is_looked_for_once() -> None:
    async with Server(3) as server, connected(server) as connection:
        for _ in range(2):
            with pytest.raises(CommandNo):
                await connection.examine("Größe")
            with pytest.raises(CommandNo):
                await connection.status("Größe")
        with pytest.raises(CommandNo):
            await connection.examine("missing")
        assert len(server.commands.named("LIST")) == 1
