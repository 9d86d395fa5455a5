"""What each step of a change needs, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
from datetime import date

from imapipe.errors import CommandBad, ProtocolError
from imapipe.journal.entry import NO_UIDS, Job
from imapipe.journal.journal import Journal
from imapipe.models.batch import Failure
from imapipe.net.connection import Connection
from imapipe.pipeline.access import MailboxAccess
from imapipe.pipeline.source.find import still_there
from imapipe.wire.command.store import FlagChange
from imapipe.wire.response.note import Note, count_notes
from imapipe.wire.uid_set import UidSet

DELETED = r"\Deleted"
ONLY_MARKED = Note(
    "only-marked",
    "no UIDPLUS: messages were marked with \\Deleted and not removed, which is left to you",
)


@dataclass(frozen=True, slots=True)
class Step:
    """Where a change is made, and where it is written down.

    Attributes:
        connection: A connection with the mailbox open for writing.
        access: Opens it again.
        journal: What is written down.
        today: The day from which relative dates count.
        notes: What a report is to tell.
    """

    connection: Connection
    access: MailboxAccess
    journal: Journal
    today: date
    notes: MutableMapping[Note, int]

    @property
    def job(self) -> Job:
        """What the journal is of."""
        job = self.journal.story.job
        assert job is not None
        return job

    async def there(self, uids: UidSet) -> UidSet:
        """Those of some messages that are in the mailbox."""
        return await still_there(self.connection, uids, self.today) if uids else uids

    @property
    def expunged(self) -> int:
        """How many messages the server has told to be gone, for `gone`."""
        selected = self.connection.selected
        return selected.expunged if selected is not None else 0

    async def gone(self, uids: UidSet, expunged: int) -> UidSet:
        """Those of some messages that went since that many were expunged."""
        return NO_UIDS if self.expunged == expunged else uids - await self.there(uids)

    async def mark(self, uids: UidSet) -> None:
        r"""Mark messages with `\Deleted`."""
        await self.connection.uid_store(uids, FlagChange.ADD, [DELETED])

    async def expunge(self, uids: UidSet) -> UidSet:
        """Remove messages that are marked; gives those that stay so, because the server cannot do more safely."""
        if not self.connection.offers("UIDPLUS"):
            count_notes(self.notes, [ONLY_MARKED] * len(uids))
            return uids
        await self.connection.uid_expunge(uids)
        return NO_UIDS


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of messages."""

    done: UidSet = NO_UIDS
    vanished: UidSet = NO_UIDS
    failed: tuple[Failure, ...] = ()

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(self.done | other.done, self.vanished | other.vanished, self.failed + other.failed)

    def and_also(self, done: UidSet, vanished: UidSet) -> Outcome:
        """The same, and more messages."""
        return self + Outcome(done, vanished)


def failures(uids: Iterable[int], reason: str, detail: str) -> tuple[Failure, ...]:
    """The same failure of several messages."""
    return tuple(Failure(uid, reason, detail) for uid in uids)


async def target_numbers(connection: Connection, target: str) -> tuple[int, int]:
    """UIDVALIDITY and UIDNEXT of the mailbox where messages go; it is open behind this where STATUS does not tell.

    Raises:
        CommandNo: There is none.
        ProtocolError: The server does not tell, so that after a crash nobody could know what it did.
    """
    try:
        status = await connection.status(target, ("UIDVALIDITY", "UIDNEXT"))
    except CommandBad:
        if not connection.is_open:
            raise
    else:
        if status.uidvalidity is not None and status.uidnext is not None:
            return status.uidvalidity, status.uidnext
    selected = await connection.examine(target)
    if selected.uidnext is None:
        raise ProtocolError("neither STATUS nor EXAMINE tells UIDNEXT of the mailbox where the messages are to go")
    return selected.uidvalidity, selected.uidnext
