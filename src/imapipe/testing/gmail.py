"""An account as Gmail has it: every message once in All Mail, every other mailbox a label.

What Gmail does, as its documentation of IMAP says: a message is in a label's mailbox if and only if it has the label;
COPY adds a label, MOVE changes one, EXPUNGE in a label's mailbox takes that label away (in ``[Gmail]/Trash`` and
``[Gmail]/Spam`` it deletes), flags are of the message, wherever they are set. X-GM-LABELS in a label's mailbox does
not name that label itself. A message that is put in again (APPEND) is no second one: it gets one label more.

Invariant: messages of different mailboxes belong together by ``gmail_id``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from .mailbox import Change, Mailbox
from .mailboxes import Mailboxes
from .stored import StoredMessage

ALL_MAIL = "[Gmail]/All Mail"
_TRASH, _SPAM = "[Gmail]/Trash", "[Gmail]/Spam"
# Mailbox, its label, its special use. Trash and Spam hold what All Mail does not.
_SYSTEM: tuple[tuple[str, str, str], ...] = (
    ("INBOX", "\\Inbox", ""),
    ("[Gmail]/Drafts", "\\Draft", "\\Drafts"),
    ("[Gmail]/Important", "\\Important", "\\Important"),
    ("[Gmail]/Sent Mail", "\\Sent", "\\Sent"),
    ("[Gmail]/Starred", "\\Starred", "\\Flagged"),
)


class GmailMailboxes(Mailboxes):
    """The mailboxes of a Gmail account, for ``Server(GmailMailboxes(), extensions="gmail")``.

    Example::

        account = GmailMailboxes()
        account.deliver(raw, labels=["\\\\Inbox", "Work"])
        account["Work"]        # the same message, under a UID of its own
    """

    def __init__(self) -> None:
        super().__init__()
        self._label_of: dict[str, str] = {}
        self._next_id = 1_700_000_000_000_000_001
        self._next_unknown = -1
        # What is delivered is another message each time.
        self._is_delivering = False
        self._by_content: dict[bytes, int] = {}
        self._busy = False
        self._uids: dict[int, dict[Mailbox, int]] = {}
        for name, label, use in _SYSTEM:
            self._label_of[name] = label
            self.add(name, special_use=use)
        self.add(ALL_MAIL, special_use="\\All")
        self.add(_TRASH, special_use="\\Trash")
        self.add(_SPAM, special_use="\\Junk")
        self.watch(self)

    def deliver(self, raw: bytes, *, labels: Iterable[str] = ("\\Inbox",), flags: Iterable[str] = ()) -> int:
        """Take a message in and return its UID in All Mail; a label that has no mailbox yet gets one."""
        wanted = tuple(labels)
        self._is_delivering = True
        uid = self[ALL_MAIL].append(raw, flags)
        self._is_delivering = False
        self[ALL_MAIL].set_labels(uid, wanted)
        return uid

    def mailbox_of_label(self, label: str) -> str:
        """Name of a label's mailbox."""
        return next((name for name, own in self._label_of.items() if own == label), label)

    # What happens in one mailbox happens in the others.

    def on_name(self, name: str, old: str, mailbox: Mailbox | None) -> None:
        """A label comes, is renamed or goes with its mailbox."""
        if name in (ALL_MAIL, _TRASH, _SPAM):
            return
        if mailbox is None:
            self._relabel(self._label_of.pop(name, name), None)
        elif old:
            before = self._label_of.pop(old, old)
            self._label_of[name] = name
            self._relabel(before, name)
        else:
            self._label_of.setdefault(name, name)

    def on_subscription(self, name: str, subscribed: bool) -> None:
        """Subscriptions are no labels."""

    def on_change(self, name: str, mailbox: Mailbox, change: Change, messages: Sequence[StoredMessage]) -> None:
        """Bring the other mailboxes in line with an edit of one."""
        again: list[int] = []
        for message in messages:
            if change == "new":
                if not self._busy:
                    self._tell_apart(message)
                known = self._uids.setdefault(message.gmail_id, {}).setdefault(mailbox, message.uid)
                again += [message.uid] * (known != message.uid)
            elif change == "expunge" and self._uids.get(message.gmail_id, {}).get(mailbox) == message.uid:
                del self._uids[message.gmail_id][mailbox]
        if self._busy:
            return
        with self._alone():
            # A copy into a label that the message has: Gmail keeps one.
            mailbox.expunge(again)
            for message in messages:
                if change == "new" and message.uid not in again:
                    self._arrived(name, mailbox, message)
                    if "\\Flagged" in message.flags:
                        self._flagged(mailbox, message)
                elif change == "expunge":
                    self._expunged(name, message)
                elif change == "flags":
                    self._flagged(mailbox, message)
                elif change == "labels":
                    self._labelled(name, message)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Edits in here are our own."""
        busy, self._busy = self._busy, True
        try:
            yield
        finally:
            self._busy = busy

    def _arrived(self, name: str, mailbox: Mailbox, message: StoredMessage) -> None:
        whole = self._find(self[ALL_MAIL], message.gmail_id)
        if name in (_TRASH, _SPAM):
            # It leaves everything else.
            self._remove_everywhere(message.gmail_id, but=mailbox)
            message.labels = ()
            if message.gmail_id < 0:
                self._give_id(message)
        elif name == ALL_MAIL:
            self._give_id(message)
        elif whole is None:
            self._give_id(message)
            (uid,) = self[ALL_MAIL].adopt([message])
            self._set_labels(self[ALL_MAIL][uid], {self._label_of[name]})
        else:
            self._set_labels(whole, {*whole.labels, self._label_of[name]})

    def _tell_apart(self, message: StoredMessage) -> None:
        """A message that was put in anew has the number of no other one, unless it is the same."""
        for box, uid in self._uids.get(message.gmail_id, {}).items():
            if (other := box.get(uid)) is not None and other.content is message.content:
                return
        same = 0 if self._is_delivering else self._by_content.get(message.content.raw, 0)
        if self._find(self[ALL_MAIL], same) is None:
            same, self._next_unknown = self._next_unknown, self._next_unknown - 1
        message.gmail_id = message.gmail_thread_id = same

    def _give_id(self, message: StoredMessage) -> None:
        boxes = self._uids.pop(message.gmail_id)
        self._uids[self._next_id] = boxes
        message.gmail_id = message.gmail_thread_id = self._next_id
        self._by_content[message.content.raw] = self._next_id
        self._next_id += 1

    def _expunged(self, name: str, message: StoredMessage) -> None:
        if name in (_TRASH, _SPAM):
            return
        whole = self._find(self[ALL_MAIL], message.gmail_id)
        if name == ALL_MAIL:
            self._remove_everywhere(message.gmail_id, but=None)
        elif whole is not None:
            self._set_labels(whole, set(whole.labels) - {self._label_of[name]})

    def _flagged(self, mailbox: Mailbox, message: StoredMessage) -> None:
        for other in self.values():
            twin = self._find(other, message.gmail_id)
            if twin is not None and other is not mailbox:
                other.set_flags(twin.uid, message.flags)
        whole = self._find(self[ALL_MAIL], message.gmail_id)
        if whole is not None:
            starred = {"\\Starred"} if "\\Flagged" in message.flags else set()
            self._set_labels(whole, (set(whole.labels) - {"\\Starred"}) | starred)

    def _labelled(self, name: str, message: StoredMessage) -> None:
        whole = self._find(self[ALL_MAIL], message.gmail_id)
        if whole is not None:
            own = {self._label_of[name]} if name != ALL_MAIL else set()
            self._set_labels(whole, {*message.labels, *own})

    def _set_labels(self, whole: StoredMessage, labels: set[str]) -> None:
        """Give a message of All Mail these labels, and be it in their mailboxes alone."""
        self[ALL_MAIL].set_labels(whole.uid, labels)
        names = {self.mailbox_of_label(label) for label in labels}
        for name in names:
            if name not in self:
                self.add(name)
        for name, box in list(self.items()):
            if name not in self._label_of:
                continue
            twin = self._find(box, whole.gmail_id)
            if name in names:
                if twin is None:
                    (uid,) = box.adopt([whole])
                    twin = box[uid]
                box.set_labels(twin.uid, labels - {self._label_of[name]})
            elif twin is not None:
                box.expunge([twin.uid])

    def _remove_everywhere(self, gmail_id: int, but: Mailbox | None) -> None:
        for box in self.values():
            twin = self._find(box, gmail_id)
            if twin is not None and box is not but:
                box.expunge([twin.uid])

    def _relabel(self, old: str, new: str | None) -> None:
        with self._alone():
            for message in list(self[ALL_MAIL]):
                if old in message.labels:
                    labels = set(message.labels) - {old} | ({new} if new is not None else set())
                    self._set_labels(message, labels)

    def _find(self, box: Mailbox, gmail_id: int) -> StoredMessage | None:
        uid = self._uids.get(gmail_id, {}).get(box)
        return None if uid is None else box.get(uid)
