"""A connection to PostgreSQL, by psycopg 3 (extra `imapipe[cluster]`).

A database that is gone says nothing, so there are limits on all sides: libpq's for connecting, the kernel's for what
the other side does not acknowledge, the server's for a statement and for a transaction that does nothing (a client that
was stopped must not keep rows from others), and ours for an answer that does not come.

The server's are set by the transaction itself, since a session is not ours behind PgBouncer. That of a statement is one
for waiting for a lock, too.

What counts is how often an answer is waited for. A transaction is begun in one message with its first statement, and
`transact` sends all of one at once: several statements in one message are a transaction (PostgreSQL, Frontend/Backend
Protocol, Multiple Statements in a Simple Query). Parameters are written into the text there, since a message that has
them apart holds one statement only.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from math import ceil
from time import monotonic
from typing import Any, Final, TypeVar

from imapipe.database.connection import Connection, Outcome, Parameters, Row, Statement
from imapipe.errors import DatabaseError

try:
    import psycopg
    from psycopg.abc import PQGen
    from psycopg.conninfo import conninfo_to_dict, make_conninfo
except ModuleNotFoundError as error:
    if error.name != "psycopg":
        raise
    raise ModuleNotFoundError("PostgreSQL needs psycopg: pip install 'imapipe[cluster]'", name="psycopg") from error

T = TypeVar("T")

_NOW_MS: Final = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_NAMES: Final = re.compile(r"(?<!:):([a-z_][a-z_0-9]*)")
# What passes with time (a restart, a fail-over, a deadlock, no room for another connection), as SQLSTATE or its class.
_TRANSIENT: Final = ("08", "25006", "40", "53", "55P03", "57", "58")
# Beyond the server's own limit: its answer has to come to us, too.
_GRACE_SECONDS: Final = 1.0
# How long between two looks at the clock while an answer is waited for.
_LOOK_SECONDS: Final = 0.1


def keepalives(silence_seconds: float) -> dict[str, int]:
    """Parameters of a connection that is to end when the other side was not there for about so long."""
    probe_seconds = max(1, ceil(silence_seconds / 3))
    return {
        "keepalives": 1,
        "keepalives_idle": probe_seconds,
        "keepalives_interval": probe_seconds,
        "keepalives_count": 2,
        "tcp_user_timeout": max(1, round(silence_seconds * 1_000)),
    }


class PostgresConnection(Connection):
    """A connection.

    Args:
        dsn: The address.
        name: What may be told of it.
        secrets: What must not.
        statement_seconds: The longest that a statement may take.
        connect_seconds: The longest that connecting may take.

    Raises:
        DatabaseError: It cannot be reached, or lets us not in.
    """

    __slots__ = ("_beginning", "_connection", "_limit", "_limit_idle", "_name", "_secrets")

    def __init__(
        self, dsn: str, name: str, secrets: tuple[str, ...], *, statement_seconds: float, connect_seconds: float
    ) -> None:
        self._name = name
        self._secrets = secrets
        statement_ms = max(1, round(statement_seconds * 1_000))
        self._limit = f"SET LOCAL statement_timeout = {statement_ms}"
        self._limit_idle = f"SET LOCAL idle_in_transaction_session_timeout = {statement_ms}"
        # What begins the transaction, until its first statement takes that along.
        self._beginning: list[str] = []
        try:
            given = conninfo_to_dict(dsn)
        except psycopg.Error:
            # Its text holds the address.
            raise DatabaseError("its address cannot be read", database=name) from None
        parameters: dict[str, Any] = {
            "application_name": "imapipe",
            "connect_timeout": ceil(connect_seconds),
            **keepalives(statement_seconds),
            **given,
            # In which statements and parameters are written into one message.
            "client_encoding": "UTF8",
        }
        with self._explained(is_connecting=True):
            self._connection = _Bounded.connect(
                make_conninfo("", **parameters), autocommit=True, prepare_threshold=None
            )
        self._connection.limit_seconds = statement_seconds + _GRACE_SECONDS

    @property
    def is_postgres(self) -> bool:
        """It is."""
        return True

    def execute(self, statement: str, parameters: Parameters | None = None) -> int:
        """Execute a statement; gives how many rows it touched."""
        with self._explained():
            return self._sent(statement, parameters or {}).rowcount

    def query(self, statement: str, parameters: Parameters | None = None) -> list[Row]:
        """Execute a statement that gives rows."""
        with self._explained():
            return self._sent(statement, parameters or {}).fetchall()

    def _sent(self, statement: str, parameters: Parameters) -> psycopg.Cursor[Row]:
        if not self._beginning:
            return self._connection.execute(_translated(statement), parameters)
        cursor = psycopg.ClientCursor(self._connection)
        message = _message([*self._beginning, cursor.mogrify(_translated(statement), parameters)])
        beginning, self._beginning = self._beginning, []
        cursor.execute(message)
        for _ in beginning:
            cursor.nextset()
        return cursor

    def execute_many(self, statement: str, rows: Iterable[Parameters]) -> None:
        """Execute a statement for each of some sets of parameters."""
        with self._explained(), self._connection.cursor() as cursor:
            if self._beginning:
                beginning, self._beginning = self._beginning, []
                self._connection.execute(_message(beginning))
            cursor.executemany(_translated(statement), rows)

    def has_table(self, name: str) -> bool:
        """Whether there is a table of that name, where a statement would find it."""
        return bool(self.query("SELECT 1 WHERE to_regclass(:name) IS NOT NULL", {"name": name}))

    def lock(self, name: str) -> None:
        """Wait for an advisory lock of the transaction."""
        self.query("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))", {"name": f"imapipe {name}"})

    def close(self) -> None:
        """Close it."""
        with suppress(psycopg.Error):
            self._connection.close()

    def transact(self, statements: Sequence[Statement], *, durable: bool = True) -> list[Outcome]:
        """Execute statements in one message, which is a transaction."""
        first = self._first(durable=durable)
        outcomes = []
        with self._explained(), psycopg.ClientCursor(self._connection) as cursor:
            texts = [cursor.mogrify(_translated(text), parameters) for text, parameters in statements]
            cursor.execute(_message([*first, *texts]))
            for _ in first:
                cursor.nextset()
            for _ in statements:
                outcomes.append(Outcome(cursor.rowcount, cursor.fetchall() if cursor.description else []))
                cursor.nextset()
        return outcomes

    def _begin(self, *, durable: bool) -> None:
        # Only who sends one statement after the other can stop in between.
        self._beginning = ["BEGIN", self._limit_idle, *self._first(durable=durable)]

    def _first(self, *, durable: bool) -> list[str]:
        """What comes first in each transaction."""
        return [self._limit] if durable else [self._limit, "SET LOCAL synchronous_commit = off"]

    def _commit(self) -> None:
        if self._is_begun():
            with self._explained():
                self._connection.execute("COMMIT")

    def _roll_back(self) -> None:
        if self._is_begun():
            with suppress(psycopg.Error, TimeoutError):
                if not self._connection.closed:
                    self._connection.execute("ROLLBACK")

    def _is_begun(self) -> bool:
        """Whether the server knows of the transaction: of one without a statement it does not."""
        beginning, self._beginning = self._beginning, []
        return not beginning

    @contextmanager
    def _explained(self, *, is_connecting: bool = False) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise DatabaseError("it does not answer", database=self._name, is_transient=True, is_lost=True) from error
        except psycopg.Error as error:
            is_lost = is_connecting or self._connection.closed
            state = error.sqlstate or ""
            passes = state.startswith(_TRANSIENT) or (not state and isinstance(error, psycopg.OperationalError))
            raise DatabaseError(
                self._told(error), database=self._name, is_transient=passes or is_lost, is_lost=is_lost
            ) from error

    def _told(self, error: psycopg.Error) -> str:
        """The first line of what it says, without passwords."""
        text = first_line(error)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or what it is where it says nothing."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


class _Bounded(psycopg.Connection[Row]):
    """A connection of psycopg that does not wait for ever.

    Attributes:
        limit_seconds: The longest wait for an answer.
    """

    limit_seconds = 60.0

    def wait(self, gen: PQGen[T], *args: Any, **options: Any) -> T:  # noqa: ANN401 - as the one that it stands for
        """Wait for what psycopg asks for."""
        try:
            return super().wait(_until(gen, monotonic() + self.limit_seconds), *args, **options)
        except TimeoutError:
            self.pgconn.finish()
            raise


def _until(gen: PQGen[T], ends: float) -> Generator[Any, Any, T]:
    """The same waiting, which raises when it is too late and nothing has come."""
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and monotonic() >= ends:
                raise TimeoutError
            wanted = gen.send(ready)
    except StopIteration as end:
        result: T = end.value
        return result


@lru_cache(maxsize=256)
def _translated(statement: str) -> bytes:
    return _NAMES.sub(r"%(\1)s", statement.replace("%", "%%").replace("now_ms()", _NOW_MS)).encode()


def _message(statements: Sequence[str]) -> bytes:
    """Several statements as one message."""
    return ";".join(statements).encode()
