"""What is known of mailboxes without opening them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

# As they are, and as `wire.mailbox_name` escapes them.
_WILDCARD: Final = re.compile("[*%]")
_UNSENDABLE: Final = re.compile("[\0\r\n\uf700\uf70a\uf70d]")


@dataclass(frozen=True, slots=True)
class MailboxStatus:
    """The answer to STATUS (RFC 9051 §6.3.11). A number that was not asked for, or not given, is None.

    Attributes:
        name: The mailbox.
        messages: How many messages it holds.
        uidnext: The UID the next message will have.
        uidvalidity: UIDVALIDITY.
        unseen: Messages without \\Seen.
        deleted: Messages with \\Deleted.
        size: Their total size in bytes (RFC 8438).
        highest_modseq: HIGHESTMODSEQ (RFC 7162).
        mailbox_id: MAILBOXID (RFC 8474).
    """

    name: str
    messages: int | None = None
    uidnext: int | None = None
    uidvalidity: int | None = None
    unseen: int | None = None
    deleted: int | None = None
    size: int | None = None
    highest_modseq: int | None = None
    mailbox_id: str | None = None

    @classmethod
    def from_items(cls, name: str, items: Mapping[str, int | str]) -> MailboxStatus:
        """Read the items of a STATUS response."""

        def number(key: str) -> int | None:
            value = items.get(key)
            return value if isinstance(value, int) else None

        mailbox_id = items.get("MAILBOXID")
        return cls(
            name,
            messages=number("MESSAGES"),
            uidnext=number("UIDNEXT"),
            uidvalidity=number("UIDVALIDITY"),
            unseen=number("UNSEEN"),
            deleted=number("DELETED"),
            size=number("SIZE"),
            highest_modseq=number("HIGHESTMODSEQ"),
            mailbox_id=str(mailbox_id) if mailbox_id is not None else None,
        )


@dataclass(frozen=True, slots=True)
class MailboxEntry:
    """One mailbox of a LIST answer (RFC 9051 §7.3.1).

    Attributes:
        name: Its name, decoded; with the spelling of the server, where that is an unusual one
            (`wire.mailbox_name.MailboxName`).
        delimiter: What separates the levels of the name, or None where it is flat; so is one of several mailboxes that
            only their delimiters tell apart, such as `a/b` and `a.b`.
        attributes: Such as `\\Noselect`, `\\HasChildren`, `\\Sent`.
        status: Its STATUS, where that was asked for.
    """

    name: str
    delimiter: str | None
    attributes: frozenset[str]
    status: MailboxStatus | None = None

    @property
    def word(self) -> str:
        """What names it, and no other mailbox, for `pool.each(…)` and `exclude=`: `*` and `%` stand in brackets."""
        return _WILDCARD.sub(r"[\g<0>]", str(self.name))

    @property
    def is_selectable(self) -> bool:
        """Whether it can hold messages, and has a name that a command can carry (no NUL, CR or LF)."""
        if _UNSENDABLE.search(self.name):
            return False
        return not {attribute.lower() for attribute in self.attributes} & {"\\noselect", "\\nonexistent"}

    @property
    def is_subscribed(self) -> bool:
        """Whether it is subscribed, as far as the server tells (RFC 5258)."""
        return "\\subscribed" in {attribute.lower() for attribute in self.attributes}

    @property
    def special_use(self) -> str | None:
        """Its role (RFC 6154), such as `\\Sent`, or None."""
        roles = {"\\all", "\\archive", "\\drafts", "\\flagged", "\\junk", "\\sent", "\\trash", "\\important"}
        return next((a for a in sorted(self.attributes) if a.lower() in roles), None)

    def with_status(self, status: MailboxStatus) -> MailboxEntry:
        """The same entry with its STATUS."""
        return replace(self, status=status)


def with_own_places(entries: Iterable[MailboxEntry]) -> list[MailboxEntry]:
    """The same mailboxes; those whose levels are alike, since only their delimiters differ, count as flat.

    A server may tell another delimiter for each mailbox: `a/b` and `a.b` would be one folder.
    """
    listed = list(entries)
    count = Counter(map(_levels, listed))
    return [replace(each, delimiter=None) if count[_levels(each)] > 1 else each for each in listed]


def _levels(entry: MailboxEntry) -> tuple[str, ...]:
    return tuple(entry.name.split(entry.delimiter)) if entry.delimiter else (str(entry.name),)
