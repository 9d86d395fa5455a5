"""Connections to PostgreSQL and SQLite: one way to use both, and what happens when they fail."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cable import Cable
from imapipe.database import Connection, Database, Step, migrate
from imapipe.errors import DatabaseError
from postgres_server import PostgresServer

STEPS = [
    Step(
        ["CREATE TABLE things (name TEXT PRIMARY KEY, number BIGINT, data BYTEA)"],
        postgres=["ALTER TABLE things SET (fillfactor = 70)"],
        sqlite=["CREATE INDEX things_number ON things (number)"],
    )
]


@pytest.fixture
def connect(dsn: str) -> Callable[[], Connection]:
    return Database(dsn).connect


def add(connection: Connection, name: str, number: int = 1) -> None:
    connection.execute("INSERT INTO things (name, number) VALUES (:name, :number)", {"name": name, "number": number})


def set_all(connection: Connection, number: int) -> None:
    connection.execute("UPDATE things SET number = :number", {"number": number})


def in_one(connection: Connection, *steps: Callable[[], object]) -> None:
    """Do these in one transaction."""
    with connection.transaction():
        for step in steps:
            step()


# ---------------------------------------------------------------- one way for both


def test_values_come_back_as_they_were_given(connect: Callable[[], Connection]) -> None:
    with connect() as connection:
        migrate(connection, "things", STEPS)
        rows: list[dict[str, str | int | bytes | None]] = [
            {"name": "ä 50% ':x'", "number": 2**62, "data": b"\0\xff{}"},
            {"name": "none", "number": None, "data": None},
            {"name": "less", "number": -1, "data": b""},
        ]
        connection.execute_many("INSERT INTO things (name, number, data) VALUES (:name, :number, :data)", rows)
        found = connection.query("SELECT name, number, data FROM things ORDER BY name")
        assert sorted(found) == sorted((row["name"], row["number"], row["data"]) for row in rows)
        assert connection.execute("UPDATE things SET number = 7 WHERE number > :least", {"least": 0}) == 1
        assert connection.query("DELETE FROM things WHERE number = 7 RETURNING name") == [("ä 50% ':x'",)]
        assert connection.query("SELECT '50%' WHERE 1 = :one", {"one": 1}) == [("50%",)]


def test_time_is_the_databases_and_goes_on_within_a_transaction(connect: Callable[[], Connection]) -> None:
    with connect() as connection, connection.transaction():
        ((first,),) = connection.query("SELECT now_ms()")
        second = first
        while second == first:
            ((second,),) = connection.query("SELECT now_ms()")
        assert second > first > 1_700_000_000_000


def test_a_transaction_is_whole_or_nothing(connect: Callable[[], Connection]) -> None:
    with connect() as connection, connect() as other:
        migrate(connection, "things", STEPS)
        with pytest.raises(KeyError):
            in_one(connection, lambda: add(connection, "a"), lambda: dict[str, str]()["nothing"])
        with connection.transaction():
            add(connection, "b")
            connection.query("SELECT number FROM things FOR UPDATE")
            assert other.query("SELECT name FROM things") == []
        assert other.query("SELECT name FROM things") == [("b",)]
        with pytest.raises(DatabaseError) as caught:
            in_one(connection, lambda: add(connection, "c"), lambda: add(connection, "b"))
        assert not caught.value.is_transient
        assert other.query("SELECT name FROM things") == [("b",)]


def test_statements_that_are_sent_together_are_a_transaction(connect: Callable[[], Connection]) -> None:
    with connect() as connection, connect() as other:
        migrate(connection, "things", STEPS)
        insert = "INSERT INTO things (name, number, data) VALUES (:name, :number, :data)"
        select = "SELECT name, data FROM things WHERE name = :name"
        for durable in (True, False):
            row: dict[str, str | int | bytes | None] = {
                "name": f"ä 50% ':x' \\ {durable}",
                "number": 2**62,
                "data": b"\0\xff'\\",
            }
            name = {"name": row["name"]}
            inserted, read = connection.transact([(insert, row), (select, name)], durable=durable)
            assert inserted.touched == 1
            assert read.rows == other.query(select, name) == [(row["name"], row["data"])]
            with pytest.raises(DatabaseError):
                connection.transact([("DELETE FROM things", {}), (insert, row), (insert, row)], durable=durable)
            assert len(other.query(select, name)) == 1
        updated, deleted = connection.transact(
            [("UPDATE things SET number = 7 WHERE number > :least", {"least": 1}), ("DELETE FROM things", {})]
        )
        assert (updated.touched, deleted.touched) == (2, 2)


def messages(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """How often it waits for an answer from now on: an entry for each time."""
    waits: list[object] = []
    inner = connection._connection  # type: ignore[attr-defined]
    wait = inner.wait

    def counted(gen: object, *args: object, **options: object) -> object:
        waits.append(gen)
        return wait(gen, *args, **options)

    monkeypatch.setattr(inner, "wait", counted)
    return waits


@pytest.mark.postgres
def test_a_transaction_waits_for_as_few_answers_as_it_can(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Database(postgres.new_database()).connect() as connection:
        waits = messages(connection, monkeypatch)
        connection.transact([("SELECT 1", {}), ("SELECT :n + 1", {"n": 1})])
        assert len(waits) == 1
        with connection.transaction():
            connection.query("SELECT :n + 1", {"n": 1})
        assert len(waits) == 3
        with connection.transaction():
            pass
        with suppress(ZeroDivisionError), connection.transaction():
            raise ZeroDivisionError
        assert len(waits) == 3


def test_what_need_not_be_durable_waits_for_no_disk(connect: Callable[[], Connection]) -> None:
    with connect() as connection:
        shown = "SELECT current_setting('synchronous_commit')" if connection.is_postgres else "PRAGMA synchronous"
        for durable in (True, False, True):
            with connection.transaction(durable=durable):
                assert connection.query(shown) in ([("on" if durable else "off",)], [(2 if durable else 1,)])


def test_a_row_that_another_has_is_waited_for_no_longer_than_it_may(dsn: str) -> None:
    with Database(dsn).connect() as holder, Database(dsn, statement_seconds=0.2).connect() as waiter:
        migrate(holder, "things", STEPS)
        add(holder, "a")
        with holder.transaction():
            holder.execute("UPDATE things SET number = 2")
            with pytest.raises(DatabaseError) as caught, waiter.transaction():
                waiter.execute("UPDATE things SET number = 3")
            with pytest.raises(DatabaseError) as at_once:
                waiter.transact([("SELECT 1", {}), ("UPDATE things SET number = 3", {})])
        for error in (caught.value, at_once.value):
            assert error.is_transient
            assert not error.is_lost
        with waiter.transaction():
            waiter.execute("UPDATE things SET number = 4")
        assert holder.query("SELECT number FROM things") == [(4,)]


def test_what_is_no_sql_is_nothing_that_passes(connect: Callable[[], Connection]) -> None:
    with connect() as connection:
        with pytest.raises(DatabaseError, match="no_such_table") as caught:
            connection.query("SELECT * FROM no_such_table")
        assert not caught.value.is_transient


# ---------------------------------------------------------------- tables in versions


def test_a_later_version_adds_its_steps_and_an_earlier_one_refuses(connect: Callable[[], Connection]) -> None:
    later = [*STEPS, Step(["ALTER TABLE things ADD COLUMN more TEXT"])]
    with connect() as connection:
        migrate(connection, "things", STEPS)
        add(connection, "kept")
        for _ in range(2):
            migrate(connection, "things", later)
        migrate(connection, "others", [Step(["CREATE TABLE others (name TEXT)"])])
        assert connection.query("SELECT name, more FROM things") == [("kept", None)]
        with pytest.raises(DatabaseError, match="its tables for things have version 2, and this imapipe knows 1"):
            migrate(connection, "things", STEPS, database="db")


def test_a_step_that_fails_leaves_the_version_before(connect: Callable[[], Connection]) -> None:
    with connect() as connection:
        migrate(connection, "things", STEPS)
        with pytest.raises(DatabaseError):
            migrate(connection, "things", [*STEPS, Step(["CREATE TABLE more (x TEXT)", "CREATE TABLE more (x TEXT)"])])
        assert not connection.has_table("more")
        migrate(connection, "things", [*STEPS, Step(["CREATE TABLE more (x TEXT)"])])
        assert connection.has_table("more")


def test_several_that_make_the_tables_at_once_make_them_once(connect: Callable[[], Connection]) -> None:
    together = threading.Barrier(4)

    def make() -> None:
        together.wait()
        with connect() as connection:
            migrate(connection, "things", STEPS)

    with ThreadPoolExecutor(4) as threads:
        for made in [threads.submit(make) for _ in range(4)]:
            made.result()


# ---------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "mysql://host/x",
        "host=db password=hush",
        "sqlite://x.db",
        "sqlite://",
        "postgresql://[::1/x",
        "postgresql://ann:hush@host:1hush/x",
        *(f"postgresql://ann:7{special}hush@host/x" for special in "/?"),
    ],
)
def test_what_is_no_address_is_refused_without_being_repeated(wrong: str) -> None:
    with pytest.raises(ValueError, match="database") as caught:
        Database(wrong)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("written", ["sqlite:///{}", "{}"])
def test_a_file_is_named_by_its_path_and_is_its_owners(tmp_path: Path, written: str) -> None:
    database = Database(written.format(tmp_path / "a.db"))
    database.connect().close()
    assert database.name == str(tmp_path / "a.db")
    assert (tmp_path / "a.db").stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"something else that is longer than a header" * 99)
    with pytest.raises(DatabaseError, match="file is not a database") as caught:
        Database(tmp_path / "a.db").connect()
    assert not caught.value.is_transient
    with pytest.raises(DatabaseError, match="No such file or directory"):
        Database(tmp_path / "no folder" / "a.db").connect()


@pytest.mark.parametrize(
    ("dsn", "name"),
    [
        ("postgresql://ann:hush%21@127.0.0.1:1/mail?sslpassword=hush2", "postgresql://ann@127.0.0.1:1/mail"),
        ("postgres://127.0.0.1:1/mail?user=ann&password=hush!", "postgresql://127.0.0.1:1/mail"),
        ("postgresql://ann:#h:@hush!@127.0.0.1:1,[::1]:1/mail", "postgresql://ann@127.0.0.1:1,[::1]:1/mail"),
        ("postgresql://ann:hush!@127.0.0.1:1/mail?nonsense=hush!", "postgresql://ann@127.0.0.1:1/mail"),
    ],
)
def test_a_password_is_nowhere(dsn: str, name: str) -> None:
    database = Database(dsn)
    assert database.name == name
    with pytest.raises(DatabaseError) as caught:
        database.connect()
    told = [str(caught.value), repr(caught.value), repr(database), str(caught.value.__cause__)]
    assert not any("hush" in text for text in told)


def test_the_package_is_named_where_it_is_missing() -> None:
    code = """
import sys
sys.modules["psycopg"] = None
from imapipe.database import Database
try:
    Database("postgresql://h/x").connect()
except ModuleNotFoundError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout.strip() == "PostgreSQL needs psycopg: pip install 'imapipe[cluster]'"


# ---------------------------------------------------------------- PostgreSQL that fails


def test_nothing_is_left_in_a_session(postgres: PostgresServer) -> None:
    with Database(postgres.new_database(), statement_seconds=7).connect() as connection:
        shown = "SELECT current_setting('statement_timeout'), count(*) FROM pg_prepared_statements"
        for _ in range(8):
            with connection.transaction():
                assert connection.query(shown) == [("7s", 0)]
                connection.lock("x")
        assert connection.query(shown) == [("0", 0)]
        assert connection.query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]


@pytest.mark.usefixtures("postgres")
def test_a_restart_is_noticed_and_passes() -> None:
    with PostgresServer() as server:
        database = Database(server.new_database())
        with database.connect() as connection:
            migrate(connection, "things", STEPS)
            with pytest.raises(DatabaseError) as caught:
                in_one(connection, lambda: add(connection, "a"), server.crash, lambda: add(connection, "b"))
            assert caught.value.is_lost
            assert caught.value.is_transient
            with pytest.raises(DatabaseError) as refused:
                database.connect()
            assert refused.value.is_transient
            server.restart()
            with pytest.raises(DatabaseError) as dead:
                connection.query("SELECT 1")
            assert dead.value.is_lost
        with database.connect() as connection:
            assert connection.query("SELECT * FROM things") == []


def test_a_cut_network_is_noticed(postgres: PostgresServer) -> None:
    dsn = postgres.new_database()
    with Cable(postgres.port) as cable:
        through = dsn.replace(f":{postgres.port}/", f":{cable.port}/")
        assert urlsplit(through).port == cable.port
        with Database(through, statement_seconds=0.2).connect() as connection:
            cable.cut()
            with pytest.raises(DatabaseError, match="does not answer") as caught:
                connection.query("SELECT 1")
            assert caught.value.is_lost
            cable.mend()
            with pytest.raises(DatabaseError) as again:
                connection.query("SELECT 1")
            assert again.value.is_lost


def test_a_transaction_of_somebody_who_was_stopped_is_ended_by_the_server(postgres: PostgresServer) -> None:
    dsn = postgres.new_database()
    with Database(dsn, statement_seconds=0.2).connect() as stopped, Database(dsn).connect() as other:
        migrate(other, "things", STEPS)
        add(other, "a")
        with pytest.raises(DatabaseError) as caught:
            # The other one waits for the row, which is let go by the server alone.
            in_one(stopped, *(partial(set_all, each, n) for n, each in enumerate((stopped, other, stopped), 2)))
        assert caught.value.is_lost
        assert other.query("SELECT number FROM things") == [(3,)]


# ---------------------------------------------------------------- SQLite that fails


def test_a_full_disk_passes_and_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    with Database(tmp_path / "a.db").connect() as connection:
        migrate(connection, "things", STEPS)
        ((pages,),) = connection.query("PRAGMA page_count")
        connection.query(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(DatabaseError) as caught:
            in_one(connection, *(partial(add, connection, f"name {number}") for number in range(1_000)))
        assert caught.value.is_transient
        assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
        assert connection.query("SELECT * FROM things") == []
