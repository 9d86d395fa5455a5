"""A mailbox of the testing server: editable while sessions look at it.

Invariants:
- ``Mailbox.uids`` is ascending and never changed in place: an edit puts a new sequence there, so a session
  may keep the one it saw as its own numbering.
- Every edit raises ``highest_modseq`` and tells every listener, which decides when to tell its client.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

from .content import Content, ParsedContent

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

FIRST_DATE = datetime(2024, 1, 1, 8, 0, tzinfo=UTC)
"""INTERNALDATE of the first message when none is given; each next one is an hour later."""


_SYSTEM_FLAGS = {
    flag.lower(): flag for flag in ("\\Answered", "\\Deleted", "\\Draft", "\\Flagged", "\\Recent", "\\Seen")
}


def normal_flags(flags: Iterable[str]) -> frozenset[str]:
    """Flags with the system flags in their usual spelling."""
    return frozenset(_SYSTEM_FLAGS.get(flag.lower(), flag) for flag in flags)


class Listener(Protocol):
    """Who wants to know of edits: a session that has the mailbox selected."""

    def on_expunge(self, uids: Sequence[int]) -> None:
        """Messages are gone."""

    def on_flags(self, uids: Sequence[int]) -> None:
        """Flags have changed."""

    def on_append(self) -> None:
        """Messages were added."""

    def on_close(self, text: str) -> None:
        """The mailbox is no longer what was selected: say BYE with this text."""


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


class Mailbox:
    """A mailbox held in memory.

    Args:
        messages: Raw messages, numbered from ``first_uid``.
        uidvalidity: Its UIDVALIDITY.
        first_uid: UID of the first message.
        special_use: LIST attribute such as ``\\Trash`` (RFC 6154), or "".
        subscribed: Whether LSUB shows it.

    Example:
        ``server.mailboxes["INBOX"].append(b"Subject: hi\\r\\n\\r\\n")`` adds a message; sessions that have the
        mailbox selected are told with their next command, or at once while in IDLE.
    """

    def __init__(
        self,
        messages: Iterable[bytes] = (),
        *,
        uidvalidity: int = 1_600_000_000,
        first_uid: int = 1,
        special_use: str = "",
        subscribed: bool = True,
    ) -> None:
        self.uidvalidity = uidvalidity
        self.highest_modseq = 1
        self.special_use = special_use
        self.subscribed = subscribed
        self.mailbox_id = f"F{uidvalidity}"
        self.read_only = False
        self.vanished: list[tuple[int, int]] = []
        self._listeners: list[Listener] = []
        self._messages: dict[int, StoredMessage] = {}
        self.uidnext = first_uid
        self.uids: Sequence[int] = array("I")
        self.extend(messages)

    # What it holds.

    def __len__(self) -> int:
        return len(self.uids)

    def __iter__(self) -> Iterator[StoredMessage]:
        for uid in self.uids:
            message = self.get(uid)
            if message is not None:
                yield message

    def __getitem__(self, uid: int) -> StoredMessage:
        """The message with that UID.

        Raises:
            KeyError: There is none.
        """
        message = self.get(uid)
        if message is None:
            raise KeyError(uid)
        return message

    def get(self, uid: int) -> StoredMessage | None:
        """The message with that UID, or None."""
        return self._messages.get(uid)

    def flags_of(self, uid: int) -> frozenset[str]:
        """Flags of a message, empty when there is none with that UID."""
        message = self.get(uid)
        return message.flags if message is not None else frozenset()

    def internal_date_of(self, uid: int) -> datetime | None:
        """INTERNALDATE of a message, None when there is none with that UID."""
        message = self.get(uid)
        return message.internal_date if message is not None else None

    def count_without(self, flag: str) -> int:
        """How many messages lack a flag (STATUS UNSEEN)."""
        return sum(1 for uid in self.uids if flag not in self.flags_of(uid))

    def count_with(self, flag: str) -> int:
        """How many messages have a flag (STATUS DELETED)."""
        return len(self.uids) - self.count_without(flag)

    @property
    def total_size(self) -> int:
        """Sum of all RFC822.SIZE in bytes (RFC 8438)."""
        return sum(message.content.size for message in self)

    # Edits.

    def append(
        self,
        raw: bytes,
        flags: Iterable[str] = (),
        internal_date: datetime | None = None,
        labels: Iterable[str] = (),
    ) -> int:
        """Add a message and return its UID."""
        uid = self._store(raw, normal_flags(flags), internal_date, tuple(labels))
        self._add_uids([uid])
        return uid

    def extend(self, messages: Iterable[bytes]) -> list[int]:
        """Add many messages at once and return their UIDs."""
        added = [self._store(raw, frozenset(), None, ()) for raw in messages]
        if added:
            self._add_uids(added)
        return added

    def adopt(self, messages: Iterable[StoredMessage]) -> list[int]:
        """Add copies of stored messages (COPY, MOVE) and return their UIDs."""
        added: list[int] = []
        now = datetime.now(UTC)
        for message in messages:
            uid = self._next_uid()
            self.highest_modseq += 1
            self._messages[uid] = message.copy(uid, self.highest_modseq, now)
            added.append(uid)
        if added:
            self._add_uids(added)
        return added

    def expunge(self, uids: Iterable[int]) -> list[int]:
        """Remove messages; UIDs that are not there are ignored. Returns the removed ones, ascending."""
        gone = sorted(uid for uid in set(uids) if self.contains(uid))
        if not gone:
            return []
        self.highest_modseq += 1
        self.vanished.extend((self.highest_modseq, uid) for uid in gone)
        lost = set(gone)
        self.uids = array("I", (uid for uid in self.uids if uid not in lost))
        for uid in gone:
            self._messages.pop(uid, None)
        for listener in list(self._listeners):
            listener.on_expunge(gone)
        return gone

    def contains(self, uid: int) -> bool:
        """Whether a message with that UID is there."""
        index = bisect_left(self.uids, uid)
        return index < len(self.uids) and self.uids[index] == uid

    def set_flags(self, uid: int, flags: Iterable[str], *, but: Listener | None = None) -> None:
        """Give a message exactly these flags and tell every session ``but`` one.

        Raises:
            KeyError: There is no message with that UID.
        """
        message = self.writable(uid)
        wanted = normal_flags(flags)
        if wanted == message.flags:
            return
        message.flags = wanted
        self.touch(message, but=but)

    def touch(self, message: StoredMessage, *, but: Listener | None = None) -> None:
        """Note that a message's metadata changed: new mod-sequence, sessions told."""
        self.highest_modseq += 1
        message.modseq = self.highest_modseq
        for listener in list(self._listeners):
            if listener is not but:
                listener.on_flags((message.uid,))

    def writable(self, uid: int) -> StoredMessage:
        """The stored message itself, for an edit.

        Raises:
            KeyError: There is no message with that UID.
        """
        return self[uid]

    def change_uidvalidity(self, uidvalidity: int | None = None, *, disconnect: bool = True) -> int:
        """Give the mailbox a new UIDVALIDITY and return it.

        Args:
            uidvalidity: The new value, one more than the old by default.
            disconnect: Whether sessions that have it selected get BYE, as RFC 3501 leaves no other way to
                tell them. With False they go on under the old value until they select again.
        """
        self.uidvalidity = self.uidvalidity + 1 if uidvalidity is None else uidvalidity
        self.vanished.clear()
        if disconnect:
            self.close_sessions("Mailbox was rebuilt, please select it again")
        return self.uidvalidity

    def close_sessions(self, text: str) -> None:
        """Say BYE to every session that has the mailbox selected."""
        for listener in list(self._listeners):
            listener.on_close(text)

    def subscribe_listener(self, listener: Listener) -> None:
        """Start telling a listener of edits."""
        self._listeners.append(listener)

    def unsubscribe_listener(self, listener: Listener) -> None:
        """Stop telling a listener of edits."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def _next_uid(self) -> int:
        uid = self.uidnext
        self.uidnext += 1
        return uid

    def _store(self, raw: bytes, flags: frozenset[str], when: datetime | None, labels: tuple[str, ...]) -> int:
        uid = self._next_uid()
        self.highest_modseq += 1
        self._messages[uid] = StoredMessage(
            uid,
            ParsedContent(bytes(raw)),
            flags=flags,
            internal_date=when or FIRST_DATE + timedelta(hours=uid - 1),
            modseq=self.highest_modseq,
            thread_id=f"T{uid:x}",
            labels=labels,
        )
        return uid

    def _add_uids(self, added: list[int]) -> None:
        grown = array("I", self.uids)
        grown.extend(added)
        self.uids = grown
        for listener in list(self._listeners):
            listener.on_append()
