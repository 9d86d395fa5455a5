"""Stores that block, with a thread around them."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from tests.store.stores import Database, LeasedStore

from imapipe.errors import CheckpointLocked, CheckpointLost
from imapipe.store.checkpoint_state import CheckpointState
from imapipe.store.job_key import JobKey
from imapipe.store.json_store import JsonCheckpointStore
from imapipe.store.memory_store import MemoryCheckpointStore
from imapipe.store.simple_store import SimpleCheckpointHolding
from imapipe.store.threaded import ThreadedCheckpointStore, as_async

KEY = JobKey("ann@imap.example.org:993", "INBOX")


def never(_: CheckpointLost) -> None:
    raise AssertionError("it was not lost")


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("imapipe-checkpoint")]


def test_only_a_store_that_blocks_gets_a_thread(tmp_path: Path) -> None:
    store = LeasedStore(Database())
    assert as_async(store) is store
    blocking = JsonCheckpointStore(tmp_path / "state.json")
    adapted = as_async(blocking)
    assert isinstance(adapted, ThreadedCheckpointStore)
    assert adapted.store is blocking
    assert as_async(adapted) is adapted
    assert repr(adapted) == f"ThreadedCheckpointStore({blocking!r})"


@pytest.mark.asyncio
async def test_a_thread_lives_as_long_as_its_holding() -> None:
    store = ThreadedCheckpointStore(MemoryCheckpointStore())
    holding = await store.open(KEY, never)
    assert len(threads()) == 1
    with pytest.raises(CheckpointLocked):
        await store.open(KEY, never)
    assert len(threads()) == 1
    await holding.release()
    assert threads() == []
    await (await store.open(KEY, never)).release()


@pytest.mark.asyncio
async def test_a_cancelled_open_holds_nothing() -> None:
    inside, go_on = threading.Event(), threading.Event()

    class Slow(MemoryCheckpointStore):
        def open(self, key: JobKey) -> SimpleCheckpointHolding:
            inside.set()
            assert go_on.wait(60)
            return super().open(key)

    slow = Slow()
    opening = asyncio.create_task(ThreadedCheckpointStore(slow).open(KEY, never))
    await asyncio.to_thread(inside.wait)
    opening.cancel()
    threading.Timer(0.02, go_on.set).start()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert slow._held == set()
    assert threads() == []


@pytest.mark.asyncio
async def test_what_a_save_costs_is_counted_in_seconds_of_a_processor(tmp_path: Path) -> None:
    holding = await ThreadedCheckpointStore(JsonCheckpointStore(tmp_path / "state.json")).open(KEY, never)
    assert holding.save_seconds == 0.0
    await holding.save(CheckpointState(account=KEY.account, mailbox=KEY.mailbox, uidvalidity=1, fingerprint=""))
    assert holding.save_seconds > 0.0
    await holding.release()
