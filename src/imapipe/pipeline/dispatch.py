"""Dispatch: hands batches to lanes, books what comes back, and decides when to stop.

It is all of a run that lanes and consumers know.

Invariants:

- Every batch that was handed out is booked: whatever of it has no outcome then has failed.
- An error that concerns one batch fails that batch; one that concerns the run ends it. A server with which nothing
  works any more ends it too, after a bounded number of batches.
- Once it stops it hands out no further batch; batches under way come to their end.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime
from typing import Protocol

from imapipe.errors import (
    AuthenticationFailed,
    CapabilityMissing,
    CheckpointError,
    CommandBad,
    CommandNo,
    DatabaseError,
    JournalError,
    PoolClosed,
    SpoolError,
    Throttled,
    UidValidityChanged,
)
from imapipe.middleware.base import Call
from imapipe.models.batch import Batch, BatchInterrupted, BatchResult, Failure
from imapipe.models.event import BatchEnd
from imapipe.net.signals import over_quota
from imapipe.net.transient import reason
from imapipe.pipeline.batching import BatchPolicy, Sizer
from imapipe.pipeline.books import Books
from imapipe.pipeline.delivery.inbox import Inbox
from imapipe.pipeline.hopeless import Hopelessness
from imapipe.pipeline.ledger import Ledger
from imapipe.pipeline.plan import Plan
from imapipe.runtime.event_bus import EventBus
from imapipe.wire.uid_set import UidSet

FATAL = (
    AuthenticationFailed,
    CapabilityMissing,
    CheckpointError,
    DatabaseError,
    JournalError,
    PoolClosed,
    SpoolError,
    UidValidityChanged,
)
"""Errors that concern a whole run, and not one batch."""


class Taker(Protocol):
    """Who takes batches: a lane."""

    @property
    def is_idle(self) -> bool:
        """It has not ended, and works on nothing."""

    def dismiss(self) -> None:
        """There is nothing left to take: do not wait for a first connection any more."""


class Dispatch:
    """Hands out the batches of a plan.

    Args:
        policy: The sizes of batches.
        ledger: The outcomes.
        inbox: Where messages are handed over.
        books: What is counted.
        events: What happens beside the messages.
        max_failures: Give up when more messages than this have failed.

    Attributes:
        plan: What is left to do; set when it is known.
        stopping: No further batch is to be taken.
        failure: The first error that ended the run.
        gave_up_because: What is told of each message that was not tried.
        retry_at: When the server serves again, where it refused as too much and that is known.
    """

    __slots__ = (
        "_asked",
        "_books",
        "_events",
        "_hopelessness",
        "_inbox",
        "_ledger",
        "_max_failures",
        "_policy",
        "_takers",
        "failure",
        "gave_up_because",
        "plan",
        "retry_at",
        "stopping",
    )

    def __init__(
        self,
        policy: BatchPolicy,
        *,
        ledger: Ledger,
        inbox: Inbox,
        books: Books,
        events: EventBus,
        max_failures: int | None = None,
    ) -> None:
        self._policy = policy
        self._ledger = ledger
        self._inbox = inbox
        self._books = books
        self._events = events
        self._max_failures = max_failures
        self._takers: list[Taker] = []
        self._hopelessness = Hopelessness()
        self._asked: Counter[int] = Counter()
        self.plan = Plan(UidSet())
        self.stopping = False
        self.failure: BaseException | None = None
        self.gave_up_because = "the run gave up before it came to this message"
        self.retry_at: datetime | None = None

    def join(self, taker: Taker) -> None:
        """A lane begins to take batches."""
        self._takers.append(taker)

    def new_sizer(self) -> Sizer:
        """The state of the batch policy for one lane."""
        return self._policy.sizer()

    @property
    def has_batches(self) -> bool:
        """Whether there is more to take."""
        return not self.stopping and self.plan.remaining_count > 0

    @property
    def is_nearly_given_out(self) -> bool:
        """Whether lanes that have nothing to do yet would get no more than one batch each."""
        idle = sum(taker.is_idle for taker in self._takers)
        return idle > 0 and self.plan.remaining_count <= idle * max(1, self.plan.batch_size)

    def next_batch(self, sizer: Sizer, lane: int) -> Batch | None:
        """The next batch for a lane, or None."""
        batch = None if self.stopping else self.plan.next_batch(sizer, lane)
        if not self.has_batches:
            self._dismiss()
        return batch

    def asked(self, batch: Batch) -> None:
        """A batch came through all layers and is being asked for."""
        self._asked[batch.number] += 1

    async def process(self, batch: Batch, sizer: Sizer, call: Call) -> None:
        """Send a batch through the layers of a lane and book what came of it."""
        began = asyncio.get_running_loop().time()
        delivered = self._inbox.delivered
        error: BaseException | None = None
        try:
            result = await call(batch)
        except BatchInterrupted as interrupted:
            result = interrupted.result
            error = interrupted.__cause__ or interrupted
        except Exception as fatal:
            self.stop(fatal)
            raise
        if isinstance(error, Throttled):
            self._refused(error)
        await self._book(batch, result, error)
        now = asyncio.get_running_loop().time()
        # A batch that a layer answered by itself says nothing of the server.
        if tries := self._asked.pop(batch.number, 0):
            has_delivered = self._inbox.delivered > delivered
            if self._hopelessness.is_reached(began, now, result, error, tries=tries, delivered=has_delivered):
                self.give_up(f"the run gave the server up: {type(error).__name__ if error else 'nothing comes'}")
        sizer.observe(result)
        self._books.batch_ended(result)
        self._events.emit(BatchEnd(result))

    def message_failed(self) -> None:
        """A message has failed: too many of them end the run."""
        tried_in_vain = self._ledger.failed_count - self._ledger.refused_count
        if self._max_failures is not None and tried_in_vain > self._max_failures:
            self._inbox.give_up()
            self.stop()

    def give_up(self, because: str, *, retry_at: datetime | None = None) -> None:
        """Take no further batch; `because` is told of each message that was not tried, `retry_at` in the report."""
        self.gave_up_because = because
        self._serves_again(retry_at)
        self.stop()

    def give_up_handling(self, because: str) -> None:
        """Take no further batch and begin with no message that waits; `because` is told of each of them."""
        self._inbox.give_up()
        self.give_up(because)

    def stop(self, error: BaseException | None = None) -> None:
        """Take no further batch; with an error, end the run with it."""
        self.stopping = True
        if error is not None and self.failure is None:
            self.failure = error
        self._dismiss()

    def is_fatal(self, error: BaseException) -> bool:
        """Whether an error concerns the whole run and not one batch."""
        return isinstance(error, FATAL)

    def _refused(self, error: Throttled) -> None:
        """A batch was given up for it."""
        self._serves_again(error.retry_at)
        if error.is_quota and not self.stopping:
            self.give_up(over_quota(error))

    def _serves_again(self, at: datetime | None) -> None:
        if at is not None and (self.retry_at is None or at > self.retry_at):
            self.retry_at = at

    def _dismiss(self) -> None:
        for taker in self._takers:
            taker.dismiss()

    async def _book(self, batch: Batch, result: BatchResult, error: BaseException | None) -> None:
        """Whatever of a batch has no outcome has failed: nothing is silently short."""
        rest = batch.uids - self._ledger.outcome_of(batch.uids)
        if not rest:
            return
        for uid in rest & UidSet.from_numbers(result.failed):
            self._ledger.fail(result.failed[uid])
        rest -= UidSet.from_numbers(result.failed)
        if error is None:
            await self._ledger.give_up(rest, self.gave_up_because if self.stopping else "a layer left the message out")
            return
        # A server that takes leave or asks for less says nothing of a message, whatever code stands there.
        why = reason(error) if isinstance(error, CommandNo | CommandBad) else type(error).__name__
        for uid in rest:
            self._ledger.fail(Failure(uid, why, str(error)))
        self.message_failed()
