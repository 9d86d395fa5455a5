"""The file of the local index: an SQLite database. Blocking; `catalog.index` calls it in a thread, one call at a time.

Invariants:

- A message is named by mailbox and UID; the row of its mailbox holds the UIDVALIDITY of all of them, and how far the
  mailbox had come. Where the server is behind that, its UIDs mean other messages: all of them are removed.
- Whatever empties a mailbox that way gives it another generation; who began with an earlier one adds nothing more.
- The words of a message (`words.rowid = messages.id`) come and go with it, in the same transaction.
- What stands in the file is believed only after its schema and the types of its values were looked at; whatever is
  wrong with it is a `MessageIndexError`.
- A new index is for its owner only, whoever made the empty file; a link is not followed.
- Everything that writes is one transaction that can be done again: after `kill -9` the file holds whole batches, and
  the next update adds what is missing.
"""

from __future__ import annotations

import functools
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple, Self

from imapipe.catalog.index_entry import COLUMNS, IndexEntry, Row, check_mailbox, to_entry, to_words
from imapipe.catalog.index_query import IndexQuery
from imapipe.catalog.index_schema import distrust, flaw, is_empty, make_tables
from imapipe.durable_file import open_in_place
from imapipe.errors import MessageIndexError
from imapipe.models.batch import NO_UIDS
from imapipe.models.cursor import Cursor
from imapipe.wire.uid_set import UidSet

_BUSY_SECONDS: Final = 30.0
_ANALYSED_ROWS: Final = 1_000
_JOURNAL_LOOKS: Final = 20
_JOURNAL_SECONDS: Final = 0.05

_ADD_MESSAGE: Final = f"INSERT INTO messages (id, mailbox, {COLUMNS}) VALUES ({', '.join('?' * 12)})"
_ADD_WORDS: Final = "INSERT INTO words (rowid, subject, sender) VALUES (?, ?, ?)"
_IN_RANGE: Final = "FROM messages WHERE mailbox = ? AND uid BETWEEN ? AND ?"
_FIND_MAILBOX: Final = (
    "SELECT id, generation, uidvalidity, uidnext, highest_uid, highestmodseq, mailboxid "
    "FROM mailboxes WHERE account = ? AND name = ?"
)
_KEEP_CURSOR: Final = (
    "UPDATE mailboxes SET uidvalidity = ?, generation = ?, uidnext = ?, highest_uid = ?, highestmodseq = ?, "
    "mailboxid = ? WHERE id = ?"
)


class IndexedMailbox(NamedTuple):
    """A mailbox as it was found in the file.

    Attributes:
        number: Its number in this file.
        generation: How often it was emptied because its UIDs mean other messages.
        known: The UIDs that are known.
        reindexed: Others were removed just now, because they mean other messages.
    """

    number: int
    generation: int = 0
    known: UidSet = NO_UIDS
    reindexed: bool = False


class IndexFile:
    """An open index.

    Args:
        path: The file; made, readable for its owner only, where there is none.
        must_exist: Refuse to make one, and take one that is another user's.

    Raises:
        MessageIndexError: There is none, it is something else, or another user's, who could read what is put there.
    """

    __slots__ = ("_database", "path")

    def __init__(self, path: Path, *, must_exist: bool = False) -> None:
        self.path = path
        if must_exist and not path.is_file():
            raise MessageIndexError("there is no such file; make one with MessageIndex.update", path=str(path))
        with self._explained():
            # Subjects and senders are nobody else's business, whoever made the file beforehand.
            os.close(open_in_place(os.fspath(path), only_ours=not must_exist))
            self._refuse_journal()
            self._database = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=32
            )
        try:
            with self._explained():
                self._prepare()
        except BaseException:
            self._database.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; what was written is in the file."""
        with self._explained():
            self._database.close()

    # -- writing ---------------------------------------------------------------------------------

    def remembered(self, account: str, name: str) -> tuple[int, Cursor] | None:
        """UIDVALIDITY of a mailbox, and how far it had come when it was indexed last; None where it never was."""
        with self._explained():
            found = _look_up(self._database, account, name)
        return None if found is None else found[2:]

    def open_mailbox(self, account: str, name: str, uidvalidity: int, cursor: Cursor) -> IndexedMailbox:
        """Find or add a mailbox; what is known of messages that its UIDs do not mean any more is removed.

        Args:
            account: `user@host:port`.
            name: The name of the mailbox.
            uidvalidity: UIDVALIDITY as the server tells it now.
            cursor: How far the mailbox has come now.
        """
        with self._transaction() as database:
            found = _look_up(database, account, name)
            if found is None:
                values = (account, name, uidvalidity)
                added = database.execute("INSERT INTO mailboxes (account, name, uidvalidity) VALUES (?, ?, ?)", values)
                number = int(added.lastrowid or 0)
                _keep(database, number, 0, uidvalidity, cursor)
                return IndexedMailbox(number)
            number, generation, known_validity, remembered = found
            if known_validity != uidvalidity or cursor.is_behind(remembered):
                _remove(database, number, 1, 2**32 - 1)
                _keep(database, number, generation + 1, uidvalidity, cursor)
                return IndexedMailbox(number, generation + 1, reindexed=True)
            _keep(database, number, generation, uidvalidity, remembered.advanced(cursor))
            uids = database.execute("SELECT uid FROM messages WHERE mailbox = ? ORDER BY uid", (number,))
            return IndexedMailbox(number, generation, UidSet.from_numbers(uid for (uid,) in uids))

    def row(self, mailbox: IndexedMailbox, uid: int) -> Row | None:
        """What is known of a message."""
        with self._explained():
            select = f"SELECT {COLUMNS} FROM messages WHERE mailbox = ? AND uid = ?"
            row: Row | None = self._database.execute(select, (mailbox.number, uid)).fetchone()
        return row

    def begin_anew(self, mailbox: IndexedMailbox) -> IndexedMailbox:
        """Remove all that is known of a mailbox, because its UIDs mean other messages; raises as `add` does."""
        with self._transaction() as database:
            self._check_generation(database, mailbox)
            _remove(database, mailbox.number, 1, 2**32 - 1)
            database.execute("UPDATE mailboxes SET generation = generation + 1 WHERE id = ?", (mailbox.number,))
        return IndexedMailbox(mailbox.number, mailbox.generation + 1, reindexed=True)

    def add(self, mailbox: IndexedMailbox, rows: list[Row]) -> int:
        """Add messages of a mailbox in one transaction; those that are there already stay as they are.

        Returns:
            How many were added.

        Raises:
            MessageIndexError: Somebody else has begun to index the mailbox anew.
        """
        number = mailbox.number
        with self._transaction() as database:
            self._check_generation(database, mailbox)
            uids = [row[0] for row in rows]
            known = (
                {row[0] for row in database.execute(f"SELECT uid {_IN_RANGE}", (number, min(uids), max(uids)))}
                if uids
                else set()
            )
            (last,) = database.execute("SELECT coalesce(max(id), 0) FROM messages").fetchone()
            fresh = list(enumerate((row for row in rows if row[0] not in known), last + 1))
            database.executemany(_ADD_MESSAGE, [(key, number, *row) for key, row in fresh])
            database.executemany(
                _ADD_WORDS, [(key, to_words(row[3]), to_words(f"{row[2]} {row[1]}")) for key, row in fresh]
            )
            return len(fresh)

    def remove(self, mailbox: IndexedMailbox, uids: UidSet) -> None:
        """Remove messages of a mailbox in one transaction; raises as `add` does."""
        with self._transaction() as database:
            self._check_generation(database, mailbox)
            for first, last in uids.ranges():
                _remove(database, mailbox.number, first, last)

    def _check_generation(self, database: sqlite3.Connection, mailbox: IndexedMailbox) -> None:
        name, found = database.execute(
            "SELECT name, generation FROM mailboxes WHERE id = ?", (mailbox.number,)
        ).fetchone()
        if found != mailbox.generation:
            raise MessageIndexError(
                f"another process has begun to index {name!r} anew, since its UIDs mean other messages now; "
                "index it again",
                path=str(self.path),
            )

    def analyse(self) -> None:
        """Let the database learn which of its indexes tell most apart."""
        with self._explained():
            self._database.execute(f"PRAGMA analysis_limit = {_ANALYSED_ROWS}")
            self._database.execute("ANALYZE")

    # -- reading ---------------------------------------------------------------------------------

    def count(self, number: int) -> int:
        """How many messages of a mailbox are known."""
        with self._explained():
            return int(
                self._database.execute("SELECT count(*) FROM messages WHERE mailbox = ?", (number,)).fetchone()[0]
            )

    def find(self, query: IndexQuery) -> list[IndexEntry]:
        """What a query finds, newest first."""
        sql, parameters = query.to_sql()
        # One value for all messages of a mailbox.
        to_cursor, to_mailbox = functools.cache(Cursor), functools.cache(check_mailbox)
        with self._explained():
            return [
                to_entry(*to_mailbox(*row[:7]), to_cursor(*row[3:7]), row[7:])
                for row in self._database.execute(sql, parameters)
            ]

    def explain(self, query: IndexQuery) -> list[str]:
        """How the database answers a query: the lines of its plan."""
        sql, parameters = query.to_sql()
        with self._explained():
            return [row[3] for row in self._database.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]

    # -- the file --------------------------------------------------------------------------------

    def _refuse_journal(self) -> None:
        """Refuse a rollback journal beside the file: SQLite would do what it says, even remove other files.

        Indexes have a log (WAL) and none of these, but for a moment when one is made.
        """
        journal = f"{self.path}-journal"
        for _ in range(_JOURNAL_LOOKS):
            if not os.path.lexists(journal) or not self.path.stat().st_size:
                return
            time.sleep(_JOURNAL_SECONDS)
        raise self._refusal("a journal lies beside it that imapipe does not leave; remove both and index again")

    def _prepare(self) -> None:
        database = self._database
        distrust(database)
        is_new = is_empty(database)
        if not is_new:
            self._check_schema(database)
        # Readers and a writer do not wait for each other. A power loss may cost the last batches, never the file.
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        if is_new:
            with self._transaction():
                # Another process may have been quicker.
                if is_empty(database):
                    make_tables(database)
            self._check_schema(database)

    def _check_schema(self, database: sqlite3.Connection) -> None:
        if reason := flaw(database):
            raise self._refusal(reason)

    def _refusal(self, reason: str) -> MessageIndexError:
        return MessageIndexError(reason, path=str(self.path))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        database = self._database
        with self._explained():
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
            except BaseException:
                database.execute("ROLLBACK")
                raise
            database.execute("COMMIT")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            reason = str(error)
            if "no such module: fts5" in reason:
                reason = "the SQLite of this Python has no full-text search (FTS5); use a Python whose SQLite has it"
            elif "file is not a database" in reason:
                reason = "it is no database; name another file"
            raise MessageIndexError(reason, path=str(self.path)) from error
        except OSError as error:
            raise MessageIndexError(error.strerror or str(error), path=str(self.path)) from error
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            # What was read is of another type or size than what an index holds.
            raise self._refusal("it holds values that imapipe never writes; delete it and index again") from error


def _look_up(database: sqlite3.Connection, account: str, name: str) -> tuple[int, int, int, Cursor] | None:
    """Number, generation and UIDVALIDITY of a mailbox, and how far it had come."""
    row = database.execute(_FIND_MAILBOX, (account, name)).fetchone()
    if row is None:
        return None
    number, generation, uidvalidity, *cursor = row
    check_mailbox(account, name, uidvalidity, *cursor)
    return number, generation, uidvalidity, Cursor(*cursor)


def _keep(database: sqlite3.Connection, number: int, generation: int, uidvalidity: int, cursor: Cursor) -> None:
    """Keep what the UIDs of a mailbox are to be believed by."""
    told = (cursor.uidnext, cursor.highest_uid, cursor.highestmodseq, cursor.mailboxid)
    database.execute(_KEEP_CURSOR, (uidvalidity, generation, *told, number))


def _remove(database: sqlite3.Connection, number: int, first: int, last: int) -> None:
    database.execute(f"DELETE FROM words WHERE rowid IN (SELECT id {_IN_RANGE})", (number, first, last))
    database.execute(f"DELETE {_IN_RANGE}", (number, first, last))
