"""The PostgreSQL of the suite, for subjects that keep something in one; started when the first of them comes."""

from __future__ import annotations

import time
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self

from imapipe.store import SqlCheckpointStore
from postgres_server import PostgresServer, find_postgres

# As one that a user has: what is committed survives a loss of power. The starter's own settings are for tests.
_SETTINGS: Final = "fsync = on\nfull_page_writes = on\nautovacuum_naptime = 60s\n"
_SESSIONS: Final = "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'"
_TRANSACTIONS: Final = "SELECT xact_commit FROM pg_stat_database WHERE datname = '{}'"
_ROWS: Final = """
SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables WHERE relname LIKE 'imapipe_checkpoint_%'
"""


class Databases:
    """Databases for runs, a new one for each."""

    def __init__(self) -> None:
        self._undo = ExitStack()
        self._server: PostgresServer | None = None
        self._before: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._undo.close()

    def new(self) -> str:
        """Make a database that has the tables of checkpoints; gives its address.

        Raises:
            FileNotFoundError: PostgreSQL is not installed.
        """
        dsn = self._started().new_database()
        SqlCheckpointStore(dsn).keep_open()()
        self._before[dsn] = self._transactions(dsn)
        return dsn

    def written(self, dsn: str) -> tuple[int, int]:
        """How many transactions were made, and how many rows written, since it was new; all clients have gone."""
        transactions = self._transactions(dsn) - self._before[dsn]
        return transactions, int(self._started().query(_ROWS, _name(dsn)))

    def _transactions(self, dsn: str) -> int:
        server, name = self._started(), _name(dsn)
        # What a session did is counted at its end.
        while int(server.query(_SESSIONS.format(name))):
            time.sleep(0.01)
        return int(server.query(_TRANSACTIONS.format(name)))

    def _started(self) -> PostgresServer:
        if self._server is None:
            if find_postgres() is None:
                raise FileNotFoundError("PostgreSQL; on Debian and Ubuntu: apt install postgresql")
            self._server = self._undo.enter_context(PostgresServer(settings=_SETTINGS))
        return self._server


def _name(dsn: str) -> str:
    return dsn.rpartition("/")[2]
