"""Large mailboxes: searches in pages and ranges, UIDONLY, MESSAGELIMIT, each with its fallback."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest

import imapipe
from imapipe import search as q
from imapipe.pipeline.source import find
from imapipe.testing import Rewrite, Server, SyntheticMailbox
from imapipe.wire.uid_set import MAX_UID, UidSet


async def _ignore(message: imapipe.Message) -> None:
    """A handler that does nothing."""


def _searches(server: Server) -> list[str]:
    return [record.arguments for record in server.commands.named("UID SEARCH")]


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "PAGE_MESSAGES", 500)


@pytest.mark.asyncio
@pytest.mark.usefixtures("small_pages")
async def test_a_search_goes_in_pages_by_the_last_uid_where_partial_is_offered() -> None:
    mailbox = SyntheticMailbox(1200, step=3)
    async with Server({"INBOX": mailbox}, add_extensions=["PARTIAL"]) as server:
        async with imapipe.create_pool(server.url, password="secret") as pool:
            found = await pool.mailbox("INBOX").search(q.ALL).uids()
        searches = _searches(server)
    assert len(found) == 1200
    assert [text.split(" UID ")[1].split(":")[0] if " UID " in text else "" for text in searches] == [
        "",
        "1499",
        "2999",
    ]
    assert all("RETURN (PARTIAL 1:500)" in text for text in searches)


@pytest.mark.asyncio
@pytest.mark.usefixtures("small_pages")
async def test_a_search_goes_by_ranges_where_uidbatches_is_offered() -> None:
    mailbox = SyntheticMailbox(1200, step=3)
    async with Server(
        {"INBOX": mailbox}, add_extensions=["UIDBATCHES"], remove_extensions=["PARTIAL"], minimum_uid_batch=1
    ) as server:
        async with imapipe.create_pool(server.url, password="secret") as pool:
            found = await pool.mailbox("INBOX").search(q.SEEN).uids()
            at_once = await pool.mailbox("INBOX").search(q.SEEN & q.uid("1:*")).uids()
        assert server.commands.by_name["UIDBATCHES"] >= 1
        assert len([text for text in _searches(server) if " UID " in text and "SEEN" in text]) >= 3
    assert UidSet.from_numbers(found) == UidSet.from_numbers(at_once)


@pytest.mark.asyncio
@pytest.mark.usefixtures("small_pages")
async def test_however_many_ranges_a_server_tells_not_all_are_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 of them took 17 seconds: a task for each, and a look at all in flight for each of their answers."""
    monkeypatch.setattr(find, "PAGE_MESSAGES", 10)
    monkeypatch.setattr(find, "MAX_CUTS", 5)
    async with Server(
        {"INBOX": SyntheticMailbox(1200, step=3)},
        add_extensions=["UIDBATCHES"],
        remove_extensions=["PARTIAL"],
        minimum_uid_batch=1,
    ) as server:
        async with imapipe.create_pool(server.url, password="secret") as pool:
            found = await pool.mailbox("INBOX").search(q.ALL).uids()
        searches = _searches(server)
    assert UidSet.from_numbers(found) == UidSet.from_numbers(range(1, 3600, 3))
    assert len(searches) == 6


@pytest.mark.parametrize(
    "lows", [[], [1], [1, 2, 500], [MAX_UID], [0, 7, 7, 7], range(1, 20_001), range(20_000, 0, -1), range(90, 110)]
)
def test_ranges_leave_no_uid_out(lows: Iterable[int]) -> None:
    ranges = find._cut_at(lows)
    assert UidSet.from_ranges(ranges) == UidSet.from_ranges([(1, MAX_UID)])
    assert all(first <= last for first, last in ranges)
    assert sum(last - first + 1 for first, last in ranges) == MAX_UID
    assert len(ranges) <= find.MAX_CUTS + 1


@pytest.mark.asyncio
@pytest.mark.usefixtures("small_pages")
async def test_without_either_one_plain_search_finds_all() -> None:
    async with Server({"INBOX": SyntheticMailbox(1200)}, extensions="plain") as server:
        async with imapipe.create_pool(server.url, password="secret") as pool:
            assert len(await pool.mailbox("INBOX").search(q.ALL).uids()) == 1200
        assert _searches(server) == ["ALL"]


@pytest.mark.asyncio
@pytest.mark.parametrize("uidonly", [None, False])
async def test_uidonly_shows_what_yahoo_hides(uidonly: bool | None) -> None:
    async with (
        Server({"INBOX": SyntheticMailbox(3000)}, extensions="yahoo", visible_limit=1000, message_limit=None) as server,
        imapipe.create_pool(server.url, password="secret", uidonly=uidonly) as pool,
    ):
        report = await pool.mailbox("INBOX").search(q.ALL).fetch("flags").run(_ignore, connections=1)
    assert report.complete
    assert report.done == (3000 if uidonly is None else 1000)


@pytest.mark.asyncio
@pytest.mark.parametrize("extensions", ["yahoo", "everything"])
async def test_messagelimit_is_an_answer_that_goes_on(extensions: str) -> None:
    async with Server({"INBOX": SyntheticMailbox(2500)}, extensions=extensions, message_limit=300) as server:
        async with imapipe.create_pool(server.url, password="secret") as pool:
            report = await pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(1000).run(_ignore, connections=1)
        assert max(record.messages for record in server.commands.named("UID FETCH")) <= 300
    assert (report.planned, report.done, report.failed) == (2500, 2500, 0)


@pytest.mark.asyncio
async def test_a_million_messages_are_planned_without_an_object_for_each() -> None:
    async with (
        Server({"INBOX": SyntheticMailbox(1_000_000)}) as server,
        imapipe.create_pool(server.url, password="secret") as pool,
    ):
        found = await pool.mailbox("INBOX").search(q.ALL).uids()
    assert len(found) == 1_000_000


@pytest.mark.parametrize("size", [1, 500])
@pytest.mark.usefixtures("made_up_time")
@pytest.mark.asyncio
async def test_more_messages_than_there_can_be_are_not_believed(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """The plan of four thousand million messages was made, and begun; of a page as well."""
    monkeypatch.setattr(find, "PAGE_MESSAGES", size)

    def lie(line: bytes) -> bytes:
        return re.sub(rb"ALL \S+ COUNT \d+|PARTIAL \(1:\d+ \S+\)", b"ALL 1:4294967295", line)

    async with (
        Server(
            {"INBOX": SyntheticMailbox(10)},
            add_extensions=["PARTIAL"],
            faults=[Rewrite(lie, command="UID SEARCH")],
        ) as server,
        imapipe.create_pool(server.url, password="secret") as pool,
    ):
        with pytest.raises(imapipe.ProtocolError, match="4,294,967,295 messages in a mailbox of 10"):
            await pool.mailbox("INBOX").search(q.ALL).uids()
