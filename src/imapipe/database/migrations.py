"""Tables in versions: each part of the library (a component) has steps that make its tables, one after the other.

Invariants:

- A step is done once and whole, by one process at a time; a database is never between two versions.
- Steps that were released are never changed: a new version is a new step at the end.
- A database of a newer version is not touched. One that is up to date needs no right to make tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from imapipe.database.connection import Connection
from imapipe.errors import DatabaseError

_TABLE: Final = "imapipe_versions"


@dataclass(frozen=True, slots=True)
class Step:
    """What makes one version of the one before.

    Attributes:
        statements: For both kinds of database.
        postgres: After these, for PostgreSQL.
        sqlite: After these, for SQLite.
    """

    statements: Sequence[str] = ()
    postgres: Sequence[str] = ()
    sqlite: Sequence[str] = ()


def migrate(connection: Connection, component: str, steps: Sequence[Step], *, database: str = "") -> None:
    """Bring the tables of a component to the version that this program knows: as many as there are steps.

    Args:
        connection: To the database, outside of a transaction.
        component: Names the part of the library.
        steps: All steps ever.
        database: What the database is called in texts.

    Raises:
        DatabaseError: It is of a newer version, or the tables cannot be made; nothing was changed then.
    """
    if _version(connection, component, database, len(steps)) == len(steps):
        return
    with connection.transaction():
        connection.lock(_TABLE)
        connection.execute(f"CREATE TABLE IF NOT EXISTS {_TABLE} (component TEXT PRIMARY KEY, version BIGINT NOT NULL)")
        for step in steps[_version(connection, component, database, len(steps)) :]:
            for statement in (*step.statements, *(step.postgres if connection.is_postgres else step.sqlite)):
                connection.execute(statement)
        connection.execute(
            f"INSERT INTO {_TABLE} (component, version) VALUES (:component, :version) "
            "ON CONFLICT (component) DO UPDATE SET version = excluded.version",
            {"component": component, "version": len(steps)},
        )


def _version(connection: Connection, component: str, database: str, known: int) -> int:
    """The version of its tables, 0 where there are none. One question, where there are some: each connection asks."""
    ask = partial(
        connection.query, f"SELECT version FROM {_TABLE} WHERE component = :component", {"component": component}
    )
    try:
        rows = ask()
    except DatabaseError as error:
        if error.is_lost:
            raise
        if not connection.has_table(_TABLE):
            return 0
        # It is there by now, or something else was wrong.
        rows = ask()
    version: int = rows[0][0] if rows else 0
    if version > known:
        raise DatabaseError(
            f"its tables for {component} have version {version}, and this imapipe knows {known}: use the imapipe "
            "that made them, or a newer one",
            database=database,
        )
    return version
