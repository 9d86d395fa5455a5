"""An SQLite file of ours: the local index, or an archive. Blocking, and used by one thread at a time.

Invariants:

- What stands in the file is believed only after its schema was looked at; whatever is wrong with it is one sentence, in
  an error of whoever uses it.
- A new file is for its owner only, whoever made the empty file; a link is not followed.
- The file has a log (WAL) and no rollback journal: after `kill -9` it holds whole transactions.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from imapipe.catalog.index_schema import Schema, distrust, is_empty, make_tables, recognise
from imapipe.durable_file import check_name, open_in_place
from imapipe.errors import ImapipeError

_BUSY_SECONDS: Final = 30.0
# How every file of SQLite begins.
_BEGINNING: Final = b"SQLite format 3\0"
_NO_DATABASE: Final = "it is no database; name another file"
_JOURNAL_LOOKS: Final = 20
_JOURNAL_SECONDS: Final = 0.05


class Database:
    """An open file.

    Args:
        path: The file; made where there is none.
        schemas: What it may be; a new one becomes the first of them.
        refusal: Makes an error of a sentence.
        only_ours: Refuse the file of another user, who could read what is put there.
        durable: Whether a transaction survives a loss of power once it has ended; else it may cost the last ones, never
            the file.

    Raises:
        Exception: What `refusal` makes: the file cannot be used.

    Attributes:
        path: The file.
        connection: The connection to it.
        schema: What it is.
    """

    __slots__ = ("_opened", "_refusal", "connection", "path", "schema")

    def __init__(
        self,
        path: Path,
        schemas: Sequence[Schema],
        refusal: Callable[[str], Exception],
        *,
        only_ours: bool = True,
        durable: bool = False,
    ) -> None:
        self.path = path
        self._refusal = refusal
        self.schema = schemas[0]
        with self.explained():
            # Subjects and senders are nobody else's business, whoever made the file beforehand.
            with os.fdopen(open_in_place(os.fspath(path), only_ours=only_ours), "rb") as file:
                self._opened = os.fstat(file.fileno())
                self._refuse_other(file.read(len(_BEGINNING)))
            self._refuse_others_beside()
            self._refuse_journal()
            self.connection = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=32
            )
        try:
            with self.explained():
                self._prepare(schemas, durable=durable)
        except BaseException:
            self.connection.close()
            raise

    def close(self) -> None:
        """Close it; what was written is in the file."""
        with self.explained():
            self.connection.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing."""
        database = self.connection
        with self.explained():
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
            except BaseException:
                # A full disk has ended it already.
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise
            self.commit()

    def commit(self) -> None:
        """End the transaction that is under way. Raises sqlite3.Error, OSError: it does not count."""
        self.connection.execute("COMMIT")
        # SQLite writes on into a file that is gone.
        check_name(self._opened, os.fspath(self.path))

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Tell what goes wrong in a sentence."""
        try:
            yield
        except ImapipeError:
            # Told already; some of them are errors of the system, too.
            raise
        except sqlite3.Error as error:
            reason = str(error)
            if "no such module: fts5" in reason:
                reason = "the SQLite of this Python has no full-text search (FTS5); use a Python whose SQLite has it"
            elif "file is not a database" in reason:
                reason = _NO_DATABASE
            raise self._refusal(reason) from error
        except OSError as error:
            raise self._refusal(error.strerror or str(error)) from error
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            # What was read is of another type or size than what such a file holds.
            raise self._refusal(f"it holds values that imapipe never writes; {self.schema.anew}") from error

    def _refuse_other(self, beginning: bytes) -> None:
        """Refuse what is no database. SQLite takes a file of a few bytes for an empty one, and would write over it."""
        if beginning and beginning != _BEGINNING:
            raise self._refusal(_NO_DATABASE)

    def _refuse_others_beside(self) -> None:
        """Refuse what has the name of the log or its index and is no file: SQLite would wait for it, or write there."""
        for ending in ("-wal", "-shm"):
            beside = f"{self.path}{ending}"
            with suppress(FileNotFoundError):
                if not stat.S_ISREG(os.lstat(beside).st_mode):
                    raise self._refusal(f"what has the name {beside!r} is no file; remove that")

    def _refuse_journal(self) -> None:
        """Refuse a rollback journal beside the file: SQLite would do what it says, even remove other files.

        There is none, but for a moment when a file is made. Who dies in that moment leaves a file without tables, and
        nothing is lost with it.
        """
        journal = f"{self.path}-journal"
        for _ in range(_JOURNAL_LOOKS):
            if not os.path.lexists(journal) or not self.path.stat().st_size:
                return
            time.sleep(_JOURNAL_SECONDS)
        if self._is_unborn():
            Path(journal).unlink()
            os.truncate(self.path, 0)
            return
        raise self._refusal("a journal lies beside it that imapipe does not leave; remove both and begin anew")

    def _is_unborn(self) -> bool:
        """Whether the file, without regard to anything beside it, has no tables."""
        looked = sqlite3.connect(f"{self.path.absolute().as_uri()}?immutable=1", uri=True)
        try:
            return is_empty(looked)
        finally:
            looked.close()

    def _prepare(self, schemas: Sequence[Schema], *, durable: bool) -> None:
        database = self.connection
        distrust(database)
        is_new = is_empty(database)
        if not is_new:
            self._check_schema(schemas)
        # Readers and a writer do not wait for each other.
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        if is_new:
            with self.transaction():
                # Another process may have been quicker.
                if is_empty(database):
                    make_tables(database, schemas[0])
            self._check_schema(schemas)

    def _check_schema(self, schemas: Sequence[Schema]) -> None:
        found = recognise(self.connection, schemas)
        if isinstance(found, str):
            raise self._refusal(found)
        self.schema = found
