"""Checkpoints in PostgreSQL or SQLite, held by leases: for the workers of many machines, or of one."""

from __future__ import annotations

from imapipe.store.sql.sql_store import SqlCheckpointStore

__all__ = ["SqlCheckpointStore"]
