"""Examining an account: right, read-only, bounded, and what one question does not bring leaves the others alone."""

from __future__ import annotations

import asyncio
import importlib
import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import orjson
import pytest

import imapipe
from dovecot_server.server import PASSWORD
from imapipe.doctor import Examination, examine
from imapipe.testing import Act, Fault, Mailbox, Quota, Reply, Server, Stall, make_messages

if TYPE_CHECKING:
    from dovecot_server import DovecotServer

READ_ONLY = {"ID", "NAMESPACE", "GETQUOTAROOT", "NOOP", "LIST", "STATUS", "EXAMINE", "UID SEARCH", "UID FETCH"}
BESIDES = {"CAPABILITY", "LOGIN", "AUTHENTICATE", "LOGOUT", "ENABLE", "UNSELECT"}


async def _examined(server: Server, *, seconds: float = 30.0, sample_bytes: int = 200_000) -> Examination:
    async with imapipe.create_pool(server.url, password=server.password, max_size=2) as pool:
        return await examine(pool, seconds=seconds, sample_bytes=sample_bytes)


@pytest.mark.asyncio
@pytest.mark.parametrize("profile", ["modern", "plain", "exchange", "gmail", "dovecot", "yahoo", "everything"])
async def test_every_server_is_examined_and_nothing_is_changed(profile: str) -> None:
    content = {"INBOX": 60, "Work/Übersicht": 3, "Empty": 0}
    async with Server(content, extensions=profile, quota=Quota(storage_bytes=50_000_000)) as server:
        found = await _examined(server)
        asked = {record.name for record in server.commands}
        sizes = {name: server.mailboxes[name].total_size for name in content}
    assert not found.failures
    assert asked <= READ_ONLY | BESIDES
    assert {each.name: each.messages for each in found.mailboxes} == content
    assert (found.export_messages, found.export_bytes, found.is_estimated) == (63, sum(sizes.values()), False)
    assert found.sample is not None
    assert found.sample.mailbox == "INBOX"
    assert found.sample.messages > 5
    assert (found.sample.wrong_sizes, found.sample.failed) == (0, 0)
    assert 0 < (found.sample.compressed_to or 0) < 1
    assert [(each.resource, each.limit) for each in found.quotas] == [("STORAGE", 50_000_000 // 1024)]
    assert found.is_local
    assert found.round_trip_seconds is not None
    offered = {each.name for each in found.extensions if each.is_offered}
    assert ("UIDPLUS" in offered) == (profile != "plain")
    assert orjson.loads(found.to_json())["export_messages"] == 63
    text = found.table()
    assert "Work/Übersicht" in text
    assert ("without UIDPLUS" in text) == (profile == "plain")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fault", "failed"),
    [
        (Reply("NO", "not now", command="ID"), "server"),
        (Reply("BAD", "what?", command="NOOP"), "round trip"),
        (Reply("NO", "[UNAVAILABLE] later", command="LIST"), "mailboxes"),
        (Reply("NO", "closed", command="EXAMINE"), "sample"),
        (Stall(0, command="LIST"), "mailboxes"),
    ],
    ids=["id", "noop", "list", "examine", "stall"],
)
async def test_a_question_without_an_answer_leaves_the_others_alone(fault: Fault, failed: str) -> None:
    async with Server({"INBOX": 20}, faults=[fault]) as server:
        found = await _examined(server, seconds=0.5 if isinstance(fault, Stall) else 30.0)
    assert failed in found.failures
    assert not found.complete
    assert found.capabilities
    if isinstance(fault, Stall):
        assert found.failures[failed] == "no answer in the time that there was"
    if failed != "mailboxes":
        assert [each.messages for each in found.mailboxes] == [20]
    assert f"  {failed}: " in found.table()


@pytest.mark.asyncio
async def test_a_server_that_is_silent_at_one_question_is_asked_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("imapipe.doctor.examine"), "_SHORT_SHARE", 0.01)
    async with Server({"INBOX": 20}, faults=[Stall(0, command="ID")]) as server:
        found = await _examined(server)
    assert found.failures["server"] == "no answer in the time that there was"
    assert [each.messages for each in found.mailboxes] == [20]
    assert found.sample is not None


@pytest.mark.asyncio
async def test_what_is_larger_than_was_asked_for_is_not_taken_into_memory() -> None:
    async with (
        Server({"INBOX": [b"Subject: large\r\n\r\n" + b"x" * 40_000]}) as server,
        imapipe.create_pool(server.url, password=server.password, spool_above=20_000) as pool,
    ):
        found = await examine(pool)
    assert found.sample is not None
    assert (found.sample.messages, found.sample.bytes_received, found.sample.wrong_sizes) == (1, 40_018, 0)
    assert found.sample.compressed_to is None


@pytest.mark.asyncio
async def test_a_sample_is_bounded_and_as_slow_as_the_line() -> None:
    async with Server({"INBOX": 300, "Small": 1}, bandwidth_bytes_per_second=400_000) as server:
        found = await _examined(server, sample_bytes=120_000)
    assert found.sample is not None
    assert 120_000 <= found.sample.bytes_received < 120_000 + 200_000
    if found.sample.bytes_per_second is not None:
        # However slow this machine is, nothing comes faster than the line lets it.
        assert found.sample.bytes_per_second < 1_200_000


@pytest.mark.asyncio
async def test_without_a_sample_no_message_is_fetched() -> None:
    async with Server({"INBOX": 5}) as server:
        found = await _examined(server, sample_bytes=0)
        assert server.counters.messages_fetched == 0
    assert found.sample is None


@pytest.mark.asyncio
async def test_where_sizes_are_not_told_in_time_they_are_estimated() -> None:
    async with Server({"INBOX": 30}, extensions="plain") as server:
        server.faults.add(
            Reply("NO", "no sizes", command="UID FETCH", when=lambda record: "BODY" not in record.arguments)
        )
        found = await _examined(server)
    assert found.is_estimated
    assert found.sample is not None
    assert found.export_bytes == 30 * found.sample.bytes_received // found.sample.messages


@pytest.mark.asyncio
async def test_sizes_of_very_many_messages_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("imapipe.doctor.examine"), "_MOST_SIZES", 20)
    async with Server({"INBOX": 21}, extensions="plain") as server:
        found = await _examined(server)
        assert all("BODY" in record.arguments for record in server.commands.named("UID FETCH"))
    assert found.is_estimated
    assert not found.failures


@pytest.mark.asyncio
async def test_a_clock_that_is_wrong_is_noticed() -> None:
    inbox = Mailbox()
    for raw in make_messages(3):
        inbox.append(raw, [], datetime.now(UTC) + timedelta(hours=3))
    async with Server({"INBOX": inbox}) as server:
        found = await _examined(server)
    assert [each.level for each in found.findings] == ["problem"]
    assert "hours in the future: the clock" in found.findings[0].text


@pytest.mark.asyncio
async def test_an_account_that_cannot_be_reached_is_no_examination() -> None:
    async with Server(1) as server, imapipe.create_pool(server.url, password="guess") as pool:
        with pytest.raises(imapipe.AuthenticationFailed):
            await examine(pool)
        with pytest.raises(ValueError, match="seconds must be above 0"):
            await examine(pool, seconds=0)


@pytest.mark.asyncio
async def test_cancelling_leaves_nothing_behind() -> None:
    asked = asyncio.Event()
    faults = [Act(lambda _: asked.set(), command="LIST"), Stall(0, command="LIST")]
    async with (
        Server({"INBOX": 20}, faults=faults) as server,
        imapipe.create_pool(server.url, password=server.password) as pool,
    ):
        examining = asyncio.create_task(examine(pool))
        await asked.wait()
        examining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await examining
        assert pool.stats.leased == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.asyncio
async def test_dovecot_with_tls(dovecot: DovecotServer) -> None:
    user = dovecot.new_user("doctor")
    messages = list(make_messages(40))
    dovecot.fill(user, "INBOX", messages)
    context = ssl.create_default_context(cafile=str(dovecot.certificate_file))
    async with imapipe.create_pool(dovecot.url(user, tls=True), password=PASSWORD, ssl_context=context) as pool:
        found = await examine(pool)
        status = await pool.mailbox("INBOX").status()
    assert not found.failures
    assert found.server["name"] == "Dovecot"
    assert found.tls is not None
    assert found.tls.version in ("TLSv1.2", "TLSv1.3")
    assert found.tls.expires_at is not None
    assert found.export_messages == 40
    assert found.export_bytes == sum(len(raw) for raw in messages)
    assert status.unseen == 40
    assert found.namespaces["personal"]
