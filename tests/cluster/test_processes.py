"""Slots of several processes on a real PostgreSQL; some are killed or stopped, and the server counts connections."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from imapipe.database import Database
from imapipe.testing import Server
from postgres_server import PostgresServer

pytestmark = [pytest.mark.asyncio, pytest.mark.slow]

ROOT: Final = Path(__file__).parents[2]
# Longer than a busy machine lets a thread wait.
LEASE_SECONDS: Final = 3.0
GRACE_MS: Final = 1_000


class Worker:
    """A process with `tests.cluster.slot_worker`."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self.child = child

    async def says(self) -> str:
        assert self.child.stdout is not None
        async with asyncio.timeout(300):
            return (await self.child.stdout.readline()).decode().strip()

    def tell(self, line: str) -> None:
        assert self.child.stdin is not None
        self.child.stdin.write(f"{line}\n".encode())

    async def ask(self, line: str) -> str:
        self.tell(line)
        return await self.says()

    async def end(self, how: signal.Signals = signal.SIGKILL) -> None:
        if self.child.returncode is None:
            self.child.send_signal(how)
            await self.child.wait()


@asynccontextmanager
async def workers(
    server: Server, dsn: str, count: int, *, maximum: int, lease_seconds: float = LEASE_SECONDS, hosts: str = ""
) -> AsyncIterator[list[Worker]]:
    """Processes that are ready; `hosts` has a letter for the machine of each, as they say, or is empty."""
    with Database(dsn).connect():
        pass
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT)))}
    started: list[Worker] = []
    try:
        for number in range(count):
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.cluster.slot_worker", server.url, dsn, str(maximum)),
                *(str(lease_seconds), hosts[number : number + 1]),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=environment,
                cwd=ROOT,
            )
            started.append(Worker(child))
        for worker in started:
            assert await worker.says() == "ready"
        yield started
    finally:
        for worker in started:
            await worker.end()


def milliseconds(dsn: str, what: str) -> int:
    with Database(dsn).connect() as connection:
        value: int = connection.query(f"SELECT {what}")[0][0]
        return value


async def test_four_processes_never_have_more_than_three_connections_as_the_server_counts(
    postgres: PostgresServer,
) -> None:
    async with Server(300) as server, workers(server, postgres.new_database(), 4, maximum=3) as four:
        for worker in four:
            worker.tell("work")
        assert [await worker.says() for worker in four] == ["done 300"] * 4
        assert server.counters.peak_connections <= 3
        # Counted at every moment from the first byte of a connection to its last one; and none was refused.
        assert server.counters.refused_connections == 0


@pytest.mark.skipif("IMAPIPE_PROOF_MESSAGES" not in os.environ, reason="takes half a minute: nox -s proof")
async def test_four_processes_keep_a_rate_for_half_a_minute_within_a_twentieth(postgres: PostgresServer) -> None:
    """By the clock of the server, which says when each message was asked for."""
    rate, seconds = 400.0, 30
    async with (
        Server(round(rate * seconds / 4)) as server,
        workers(server, postgres.new_database(), 4, maximum=8, lease_seconds=30.0) as four,
    ):
        began = time.monotonic()
        for worker in four:
            worker.tell(f"work {rate}")
        assert [await worker.says() for worker in four] == [f"done {round(rate * seconds / 4)}"] * 4
        asked = sorted((each.received_at, each.messages) for each in server.commands if each.name == "UID FETCH")
        passed = sum(messages for _, messages in asked)
        assert passed == rate * seconds
        assert passed / (asked[-1][0] - asked[0][0]) == pytest.approx(rate, rel=0.05)
        until = 0
        for when, messages in asked:
            until += messages
            # The bucket, and a batch of each, which is counted at its end.
            assert until <= rate * (when - began) + rate / 10 + 4 * 10


async def test_the_slots_of_a_process_that_was_killed_are_there_after_its_lease_and_not_before(
    postgres: PostgresServer,
) -> None:
    dsn = postgres.new_database()
    async with Server(3) as server, workers(server, dsn, 2, maximum=2) as (one, other):
        assert await one.ask("hold 2") == "held 2"
        await one.end(signal.SIGKILL)
        dead_until = milliseconds(dsn, f"expires_ms FROM imapipe_workers WHERE process = {one.child.pid}")
        other.tell("hold 2")
        assert await other.says() == "held 2"
        assert milliseconds(dsn, "now_ms()") > dead_until + GRACE_MS
        assert server.counters.peak_connections == 2
        # What was given back goes on at once: no lease needs to end for that.
        assert milliseconds(dsn, "count(*) FROM imapipe_workers") <= 2
        assert await other.ask("release") == "released"


async def test_a_stopped_process_keeps_its_slots_and_ends_its_connections_when_it_goes_on(
    postgres: PostgresServer,
) -> None:
    """The server counts its connections as long as it is stopped, so nobody else gets them, however long that is."""
    dsn = postgres.new_database()
    async with Server(3) as server, workers(server, dsn, 2, maximum=1) as (one, other):
        assert await one.ask("hold 1") == "held 1"
        assert await one.ask("noop") == "ok"
        one.child.send_signal(signal.SIGSTOP)
        other.tell("hold 1")
        stopped_at = milliseconds(dsn, "now_ms()")
        while milliseconds(dsn, "now_ms()") < stopped_at + 2_500 * LEASE_SECONDS:
            assert server.counters.open_connections == 1
            await asyncio.sleep(0.05)
        one.child.send_signal(signal.SIGCONT)
        # Its event loop may wake before the thread that looks at the clock.
        while (answer := await one.ask("noop")) == "ok":
            pass
        assert answer.startswith("lost ")
        assert "its slot among the connections of the account is lost" in answer or "closed" in answer
        assert await other.says() == "held 1"
        assert await other.ask("noop") == "ok"
        assert server.counters.peak_connections == 1
        # The one that was stopped has nothing left, and gets its turn again.
        assert await one.ask("release") == "released"
        assert await other.ask("release") == "released"
        assert await one.ask("hold 1") == "held 1"
        assert server.counters.peak_connections == 1


async def test_of_a_stopped_machine_others_get_the_slots_after_the_lease_and_it_uses_no_connection_again(
    postgres: PostgresServer,
) -> None:
    dsn = postgres.new_database()
    async with Server(3) as server, workers(server, dsn, 2, maximum=1, hosts="AB") as (one, other):
        assert await one.ask("hold 1") == "held 1"
        one.child.send_signal(signal.SIGSTOP)
        stopped_until = milliseconds(dsn, f"expires_ms FROM imapipe_workers WHERE process = {one.child.pid}")
        assert await other.ask("hold 1") == "held 1"
        assert milliseconds(dsn, "now_ms()") > stopped_until + GRACE_MS
        asked_before = len(server.commands)
        one.child.send_signal(signal.SIGCONT)
        assert (await one.ask("noop")).startswith("lost ")
        assert [record for record in server.commands[asked_before:] if record.name == "NOOP"] == []
        assert await other.ask("noop") == "ok"
        # That nothing is sent any more comes first, and that the connection ends comes next.
        while server.counters.open_connections > 1:  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.01)
