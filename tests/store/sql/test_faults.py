"""Runs whose process or database fails: nothing is lost, and whoever lost a key records nothing."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.store.sql.places import never, rows

import imapipe
from cable import Cable
from imapipe import search as q
from imapipe.database import Row
from imapipe.errors import CheckpointLocked, CheckpointLost
from imapipe.store import CheckpointHolding, CheckpointState, JobKey, SqlCheckpointStore
from imapipe.store.sql import engine
from imapipe.testing import Server
from postgres_server import PostgresServer

MESSAGES = 60
# In hand, and not yet written: what may be handled again after a death.
REPEATS = 2 + 2 * 5
TOKEN = "SELECT token, ends_ms FROM imapipe_checkpoint_leases"


class Worker:
    """A run in a process of its own."""

    def __init__(self, server: Server, dsn: str, folder: Path, lease_seconds: float) -> None:
        self._file = folder / "handled"
        self._order = {
            "url": server.url,
            "password": server.password,
            "dsn": dsn,
            "handled": str(self._file),
            "lease_seconds": lease_seconds,
        }

    @asynccontextmanager
    async def started(self, pause_seconds: float) -> AsyncIterator[asyncio.subprocess.Process]:
        program = str(Path(__file__).with_name("run_program.py"))
        order = json.dumps({**self._order, "pause_seconds": pause_seconds})
        process = await asyncio.create_subprocess_exec(sys.executable, program, order, stdout=asyncio.subprocess.PIPE)
        self._process = process
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def until(self, count: int) -> None:
        """Wait until so many were handled."""
        while len(self.handled()) < count:
            assert self._process.returncode is None, "it has ended before"
            await asyncio.sleep(0.01)

    def handled(self) -> list[int]:
        return list(map(int, self._file.read_text().split())) if self._file.exists() else []


async def how_it_ended(process: asyncio.subprocess.Process) -> str:
    output, _ = await process.communicate()
    return output.decode().strip()


def inbox(server: Server) -> JobKey:
    return JobKey(f"{server.user}@127.0.0.1:{server.port}", "INBOX")


async def taken(store: SqlCheckpointStore, key: JobKey) -> CheckpointHolding:
    """Take a key as soon as it is free."""
    while True:
        try:
            return await store.open(key, never)
        except CheckpointLocked:
            await asyncio.sleep(0.02)


# ---------------------------------------------------------------- the process


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_killed_run_is_resumed_at_once_and_every_message_is_handled(dsn: str, tmp_path: Path) -> None:
    async with Server(MESSAGES) as server:
        worker = Worker(server, dsn, tmp_path, lease_seconds=60)
        for kill in (1, 2):
            async with worker.started(0.01) as process:
                await worker.until(kill * MESSAGES // 4)
                process.kill()
        # That it is dead can be proved here, so nobody waits for the end of its lease.
        async with worker.started(0) as process:
            assert await how_it_ended(process) == "done"
        handled = Counter(worker.handled())
        state = await SqlCheckpointStore(dsn).peek(inbox(server))
    assert sorted(handled) == list(range(1, MESSAGES + 1))
    assert handled.total() - MESSAGES <= 2 * REPEATS
    assert state is not None
    assert len(state.done) == MESSAGES
    assert state.counters.done == MESSAGES


@pytest.mark.slow
@pytest.mark.asyncio
async def test_where_the_death_cannot_be_proved_the_key_is_free_after_its_lease(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = postgres.new_database()
    monkeypatch.setattr(engine, "is_dead", lambda held_by: False)
    async with Server(MESSAGES) as server:
        # Longer than a busy machine lets the thread wait that renews it, or us between the kill and the look.
        worker = Worker(server, dsn, tmp_path, lease_seconds=4)
        async with worker.started(0.05) as process:
            await worker.until(5)
            process.kill()
            store = SqlCheckpointStore(dsn)
            with pytest.raises(CheckpointLocked, match=f"process {process.pid} on .* until 20.* UTC"):
                await store.open(inbox(server), never)
            ((token, ends_ms),) = rows(dsn, TOKEN)
            holding = await taken(store, inbox(server))
            ((new_token, _),) = rows(dsn, TOKEN)
            await holding.release()
    # A token is the time of its take, by the same clock.
    assert new_token >= ends_ms > token


@pytest.mark.slow
@pytest.mark.asyncio
async def test_who_was_stopped_for_longer_than_its_lease_records_nothing(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    dsn = postgres.new_database()
    async with Server(MESSAGES) as server:
        # Longer than a busy machine lets the thread wait that renews it.
        worker = Worker(server, dsn, tmp_path, lease_seconds=4)
        async with worker.started(0.05) as process:
            await worker.until(10)
            process.send_signal(signal.SIGSTOP)
            holding = await taken(SqlCheckpointStore(dsn), inbox(server))
            loaded = await holding.load()
            assert loaded is not None
            mine = replace(loaded, sequence=loaded.sequence + 1_000, extra={"mine": True})
            await holding.save(mine)
            before = rows(dsn, TOKEN)
            process.send_signal(signal.SIGCONT)
            assert await how_it_ended(process) == "CheckpointLost"
            # It has come to its end, in order; and what it had in hand is nowhere.
            assert await holding.load() == mine
            assert [token for token, _ in rows(dsn, TOKEN)] == [token for token, _ in before]
            assert rows(dsn, "SELECT count(*) FROM imapipe_checkpoint_changes") == [(0,)]
            await holding.release()
        async with Worker(server, dsn, tmp_path, lease_seconds=60).started(0) as process:
            assert await how_it_ended(process) == "done"
    assert sorted(set(worker.handled())) == list(range(1, MESSAGES + 1))


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_blocked_event_loop_loses_nothing(dsn: str) -> None:
    """Its lease is renewed meanwhile, again and again."""

    def ends() -> list[Row]:
        return rows(dsn, "SELECT ends_ms FROM imapipe_checkpoint_leases")

    async with Server(4) as server, imapipe.create_pool(server.url, password=server.password) as pool:

        async def handle(message: imapipe.Message) -> None:
            if message.uid == 2:
                await asyncio.sleep(0)
                for _ in range(3):
                    before = ends()
                    while ends() == before:
                        time.sleep(0.01)  # noqa: ASYNC251 - on purpose

        # A third of it is waited for three times, and all of it may pass on a busy machine.
        checkpoint = imapipe.Checkpoint(SqlCheckpointStore(dsn, lease_seconds=6.0))
        report = await pool.mailbox("INBOX").search(q.ALL).fetch("flags").use(checkpoint).run(handle)
    assert report.done == report.planned == 4


# ---------------------------------------------------------------- the database


async def run_while(
    dsn: str, trouble: Callable[[], Awaitable[None]], *, lease_seconds: float = 30.0
) -> tuple[imapipe.RunReport, CheckpointState | None]:
    """A run in the middle of which there is trouble; gives its report, and what is kept of it."""
    async with Server(MESSAGES) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        half = asyncio.Event()
        over = asyncio.Event()

        async def handle(message: imapipe.Message) -> None:
            if message.uid == MESSAGES // 2:
                half.set()
                await over.wait()

        async def make_trouble() -> None:
            await half.wait()
            await trouble()
            over.set()

        store = SqlCheckpointStore(dsn, lease_seconds=lease_seconds)
        checkpoint = imapipe.Checkpoint(store, save_every_messages=1, save_every_seconds=0.02)
        job = pool.mailbox("INBOX").search(q.ALL).fetch("flags").use(checkpoint)
        async with asyncio.TaskGroup() as group:
            group.create_task(make_trouble())
            report = await job.run(handle, concurrency=2)
        return report, await store.peek(inbox(server))


@pytest.mark.asyncio
@pytest.mark.usefixtures("postgres")
async def test_a_restart_of_the_database_in_the_middle_of_a_run_loses_nothing() -> None:
    with PostgresServer() as postgres:

        async def restart() -> None:
            postgres.crash()
            # Long enough for a save to meet it.
            await asyncio.sleep(0.1)
            await asyncio.to_thread(postgres.restart)

        report, state = await run_while(postgres.new_database(), restart)
    assert report.done == MESSAGES
    assert state is not None
    assert (len(state.done), state.counters.done) == (MESSAGES, MESSAGES)


@pytest.mark.asyncio
async def test_a_network_that_was_cut_for_less_than_the_lease_loses_nothing(postgres: PostgresServer) -> None:
    dsn = postgres.new_database()
    with Cable(postgres.port) as cable:

        async def cut() -> None:
            cable.cut()
            await asyncio.sleep(0.3)
            cable.drop()
            cable.mend()

        report, state = await run_while(dsn.replace(f":{postgres.port}/", f":{cable.port}/"), cut)
    assert report.done == MESSAGES
    assert state is not None
    assert (len(state.done), state.counters.done) == (MESSAGES, MESSAGES)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_network_that_stays_cut_ends_the_run_and_cancels_its_handlers(postgres: PostgresServer) -> None:
    dsn = postgres.new_database()
    with Cable(postgres.port) as cable:

        async def cut() -> None:
            cable.cut()
            # The handler is at work until the run ends.
            await asyncio.get_running_loop().create_future()

        with pytest.raises(ExceptionGroup) as caught:
            await run_while(dsn.replace(f":{postgres.port}/", f":{cable.port}/"), cut, lease_seconds=1)
        before = rows(dsn, "SELECT key, sequence FROM imapipe_checkpoint_states")
        cable.mend()
    assert [type(error) for error in caught.value.exceptions] == [CheckpointLost]
    assert rows(dsn, "SELECT key, sequence FROM imapipe_checkpoint_states") == before
