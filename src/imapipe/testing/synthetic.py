"""A mailbox of any size whose messages are made from their UID when asked for.

Invariant: without edits it holds a ``range`` of UIDs and a few dozen templates, whatever its size; the same
arguments give the same messages byte for byte.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from .content import Content, ParsedContent, TemplateContent
from .mailbox import Mailbox
from .messages import make_message
from .stored import FIRST_DATE, StoredMessage

_FLAG_CYCLE: tuple[frozenset[str], ...] = (
    frozenset({"\\Seen"}),
    frozenset({"\\Seen"}),
    frozenset(),
    frozenset({"\\Seen", "\\Answered"}),
    frozenset({"\\Flagged"}),
    frozenset({"\\Seen"}),
    frozenset({"\\Seen", "$Work"}),
    frozenset(),
    frozenset({"\\Seen", "\\Flagged"}),
    frozenset({"\\Seen"}),
)
_KEPT_MADE = 64


class SyntheticMailbox(Mailbox):
    """A mailbox of ``count`` messages that cost no memory.

    Args:
        count: How many messages.
        size: Roughly how many bytes each has; None for a mix of 500 bytes to 50 KB.
        first_uid: UID of the first one.
        step: Distance between UIDs; above 1 there are holes.
        seed: Chooses the content.
        templates: How many different messages there are apart from the UID written into each.
        make: A function from UID to raw message, used instead of templates; it must be deterministic.
        uidvalidity: Its UIDVALIDITY.

    Subject and Message-ID of every message hold its UID as ten digits. Flags repeat every ten UIDs: UIDs
    ending in 2, 4 and 7 are unseen, those ending in 4 and 8 flagged.
    The message with UID n arrived n minutes after the first of 2024, 8:00 UTC.
    """

    def __init__(
        self,
        count: int,
        *,
        size: int | None = 1000,
        first_uid: int = 1,
        step: int = 1,
        seed: int = 0,
        templates: int = 64,
        make: Callable[[int], bytes] | None = None,
        uidvalidity: int = 1_600_000_000,
    ) -> None:
        super().__init__(uidvalidity=uidvalidity, first_uid=first_uid)
        self._range = range(first_uid, first_uid + count * step, step)
        self.uids = self._range
        self.keywords.append("$Work")
        self.uidnext = self._range[-1] + 1 if count else first_uid
        self._make = make
        self._made: OrderedDict[int, ParsedContent] = OrderedDict()
        self._gone: set[int] = set()
        chooser = random.Random(f"synthetic {seed}")
        self._templates = (
            [ParsedContent(make_message(chooser, number=None, size=size)) for _ in range(max(templates, 1))]
            if make is None
            else []
        )
        self._unseen: tuple[int, int] | None = None

    def get(self, uid: int) -> StoredMessage | None:
        """The message with that UID, made anew unless it was edited or appended."""
        message = self._messages.get(uid)
        if message is not None:
            return message
        if uid not in self._range or uid in self._gone:
            return None
        return StoredMessage(
            uid,
            self._content(uid),
            flags=_FLAG_CYCLE[uid % 10],
            internal_date=FIRST_DATE + timedelta(minutes=uid),
            email_id=f"M{uid:010d}",
            thread_id=f"T{uid // 3:010d}",
            gmail_thread_id=1_700_000_000_000_000_000 + uid // 3,
            labels=("\\Inbox", "label é") if uid % 5 == 0 else ("\\Inbox",),
        )

    def flags_of(self, uid: int) -> frozenset[str]:
        """Flags of a message, without making it."""
        message = self._messages.get(uid)
        if message is not None:
            return message.flags
        return _FLAG_CYCLE[uid % 10] if uid in self._range and uid not in self._gone else frozenset()

    def internal_date_of(self, uid: int) -> datetime | None:
        """INTERNALDATE of a message, without making it."""
        message = self._messages.get(uid)
        if message is not None:
            return message.internal_date
        return FIRST_DATE + timedelta(minutes=uid) if uid in self._range and uid not in self._gone else None

    def count_without(self, flag: str) -> int:
        """How many messages lack a flag; kept for ``\\Seen`` until the next edit."""
        if flag != "\\Seen":
            return super().count_without(flag)
        if self._unseen is None or self._unseen[0] != self.highest_modseq:
            self._unseen = (self.highest_modseq, super().count_without(flag))
        return self._unseen[1]

    @property
    def total_size(self) -> int:
        """Sum of all RFC822.SIZE in bytes."""
        if self._make is not None or self._messages or self._gone:
            return super().total_size
        sizes = [template.size for template in self._templates]
        return sum(sizes[uid % len(sizes)] for uid in self._range)

    def expunge(self, uids: Iterable[int]) -> list[int]:
        """Remove messages; from then on the UIDs are held as an array (4 bytes each)."""
        gone = super().expunge(uids)
        self._gone.update(uid for uid in gone if uid in self._range)
        return gone

    def renumber(self, uidvalidity: int | None = None, *, first_uid: int = 1) -> int:
        """Give every message a new UID; from then on all of them are held in memory."""
        given = super().renumber(uidvalidity, first_uid=first_uid)
        self._range = range(0)
        return given

    def writable(self, uid: int) -> StoredMessage:
        """The stored message for an edit; it is kept in memory from then on."""
        message = self[uid]
        self._messages[uid] = message
        return message

    def _content(self, uid: int) -> Content:
        if self._make is None:
            return TemplateContent(self._templates[uid % len(self._templates)], uid)
        made = self._made.get(uid)
        if made is None:
            made = self._made[uid] = ParsedContent(self._make(uid))
            if len(self._made) > _KEPT_MADE:
                self._made.popitem(last=False)
        return made
