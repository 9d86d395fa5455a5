"""One message as the local index knows it, and the words by which it is found.

Invariant: the words of an entry and the words of a query are made by the same function, `to_words`.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from imapipe.errors import NotFetched
from imapipe.models.attributes import arrival_of
from imapipe.models.cursor import Cursor
from imapipe.models.message import Message
from imapipe.search import header, larger, smaller, subject, uid
from imapipe.wire.search_key import SearchKey
from imapipe.wire.uid_set import MAX_UID

_OF_THE_SESSION: Final = frozenset({"\\Recent"})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LIMITS: Final = (1024, 10 * 1024, 100 * 1024, 1024 * 1024)

# Scripts that are written without spaces: each character becomes a word, and a word of a query a phrase of them.
_UNSPACED: Final = re.compile(
    "([\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff])"
)


class SizeClass(StrEnum):
    """How large a message is, by RFC822.SIZE."""

    TINY = "tiny"
    """Less than 1 KiB."""
    SMALL = "small"
    """Less than 10 KiB."""
    MEDIUM = "medium"
    """Less than 100 KiB."""
    LARGE = "large"
    """Less than 1 MiB."""
    HUGE = "huge"
    """1 MiB and more."""

    @classmethod
    def of(cls, size: int) -> SizeClass:
        """The class of a size in bytes."""
        return _CLASSES[sum(size >= limit for limit in _LIMITS)]

    @property
    def rank(self) -> int:
        """0 for tiny to 4 for huge: how it is stored."""
        return _CLASSES.index(self)


_CLASSES: Final = tuple(SizeClass)


class IndexEntry(NamedTuple):
    """A message in the local index.

    Attributes:
        account: `user@host:port`.
        mailbox: The name of the mailbox.
        uidvalidity: Its UIDVALIDITY.
        uid: The UID.
        sender: The address of the sender in lower case, "" where there is none.
        sender_name: The name beside it.
        subject: The decoded subject.
        date: The Date header, or the arrival where that says nothing (aware, UTC); None without either.
        internal_date: The arrival (aware, UTC), or None.
        size: RFC822.SIZE in bytes.
        size_class: The class of that.
        flags: The flags when it was indexed.
        message_id: The Message-ID header with its brackets, "" where there is none.
        cursor: How far the mailbox had come when it was indexed last; with `uid` and `uidvalidity` it goes to
            `Pipeline.only`.
    """

    account: str
    mailbox: str
    uidvalidity: int
    uid: int
    sender: str
    sender_name: str
    subject: str
    date: datetime | None
    internal_date: datetime | None
    size: int
    size_class: SizeClass
    flags: frozenset[str]
    message_id: str
    cursor: Cursor


COLUMNS: Final = "uid, sender, sender_name, subject, date, internal_date, size, size_class, flags, message_id"
"""The columns of the table of messages, in the order of `Row`."""

Row = tuple[int, str, str, str, int | None, int | None, int, int, str, str]


_DATES: Final = (int, type(None))
_ROW_TYPES: Final = frozenset(
    (int, str, str, str, date, internal_date, int, int, str, str) for date in _DATES for internal_date in _DATES
)


def identity_of(row: Row) -> tuple[str | int | None, ...]:
    """By what a message is known again: its Message-ID, or what else it has where it has none."""
    return (row[9],) if row[9] else (row[1], row[3], row[5], row[6])


def search_for(row: Row) -> SearchKey:
    """A search that finds a message under its UID, and hardly another one."""
    here = uid(row[0])
    if row[9] and row[9].isascii() and row[9].isprintable():
        return here & header("Message-ID", row[9])
    same_size = here & larger(row[6] - 1) & smaller(row[6] + 1) if row[6] else here
    return same_size & subject(row[3]) if row[3].isascii() and row[3].isprintable() and row[3] else same_size


def to_row(message: Message, size: int | None = None) -> Row:
    """What is kept of a message that was fetched with its envelope or its header, flags, date of arrival and size.

    Args:
        message: It.
        size: Its size, where the server need not be believed.

    Raises:
        NotFetched, ProtocolError: The server left out its envelope, flags or size, or they cannot be read.
    """
    sender = message.sender
    size = message.size if size is None else size
    return (
        message.uid,
        to_key(sender.email) if sender is not None else "",
        storable(sender.name) if sender is not None else "",
        storable(message.subject),
        to_seconds(message.date),
        to_seconds(arrival_of(message)),
        size,
        SizeClass.of(size).rank,
        flags_text(message.flags),
        storable(message_id_of(message)),
    )


def message_id_of(message: Message) -> str:
    """The Message-ID, from the envelope or the header. Raises NotFetched, ProtocolError."""
    try:
        return message.envelope.message_id
    except NotFetched:
        return message.headers.get("Message-ID", "")


def flags_text(flags: frozenset[str]) -> str:
    """Flags as they stand in a row: in one order, without `\\Recent`, which is of a session."""
    return storable(" ".join(sorted(flags - _OF_THE_SESSION)))


def check_mailbox(account: object, name: object, uidvalidity: object, *cursor: object) -> tuple[str, str, int]:
    """What a file says of a mailbox, with the fields of its cursor in their order; gives the first three.

    Raises:
        TypeError: A value of a type that is never written.
    """
    *numbers, mailboxid = cursor
    if not all(value is None or type(value) is int for value in numbers) or not isinstance(mailboxid, str | None):
        raise TypeError("what is kept of a mailbox has a wrong type")
    if not (isinstance(account, str) and isinstance(name, str) and type(uidvalidity) is int):
        raise TypeError("what names a mailbox has a wrong type")
    return account, name, uidvalidity


def to_entry(account: str, mailbox: str, uidvalidity: int, cursor: Cursor, row: Row) -> IndexEntry:
    """What is told of a message.

    Raises:
        TypeError, ValueError, OverflowError: A value of a type or size that is never written.
    """
    uid, sender, sender_name, subject, date, internal_date, size, size_class, flags, message_id = row
    if tuple(map(type, row)) not in _ROW_TYPES:
        raise TypeError("what is kept of a message has a wrong type")
    if not (0 < uid <= MAX_UID and size >= 0 and 0 <= size_class < len(_CLASSES)):
        raise ValueError("what is kept of a message is no such number")
    return IndexEntry(
        account,
        mailbox,
        uidvalidity,
        uid,
        sender,
        sender_name,
        subject,
        to_moment(date),
        to_moment(internal_date),
        size,
        _CLASSES[size_class],
        frozenset(flags.split()),
        message_id,
        cursor,
    )


def to_key(address: str) -> str:
    """An address as it is compared."""
    return storable(address).strip().lower()


def to_words(text: str) -> str:
    """Text for the full-text search: wide and narrow forms made equal, characters of unspaced scripts apart."""
    # SQLite takes NUL for the end of an expression.
    text = text.replace("\0", " ")
    if text.isascii():
        return text
    return _UNSPACED.sub(r" \1 ", unicodedata.normalize("NFKC", text))


def to_seconds(moment: datetime | None) -> int | None:
    """Whole seconds since 1970, UTC."""
    return (moment - _EPOCH) // timedelta(seconds=1) if moment is not None else None


def to_moment(seconds: int | None) -> datetime | None:
    """The moment so many seconds after 1970 began."""
    # Not fromtimestamp(): it knows no dates before 1970 on some systems.
    return _EPOCH + timedelta(seconds=seconds) if seconds is not None else None


def storable(text: str) -> str:
    """Text without halves of surrogate pairs, which no database takes."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
