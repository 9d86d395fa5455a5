"""What is not believed, or not told, of the flags of a mailbox; on the testing server, which lies on demand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import imapipe
from imapipe import Arrived, FlagsChanged, Vanished
from imapipe.store.json_file import JsonFile
from imapipe.testing import (
    Act,
    CutAfterBytes,
    Mailbox,
    OmitUids,
    PoisonUids,
    ReplaceResponses,
    Reply,
    SearchCap,
    Server,
    SyntheticMailbox,
)
from imapipe.testing.messages import make_messages

pytestmark = pytest.mark.asyncio

COUNT = 12


@asynccontextmanager
async def synced(path: Path, extensions: str = "modern") -> AsyncIterator[tuple[Server, imapipe.Changes]]:
    """A server whose mailbox was looked at once."""
    boxes = {"INBOX": Mailbox(make_messages(COUNT))}
    async with (
        Server(boxes, extensions=extensions) as server,
        imapipe.create_pool(server.url, password=server.password) as pool,
    ):
        changes = pool.mailbox("INBOX").changes(path / "sync.json")
        assert len([change async for change in changes]) == COUNT
        yield server, changes


async def test_a_server_that_keeps_silent_about_what_vanished_is_found_out(tmp_path: Path) -> None:
    async with synced(tmp_path) as (server, changes):
        box = server.mailboxes["INBOX"]
        box.expunge([4])
        box.vanished.clear()
        box.set_flags(6, {"\\Deleted"})
        assert [change async for change in changes] == [FlagsChanged(6, frozenset({"\\Deleted"})), Vanished(4)]
        assert len(server.commands.named("UID SEARCH")) == 2


async def test_a_refused_fetch_by_modseq_is_made_in_the_plain_way(tmp_path: Path) -> None:
    async with synced(tmp_path) as (server, changes):
        server.mailboxes["INBOX"].expunge([4])
        server.faults.add(Reply("BAD", "Unknown FETCH modifier", command="UID FETCH", times=2))
        assert [change async for change in changes] == [Vanished(4)]


@pytest.mark.parametrize("extensions", ["modern", "gmail", "plain"])
async def test_an_answer_that_cannot_be_read_loses_nothing(tmp_path: Path, extensions: str) -> None:
    async with synced(tmp_path, extensions) as (server, changes):
        box = server.mailboxes["INBOX"]
        box.set_flags(6, {"\\Deleted"})
        box.append(b"Subject: new\r\n\r\nnew\r\n")
        server.faults.add(ReplaceResponses({6: b"* 6 FETCH (UID 6 FLAGS ((((\r\n"}, command="UID FETCH", times=10))
        assert [change async for change in changes] == [Arrived(COUNT + 1, frozenset())]
        box.set_flags(6, {"\\Seen"})
        server.faults.clear()
        assert [change async for change in changes] == [FlagsChanged(6, frozenset({"\\Seen"}))]


async def test_a_message_left_out_of_an_answer_is_not_gone(tmp_path: Path) -> None:
    async with synced(tmp_path, "plain") as (server, changes):
        box = server.mailboxes["INBOX"]
        box.set_flags(3, {"$Work"})
        assert [change async for change in changes] == [FlagsChanged(3, frozenset({"$Work"}))]
        box.set_flags(6, {"\\Deleted"})
        server.faults.add(OmitUids({3}, command="UID FETCH", times=10))
        assert [change async for change in changes] == [FlagsChanged(6, frozenset({"\\Deleted"}))]


async def test_what_is_expunged_meanwhile_is_gone(tmp_path: Path) -> None:
    async with synced(tmp_path, "plain") as (server, changes):
        box = server.mailboxes["INBOX"]
        server.faults.add(Act(lambda _: box.expunge([3]), command="UID FETCH"))
        assert [change async for change in changes] == [Vanished(3)]


async def test_mod_sequences_that_begin_anew_prove_nothing(tmp_path: Path) -> None:
    async with synced(tmp_path) as (server, changes):
        box = server.mailboxes["INBOX"]
        box.set_flags(1, {"$Work"})
        assert [change async for change in changes] == [FlagsChanged(1, frozenset({"$Work"}))]
        box.highest_modseq = 1
        box.set_flags(5, {"\\Deleted"})
        assert [change async for change in changes] == [FlagsChanged(5, frozenset({"\\Deleted"}))]


@pytest.mark.parametrize("extensions", ["modern", "gmail", "plain"])
async def test_flags_that_were_not_told_are_told_the_next_time(tmp_path: Path, extensions: str) -> None:
    async with synced(tmp_path, extensions) as (server, changes):
        for uid in (3, 5, 8):
            server.mailboxes["INBOX"].set_flags(uid, {"$Work"})
        async with changes.stream() as stream:
            assert (await anext(stream)).uid == 3
        assert [change.uid async for change in changes] == [3, 5, 8]


@pytest.mark.parametrize("extensions", ["modern", "gmail", "plain"])
async def test_a_connection_that_dies_in_the_middle(tmp_path: Path, extensions: str) -> None:
    async with synced(tmp_path, extensions) as (server, changes):
        server.mailboxes["INBOX"].set_flags(6, {"\\Deleted"})
        server.faults.add(CutAfterBytes(20, command="UID FETCH", times=1))
        assert [change async for change in changes] == [FlagsChanged(6, frozenset({"\\Deleted"}))]


async def test_a_list_that_is_too_short_makes_nothing_vanish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imapipe.pipeline.access.LOOK_PAUSE_SECONDS", 0.0)
    async with synced(tmp_path, "plain") as (server, changes):
        server.faults.add(SearchCap(5))
        with pytest.raises(imapipe.ProtocolError, match="has 12 messages and tells of 5"):
            [change async for change in changes]
        server.faults.clear()
        assert [change async for change in changes] == []


async def test_a_limit_of_messages_is_followed(tmp_path: Path) -> None:
    boxes = {"INBOX": Mailbox(make_messages(COUNT))}
    async with (
        Server(boxes, message_limit=5) as server,
        imapipe.create_pool(server.url, password=server.password) as pool,
    ):
        changes = pool.mailbox("INBOX").changes(tmp_path / "sync.json")
        assert [change.uid async for change in changes] == list(range(1, COUNT + 1))
        for uid in (1, 6, 12):
            server.mailboxes["INBOX"].set_flags(uid, {"$Work"})
        server.mailboxes["INBOX"].expunge([2])
        told = [change async for change in changes]
        assert told == [*(FlagsChanged(uid, frozenset({"$Work"})) for uid in (1, 6, 12)), Vanished(2)]


async def test_a_server_that_takes_short_commands_only_gets_short_ones(tmp_path: Path) -> None:
    too_long = Reply(
        "BAD", "Command line too long", command="UID FETCH", when=lambda record: len(record.arguments) > 900
    )
    async with (
        Server({"INBOX": SyntheticMailbox(1_000, first_uid=1_001, step=2)}, extensions="plain") as server,
        imapipe.create_pool(server.url, password=server.password) as pool,
    ):
        server.faults.add(too_long)
        changes = pool.mailbox("INBOX").changes(tmp_path / "sync.json")
        assert [change.uid async for change in changes] == list(range(1_001, 3_001, 2))
        assert too_long.fired > 0


async def test_what_the_server_refuses_to_tell_is_raised_and_nothing_vanishes(tmp_path: Path) -> None:
    async with synced(tmp_path, "plain") as (server, changes):
        server.mailboxes["INBOX"].set_flags(6, {"\\Deleted"})
        server.faults.add(PoisonUids({3}, code="CORRUPTION"))
        with pytest.raises(imapipe.CommandNo):
            [change async for change in changes]
        server.faults.clear()
        assert [change async for change in changes] == [FlagsChanged(6, frozenset({"\\Deleted"}))]


async def test_a_throttled_look_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imapipe.pipeline.access.LOOK_PAUSE_SECONDS", 0.0)
    async with synced(tmp_path, "plain") as (server, changes):
        server.mailboxes["INBOX"].set_flags(6, {"\\Deleted"})
        server.faults.add(
            Reply("NO", "Request is throttled. Suggested Backoff Time: 1 milliseconds", command="UID FETCH", times=1)
        )
        assert [change async for change in changes] == [FlagsChanged(6, frozenset({"\\Deleted"}))]


async def test_a_store_that_fails_ends_it_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with synced(tmp_path) as (server, changes):
        for uid in (3, 5, 8):
            server.mailboxes["INBOX"].set_flags(uid, {"$Work"})
        stream = changes.stream()
        assert [(await anext(stream)).uid, (await anext(stream)).uid] == [3, 5]
        with monkeypatch.context() as broken:
            broken.setattr(JsonFile, "append", _disk_full)
            with pytest.raises(imapipe.CheckpointError, match="full"):
                await anext(stream)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        assert [change.uid async for change in changes] == [5, 8]


def _disk_full(*_: object) -> None:
    raise imapipe.CheckpointError("the disk is full")
