"""S1 to S3: UIDs and their outcomes, adaptive and fixed batches, as the server saw them (S4: tests/pipeline)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.middleware.fakes import run_in_fake_time
from tests.seed.wire import arrivals, asked, fetches, ignore, sizes

import imapipe
from imapipe import AdaptiveBatch, Checkpoint, FixedBatch, RateLimit
from imapipe import search as q
from imapipe.testing import Delay, OmitUids, Server, SyntheticMailbox

# The figures of the seed.
SEED_BATCH = AdaptiveBatch(start=100, minimum=50, maximum=200, target_seconds=2.0, slow_seconds=5.0)


@pytest.mark.asyncio
async def test_s01_every_planned_uid_ends_in_one_outcome_and_only_uid_commands_travel(tmp_path: Path) -> None:
    # UIDs 1, 4, 7 …: a sequence number that is taken for a UID finds another message, or none.
    mailbox = SyntheticMailbox(300, step=3)
    everything = set(mailbox.uids)
    handled: list[int] = []

    async def handle(message: imapipe.Message) -> None:
        if message.uid == 301:
            # Found by the search of this run, and not fetched yet.
            mailbox.expunge([700, 703, 706])
        if message.uid in {100, 301}:
            raise ValueError("this one")
        handled.append(message.uid)

    server = Server({"INBOX": mailbox}, faults=[OmitUids({403, 406})])
    async with server, imapipe.create_pool(server.url, password="secret") as pool:
        job = pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(FixedBatch(40)).depth(1)
        job = job.use(Checkpoint(tmp_path / "state.json"))
        first = await job.limit(100).run(handle, connections=1)
        second = await job.run(handle, connections=1)

    assert (first.planned, first.done, first.failed) == (100, 99, 1)
    assert second.planned == 300 == second.done + second.skipped + second.vanished + second.failed
    assert (second.skipped, second.vanished) == (99, 3)
    assert {uid: failure.reason for uid, failure in second.failures.items()} == {
        100: "ValueError",
        301: "ValueError",
        403: "no-data",
        406: "no-data",
    }
    assert len(handled) == len(set(handled)) == second.done + second.skipped
    assert everything == {*handled, 700, 703, 706, *second.failures}
    assert not {"FETCH", "SEARCH", "STORE", "COPY"} & set(server.commands.names)


def test_s02_the_next_batch_really_has_the_new_size() -> None:
    async def run() -> list[int]:
        clock = asyncio.get_running_loop().time
        # Quick, then three batches of 6 s, then neither quick nor slow, then quick up to the bound, then slow.
        pace = [1, 1, 1, 6, 6, 6, 3, 3, 1, 1, 1, 1, 1, 1, 1, *[6] * 12]
        faults = [Delay(seconds, command="UID FETCH", nth=number) for number, seconds in enumerate(pace, 1)]
        server = Server(messages=3000, faults=faults, clock=clock)
        async with server, imapipe.create_pool(server.url, password="secret") as pool:
            job = pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(SEED_BATCH).depth(1)
            assert (await job.run(ignore, connections=1)).complete
        return sizes(server)

    seen = run_in_fake_time(run())
    assert seen[:9] == [100, 120, 144, 172, 137, 109, 87, 87, 87]
    assert seen[9:16] == [104, 124, 148, 177, 200, 200, 200]
    assert seen[16:23] == [160, 128, 102, 81, 64, 51, 50]
    assert sum(seen) == 3000


def test_s02_each_connection_has_a_size_of_its_own() -> None:
    async def run() -> tuple[list[int], list[int]]:
        clock = asyncio.get_running_loop().time
        faults = [Delay(1, command="UID FETCH", connection=1), Delay(6, command="UID FETCH", connection=2)]
        server = Server(messages=2000, faults=faults, clock=clock)
        async with server, imapipe.create_pool(server.url, password="secret", max_size=2) as pool:
            job = pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(SEED_BATCH).depth(1)
            assert (await job.run(ignore, connections=2)).complete
        return sizes(server, connection=1), sizes(server, connection=2)

    quick, slow = run_in_fake_time(run())
    assert quick[:5] == [100, 120, 144, 172, 200]
    assert slow[:2] == [100, 80]


@pytest.mark.asyncio
async def test_s02_the_length_of_the_command_bounds_a_batch_too() -> None:
    # Each UID is a range of its own, with six digits.
    server = Server({"INBOX": SyntheticMailbox(3000, first_uid=100_000, step=7)})
    async with server, imapipe.create_pool(server.url, password="secret") as pool:
        job = pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(FixedBatch(3000))
        report = await job.run(ignore, connections=1)
    assert report.complete
    assert report.done == 3000
    lengths = [len(text) for text in asked(server)]
    assert len(lengths) == 3
    assert max(lengths) <= 8000


def test_s03_batches_of_75_start_half_a_second_apart_whatever_they_take() -> None:
    """The pause is no sleep on top of the work: work of 0.3 s leaves 0.2 s of it."""

    async def run() -> tuple[list[int], list[float]]:
        clock = asyncio.get_running_loop().time
        server = Server(messages=500, faults=[Delay(0.3, command="UID FETCH")], clock=clock)
        async with server, imapipe.create_pool(server.url, password="secret") as pool:
            job = pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(75).depth(1)
            assert (await job.use(RateLimit(commands_per_second=2)).run(ignore, connections=1)).complete
        return sizes(server), arrivals(fetches(server))

    seen, times = run_in_fake_time(run())
    assert seen == [75] * 6 + [50]
    assert times == pytest.approx([0.5 * number for number in range(7)], abs=0.01)
