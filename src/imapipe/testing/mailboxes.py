"""All mailboxes of the account, by name; names on the wire (RFC 3501 5.1.3)."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from .mailbox import Change, Mailbox
from .stored import StoredMessage

SEPARATOR = "/"

_ENCODED = re.compile(rb"&([^&-]*+)-")
_RUN = re.compile(r"[^\x20-\x7e]+|&")


def encode_mailbox_name(name: str) -> bytes:
    """A name in modified UTF-7."""

    def encode(match: re.Match[str]) -> str:
        text = match.group()
        if text == "&":
            return "&-"
        data = base64.b64encode(text.encode("utf-16-be")).rstrip(b"=").replace(b"/", b",")
        return "&" + data.decode("ascii") + "-"

    return _RUN.sub(encode, name).encode("ascii")


def decode_mailbox_name(wire: bytes) -> str:
    """A name from modified UTF-7; 8-bit is taken for UTF-8, a broken run stays as it is."""

    def decode(match: re.Match[bytes]) -> bytes:
        run = match.group(1)
        if not run:
            return b"&"
        try:
            data = base64.b64decode(run.replace(b",", b"/") + b"=" * (-len(run) % 4), validate=True)
            return data.decode("utf-16-be").encode("utf-8")
        except ValueError:
            return match.group()

    return _ENCODED.sub(decode, wire).decode("utf-8", "replace")


class Watcher(Protocol):
    """Who wants to know of every mailbox: a session with NOTIFY, the hub of a Gmail account."""

    def on_change(self, name: str, mailbox: Mailbox, change: Change, messages: Sequence[StoredMessage]) -> None:
        """Messages of a mailbox have changed."""

    def on_name(self, name: str, old: str, mailbox: Mailbox | None) -> None:
        """A mailbox came (``old`` empty), was renamed, or went (``mailbox`` None)."""

    def on_subscription(self, name: str, subscribed: bool) -> None:
        """A name was subscribed to, or no longer is."""


class Mailboxes(Mapping[str, Mailbox]):
    """The mailboxes by name. ``INBOX`` is found in any case.

    Attributes:
        subscribed: Names that are subscribed to, whether there is a mailbox or not.
    """

    def __init__(self) -> None:
        self._boxes: dict[str, Mailbox] = {}
        self._next_uidvalidity = 1_600_000_000
        self._watchers: list[Watcher] = []
        self.subscribed: set[str] = set()

    def __getitem__(self, name: str) -> Mailbox:
        return self._boxes[canonical(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._boxes)

    def __len__(self) -> int:
        return len(self._boxes)

    def add(
        self, name: str, mailbox: Mailbox | None = None, *, special_use: str = "", subscribed: bool = True
    ) -> Mailbox:
        """Add a mailbox, an empty one of that special use when none is given.

        Raises:
            ValueError: There is one of that name.
        """
        name = canonical(name)
        if name in self._boxes:
            raise ValueError(f"mailbox {name!r} exists")
        self._next_uidvalidity += 1
        if mailbox is None:
            mailbox = Mailbox(uidvalidity=self._next_uidvalidity, special_use=special_use, subscribed=subscribed)
        mailbox.mailbox_id = f"F{self._next_uidvalidity}"
        self._boxes[name] = mailbox
        if mailbox.subscribed:
            self.subscribed.add(name)
        if self._watchers:
            mailbox.observers.append(self._on_change)
        for watcher in list(self._watchers):
            watcher.on_name(name, "", mailbox)
        return mailbox

    def remove(self, name: str) -> Mailbox:
        """Take a mailbox out; sessions that have it selected get BYE. The name stays subscribed to.

        Raises:
            KeyError: There is none of that name.
        """
        name = canonical(name)
        box = self._boxes.pop(name)
        box.close_sessions("Mailbox was deleted")
        if self._watchers:
            box.observers.remove(self._on_change)
        for watcher in list(self._watchers):
            watcher.on_name(name, "", None)
        return box

    def rename(self, old: str, new: str) -> None:
        """Rename a mailbox and all below it; sessions that have it selected are not told.

        Raises:
            KeyError: There is none of the old name, nor any below it.
            ValueError: There is one of the new name.
        """
        old, new = canonical(old), canonical(new)
        below = old + SEPARATOR
        moved = {name: new + name[len(old) :] for name in self._boxes if name == old or name.startswith(below)}
        if not moved:
            raise KeyError(old)
        if new in self._boxes:
            raise ValueError(f"mailbox {new!r} exists")
        self._boxes = {moved.get(name, name): box for name, box in self._boxes.items()}
        for before, after in moved.items():
            for watcher in list(self._watchers):
                watcher.on_name(after, before, self._boxes[after])

    def subscribe(self, name: str, subscribed: bool = True) -> None:
        """Subscribe to a name, or no longer."""
        name = canonical(name)
        if subscribed:
            self.subscribed.add(name)
        else:
            self.subscribed.discard(name)
        for watcher in list(self._watchers):
            watcher.on_subscription(name, subscribed)

    def watch(self, watcher: Watcher) -> None:
        """Start telling of every edit of every mailbox."""
        if not self._watchers:
            for box in self._boxes.values():
                box.observers.append(self._on_change)
        self._watchers.append(watcher)

    def unwatch(self, watcher: Watcher) -> None:
        """Stop telling; harmless when it was not told."""
        if watcher not in self._watchers:
            return
        self._watchers.remove(watcher)
        if not self._watchers:
            for box in self._boxes.values():
                box.observers.remove(self._on_change)

    def name_of(self, mailbox: Mailbox) -> str:
        """Name of a mailbox, "" when it is not there."""
        return next((name for name, box in self._boxes.items() if box is mailbox), "")

    def _on_change(self, mailbox: Mailbox, change: Change, messages: Sequence[StoredMessage]) -> None:
        name = self.name_of(mailbox)
        for watcher in list(self._watchers):
            watcher.on_change(name, mailbox, change, messages)

    @property
    def all_names(self) -> list[str]:
        """Names of mailboxes and of the levels above them, sorted, INBOX first."""
        names = set(self._boxes)
        names.update(parent for name in self._boxes for parent in parents(name))
        return sorted(names, key=lambda name: (name != "INBOX", name))

    def has_children(self, name: str) -> bool:
        """Whether there is a mailbox below this one."""
        return any(other.startswith(name + SEPARATOR) for other in self._boxes)


def parents(name: str) -> list[str]:
    """Names of the levels above a name, lowest first."""
    levels = name.split(SEPARATOR)
    return [SEPARATOR.join(levels[:count]) for count in range(len(levels) - 1, 0, -1)]


def name_matches(reference: str, pattern: str) -> Callable[[str], bool]:
    """A test for names that a LIST pattern matches."""
    whole = canonical(reference + pattern)
    parts = (".*" if char == "*" else f"[^{SEPARATOR}]*" if char == "%" else re.escape(char) for char in whole)
    compiled = re.compile("".join(parts), re.DOTALL)
    return lambda name: compiled.fullmatch(name) is not None


def canonical(name: str) -> str:
    """``INBOX`` in upper case, every other name as it is."""
    head, separator, tail = name.partition(SEPARATOR)
    return "INBOX" + separator + tail if head.upper() == "INBOX" else name
