r"""Which mailbox of another account is the place for which mailbox of this one. Pure: from both LISTs.

INBOX is INBOX. A mailbox for a special use (RFC 6154) goes into the one for that use, whatever the two are called, and
is made for that use where there is none. Of other names the levels stay: they get the namespace prefix and the
delimiter of the target.

Invariants:

- No two mailboxes of the source have one place, unless whoever maps them says so.
- The same two accounts give the same places again after the mailboxes were made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from imapipe.models.mailbox import MailboxEntry

INBOX: Final = "INBOX"
_USES: Final = ("\\Sent", "\\Drafts", "\\Junk", "\\Trash", "\\Archive")
# These show messages of other mailboxes (RFC 6154 §2).
_VIEWS: Final = frozenset(("\\All", "\\Flagged", "\\Important"))
_ALL: Final = "\\All"
# Of Gmail's own labels those that are places; the others are views.
_LABEL_USES: Final = {"\\Sent": "\\Sent", "\\Draft": "\\Drafts", "\\Trash": "\\Trash", "\\Spam": "\\Junk"}
_LABEL_VIEWS: Final = frozenset(("\\Starred", "\\Important", "\\Muted"))
_CONTROL: Final = re.compile("[\0-\x1f\x7f]")
# What one server or another refuses in a name.
_REFUSED: Final = re.compile(r"[.*%~#&\\/\"^|<>:?]")
_STAND_IN: Final = "_"


@dataclass(frozen=True, slots=True)
class Folder:
    r"""A place for messages in another account.

    Attributes:
        name: The name of the mailbox.
        special_use: What it is to be made for where it is missing, such as `\Sent`; "" is nothing.
        subscribe: Whether to subscribe to it; None only where it has to be made.
        plain_name: The name to use where the server refuses to make `name`; "" where there is no other.
    """

    name: str
    special_use: str = ""
    subscribe: bool | None = None
    plain_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What is known of the mailboxes of an account.

    Attributes:
        entries: All of them.
        prefix: What the names of a user's own mailboxes begin with, such as `INBOX.`.
        delimiter: What separates levels.
        subscribed: The names that are subscribed to.
        foreign: What the names of other users' and of shared mailboxes begin with.
        is_gmail: Its mailboxes are labels.
    """

    entries: Sequence[MailboxEntry]
    prefix: str = ""
    delimiter: str = "/"
    subscribed: Collection[str] = ()
    foreign: Sequence[str] = ()
    is_gmail: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderMap:
    """The places for the mailboxes of an account.

    Attributes:
        folders: By the name of the mailbox.
        left_out: Mailboxes that show messages of other mailboxes, or are of somebody else, as words for `exclude=`
            (`MailboxEntry.word`): to be left out of the job, unless they are wanted.
        all_mail: At Gmail, the mailbox in which every message is once; its messages go where their labels say.
        labels: The mailboxes of Gmail's own labels.
    """

    folders: Mapping[str, Folder]
    left_out: Sequence[str] = ()
    all_mail: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def place_of(self, mailbox: str) -> Folder:
        """The place for a mailbox; one that is not known keeps its name."""
        return self.folders.get(mailbox) or Folder(mailbox)

    def places_of(self, labels: Iterable[str]) -> list[Folder]:
        """The places for a message of All Mail: one for each label, INBOX first; that of All Mail where it has none."""
        names = [self.labels.get(label, label) for label in labels if label not in _LABEL_VIEWS]
        ordered = sorted(dict.fromkeys(names), key=lambda name: (name != INBOX, name not in self.labels.values(), name))
        return [self.place_of(name) for name in ordered] or [self.place_of(self.all_mail)]


def match_folders(source: Side, target: Side, renamed: Mapping[str, str] | None = None) -> FolderMap:
    """Find the places.

    Args:
        source: Where the messages are.
        target: Where they are to be.
        renamed: Places that are decided, by the name of the mailbox.
    """
    return _Matching(source, target, renamed or {}).result()


class _Matching:
    def __init__(self, source: Side, target: Side, renamed: Mapping[str, str]) -> None:
        self._source = source
        self._target = target
        self._renamed = renamed
        self._there = {str(entry.name) for entry in target.entries}
        self._use_there = _by_use(target.entries)
        self._use_here = _by_use(source.entries)
        self._taken = set(renamed.values())
        self._folders: dict[str, Folder] = {}

    def result(self) -> FolderMap:
        entries = sorted((entry for entry in self._source.entries if entry.is_selectable), key=lambda each: each.name)
        for take in (self._as_said, self._as_inbox, self._by_use, self._by_name):
            for entry in entries:
                if entry.name not in self._folders and (folder := take(entry)) is not None:
                    self._taken.add(folder.name)
                    self._folders[str(entry.name)] = folder
        for name, folder in self._folders.items():
            self._folders[name] = replace(folder, plain_name=self._plain(folder.name))
        all_mail = self._use_here.get(_ALL) if self._source.is_gmail else None
        labels = {label: str(self._use_here[use].name) for label, use in _LABEL_USES.items() if use in self._use_here}
        return FolderMap(
            folders=self._folders,
            left_out=[entry.word for entry in entries if self._is_left_out(entry)],
            all_mail=str(all_mail.name) if all_mail is not None else "",
            labels={"\\Inbox": INBOX, **labels} if self._source.is_gmail else {},
        )

    def _is_left_out(self, entry: MailboxEntry) -> bool:
        name = str(entry.name)
        if name in self._renamed or name.startswith("\\"):
            # The latter would be taken for a special use, and speak of another.
            return False
        is_view = entry.special_use in _VIEWS and not self._source.is_gmail
        return is_view or any(name.startswith(prefix) for prefix in self._source.foreign)

    def _as_said(self, entry: MailboxEntry) -> Folder | None:
        name = self._renamed.get(str(entry.name))
        return self._folder(entry, name) if name else None

    def _as_inbox(self, entry: MailboxEntry) -> Folder | None:
        return self._folder(entry, INBOX) if entry.name == INBOX else None

    def _by_use(self, entry: MailboxEntry) -> Folder | None:
        use = self._use_for(entry)
        if not use or self._use_here.get(entry.special_use or "") is not entry:
            return None
        there = self._use_there.get(use)
        if there is not None:
            # Two uses of the source, such as everything and the archive, may have one mailbox there.
            return None if there.name in self._taken else self._folder(entry, str(there.name))
        levels = self._levels(entry)
        parents = {str(other.name) for other in self._source.entries if not other.is_selectable}
        if entry.delimiter and str(entry.name).rpartition(entry.delimiter)[0] in parents:
            # Gmail's are below what is no mailbox.
            levels = levels[-1:]
        if use == "\\Archive" and entry.special_use == _ALL:
            levels = ["Archive"]
        if self._name(levels) in self._taken:
            return None
        return self._folder(entry, self._name(levels), special_use=use)

    def _use_for(self, entry: MailboxEntry) -> str:
        """The special use that a mailbox is to have there."""
        if entry.special_use == _ALL and self._source.is_gmail:
            return _ALL if self._target.is_gmail else "\\Archive"
        return entry.special_use if entry.special_use in _USES else ""

    def _by_name(self, entry: MailboxEntry) -> Folder:
        *parents, last = self._levels(entry)
        name = self._free(lambda ending: self._name([*parents, last + ending]))
        return self._folder(entry, name)

    def _levels(self, entry: MailboxEntry) -> list[str]:
        name = str(entry.name)
        prefix = self._source.prefix
        if prefix and name.startswith(prefix) and name != prefix:
            name = name[len(prefix) :]
        return name.split(entry.delimiter) if entry.delimiter else [name]

    def _name(self, levels: Iterable[str]) -> str:
        delimiter = self._target.delimiter
        clean = [_CONTROL.sub(_STAND_IN, level).replace(delimiter, _STAND_IN) or _STAND_IN for level in levels]
        return self._target.prefix + delimiter.join(clean)

    def _free(self, name: Callable[[str], str]) -> str:
        """The first of the names that nobody has."""
        number = 1
        while name(_ending(number)) in self._taken or name(_ending(number)).upper() == INBOX:
            number += 1
        return name(_ending(number))

    def _folder(self, entry: MailboxEntry, name: str, *, special_use: str = "") -> Folder:
        subscribe = entry.name in self._source.subscribed and name not in self._target.subscribed
        return Folder(name, special_use, subscribe)

    def _plain(self, name: str) -> str:
        if name in self._there:
            return ""
        prefix, delimiter = self._target.prefix, self._target.delimiter
        levels = [_REFUSED.sub(_STAND_IN, level) for level in name.removeprefix(prefix).split(delimiter)]
        plain = prefix + delimiter.join(levels)
        if plain == name:
            return ""
        free = self._free(lambda ending: plain + ending)
        self._taken.add(free)
        return free


def _by_use(entries: Iterable[MailboxEntry]) -> dict[str, MailboxEntry]:
    """The first mailbox of each special use."""
    found: dict[str, MailboxEntry] = {}
    for entry in entries:
        if entry.is_selectable and entry.special_use:
            found.setdefault(entry.special_use, entry)
    return found


def _ending(number: int) -> str:
    return "" if number == 1 else f" ({number})"
