"""What became of messages that were put into a mailbox."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from imapipe.models.batch import Failure
from imapipe.models.document import Document


@dataclass(frozen=True, slots=True)
class Appended(Document):
    """What became of one message.

    Attributes:
        uid: Where it is; None where the server does not tell (no UIDPLUS), or it was not taken.
        failure: Why it was not taken, under its place in what was given, from 1; None where it was.
    """

    uid: int | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendReport(Document):
    """What became of all.

    Attributes:
        account: `user@host:port`.
        mailbox: The mailbox.
        uidvalidity: Under which the UIDs are to be read.
        results: One for each message, in the order in which they came.
        sent_bytes: How many bytes of messages were taken.
        retries: How often a group was sent again.
        throttle_waits: Times a group was held back by a limit, ours or the server's.
        elapsed_seconds: How long it took.
        error: What ended it before its end; None where every message was tried.
    """

    derived: ClassVar[Sequence[str]] = ("done", "failed", "complete")

    account: str
    mailbox: str
    uidvalidity: int
    results: tuple[Appended, ...]
    sent_bytes: int
    retries: int
    throttle_waits: int
    elapsed_seconds: float
    error: Exception | None = None

    @property
    def done(self) -> int:
        """Messages that the server took."""
        return sum(result.failure is None for result in self.results)

    @property
    def failed(self) -> int:
        """Messages that it did not."""
        return len(self.results) - self.done

    @property
    def complete(self) -> bool:
        """Whether it took all of them."""
        return self.error is None and not self.failed
