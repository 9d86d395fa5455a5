"""The contract of an operation: what a run does with its messages, batch by batch, on the connections of its lanes.

An operation is a value. For each batch that reaches a connection `begin` makes a `Work`, which is performed once, or
again on another connection where the first one ended for reasons of our own.

Invariants:

- A UID that has an outcome in this run is not touched again, whatever a layer of the middleware asks for.
- When `perform` returns or raises (unless it is cancelled), what it did has its outcome in the ledger.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import NamedTuple, Protocol

from imapipe.models.batch import Batch, BatchResult
from imapipe.net.command import FetchCommand
from imapipe.net.connection import Connection
from imapipe.pipeline.access import MailboxAccess
from imapipe.pipeline.books import Books
from imapipe.pipeline.delivery.flight import Gathering
from imapipe.pipeline.delivery.inbox import Inbox
from imapipe.pipeline.ledger import Ledger
from imapipe.pipeline.operation.remainders import Remainders
from imapipe.wire.command.fetch import Fetch

Observe = Callable[[Connection, FetchCommand], float]
"""Called with each command that got its tagged reply; gives the seconds that the server worked on it."""


class Workbench(NamedTuple):
    """What the works of a run share.

    Attributes:
        access: The way to further connections with the mailbox open.
        connections: How many the run may have.
        ledger: The outcomes so far.
        inbox: Where messages are handed over.
        books: What is counted.
        remainders: What came of messages in the middle of which a connection died.
        today: The day on which relative dates of the search were resolved.
    """

    access: MailboxAccess
    connections: int
    ledger: Ledger
    inbox: Inbox
    books: Books
    remainders: Remainders
    today: date


class Work(Protocol):
    """One call for a batch, on one connection or on several after each other."""

    @property
    def is_unfinished(self) -> bool:
        """There is something to do, and it was not done without an error."""

    @property
    def was_our_doing(self) -> bool:
        """The connection ended after we had not read from it for long, or had sent more in one line than it bears."""

    async def perform(self, connection: Connection, gathering: Gathering | None) -> None:
        """Do it, on a connection that has the mailbox open.

        Args:
            connection: The connection.
            gathering: Where messages are to be given out in whole batches.

        Raises:
            ImapipeError: What stopped it. What was reached before has its outcome.

        Cancelling it ends the connection if it was in the middle of an answer.
        """

    def result(self) -> BatchResult:
        """What became of the batch so far."""


class Operation(Protocol):
    """What is done with the messages of a run."""

    @property
    def opens(self) -> bool:
        """Whether the mailbox must be open."""

    @property
    def writes(self) -> bool:
        """Whether the mailbox must be open for writing."""

    @property
    def needs(self) -> frozenset[str]:
        """The capabilities without which it cannot be done."""

    @property
    def items(self) -> frozenset[str]:
        """What each message brings: the names of FETCH items, and TEXT where the parts that are text come."""

    @property
    def max_uid_text_bytes(self) -> int:
        """How long the text of the UIDs in one command may be."""

    @property
    def asks_ahead(self) -> Fetch | None:
        """What may be asked of messages before their batch is begun; None where that would not be all, or too much."""

    def describe(self) -> str:
        """The operation in words that stay the same: a part of the job's fingerprint."""

    def begin(self, batch: Batch, bench: Workbench, observe: Observe) -> Work:
        """The work on one batch."""
