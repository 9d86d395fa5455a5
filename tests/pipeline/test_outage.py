"""A server that does not work: waited for in time, told as it happens, and nobody's fault."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from tests.middleware.fakes import run_in_fake_time
from tests.pipeline.world import Always, check_sums

import imapipe
from imapipe import search as q
from imapipe.middleware.base import Layer, Run
from imapipe.models.event import Event, ServerAwaited
from imapipe.testing import Fault, RefuseConnection, RefuseLogin, Reply, Server, Stall


class _Listening(Always):
    def __init__(self) -> None:
        super().__init__(Layer())
        self.events: list[Event] = []

    async def start(self, run: Run) -> Layer:
        run.events.subscribe(self.events.append)
        return await super().start(run)


async def _ignore(message: imapipe.Message) -> None:
    pass


def _run(
    faults: Sequence[Fault], *, outage_seconds: float, attempts: int = 5, messages: int = 40, **options: object
) -> tuple[imapipe.RunReport | imapipe.ImapipeError, float, Server]:
    """One run; gives its report or what it raised, how long it took, and the server."""

    async def run() -> tuple[imapipe.RunReport | imapipe.ImapipeError, float, Server]:
        loop = asyncio.get_running_loop()
        server = Server(messages, faults=list(faults), clock=loop.time)
        async with server, imapipe.create_pool(server.url, password=server.password, **options) as pool:  # type: ignore[arg-type]
            began = loop.time()
            retry = imapipe.Retry(attempts, outage_seconds=outage_seconds)
            job = pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(10).use(retry)
            try:
                return await job.run(_ignore), loop.time() - began, server
            except imapipe.ImapipeError as error:
                return error, loop.time() - began, server

    return run_in_fake_time(run())


AT_THE_START = {
    "reset": RefuseConnection(times=4),
    "accepted and closed": RefuseConnection(kind="close", times=4),
    "greeting BYE": RefuseConnection("down for maintenance", times=4),
    "greeting 421": RefuseConnection(raw=b"421 Server is busy, try again later.\r\n", times=4),
    "LOGIN [UNAVAILABLE]": Reply("NO", "[UNAVAILABLE] try later", command="LOGIN", times=4),
    "too many connections": RefuseLogin(times=2),
    "EXAMINE [UNAVAILABLE]": Reply("NO", "[UNAVAILABLE] later", command="EXAMINE", times=4),
    "EXAMINE [SERVERBUG]": Reply("NO", "[SERVERBUG] Internal error", command="EXAMINE", times=4),
    "not connected": Reply("BAD", "User is authenticated but not connected.", command="EXAMINE", times=4),
    "SEARCH [UNAVAILABLE]": Reply("NO", "[UNAVAILABLE] later", command="UID SEARCH", times=4),
}


@pytest.mark.parametrize("fault", AT_THE_START.values(), ids=AT_THE_START.keys())
def test_an_outage_at_the_beginning_is_outlasted(fault: Fault) -> None:
    report, _, _ = _run([fault], outage_seconds=600)
    assert isinstance(report, imapipe.RunReport)
    check_sums(report)
    assert report.complete
    assert report.done == 40


@pytest.mark.parametrize("fault", AT_THE_START.values(), ids=AT_THE_START.keys())
def test_one_without_end_is_given_up_in_time(fault: Fault) -> None:
    fault.times = None
    error, seconds, _ = _run([fault], outage_seconds=60)
    assert isinstance(error, imapipe.ImapipeError)
    # A refusal for too many connections is a matter of attempts, and of the pool's own caution.
    assert seconds <= 60 + 5 * 60


def test_no_time_is_granted_where_none_is_wanted() -> None:
    error, seconds, server = _run([RefuseConnection()], outage_seconds=0)
    assert isinstance(error, imapipe.ConnectionFailed)
    assert seconds < 1
    assert server.counters.connections == 1


def test_the_error_tells_how_long_and_how_often() -> None:
    error, seconds, server = _run([RefuseConnection()], outage_seconds=60)
    assert isinstance(error, imapipe.ConnectionFailed)
    assert 59 <= seconds <= 61
    assert error.__notes__ == [f"the server did not work for 60 s; it was tried {server.counters.connections} times"]


@pytest.mark.parametrize("command", ["EXAMINE", "UID SEARCH"])
def test_a_silent_server_costs_minutes_and_not_more(command: str) -> None:
    error, seconds, _ = _run([Stall(command=command)], outage_seconds=300)
    assert isinstance(error, imapipe.CommandTimeout)
    assert 300 <= seconds <= 300 + 2 * 60


def test_a_server_silent_in_fetch_poisons_nobody() -> None:
    report, seconds, server = _run([Stall(command="UID FETCH")], outage_seconds=300, messages=200)
    assert isinstance(report, imapipe.RunReport)
    check_sums(report)
    assert report.failed == 200
    assert {failure.reason for failure in report.failures.values()} == {"CommandTimeout", "not-tried"}
    # Five tries of a minute and their waits, for the batches under way and for those that began meanwhile.
    assert seconds <= 2 * 5 * 60
    assert all(len(imapipe.UidSet.parse(record.message_set)) == 10 for record in server.commands.named("UID FETCH"))


def test_waits_are_told() -> None:
    listening = _Listening()
    snapshots: list[imapipe.ProgressSnapshot] = []

    async def run() -> imapipe.RunReport:
        loop = asyncio.get_running_loop()
        server = Server(40, clock=loop.time)
        async with server, imapipe.create_pool(server.url, password=server.password, max_size=1) as pool:
            job = pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(10).depth(1)
            show = imapipe.Progress(snapshots.append, every_seconds=0.1)
            job = job.use(show, listening, imapipe.Retry(outage_seconds=600))

            async def handle(message: imapipe.Message) -> None:
                if message.uid == 5:
                    server.faults.add(RefuseConnection(kind="close", times=3))
                    server.disconnect_all()

            return await job.run(handle, concurrency=1)

    report = run_in_fake_time(run())
    check_sums(report)
    assert report.complete
    waits = [event for event in listening.events if isinstance(event, ServerAwaited)]
    assert [event.reason for event in waits] == ["ConnectionLost"] * 3
    assert waits[0].lasted_seconds == 0
    assert "the server (ConnectionLost)" in {snapshot.waiting_for for snapshot in snapshots}
    assert not snapshots[-1].waiting_for
    assert waits[-1].lasted_seconds > waits[1].lasted_seconds
