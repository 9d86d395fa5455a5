"""A server that does not work: waited for in time, told as it happens, and nobody's fault."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Awaitable, Callable, Sequence
from copy import deepcopy
from pathlib import Path

import pytest
from tests.middleware.fakes import run_in_fake_time
from tests.pipeline.world import Always, check_sums

import imapipe
from imapipe import search as q
from imapipe.middleware.base import Layer, Run
from imapipe.models.event import Event, ServerAwaited
from imapipe.net.pool.connection_limit import FAILED_PAUSE_SECONDS
from imapipe.pipeline import outage as outage_module
from imapipe.runtime.event_bus import EventBus
from imapipe.testing import Bye, CutAfterBytes, Fault, RefuseConnection, RefuseLogin, Reply, Server, Stall


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
        # Faults count, and these are of several tests.
        server = Server(messages, faults=deepcopy(list(faults)), clock=loop.time)
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
    "EXAMINE [INUSE]": Reply("NO", "[INUSE] Mailbox is locked", command="EXAMINE", times=4),
    "EXAMINE System Error": Reply("NO", "System Error (Failure)", command="EXAMINE", times=4),
    "LOGIN System error": Reply("NO", "System error", command="LOGIN", times=4),
    "connection reset in EXAMINE": CutAfterBytes(0, "reset", command="EXAMINE", times=4),
    "connection reset in SEARCH": CutAfterBytes(0, "reset", command="UID SEARCH", times=4),
    "BYE to EXAMINE": Bye("Temporary system error", command="EXAMINE", times=4),
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
    endless = deepcopy(fault)
    endless.times = None
    error, seconds, _ = _run([endless], outage_seconds=60)
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


# ---------------------------------------------------------------- in the middle of a run


async def _close_the_port(server: Server, seconds: float) -> None:
    await server.close_port()
    await asyncio.sleep(seconds)
    await server.open_port()


async def _accept_and_close(server: Server, seconds: float) -> None:
    """As a proxy does whose server is down."""
    fault = RefuseConnection(kind="close")
    server.faults.add(fault)
    await asyncio.sleep(seconds)
    server.faults.remove(fault)


async def _go_dark(server: Server, seconds: float) -> None:
    """Nothing comes any more, and nothing says so; connections that are made get no greeting."""
    faults = [Stall(), Stall(command="GREETING")]
    server.faults.add(*faults)
    await asyncio.sleep(seconds)
    for fault in faults:
        server.faults.remove(fault)


Outage = Callable[[Server, float], Awaitable[None]]


def _run_into(
    outage: Outage, seconds: float, *layers: imapipe.Middleware, dead: bool = True
) -> tuple[imapipe.RunReport, float, Server]:
    """A run of 200 messages on four connections, in the middle of which the server is down for a while."""

    async def run() -> tuple[imapipe.RunReport, float, Server]:
        loop = asyncio.get_running_loop()
        server = Server(200, clock=loop.time)
        outages: list[asyncio.Task[None]] = []

        async def handle(message: imapipe.Message) -> None:
            if not outages:
                outages.append(asyncio.ensure_future(outage(server, seconds)))
                await asyncio.sleep(0)
                if dead:
                    server.disconnect_all()

        async with server, imapipe.create_pool(server.url, password=server.password, max_size=4) as pool:
            began = loop.time()
            job = pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(10).depth(1).use(*layers)
            report = await job.run(handle, concurrency=1)
            lasted = loop.time() - began
            for task in outages:
                task.cancel()
            await asyncio.gather(*outages, return_exceptions=True)
            return report, lasted, server

    return run_in_fake_time(run())


@pytest.mark.parametrize(("outage", "dead"), [(_close_the_port, True), (_accept_and_close, True), (_go_dark, False)])
@pytest.mark.parametrize("seconds", [15, 200])
def test_an_outage_in_the_middle_fails_nobody(outage: Outage, dead: bool, seconds: float) -> None:
    """Measured before: 200 failed after 15 s of a refused port, and seven innocents behind a proxy."""
    report, _, server = _run_into(outage, seconds, imapipe.Retry(), dead=dead)
    check_sums(report)
    assert (report.done, report.failed) == (200, 0)
    # Nobody was suspected: no set is a part of another one that was not cut short.
    sizes = {len(imapipe.UidSet.parse(record.message_set)) for record in server.commands.named("UID FETCH")}
    assert sizes == {10}


@pytest.mark.parametrize("dark", [True, False])
def test_a_network_that_stays_dark_is_given_up_in_minutes(dark: bool) -> None:
    """Measured before: not given up after 560 s at the default timeouts."""
    report, seconds, _ = _run_into(_go_dark if dark else _close_the_port, 1e6, imapipe.Retry(), dead=not dark)
    check_sums(report)
    assert 0 < report.done < 200
    assert {failure.reason for failure in report.failures.values()} <= {
        "CommandTimeout",
        "ConnectionFailed",
        "PoolTimeout",
        "not-tried",
    }
    # Whoever waited for a connection in vain says why there was none.
    told = {failure.detail for failure in report.failures.values() if failure.reason != "not-tried"}
    assert all("no connection to 127.0.0.1" in detail for detail in told)
    # A minute until the silence is noticed, one for a connection before it counts as an outage, five of patience, and
    # one for the last try.
    assert 300 <= seconds <= 300 + 4 * 60


def test_what_an_outage_failed_is_tried_again_whatever_was_chosen(tmp_path: Path) -> None:
    def layers() -> tuple[imapipe.Middleware, ...]:
        checkpoint = imapipe.Checkpoint(tmp_path / "state.json", retry_failed=False)
        return checkpoint, imapipe.Retry(2, outage_seconds=10)

    async def runs() -> list[imapipe.RunReport]:
        loop = asyncio.get_running_loop()
        reports: list[imapipe.RunReport] = []
        async with (
            Server(60, clock=loop.time) as server,
            imapipe.create_pool(server.url, password=server.password, max_size=1) as pool,
        ):
            job = pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(10).depth(1)

            async def handle(message: imapipe.Message) -> None:
                if message.uid == 15:
                    await server.close_port()
                    server.disconnect_all()

            reports.append(await job.use(*layers()).run(handle, concurrency=1))
            await server.open_port()
            reports.append(await job.use(*layers()).run(_ignore))
        return reports

    first, second = run_in_fake_time(runs())
    assert first.failed > 0
    check_sums(second)
    assert (second.failed, second.done + second.skipped) == (0, 60)


@pytest.mark.parametrize("raised", [LookupError("gone"), TimeoutError(), OSError(113, "No route to host")])
@pytest.mark.parametrize("where", ["token", "open_socket"])
def test_what_callbacks_raise_is_outlasted(where: str, raised: Exception) -> None:
    tries = itertools.count(1)

    async def run() -> imapipe.RunReport:
        loop = asyncio.get_running_loop()
        async with Server(20, token="good", clock=loop.time) as server:

            async def token() -> str:
                if where == "token" and next(tries) < 4:
                    raise raised
                return "good"

            async def open_socket(host: str, port: int) -> socket.socket:
                if where == "open_socket" and next(tries) < 4:
                    raise raised
                return socket.create_connection((host, port))

            pool = imapipe.create_pool(server.url, token=token, open_socket=open_socket)
            async with pool:
                return await pool.mailbox("INBOX").search(q.ALL).fetch("flags").use(imapipe.Retry()).run(_ignore)

    report = run_in_fake_time(run())
    assert (report.done, report.complete) == (20, True)
    assert next(tries) >= 5


# ---------------------------------------------------------------- outside of a run

ASKS: dict[str, Callable[[imapipe.Pool, float], Awaitable[object]]] = {
    "LIST": lambda pool, seconds: pool.mailboxes(outage_seconds=seconds),
    "STATUS": lambda pool, seconds: pool.mailbox("INBOX").status(outage_seconds=seconds),
}


def _ask(command: str, fault: Fault, outage_seconds: float) -> tuple[object, float, list[Event]]:
    """What was answered or raised, how long it took, and what was told."""

    async def ask() -> tuple[object, float, list[Event]]:
        loop = asyncio.get_running_loop()
        events: list[Event] = []
        async with (
            Server(3, faults=[fault], clock=loop.time, extensions="plain") as server,
            imapipe.create_pool(server.url, password=server.password) as pool,
        ):
            pool.events.subscribe(events.append)
            began = loop.time()
            try:
                return await ASKS[command](pool, outage_seconds), loop.time() - began, events
            except imapipe.ImapipeError as error:
                return error, loop.time() - began, events

    return run_in_fake_time(ask())


@pytest.mark.parametrize("command", ASKS)
@pytest.mark.parametrize("name", ["reset", "greeting BYE", "greeting 421", "LOGIN [UNAVAILABLE]", "itself"])
def test_lists_and_counts_wait_for_a_server_where_that_is_wanted(command: str, name: str) -> None:
    fault = deepcopy(AT_THE_START.get(name)) or Reply("NO", "[UNAVAILABLE] later", command=command)
    fault.times = 4
    answer, _, events = _ask(command, fault, 600)
    assert not isinstance(answer, Exception)
    assert len([event for event in events if isinstance(event, ServerAwaited)]) >= 2
    fault.times = None
    error, seconds, events = _ask(command, fault, 60)
    assert isinstance(error, imapipe.ImapipeError)
    assert 59 <= seconds <= 62
    assert "the server did not work for 60 s" in error.__notes__[0]
    error, seconds, events = _ask(command, fault, 0)
    assert isinstance(error, imapipe.ImapipeError)
    assert seconds < 1
    assert not [event for event in events if isinstance(event, ServerAwaited)]


def test_the_last_try_is_made_when_the_time_is_over_and_none_just_before() -> None:
    """Defect: after a last wait that happened to be short, the pool's pause before it dials came on top of the time."""

    async def outlast() -> list[ServerAwaited]:
        waits: list[ServerAwaited] = []
        events = EventBus()
        events.subscribe(lambda event: waits.append(event) if isinstance(event, ServerAwaited) else None)
        outage = outage_module.Outage(60.0, events)
        while await outage.outlast(imapipe.ConnectionFailed("refused")):
            pass
        return waits

    for _ in range(100):
        waits = run_in_fake_time(outlast())
        assert waits[-1].lasted_seconds + waits[-1].wait_seconds == pytest.approx(60.0, abs=0.001)
        assert all(60 - wait.lasted_seconds >= FAILED_PAUSE_SECONDS for wait in waits)


@pytest.mark.asyncio
async def test_patience_is_a_time() -> None:
    async with Server(3) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        with pytest.raises(ValueError, match="outage_seconds must be 0 or more"):
            await pool.mailboxes(outage_seconds=-1)
        with pytest.raises(TypeError, match="outage_seconds takes a number"):
            await pool.mailbox("INBOX").status(outage_seconds="60")  # type: ignore[arg-type]
    assert not server.counters.connections
