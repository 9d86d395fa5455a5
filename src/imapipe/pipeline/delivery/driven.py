"""What a consumer knows of the run that it takes messages from, and what the run knows of its consumer."""

from __future__ import annotations

from typing import Protocol

from imapipe.middleware.base import Run
from imapipe.models.report import RunReport
from imapipe.pipeline.delivery.inbox import Inbox
from imapipe.pipeline.ledger import Ledger
from imapipe.runtime.event_bus import EventBus


class Consumer(Protocol):
    """Somebody who needs to be asked when the run begins and before it ends."""

    async def begin(self, run: Run) -> None:
        """The run is prepared; no message has come yet. Raising ends it."""

    async def finish(self) -> None:
        """No message will come any more: returns when each of those that came has its outcome."""


class Driven(Protocol):
    """A run, as its consumer sees it."""

    @property
    def mailbox(self) -> str:
        """The name of the mailbox."""

    @property
    def inbox(self) -> Inbox:
        """Where messages wait."""

    @property
    def ledger(self) -> Ledger:
        """The outcomes so far."""

    @property
    def events(self) -> EventBus:
        """What happens beside the messages."""

    @property
    def leases_held(self) -> int:
        """See `net.pool.lease.Holder`."""

    def is_of(self, pool: object) -> bool:
        """See `net.pool.lease.Holder`."""

    @property
    def failure(self) -> BaseException | None:
        """The first error that ended the run."""

    async def drive(self, consumer: Consumer | None = None) -> None:
        """Do all of it. Raises what ends the run; the report is final when this has returned."""

    def give_up_handling(self, because: str) -> None:
        """Take no further batch and begin with no message that waits; `because` is told of each of them."""

    def stop(self, error: BaseException | None = None) -> None:
        """Take no further batch; with an error, end the run with it."""

    def message_failed(self) -> None:
        """A message has failed: too many of them end the run."""

    def report(self) -> RunReport:
        """What became of the run so far."""
