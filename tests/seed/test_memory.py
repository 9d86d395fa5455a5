"""S7 to S9: messages as they come, fields when they are read, bytes held within a bound."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from tests.seed.wire import fetches

import imapipe
from imapipe import FixedBatch, Retry
from imapipe import search as q
from imapipe.models import attributes as message_module
from imapipe.testing import PoisonUids, Server, Stall, SyntheticMailbox, make_messages
from imapipe.wire.response.envelope import Envelope, parse_envelope


def _planes(pool: imapipe.Pool) -> list[imapipe.Connection]:
    connections = pool.connections
    return [*connections._leased, *connections._idle]


@pytest.mark.asyncio
async def test_s07_messages_are_yielded_as_they_arrive() -> None:
    """The answer to the one FETCH stops in the middle; what has come is handed over all the same."""
    server = Server({"INBOX": SyntheticMailbox(200, size=1000)}, faults=[Stall(100_000, command="UID FETCH")])
    async with server, imapipe.create_pool(server.url, password="secret") as pool:
        job = pool.mailbox("INBOX").search(q.ALL).fetch("full").batch(200)
        seen: list[int] = []
        async with job.stream() as stream:
            async for message in stream:
                seen.append(message.uid)
                if len(seen) == 50:
                    assert [record.outcome for record in fetches(server)] == ["STALL"]
                    server.release_stalls()
        assert stream.report.complete
    assert seen == list(range(1, 201))


@pytest.mark.asyncio
async def test_s07_a_slow_consumer_stops_the_server_not_our_memory() -> None:
    cap = 256 * 1024
    mailbox = SyntheticMailbox(2000, size=50_000)
    server = Server({"INBOX": mailbox})
    async with server, imapipe.create_pool(server.url, password="secret", max_held_bytes=cap) as pool:
        taken = sent = 0
        async with pool.mailbox("INBOX").search(q.ALL).fetch("full").batch(2000).stream() as stream:
            async for message in stream:
                taken += len(message.body)
                if taken < 1_000_000:
                    continue
                (connection,) = _planes(pool)
                sent = -1
                while sent != server.counters.bytes_out or not connection.plane.is_reading_paused:
                    # Not a wait for a time, but until the server has nothing more to do for us.
                    sent = server.counters.bytes_out
                    await asyncio.sleep(0.2)
                assert connection.plane.holdings.held_bytes >= cap
                break
    # What was sent and not read is in the buffers of the sockets, whose size the system chooses.
    assert sent < mailbox.total_size // 2


@pytest.mark.asyncio
async def test_s08_five_fields_typed_decoded_and_parsed_only_when_read(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []

    def count(text: bytes, *rest: object) -> Envelope:
        parsed.append(text)
        return parse_envelope(text, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(message_module, "parse_envelope", count)
    raw = (
        b"From: =?utf-8?q?Jos=C3=A9_=C3=91and=C3=BA?= <jose@example.es>\r\n"
        b"Date: Tue, 02 Jan 2024 10:30:00 +0200\r\n"
        b"Subject: =?utf-8?b?5pel5pys6Kqe?= =?iso-8859-1?q?_caf=E9?=\r\n\r\nHello\r\n"
    )
    server = Server(messages=[raw] * 10)
    async with server, imapipe.create_pool(server.url, password="secret") as pool:
        iterator = aiter(pool.mailbox("INBOX").search(q.ALL).fetch("envelope"))
        assert not server.commands.named("UID SEARCH")
        messages = [message async for message in iterator]
    assert [(message.uid, message.size) for message in messages] == [(uid, len(raw)) for uid in range(1, 11)]
    assert not parsed
    third = messages[2]
    assert third.sender is not None
    assert (third.subject, third.sender.name, third.sender.email) == ("日本語 café", "José Ñandú", "jose@example.es")
    assert third.date == datetime(2024, 1, 2, 8, 30, tzinfo=UTC)
    assert third.date.tzinfo is not None
    assert len(parsed) == 1


@pytest.mark.asyncio
async def test_s08_a_batch_that_fails_is_no_silent_end_of_the_iteration() -> None:
    server = Server(messages=100, faults=[PoisonUids({42})])
    async with server, imapipe.create_pool(server.url, password="secret") as pool:
        job = pool.mailbox("INBOX").search(q.ALL).fetch("envelope").batch(20).use(Retry(2, wait_initial_seconds=0))
        seen: list[int] = []

        async def iterate() -> None:
            async for message in job:
                seen.append(message.uid)  # noqa: PERF401 - what came before the error counts

        with pytest.raises(imapipe.Incomplete) as caught:
            await iterate()
    assert sorted(seen) == [uid for uid in range(1, 101) if uid != 42]
    assert list(caught.value.report.failures) == [42]


async def _most_held(messages: int, *, size: int, cap: int) -> int:
    server = Server({"INBOX": SyntheticMailbox(messages, size=size)})

    async def handle(message: imapipe.Message) -> None:
        assert message.body
        await asyncio.sleep(0.001)

    async with server, imapipe.create_pool(server.url, password="secret", max_held_bytes=cap) as pool:
        job = pool.mailbox("INBOX").search(q.ALL).fetch("full").batch(FixedBatch(messages))
        report = await job.run(handle, concurrency=4, connections=1)
        assert report.done == messages
        assert report.bytes_received > messages * size // 2
        (connection,) = _planes(pool)
        assert connection.plane.holdings.held_bytes == 0
        return connection.plane.holdings.max_held_seen


@pytest.mark.asyncio
async def test_s09_the_bytes_held_have_a_bound_that_does_not_depend_on_the_mailbox() -> None:
    """Both mailboxes in one batch each: neither the batch nor the mailbox is what is held."""
    cap, message = 512 * 1024, 20_000
    # One read from the socket, with the message it completes, may come on top.
    bound = cap + 256 * 1024 + message
    small, large = await _most_held(100, size=message, cap=cap), await _most_held(1000, size=message, cap=cap)
    assert cap < small <= bound
    assert cap < large <= bound


@pytest.mark.asyncio
async def test_s09_large_bodies_go_to_disk_and_are_gone_with_their_message() -> None:
    large = [message + b"x" * 3_000_000 for message in make_messages(8, size=500)]
    server = Server(messages=large)
    spooled: list[bool] = []

    async def handle(message: imapipe.Message) -> None:
        spooled.append(message.is_spooled)
        with message.open() as file:
            assert sum(len(chunk) for chunk in iter(lambda: file.read(65_536), b"")) == len(large[message.uid - 1])

    async with server, imapipe.create_pool(server.url, password="secret", spool_above=256 * 1024) as pool:
        report = await pool.mailbox("INBOX").search(q.ALL).fetch("full").batch(8).run(handle, connections=1)
        (connection,) = _planes(pool)
        holdings = connection.plane.holdings
        assert holdings.max_held_seen < 256 * 1024
        assert (holdings.held_bytes, holdings.spooled_bytes) == (0, 0)
    assert report.complete
    assert spooled == [True] * 8
