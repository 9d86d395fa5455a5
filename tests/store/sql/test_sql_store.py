"""`SqlCheckpointStore` keeps every rule of a store, on PostgreSQL and on SQLite; and what it does beyond them."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.middleware.fakes import FakeRun
from tests.store.sql.places import ACCOUNT, KEY, connect, crash, lose, maker, never, rows

from imapipe import Checkpoint
from imapipe.database import Connection, Database, Step, migrate
from imapipe.database import postgres as postgres_connection
from imapipe.errors import (
    CheckpointCorrupt,
    CheckpointError,
    CheckpointLocked,
    CheckpointLost,
    CheckpointVersion,
    DatabaseError,
)
from imapipe.store import CheckpointHolding, JobKey, KeepsOpen, ListsKeys, SavesLast, SqlCheckpointStore, WritesBehind
from imapipe.store.checkpoint_state import CheckpointState
from imapipe.store.conformance import STORE_RULES, Rule
from imapipe.store.sql import held, tables
from imapipe.store.sql.engine import Engine
from imapipe.store.sql.holding import SqlHolding
from imapipe.store.store_place import StorePlace, change_of, state_of
from imapipe.wire.uid_set import UidSet
from postgres_server import PostgresServer


@pytest.mark.parametrize("rule", STORE_RULES, ids=lambda rule: rule.__name__)
@pytest.mark.asyncio
async def test_a_rule(dsn: str, rule: Rule) -> None:
    await rule(StorePlace(maker(dsn), crash=partial(crash, dsn), lose=partial(lose, dsn)))


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("imapipe-checkpoint-")]


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - what threads do
        await asyncio.sleep(0.005)


async def opened(store: SqlCheckpointStore, key: JobKey = KEY) -> tuple[CheckpointHolding, CheckpointState]:
    """A key with a state."""
    holding = await store.open(key, never)
    state = await holding.load() or state_of(key, "")
    await holding.save(state)
    return holding, state


# ---------------------------------------------------------------- writing behind


@pytest.mark.asyncio
async def test_what_is_appended_is_written_together_and_without_being_asked_for(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqlCheckpointStore(dsn)
    holding, state = await opened(store)
    other, beside = await opened(store, replace(KEY, mailbox="Archive"))
    written: list[int] = []
    busy, go_on = threading.Event(), threading.Event()
    write = tables.write

    def slow(connection: Connection, writes: list[tables.Write], *, durable: bool) -> set[bytes]:
        written.append(sum(len(each.changes) for each in writes))
        busy.set()
        go_on.wait()
        return write(connection, writes, durable=durable)

    monkeypatch.setattr(tables, "write", slow)
    holding.append(change_of(state, 1, "1"))
    await asyncio.to_thread(busy.wait)
    for number in range(2, 12):
        holding.append(change_of(state, number, str(number)))
        other.append(change_of(beside, number, str(number)))
    go_on.set()
    # Nobody asks for it.
    assert isinstance(holding, SqlHolding)
    behind = holding._held
    await until(lambda: len(written) == 2 and not behind.has_news)
    assert written == [1, 20]
    peeked = await SqlCheckpointStore(dsn).peek(KEY)
    assert peeked is not None
    assert peeked.done == UidSet.parse("1:11")
    await holding.release()
    await other.release()
    # A row for each transaction, not for each change, and none that a saved state contains.
    counted = "SELECT count(*) FROM imapipe_checkpoint_changes"
    assert rows(dsn, counted) == [(3,)]
    holding, state = await opened(store)
    await holding.save(replace(state, sequence=state.sequence + 1))
    await holding.release()
    assert rows(dsn, counted) == [(1,)]


@pytest.mark.asyncio
async def test_what_waits_is_counted_until_it_is_committed_and_for_ever_where_the_key_is_lost(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    holding, state = await opened(SqlCheckpointStore(dsn))
    other, beside = await opened(SqlCheckpointStore(dsn), replace(KEY, mailbox="Archive"))
    assert isinstance(holding, SqlHolding)
    assert isinstance(other, SqlHolding)
    go_on = threading.Event()
    write = tables.write

    def slow(connection: Connection, writes: list[tables.Write], *, durable: bool) -> set[bytes]:
        go_on.wait()
        return write(connection, writes, durable=durable)

    monkeypatch.setattr(tables, "write", slow)
    for number in (1, 2, 3):
        holding.append(change_of(state, number, str(number)))
    other.append(change_of(beside, 1, "1"))
    assert (holding.waiting, other.waiting) == (3, 1)
    go_on.set()
    await holding.written()
    await other.written()
    assert (holding.waiting, other.waiting) == (0, 0)
    other._held.lost = lambda _: None
    await lose(dsn, replace(KEY, mailbox="Archive"))
    taken, _ = await opened(SqlCheckpointStore(dsn), replace(KEY, mailbox="Archive"))
    other.append(change_of(beside, 2, "2"))
    with pytest.raises(CheckpointLost):
        await other.written()
    assert other.waiting == 1
    for each in (holding, other, taken):
        await each.release()


@pytest.mark.asyncio
async def test_a_run_is_not_held_for_what_is_written_already(dsn: str) -> None:
    run = FakeRun()
    layer = await Checkpoint(SqlCheckpointStore(dsn), save_every_seconds=3_600, save_every_messages=10).start(run)
    behind = layer._holding
    assert isinstance(behind, SqlHolding)
    for first in range(1, 101, 5):
        run.ledger.settle(*range(first, first + 5))
        assert not run.is_held
        # The writer does that by itself.
        await until(lambda: not behind.waiting)
    await layer.stop()


@pytest.mark.asyncio
async def test_the_last_save_gives_the_key_back_in_the_same_transaction(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[tuple[bool, bool, bool]] = []
    write = tables.write

    def noted(connection: Connection, several: list[tables.Write], *, durable: bool) -> set[bytes]:
        writes.extend((each.state is not None, each.is_release, durable) for each in several)
        return write(connection, several, durable=durable)

    monkeypatch.setattr(tables, "write", noted)
    run = FakeRun("1:10")
    layer = await Checkpoint(SqlCheckpointStore(dsn)).start(run)
    run.ledger.settle(*range(1, 11))
    await layer.stop()
    assert [each for each in writes if each[0] or each[1]] == [(True, False, True), (True, True, True)]
    assert not threads()
    # One that left something behind may have more to come.
    writes.clear()
    run = FakeRun("1:20")
    layer = await Checkpoint(SqlCheckpointStore(dsn)).start(run)
    run.ledger.settle(*range(11, 20))
    await layer.stop()
    assert [each for each in writes if each[1]] == [(False, True, False)]
    holding, state = await opened(SqlCheckpointStore(dsn))
    assert state.done == UidSet.parse("1:19")
    await holding.release()


@pytest.mark.asyncio
async def test_a_last_save_that_fails_has_the_key_still_to_be_given_back(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    holding, state = await opened(SqlCheckpointStore(dsn))
    assert isinstance(holding, SavesLast)
    with pytest.raises(CheckpointError, match="Integer exceeds"):
        await holding.save_last(replace(state, sequence=5, extra={"x": 2**200}))
    await holding.save_last(replace(state, sequence=5, done=UidSet.parse("1:5")))
    other, found = await opened(SqlCheckpointStore(dsn))
    assert found.done == UidSet.parse("1:5")
    await holding.release()
    await other.release()
    assert not threads()


@pytest.mark.asyncio
async def test_a_last_save_of_a_lost_key_says_so_and_takes_nothing_from_the_new_holder(dsn: str) -> None:
    store = SqlCheckpointStore(dsn)
    holding = await store.open(KEY, lambda _: None)
    assert isinstance(holding, SavesLast)
    await holding.save(state_of(KEY, "1"))
    await lose(dsn, KEY)
    other, state = await opened(SqlCheckpointStore(dsn))
    with pytest.raises(CheckpointLost):
        await holding.save_last(replace(state, sequence=9, done=UidSet.parse("1:9")))
    await holding.release()
    # It is held still, and has what it had.
    with pytest.raises(CheckpointLocked):
        await SqlCheckpointStore(dsn).open(KEY, never)
    await other.release()
    peeked = await SqlCheckpointStore(dsn).peek(KEY)
    assert peeked is not None
    assert peeked.done == UidSet.parse("1")


@pytest.mark.asyncio
async def test_the_queue_of_a_database_that_takes_nothing_has_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imapipe.store.sql.holding.MOST_CHANGES", 10)
    holding, state = await opened(SqlCheckpointStore(tmp_path / "a.db"))
    with connect(str(tmp_path / "a.db")) as other, other.transaction():
        # The file is another's for now.
        for number in range(1, 11):
            holding.append(change_of(state, number, str(number)))
        with pytest.raises(CheckpointError, match="does not take"):
            holding.append(change_of(state, 11, "11"))
    await holding.sync()
    holding.append(change_of(state, 11, "11"))
    loaded = await holding.load()
    assert loaded is not None
    assert loaded.done == UidSet.parse("1:11")
    await holding.release()


@pytest.mark.asyncio
async def test_what_goes_wrong_for_good_is_told_to_its_own_key_alone(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqlCheckpointStore(dsn)
    holding, state = await opened(store)
    other, beside = await opened(store, replace(KEY, mailbox="Archive"))
    bad = replace(change_of(state, 1, "1"), extra={"x": 2**200})  # JSON does not take it
    holding.append(bad)
    other.append(change_of(beside, 1, "1"))
    await other.sync()
    # It may have failed already, behind our back: then that is told first, and it is tried again.
    with pytest.raises(CheckpointError, match="Integer exceeds"):
        await holding.sync()
    # A whole state takes its place.
    await holding.save(replace(state, sequence=2, done=UidSet.parse("1")))
    await holding.sync()
    await holding.release()
    await other.release()
    states = await store.peek_all([KEY, replace(KEY, mailbox="Archive")])
    assert [state.done.text() for state in states.values()] == ["1", "1"]


@pytest.mark.asyncio
async def test_what_was_written_softly_is_made_durable_by_a_sync(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, bool]] = []
    write = tables.write

    def noted(connection: Connection, writes: list[tables.Write], *, durable: bool) -> set[bytes]:
        seen.append((durable, any(each.is_touch or each.changes for each in writes)))
        return write(connection, writes, durable=durable)

    holding, state = await opened(SqlCheckpointStore(dsn))
    assert isinstance(holding, WritesBehind)
    monkeypatch.setattr(tables, "write", noted)
    await holding.written()
    await holding.sync()
    assert seen == []
    holding.append(change_of(state, 1, "1"))
    await holding.written()
    assert all(not durable for durable, _ in seen)
    seen.clear()
    await holding.sync()
    # Something is written, so that the log is brought to the disk up to it.
    assert seen == [(True, True)]
    seen.clear()
    await holding.sync()
    assert seen == []
    await holding.release()


@pytest.mark.asyncio
async def test_what_is_being_written_when_it_is_asked_for_is_not_written_twice(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    holding, state = await opened(SqlCheckpointStore(dsn))
    assert isinstance(holding, WritesBehind)
    busy, go_on = threading.Event(), threading.Event()
    write, calls = tables.write, []

    def slow(connection: Connection, writes: list[tables.Write], *, durable: bool) -> set[bytes]:
        calls.append(durable)
        busy.set()
        go_on.wait()
        return write(connection, writes, durable=durable)

    monkeypatch.setattr(tables, "write", slow)
    holding.append(change_of(state, 1, "1"))
    await asyncio.to_thread(busy.wait)
    asking = asyncio.create_task(holding.written())
    await asyncio.sleep(0)
    go_on.set()
    await asking
    assert calls == [False]
    # What it was written for is not durable by that.
    await holding.sync()
    assert calls == [False, True]
    await holding.release()


@pytest.mark.asyncio
async def test_a_run_waits_once_for_each_thing_that_it_asks_the_database_for(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = 0
    wait = postgres_connection._Bounded.wait

    def counted(*arguments: Any, **options: Any) -> object:  # noqa: ANN401

        nonlocal waits
        waits += 1
        return wait(*arguments, **options)

    dsn = postgres.new_database()
    holding, _ = await opened(SqlCheckpointStore(dsn))
    await holding.release()
    monkeypatch.setattr(postgres_connection._Bounded, "wait", counted)
    store = SqlCheckpointStore(dsn)
    holding = await store.open(KEY, never)
    assert waits == 2  # the version of its tables, and the key with all that is kept for it
    state = await holding.load()
    assert state is not None
    await holding.save(replace(state, sequence=state.sequence + 1))
    holding.append(change_of(state, 5, "5"))
    await holding.sync()
    await holding.save(replace(state, sequence=10))
    await holding.release()
    assert waits in {6, 7}  # the change may be written before anybody asks for it


# ---------------------------------------------------------------- taking and giving back


@pytest.mark.asyncio
async def test_a_store_that_nobody_uses_has_no_threads(dsn: str) -> None:
    # Those of the tests before end by themselves.
    await until(lambda: not threads())
    store = SqlCheckpointStore(dsn)
    holding, _ = await opened(store)
    assert len(threads()) == 3
    second, _ = await opened(store, replace(KEY, mailbox="Archive"))
    assert len(threads()) == 3
    await second.release()
    await second.release()
    assert len(threads()) == 3
    await holding.release()
    await until(lambda: not threads())
    for call in (holding.load(), holding.sync(), holding.delete()):
        with suppress(CheckpointError):
            await call
    with pytest.raises(CheckpointError, match="given back"):
        await holding.load()


@pytest.mark.asyncio
async def test_a_cancelled_open_gives_the_key_back(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqlCheckpointStore(dsn)
    taking, go_on = threading.Event(), threading.Event()
    take = Engine.take

    def slow(self: Engine, key: JobKey, lost: Callable[[CheckpointLost], None], connection: Connection) -> held.Held:
        taking.set()
        go_on.wait()
        return take(self, key, lost, connection)

    monkeypatch.setattr(Engine, "take", slow)
    opening = asyncio.create_task(store.open(KEY, never))
    await asyncio.to_thread(taking.wait)
    waiting = asyncio.create_task(store.open(replace(KEY, mailbox="Archive"), never))
    await asyncio.sleep(0)
    for task in (opening, waiting):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    go_on.set()
    await until(lambda: not threads())
    assert rows(dsn, "SELECT holder FROM imapipe_checkpoint_leases WHERE holder IS NOT NULL") == []


@pytest.mark.asyncio
async def test_a_take_whose_answer_was_lost_is_not_in_its_own_way(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = postgres.new_database()
    store = SqlCheckpointStore(dsn)
    close = store.keep_open()
    take, tries = tables.take, []

    def lost_once(connection: Connection, *arguments: object, **options: object) -> object:
        token = take(connection, *arguments, **options)  # type: ignore[arg-type]
        tries.append(token)
        if len(tries) == 1:
            connection.close()
            connection.query("SELECT 1")
        return token

    monkeypatch.setattr(tables, "take", lost_once)
    holding = await store.open(KEY, never)
    assert len(tries) == 2
    await holding.save(state_of(KEY, "1"))
    await holding.release()
    close()


@pytest.mark.asyncio
async def test_it_stays_open_between_runs_for_whoever_asks_for_that(dsn: str) -> None:
    store = SqlCheckpointStore(dsn)
    assert isinstance(store, KeepsOpen)
    close = await asyncio.to_thread(store.keep_open)
    running = store._engine
    assert running is not None
    holding, _ = await opened(store)
    await holding.release()
    assert store._engine is running
    await asyncio.to_thread(close)
    await until(lambda: not threads())


@pytest.mark.asyncio
async def test_it_connects_as_soon_as_a_run_is_foreseen(dsn: str) -> None:
    store = SqlCheckpointStore(dsn)
    end = store.foresee()
    engine = store._engine
    assert engine is not None
    await until(lambda: engine._connection is not None)
    holding, _ = await opened(store)
    assert store._engine is engine
    end()
    await holding.release()
    await until(lambda: not threads())
    # A run that finds no mailbox needs none.
    store.foresee()()
    await until(lambda: not threads())


@pytest.mark.asyncio
async def test_a_database_that_is_not_there_is_tried_once_for_whoever_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries = 0
    asked = threading.Event()

    def refuse(self: Database) -> Connection:
        nonlocal tries
        tries += 1
        asked.wait()
        raise DatabaseError("it is not there", database=self.name, is_transient=True, is_lost=True)

    monkeypatch.setattr(Database, "connect", refuse)
    store = SqlCheckpointStore("postgresql://db/x")
    end = store.foresee()
    await until(lambda: tries == 1)
    opening = asyncio.create_task(store.open(KEY, never))
    await asyncio.sleep(0)
    asked.set()
    with pytest.raises(CheckpointError, match="it is not there"):
        await opening
    assert tries == 1
    # Later on it may be there.
    with pytest.raises(CheckpointError, match="it is not there"):
        await store.open(KEY, never)
    assert tries == 2
    end()


@pytest.mark.asyncio
async def test_a_fork_of_a_process_has_none_of_its_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqlCheckpointStore(tmp_path / "a.db")
    holding, state = await opened(store)
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    with pytest.raises(CheckpointError, match=f"process {pid} opened it"):
        holding.append(change_of(state, 1, "1"))
    monkeypatch.undo()
    await holding.release()


# ---------------------------------------------------------------- looking and cleaning


@pytest.mark.asyncio
async def test_the_keys_of_an_account_that_have_a_state(dsn: str) -> None:
    store = SqlCheckpointStore(dsn)
    assert isinstance(store, ListsKeys)
    keys = [JobKey(ACCOUNT, mailbox, "job", "1/2") for mailbox in ("Entwürfe/日本", "nul\0 and \udcff", "x" * 5_000)]
    for key in [*keys, replace(KEY, account="bob@imap.example.org:993")]:
        holding, _ = await opened(store, key)
        await holding.release()
    empty = await store.open(replace(KEY, mailbox="empty"), never)
    await empty.release()
    assert sorted(await asyncio.to_thread(store.keys, ACCOUNT)) == sorted(key.printable() for key in keys)
    assert await asyncio.to_thread(store.keys, "nobody") == []
    many = [replace(KEY, mailbox=str(number)) for number in range(1_200)]
    assert list(await store.peek_all([*many, *keys])) == keys


@pytest.mark.asyncio
async def test_what_nobody_has_held_for_long_is_cleaned_away(dsn: str) -> None:
    store = SqlCheckpointStore(dsn)
    bob, cecil = (replace(KEY, account=f"{name}@imap.example.org:993") for name in ("bob", "cecil"))
    for key in (KEY, bob, cecil):
        holding, state = await opened(store, key)
        await holding.notes()
        holding.put_note("n", 1)
        holding.append(change_of(state, 1, "1"))
        await holding.release()
    with connect(dsn) as connection:
        days = 1_000 * 86_400
        for table in ("leases", "notes"):
            connection.execute(
                f"UPDATE imapipe_checkpoint_{table} SET touched_ms = touched_ms - :ms", {"ms": 20 * days}
            )
    # One of them is held now, another one was a moment ago.
    holding, _ = await opened(store, bob)
    await (await store.open(cecil, never)).release()
    assert await store.clean(timedelta(days=30)) == 0
    assert await store.clean(timedelta(days=10)) == 1
    assert set(await store.peek_all([KEY, bob, cecil])) == {bob, cecil}
    for table in ("leases", "states", "changes"):
        assert rows(dsn, f"SELECT count(*) FROM imapipe_checkpoint_{table} WHERE key IS NOT NULL")[0][0] in {1, 2}
    assert sorted(rows(dsn, "SELECT account FROM imapipe_checkpoint_notes")) == [(bob.account,), (cecil.account,)]
    await holding.release()
    # Whoever comes later begins with a higher number than anybody had.
    ((before,),) = rows(dsn, "SELECT max(token) FROM imapipe_checkpoint_leases")
    holding, _ = await opened(store)
    assert isinstance(holding, SqlHolding)
    assert holding._held.token > before - 60_000
    await holding.release()


@pytest.mark.asyncio
async def test_what_cannot_be_read_is_told_by_its_kind(dsn: str) -> None:
    store = SqlCheckpointStore(dsn)
    holding, _ = await opened(store)
    await holding.release()
    with connect(dsn) as connection:
        connection.execute("UPDATE imapipe_checkpoint_states SET version = 77")
        with pytest.raises(CheckpointVersion, match="has format version 77 and this imapipe reads version"):
            await store.peek(KEY)
        connection.execute("UPDATE imapipe_checkpoint_states SET version = 2, state = :b", {"b": b"{}"})
    holding = await store.open(KEY, never)
    with pytest.raises(CheckpointCorrupt, match="'INBOX' is not whole"):
        await holding.load()
    await holding.release()


@pytest.mark.asyncio
async def test_a_database_of_a_later_imapipe_or_none_at_all_is_refused_in_one_sentence(dsn: str) -> None:
    with connect(dsn) as connection:
        migrate(connection, tables.COMPONENT, [*tables.STEPS, Step(["CREATE TABLE later (x TEXT)"])])
    with pytest.raises(CheckpointError, match="its tables for checkpoints have version 2, and this imapipe knows 1"):
        await SqlCheckpointStore(dsn).open(KEY, never)
    nowhere = SqlCheckpointStore("postgresql://ann:hush@127.0.0.1:1/x")
    with pytest.raises(CheckpointError, match=r"postgresql://ann@127\.0\.0\.1:1/x: ") as caught:
        await nowhere.open(KEY, never)
    assert "hush" not in f"{caught.value} {nowhere!r} {caught.value.__cause__}"
    with pytest.raises(CheckpointError):
        await asyncio.to_thread(nowhere.keep_open)
    with pytest.raises(CheckpointError):
        await nowhere.peek(KEY)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="lease_seconds"):
        SqlCheckpointStore("a.db", lease_seconds=0.05)
    with pytest.raises(ValueError, match="a database is"):
        SqlCheckpointStore("mysql://h/x")
    with pytest.raises(ValueError, match="match"):
        Checkpoint(SqlCheckpointStore("a.db"), on_uidvalidity="match")
    assert repr(SqlCheckpointStore("postgres://ann:hush@db/x")) == "SqlCheckpointStore('postgresql://ann@db/x')"


@pytest.mark.asyncio
async def test_what_is_called_for_a_lost_key_may_fail(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    def broken(error: CheckpointLost) -> None:
        raise RuntimeError(str(error))

    store = SqlCheckpointStore(dsn)
    holding = await store.open(KEY, broken)
    await lose(dsn, KEY)
    other, _ = await opened(SqlCheckpointStore(dsn))
    with pytest.raises(CheckpointLost, match="another run took it over"):
        await holding.save(state_of(KEY, "1"))
    assert "what was to be called for a lost checkpoint failed" in caplog.text
    await holding.release()
    await other.release()
