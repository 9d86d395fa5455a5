"""S22: what a careful reader would have to ask for, the defaults do."""

from __future__ import annotations

import asyncio
import inspect

import pytest
from tests.middleware.fakes import run_in_fake_time
from tests.seed.wire import fetches, ignore, sizes

import imapipe
from imapipe import AdaptiveBatch, Checkpoint, Retry
from imapipe import search as q
from imapipe.net.options import MAX_HELD_BYTES
from imapipe.pipeline.specification import DEFAULT_BATCH
from imapipe.testing import Server, SyntheticMailbox, Throttle


@pytest.mark.asyncio
async def test_s22_a_job_without_options_follows_the_list() -> None:
    mailbox = SyntheticMailbox(5000)
    unseen = mailbox.count_without("\\Seen")
    async with Server({"INBOX": mailbox}) as server, imapipe.create_pool(server.url, password="secret") as pool:
        report = await pool.mailbox("INBOX").search(q.ALL).fetch("full").run(ignore)
    names = set(server.commands.names)
    # UIDs, and nothing that changes the mailbox.
    assert {"EXAMINE", "UID SEARCH", "UID FETCH"} <= names
    assert not {"SELECT", "FETCH", "SEARCH", "STORE", "UID STORE", "EXPUNGE", "CLOSE"} & names
    assert all("BODY.PEEK[" in record.arguments for record in fetches(server))
    assert mailbox.count_without("\\Seen") == unseen
    # In batches, by few connections.
    assert len(sizes(server)) >= 5
    assert max(sizes(server)) <= 1000
    assert server.counters.peak_connections <= 4
    # Watched, whether asked for or not.
    assert report.done == 5000
    assert report.messages_per_second > 0
    assert report.peak_rss_bytes > 0
    assert report.batch_sizes.count == len(sizes(server))


def test_s22_the_defaults_are_adaptive_bounded_and_patient() -> None:
    assert isinstance(DEFAULT_BATCH, AdaptiveBatch)
    pool = inspect.signature(imapipe.create_pool).parameters
    assert pool["max_size"].default == 4
    assert pool["max_held_bytes"].default == MAX_HELD_BYTES == 8 * 1024 * 1024
    assert pool["command_timeout_seconds"].default == 60
    retry = inspect.signature(Retry).parameters
    assert retry["attempts"].default >= 3
    checkpoint = inspect.signature(Checkpoint).parameters
    assert checkpoint["save_every_messages"].default == 500
    assert checkpoint["save_every_seconds"].default == 0.5


def test_s22_errors_are_recorded_and_a_server_that_throttles_is_obeyed() -> None:
    """Retry and Checkpoint as they come: no message is lost, none is fetched twice, and the server gets its pause."""

    async def run() -> tuple[imapipe.RunReport, list[float], Throttle]:
        clock = asyncio.get_running_loop().time
        throttle = Throttle(
            messages_per_second=100, burst_seconds=5, style="exchange", backoff_milliseconds=30_000, clock=clock
        )
        server = Server(messages=1500, throttle=throttle, clock=clock)
        async with server, imapipe.create_pool(server.url, password="secret", max_size=1) as pool:
            report = await pool.mailbox("INBOX").search(q.ALL).fetch("flags").depth(1).use(Retry()).run(ignore)
        refused = [record for record in fetches(server) if record.throttled]
        after = [record for record in fetches(server) if not record.throttled]
        waits = [
            min(later.received_at for later in after if later.received_at > one.received_at) - one.received_at
            for one in refused
        ]
        return report, waits, throttle

    report, waits, throttle = run_in_fake_time(run())
    assert report.complete
    assert report.done == throttle.messages == 1500
    assert waits
    assert min(waits) >= 30
