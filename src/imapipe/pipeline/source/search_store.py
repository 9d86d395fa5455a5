"""What a run asks of a memory for searches, and what proves that an answer still holds.

A search may be answered from memory only while the server says of the mailbox what it said when the answer was
given. That is safe, because a mailbox whose UIDNEXT never falls does not return to a state that it has left (RFC 9051
§2.3.1.1, RFC 7162 §3.1):

- A message that is added raises UIDNEXT for ever, even when it is expunged at once.
- While UIDNEXT stays, nothing is added; so an expunge lowers EXISTS, and nothing can raise it again.
- A change of flags raises HIGHESTMODSEQ for ever.

So equal numbers at two moments mean that nothing happened between them. A UIDNEXT that cannot be one proves nothing.
Where UIDNEXT does fall (seen at GMX), as much can be added as brings all numbers back. So who remembers answers also
remembers the numbers that a mailbox had last, and drops every answer of it when UIDNEXT or HIGHESTMODSEQ is lower. What
went back and came all the way again between two looks leaves no trace in the numbers; the age of an answer bounds that.

Invariant: a state is read *before* the search whose answer is kept under it. What changes meanwhile makes the state
outdated, never the answer wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Protocol

from imapipe.models.cursor import possible_uidnext
from imapipe.net.connection import Connection
from imapipe.wire.search_key import SearchKey
from imapipe.wire.uid_set import UidSet


@dataclass(frozen=True, slots=True)
class SearchQuestion:
    """A search of one mailbox.

    Attributes:
        account: `user@host:port`.
        mailbox: The name of the mailbox.
        criteria: The search as it was written; relative dates are relative.
        day: The day from which they count, where there are any; else None.
    """

    account: str
    mailbox: str
    criteria: SearchKey
    day: date | None = None


@dataclass(frozen=True, slots=True)
class MailboxState:
    """What the server says of a mailbox at one moment.

    Attributes:
        uidvalidity: UIDVALIDITY.
        uidnext: UIDNEXT.
        exists: EXISTS.
        highest_modseq: HIGHESTMODSEQ, or None where the server keeps none.
        mailbox_id: MAILBOXID, or "" where the server tells none.
    """

    uidvalidity: int
    uidnext: int
    exists: int
    highest_modseq: int | None = None
    mailbox_id: str = ""

    @classmethod
    def of(cls, connection: Connection) -> MailboxState | None:
        """The state of the open mailbox, or None where the server says too little for a proof."""
        selected = connection.selected
        if selected is None or not selected.uidvalidity:
            return None
        uidnext = possible_uidnext(selected.uidnext, selected.exists)
        if uidnext is None:
            return None
        if connection.offers("UIDONLY") and "UIDONLY" not in connection.session.enabled:
            # Yahoo then shows the newest 10,000 messages only: an expunge lets another one in, and EXISTS stays.
            return None
        return cls(selected.uidvalidity, uidnext, selected.exists, selected.highest_modseq or None, selected.mailbox_id)


class SearchStore(Protocol):
    """Remembers the answers to searches; `imapipe.SearchCache` is one.

    All methods are called from the event loop and must be quick.
    """

    def recall(self, question: SearchQuestion, state: MailboxState) -> UidSet | None:
        """The answer, if it holds in this state of the mailbox; else None.

        A state below an earlier one of the same mailbox, or with another UIDVALIDITY, ends all answers of the mailbox.
        """

    def remember(self, question: SearchQuestion, state: MailboxState, uids: UidSet) -> None:
        """Keep an answer that was given in this state or a later one."""
