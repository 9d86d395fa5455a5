"""What each step of a change needs, and what comes of it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
from datetime import date

from imapipe.errors import ProtocolError
from imapipe.journal.entry import NO_UIDS, Job
from imapipe.journal.journal import Journal
from imapipe.models.batch import Failure
from imapipe.models.message import Message
from imapipe.net.connection import Connection
from imapipe.pipeline.access import MailboxAccess
from imapipe.pipeline.source.find import still_there
from imapipe.pipeline.source.values import fetch_values
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.command.store import FlagChange
from imapipe.wire.response.note import Note, count_notes
from imapipe.wire.uid_set import UidSet

ONLY_MARKED = Note(
    "only-marked",
    "no UIDPLUS: messages were marked with \\Deleted and not removed, which is left to you",
)
_KNOWN_BY = Fetch("internal_date", "size", header_fields=("Message-ID",))
_KEY_BYTES = 9


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

    async def remove(self, uids: UidSet) -> UidSet:
        r"""Remove messages here; gives those that were only marked, because the server cannot do more safely."""
        await self.connection.uid_store(uids, FlagChange.ADD, [r"\Deleted"])
        if not self.connection.offers("UIDPLUS"):
            count_notes(self.notes, [ONLY_MARKED])
            return uids
        await self.connection.uid_expunge(uids)
        return NO_UIDS


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of messages."""

    done: UidSet = NO_UIDS
    vanished: UidSet = NO_UIDS
    failed: tuple[Failure, ...] = ()


async def read_keys(connection: Connection, uids: UidSet) -> dict[int, str]:
    """What messages of the open mailbox are known by, wherever they go: EMAILID, or Message-ID, date and size.

    Raises as `fetch_values` does.
    """
    if connection.offers("OBJECTID"):
        return await fetch_values(connection, uids, Fetch("email_id"), lambda message: _key(message.email_id.encode()))
    return await fetch_values(connection, uids, _KNOWN_BY, _key_of)


def _key_of(message: Message) -> str:
    date = message.internal_date
    known = b"\0".join(
        (
            b" ".join(message.headers.raw.split()),
            str(int(date.timestamp()) if date is not None else 0).encode(),
            str(message.size).encode(),
        )
    )
    return _key(known)


def _key(known: bytes) -> str:
    return base64.b64encode(hashlib.blake2b(known, digest_size=_KEY_BYTES).digest()).decode()


def failures(uids: Iterable[int], reason: str, detail: str) -> tuple[Failure, ...]:
    """The same failure of several messages."""
    return tuple(Failure(uid, reason, detail) for uid in uids)


async def target_numbers(connection: Connection, target: str) -> tuple[int, int]:
    """UIDVALIDITY and UIDNEXT of the mailbox where messages go.

    Raises:
        CommandNo: There is none.
        ProtocolError: The server does not tell, so that after a crash nobody could know what it did.
    """
    status = await connection.status(target, ("UIDVALIDITY", "UIDNEXT"))
    if status.uidvalidity is None or status.uidnext is None:
        raise ProtocolError("STATUS does not tell UIDVALIDITY and UIDNEXT of the mailbox where the messages are to go")
    return status.uidvalidity, status.uidnext
