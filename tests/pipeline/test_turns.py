"""Batches that took their turn at a rate and had no connection then: what the server sees of them, in made-up time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from tests.middleware.fakes import run_in_fake_time

import imapipe
from imapipe import search as q
from imapipe.testing import CommandRecord, Server, SyntheticMailbox

BATCH = 25
MAILBOXES = [f"box-{number}" for number in range(8)]


async def _fetch_all(limit: imapipe.Middleware, *, until_seconds: float, seconds: float) -> Sequence[CommandRecord]:
    """Runs on several mailboxes share one connection, which somebody else has for a while; the FETCHes at the server.

    Args:
        limit: The rate.
        until_seconds: When he asks for it.
        seconds: How long he has it.
    """
    handled = 0

    async def handle(message: imapipe.Message) -> None:
        nonlocal handled
        handled += 1

    async def other(pool: imapipe.Pool) -> None:
        await asyncio.sleep(until_seconds)
        async with pool.acquire():
            await asyncio.sleep(seconds)

    server = Server(
        {name: SyntheticMailbox(8 * BATCH) for name in MAILBOXES},
        latency_seconds=0.005,
        clock=asyncio.get_running_loop().time,
    )
    async with (
        server,
        imapipe.create_pool(server.url, password=server.password, max_size=1, acquire_timeout_seconds=3_600) as pool,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(other(pool))
        for name in MAILBOXES:
            job = pool.mailbox(name).search(q.ALL).fetch("flags").batch(BATCH).depth(1).use(limit)
            group.create_task(job.run(handle))
    assert handled == len(MAILBOXES) * 8 * BATCH
    return server.commands.named("UID FETCH")


def _most_above(records: Sequence[CommandRecord], rate: float) -> float:
    """The level of a bucket that each message fills by one and that leaks at the rate, at most."""
    level = most = 0.0
    last = records[0].received_at
    for record in records:
        level = max(0.0, level - (record.received_at - last) * rate) + record.messages
        last = record.received_at
        most = max(most, level)
    return most


@pytest.mark.parametrize(
    ("rate", "until_seconds", "seconds"),
    [
        # The connection goes round among the runs, and away: those that wait for it have had no turn yet.
        (150.0, 2.0, 5.0),
        # A turn is so far away that connections are given back meanwhile: it is long past when there is one again.
        (5.0, 20.0, 200.0),
    ],
)
@pytest.mark.parametrize("kind", [imapipe.RateLimit, imapipe.AdaptiveRateLimit])
def test_what_waits_for_a_connection_does_not_go_all_at_once(
    kind: type[imapipe.Middleware], rate: float, until_seconds: float, seconds: float
) -> None:
    limit: imapipe.Middleware = imapipe.RateLimit(messages_per_second=rate)
    if kind is imapipe.AdaptiveRateLimit:
        limit = imapipe.AdaptiveRateLimit(rate, maximum_per_second=rate, unit="messages", target_seconds=None)
    records = run_in_fake_time(_fetch_all(limit, until_seconds=until_seconds, seconds=seconds))
    # The bucket, a batch that counts at its end, and one that is late by what it takes to flow in.
    assert _most_above(records, rate) <= max(1.0, rate * 0.05) + 2 * BATCH + 0.1
    lasted = records[-1].received_at - records[0].received_at
    messages = sum(record.messages for record in records)
    # And hardly a turn is given up where the connection is only slow to come.
    assert messages / (lasted - seconds) >= 0.9 * rate
