"""What is asked of the local index, as SQL. Pure: no I/O.

Every question is answered by an index of the database or by its full-text search, never by going through all
messages; a test asks SQLite for its plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Final

from imapipe.catalog.index_entry import COLUMNS, SizeClass, to_key, to_seconds, to_words

_SELECTED: Final = ", ".join(f"messages.{column}" for column in COLUMNS.split(", "))
_CURSOR: Final = "mailboxes.uidnext, mailboxes.highest_uid, mailboxes.highestmodseq, mailboxes.mailboxid"
_WHOLE_ADDRESS_PARTS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexQuery:
    """The conditions of a question; all that are given must hold. `MessageIndex.find` says what each means."""

    sender: str | None = None
    subject: str | None = None
    text: str | None = None
    since: date | None = None
    before: date | None = None
    size_class: SizeClass | str | None = None
    account: str | None = None
    mailbox: str | None = None
    limit: int | None = None

    def to_sql(self) -> tuple[str, list[str | int]]:
        """The statement and its parameters; a row is account, mailbox, UIDVALIDITY, a cursor, the columns of a message.

        Raises:
            ValueError: A condition that cannot be asked.
        """
        where: list[str] = []
        parameters: list[str | int] = []

        def add(condition: str, value: str | int) -> None:
            where.append(condition)
            parameters.append(value)

        match = self._match()
        if match:
            add("words MATCH ?", match)
        if self.sender is not None and _is_whole_address(self.sender):
            add("messages.sender = ?", to_key(self.sender))
        if self.size_class is not None:
            add("messages.size_class = ?", SizeClass(self.size_class).rank)
        if self.since is not None:
            add("messages.date >= ?", _begin_of(self.since))
        if self.before is not None:
            add("messages.date < ?", _begin_of(self.before))
        if self.account is not None:
            add("messages.mailbox IN (SELECT id FROM mailboxes WHERE account = ?)", self.account)
        if self.mailbox is not None:
            add("messages.mailbox IN (SELECT id FROM mailboxes WHERE name = ?)", self.mailbox)
        # CROSS JOIN is how SQLite is told the order of a join: what the conditions are about comes first.
        source = "words CROSS JOIN messages ON messages.id = words.rowid" if match else "messages"
        sql = (
            f"SELECT mailboxes.account, mailboxes.name, mailboxes.uidvalidity, {_CURSOR}, {_SELECTED} "
            f"FROM {source} CROSS JOIN mailboxes ON mailboxes.id = messages.mailbox"
        )
        if where:
            sql += " WHERE " + " AND ".join(where)
        sql += " ORDER BY messages.date DESC, messages.id DESC"
        if self.limit is not None:
            if self.limit < 0:
                raise ValueError(f"limit must be 0 or more, not {self.limit}")
            sql += " LIMIT ?"
            parameters.append(self.limit)
        return sql, parameters

    def _match(self) -> str:
        """The expression for the full-text search (FTS5), "" where none is needed."""
        parts: list[str] = []
        if self.subject is not None:
            parts.append(f"subject : ({_all_words(self.subject, 'subject')})")
        if self.sender is not None and not _is_whole_address(self.sender):
            parts.append(f"sender : ({_all_words(self.sender, 'sender')})")
        if self.text is not None:
            parts.append(f"({_all_words(self.text, 'text')})")
        return " AND ".join(parts)


def _all_words(text: str, what: str) -> str:
    """Every word, as a string of FTS5, so that nothing in it is taken for an operator; `*` at its end is a prefix."""
    words: list[str] = []
    for word in text.split():
        if not any(character.isalnum() for character in word):
            continue
        quoted = to_words(word.rstrip("*")).replace('"', '""')
        words.append(f'"{quoted}"' + (" *" if word.endswith("*") else ""))
    if not words:
        raise ValueError(f"{what} must hold a word with a letter or a digit, not {text!r}")
    return " AND ".join(words)


def _is_whole_address(sender: str) -> bool:
    """Whether it is compared as a whole: also what has no words in it, such as no sender at all."""
    if not any(character.isalnum() for character in sender):
        return True
    parts = sender.strip().split("@")
    return (
        len(parts) == _WHOLE_ADDRESS_PARTS and all(parts) and not any(c.isspace() or c == "*" for c in sender.strip())
    )


def _begin_of(moment: date) -> int:
    """Seconds since 1970; a date means its midnight in the local time zone.

    Raises:
        ValueError: A datetime without a time zone.
    """
    if not isinstance(moment, datetime):
        moment = datetime.combine(moment, time()).astimezone()
    elif moment.tzinfo is None:
        raise ValueError("a datetime must have a time zone, as in moment.astimezone()")
    seconds = to_seconds(moment)
    assert seconds is not None
    return seconds
