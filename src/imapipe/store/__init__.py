"""Where checkpoints are kept between runs."""

from __future__ import annotations

from imapipe.models.json_value import JSON
from imapipe.store.base import (
    BlockingCheckpointHolding,
    BlockingCheckpointStore,
    CheckpointHolding,
    CheckpointStore,
    KeepsOpen,
    ListsKeys,
    SavesLast,
    WritesBehind,
)
from imapipe.store.checkpoint_state import CheckpointChange, CheckpointState, Counters
from imapipe.store.job_key import JobKey
from imapipe.store.json_store import JsonCheckpointHolding, JsonCheckpointStore
from imapipe.store.memory_store import MemoryCheckpointStore
from imapipe.store.simple_store import SimpleCheckpointHolding, SimpleCheckpointStore
from imapipe.store.sql import SqlCheckpointStore
from imapipe.store.threaded import ThreadedCheckpointHolding, ThreadedCheckpointStore

__all__ = [
    "JSON",
    "BlockingCheckpointHolding",
    "BlockingCheckpointStore",
    "CheckpointChange",
    "CheckpointHolding",
    "CheckpointState",
    "CheckpointStore",
    "Counters",
    "JobKey",
    "JsonCheckpointHolding",
    "JsonCheckpointStore",
    "KeepsOpen",
    "ListsKeys",
    "MemoryCheckpointStore",
    "SavesLast",
    "SimpleCheckpointHolding",
    "SimpleCheckpointStore",
    "SqlCheckpointStore",
    "ThreadedCheckpointHolding",
    "ThreadedCheckpointStore",
    "WritesBehind",
]
