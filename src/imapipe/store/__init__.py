"""Where checkpoints are kept between runs."""

from __future__ import annotations

from imapipe.store.base import CheckpointStore
from imapipe.store.checkpoint_state import JSON, CheckpointChange, CheckpointState, Counters
from imapipe.store.json_store import JsonCheckpointStore

__all__ = ["JSON", "CheckpointChange", "CheckpointState", "CheckpointStore", "Counters", "JsonCheckpointStore"]
