"""The contract of a source: which messages a run is for.

A source is a value. It opens the mailbox in the way it needs and says what is to be done; it fetches nothing.

Invariants:

- UIDs that come from an earlier time carry the UIDVALIDITY under which they were seen, and where it is known the cursor
  of that time; a source that has such UIDs opens the mailbox with both.
- UIDs that the server gave are told to `MailboxAccess.found`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple, Protocol

from imapipe.net.connection import Connection
from imapipe.pipeline.access import MailboxAccess
from imapipe.pipeline.memory import Memory
from imapipe.pipeline.source.search_store import SearchStore
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.response.note import Note
from imapipe.wire.search_key import SearchKey
from imapipe.wire.uid_set import UidSet


class Question(NamedTuple):
    """What a source may know of the run.

    Attributes:
        account: `user@host:port`.
        mailbox: The name of the mailbox.
        search: Which messages, as far as the source searches.
        today: The day from which relative dates count.
        search_store: Where answers to searches are remembered, or None.
        memory: What knows earlier runs, or None.
        save: Have the server save what it finds, for a search within it (RFC 5182).
        ahead: What may be asked of messages before the run has begun, or None.
    """

    account: str
    mailbox: str
    search: SearchKey
    today: date
    search_store: SearchStore | None = None
    memory: Memory | None = None
    save: bool = False
    ahead: Fetch | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a source found.

    Attributes:
        uids: What is to be done.
        exists: How many messages the mailbox holds.
        unaccounted: Messages that the mailbox holds by EXISTS and that a search for all did not find.
        notes: What of the answer was passed over: where there is one, a message may be missing.
    """

    uids: UidSet
    exists: int
    unaccounted: int = 0
    notes: Mapping[Note, int] = field(default_factory=dict)


class Source(Protocol):
    """Says which messages a run is for."""

    @property
    def is_whole(self) -> bool:
        """Whether what it finds is, with what earlier runs did, all that the search can find."""

    async def find(self, connection: Connection, access: MailboxAccess, question: Question) -> Found:
        """Open the mailbox and find them. Called again on another connection where the first one ends.

        Raises:
            UidValidityChanged: UIDs of an earlier time mean other messages now.
            CapabilityMissing: The search needs what the server does not offer.
            CommandNo, CommandBad, Throttled: The server refused.
            ConnectionLost, CommandTimeout, ProtocolError: The connection ended.
        """
