"""The sinks that can mirror, and how what they have is read by others."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
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


MIRRORS: dict[str, tuple[Callable[[Path], imapipe.Mirror], Callable[[Path], State]]] = {
    "maildir": (sinks.Maildir, _in_maildir),
    "sqlite": (sinks.Sqlite, _in_sqlite),
}
