"""Outages of a server beside messages that it cannot deliver: what Retry makes of them over real connections."""

from __future__ import annotations

import asyncio

import pytest
from tests.middleware.fakes import run_in_fake_time
from tests.pipeline.world import check_sums

import imapipe
from imapipe import Retry
from imapipe import search as q
from imapipe.testing import CutAfterBytes, PoisonUids, Server, Stall


async def _ignore(message: imapipe.Message) -> None:
    """Whatever is to be done with a message."""


@pytest.mark.asyncio
async def test_two_messages_at_which_the_server_just_hangs_up_are_found_on_one_connection() -> None:
    """Not a byte comes for a FETCH that holds one of them, and no other batch is under way that shows the server up."""
    server = Server(messages=128, faults=[PoisonUids({40, 77}, action="cut")])
    async with server, imapipe.create_pool(server.url, password=server.password, max_size=1) as pool:
        job = pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(128).depth(1)
        report = await job.use(Retry(2, wait_initial_seconds=0)).run(_ignore, connections=1)
    check_sums(report)
    assert (report.done, report.failed_uids.text()) == (126, "40,77")


@pytest.mark.parametrize(("connections", "depth"), [(1, 1), (4, 4)])
def test_a_silent_server_costs_the_attempts_of_retry(connections: int, depth: int) -> None:
    """It is not asked for halves and single messages, which would take a timeout each."""

    async def run() -> tuple[imapipe.RunReport, int, float]:
        loop = asyncio.get_running_loop()
        server = Server(messages=1_000, faults=[Stall(command="UID FETCH")], clock=loop.time)
        async with (
            server,
            imapipe.create_pool(
                server.url,
                password=server.password,
                max_size=connections,
                stall_timeout_seconds=10,
                command_timeout_seconds=10,
            ) as pool,
        ):
            began = loop.time()
            job = pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(100).depth(depth)
            report = await job.use(Retry(3)).run(_ignore, connections=connections)
            return report, len(server.commands.named("UID FETCH")), loop.time() - began

    report, asked, seconds = run_in_fake_time(run())
    check_sums(report)
    assert report.done == 0
    assert asked <= 3 * 3 * connections * depth
    assert seconds < 3 * 3 * (10 + 2)
    assert {failure.reason for failure in report.failures.values()} <= {"CommandTimeout", "not-tried"}


@pytest.mark.asyncio
async def test_a_server_that_hangs_up_at_every_fetch_is_given_up() -> None:
    server = Server(messages=1_000, faults=[CutAfterBytes(0, command="UID FETCH")])
    async with server, imapipe.create_pool(server.url, password=server.password, max_size=1) as pool:
        job = pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(100).depth(1)
        report = await job.use(Retry(2, wait_initial_seconds=0)).run(_ignore, connections=1)
    check_sums(report)
    # One batch in vain, with two tries and five pieces: more tries than the run has for a server that gives nothing.
    assert len(server.commands.named("UID FETCH")) == 7
    assert report.done == 0
