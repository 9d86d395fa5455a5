"""A run: one execution of a pipeline, from the search to the report.

The run has its source open the mailbox and say what is to be done, plans, starts the middleware, then lets lanes take
batches through it while consumers (handlers, a sink, or whoever iterates) take messages from the inbox. At the end it
stops the layers, innermost first, and makes the report.

Invariants:

- Every planned UID has one outcome at the end: done, skipped, vanished or failed. What was never tried because
  the run gave up is failed with the reason `not-tried`. Only a cancelled run or one that raised has none for the rest.
- Cancelling leaves nothing: lanes give their leases back synchronously (with something in flight the pool ends
  the connection), the layers are stopped and have saved.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from typing import TypeVar

from imapipe.middleware.base import Layer
from imapipe.models.cursor import Cursor
from imapipe.models.identity import Identity, Renumbered
from imapipe.models.report import RunReport
from imapipe.net.connection import Connection
from imapipe.net.pool.pool import ConnectionPool
from imapipe.pipeline.access import MailboxAccess
from imapipe.pipeline.books import Books
from imapipe.pipeline.closing import finish_layers, make_report, stop_layers
from imapipe.pipeline.delivery.driven import Consumer
from imapipe.pipeline.delivery.inbox import Inbox
from imapipe.pipeline.dispatch import Dispatch
from imapipe.pipeline.lane_task import LaneTask
from imapipe.pipeline.lanes import work_in_lanes
from imapipe.pipeline.ledger import Ledger
from imapipe.pipeline.memory import foreseen
from imapipe.pipeline.opening import find_messages, make_plan
from imapipe.pipeline.operation.base import Workbench
from imapipe.pipeline.operation.remainders import Remainders
from imapipe.pipeline.outage import Outage, outage_seconds_of
from imapipe.pipeline.plan import Plan
from imapipe.pipeline.source.find import narrow
from imapipe.pipeline.source.identities import find_identities
from imapipe.pipeline.source.sizes import fetch_sizes
from imapipe.pipeline.specification import Specification
from imapipe.runtime.event_bus import EventBus
from imapipe.runtime.resources import Sampler
from imapipe.wire.response.note import Note
from imapipe.wire.search_key import SearchKey
from imapipe.wire.uid_set import UidSet

_Result = TypeVar("_Result")

_log = logging.getLogger(__name__)


class Run:
    """One run of a pipeline: a `middleware.base.Run` to its layers, a `Driven` to its consumer.

    Attributes:
        account: `user@host:port`.
        mailbox: The name of the mailbox.
        fingerprint: Names the job in a checkpoint.
        layers: The layers that have started, outermost first.
        exists: How many messages the mailbox held when the search was made.
        renumbered, has_begun: See `middleware.base.Run`.
        ledger: The outcomes so far.
        inbox: Messages that wait for a consumer.
        events: What happens beside the messages.
        resources: What the run costs the machine.
        access: Its connections, with the mailbox open.
        today: The day from which relative dates count.
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
        however_long: bool = False,
    ) -> None:
        self._specification = specification
        self._pool = pool
        self.account = account
        # Without the spelling that a name may have: it is a key in reports and documents.
        self.mailbox = str(specification.mailbox)
        self.fingerprint = specification.fingerprint
        self.layers: Sequence[Layer] = ()
        self.events = EventBus()
        self.ledger = Ledger()
        self.inbox = Inbox()
        self.resources = Sampler()
        self.exists, self.has_begun = 0, False
        self.renumbered: Renumbered | None = None
        self._books = Books()
        self.access = MailboxAccess(
            pool,
            specification.mailbox,
            opens=specification.operation.opens,
            writes=specification.operation.writes,
            however_long=however_long,
            remembers=specification.search_store is not None or specification.with_modseq,
            events=self.events,
            books=self._books,
            outage=Outage(outage_seconds_of(specification.middleware), self.events),
        )
        self._dispatch = Dispatch(
            specification.policy,
            ledger=self.ledger,
            inbox=self.inbox,
            books=self._books,
            events=self.events,
            max_failures=max_failures,
        )
        self.today = datetime.now().astimezone().date()
        self._lane_count = lanes
        self._by_batch = by_batch
        self._lease: Connection | None = None
        self._report: RunReport | None = None
        # Ends only where the run is to end without waiting for anybody.
        self._until = asyncio.timeout(None)

    # -- what middleware and consumers see ---------------------------------------------------------

    @property
    def plan(self) -> Plan:
        """What is left to do; empty before the search."""
        return self._dispatch.plan

    @property
    def is_whole(self) -> bool:
        """Whether everything that its search can find is planned."""
        return self._specification.limit is None and self._specification.source.is_whole

    @property
    def items(self) -> frozenset[str]:
        """What each message brings."""
        return self._specification.operation.items

    @property
    def bytes_received(self) -> int:
        """Bytes of FETCH responses so far, after decompression."""
        return self._books.bytes_received

    @property
    def connections(self) -> int:
        """How many connections it holds now."""
        return self.access.leases_held

    @property
    def leases_held(self) -> int:
        """See `net.pool.lease.Holder`."""
        return self.access.leases_held

    def is_of(self, pool: object) -> bool:
        """See `net.pool.lease.Holder`."""
        return self.access.is_of(pool)

    @property
    def uidvalidity(self) -> int:
        """UIDVALIDITY of the mailbox when the run began."""
        return self.access.uidvalidity

    @property
    def cursor(self) -> Cursor:
        """How far the mailbox had come when the run began, with what its search found."""
        return self.access.cursor

    async def believable_cursor(self, remembered: Cursor) -> Cursor:
        """See `middleware.base.Run`."""
        if not self.cursor.leaves_open(remembered):
            return self.cursor
        return await self.reach(partial(self.access.believable_cursor, remembered=remembered))

    async def reach(self, work: Callable[[Connection], Awaitable[_Result]]) -> _Result:
        """Do something on a connection of the run before its first batch; raises as `access.reach` does."""
        first, self._lease = self._lease, None
        self._lease, result = await self.access.ask(work, first)
        return result

    async def aside(self, work: Callable[[], Awaitable[_Result]]) -> _Result:
        """See `middleware.base.Run`."""
        if self._lease is not None:
            lease, self._lease = self._lease, None
            self.access.give_back(lease)
        result = await work()
        self._lease, _ = await self.access.reach(self.access.reopen)
        return result

    async def identities(self, uids: UidSet) -> Mapping[int, Identity]:
        """See `middleware.base.Run`."""
        return await self.reach(partial(find_identities, self.access, uids))

    @property
    def unaccounted(self) -> int:
        """Messages that the search did not find although the mailbox holds them."""
        return self._books.unaccounted

    @property
    def may_be_short(self) -> bool:
        """Whether an answer to the search could not be read to its end."""
        return self._books.may_be_short

    @property
    def notes(self) -> MutableMapping[Note, int]:
        """What of answers was passed over so far; whoever passes over more adds to it."""
        return self._books.notes

    @property
    def failure(self) -> BaseException | None:
        """The first error that ended the run."""
        return self._dispatch.failure

    async def refuse(self, uids: UidSet, reason: str, detail: str) -> None:
        """Take messages out of the plan that fail without a try."""
        await self.ledger.refuse(await self.plan.skip(uids), reason, detail)

    def give_up(self, because: str, *, retry_at: datetime | None = None) -> None:
        """Take no further batch; `because` is told of each message that was not tried."""
        self._dispatch.give_up(because, retry_at=retry_at)

    @property
    def retry_at(self) -> datetime | None:
        """When the server serves again, where it refused and that is known."""
        return self._dispatch.retry_at

    def give_up_handling(self, because: str) -> None:
        """Take no further batch and begin with no message that waits; `because` is told of each of them."""
        self._dispatch.give_up_handling(because)

    def fail(self, error: BaseException, *, at_once: bool = False) -> None:
        """End the run with this error, and hand out nothing more; `at_once`: wait for nobody who is at work."""
        self.inbox.give_up()
        self._dispatch.stop(error)
        if at_once:
            # At its very end there is nothing left to end.
            with suppress(RuntimeError):
                self._until.reschedule(asyncio.get_running_loop().time())

    def hold(self) -> Callable[[], None]:
        """See `middleware.base.Run`."""
        self.inbox.hold()
        return self.inbox.go_on

    def stop(self, error: BaseException | None = None) -> None:
        """Take no further batch; with an error, end the run with it."""
        self._dispatch.stop(error)

    def message_failed(self) -> None:
        """A message has failed: too many of them end the run."""
        self._dispatch.message_failed()

    # -- the run ---------------------------------------------------------------------------------

    async def drive(self, consumer: Consumer | None = None) -> None:
        """Do all of it. Raises what ends the run; the report is final when this has returned.

        Args:
            consumer: Who is to be asked when it begins and before it ends.
        """
        stop_listening = (self.events.subscribe(self._books.listen), self._pool.events.subscribe(self.events.emit))
        self._books.open()
        self.resources.start()
        unasked = consumer
        try:
            try:
                with self._ended_by_failure():
                    async with self._until:
                        with foreseen(self._specification.middleware):
                            connection = await self._prepare(consumer)
                        await self._work(connection)
                        self.ledger.flush()
                        await self.ledger.give_up(await self.plan.take_rest(), self._dispatch.gave_up_because)
                        self.inbox.close()
                        if consumer is not None:
                            unasked = None
                            await consumer.finish()
                        self.ledger.flush()
                        await finish_layers(self.layers)
            except BaseException as error:
                # Nobody is to work on what can no longer be acknowledged.
                self.inbox.discard()
                try:
                    if isinstance(error, Exception) and unasked is not None:
                        # What a sink has written can be made safe all the same.
                        await unasked.finish()
                except Exception:  # noqa: BLE001 - what ended the run is raised
                    _log.exception("what was written last could not be made safe")
                finally:
                    self.ledger.flush()
                    await stop_layers(self.layers, error)
                raise
            await stop_layers(self.layers)
        finally:
            for stop in stop_listening:
                stop()
            await self.resources.stop()
            self._report = self.report()

    @contextmanager
    def _ended_by_failure(self) -> Iterator[None]:
        """Raise why nobody was waited for."""
        try:
            yield
        except TimeoutError:
            if self._until.expired() and self.failure is not None:
                raise self.failure from self.failure.__cause__
            raise

    async def look(self, *, save: bool = False) -> Connection:
        """Open the mailbox and find out what is to be done; `save` has the server keep that for `narrow` (RFC 5182)."""
        return (await self.access.reach(partial(self._look, save=save)))[0]

    async def narrow(self, criteria: SearchKey, uids: UidSet, *, uidvalidity: int, cursor: Cursor) -> UidSet:
        """Those of some messages that match. Nothing else is done, and nothing is planned.

        Raises:
            UidValidityChanged: The UIDs mean other messages now.
            ImapipeError: As `drive` does when a search cannot be made.
        """
        notes: dict[Note, int] = {}

        async def find(connection: Connection) -> UidSet:
            await self.access.reopen(connection)
            return await narrow(connection, criteria, uids, self.today, notes)

        found = await self.access.revisit(find, uidvalidity=uidvalidity, cursor=cursor)
        self._books.searched(notes)
        return found

    async def compare(self, remembered: Cursor, *, uidvalidity: int, cursor: Cursor) -> Cursor:
        """What was known of the mailbox later on, to be compared with `remembered`; raises as `narrow` does."""
        compare = partial(self.access.believable_cursor, remembered=remembered)
        return await self.access.revisit(compare, uidvalidity=uidvalidity, cursor=cursor)

    def report(self) -> RunReport:
        """What became of the run so far, or at its end."""
        return self._report or make_report(self, self._books)

    async def _look(self, connection: Connection, *, save: bool = False) -> None:
        specification = self._specification
        found = await find_messages(
            connection, specification, self.access, account=self.account, today=self.today, save=save
        )
        self._dispatch.plan = await make_plan(connection, specification, found, self._books, self.today)
        self.exists = found.exists

    async def _prepare(self, consumer: Consumer | None) -> Connection:
        self._lease = await self.look()
        try:
            for one in self._specification.middleware:
                self.layers = (*self.layers, await one.start(self))
                await self.ledger.skip(self.plan)
            if consumer is not None:
                await consumer.begin(self)
                await self.ledger.skip(self.plan)
            self.has_begun = True
        except BaseException:
            if self._lease is not None:
                self.access.give_back(self._lease)
            raise
        connection = self._lease
        if self._specification.policy.needs_sizes and self.plan.remaining_count:
            connection, _ = await self.access.reach(self._learn_sizes, connection)
        return connection

    async def _learn_sizes(self, connection: Connection) -> None:
        await self.access.reopen(connection)
        self.plan.know_sizes(await fetch_sizes(connection, await self.plan.left()))

    async def _work(self, connection: Connection) -> None:
        remainders = Remainders()
        task = LaneTask(
            self._dispatch,
            self.access,
            self._specification.operation,
            Workbench(self.access, self._lane_count, self.ledger, self.inbox, self._books, remainders, self.today),
            self.layers,
            self.events,
            depth=self._specification.depth,
            by_batch=self._by_batch,
        )
        try:
            await work_in_lanes(task, self._useful_lanes(), connection)
        finally:
            remainders.close()

    def _useful_lanes(self) -> int:
        batch = max(1, self._dispatch.new_sizer().size)
        return max(1, min(self._lane_count, -(-self.plan.remaining_count // batch)))
