"""Searches within a set of UIDs: how the set travels, and when `$` stands for it (RFC 5182)."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable
from operator import and_, or_

import pytest

import imapipe
from imapipe import search as q
from imapipe.net import searching
from imapipe.net.search_set import MAX_SEARCH_COMMANDS, pack
from imapipe.testing import Reply, Server, SyntheticMailbox
from imapipe.wire.command.encoder import MAX_COMMAND_BYTES

TODAY = datetime.date(2024, 6, 1)
ALL = q.ALL.program(today=TODAY)
UNSEEN = q.UNSEEN.program(today=TODAY)
FLAGGED = q.FLAGGED.program(today=TODAY)


def odd(count: int) -> imapipe.UidSet:
    return imapipe.UidSet.from_numbers(range(1, 2 * count, 2))


def searches(server: Server) -> list[str]:
    return [record.arguments for record in server.commands.named("UID SEARCH")]


def test_pieces_hold_the_set_and_fit() -> None:
    uids = odd(2_000)
    pieces = pack(uids, 2_000)
    assert len(pieces) == 5
    assert all(len(piece.text()) <= 2_000 for piece in pieces)
    together = imapipe.UidSet()
    for piece in pieces:
        assert together.isdisjoint(piece)
        together |= piece
    assert together == uids


def test_a_set_for_too_many_commands_is_sent_rougher_in_one() -> None:
    uids = odd(200_000)
    (piece,) = pack(uids, 2_000)
    assert len(piece.text()) <= 2_000
    assert uids <= piece
    assert piece.max == uids.max


def test_no_pieces_for_no_uids() -> None:
    assert pack(imapipe.UidSet(), 2_000) == []


@pytest.mark.asyncio
async def test_long_sets_go_in_several_commands_and_very_long_ones_cost_one() -> None:
    async with (
        Server({"INBOX": SyntheticMailbox(40_000)}, remove_extensions=["SEARCHRES"]) as server,
        imapipe.create_pool(server.url, password=server.password) as pool,
        pool.acquire() as connection,
    ):
        await connection.examine("INBOX")
        for within, commands in ((odd(10_000), range(2, MAX_SEARCH_COMMANDS + 1)), (odd(20_000), range(1, 2))):
            server.commands.clear()
            answer = await connection.uid_search(UNSEEN, within=within)
            # UIDs that end in 2, 4 and 7 are unseen.
            assert answer.uids == imapipe.UidSet.from_numbers(uid for uid in within if uid % 10 == 7)
            assert len(searches(server)) in commands
            assert all(len(arguments) < MAX_COMMAND_BYTES for arguments in searches(server))
        server.commands.clear()
        assert not (await connection.uid_search(UNSEEN, within=imapipe.UidSet())).uids
        assert not searches(server)


@pytest.mark.asyncio
async def test_a_saved_result_is_searched_by_its_name_until_it_is_lost() -> None:
    async with (
        Server({"INBOX": SyntheticMailbox(1_000), "Other": 3}) as server,
        imapipe.create_pool(server.url, password=server.password) as pool,
        pool.acquire() as connection,
    ):
        await connection.examine("INBOX")
        unseen = (await connection.uid_search(UNSEEN, save=True)).uids
        assert len(unseen) == 300
        flagged = (await connection.uid_search(FLAGGED, within=unseen, save=True)).uids
        assert len(flagged) == 100
        assert searches(server) == ["RETURN (SAVE ALL COUNT) UNSEEN", "RETURN (SAVE ALL COUNT) $ FLAGGED"]

        # Another result is saved now; the first one must be sent.
        server.commands.clear()
        assert (await connection.uid_search(FLAGGED, within=unseen)).uids == flagged
        assert searches(server)[0].startswith("RETURN (ALL COUNT) UID 2,4,7,12")

        # The user's own search takes its place.
        server.commands.clear()
        await connection.imap.uid_search("RETURN (SAVE) ALL", charset=None)
        await connection.uid_search(ALL, within=flagged)
        assert "$" not in searches(server)[-1]

        # So does opening a mailbox, even the same one.
        await connection.uid_search(FLAGGED, save=True)
        await connection.examine("INBOX")
        await connection.uid_search(ALL, within=flagged)
        assert "$" not in searches(server)[-1]


@pytest.mark.asyncio
async def test_expunged_messages_drop_out_of_a_saved_result() -> None:
    async with (
        Server({"INBOX": SyntheticMailbox(100)}) as server,
        imapipe.create_pool(server.url, password=server.password) as pool,
        pool.acquire() as connection,
    ):
        await connection.examine("INBOX")
        unseen = (await connection.uid_search(UNSEEN, save=True)).uids
        server.mailboxes["INBOX"].expunge([2, 4])
        await connection.noop()
        answer = await connection.uid_search(ALL, within=unseen)
        assert searches(server)[-1].startswith("RETURN (ALL COUNT) $")
        assert answer.uids == unseen - imapipe.UidSet.from_numbers([2, 4])


@pytest.mark.asyncio
async def test_a_server_that_cannot_save_is_asked_without() -> None:
    async with (
        Server({"INBOX": SyntheticMailbox(100)}) as server,
        imapipe.create_pool(server.url, password=server.password) as pool,
        pool.acquire() as connection,
    ):
        await connection.examine("INBOX")
        server.faults.add(Reply("NO", "Too much", "NOTSAVED", command="UID SEARCH", nth=1))
        assert len((await connection.uid_search(UNSEEN, save=True)).uids) == 30
        assert searches(server) == ["RETURN (SAVE ALL COUNT) UNSEEN", "RETURN (ALL COUNT) UNSEEN"]


@pytest.mark.asyncio
async def test_large_sets_are_put_together_by_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million scattered UIDs are half a second of the processor."""
    here = threading.get_ident()
    ranges_here = [0]

    def counting(
        operation: Callable[[imapipe.UidSet, imapipe.UidSet], imapipe.UidSet],
    ) -> Callable[..., imapipe.UidSet]:
        def count(left: imapipe.UidSet, right: imapipe.UidSet) -> imapipe.UidSet:
            if threading.get_ident() == here:
                ranges_here.append(left.range_count + right.range_count)
            return operation(left, right)

        return count

    monkeypatch.setattr(searching, "and_", counting(and_))
    monkeypatch.setattr(searching, "or_", counting(or_))
    monkeypatch.setattr(searching, "MANY_RANGES", 300)
    async with (
        Server({"INBOX": SyntheticMailbox(2000)}) as server,
        imapipe.create_pool(server.url, password="secret") as pool,
        pool.acquire("INBOX") as lease,
    ):
        within = odd(1000)
        program = q.ALL.program(today=datetime.date(2024, 6, 1))
        answer = await lease.uid_search(program, within=within)
        assert answer.uids == within
    assert max(ranges_here) <= 300
