"""A run: one execution of a pipeline, from the search to the report.

The run opens the mailbox, searches, plans, starts the middleware, then lets lanes take batches through it while
handlers (or whoever iterates) take messages from the inbox. At the end it stops the middleware, innermost
first, and makes the report.

Invariants:

- Every planned UID has one outcome at the end: done, skipped, vanished or failed. What was never tried because
  the run gave up is failed with the reason `not-tried`. Only a cancelled run or one that raised has no report.
- Cancelling leaves nothing: lanes give their leases back synchronously (with something in flight the pool ends
  the connection), the middleware is stopped and has saved.
- An error that concerns one batch fails that batch; one that concerns the run ends it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime

from imapipe.errors import (
    AuthenticationFailed,
    BatchInterrupted,
    CapabilityMissing,
    CheckpointError,
    ConnectionFailed,
    ImapipeError,
    PoolClosed,
    PoolTimeout,
    SpoolError,
    Throttled,
    UidValidityChanged,
)
from imapipe.middleware.base import Middleware, chain
from imapipe.models.batch import Batch, BatchResult, Failure
from imapipe.models.event import Attempt, BatchEnd, Event, EventBus, Reconnect, Throttle, Wait
from imapipe.models.histogram import Histogram
from imapipe.models.report import RunReport
from imapipe.models.resources import Sampler
from imapipe.net.connection import Connection
from imapipe.net.pool import ConnectionPool
from imapipe.net.session import SelectedMailbox
from imapipe.pipeline.batching import BatchPolicy, Sizer
from imapipe.pipeline.find import find_uids
from imapipe.pipeline.flight import Inbox
from imapipe.pipeline.lane import Lane
from imapipe.pipeline.ledger import Ledger
from imapipe.pipeline.plan import Plan, Tier
from imapipe.pipeline.sizes import fetch_sizes
from imapipe.pipeline.specification import Specification
from imapipe.search import ALL
from imapipe.wire.search_key import SearchKey
from imapipe.wire.search_program import SearchProgram
from imapipe.wire.uid_set import UidSet

# So many batches in a row without a connection, and the run gives up instead of asking on and on.
HOPELESS_BATCHES = 3

_FATAL = (
    AuthenticationFailed,
    CapabilityMissing,
    CheckpointError,
    PoolClosed,
    SpoolError,
    UidValidityChanged,
)


class Run:
    """One run of a pipeline (`middleware.base.Run` is what the middleware sees of it).

    Attributes:
        account: `user@host:port`.
        fetch: The items asked for.
        plan: What is left to do; set when the search has been made.
        ledger: The outcomes so far.
        inbox: Messages that wait for a handler.
        events: What happens beside the messages.
        uidvalidity: UIDVALIDITY of the mailbox when the run began.
        today: The day on which relative dates of the search were resolved.
        by_batch: Messages are handed over in whole batches.
        stopping: No further batch is to be taken.
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
        self.pool = pool
        self.account = account
        self.mailbox = specification.mailbox
        self.fetch = specification.fetch
        self.fingerprint = specification.fingerprint
        self.fixed_depth = specification.depth is not None
        self.depth = specification.depth
        self.events = EventBus()
        self.ledger = Ledger()
        self.inbox = Inbox()
        self.by_batch = by_batch
        self.plan = Plan(UidSet())
        self.uidvalidity = 0
        self.today: date = datetime.now().astimezone().date()
        self.stopping = False
        self.failure: BaseException | None = None
        self._policy: BatchPolicy = specification.policy
        self._lane_count = lanes
        self._lanes: list[Lane] = []
        self._max_failures = max_failures
        self._layers: Sequence[Middleware] = specification.layers
        self._started: list[Middleware] = []
        self._call = chain(self._layers, self._innermost)
        self._unaccounted = 0
        self._hopeless = 0
        self._sampler = Sampler()
        self._started_at = datetime.now(UTC)
        self._began = time.monotonic()
        self._wire_bytes_before = pool.wire_bytes
        self._received = 0
        self._batch_seconds = Histogram()
        self._batch_sizes = Histogram()
        self._retries = 0
        self._reconnects = 0
        self._waits = 0

    # -- what middleware sees --------------------------------------------------------------------

    @property
    def bytes_received(self) -> int:
        """Bytes of FETCH responses so far, after decompression."""
        return self._received

    @property
    def connections(self) -> int:
        """Lanes that hold a connection now."""
        return sum(lane.holds_lease for lane in self._lanes)

    @property
    def leases_held(self) -> int:
        """See `net.pool.Holder`."""
        return self.connections

    # -- the run ---------------------------------------------------------------------------------

    async def drive(self) -> None:
        """Do all of it. Raises what ends the run; the report can be had when this has returned."""
        stop_listening = self.events.subscribe(self._listen)
        stop_forwarding = self.pool.events.subscribe(self.events.emit)
        self._sampler.start()
        try:
            connection = await self.pool.take(self.mailbox)
            try:
                await self._prepare(connection)
            except BaseException:
                self.pool.give_back(connection)
                raise
            await self._work(connection)
        finally:
            self.inbox.close()
            stop_forwarding()
            try:
                await self._stop_layers()
            finally:
                stop_listening()
                await self._sampler.stop()
        self._close_books()

    async def search(self, connection: Connection) -> UidSet:
        """Open the mailbox and find the UIDs, within the limit of the pipeline."""
        selected = await self.open_mailbox(connection)
        self.uidvalidity = selected.uidvalidity
        connection.require(self._specification.search.needs)
        uids = await self._find(connection, selected)
        return Plan(uids, newest_first=self._specification.newest, limit=self._specification.limit).planned

    async def open_mailbox(self, connection: Connection) -> SelectedMailbox:
        """EXAMINE, or SELECT where the fetch changes flags; nothing if it is open that way."""
        selected = connection.selected
        writing = self.fetch.mark_seen
        if selected is not None and selected.name == self.mailbox and selected.read_only is not writing:
            return selected
        return await (connection.select(self.mailbox) if writing else connection.examine(self.mailbox))

    async def _find(self, connection: Connection, selected: SelectedMailbox) -> UidSet:
        specification = self._specification
        if specification.uids is not None:
            return specification.uids
        program = self._program(connection, specification.search)
        fresh = selected.expunged
        exists = selected.exists
        uids = await find_uids(connection, program, exists)
        if specification.searches_all and selected.expunged == fresh:
            self._unaccounted = max(0, exists - len(uids))
        return uids

    def _program(self, connection: Connection, key: SearchKey) -> SearchProgram:
        return key.program(
            today=self.today,
            literal_plus=connection.offers("LITERAL+"),
            utf8="UTF8=ACCEPT" in connection.session.enabled,
        )

    async def _prepare(self, connection: Connection) -> None:
        specification = self._specification
        connection.require(self.fetch.needs)
        planned = await self.search(connection)
        sizes = await fetch_sizes(connection, planned) if self._policy.needs_sizes else None
        if self._policy.classes:
            self.plan = Plan(await self._tiers(connection, planned), sizes=sizes)
        else:
            self.plan = Plan(planned, newest_first=specification.newest, sizes=sizes)
        for layer in self._layers:
            await layer.start(self)
            self._started.append(layer)
        self.ledger.skip(self.plan.planned - self.plan.remaining)

    async def _tiers(self, connection: Connection, planned: UidSet) -> list[Tier]:
        """The classes of the batch policy: a search each, disjoint by taking out what came before."""
        tiers: list[Tier] = []
        rest = planned
        for entry in self._policy.classes:
            uids = rest
            if entry.search != ALL:
                connection.require(entry.search.needs)
                uids = rest & await find_uids(connection, self._program(connection, entry.search), len(planned))
            rest -= uids
            tiers.append(Tier(uids, newest_first=entry.newest_first))
        return tiers

    async def _work(self, connection: Connection) -> None:
        first = Lane(self, 0, connection)
        self._lanes = [first, *(Lane(self, number) for number in range(1, self._useful_lanes()))]
        try:
            async with asyncio.TaskGroup() as group:
                for lane in self._lanes:
                    group.create_task(lane.work())
        except BaseExceptionGroup as group_error:
            # One cause ends a run: the first that was noted, whatever fell over it.
            raise (self.failure or first_cause(group_error)) from None
        if self.failure is not None:
            raise self.failure

    def _useful_lanes(self) -> int:
        batch = max(1, self.new_sizer().size)
        return max(1, min(self._lane_count, -(-self.plan.remaining_count // batch)))

    def new_sizer(self) -> Sizer:
        """The state of the batch policy for one lane."""
        return self._policy.sizer()

    @property
    def has_batches(self) -> bool:
        """Whether there is more to take."""
        return not self.stopping and self.plan.remaining_count > 0

    @property
    def is_nearly_given_out(self) -> bool:
        """Whether each of the other lanes would get no more than one batch."""
        others = len(self._lanes) - 1
        return others > 0 and self.plan.remaining_count <= others * max(1, self.plan.batch_size)

    def next_batch(self, sizer: Sizer, lane: int) -> Batch | None:
        """The next batch for a lane, or None."""
        return None if self.stopping else self.plan.next_batch(sizer, lane)

    async def process(self, batch: Batch, sizer: Sizer) -> None:
        """Send a batch through the middleware and book what came of it."""
        try:
            result = await self._call(batch)
        except BatchInterrupted as interrupted:
            result = interrupted.result
            self._book(result)
            self._fail_rest(batch, interrupted.__cause__ or interrupted)
        except Exception as error:
            self.stop(error)
            raise
        else:
            self._hopeless = 0
            self._book(result)
            self._fail_rest(batch, None)
        sizer.observe(result)
        self._batch_seconds.add(result.elapsed_seconds)
        self._batch_sizes.add(len(batch))
        self.events.emit(BatchEnd(result))
        if self._max_failures is not None and self.ledger.failed_count > self._max_failures:
            self.stopping = True

    def stop(self, error: BaseException | None = None) -> None:
        """Take no further batch; with an error, end the run with it."""
        self.stopping = True
        if error is not None and self.failure is None:
            self.failure = error

    def is_fatal(self, error: BaseException) -> bool:
        """Whether an error concerns the whole run and not one batch."""
        return isinstance(error, _FATAL)

    async def _innermost(self, batch: Batch) -> BatchResult:
        result = await self._lanes[batch.lane].fetch_batch(batch)
        self._received += result.bytes_received
        return result

    # -- books -----------------------------------------------------------------------------------

    def _book(self, result: BatchResult) -> None:
        """Enter failures that a layer found (a poisoned UID); the others are in the ledger already."""
        for failure in result.failed.values():
            self.ledger.fail(failure)

    def _fail_rest(self, batch: Batch, error: BaseException | None) -> None:
        """What of a batch has no outcome has failed: nothing is silently short."""
        rest = batch.uids - self.ledger.outcome_of(batch.uids)
        if not rest:
            return
        if error is None:
            reason, detail = "not-tried", "a layer of the middleware left it out"
        else:
            reason, detail = type(error).__name__, str(error)
        for uid in rest:
            self.ledger.fail(Failure(uid, reason, detail))
        if isinstance(error, ConnectionFailed | PoolTimeout | Throttled) and len(rest) == len(batch):
            self._hopeless += 1
            if self._hopeless >= HOPELESS_BATCHES:
                self.stopping = True

    def _close_books(self) -> None:
        for uid in self.plan.take_rest():
            self.ledger.fail(Failure(uid, "not-tried", "the run gave up before it came to this message"))
        self.ledger.flush()

    def _listen(self, event: Event) -> None:
        match event:
            case Attempt():
                self._retries += 1
            case Reconnect():
                self._reconnects += 1
            case Wait() | Throttle():
                self._waits += 1
            case _:
                return

    async def _stop_layers(self) -> None:
        """Stop what was started, innermost first; one that fails does not keep the others from saving."""
        self.ledger.flush()
        errors: list[BaseException] = []
        while self._started:
            try:
                await self._started.pop().stop()
            except (ImapipeError, asyncio.CancelledError) as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def report(self) -> RunReport:
        """What became of the run."""
        ledger = self.ledger
        usage = self._sampler.usage()
        done_before = next(
            (n for n in (getattr(x, "done_all_runs", None) for x in self._layers) if n is not None), None
        )
        return RunReport(
            account=self.account,
            mailbox=self.mailbox,
            uidvalidity=self.uidvalidity,
            planned=len(self.plan.planned),
            done=ledger.done_count,
            skipped=ledger.skipped_count,
            vanished=ledger.vanished_count,
            failed=ledger.failed_count,
            failures=dict(ledger.failures),
            failed_uids=ledger.failed,
            unaccounted=self._unaccounted,
            started_at=self._started_at,
            elapsed_seconds=time.monotonic() - self._began,
            bytes_received=self._received,
            wire_bytes=self.pool.wire_bytes - self._wire_bytes_before,
            batch_seconds=self._batch_seconds.distribution(),
            batch_sizes=self._batch_sizes.distribution(),
            retries=self._retries,
            reconnects=self._reconnects,
            throttle_waits=self._waits,
            peak_rss_bytes=usage.peak_rss_bytes,
            cpu_seconds=usage.cpu_seconds,
            loop_lag_seconds=usage.loop_lag_seconds,
            system_cpu_percent=usage.system_cpu_percent,
            system_memory_percent=usage.system_memory_percent,
            done_all_runs=done_before if done_before is not None else ledger.done_count,
        )


def first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first exception in a group, however deep."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
