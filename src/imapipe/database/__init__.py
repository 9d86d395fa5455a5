"""Databases that several processes share: PostgreSQL, or an SQLite file on one machine. Blocking.

    database = Database("postgresql://ann@db.example.org/mail")
    with database.connect() as connection:
        migrate(connection, "things", STEPS)
        with connection.transaction():
            connection.execute("UPDATE things SET until = now_ms() + :ms WHERE name = :name", {"ms": 500, "name": "x"})

What uses it has a thread of its own with a connection of its own; nothing of this is called in an event loop.
"""

from __future__ import annotations

from imapipe.database.address import Database
from imapipe.database.connection import Connection, Outcome, Parameters, Row, Statement, Value
from imapipe.database.migrations import Step, migrate

__all__ = ["Connection", "Database", "Outcome", "Parameters", "Row", "Statement", "Step", "Value", "migrate"]
