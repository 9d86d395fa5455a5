"""S21: what failed is asked for again, and only that; waits grow; a new connection is checked."""

from __future__ import annotations

import asyncio
import gc
from itertools import accumulate, pairwise

import pytest
from tests.middleware.fakes import run_in_fake_time
from tests.seed.wire import asked, fetches, ignore

import imapipe
from imapipe import Retry
from imapipe import search as q
from imapipe.testing import CutAfterBytes, PoisonUids, Reply, Server, Stall, SyntheticMailbox
from imapipe.wire.uid_set import UidSet


def test_s21_waits_double_and_are_jittered_and_end_after_the_last_try() -> None:
    async def run(tries: int, random: float) -> tuple[list[float], imapipe.RunReport]:
        clock = asyncio.get_running_loop().time
        server = Server(messages=10, faults=[Reply("NO", "in use", code="INUSE", command="UID FETCH")], clock=clock)
        async with server, imapipe.create_pool(server.url, password="secret") as pool:
            layer = Retry(tries, wait_initial_seconds=1, random=lambda: random)
            report = await pool.mailbox("INBOX").search(q.ALL).fetch("flags").use(layer).run(ignore)
        times = [record.received_at for record in fetches(server)]
        return [later - earlier for earlier, later in pairwise(times)], report

    waits, report = run_in_fake_time(run(5, 1.0))
    assert waits == pytest.approx([1, 2, 4, 8], rel=0.02)
    assert (report.failed, report.retries) == (10, 4)
    assert {failure.reason for failure in report.failures.values()} == {"INUSE"}
    half, _ = run_in_fake_time(run(3, 0.0))
    assert half == pytest.approx([0.5, 1], rel=0.02)


@pytest.mark.asyncio
@pytest.mark.parametrize("code", ["NOPERM", "CANNOT"])
async def test_s21_what_cannot_get_better_is_not_asked_again(code: str) -> None:
    server = Server(messages=10, faults=[Reply("NO", "never", code=code, command="UID FETCH")])
    async with server, imapipe.create_pool(server.url, password="secret") as pool:
        report = await pool.mailbox("INBOX").search(q.ALL).fetch("flags").use(Retry(5)).run(ignore)
    assert (report.failed, report.retries, asked(server)) == (10, 0, ["1:10"])


@pytest.mark.asyncio
async def test_s21_after_a_cut_only_what_was_not_delivered_is_asked_for_on_a_connection_that_was_checked() -> None:
    handled: list[int] = []

    async def handle(message: imapipe.Message) -> None:
        handled.append(message.uid)

    mailbox = SyntheticMailbox(200, size=2000)
    server = Server({"INBOX": mailbox}, faults=[CutAfterBytes(80_000, command="UID FETCH", nth=1)])
    async with server, imapipe.create_pool(server.url, password="secret") as pool:
        job = pool.mailbox("INBOX").search(q.ALL).fetch("full").batch(100).depth(1)
        report = await job.use(Retry(3, wait_initial_seconds=0)).run(handle, connections=1)
    assert report.complete
    assert sorted(handled) == list(range(1, 201))
    first, again, rest = (UidSet.parse(text) for text in asked(server))
    assert first.text() == "1:100"
    assert rest.text() == "101:200"
    # A response is its body and at most 200 bytes around it; those that came whole are not asked for again.
    bodies = list(accumulate(mailbox[uid].content.size for uid in range(1, 101)))
    fewest = sum(end + 200 * number <= 80_000 for number, end in enumerate(bodies, 1))
    assert fewest <= 100 - len(again) <= sum(end <= 80_000 for end in bodies)
    assert again == first[100 - len(again) :]
    assert (report.reconnects, report.retries) == (1, 1)
    new = [record.name for record in server.commands if record.connection == 2]
    assert new.index("EXAMINE") < new.index("UID FETCH")


@pytest.mark.asyncio
async def test_s21_a_mailbox_that_was_rebuilt_meanwhile_ends_the_run() -> None:
    mailbox = SyntheticMailbox(200)
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))

    async def handle(message: imapipe.Message) -> None:
        if message.uid == 50:
            mailbox.change_uidvalidity()

    async with Server({"INBOX": mailbox}) as server, imapipe.create_pool(server.url, password="secret") as pool:
        job = pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(100).depth(1)
        with pytest.raises(imapipe.UidValidityChanged):
            await job.use(Retry(3, wait_initial_seconds=0)).run(handle, connections=1)
    assert asked(server)[0] == "1:100"
    assert all(record.connection == 1 for record in fetches(server))
    # What ended the run was raised, and nothing of it is left for asyncio to complain of.
    gc.collect()
    assert not complaints


def test_s21_a_server_that_goes_silent_is_a_timeout_and_then_a_retry() -> None:
    async def run() -> tuple[float, imapipe.RunReport]:
        loop = asyncio.get_running_loop()
        server = Server(messages=40, faults=[Stall(3000, command="UID FETCH", nth=1)], clock=loop.time)
        async with (
            server,
            imapipe.create_pool(server.url, password="secret", stall_timeout_seconds=9) as pool,
        ):
            began = loop.time()
            job = pool.mailbox("INBOX").search(q.ALL).fetch("full").batch(40)
            report = await job.use(Retry(3, wait_initial_seconds=0)).run(ignore, connections=1)
            return loop.time() - began, report

    elapsed, report = run_in_fake_time(run())
    assert report.complete
    assert (report.done, report.retries, report.reconnects) == (40, 1, 1)
    assert 9 <= elapsed < 20


@pytest.mark.asyncio
async def test_s21_one_poisoned_message_is_found_and_the_rest_goes_on() -> None:
    server = Server(messages=128, faults=[PoisonUids({77})])
    async with server, imapipe.create_pool(server.url, password="secret") as pool:
        job = pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(128)
        report = await job.use(Retry(2, wait_initial_seconds=0)).run(ignore)
        server.faults.clear()
        again = await job.only_failed(report).run(ignore)
    assert (report.done, report.failed_uids.text()) == (127, "77")
    assert report.failures[77].reason == "SERVERBUG"
    assert (again.planned, again.done, again.complete) == (1, 1, True)
    # Two tries of all, a path of halves down to the one, and its last tries alone.
    assert len(fetches(server)) <= 2 + 2 * 7 + 2 + 1


def test_s21_the_wait_that_the_server_asks_for_is_kept() -> None:
    async def run() -> list[float]:
        clock = asyncio.get_running_loop().time
        told = Reply(
            "BAD", "Request is throttled. Suggested Backoff Time: 20000 milliseconds", command="UID FETCH", nth=1
        )
        async with (
            Server(messages=10, faults=[told], clock=clock) as server,
            imapipe.create_pool(server.url, password="secret") as pool,
        ):
            job = pool.mailbox("INBOX").search(q.ALL).fetch("flags")
            assert (await job.use(Retry(3, wait_initial_seconds=0)).run(ignore)).complete
        return [record.received_at for record in fetches(server)]

    first, second = run_in_fake_time(run())
    assert 20 <= second - first <= 22.1
