"""A database with the tables of a cluster, made once: making them takes a second."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from imapipe.contrib.cluster.jobs import make_tables
from imapipe.database import Database
from postgres_server import PostgresServer


@pytest.fixture(scope="session")
def cluster_database(postgres: PostgresServer) -> str:
    dsn = postgres.new_database()
    with Database(dsn).connect() as connection:
        make_tables(connection)
    return dsn


@pytest.fixture
def dsn(cluster_database: str) -> Iterator[str]:
    """A database in which nothing was asked for yet."""
    yield cluster_database
    with Database(cluster_database).connect() as connection:
        tables = [
            name
            for (name,) in connection.query("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'")
            if name != "imapipe_versions"
        ]
        connection.execute(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY CASCADE")
