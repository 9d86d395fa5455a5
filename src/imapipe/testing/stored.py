"""A message as a mailbox holds it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from .content import Content

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

FIRST_DATE = datetime(2024, 1, 1, 8, 0, tzinfo=UTC)
_MOST_HOURS = 10_000_000


def arrival_of_uid(uid: int) -> datetime:
    """When a message arrived of which that is not said: an hour later for each UID, as far as a date can tell."""
    return FIRST_DATE + timedelta(hours=(uid - 1) % _MOST_HOURS)


"""INTERNALDATE of the first message when none is given; each next one is an hour later."""

SYSTEM_FLAGS = ("\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft")
"""Flags that a client may set, in the order of FLAGS responses."""

_SPELLING = {flag.lower(): flag for flag in (*SYSTEM_FLAGS, "\\Recent")}


def normal_flags(flags: Iterable[str]) -> frozenset[str]:
    """Flags with the system flags in their usual spelling."""
    return frozenset(_SPELLING.get(flag.lower(), flag) for flag in flags)


def format_internal_date(when: datetime) -> bytes:
    """``"17-Jul-1996 02:44:25 -0700"`` with its quotes (RFC 3501 ``date-time``)."""
    offset = when.utcoffset() or timedelta()
    minutes = int(offset.total_seconds()) // 60
    sign = "-" if minutes < 0 else "+"
    hours, minutes = divmod(abs(minutes), 60)
    return (
        f'"{when.day:2d}-{_MONTHS[when.month - 1]}-{when.year:04d} '
        f'{when.hour:02d}:{when.minute:02d}:{when.second:02d} {sign}{hours:02d}{minutes:02d}"'
    ).encode("ascii")


class StoredMessage:
    """A message in a mailbox.

    Attributes:
        uid: Its UID.
        content: Its bytes and what is rendered from them.
        flags: System flags and keywords, ``\\Seen`` as written on the wire.
        internal_date: Aware datetime of arrival.
        modseq: Mod-sequence of its last change (RFC 7162).
        save_date: Aware datetime of arrival in this mailbox (RFC 8514).
        email_id: EMAILID (RFC 8474), one per content.
        thread_id: THREADID, None for NIL.
        gmail_id: X-GM-MSGID.
        gmail_thread_id: X-GM-THRID.
        labels: X-GM-LABELS.
    """

    __slots__ = (
        "_email_id",
        "content",
        "flags",
        "gmail_id",
        "gmail_thread_id",
        "internal_date",
        "labels",
        "modseq",
        "save_date",
        "thread_id",
        "uid",
    )

    def __init__(
        self,
        uid: int,
        content: Content,
        *,
        flags: frozenset[str] = frozenset(),
        internal_date: datetime,
        modseq: int = 1,
        save_date: datetime | None = None,
        email_id: str | None = None,
        thread_id: str | None = None,
        gmail_id: int | None = None,
        gmail_thread_id: int | None = None,
        labels: tuple[str, ...] = (),
    ) -> None:
        self.uid = uid
        self.content = content
        self.flags = flags
        self.internal_date = internal_date
        self.modseq = modseq
        self.save_date = save_date or internal_date
        self._email_id = email_id
        self.thread_id = thread_id
        self.gmail_id = gmail_id if gmail_id is not None else 1_700_000_000_000_000_000 + uid
        self.gmail_thread_id = gmail_thread_id if gmail_thread_id is not None else self.gmail_id
        self.labels = labels

    @property
    def email_id(self) -> str:
        """EMAILID; by default made from the content, so copies share it."""
        if self._email_id is None:
            self._email_id = "M" + hashlib.blake2b(self.content.raw, digest_size=12).hexdigest()
        return self._email_id

    @property
    def flags_text(self) -> bytes:
        """The flags as ``(\\Seen word)``."""
        return b"(" + " ".join(sorted(self.flags)).encode("latin-1") + b")"

    def copy(self, uid: int, modseq: int, save_date: datetime) -> StoredMessage:
        """The same message under another UID."""
        return StoredMessage(
            uid,
            self.content,
            flags=self.flags,
            internal_date=self.internal_date,
            modseq=modseq,
            save_date=save_date,
            email_id=self._email_id,
            thread_id=self.thread_id,
            gmail_id=self.gmail_id,
            gmail_thread_id=self.gmail_thread_id,
            labels=self.labels,
        )
