"""What a job on all mailboxes of an account would do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from imapipe.models.document import Document
from imapipe.pipeline.findings import JobPlan


@dataclass(frozen=True, slots=True)
class Estimate:
    """How long something takes.

    Attributes:
        bytes_per_second: The speed, where it is known.
        bytes_per_day: The quota, where there is one.
    """

    bytes_per_second: float | None
    bytes_per_day: int | None

    def hours(self, count: int) -> float | None:
        """Hours for so many bytes at the speed."""
        return count / self.bytes_per_second / 3600 if self.bytes_per_second else None

    def days(self, count: int) -> float | None:
        """Days for so many bytes under the quota."""
        return count / self.bytes_per_day if self.bytes_per_day else None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountPlan(Document):
    """One plan for each mailbox, and their sums.

    Attributes:
        account: `user@host:port`.
        plans: Of the mailboxes in which something is to be looked for, by name.
        unchanged: Mailboxes in which nothing has changed since a run that left nothing undone.
        errors: What could not be found out, by the name of the mailbox; nothing of it is in the sums.
    """

    derived: ClassVar[Sequence[str]] = ("messages", "total_bytes", "skipped", "complete")
    told_as: ClassVar[Mapping[str, str]] = {"plans": "mailboxes"}

    account: str
    plans: Mapping[str, JobPlan]
    unchanged: tuple[str, ...]
    errors: Mapping[str, Exception]

    @property
    def messages(self) -> int:
        """Messages that a run would fetch."""
        return sum(plan.messages for plan in self.plans.values())

    @property
    def total_bytes(self) -> int:
        """The sum of their RFC822.SIZE."""
        return sum(plan.total_bytes for plan in self.plans.values())

    @property
    def skipped(self) -> int:
        """Messages that were searched and that an earlier run did."""
        return sum(plan.skipped for plan in self.plans.values())

    @property
    def complete(self) -> bool:
        """Whether every mailbox could be asked."""
        return not self.errors
