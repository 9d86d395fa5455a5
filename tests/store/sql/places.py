"""Both kinds of database for checkpoints, and what is done to them behind a store's back."""

from __future__ import annotations

from collections.abc import Callable

from imapipe.database import Connection, Database, Row, migrate
from imapipe.errors import CheckpointLost
from imapipe.store.base import BlockingCheckpointStore, CheckpointStore
from imapipe.store.job_key import JobKey
from imapipe.store.sql import SqlCheckpointStore, tables

ACCOUNT = "ann@imap.example.org:993"
KEY = JobKey(ACCOUNT, "INBOX")


def never(error: CheckpointLost) -> None:
    raise AssertionError(f"it was lost: {error}")


def connect(dsn: str) -> Connection:
    """A connection to a database that has the tables."""
    connection = Database(dsn).connect()
    migrate(connection, tables.COMPONENT, tables.STEPS)
    return connection


def rows(dsn: str, statement: str) -> list[Row]:
    with connect(dsn) as connection:
        return connection.query(statement)


async def lose(dsn: str, key: JobKey) -> None:
    """The lease of a key runs out."""
    with connect(dsn) as connection:
        connection.execute("UPDATE imapipe_checkpoint_leases SET ends_ms = 0 WHERE key = :k", {"k": tables.key_of(key)})


async def crash(dsn: str, store: CheckpointStore | BlockingCheckpointStore) -> None:
    """The process dies: its threads do nothing any more, and its leases run out."""
    assert isinstance(store, SqlCheckpointStore)
    engine, store._engine = store._engine, None
    assert engine is not None
    engine._write_news = engine._keys.take_news  # type: ignore[method-assign, assignment]
    engine._renew = lambda connection: None  # type: ignore[method-assign]
    engine.end()
    engine.join(10)
    with connect(dsn) as connection:
        connection.execute("UPDATE imapipe_checkpoint_leases SET ends_ms = 0 WHERE holder = :h", {"h": engine._holder})


def maker(dsn: str, lease_seconds: float = 30.0) -> Callable[[], SqlCheckpointStore]:
    return lambda: SqlCheckpointStore(dsn, lease_seconds=lease_seconds)
