"""The file of the local index: an SQLite database. Blocking; `catalog.index` calls it in a thread, one call at a time.

Invariants:

- A message is named by mailbox and UID; the row of its mailbox holds the UIDVALIDITY of all of them, and how far the
  mailbox had come. Where the server is behind that, its UIDs mean other messages: all of them are removed.
- Whatever empties a mailbox that way gives it another generation; who began with an earlier one adds nothing more.
- What stands in the file is believed only after its schema (`catalog.database`) and the types of its values were looked
  at; whatever is wrong with it is a `MessageIndexError`.
- An archive (`sinks.Sqlite`) is read like an index, and never written to: its messages come with their bodies.
- Everything that writes is one transaction that can be done again: after `kill -9` the file holds whole batches, and
  the next update adds what is missing.
"""

from __future__ import annotations

import functools
import operator
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple, Self

from imapipe.catalog.database import Database
from imapipe.catalog.index_entry import COLUMNS, IndexEntry, Row, check_mailbox, to_entry
from imapipe.catalog.index_query import IndexQuery
from imapipe.catalog.index_rows import IN_RANGE, add_rows, next_key, remove_rows, set_flags
from imapipe.catalog.index_schema import ARCHIVE, INDEX
from imapipe.errors import MessageIndexError
from imapipe.models.batch import NO_UIDS
from imapipe.models.cursor import Cursor
from imapipe.wire.uid_set import MAX_UID, UidSet

_ANALYSED_ROWS: Final = 1_000
_ALL: Final = UidSet.from_ranges([(1, MAX_UID)])

_FIND_MAILBOX: Final = (
    "SELECT id, generation, uidvalidity, uidnext, highest_uid, highestmodseq, mailboxid "
    "FROM mailboxes WHERE account = ? AND name = ?"
)
_KEEP_CURSOR: Final = (
    "UPDATE mailboxes SET uidvalidity = ?, generation = ?, uidnext = ?, highest_uid = ?, highestmodseq = ?, "
    "mailboxid = ? WHERE id = ?"
)
_BEGIN_ANEW: Final = "UPDATE mailboxes SET generation = generation + 1, flags_modseq = NULL WHERE id = ?"


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

    __slots__ = ("_database", "_file", "path")

    def __init__(self, path: Path, *, must_exist: bool = False) -> None:
        self.path = path
        if must_exist and path.is_dir():
            raise MessageIndexError("it is a folder; name a file", path=str(path))
        if must_exist and not path.is_file():
            raise MessageIndexError("there is no such file; make one with MessageIndex.update", path=str(path))
        self._file = Database(
            path, (INDEX, ARCHIVE) if must_exist else (INDEX,), self._refusal, only_ours=not must_exist
        )
        self._database = self._file.connection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; what was written is in the file."""
        self._file.close()

    # -- writing ---------------------------------------------------------------------------------

    def remembered(self, account: str, name: str) -> tuple[int, Cursor] | None:
        """UIDVALIDITY of a mailbox, and how far it had come when it was indexed last; None where it never was."""
        if self._file.schema is ARCHIVE:
            raise self._refusal("it is an archive, whose messages have their bodies with them; index into another file")
        with self._file.explained():
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
        with self._file.transaction() as database:
            found = _look_up(database, account, name)
            if found is None:
                values = (account, name, uidvalidity)
                added = database.execute("INSERT INTO mailboxes (account, name, uidvalidity) VALUES (?, ?, ?)", values)
                number = int(added.lastrowid or 0)
                _keep(database, number, 0, uidvalidity, cursor)
                return IndexedMailbox(number)
            number, generation, known_validity, remembered = found
            if known_validity != uidvalidity or cursor.is_behind(remembered):
                remove_rows(database, number, _ALL)
                database.execute(_BEGIN_ANEW, (number,))
                _keep(database, number, generation + 1, uidvalidity, cursor)
                return IndexedMailbox(number, generation + 1, reindexed=True)
            _keep(database, number, generation, uidvalidity, remembered.advanced(cursor))
            uids = database.execute("SELECT uid FROM messages WHERE mailbox = ? ORDER BY uid", (number,))
            return IndexedMailbox(number, generation, UidSet.from_numbers(uid for (uid,) in uids))

    def row(self, mailbox: IndexedMailbox, uid: int) -> Row | None:
        """What is known of a message."""
        with self._file.explained():
            select = f"SELECT {COLUMNS} FROM messages WHERE mailbox = ? AND uid = ?"
            row: Row | None = self._database.execute(select, (mailbox.number, uid)).fetchone()
        return row

    def begin_anew(self, mailbox: IndexedMailbox) -> IndexedMailbox:
        """Remove all that is known of a mailbox, because its UIDs mean other messages; raises as `add` does."""
        with self._file.transaction() as database:
            self._check_generation(database, mailbox)
            remove_rows(database, mailbox.number, _ALL)
            database.execute(_BEGIN_ANEW, (mailbox.number,))
        return IndexedMailbox(mailbox.number, mailbox.generation + 1, reindexed=True)

    def add(self, mailbox: IndexedMailbox, rows: list[Row]) -> int:
        """Add messages of a mailbox in one transaction; those that are there already stay as they are.

        Returns:
            How many were added.

        Raises:
            MessageIndexError: Somebody else has begun to index the mailbox anew.
        """
        number = mailbox.number
        with self._file.transaction() as database:
            self._check_generation(database, mailbox)
            uids = [row[0] for row in rows]
            known = (
                {row[0] for row in database.execute(f"SELECT uid {IN_RANGE}", (number, min(uids), max(uids)))}
                if uids
                else set()
            )
            fresh = list(enumerate((row for row in rows if row[0] not in known), next_key(database)))
            add_rows(database, number, fresh)
            return len(fresh)

    def remove(self, mailbox: IndexedMailbox, uids: UidSet) -> None:
        """Remove messages of a mailbox in one transaction; raises as `add` does."""
        with self._file.transaction() as database:
            self._check_generation(database, mailbox)
            remove_rows(database, mailbox.number, uids)

    def flags_modseq(self, mailbox: IndexedMailbox) -> int | None:
        """The mod-sequence at which all flags of a mailbox were those that are known, or None."""
        with self._file.explained():
            (found,) = self._database.execute(
                "SELECT flags_modseq FROM mailboxes WHERE id = ?", (mailbox.number,)
            ).fetchone()
            return None if found is None else operator.index(found)

    def update_flags(self, mailbox: IndexedMailbox, flags: Iterable[tuple[int, frozenset[str]]]) -> int:
        """Give messages these flags, of those that are known, in one transaction; raises as `add` does.

        Returns:
            How many had others.
        """
        with self._file.transaction() as database:
            self._check_generation(database, mailbox)
            return set_flags(database, mailbox.number, flags)

    def keep_flags_modseq(self, mailbox: IndexedMailbox, modseq: int | None) -> None:
        """Remember that all flags are known as they were at a mod-sequence; raises as `add` does."""
        with self._file.transaction() as database:
            self._check_generation(database, mailbox)
            database.execute("UPDATE mailboxes SET flags_modseq = ? WHERE id = ?", (modseq, mailbox.number))

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
        with self._file.explained():
            self._database.execute(f"PRAGMA analysis_limit = {_ANALYSED_ROWS}")
            self._database.execute("ANALYZE")

    # -- reading ---------------------------------------------------------------------------------

    def count(self, number: int) -> int:
        """How many messages of a mailbox are known."""
        with self._file.explained():
            return int(
                self._database.execute("SELECT count(*) FROM messages WHERE mailbox = ?", (number,)).fetchone()[0]
            )

    def find(self, query: IndexQuery) -> list[IndexEntry]:
        """What a query finds, newest first."""
        sql, parameters = query.to_sql()
        # One value for all messages of a mailbox.
        to_cursor, to_mailbox = functools.cache(Cursor), functools.cache(check_mailbox)
        with self._file.explained():
            return [
                to_entry(*to_mailbox(*row[:7]), to_cursor(*row[3:7]), row[7:])
                for row in self._database.execute(sql, parameters)
            ]

    def explain(self, query: IndexQuery) -> list[str]:
        """How the database answers a query: the lines of its plan."""
        sql, parameters = query.to_sql()
        with self._file.explained():
            return [row[3] for row in self._database.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]

    # -- the file --------------------------------------------------------------------------------

    def _refusal(self, reason: str) -> MessageIndexError:
        return MessageIndexError(reason, path=str(self.path))


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
