"""What a checkpoint is of."""

from __future__ import annotations

from dataclasses import dataclass

from imapipe.models.document import printable


@dataclass(frozen=True, slots=True, order=True)
class JobKey:
    """One job on one mailbox of one account; a store keeps a state for each.

    Attributes:
        account: `user@host:port`.
        mailbox: The name of the mailbox.
        name: The name that the caller gave to the job, or "".
        shard: Names a part of the mailbox that is worked on by itself, or "".
    """

    account: str
    mailbox: str
    name: str = ""
    shard: str = ""

    def printable(self) -> JobKey:
        """The same in text that UTF-8 can hold."""
        return JobKey(printable(self.account), printable(self.mailbox), printable(self.name), printable(self.shard))
