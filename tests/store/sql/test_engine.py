"""The threads of a store on a database, step by step: what they do where a step of theirs goes wrong."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from tests.store.sql.places import KEY, connect, lose, never

from imapipe.database import Connection, Database
from imapipe.errors import CheckpointError, CheckpointLost, DatabaseError
from imapipe.store import SqlCheckpointStore
from imapipe.store.base import CheckpointHolding
from imapipe.store.checkpoint_state import CheckpointState
from imapipe.store.sql import tables
from imapipe.store.sql.engine import _RENEWALS, Engine
from imapipe.store.sql.held import Held, KeyRequest, Portion
from imapipe.store.sql.held_keys import HeldKeys
from imapipe.store.sql.holding import SqlHolding
from imapipe.store.store_place import change_of, state_of

PERMANENT = DatabaseError("a rule of the table forbids it", database="a")
TRANSIENT = DatabaseError("it is busy", database="a", is_transient=True)
LOST = DatabaseError("it does not answer", database="a", is_transient=True, is_lost=True)


@pytest.mark.asyncio
async def test_what_goes_wrong_of_one_key_is_no_other_ones_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqlCheckpointStore(tmp_path / "a.db", lease_seconds=300.0)
    names = ("forbidden", "defect", "busy", "well")
    keys = {name: replace(KEY, mailbox=name) for name in names}
    opened: dict[str, tuple[CheckpointHolding, CheckpointState]] = {}
    for name, key in keys.items():
        holding = await store.open(key, never)
        await holding.save(state := state_of(key, ""))
        opened[name] = holding, state
    busy: list[Exception] = [TRANSIENT]
    write = tables.write
    all_there = threading.Event()

    def write_or_not(connection: Connection, writes: Sequence[tables.Write], *, durable: bool) -> set[bytes]:
        # Behind the first one all others are written together, and then apart.
        assert all_there.wait(60)
        digests = {each.key for each in writes}
        if tables.key_of(keys["forbidden"]) in digests:
            raise PERMANENT
        if tables.key_of(keys["defect"]) in digests:
            raise ZeroDivisionError("a defect")
        if tables.key_of(keys["busy"]) in digests and len(digests) == 1 and busy:
            raise busy.pop(0)
        return write(connection, writes, durable=durable)

    with monkeypatch.context() as patched:
        patched.setattr(tables, "write", write_or_not)
        for holding, state in opened.values():
            holding.append(change_of(state, 1, "1:5"))
        all_there.set()
        for name in ("busy", "well"):
            await opened[name][0].sync()
        for name, words in (("forbidden", "a rule of the table forbids it"), ("defect", "ZeroDivisionError: a defect")):
            with pytest.raises(CheckpointError, match=words):
                await opened[name][0].sync()
    assert busy == []
    # What was appended is written as soon as it can be; another failure from before may be told first.
    for name in names:
        holding, _ = opened[name]
        with suppress(CheckpointError):
            await holding.sync()
        await holding.sync()
        await holding.release()
    states = await store.peek_all([*keys.values()])
    assert [state.done.text() for state in states.values()] == ["1:5"] * 4


@pytest.mark.asyncio
async def test_a_defect_while_it_connects_ahead_is_told_to_nobody_who_does_not_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected = Engine._connected
    tries = 0

    def connect_or_not(engine: Engine) -> Connection:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ZeroDivisionError
        return connected(engine)

    monkeypatch.setattr(Engine, "_connected", connect_or_not)
    holding = await SqlCheckpointStore(tmp_path / "a.db").open(KEY, never)
    await holding.save(state_of(KEY, "1:3"))
    await holding.release()
    assert tries > 1


class _Pauses:
    """An event that is waited for in vain so often."""

    def __init__(self, count: int) -> None:
        self.seconds: list[float] = []
        self._left = count

    def wait(self, seconds: float) -> bool:
        self.seconds.append(seconds)
        return len(self.seconds) > self._left


class _Keeping:
    """Databases to which a connection is made, and which count that."""

    def __init__(self) -> None:
        self.opened = self.closed = 0

    def connect(self) -> _Keeping:
        self.opened += 1
        return self

    def close(self) -> None:
        self.closed += 1


def test_leases_are_prolonged_again_when_the_database_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    keeping = _Keeping()
    engine = Engine(Database(tmp_path / "a.db"), cast("Database", keeping), lease_seconds=300.0)
    outcomes: list[Exception | None] = [None, TRANSIENT, LOST, None, None]
    pauses = _Pauses(len(outcomes))

    def renew(connection: Connection) -> None:
        if (outcome := outcomes.pop(0)) is not None:
            raise outcome

    monkeypatch.setattr(engine, "_renew", renew)
    monkeypatch.setattr(engine, "_ending", pauses)
    engine._keep_all()
    assert (keeping.opened, keeping.closed) == (2, 2)
    assert engine._keys.trouble == ""
    regular = 300.0 / _RENEWALS
    assert [seconds == regular for seconds in pauses.seconds] == [True, True, False, False, True, True]
    assert max(pauses.seconds[2:4]) < regular / 5
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "the leases of checkpoints are not prolonged",
        "the leases of checkpoints are prolonged again",
    ]


@pytest.mark.asyncio
async def test_a_lease_that_another_has_now_is_lost_when_it_is_to_be_prolonged(tmp_path: Path) -> None:
    dsn = str(tmp_path / "a.db")
    errors: list[CheckpointLost] = []
    holding = await SqlCheckpointStore(dsn, lease_seconds=300.0).open(KEY, errors.append)
    assert isinstance(holding, SqlHolding)
    engine = holding._engine
    assert engine is not None
    await lose(dsn, KEY)
    other = await SqlCheckpointStore(dsn, lease_seconds=300.0).open(KEY, never)
    with connect(dsn) as connection:
        engine._renew(connection)
        assert ["another run took it over" in str(error) for error in errors] == [True]
        # Nothing is left to be prolonged.
        engine._renew(connection)
    with pytest.raises(CheckpointLost):
        holding.append(change_of(state_of(KEY, ""), 1, "1"))
    await holding.release()
    await other.release()


def _held(keys: HeldKeys, errors: list[CheckpointLost], request: KeyRequest | None = None) -> Held:
    held = Held(KEY, 1, math.inf, errors.append, found=())
    held.request = request
    keys.add(held)
    return held


def test_a_key_is_lost_once_and_what_fails_afterwards_is_nobodys() -> None:
    keys, errors = HeldKeys("a", 300.0), list[CheckpointLost]()
    held = _held(keys, errors)
    held.changes.append(change_of(state_of(KEY, ""), 1, "1"))
    portion = Portion(held)
    keys.lose(held, "its lease ended")
    keys.lose(held, "another run took it over")
    keys.fail(portion, CheckpointError("it is full", path="a"))
    keys.settle(portion, None, durable=True)
    assert ["its lease ended" in str(error) for error in errors] == [True]
    assert (held.failed, keys.all(), keys.portions([held])) == (None, [], [])
    assert held.changes


def test_who_wants_to_be_rid_of_a_key_is_when_it_is_lost() -> None:
    keys, errors = HeldKeys("a", 300.0), list[CheckpointLost]()
    request = KeyRequest(is_release=True)
    keys.lose(_held(keys, errors, request), "its lease ended")
    assert request.done.result(0) is None
    # Not so where something was to be saved with it.
    saving = KeyRequest(is_release=True, state=state_of(KEY, "1"))
    keys.lose(_held(keys, errors, saving), "its lease ended")
    with pytest.raises(CheckpointLost):
        saving.done.result(0)


def test_a_key_that_cannot_be_given_back_is_prolonged_no_more() -> None:
    keys, errors = HeldKeys("a", 300.0), list[CheckpointLost]()
    request = KeyRequest(is_release=True)
    held = _held(keys, errors, request)
    cause = ValueError("a defect")
    keys.fail(Portion(held), CheckpointError("it is full", path="a"), cause)
    with pytest.raises(CheckpointError, match="it is full") as caught:
        request.done.result(0)
    assert (caught.value.__cause__, keys.all(), errors) == (cause, [], [])


def test_a_failure_behind_the_back_of_the_caller_is_told_at_its_next_call() -> None:
    keys, errors = HeldKeys("a", 300.0), list[CheckpointLost]()
    held = _held(keys, errors)
    keys.fail(Portion(held), CheckpointError("it is full", path="a"))
    with pytest.raises(CheckpointError, match="it is full"):
        keys.tell(held, lambda: pytest.fail("it is not done"))
    keys.tell(held, lambda: None)
