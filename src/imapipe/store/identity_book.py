"""The identities of messages by UID, beside a checkpoint: an SQLite file. Blocking; each call is whole by itself.

Rows belong to a series (`CheckpointState.series`): UIDs mean the same as long as that lasts, and the name of a mailbox
means nothing.

Invariants:

- A message that was not there when it was asked for has a row without an identity, so that it is not asked for again.
- Messages of the same identity are matched in the order of their UIDs, each with one other.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from imapipe.durable_file import close, open_in_place
from imapipe.errors import CheckpointCorrupt, CheckpointError
from imapipe.models.identity import Identity
from imapipe.wire.uid_set import UidSet

_BUSY_SECONDS: Final = 30.0
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS identities (
    series TEXT NOT NULL, uid INTEGER NOT NULL, email BLOB, content BLOB, PRIMARY KEY (series, uid)
) WITHOUT ROWID
"""
# The nth message of an identity is the nth one later, too.
_PAIRS: Final = """
INSERT INTO pairs
WITH old AS ({side}), new AS ({side})
SELECT old.uid, new.uid FROM old JOIN new ON old.word = new.word AND old.nth = new.nth
"""
_SIDE: Final = """
SELECT uid, {column} AS word, row_number() OVER (PARTITION BY {column} ORDER BY uid) AS nth FROM identities
WHERE series = ? AND {column} IS NOT NULL AND uid NOT IN (SELECT {end} FROM pairs)
"""


class IdentityBook:
    """The identities that a checkpoint knows; its file is made when the first ones come."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def add(self, series: str, uids: UidSet, identities: Mapping[int, Identity]) -> None:
        """Keep the identities of these messages. Raises CheckpointError."""
        rows = ((series, uid, *identities.get(uid, Identity())) for uid in uids)
        with self._opened() as database, database:
            database.executemany("INSERT OR REPLACE INTO identities VALUES (?, ?, ?, ?)", rows)

    def uids(self, series: str) -> UidSet:
        """The messages that it has a row of. Raises CheckpointError."""
        with self._opened() as database:
            rows = database.execute("SELECT uid FROM identities WHERE series = ? ORDER BY uid", (series,))
            return UidSet.from_numbers([uid for (uid,) in rows])

    def pairs(self, old: str, new: str) -> list[tuple[int, int]]:
        """The messages of one series that are in another one too: by EMAILID, and what is left by its content.

        Raises:
            CheckpointError: It cannot be read.
        """
        with self._opened() as database:
            database.execute("CREATE TEMP TABLE pairs (old INTEGER PRIMARY KEY, new INTEGER UNIQUE)")
            for column in ("email", "content"):
                sides = [_SIDE.format(column=column, end=end) for end in ("old", "new")]
                database.execute(_PAIRS.replace("{side}", sides[0], 1).replace("{side}", sides[1], 1), (old, new))
            return database.execute("SELECT old, new FROM pairs").fetchall()

    def forget(self, series: str) -> None:
        """A series has ended. Raises CheckpointError."""
        with self._opened() as database, database:
            database.execute("DELETE FROM identities WHERE series = ?", (series,))

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            # Whoever made the empty file: it is for its owner only.
            close(open_in_place(os.fspath(self.path)))
            with closing(sqlite3.connect(self.path, timeout=_BUSY_SECONDS)) as database:
                database.execute("PRAGMA trusted_schema = OFF")
                database.execute("PRAGMA temp_store = MEMORY")
                database.execute(_SCHEMA)
                yield database
        except OSError as error:
            raise CheckpointError(f"it cannot be opened: {error.strerror or error}", path=str(self.path)) from error
        except (sqlite3.NotSupportedError, sqlite3.ProgrammingError):
            raise
        except sqlite3.OperationalError as error:
            raise CheckpointError(f"it cannot be read or written: {error}", path=str(self.path)) from error
        except sqlite3.DatabaseError as error:
            reason = f"it is no file of identities ({error}); move it away, and they are asked for anew"
            raise CheckpointCorrupt(reason, path=str(self.path)) from error
