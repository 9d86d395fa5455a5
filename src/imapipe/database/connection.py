"""What both kinds of database take and give.

Statements are written once for both: `:name` stands for a parameter, and `now_ms()` for the time of the database in
milliseconds since 1970. Types are `BIGINT`, `TEXT` and `BYTEA`. `FOR UPDATE` and its like lock rows in PostgreSQL; to
SQLite, which gives the whole file to one transaction, they are not told.

Invariants:

- A transaction is whole or nothing, also where the connection is lost in the middle of it. Whether a commit that
  raised took place is not known: what is written must bear being written again.
- Nothing outlives a transaction on the server's side (no prepared statements, settings, locks of a session), so a
  pool of server connections may stand between: PgBouncer, also in transaction mode.
- What goes wrong is a `DatabaseError`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeAlias

Value: TypeAlias = int | float | str | bytes | None
Parameters: TypeAlias = Mapping[str, Value]
Row: TypeAlias = tuple[Any, ...]
Statement: TypeAlias = tuple[str, Parameters]
"""A statement with its parameters."""


class Outcome(NamedTuple):
    """What came of a statement.

    Attributes:
        touched: How many rows it touched.
        rows: Those that it gives.
    """

    touched: int
    rows: list[Row]


class Connection(ABC):
    """An open connection, for one thread at a time.

    After a `DatabaseError` with `is_lost` it is of no use but to be closed.
    """

    @property
    @abstractmethod
    def is_postgres(self) -> bool:
        """Whether it is to PostgreSQL, else to SQLite."""

    @abstractmethod
    def execute(self, statement: str, parameters: Parameters | None = None) -> int:
        """Execute a statement; gives how many rows it touched.

        Raises:
            DatabaseError: It was not executed; outside of a transaction it may have been where the connection is lost.
        """

    @abstractmethod
    def query(self, statement: str, parameters: Parameters | None = None) -> list[Row]:
        """Execute a statement that gives rows: a SELECT, or one with RETURNING. Raises as `execute`."""

    @abstractmethod
    def execute_many(self, statement: str, rows: Iterable[Parameters]) -> None:
        """Execute a statement for each of some sets of parameters, without waiting in between. Raises as `execute`."""

    @abstractmethod
    def transact(self, statements: Sequence[Statement], *, durable: bool = True) -> list[Outcome]:
        """Execute statements as a transaction of their own, in one round trip.

        Args:
            statements: The statements, each with its parameters.
            durable: As that of `transaction`.

        Returns:
            What came of each.

        Raises:
            DatabaseError: As `transaction`.
        """

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[None]:
        """All or nothing. They do not nest.

        Args:
            durable: Whether it must survive the death of the database's machine when it has ended; else it survives
                that of this process, and the next durable transaction that writes makes it durable too.

        Raises:
            DatabaseError: It cannot be begun or committed; nothing of it happened, or all where the connection is lost.
        """
        self._begin(durable=durable)
        try:
            yield
        except BaseException:
            self._roll_back()
            raise
        self._commit()

    @abstractmethod
    def has_table(self, name: str) -> bool:
        """Whether there is a table of that name. Raises as `execute`."""

    @abstractmethod
    def lock(self, name: str) -> None:
        """Wait until nobody else's transaction has locked this name; until the end of this one. Raises as `execute`."""

    @abstractmethod
    def close(self) -> None:
        """Close it, whatever its state; harmless when done already. Raises nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def _begin(self, *, durable: bool) -> None: ...

    @abstractmethod
    def _commit(self) -> None: ...

    @abstractmethod
    def _roll_back(self) -> None:
        """Undo; raises nothing, since what led to it is raised."""
