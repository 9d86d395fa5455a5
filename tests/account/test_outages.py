"""A server that does not work, in a job on all mailboxes: waited for once, and not for each mailbox."""

from __future__ import annotations

import asyncio
import errno
from functools import partial

import pytest
from tests.middleware.fakes import run_in_fake_time

import imapipe
from imapipe import search as q
from imapipe.account.isolation import do_each
from imapipe.testing import CutAfterBytes, Fault, RefuseConnection, Reply, Server

MAILBOXES = {"INBOX": 5, **{f"Folder {number}": 5 for number in range(11)}}


def _run(*faults: Fault, port_closes: bool = False) -> tuple[imapipe.AccountReport | imapipe.ImapipeError, float]:
    """One run on twelve mailboxes, over two connections; and how long it took."""

    async def run() -> tuple[imapipe.AccountReport | imapipe.ImapipeError, float]:
        loop = asyncio.get_running_loop()
        async with (
            Server(MAILBOXES, faults=faults, clock=loop.time) as server,
            imapipe.create_pool(server.url, password=server.password, max_size=2) as pool,
        ):
            told: list[str] = []

            async def on_message(message: imapipe.Message) -> None:
                if port_closes and message.mailbox == "Folder 3":
                    await server.close_port()
                    server.disconnect_all()

            began = loop.time()
            job = pool.each().search(q.ALL).fetch("flags").use(imapipe.Retry(outage_seconds=300))
            try:
                report = await job.run(on_message, on_mailbox=lambda name, _: told.append(name))
            except imapipe.ImapipeError as error:
                return error, loop.time() - began
            assert sorted(told) == sorted(MAILBOXES)
            return report, loop.time() - began

    return run_in_fake_time(run())


@pytest.mark.parametrize(
    "fault",
    [
        RefuseConnection(times=4),
        RefuseConnection("down for maintenance", times=4),
        Reply("NO", "[UNAVAILABLE] later", command="LOGIN", times=4),
        Reply("NO", "[UNAVAILABLE] later", command="LIST", times=8),
        CutAfterBytes(0, command="LIST", times=6),
    ],
    ids=["reset", "bye", "login", "list", "list cut"],
)
def test_the_list_is_waited_for(fault: Fault) -> None:
    report, _ = _run(fault)
    assert isinstance(report, imapipe.AccountReport)
    assert (report.done, report.complete) == (60, True)


def test_a_server_that_is_gone_is_waited_for_once() -> None:
    """Five minutes for each of the mailboxes that are left would be half an hour."""
    report, seconds = _run(port_closes=True)
    assert isinstance(report, imapipe.AccountReport)
    assert not report.complete
    assert len(report.errors) + len(report.reports) == 12
    assert report.errors
    assert all(isinstance(error, imapipe.ConnectionFailed) for error in report.errors.values())
    assert seconds <= 2 * 300 + 60


def test_a_mailbox_at_which_the_server_hangs_up_is_alone() -> None:
    cut = CutAfterBytes(0, command="EXAMINE", when=lambda record: "Folder 3" in record.arguments)
    report, _ = _run(cut)
    assert isinstance(report, imapipe.AccountReport)
    assert list(report.errors) == ["Folder 3"]
    assert report.done == 55


@pytest.mark.asyncio
async def test_a_full_disk_ends_all() -> None:
    """Every other mailbox would fetch, and fail at the same place."""
    begun: list[str] = []

    async def write(name: str) -> None:
        begun.append(name)
        raise imapipe.SinkError("no room", path=name) from OSError(errno.ENOSPC, "no room")

    with pytest.raises(imapipe.SinkError, match="no room"):
        await do_each([(name, partial(write, name)) for name in ("INBOX", "Archive")], at_once=1)
    assert begun == ["INBOX"]
