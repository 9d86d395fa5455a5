"""The rules for stores: ours keep them, and each rule notices a store that breaks it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from tests.store.stores import Database, LeasedHolding, LeasedStore, SqliteStore

from imapipe import testing
from imapipe.errors import CheckpointError
from imapipe.models.cursor import Cursor
from imapipe.models.json_value import JSON
from imapipe.store import json_files
from imapipe.store.base import BlockingCheckpointStore, CheckpointStore
from imapipe.store.checkpoint_state import CheckpointChange, CheckpointState
from imapipe.store.conformance import STORE_RULES, Rule, check_store
from imapipe.store.job_key import JobKey
from imapipe.store.json_store import JsonCheckpointStore
from imapipe.store.memory_store import MemoryCheckpointStore
from imapipe.store.simple_store import SimpleCheckpointHolding, SimpleCheckpointStore, name_of
from imapipe.store.store_place import StorePlace

AnyStore = CheckpointStore | BlockingCheckpointStore
each_rule = pytest.mark.parametrize("rule", STORE_RULES, ids=lambda rule: rule.__name__)


# ---------------------------------------------------------------- stores that keep the rules


async def crash_json(store: AnyStore) -> None:
    assert isinstance(store, JsonCheckpointStore)
    file = json_files._files.pop((os.getpid(), str(store.path)))
    assert file._lock is not None
    file._lock.release()


@each_rule
@pytest.mark.asyncio
async def test_the_json_file(tmp_path: Path, rule: Rule) -> None:
    await rule(StorePlace(lambda: JsonCheckpointStore(tmp_path / "state.json"), crash=crash_json))


@each_rule
@pytest.mark.asyncio
async def test_memory(rule: Rule) -> None:
    store = MemoryCheckpointStore()
    await rule(StorePlace(lambda: store))


@each_rule
@pytest.mark.asyncio
async def test_a_store_of_somebodys_own(tmp_path: Path, rule: Rule) -> None:
    made: list[SqliteStore] = []

    def make() -> SqliteStore:
        made.append(SqliteStore(tmp_path / "state.db"))
        return made[-1]

    async def crash(store: AnyStore) -> None:
        made[0].db.execute("DELETE FROM locks")

    await rule(StorePlace(make, crash=crash))
    for store in made:
        store.db.close()


@each_rule
@pytest.mark.asyncio
async def test_a_store_behind_a_network(rule: Rule) -> None:
    database = Database()

    async def crash(store: AnyStore) -> None:
        database.owners.clear()

    await rule(StorePlace(lambda: LeasedStore(database), crash=crash, lose=database.take_away))


@pytest.mark.asyncio
async def test_all_rules_in_one_call_as_the_public_door_has_it(tmp_path: Path) -> None:
    assert testing.check_store is check_store
    assert testing.STORE_RULES is STORE_RULES
    assert testing.StorePlace is StorePlace
    # Twice: the rules leave nothing that is in the way.
    for _ in range(2):
        await testing.check_store(lambda: JsonCheckpointStore(tmp_path / "state.json"), crash=crash_json)


def test_the_testing_server_is_imported_without_it() -> None:
    code = "import sys, imapipe.testing; print([name for name in sys.modules if name.startswith('imapipe.store')])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = testing.no_such_name  # type: ignore[attr-defined]


# ---------------------------------------------------------------- stores that break them


class Breaking(MemoryCheckpointStore):
    """A store whose holdings break one rule."""

    def __init__(self, holding: type[SimpleCheckpointHolding]) -> None:
        super().__init__()
        self._holding = holding

    def open(self, key: JobKey) -> SimpleCheckpointHolding:
        super().open(key)
        return self._holding(self, key)


class InventsState(SimpleCheckpointHolding):
    def load(self) -> CheckpointState | None:
        key = self._key
        return super().load() or CheckpointState(
            account=key.account, mailbox=key.mailbox, uidvalidity=0, fingerprint=""
        )


class LosesCursor(SimpleCheckpointHolding):
    def save(self, state: CheckpointState) -> None:
        super().save(replace(state, cursor=Cursor()))


class LosesChanges(SimpleCheckpointHolding):
    def append(self, change: CheckpointChange) -> None:
        pass


class CountsTwice(SimpleCheckpointHolding):
    def append(self, change: CheckpointChange) -> None:
        super().append(change)
        super().append(replace(change, sequence=change.sequence + 100))


class ForgetsWhatCameDuringASave(SimpleCheckpointHolding):
    def save(self, state: CheckpointState) -> None:
        time.sleep(0.005)
        super().save(state)
        self._write([])


class TakesOldNews(SimpleCheckpointHolding):
    def save(self, state: CheckpointState) -> None:
        self._store.remove(name_of(self._key))
        self._kept = None
        super().save(state)


class ClingsToTheOldSeries(SimpleCheckpointHolding):
    def save(self, state: CheckpointState) -> None:
        kept = self.load()
        if kept is None or kept.sequence < state.sequence:
            super().save(state)


class LetsEverybodyIn(SimpleCheckpointHolding):
    def save(self, state: CheckpointState) -> None:
        self._store.unlock(name_of(self._key))
        super().save(state)


class MixesShards(SimpleCheckpointHolding):
    def __init__(self, store: SimpleCheckpointStore, key: JobKey) -> None:
        super().__init__(store, replace(key, shard=""))


class DeletesNothing(SimpleCheckpointHolding):
    def delete(self) -> None:
        pass


class NotesForAll(SimpleCheckpointHolding):
    def _notes(self) -> dict[str, JSON]:
        made: dict[str, JSON] = orjson.loads(self._store.read("notes") or b"{}")
        return made

    def put_note(self, name: str, value: JSON) -> None:
        self._store.write("notes", orjson.dumps({**self._notes(), name: value}))


@pytest.mark.parametrize(
    ("holding", "rule"),
    [
        (InventsState, "what_is_not_there_is_none"),
        (LosesCursor, "a_state_comes_back_whole"),
        (LosesChanges, "changes_are_added_up"),
        (CountsTwice, "a_change_counts_once"),
        (ForgetsWhatCameDuringASave, "a_change_may_come_during_a_save"),
        (TakesOldNews, "old_news_is_ignored"),
        (ClingsToTheOldSeries, "another_series_begins_anew"),
        (LetsEverybodyIn, "a_key_has_one_holder"),
        (MixesShards, "keys_do_not_mix"),
        (DeletesNothing, "deleted_is_gone"),
        (NotesForAll, "notes_belong_to_the_account"),
    ],
)
@pytest.mark.asyncio
async def test_a_rule_notices_a_store_that_breaks_it(holding: type[SimpleCheckpointHolding], rule: str) -> None:
    store = Breaking(holding)
    (broken,) = [each for each in STORE_RULES if each.__name__ == rule]
    # A store may notice by itself that it is in trouble.
    with pytest.raises((AssertionError, CheckpointError)):
        await broken(StorePlace(lambda: store))
    with pytest.raises((AssertionError, CheckpointError)):
        await check_store(lambda: Breaking(holding))


@pytest.mark.asyncio
async def test_a_crash_that_takes_what_was_kept_is_noticed(tmp_path: Path) -> None:
    async def crash(store: AnyStore) -> None:
        await crash_json(store)
        (tmp_path / "state.json.journal").write_bytes(b"")

    with pytest.raises(AssertionError, match="a crash loses"):
        await check_store(lambda: JsonCheckpointStore(tmp_path / "state.json"), crash=crash)


@pytest.mark.asyncio
async def test_a_lost_key_that_is_written_to_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LeasedHolding, "_check", lambda holding: None)
    database = Database()
    with pytest.raises(AssertionError, match="lost key"):
        await check_store(lambda: LeasedStore(database), lose=database.take_away)
