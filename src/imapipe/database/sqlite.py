"""A connection to an SQLite file, for several processes of one machine.

Invariants:

- A new file is for its owner only; a link in its place is not followed.
- A transaction survives a loss of power when it has ended, unless that is not asked for.
- A transaction has the file from its first moment on, so it never finds out later that it cannot write.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Final

from imapipe.database.connection import Connection, Outcome, Parameters, Row, Statement
from imapipe.durable_file import check_name, close, open_in_place
from imapipe.errors import DatabaseError

_ROW_LOCKS: Final = re.compile(r"\sFOR (?:NO KEY UPDATE|KEY SHARE|UPDATE|SHARE)(?: OF \w+)?(?: SKIP LOCKED)?")
# That go away by themselves, or with some help from outside: another has the file, the disk is full or fails.
_TRANSIENT: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
_PRIMARY_CODE: Final = 0xFF
_LOOK_SECONDS: Final = 0.01


class SqliteConnection(Connection):
    """A connection to the file at `path`, which is made where there is none.

    Args:
        path: The file.
        busy_seconds: How long to wait for another's transaction.

    Raises:
        DatabaseError: It cannot be opened, or is no database.
    """

    __slots__ = ("_connection", "_is_durable", "_opened", "_path")

    def __init__(self, path: Path, *, busy_seconds: float) -> None:
        self._path = path
        self._is_durable = True
        with self._explained():
            fd = open_in_place(os.fspath(path))
            self._opened = os.fstat(fd)
            close(fd)
            self._connection = sqlite3.connect(
                path, timeout=busy_seconds, isolation_level=None, check_same_thread=False
            )
        try:
            with self._explained():
                self._connection.create_function("now_ms", 0, _now_ms)
                self._connection.execute("PRAGMA trusted_schema = OFF")
                self._keep_a_log(time.monotonic() + busy_seconds)
                self._connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            self._connection.close()
            raise

    def _keep_a_log(self, ends: float) -> None:
        """Let readers and a writer not wait for each other."""
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                # Of several that make the file at the same time one does this, and SQLite lets the others not wait.
                if error.sqlite_errorcode & _PRIMARY_CODE != sqlite3.SQLITE_BUSY or time.monotonic() >= ends:
                    raise
                time.sleep(_LOOK_SECONDS)
            else:
                return

    @property
    def is_postgres(self) -> bool:
        """It is not."""
        return False

    def execute(self, statement: str, parameters: Parameters | None = None) -> int:
        """Execute a statement; gives how many rows it touched."""
        with self._explained():
            return self._connection.execute(_translated(statement), parameters or {}).rowcount

    def query(self, statement: str, parameters: Parameters | None = None) -> list[Row]:
        """Execute a statement that gives rows."""
        with self._explained():
            return self._connection.execute(_translated(statement), parameters or {}).fetchall()

    def execute_many(self, statement: str, rows: Iterable[Parameters]) -> None:
        """Execute a statement for each of some sets of parameters."""
        with self._explained():
            self._connection.executemany(_translated(statement), rows)

    def has_table(self, name: str) -> bool:
        """Whether there is a table of that name."""
        return bool(self.query("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = :name", {"name": name}))

    def lock(self, name: str) -> None:
        """Nothing: a transaction has the whole file."""

    def close(self) -> None:
        """Close it."""
        with suppress(sqlite3.Error):
            self._connection.close()

    def transact(self, statements: Sequence[Statement], *, durable: bool = True) -> list[Outcome]:
        """Execute statements as a transaction of their own."""
        outcomes = []
        with self.transaction(durable=durable):
            for statement, parameters in statements:
                with self._explained():
                    cursor = self._connection.execute(_translated(statement), parameters)
                    outcomes.append(Outcome(cursor.rowcount, cursor.fetchall()))
        return outcomes

    def _begin(self, *, durable: bool) -> None:
        if durable != self._is_durable:
            self.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._is_durable = durable
        self.execute("BEGIN IMMEDIATE")

    def _commit(self) -> None:
        try:
            self.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        with self._explained():
            # SQLite writes on into a file that is gone.
            check_name(self._opened, os.fspath(self._path))

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):
            # A full disk has ended it already.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & _PRIMARY_CODE
            raise DatabaseError(str(error), database=str(self._path), is_transient=code in _TRANSIENT) from error
        except OSError as error:
            reason = f"it cannot be used: {error.strerror or error}"
            raise DatabaseError(reason, database=str(self._path)) from error


@lru_cache(maxsize=256)
def _translated(statement: str) -> str:
    return _ROW_LOCKS.sub("", statement)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
