"""Lanes: each holds one lease and keeps `depth` UID FETCHes in flight on it.

A lane's workers take batches from the plan and send them through the middleware; the innermost call comes back
here, to the lane's operation on its connection. When that connection ends, every call of the lane on
it is interrupted, and the next call leases another.

Invariants:

- A lane takes its first batch when it has a connection, so no batch waits for one while other lanes could do it.
- Where batches take turns (a rate), a lane has its connection before a batch of it takes one, yields it to nobody
  before that batch is sent, and has a turn that is long past taken again: else all that wait for a connection with
  their turn behind them would go at once when there is one.
- The lease is given back when the lane ends, when nothing was in flight for a second, and, at a batch boundary,
  when somebody else waits for a connection or this one has reached its age. It is never given back with something
  in flight, unless the lane is cancelled: the pool then ends the connection.
- A connection that was leased again has the mailbox open under the UIDVALIDITY of the run, or the run ends.
"""

from __future__ import annotations

import asyncio

from imapipe.errors import ImapipeError
from imapipe.middleware.base import GivesTurns, chain
from imapipe.models.batch import Batch, BatchInterrupted, BatchResult
from imapipe.models.event import Reconnect
from imapipe.net.command import FetchCommand
from imapipe.net.connection import Connection
from imapipe.pipeline.delivery.flight import Gathering
from imapipe.pipeline.depth import Depth
from imapipe.pipeline.lane_task import LaneTask
from imapipe.pipeline.operation.base import Work

IDLE_SECONDS = 1.0
MIN_LEASE_SECONDS = 0.5
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
# From this try on a batch is alone on its connection.
SUSPICIOUS_ATTEMPT = 3


class Lane:
    """One lease and the batches on it.

    Attributes:
        number: Its number, from 0.
        active: How many it works on now.
        ended: It takes no more batches.
    """

    __slots__ = (
        "_access",
        "_call",
        "_connection",
        "_deeper",
        "_depth",
        "_dispatch",
        "_gathering",
        "_in_flight",
        "_joining",
        "_leased_at",
        "_lock",
        "_quiet",
        "_reason",
        "_release_timer",
        "_sizer",
        "_task",
        "_turns",
        "active",
        "ended",
        "number",
    )

    def __init__(self, task: LaneTask, number: int, connection: Connection | None = None) -> None:
        self._task = task
        self._dispatch = task.dispatch
        self._access = task.access
        self._connection = connection
        self._sizer = task.dispatch.new_sizer()
        self._call = chain(task.layers, self._perform)
        self._turns = tuple(layer for layer in task.layers if isinstance(layer, GivesTurns))
        self._lock = asyncio.Lock()
        self._joining: asyncio.Timeout | None = None
        self._gathering = Gathering(connection) if connection is not None and task.by_batch else None
        self._in_flight = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._deeper = asyncio.Event()
        self._leased_at = asyncio.get_running_loop().time()
        self._release_timer: asyncio.TimerHandle | None = None
        self._reason = ""
        self.number = number
        self.active = 0
        self.ended = False
        self._depth = Depth(task.depth)
        if connection is not None:
            self._depth.begin(connection)

    @property
    def is_idle(self) -> bool:
        """It has not ended, and works on nothing."""
        return not self.active and not self.ended

    async def work(self) -> None:
        """Take batches until the plan is empty."""
        try:
            if self._connection is None:
                await self._join()
            async with asyncio.TaskGroup() as group:
                while True:
                    while self.active < self._depth.value and self._may_take():
                        self.active += 1
                        group.create_task(self._worker())
                    if not self.active:
                        break
                    self._deeper.clear()
                    await self._deeper.wait()
        finally:
            self.ended = True
            self.give_back()

    def dismiss(self) -> None:
        """There is nothing left to take: do not wait for a first connection any more."""
        if self._joining is not None and not self._joining.expired():
            self._joining.reschedule(asyncio.get_running_loop().time())

    async def _join(self) -> None:
        """Get a first connection, or come to know that none is needed.

        While other lanes work, a connection that cannot be had is no trouble of any batch, so the wait has no end.
        """
        pause = FIRST_PAUSE_SECONDS
        while self._dispatch.has_batches:
            connection: Connection | None = None
            try:
                async with asyncio.timeout(None) as self._joining:
                    connection = await self._access.take(however_long=True)
            except ImapipeError as error:
                if self._dispatch.is_fatal(error):
                    raise
            except TimeoutError:
                return
            finally:
                self._joining = None
            if connection is not None and await self._use_first(connection):
                return
            if not self._access.leases_held:
                # Nobody works: let a batch meet the error, so that it is told and counted.
                return
            try:
                async with asyncio.timeout(pause) as self._joining:
                    await asyncio.get_running_loop().create_future()
            except TimeoutError:
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            finally:
                self._joining = None

    async def _use_first(self, connection: Connection) -> bool:
        self._connection = connection
        try:
            await self._adopt(connection)
        except BaseException as error:
            self.give_back()
            if isinstance(error, ImapipeError) and not self._dispatch.is_fatal(error):
                return False
            raise
        return True

    async def _worker(self) -> None:
        dispatch = self._dispatch
        try:
            while self._may_take(mine=1):
                if self._turns:
                    await self._be_ready()
                batch = dispatch.next_batch(self._sizer, self.number)
                if batch is None:
                    break
                await dispatch.process(batch, self._sizer, self._call)
        finally:
            self.active -= 1
            self._deeper.set()

    async def _be_ready(self) -> None:
        """Have a connection, if one can be had, before a batch takes its turn."""
        async with self._lock:
            await self._yield_to_others()
            if self._connection is not None and not self._connection.is_open:
                self._lose(self._connection)
            # What ended an outage in vain, a batch meets; where none is left, nobody would end the wait.
            if self._connection is not None or self._access.outage.ended_by or not self._dispatch.has_batches:
                return
            try:
                async with asyncio.timeout(None) as self._joining:
                    connection = await self._access.take(however_long=self._access.leases_held > 0)
            except (ImapipeError, TimeoutError) as error:
                if self._dispatch.is_fatal(error):
                    raise
                # Let a batch meet the error, so that it is told and counted.
                return
            finally:
                self._joining = None
            if await self._use_first(connection):
                self._await_idleness()

    def _may_take(self, *, mine: int = 0) -> bool:
        """Whether to take another batch; the last ones are kept for lanes that have nothing to do yet."""
        dispatch = self._dispatch
        return dispatch.has_batches and (self.active == mine or not dispatch.is_nearly_given_out)

    # -- a batch ---------------------------------------------------------------------------------

    async def _perform(self, batch: Batch) -> BatchResult:
        """The innermost call: do the operation with a batch on this lane's connection.

        Raises:
            BatchInterrupted: The connection ended, or the server refused the command; the cause is chained.
            UidValidityChanged, AuthenticationFailed, CapabilityMissing, PoolClosed, SpoolError: The run cannot go on.
        """
        self._dispatch.asked(batch)
        work = self._task.operation.begin(batch, self._task.bench, self._observe)
        while work.is_unfinished:
            try:
                if batch.attempt >= SUSPICIOUS_ATTEMPT:
                    await self._do_alone(work, batch)
                else:
                    async with self._lock:
                        connection = await self._lease_in_turn(batch)
                    await self._do(work, connection)
            except ImapipeError as error:
                if self._dispatch.is_fatal(error):
                    raise
                if not work.was_our_doing:
                    raise BatchInterrupted(batch, work.result()) from error
                # It was us, not the server: that costs no attempt.
        return work.result()

    async def _do(self, work: Work, connection: Connection) -> None:
        try:
            await work.perform(connection, self._gathering)
        finally:
            self._finished(connection)

    async def _do_alone(self, work: Work, batch: Batch) -> None:
        """Do it with nothing else in flight: where a message makes servers hang up, it is its own batch that fails."""
        async with self._lock:
            await self._quiet.wait()
            await self._do(work, await self._lease_in_turn(batch))

    def _observe(self, connection: Connection, command: FetchCommand) -> float:
        """A FETCH ended; gives the seconds that the server worked on it."""
        connection.fetched(command)
        if connection is not self._connection:
            # One that only helps out tells nothing of this lane.
            return 0.0
        before = self._depth.value
        seconds = self._depth.observe(connection, command)
        if self._depth.value > before:
            self._deeper.set()
        return seconds

    # -- the lease -------------------------------------------------------------------------------

    async def _lease_in_turn(self, batch: Batch) -> Connection:
        """The lane's connection as of `_lease`, for a batch whose turn is not long past."""
        while True:
            connection = await self._lease()
            try:
                for layer in self._turns:
                    await layer.renew(batch)
            except BaseException:
                self._finished(connection)
                raise
            if connection.is_open or not self._turns:
                return connection
            # It ended while another turn was waited for; that is good for the next one.
            self._finished(connection)

    async def _lease(self) -> Connection:
        """The lane's connection with the mailbox open; leases one if need be. Counts a call in flight.

        Called with the lock held. A server that does not work is waited for here, by one call of the lane.
        """
        if not self._turns:
            await self._yield_to_others()
        self._stop_release_timer()
        self._access.check_slots()
        if self._connection is not None and not self._connection.is_open:
            self._lose(self._connection)
        if self._connection is None and self._access.outage.ended_by is not None:
            raise self._access.outage.ended_by
        connection: Connection | None = None
        while connection is None:
            try:
                connection = await self._get_ready()
            except BaseException as error:
                self.give_back()
                if not isinstance(error, ImapipeError) or self._dispatch.is_fatal(error):
                    raise
                if not await self._access.outage.outlast(error):
                    raise
        self._access.outage.heard()
        self._in_flight += 1
        self._quiet.clear()
        return connection

    async def _get_ready(self) -> Connection:
        """The lane's connection, or another one, with the mailbox open."""
        access = self._access
        if self._connection is None:
            # While other lanes of the run work, the wait has no end: they need not lose a batch over it.
            self._connection = await access.take(however_long=access.leases_held > 0)
            await self._adopt(self._connection)
        else:
            await access.reopen(self._connection)
        return self._connection

    async def _adopt(self, connection: Connection) -> None:
        """Begin to use a connection that was leased just now."""
        self._leased_at = asyncio.get_running_loop().time()
        self._gathering = Gathering(connection) if self._task.by_batch else None
        await self._access.reopen(connection)
        if self._reason:
            self._task.events.emit(Reconnect(self.number, self._reason))
            self._reason = ""
        self._depth.begin(connection)
        self._deeper.set()

    async def _yield_to_others(self) -> None:
        """Somebody waits for a connection, or ours is too old: let what is in flight land, and queue up again."""
        if self._connection is not None and self._should_yield():
            await self._quiet.wait()
            if self._should_yield():
                self.give_back()

    def _should_yield(self) -> bool:
        now = asyncio.get_running_loop().time()
        if self._connection is not None and now >= self._connection.expires_at:
            return True
        return now - self._leased_at >= MIN_LEASE_SECONDS and self._access.others_wait

    def _finished(self, connection: Connection) -> None:
        """A call on the connection is over."""
        self._in_flight -= 1
        if self._in_flight:
            return
        self._quiet.set()
        if connection is not self._connection:
            return
        if not connection.is_open:
            self._lose(connection)
        elif self._should_yield():
            self.give_back()
        else:
            self._await_idleness()

    def _await_idleness(self) -> None:
        self._release_timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._release_if_idle)

    def _release_if_idle(self) -> None:
        self._release_timer = None
        if not self._in_flight:
            self.give_back()

    def _stop_release_timer(self) -> None:
        if self._release_timer is not None:
            self._release_timer.cancel()
            self._release_timer = None

    def _lose(self, connection: Connection) -> None:
        self._reason = str(connection.error or "closed")
        self.give_back()

    def give_back(self) -> None:
        """Return the lease; a connection with something in flight is ended by the pool. Synchronous."""
        self._stop_release_timer()
        connection, self._connection = self._connection, None
        if connection is not None:
            self._access.give_back(connection)
