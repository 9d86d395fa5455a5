"""The starter of a real PostgreSQL: what it holds outlives a crash, and nothing outlives its end."""

from __future__ import annotations

from pathlib import Path

import psutil
import psycopg
import pytest

from postgres_server import PostgresServer


def _processes(directory: str) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(directory in part for part in process.info["cmdline"] or ())
    ]


def test_what_was_committed_outlives_a_crash_and_nothing_outlives_stop(postgres: PostgresServer) -> None:
    server = PostgresServer()
    server.start()
    try:
        url = server.new_database()
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE kept (value integer)")
            connection.execute("INSERT INTO kept VALUES (7)")
        port, directory = server.port, str(server.directory)
        server.crash()
        assert not server.is_running
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url)
        server.restart()
        assert server.port == port
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT value FROM kept").fetchall() == [(7,)]
        assert _processes(directory)
    finally:
        server.stop()
    assert not Path(directory).exists()
    assert not _processes(directory)
    assert postgres.is_running


def test_each_database_is_empty(postgres: PostgresServer) -> None:
    first, second = postgres.new_database(), postgres.new_database()
    with psycopg.connect(first) as connection:
        connection.execute("CREATE TABLE here (value integer)")
    with psycopg.connect(second) as connection, pytest.raises(psycopg.errors.UndefinedTable):
        connection.execute("SELECT * FROM here")
