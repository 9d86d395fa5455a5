"""A run: one execution of a pipeline, from the search to the report.

The run opens the mailbox, searches, plans, starts the middleware, then lets lanes take batches through it while
handlers (or whoever iterates) take messages from the inbox. At the end it stops the middleware, innermost
first, and makes the report.

Invariants:

- Every planned UID has one outcome at the end: done, skipped, vanished or failed. What was never tried because
  the run gave up is failed with the reason `not-tried`. Only a cancelled run or one that raised has none for the rest.
- Cancelling leaves nothing: lanes give their leases back synchronously (with something in flight the pool ends
  the connection), the middleware is stopped and has saved.
- An error that concerns one batch fails that batch; one that concerns the run ends it. A server with which nothing
  works any more ends it too, after a bounded number of batches.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

import anyio.to_thread

from imapipe.errors import (
    AuthenticationFailed,
    CapabilityMissing,
    CheckpointError,
    PoolClosed,
    SpoolError,
    UidValidityChanged,
)
from imapipe.middleware.base import Middleware, chain
from imapipe.models.batch import Batch, BatchInterrupted, BatchResult, Failure
from imapipe.models.event import BatchEnd
from imapipe.models.report import RunReport
from imapipe.net.connection import MAX_COMMAND_BYTES, Connection
from imapipe.net.pool.pool import ConnectionPool
from imapipe.pipeline.access import MailboxAccess
from imapipe.pipeline.batching import Sizer
from imapipe.pipeline.books import Books
from imapipe.pipeline.flight import Inbox
from imapipe.pipeline.lane import Lane
from imapipe.pipeline.ledger import Ledger
from imapipe.pipeline.lookup import look, narrow
from imapipe.pipeline.memory import memory_of
from imapipe.pipeline.patience import Patience
from imapipe.pipeline.plan import Plan
from imapipe.pipeline.sizes import fetch_sizes
from imapipe.pipeline.specification import Specification
from imapipe.runtime.event_bus import EventBus
from imapipe.wire.search_key import SearchKey
from imapipe.wire.uid_set import UidSet

_COMMAND_WORDS_BYTES = 32
_SHORTEST_UID_TEXT_BYTES = 1000

_FATAL = (
    AuthenticationFailed,
    CapabilityMissing,
    CheckpointError,
    PoolClosed,
    SpoolError,
    UidValidityChanged,
)

_log = logging.getLogger(__name__)


class Run:
    """One run of a pipeline (`middleware.base.Run` is what the middleware sees of it).

    Attributes:
        account: `user@host:port`.
        mailbox: The name of the mailbox.
        fetch: The items asked for.
        fingerprint: Names the job in a checkpoint.
        layers: The middleware, outermost first.
        plan: What is left to do; set when the search has been made.
        exists: How many messages the mailbox held then.
        ledger: The outcomes so far.
        inbox: Messages that wait for a handler.
        events: What happens beside the messages.
        books: What is counted.
        access: Its connections, with the mailbox open.
        today: The day on which relative dates of the search were resolved.
        depth: FETCHes in flight on a connection; None follows the round trip.
        max_uid_text_bytes: How long the text of the UIDs in a command may be.
        by_batch: Messages are handed over in whole batches.
        stopping: No further batch is to be taken.
        has_given_up: Messages that no handler has begun with are not to be handled either.
        failure: The first error that ended the run.
    """

    def __init__(
        self,
        specification: Specification,
        pool: ConnectionPool,
        account: str,
        *,
        lanes: int,
        max_failures: int | None = None,
        by_batch: bool = False,
    ) -> None:
        self._specification = specification
        self._pool = pool
        self.account = account
        self.mailbox = specification.mailbox
        self.fetch = specification.fetch
        self.fingerprint = specification.fingerprint
        self.layers: Sequence[Middleware] = specification.layers
        self.depth = specification.depth
        self.max_uid_text_bytes = max(
            _SHORTEST_UID_TEXT_BYTES, MAX_COMMAND_BYTES - _COMMAND_WORDS_BYTES - len(specification.fetch.command())
        )
        self.events = EventBus()
        self.ledger = Ledger()
        self.inbox = Inbox()
        self.books = Books()
        self.access = MailboxAccess(pool, specification, self.events, self.books)
        self.by_batch = by_batch
        self.plan = Plan(UidSet())
        self.exists = 0
        self.today = datetime.now().astimezone().date()
        self.stopping = False
        self.has_given_up = False
        self.failure: BaseException | None = None
        self._gave_up_because = "the run gave up before it came to this message"
        self._lane_count = lanes
        self._lanes: list[Lane] = []
        self._max_failures = max_failures
        self._started: list[Middleware] = []
        self._call = chain(self.layers, self._innermost)
        self._patience = Patience()
        self._asked: set[int] = set()

    # -- what middleware sees --------------------------------------------------------------------

    @property
    def bytes_received(self) -> int:
        """Bytes of FETCH responses so far, after decompression."""
        return self.books.bytes_received

    @property
    def connections(self) -> int:
        """How many connections it holds now."""
        return self.access.leases_held

    @property
    def leases_held(self) -> int:
        """See `net.pool.pool.Holder`."""
        return self.access.leases_held

    @property
    def uidvalidity(self) -> int:
        """UIDVALIDITY of the mailbox when the run began."""
        return self.access.uidvalidity

    @property
    def unaccounted(self) -> int:
        """Messages that the search did not find although the mailbox holds them."""
        return self.books.unaccounted

    def give_up(self, because: str) -> None:
        """Take no further batch; `because` is told of each message that was not tried."""
        self._gave_up_because = because
        self.stop()

    # -- the run ---------------------------------------------------------------------------------

    async def drive(self) -> None:
        """Do all of it. Raises what ends the run; the report is final when this has returned."""
        stop_listening = (self.events.subscribe(self.books.listen), self._pool.events.subscribe(self.events.emit))
        self.books.open()
        try:
            try:
                await self._work(await self._prepare())
            except BaseException as error:
                # Nobody is to work on what can no longer be acknowledged.
                self.inbox.discard()
                await self._stop_layers(error)
                raise
            self.ledger.flush()
            self.ledger.give_up(self.plan.take_rest(), self._gave_up_because)
            self.inbox.close()
            await self._stop_layers(None)
        finally:
            for stop in stop_listening:
                stop()
            await self.books.close(self)

    async def look(self, *, save: bool = False) -> Connection:
        """Open the mailbox and find out what is to be done; gives the connection, see `access.reach`.

        Args:
            save: Have the server save what it finds, for `narrow` (RFC 5182).
        """
        connection, _ = await self.access.reach(partial(self._look, save=save))
        return connection

    async def narrow(self, criteria: SearchKey) -> UidSet:
        """Those of the UIDs the run was given that match. Nothing else is done, and nothing is planned.

        Raises:
            UidValidityChanged: They mean other messages now.
            ImapipeError: As `drive` does when a search cannot be made.
        """
        uids = self._specification.uids or UidSet()
        self.access.uidvalidity = self._specification.uidvalidity or 0

        async def find(connection: Connection) -> UidSet:
            await self.access.reopen(connection)
            return await narrow(connection, criteria, uids, self.today)

        connection, found = await self.access.reach(find)
        self.access.give_back(connection)
        return found

    async def _look(self, connection: Connection, *, save: bool = False) -> None:
        connection.require(self.fetch.needs)
        specification = await self._recall()
        selected = await self.access.open(connection, expected=specification.uidvalidity)
        findings = await look(
            connection,
            selected,
            specification,
            account=self.account,
            today=self.today,
            max_uid_text_bytes=self.max_uid_text_bytes,
            save=save,
        )
        self.plan = findings.plan
        self.exists = findings.exists
        self.books.unaccounted = findings.unaccounted

    async def _recall(self) -> Specification:
        """The specification, with the UIDs that are to be remembered instead of searched for."""
        memory = memory_of(self.layers)
        if not self._specification.remembered or memory is None:
            return self._specification
        known = await anyio.to_thread.run_sync(memory.peek, self.account, self.mailbox)
        if known is None:
            return replace(self._specification, uids=UidSet())
        return replace(self._specification, uids=known.failed_uids, uidvalidity=known.uidvalidity)

    async def _prepare(self) -> Connection:
        connection = await self.look()
        try:
            for layer in self.layers:
                await layer.start(self)
                self._started.append(layer)
                self.ledger.skip(self.plan.planned - self.plan.remaining)
        except BaseException:
            self.access.give_back(connection)
            raise
        if self._specification.policy.needs_sizes and self.plan.remaining_count:
            connection, _ = await self.access.reach(self._learn_sizes, connection)
        return connection

    async def _learn_sizes(self, connection: Connection) -> None:
        await self.access.reopen(connection)
        self.plan.know_sizes(await fetch_sizes(connection, self.plan.remaining))

    async def _work(self, connection: Connection) -> None:
        first = Lane(self, 0, connection)
        self._lanes = [first, *(Lane(self, number) for number in range(1, self._useful_lanes()))]
        error: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for lane in self._lanes:
                    group.create_task(lane.work())
        except BaseExceptionGroup as errors:
            error = first_cause(errors)
        finally:
            first.give_back()  # It does so itself, unless it was cancelled before its first step.
        # The first cause counts, whatever fell over it; raised outside of the handling of the group it keeps its own.
        error = self.failure or error
        if error is not None:
            raise error

    def _useful_lanes(self) -> int:
        batch = max(1, self.new_sizer().size)
        return max(1, min(self._lane_count, -(-self.plan.remaining_count // batch)))

    def new_sizer(self) -> Sizer:
        """The state of the batch policy for one lane."""
        return self._specification.policy.sizer()

    @property
    def has_batches(self) -> bool:
        """Whether there is more to take."""
        return not self.stopping and self.plan.remaining_count > 0

    @property
    def is_nearly_given_out(self) -> bool:
        """Whether lanes that have nothing to do yet would get no more than one batch each."""
        idle = sum(not lane.active and not lane.ended for lane in self._lanes)
        return idle > 0 and self.plan.remaining_count <= idle * max(1, self.plan.batch_size)

    def next_batch(self, sizer: Sizer, lane: int) -> Batch | None:
        """The next batch for a lane, or None."""
        batch = None if self.stopping else self.plan.next_batch(sizer, lane)
        if not self.has_batches:
            self._dismiss()
        return batch

    async def process(self, batch: Batch, sizer: Sizer) -> None:
        """Send a batch through the middleware and book what came of it."""
        began = asyncio.get_running_loop().time()
        delivered = self.inbox.delivered
        error: BaseException | None = None
        try:
            result = await self._call(batch)
        except BatchInterrupted as interrupted:
            result = interrupted.result
            error = interrupted.__cause__ or interrupted
        except Exception as fatal:
            self.stop(fatal)
            raise
        self._book(batch, result, error)
        now = asyncio.get_running_loop().time()
        if batch.number in self._asked:
            # A batch that a layer answered by itself says nothing of the server.
            self._asked.discard(batch.number)
            if self._patience.is_over(began, now, result, error, delivered=self.inbox.delivered > delivered):
                self.stop()
        sizer.observe(result)
        self.books.batch_ended(result)
        self.events.emit(BatchEnd(result))

    def message_failed(self) -> None:
        """The handler of a message raised."""
        if self._max_failures is not None and self.ledger.failed_count > self._max_failures:
            self.has_given_up = True
            self.stop()

    def stop(self, error: BaseException | None = None) -> None:
        """Take no further batch; with an error, end the run with it."""
        self.stopping = True
        if error is not None and self.failure is None:
            self.failure = error
        self._dismiss()

    def is_fatal(self, error: BaseException) -> bool:
        """Whether an error concerns the whole run and not one batch."""
        return isinstance(error, _FATAL)

    def report(self) -> RunReport:
        """What became of the run."""
        return self.books.report(self)

    async def _innermost(self, batch: Batch) -> BatchResult:
        self._asked.add(batch.number)
        return await self._lanes[batch.lane].fetch_batch(batch)

    def _dismiss(self) -> None:
        for lane in self._lanes:
            lane.dismiss()

    def _book(self, batch: Batch, result: BatchResult, error: BaseException | None) -> None:
        """Whatever of a batch has no outcome has failed: nothing is silently short."""
        rest = batch.uids - self.ledger.outcome_of(batch.uids)
        if not rest:
            return
        for uid in rest & UidSet.from_numbers(result.failed):
            self.ledger.fail(result.failed[uid])
        rest -= UidSet.from_numbers(result.failed)
        if error is None:
            self.ledger.give_up(rest, self._gave_up_because if self.stopping else "a layer left the message out")
            return
        for uid in rest:
            self.ledger.fail(Failure(uid, type(error).__name__, str(error)))
        self.message_failed()

    async def _stop_layers(self, because: BaseException | None) -> None:
        """Stop what was started, innermost first; one that fails does not keep the others from saving."""
        self.ledger.flush()
        first: BaseException | None = None
        while self._started:
            layer = self._started.pop()
            try:
                await layer.stop()
            except BaseException as error:  # noqa: BLE001 - raised, or logged where another one is raised already
                if because is None and first is None:
                    first = error
                    continue
                # What ended the run is raised; this must not be lost all the same.
                _log.exception("%s could not be stopped", type(layer).__name__)
        if first is not None:
            raise first


def first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first exception in a group, however deep."""
    first = group.exceptions[0]
    return first_cause(first) if isinstance(first, BaseExceptionGroup) else first
