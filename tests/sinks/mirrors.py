"""The sinks that can mirror, and how what they have is read by others."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import imapipe
from imapipe import sinks
from imapipe.sinks.maildir import flags_of_letters

State = dict[tuple[int, int], frozenset[str]]
"""Flags by UIDVALIDITY and UID."""


def _in_maildir(path: Path) -> State:
    found: State = {}
    for file in (path / "cur").iterdir():
        base, _, letters = file.name.partition(":2,")
        uidvalidity, uid = base.split("M")[0].split(".U")
        assert (int(uidvalidity), int(uid)) not in found
        found[int(uidvalidity), int(uid)] = flags_of_letters(letters)
    return found


def _in_sqlite(path: Path) -> State:
    database = sqlite3.connect(path)
    try:
        rows = database.execute(
            "SELECT uidvalidity, uid, flags FROM mailboxes JOIN messages ON mailbox = mailboxes.id "
            "JOIN contents ON message = messages.id WHERE name = 'INBOX'"
        ).fetchall()
        assert (
            database.execute("SELECT count(*) FROM words").fetchone()
            == database.execute("SELECT count(*) FROM messages").fetchone()
        )
        return {(uidvalidity, uid): frozenset(flags.split()) for uidvalidity, uid, flags in rows}
    finally:
        database.close()


def _parquet(path: Path) -> imapipe.Mirror:
    return sinks.Parquet(path, rows_per_file=7)


def _in_parquet(path: Path) -> State:
    import polars  # noqa: PLC0415

    rows = polars.read_parquet(path / "*.parquet").filter(polars.col("mailbox") == "INBOX").to_dicts()
    found = {(row["uidvalidity"], row["uid"]): frozenset(row["flags"]) for row in rows}
    assert len(found) == len(rows)
    assert all(row["subject"] is not None and row["size"] for row in rows)
    return found


MIRRORS: dict[str, tuple[Callable[[Path], imapipe.Mirror], Callable[[Path], State]]] = {
    "maildir": (sinks.Maildir, _in_maildir),
    "sqlite": (sinks.Sqlite, _in_sqlite),
    **({"parquet": (_parquet, _in_parquet)} if all(map(find_spec, ("pyarrow", "polars"))) else {}),
}
