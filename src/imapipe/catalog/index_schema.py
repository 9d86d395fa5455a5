"""The tables of the local index and of an archive (`sinks.Sqlite`), and whether a file has exactly these.

An archive is an index with the messages themselves. It keeps what was written under an earlier UIDVALIDITY, where an
index begins a mailbox anew.

A file may come from somebody else. What SQLite keeps as its schema is a program: triggers, views, defaults and
expressions in indexes are run by whoever reads or writes.

Invariant: nothing of a file is read or written before its schema was found to be ours, word for word.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

VERSION: Final = 3

_TABLES: Final = """
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
    flags_modseq INTEGER,
    UNIQUE ({key})
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
"""
_CONTENTS: Final = """
CREATE TABLE contents (
    message INTEGER PRIMARY KEY REFERENCES messages (id),
    text TEXT,
    raw BLOB
);
"""

# Whatever else is in the file is not ours; what ANALYZE makes is SQLite's own, and of one form.
_READ: Final = (
    "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT IN ('sqlite_stat1', 'sqlite_stat4') LIMIT 100"
)


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of one kind of file.

    Attributes:
        kind: What the file is called in sentences.
        application_id: By which SQLite and others tell kinds of files apart.
        tables: The statements that make the tables, each ended by a semicolon and a line end.
        anew: What to do with a file that cannot be used.
    """

    kind: str
    application_id: int
    tables: str
    anew: str

    @property
    def script(self) -> str:
        """All that makes a new file one of this kind."""
        numbers = f"PRAGMA application_id = {self.application_id};\nPRAGMA user_version = {VERSION};\n"
        return f"{self.tables}{numbers}"


INDEX: Final = Schema("index", 0x1A91E, _TABLES.format(key="account, name"), "delete it and index again")
ARCHIVE: Final = Schema(
    "archive",
    0x1A91F,
    f"{_TABLES.format(key='account, name, uidvalidity')}{_CONTENTS}",
    "move it away and write to a new one",
)


def distrust(database: sqlite3.Connection) -> None:
    """Have SQLite run nothing dangerous that stands in the file, and look at each page it reads."""
    database.execute("PRAGMA trusted_schema = OFF")
    database.execute("PRAGMA cell_size_check = ON")


def is_empty(database: sqlite3.Connection) -> bool:
    """Whether the file has no tables yet."""
    (count,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return not count


def make_tables(database: sqlite3.Connection, schema: Schema) -> None:
    """Make the tables, within the transaction of the caller."""
    for statement in schema.script.split(";\n"):
        database.execute(statement)


def recognise(database: sqlite3.Connection, schemas: Sequence[Schema]) -> Schema | str:
    """Which of some kinds a file with tables is; else a sentence that says what is wrong and what to do."""
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    schema = next((schema for schema in schemas if schema.application_id == application), None)
    if schema is None:
        other = next((schema for schema in (INDEX, ARCHIVE) if schema.application_id == application), None)
        owner = f"an {other.kind} of imapipe, not an {schemas[0].kind}" if other else "a database of another program"
        return f"it is {owner}; name another file"
    if version != VERSION:
        return f"it has version {version}, and this imapipe writes {VERSION}; {schema.anew}"
    if set(database.execute(_READ)) != _expected(schema):
        return f"its tables are not those that imapipe makes; {schema.anew}"
    return schema


@functools.cache
def _expected(schema: Schema) -> frozenset[tuple[object, ...]]:
    """The schema as this SQLite notes it down."""
    database = sqlite3.connect(":memory:")
    try:
        make_tables(database, schema)
        return frozenset(database.execute(_READ))
    finally:
        database.close()
