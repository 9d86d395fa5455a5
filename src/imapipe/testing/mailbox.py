"""A mailbox of the testing server: editable while sessions look at it.

Invariants:
- ``Mailbox.uids`` is ascending and never changed in place: an edit puts a new sequence there, so a session
  may keep the one it saw as its own numbering.
- Every edit raises ``highest_modseq`` and tells every listener, which decides when to tell its client.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal, Protocol

from .content import ParsedContent
from .stored import StoredMessage, arrival_of_uid, normal_flags

Change = Literal["new", "expunge", "flags", "labels"]


class Listener(Protocol):
    """Who wants to know of edits: a session that has the mailbox selected."""

    def on_expunge(self, gone: Mapping[int, frozenset[str]]) -> None:
        """Messages are gone; with the flags they had."""

    def on_flags(self, uids: Sequence[int]) -> None:
        """Flags have changed."""

    def on_append(self) -> None:
        """Messages were added."""

    def on_close(self, text: str) -> None:
        """The mailbox is no longer what was selected: say BYE with this text."""


Observer = Callable[["Mailbox", Change, Sequence[StoredMessage]], None]
"""Told of every edit after it was made: what it was, and the messages it concerns."""


class Mailbox:
    """A mailbox held in memory.

    Args:
        messages: Raw messages, numbered from ``first_uid``.
        uidvalidity: Its UIDVALIDITY.
        first_uid: UID of the first message.
        special_use: LIST attribute such as ``\\Trash`` (RFC 6154), or "".
        subscribed: Whether its name is subscribed to when it is added to the account.
        mod_sequences: Whether it keeps mod-sequences; without them SELECT says NOMODSEQ (RFC 7162).
        permanent_keywords: Keywords that may be set; None for any (``\\*`` in PERMANENTFLAGS). Others are ignored.
        max_keywords: How many different keywords it takes; STORE and APPEND of one more say NO [LIMIT].

    Attributes:
        keywords: Keywords that were ever set, in that order.
        read_only: Whether SELECT opens it like EXAMINE.
        mailbox_id: MAILBOXID (RFC 8474); it stays when the mailbox is renamed or renumbered.
        vanished: Mod-sequence and UID of what was expunged.
        history_from: Expunges before this mod-sequence are forgotten.
        listeners: Sessions that have it selected.
        observers: Told of every edit.

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
        mod_sequences: bool = True,
        permanent_keywords: Collection[str] | None = None,
        max_keywords: int | None = None,
    ) -> None:
        self.uidvalidity = uidvalidity
        self.highest_modseq = 1
        self.special_use = special_use
        self.subscribed = subscribed
        self.mailbox_id = f"F{uidvalidity}"
        self.read_only = False
        self.mod_sequences = mod_sequences
        self.permanent_keywords = None if permanent_keywords is None else frozenset(permanent_keywords)
        self.max_keywords = max_keywords
        self.keywords: list[str] = []
        self.vanished: list[tuple[int, int]] = []
        self.history_from = 0
        self.listeners: list[Listener] = []
        self.observers: list[Observer] = []
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

    def adopt(self, messages: Iterable[StoredMessage], now: datetime | None = None) -> list[int]:
        """Add copies of stored messages (COPY, MOVE) and return their UIDs; ``now`` is their SAVEDATE."""
        added: list[int] = []
        now = now or datetime.now(UTC)
        for message in messages:
            uid = self._next_uid()
            self.highest_modseq += 1
            self._note_keywords(message.flags)
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
        flags = {uid: self.flags_of(uid) for uid in gone} if self.listeners else {}
        messages = [self[uid] for uid in gone] if self.observers else []
        self.uids = array("I", (uid for uid in self.uids if uid not in lost))
        for uid in gone:
            self._messages.pop(uid, None)
        for listener in list(self.listeners):
            listener.on_expunge(flags)
        self._observe("expunge", messages)
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
        self._note_keywords(wanted)
        message.flags = wanted
        self._touch(message, "flags", but)

    def set_labels(self, uid: int, labels: Iterable[str], *, but: Listener | None = None) -> None:
        """Give a message exactly these Gmail labels and tell every session ``but`` one.

        Raises:
            KeyError: There is no message with that UID.
        """
        message = self.writable(uid)
        wanted = tuple(sorted(set(labels)))
        if wanted != tuple(sorted(message.labels)):
            message.labels = wanted
            self._touch(message, "labels", but)

    def _touch(self, message: StoredMessage, change: Change, but: Listener | None) -> None:
        self.highest_modseq += 1
        message.modseq = self.highest_modseq
        for listener in list(self.listeners):
            if listener is not but:
                listener.on_flags((message.uid,))
        self._observe(change, (message,))

    def _observe(self, change: Change, messages: Sequence[StoredMessage]) -> None:
        for observer in list(self.observers):
            observer(self, change, messages)

    def _note_keywords(self, flags: Iterable[str]) -> None:
        known = {keyword.lower() for keyword in self.keywords}
        self.keywords += sorted(flag for flag in flags if not flag.startswith("\\") and flag.lower() not in known)

    def writable(self, uid: int) -> StoredMessage:
        """The stored message itself, for an edit.

        Raises:
            KeyError: There is no message with that UID.
        """
        return self[uid]

    def change_uidvalidity(self, uidvalidity: int | None = None, *, disconnect: bool = True) -> int:
        """Give the mailbox a new UIDVALIDITY and return it; the UIDs stay, as after a restored backup.

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

    def renumber(self, uidvalidity: int | None = None, *, first_uid: int = 1) -> int:
        """Give every message a new UID, in the same order, under a new UIDVALIDITY, which is returned."""
        messages = list(self)
        now = [message.save_date for message in messages]
        self._messages = {}
        self.uidnext = first_uid
        for message, saved in zip(messages, now, strict=True):
            uid = self._next_uid()
            self._messages[uid] = message.copy(uid, message.modseq, saved)
        self.uids = array("I", self._messages)
        return self.change_uidvalidity(uidvalidity)

    def rewind_uidnext(self, uidnext: int) -> None:
        """Lose what has this UID or a higher one and give these UIDs to what comes, under the same UIDVALIDITY.

        No server may; seen at GMX. Sessions that have the mailbox selected get BYE.
        """
        self.close_sessions("Mailbox was restored")
        self.expunge(uid for uid in self.uids if uid >= uidnext)
        self.uidnext = uidnext

    def forget_expunges(self) -> None:
        """Lose the history of expunged UIDs, as servers do after a while: VANISHED names all that are not there."""
        self.vanished.clear()
        self.history_from = self.highest_modseq + 1

    def vanished_since(self, modseq: int) -> Sequence[int]:
        """UIDs that were expunged after a mod-sequence, ascending; without the history all that are not there."""
        if modseq < self.history_from - 1:
            there = set(self.uids)
            return [uid for uid in range(1, self.uidnext) if uid not in there]
        return sorted({uid for changed, uid in self.vanished if changed > modseq})

    def close_sessions(self, text: str) -> None:
        """Say BYE to every session that has the mailbox selected."""
        for listener in list(self.listeners):
            listener.on_close(text)

    def subscribe_listener(self, listener: Listener) -> None:
        """Start telling a listener of edits."""
        self.listeners.append(listener)

    def unsubscribe_listener(self, listener: Listener) -> None:
        """Stop telling a listener of edits."""
        if listener in self.listeners:
            self.listeners.remove(listener)

    def _next_uid(self) -> int:
        uid = self.uidnext
        self.uidnext += 1
        return uid

    def _store(self, raw: bytes, flags: frozenset[str], when: datetime | None, labels: tuple[str, ...]) -> int:
        uid = self._next_uid()
        self.highest_modseq += 1
        self._note_keywords(flags)
        self._messages[uid] = StoredMessage(
            uid,
            ParsedContent(bytes(raw)),
            flags=flags,
            internal_date=when or arrival_of_uid(uid),
            modseq=self.highest_modseq,
            thread_id=f"T{uid:x}",
            labels=labels,
        )
        return uid

    def _add_uids(self, added: list[int]) -> None:
        grown = array("I", self.uids)
        grown.extend(added)
        self.uids = grown
        for listener in list(self.listeners):
            listener.on_append()
        if self.observers:
            self._observe("new", [self[uid] for uid in added])
