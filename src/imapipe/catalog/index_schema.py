"""The tables of the local index, and whether a file has exactly these.

An index may come from somebody else. What SQLite keeps as its schema is a program: triggers, views, defaults and
expressions in indexes are run by whoever reads or writes.

Invariant: nothing of a file is read or written before its schema was found to be ours, word for word.
"""

from __future__ import annotations

import functools
import sqlite3
from typing import Final

VERSION: Final = 2
APPLICATION_ID: Final = 0x1A91E

SCHEMA: Final = f"""
CREATE TABLE mailboxes (
    id INTEGER PRIMARY KEY,
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    uidvalidity INTEGER NOT NULL,
    generation INTEGER NOT NULL DEFAULT 0,
    uidnext INTEGER,
    highest_uid INTEGER,
    highestmodseq INTEGER,
    mailboxid TEXT,
    UNIQUE (account, name)
);
CREATE TABLE messages (
    id INTEGER PRIMARY KEY,
    mailbox INTEGER NOT NULL REFERENCES mailboxes (id),
    uid INTEGER NOT NULL,
    sender TEXT NOT NULL,
    sender_name TEXT NOT NULL,
    subject TEXT NOT NULL,
    date INTEGER,
    internal_date INTEGER,
    size INTEGER NOT NULL,
    size_class INTEGER NOT NULL,
    flags TEXT NOT NULL,
    message_id TEXT NOT NULL,
    UNIQUE (mailbox, uid)
);
CREATE INDEX messages_by_sender ON messages (sender, date);
CREATE INDEX messages_by_date ON messages (date);
CREATE INDEX messages_by_size_class ON messages (size_class, date);
CREATE VIRTUAL TABLE words USING fts5 (subject, sender, tokenize = 'unicode61 remove_diacritics 2');
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
"""

# Whatever else is in the file is not ours; what ANALYZE makes is SQLite's own, and of one form.
_READ: Final = (
    "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT IN ('sqlite_stat1', 'sqlite_stat4') LIMIT 100"
)


def distrust(database: sqlite3.Connection) -> None:
    """Have SQLite run nothing dangerous that stands in the file, and look at each page it reads."""
    database.execute("PRAGMA trusted_schema = OFF")
    database.execute("PRAGMA cell_size_check = ON")


def is_empty(database: sqlite3.Connection) -> bool:
    """Whether the file has no tables yet."""
    (count,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return not count


def make_tables(database: sqlite3.Connection) -> None:
    """Make the tables, within the transaction of the caller."""
    for statement in SCHEMA.split(";\n"):
        database.execute(statement)


def flaw(database: sqlite3.Connection) -> str:
    """What is wrong with a file that has tables: a sentence that says what to do, or ""."""
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        return "it is a database of another program; name another file"
    if version != VERSION:
        return f"it has version {version}, and this imapipe writes {VERSION}; delete it and index again"
    if set(database.execute(_READ)) != _expected():
        return "its tables are not those that imapipe makes; delete it and index again"
    return ""


@functools.cache
def _expected() -> frozenset[tuple[object, ...]]:
    """The schema as this SQLite notes it down."""
    database = sqlite3.connect(":memory:")
    try:
        make_tables(database)
        return frozenset(database.execute(_READ))
    finally:
        database.close()
