"""The file of an archive (`sinks.Sqlite`): an index with the text and the bytes of its messages. Blocking.

Several runs, each on a mailbox of its own, may share one; they call it one at a time.

Invariants:

- A message is there whole, with its words and its content, or not at all: one transaction holds the rows of all who
  share the file, and whoever commits commits for all.
- Behind a transaction that failed nothing is written: rows of others went with it, and they would take them for safe.
  All who share the file end; the next `open` begins anew.
- A mailbox that was renumbered has a row for each UIDVALIDITY: nothing of the earlier one is removed by itself.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from imapipe.catalog.database import Database
from imapipe.catalog.index_entry import Row
from imapipe.catalog.index_rows import add_rows, flags_of, next_key, remove_rows, set_flags
from imapipe.catalog.index_schema import ARCHIVE
from imapipe.durable_file import sync_folder
from imapipe.errors import ImapipeError, SinkError
from imapipe.models.flag_table import FlagTable
from imapipe.wire.uid_set import MAX_UID, UidSet

_ALL: Final = UidSet.from_ranges([(1, MAX_UID)])
_ADD_CONTENT: Final = (
    "INSERT INTO contents (message, text, raw)"
    " SELECT :message, CAST(:text AS TEXT), CASE WHEN :size IS NOT NULL THEN zeroblob(:size) END"
    " WHERE :message IS NOT NULL"
)
_NO_CONTENT: Final = {"message": None, "text": None, "size": None}
# A statement keeps a copy of what it was given last. It is given nothing behind a text with more bytes than this.
_LONG_TEXT: Final = 64 * 1024
_REMOVE_CONTENT: Final = (
    "DELETE FROM contents WHERE message IN (SELECT id FROM messages WHERE mailbox = ? AND uid BETWEEN ? AND ?)"
)
_PLACE: Final = "account = ? AND name = ? AND uidvalidity = ?"
_MOVE: Final = "UPDATE OR IGNORE messages SET mailbox = ?, uid = ? WHERE mailbox = ? AND uid = ?"
_EARLIER: Final = "SELECT id FROM mailboxes WHERE account = ? AND name = ? AND uidvalidity <> ?"


class ArchiveFile:
    """An archive.

    Args:
        path: The file; made where it is missing.
        durable: Whether what is committed must survive a loss of power.
    """

    __slots__ = ("_database", "_durable", "_failed", "_path", "_users")

    def __init__(self, path: Path, *, durable: bool) -> None:
        self._path = path
        self._durable = durable
        self._database: Database | None = None
        self._users: set[object] = set()
        self._failed = False

    def open(self, user: object) -> None:
        """Open the file, or join those who have. Raises SinkError."""
        if self._database is None:
            self._failed = False
            self._database = Database(self._path, (ARCHIVE,), self._refusal, durable=self._durable)
            if self._durable:
                sync_folder(os.fspath(self._path))
        self._users.add(user)

    def close(self, user: object) -> bool:
        """Leave the file; gives whether it is closed now. What was not committed is of no account."""
        self._users.discard(user)
        if self._users or self._database is None:
            return not self._users
        database, self._database = self._database, None
        with suppress(SinkError):
            database.close()
        return True

    @property
    def max_bytes(self) -> int:
        """How large a message may be."""
        return self._open.connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH) - 1024

    def mailbox(self, account: str, name: str, uidvalidity: int) -> int:
        """The number of a mailbox in the file; added where it is new. Raises SinkError."""
        with self._writing() as database:
            place = (account, name, uidvalidity)
            database.execute("INSERT OR IGNORE INTO mailboxes (account, name, uidvalidity) VALUES (?, ?, ?)", place)
            (number,) = database.execute(f"SELECT id FROM mailboxes WHERE {_PLACE}", place).fetchone()
            return int(number)

    def flags(self, mailbox: int) -> FlagTable:
        """The messages of a mailbox that are there, and their flags. Raises SinkError."""
        with self._open.explained():
            return flags_of(self._open.connection, mailbox)

    def add(
        self, mailbox: int, row: Row, text: bytes | None, body: Iterable[bytes | bytearray] | None, size: int
    ) -> None:
        """Add a message; it is safe after `commit`.

        Args:
            mailbox: The number of its mailbox.
            row: As in an index.
            text: Its text in UTF-8, where the job fetches it. Of a `str` Python would make that, and keep it.
            body: Its bytes, where the job fetches them.
            size: How many.

        Raises:
            SinkError: It cannot be written.
        """
        with self._writing() as database:
            key = next_key(database)
            add_rows(database, mailbox, [(key, row)])
            database.execute(_ADD_CONTENT, {"message": key, "text": text, "size": None if body is None else size})
            if text is not None and len(text) > _LONG_TEXT:
                database.execute(_ADD_CONTENT, _NO_CONTENT)
            if body is not None and size:
                # Piece by piece: a large body is never whole in memory.
                with database.blobopen("contents", "raw", key) as blob:
                    for chunk in body:
                        blob.write(chunk)

    def set_flags(self, mailbox: int, flags: Iterable[tuple[int, frozenset[str]]]) -> None:
        """Give messages these flags; safe after `commit`. Raises SinkError."""
        with self._writing() as database:
            set_flags(database, mailbox, flags)

    def remove(self, mailbox: int, uids: UidSet) -> None:
        """Remove messages; safe after `commit`. Raises SinkError."""
        with self._writing() as database:
            _remove(database, mailbox, uids)

    def earlier(self, account: str, name: str, uidvalidity: int) -> int:
        """How many messages are there that the mailbox had under another UIDVALIDITY. Raises SinkError."""
        with self._open.explained():
            place = (account, name, uidvalidity)
            select = f"SELECT count(*) FROM messages WHERE mailbox IN ({_EARLIER})"
            (count,) = self._open.connection.execute(select, place).fetchone()
            return int(count)

    def remove_earlier(self, account: str, name: str, uidvalidity: int) -> None:
        """Remove those; safe after `commit`. Raises SinkError."""
        with self._writing() as database:
            for (number,) in database.execute(_EARLIER, (account, name, uidvalidity)).fetchall():
                _remove(database, number, _ALL)
                database.execute("DELETE FROM mailboxes WHERE id = ?", (number,))

    def set_apart(self, account: str, name: str, uidvalidity: int, apart: int) -> None:
        """Put a mailbox under another UIDVALIDITY, unless there is one; safe after `commit`. Raises SinkError."""
        with self._writing() as database:
            place = (apart, account, name, uidvalidity)
            database.execute(f"UPDATE OR IGNORE mailboxes SET uidvalidity = ? WHERE {_PLACE}", place)

    def move(self, account: str, name: str, uidvalidity: int, before: int, uids: Mapping[int, int]) -> None:
        """Give messages the UIDVALIDITY and the UIDs of now, where these are free; safe after `commit`.

        Args:
            account: The account.
            name: The mailbox.
            uidvalidity: Its UIDVALIDITY now.
            before: That under which the messages are.
            uids: Their UIDs now, by those that they have.

        Raises:
            SinkError: It cannot be written.
        """
        with self._writing() as database:
            ids = [
                database.execute(f"SELECT id FROM mailboxes WHERE {_PLACE}", (account, name, each)).fetchone()
                for each in (before, uidvalidity)
            ]
            if None not in ids:
                (old,), (new,) = ids
                moved = ((new, now, old, then) for then, now in uids.items())
                database.executemany(_MOVE, moved)

    def commit(self) -> None:
        """Make safe what was written, by all who share the file. Raises SinkError."""
        self._check()
        database = self._open
        if database.connection.in_transaction:
            with self._failing(), database.explained():
                database.commit()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """In the transaction that is under way, or a new one."""
        self._check()
        database = self._open
        with self._failing(), database.explained():
            if not database.connection.in_transaction:
                database.connection.execute("BEGIN IMMEDIATE")
            yield database.connection

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._failed = True
            with suppress(sqlite3.Error):
                self._open.connection.rollback()
            raise

    def _check(self) -> None:
        if self._failed:
            raise self._refusal(
                "what another mailbox wrote to it failed, and what was not safe went with it; run again"
            )

    @property
    def _open(self) -> Database:
        assert self._database is not None
        return self._database

    def _refusal(self, reason: str) -> ImapipeError:
        return SinkError(reason, path=os.fspath(self._path))


def _remove(database: sqlite3.Connection, mailbox: int, uids: UidSet) -> None:
    for first, last in uids.ranges():
        database.execute(_REMOVE_CONTENT, (mailbox, first, last))
    remove_rows(database, mailbox, uids)
