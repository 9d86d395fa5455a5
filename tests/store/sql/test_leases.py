"""Leases and fencing: of any number of holders, in whatever order they act, the last one to take a key alone writes."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import ClassVar
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.store.sql.places import ACCOUNT, KEY, connect, never, rows

from imapipe.database import Connection, Database, sqlite
from imapipe.errors import CheckpointLocked, CheckpointLost
from imapipe.store.checkpoint_state import CheckpointChange, CheckpointState
from imapipe.store.job_key import JobKey
from imapipe.store.sql import SqlCheckpointStore, engine, held_keys, tables
from imapipe.store.sql.engine import Engine
from imapipe.store.sql.held import Held, KeyRequest
from imapipe.store.sql.held_keys import HeldKeys
from imapipe.store.sql.holder import Holder, is_dead
from imapipe.store.sql.holding import SqlHolding
from imapipe.store.store_place import state_of
from imapipe.wire.uid_set import UidSet
from postgres_server import PostgresServer

LEASE_SECONDS = 10.0
# The full size with the proofs.
INTERLEAVINGS = 2_000 if "IMAPIPE_PROOF_MESSAGES" in os.environ else 100

holders = st.sampled_from(range(2))


class Interleaved(RuleBasedStateMachine):
    """Two processes on one key, each step of theirs by itself; time passes only where the machine says so."""

    connection: ClassVar[Connection]
    database: ClassVar[Database]
    numbers: ClassVar[Iterator[int]] = count()
    now_ms: ClassVar[int] = 1_800_000_000_000

    def __init__(self) -> None:
        super().__init__()
        self.key = JobKey(ACCOUNT, f"mailbox {next(self.numbers)}")
        self.uids = count(1)
        self.engines = [self.new_engine() for _ in range(2)]
        self.held: list[Held | None] = [None, None]
        self.sequences = [0, 0]
        self.taken: list[list[Held]] = [[], []]
        self.losses: list[list[CheckpointLost]] = [[], []]
        # What the database must hold.
        self.owner: Held | None = None
        self.ends_ms = 0
        self.state: CheckpointState | None = None
        self.done: set[int] = set()

    def new_engine(self) -> Engine:
        """One whose threads never begin: the machine does what they do."""
        made = Engine(self.database, self.database, LEASE_SECONDS)
        made._connection, made._was_connected = self.connection, True
        return made

    # -------------------------------------------------------- what a process does

    @rule(number=holders)
    def take(self, number: int) -> None:
        if self.held[number] is not None:
            return
        try:
            held = self.engines[number].take(self.key, self.losses[number].append, self.connection)
        except CheckpointLocked:
            assert self.owner is not None
            assert self.ends_ms > self.now_ms
            return
        # What it had lost by its own clock only, it may have again.
        assert self.owner is None or self.ends_ms <= self.now_ms or self.owner in self.taken[number]
        assert self.owner is None or held.token > self.owner.token
        self.owner, self.held[number] = held, held
        self.taken[number].append(held)
        self.ends_ms = self.now_ms + round(LEASE_SECONDS * 1_000)
        loaded = tables.read(self.connection, [self.key], path="").get(self.key)
        state = loaded or state_of(self.key, "")
        self.sequences[number] = state.sequence + 1
        self.save(number, replace(state, sequence=state.sequence + 1))

    def save(self, number: int, state: CheckpointState) -> None:
        held = self.held[number]
        assert held is not None
        with suppress(CheckpointLost):
            self.engines[number].request(held, KeyRequest(state=state))
            if self.written(number):
                self.state = state

    @rule(number=holders)
    def append(self, number: int) -> None:
        held = self.held[number]
        if held is None or self.state is None:
            return
        uid = next(self.uids)
        # Far apart, so that what a stale one writes would count.
        self.sequences[number] += 100
        sequence = self.sequences[number]
        change = CheckpointChange(series=self.state.series, sequence=sequence, done=UidSet.from_numbers([uid]))
        with suppress(CheckpointLost):
            self.engines[number].tell(held, lambda: held.changes.append(change))

    @rule(number=holders, is_late=st.booleans())
    def flush(self, number: int, is_late: bool) -> None:
        self.written(number, is_late=is_late)

    def written(self, number: int, *, is_late: bool = False) -> bool:
        """The writer has its turn, or was stopped since it looked at the clock; gives whether it could write."""
        held = self.held[number]
        if held is None:
            return False
        is_ours = held.error is None and held is self.owner and (is_late or held.ends > self.now_ms / 1_000)
        waiting = {uid for change in held.changes for uid in change.done}
        had_news = held.has_news
        with mock.patch.object(HeldKeys, "lose_overdue", new=(lambda _: 1.0) if is_late else HeldKeys.lose_overdue):
            self.engines[number]._write_news()
        if is_ours:
            self.done |= waiting
            assert not held.has_news
        elif had_news:
            assert held.error is not None
        return is_ours

    @rule(number=holders)
    def keeper(self, number: int) -> None:
        held = self.held[number]
        self.engines[number]._renew(self.connection)
        if held is not None and held.error is None:
            assert held is self.owner
            self.ends_ms = self.now_ms + round(LEASE_SECONDS * 1_000)
            assert held.ends * 1_000 < self.ends_ms

    @rule(number=holders)
    def watch(self, number: int) -> None:
        self.engines[number]._keys.lose_overdue()

    @rule(number=holders)
    def release(self, number: int) -> None:
        held = self.held[number]
        if held is None:
            return
        with suppress(CheckpointLost):
            released = self.engines[number].request(held, KeyRequest(is_release=True))
            if self.written(number):
                self.owner = None
            assert released.result(0) is None
        self.held[number] = None

    @rule(number=holders)
    def crash(self, number: int) -> None:
        self.engines[number] = self.new_engine()
        self.held[number] = None
        self.taken[number] = []

    @rule(number=holders)
    def is_stopped_between_its_look_and_its_write(self, number: int) -> None:
        self.append(number)
        self.time_passes(12_000)
        self.take(1 - number)
        self.written(number, is_late=True)

    @rule(milliseconds=st.sampled_from([1, 1_000, 3_000, 8_400, 8_600, 10_000, 12_000]))
    def time_passes(self, milliseconds: int) -> None:
        Interleaved.now_ms += milliseconds

    # -------------------------------------------------------- what always holds

    @invariant()
    def one_at_most_believes_that_it_may_write(self) -> None:
        now = self.now_ms / 1_000
        assert sum(held is not None and held.error is None and held.ends > now for held in self.held) <= 1

    @invariant()
    def a_loss_is_told_once(self) -> None:
        assert all(len(losses) == len({id(loss) for loss in losses}) for losses in self.losses)

    @precondition(lambda self: self.state is not None)
    @invariant()
    def what_is_kept_is_what_the_holders_wrote_while_they_were_that(self) -> None:
        kept = tables.read(self.connection, [self.key], path="")[self.key]
        assert set(kept.done) == self.done
        tokens = self.connection.query(
            "SELECT token FROM imapipe_checkpoint_leases WHERE key = :key", {"key": tables.key_of(self.key)}
        )
        assert self.owner is None or tokens == [(self.owner.token,)]


@pytest.mark.slow
@pytest.mark.no_cover
def test_whatever_the_order_of_steps_only_the_last_to_take_a_key_writes(tmp_path: Path) -> None:
    Interleaved.database = Database(tmp_path / "leases.db")
    with ExitStack() as stack:
        for place, name, made_up in (
            (sqlite, "_now_ms", lambda: Interleaved.now_ms),
            (engine, "uptime", lambda: Interleaved.now_ms / 1_000),
            (held_keys, "uptime", lambda: Interleaved.now_ms / 1_000),
            (engine, "is_dead", lambda held_by: False),
            # Nothing here is to survive a loss of power, so the disk need not be waited for.
            (sqlite.SqliteConnection, "_begin", lambda connection, durable: connection.execute("BEGIN")),
        ):
            stack.enter_context(mock.patch.object(place, name, made_up))
        Interleaved.connection = stack.enter_context(connect(str(tmp_path / "leases.db")))
        Interleaved.connection.execute("PRAGMA synchronous = OFF")
        test = Interleaved.TestCase
        test.settings = settings(max_examples=INTERLEAVINGS, stateful_step_count=30, deadline=None)
        test().runTest()


# ---------------------------------------------------------------- at the same time


@pytest.mark.slow
@pytest.mark.asyncio
async def test_the_fence_alone_keeps_a_stale_holder_out(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody looks at the clock or prolongs anything: what is left is the look at the token in each transaction."""
    dsn = postgres.new_database()
    monkeypatch.setattr(HeldKeys, "lose_overdue", lambda self: 1.0)
    monkeypatch.setattr(Engine, "_renew", lambda self, connection: None)
    with connect(dsn) as connection:
        # Each state names the token under which it was written as its series.
        connection.execute("CREATE TABLE seen (claimed BIGINT, actual BIGINT, number BIGSERIAL)")
        connection.execute(
            """
            CREATE FUNCTION note() RETURNS trigger AS $$ BEGIN
                INSERT INTO seen (claimed, actual)
                SELECT NEW.series::bigint, token FROM imapipe_checkpoint_leases WHERE key = NEW.key;
                RETURN NULL;
            END $$ LANGUAGE plpgsql
            """
        )
        for table in ("states", "changes"):
            connection.execute(
                f"CREATE TRIGGER note_{table} AFTER INSERT OR UPDATE ON imapipe_checkpoint_{table} "
                "FOR EACH ROW EXECUTE FUNCTION note()"
            )
    lost = 0

    async def work(seed: int) -> None:
        nonlocal lost
        chance = random.Random(seed)
        store = SqlCheckpointStore(dsn, lease_seconds=0.1)
        for _ in range(12):
            try:
                holding = await store.open(KEY, lambda error: None)
            except CheckpointLocked:
                await asyncio.sleep(chance.random() / 20)
                continue
            assert isinstance(holding, SqlHolding)
            series = str(holding._held.token)
            state = replace(state_of(KEY, ""), series=series)
            try:
                await holding.save(state)
                for sequence in range(1, 20):
                    holding.append(CheckpointChange(series=series, sequence=sequence, done=UidSet.parse(str(sequence))))
                    await asyncio.sleep(chance.random() / 50)
                    await holding.sync()
            except CheckpointLost:
                lost += 1
            await holding.release()

    async with asyncio.TaskGroup() as group:
        for seed in range(4):
            group.create_task(work(seed))
    seen = rows(dsn, "SELECT claimed, actual FROM seen ORDER BY number")
    assert lost
    assert seen
    assert all(claimed == actual for claimed, actual in seen)


def test_nobody_takes_a_key_while_its_old_holder_writes(postgres: PostgresServer) -> None:
    dsn = postgres.new_database()
    key = tables.key_of(KEY)
    with connect(dsn) as old, connect(dsn) as new, connect(dsn) as gate:
        # A write does not get on while the gate is held.
        old.execute(
            "CREATE FUNCTION pass_gate() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END $$"
        )
        old.execute(
            "CREATE TRIGGER gate BEFORE INSERT ON imapipe_checkpoint_changes FOR EACH ROW EXECUTE FUNCTION pass_gate()"
        )
        taken = tables.take(old, KEY, holder="old", held_by="", lease_ms=1, is_dead=lambda held_by: True)
        assert isinstance(taken, tables.Taken)
        several = [CheckpointChange(series="s", sequence=1)]
        for notes in ({}, {"n": b"1"}):
            # Alone, and in a transaction of several statements.
            write = tables.Write(key=key, token=taken.token, account=ACCOUNT, changes=several, notes=notes)
            with ThreadPoolExecutor(1) as thread:
                with gate.transaction():
                    gate.query("SELECT pg_advisory_xact_lock(1)")
                    writing = thread.submit(tables.write, old, [write])
                    while not gate.query("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
                        pass
                    assert isinstance(take_again(new), tables.Lease)
                while not isinstance(taken := take_again(new), tables.Taken):
                    pass
                # Whatever the old one wrote was there before.
                assert len(new.query("SELECT key FROM imapipe_checkpoint_changes")) == 1
                assert writing.result() == set()
            assert tables.write(old, [write]) == {key}
            old.execute("DELETE FROM imapipe_checkpoint_changes")


def take_again(connection: Connection) -> tables.Taken | tables.Lease:
    return tables.take(connection, KEY, holder="new", held_by="", lease_ms=1, is_dead=lambda held_by: True)


# ---------------------------------------------------------------- who is dead


def test_a_holder_is_dead_only_where_that_is_certain() -> None:
    ours = Holder.ours()
    assert str(ours) == f"process {os.getpid()} on {ours.host}"
    assert Holder.from_json(ours.to_json()) == ours
    assert not is_dead(ours.to_json())
    # Nobody knows whether it is the one of this number.
    assert not is_dead(replace(ours, birth="").to_json())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        other = replace(ours, pid=child.pid)
        # Of its number there is one, which began at another time.
        assert is_dead(other.to_json())
        child.kill()
        # Not reaped yet: there is a process of that number, and it does nothing any more.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert is_dead(other.to_json())
    assert is_dead(other.to_json())
    # Of another machine, of ours before it was started anew, or of a container with its own processes nothing is known.
    assert not is_dead(replace(other, machine="another").to_json())
    assert not is_dead(replace(other, machine="").to_json())
    assert not is_dead("no holder")
    assert not is_dead("{}")


@pytest.mark.asyncio
async def test_a_locked_key_says_who_has_it_and_until_when(dsn: str) -> None:
    first, second = SqlCheckpointStore(dsn), SqlCheckpointStore(dsn)
    holding = await first.open(KEY, never)
    with pytest.raises(CheckpointLocked, match=rf"'INBOX' is held by process {os.getpid()} on .* until 20.* UTC, .* s"):
        await second.open(KEY, never)
    with pytest.raises(CheckpointLocked, match="another run of this process"):
        await first.open(KEY, never)
    await holding.release()
    await (await second.open(KEY, never)).release()
