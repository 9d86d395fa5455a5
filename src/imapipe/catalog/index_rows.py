"""What happens to the rows of messages, in an index and in an archive alike. Blocking.

Invariants:

- The words of a message (`words.rowid = messages.id`) come and go with it, in the transaction of the caller.
- Flags stand in a row in one order, without `\\Recent`, which is of a session.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

from imapipe.catalog.index_entry import COLUMNS, Row, flags_text, to_words
from imapipe.models.flag_table import FlagGatherer, FlagTable
from imapipe.wire.uid_set import UidSet

_ADD_MESSAGE: Final = f"INSERT INTO messages (id, mailbox, {COLUMNS}) VALUES ({', '.join('?' * 12)})"
_ADD_WORDS: Final = "INSERT INTO words (rowid, subject, sender) VALUES (?, ?, ?)"
_SET_FLAGS: Final = "UPDATE messages SET flags = :flags WHERE mailbox = :mailbox AND uid = :uid AND flags <> :flags"
IN_RANGE: Final = "FROM messages WHERE mailbox = ? AND uid BETWEEN ? AND ?"


def next_key(database: sqlite3.Connection) -> int:
    """The number of the next message that is added to the file."""
    (last,) = database.execute("SELECT coalesce(max(id), 0) FROM messages").fetchone()
    return int(last) + 1


def add_rows(database: sqlite3.Connection, mailbox: int, keyed: list[tuple[int, Row]]) -> None:
    """Add messages under the numbers that are given with them."""
    database.executemany(_ADD_MESSAGE, [(key, mailbox, *row) for key, row in keyed])
    database.executemany(_ADD_WORDS, [(key, to_words(row[3]), to_words(f"{row[2]} {row[1]}")) for key, row in keyed])


def set_flags(database: sqlite3.Connection, mailbox: int, flags: Iterable[tuple[int, frozenset[str]]]) -> int:
    """Give messages that are there these flags; gives how many had others."""
    rows = [{"flags": flags_text(of), "mailbox": mailbox, "uid": uid} for uid, of in flags]
    return database.executemany(_SET_FLAGS, rows).rowcount


def remove_rows(database: sqlite3.Connection, mailbox: int, uids: UidSet) -> int:
    """Remove messages; gives how many were there."""
    removed = 0
    for first, last in uids.ranges():
        place = (mailbox, first, last)
        database.execute(f"DELETE FROM words WHERE rowid IN (SELECT id {IN_RANGE})", place)
        removed += database.execute(f"DELETE {IN_RANGE}", place).rowcount
    return removed


def flags_of(database: sqlite3.Connection, mailbox: int) -> FlagTable:
    """The flags of all messages of a mailbox.

    Raises:
        TypeError, OverflowError: A value of a type or size that is never written.
    """
    gatherer = FlagGatherer()
    sets: dict[str, frozenset[str]] = {}
    for uid, text in database.execute("SELECT uid, flags FROM messages WHERE mailbox = ? ORDER BY uid", (mailbox,)):
        if text not in sets:
            sets[text] = frozenset(filter(None, text.split(" ")))
        gatherer.add(uid, sets[text])
    return gatherer.table()
