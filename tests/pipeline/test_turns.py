"""Batches that took their turn at a rate and had no connection then: what the server sees of them, in made-up time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from tests.middleware.fakes import run_in_fake_time
from tests.pipeline.world import Always

import imapipe
from imapipe import search as q
from imapipe.middleware.base import Layer
from imapipe.models.batch import Batch
from imapipe.testing import CommandRecord, RefuseConnection, Server, SyntheticMailbox

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


@pytest.mark.parametrize("is_refused", [False, True])
def test_a_connection_that_ends_between_two_turns_is_replaced_and_nothing_is_lost(is_refused: bool) -> None:
    async def run() -> None:
        handled: list[int] = []
        loop = asyncio.get_running_loop()
        server = Server(SyntheticMailbox(4 * BATCH), clock=loop.time)

        def cut() -> None:
            server.disconnect_all()
            if is_refused:
                # Then the batch meets it, and tries again by its own rules.
                server.faults.add(RefuseConnection(times=3))

        async def handle(message: imapipe.Message) -> None:
            if message.uid == BATCH:
                # The next batch has its turn half a minute later.
                loop.call_later(30.0, cut)
            handled.append(message.uid)

        async with server, imapipe.create_pool(server.url, password=server.password) as pool:
            limit = imapipe.RateLimit(messages_per_second=BATCH / 60)
            retry = imapipe.Retry(attempts=10)
            job = pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(BATCH).depth(1).use(retry, limit)
            report = await job.run(handle, connections=1)
            assert pool.stats.leased == 0
        assert (report.complete, report.done) == (True, 4 * BATCH)
        assert sorted(handled) == list(range(1, 4 * BATCH + 1))
        assert _most_above(server.commands.named("UID FETCH"), BATCH / 60) <= 2 * BATCH + 1

    run_in_fake_time(run())


class _Turns(Layer):
    """Gives turns, and does something when one that is long past is asked for anew."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        self.renewed: list[int] = []
        self._meanwhile = meanwhile

    async def renew(self, batch: Batch) -> None:
        self.renewed.append(batch.number)
        if len(self.renewed) == 2:
            self._meanwhile()
            await asyncio.sleep(1.0)


def test_a_connection_that_ends_while_another_turn_is_waited_for_is_replaced() -> None:
    async def run() -> None:
        server = Server(SyntheticMailbox(3 * BATCH), clock=asyncio.get_running_loop().time)
        turns = _Turns(server.disconnect_all)
        async with server, imapipe.create_pool(server.url, password=server.password) as pool:
            job = pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(BATCH).depth(1).use(Always(turns))
            report = await job.run(_nothing, connections=1)
        assert (report.complete, report.done) == (True, 3 * BATCH)
        # The turn is of a batch, whatever the connection is: it is asked for once more, for the new one.
        assert turns.renewed == [1, 2, 2, 3]

    run_in_fake_time(run())


def test_a_turn_that_cannot_be_had_ends_the_run_and_gives_the_connection_back() -> None:
    def fail() -> None:
        raise imapipe.CheckpointError("the file of all rates is gone", path="rates")

    async def run() -> None:
        server = Server(SyntheticMailbox(3 * BATCH), clock=asyncio.get_running_loop().time)
        async with server, imapipe.create_pool(server.url, password=server.password) as pool:
            job = pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(BATCH).depth(1).use(Always(_Turns(fail)))
            with pytest.raises(imapipe.CheckpointError, match="the file of all rates is gone"):
                await job.run(_nothing, connections=1)
            assert pool.stats.leased == 0

    run_in_fake_time(run())


async def _nothing(message: imapipe.Message) -> None:
    """Take a message."""
