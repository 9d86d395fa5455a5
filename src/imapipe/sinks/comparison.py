"""What differs between the messages of two accounts: told by their content, in bounded memory.

The messages of both sides go into a table in a temporary file, which SQLite removes. Messages are the same when their
bytes are; of twins as many are expected as there are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple

from imapipe.models.document import Document
from imapipe.models.report import shown

_BATCH: Final = 200
_EXAMPLES: Final = 20
_COLUMNS: Final = ("mailbox", "messages", "there", "missing", "doubled", "dates", "flags", "others")

# Of each content: how often it is here and there. Gmail keeps one of several messages that are the same.
_CONTENTS: Final = """
create temp table contents as
select folder, digest, iif(:merges, max(side = 0), sum(side = 0)) as here, sum(side = 1) as there,
    sum(side = 0) as twins
from messages group by folder, digest
"""
_SUMS: Final = """
select folder, sum(max(here - there, 0)), sum(iif(here > 0, max(there - here, 0), 0)), sum(iif(here = 0, there, 0))
from contents group by folder
"""
_COUNTS: Final = "select folder, side, count(*), sum(size) from messages group by folder, side"
# Of contents that are as often here as there: of each value, how often it is here and not there.
_VALUES: Final = """
select folder, sum(max(its.here - its.there, 0)) from (
    select folder, digest, sum(side = 0) as here, sum(side = 1) as there
    from messages group by folder, digest, {column}
) as its join contents using (folder, digest)
where contents.twins = contents.there and contents.there > 0 group by folder
"""
_MISSING: Final = """
select folder, mailbox, uid from messages join contents using (folder, digest)
where side = 0 and here > there order by folder, mailbox, uid limit :limit
"""


class Seen(NamedTuple):
    """A message of one side.

    Attributes:
        folder: The mailbox of the target that it is in, or belongs into.
        mailbox: The mailbox that it was read from.
        uid: Its UID there.
        digest: Names its content.
        size: Its bytes.
        arrived: Its INTERNALDATE, in seconds since 1970.
        flags: Its flags.
    """

    folder: str
    mailbox: str
    uid: int
    digest: bytes
    size: int
    arrived: int
    flags: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderDifferences(Document):
    """What differs in one mailbox of the target.

    Attributes:
        messages: How many messages belong into it.
        messages_there: How many it holds.
        total_bytes: Their bytes.
        total_bytes_there: The bytes of those that it holds.
        missing: Messages that belong into it and are not there.
        doubled: Messages that are there more often than in the source.
        dates: Messages with another INTERNALDATE than in the source.
        flags: Messages with other flags than in the source.
        others: Messages that are there and not in the source; that is nothing wrong.
    """

    derived: ClassVar[Sequence[str]] = ("equal",)

    messages: int = 0
    messages_there: int = 0
    total_bytes: int = 0
    total_bytes_there: int = 0
    missing: int = 0
    doubled: int = 0
    dates: int = 0
    flags: int = 0
    others: int = 0

    @property
    def equal(self) -> bool:
        """Whether all that belongs into it is there once, as it was."""
        return not (self.missing or self.doubled or self.dates or self.flags)


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingMessage(Document):
    """A message that is not in the target.

    Attributes:
        mailbox: Where it is in the source.
        uid: Its UID there.
    """

    mailbox: str
    uid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyDifferences(Document):
    """What differs between what was copied and its copies.

    Attributes:
        folders: By the name of the mailbox of the target.
        missing: Examples of what is missing.
        errors: What could not be read, by the name of the mailbox; nothing can be said of that.
    """

    derived: ClassVar[Sequence[str]] = ("complete",)

    folders: Mapping[str, FolderDifferences]
    missing: Sequence[MissingMessage] = ()
    errors: Mapping[str, str]

    @property
    def complete(self) -> bool:
        """Whether everything was read, and nothing differs."""
        return not self.errors and all(each.equal for each in self.folders.values())

    def table(self) -> str:
        """For people: a line for each mailbox that is not equal, and one on all of them."""
        lines = []
        for name, each in self.folders.items():
            numbers = (each.messages, each.messages_there, each.missing, each.doubled, each.dates, each.flags)
            if not each.equal:
                texts = [
                    f"{label} {number:,}" for label, number in zip(_COLUMNS[1:], (*numbers, each.others), strict=True)
                ]
                lines.append(f"{shown(name)}: {', '.join(texts)}")
        lines += [f"{shown(each.mailbox)}: UID {each.uid} is missing" for each in self.missing]
        lines += [f"{shown(name)}: {shown(text)}" for name, text in self.errors.items()]
        count = sum(each.messages for each in self.folders.values())
        end = "all are there, once, with their flags and dates" if self.complete else "the copies are not the same"
        return "\n".join([*lines, f"compared {count:,} messages in {len(self.folders):,} mailboxes: {end}"])


class Comparison:
    """Collects messages and compares them; made by `comparison`."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._waiting: list[tuple[int, Seen]] = []

    def here(self, message: Seen) -> None:
        """A message of the source."""
        self._add(0, message)

    def there(self, message: Seen) -> None:
        """A message of the target."""
        self._add(1, message)

    def result(self, folders: Sequence[str], errors: Mapping[str, str], *, merges: bool) -> CopyDifferences:
        """What differs.

        Args:
            folders: The mailboxes of the target, in their order.
            errors: What could not be read.
            merges: The target keeps one of several messages that are the same.
        """
        self._flush()
        found: dict[str, dict[str, int]] = {name: {} for name in folders}
        run = self._database.execute
        for folder, side, count, size in run(_COUNTS):
            ending = "_there" if side else ""
            found[folder] |= {f"messages{ending}": count, f"total_bytes{ending}": size}
        run(_CONTENTS, {"merges": merges})
        for folder, missing, doubled, others in run(_SUMS):
            found[folder] |= {"missing": missing, "doubled": doubled, "others": others}
        for name, column in (("dates", "arrived"), ("flags", "flags")):
            for folder, count in run(_VALUES.format(column=column)):
                found[folder][name] = count
        missing = [MissingMessage(mailbox=name, uid=uid) for _, name, uid in run(_MISSING, {"limit": _EXAMPLES})]
        differences = {name: FolderDifferences(**values) for name, values in found.items()}
        return CopyDifferences(folders=differences, missing=missing, errors=errors)

    def _add(self, side: int, message: Seen) -> None:
        self._waiting.append((side, message))
        if len(self._waiting) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        rows = [(side, *message) for side, message in self._waiting]
        self._waiting.clear()
        self._database.executemany("insert into messages values (?, ?, ?, ?, ?, ?, ?, ?)", rows)


@contextmanager
def comparison() -> Iterator[Comparison]:
    """A comparison; what it has collected is gone at the end of the block."""
    # Without a name it is a temporary file, of which no more is in memory than its pages in use.
    with closing(sqlite3.connect("", isolation_level=None, check_same_thread=False)) as database:
        database.execute("pragma journal_mode = off")
        database.execute("pragma synchronous = off")
        database.execute("create table messages (side, folder, mailbox, uid, digest, size, arrived, flags)")
        yield Comparison(database)
