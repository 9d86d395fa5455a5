"""Lanes: each holds one lease and keeps `depth` UID FETCHes in flight on it.

A lane's workers take batches from the plan and send them through the middleware; the innermost call comes back
here, to `fetch_batch`, which uses the lane's connection. When that connection ends, every call of the lane on
it is interrupted, and the next call leases another.

Invariants:

- The lease is given back when the lane ends, when nothing was in flight for a second, and, at a batch boundary,
  when somebody else waits for a connection. It is never given back with something in flight.
- The depth follows the round trip: it is doubled as long as the first byte of an answer comes a large part of a
  round trip after the end of the answer before it, because then the server had nothing to do.
- A connection that was leased again has the mailbox open under the UIDVALIDITY of the run, or the run ends.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from imapipe.errors import BatchInterrupted, ConnectionLost, ImapipeError, UidValidityChanged
from imapipe.models.batch import Batch, BatchResult, Failure
from imapipe.models.event import Reconnect
from imapipe.net.command import FetchCommand
from imapipe.net.connection import Connection
from imapipe.net.signals import to_error
from imapipe.pipeline.batching import Sizer
from imapipe.pipeline.flight import Flight
from imapipe.search import uid as uid_key
from imapipe.wire.uid_set import UidSet

if TYPE_CHECKING:
    from imapipe.pipeline.run import Run

MAX_DEPTH = 32
MIN_DEPTH = 2
IDLE_SECONDS = 1.0
MIN_LEASE_SECONDS = 0.5
# One more FETCH in flight for each of these of a round trip: about what a batch takes.
_SECONDS_PER_BATCH = 0.005
_GAP_OF_ROUND_TRIP = 0.25


class Lane:
    """One lease and the batches on it."""

    __slots__ = (
        "_active",
        "_connection",
        "_deeper",
        "_in_flight",
        "_last_finished",
        "_leased_at",
        "_lock",
        "_quiet",
        "_reason",
        "_release_timer",
        "_run",
        "_taken",
        "depth",
        "number",
    )

    def __init__(self, run: Run, number: int, connection: Connection | None = None) -> None:
        self._run = run
        self.number = number
        self._connection = connection
        self._taken = connection is not None
        self._lock = asyncio.Lock()
        self._active = 0
        self._in_flight = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._deeper = asyncio.Event()
        self._last_finished = 0.0
        self._leased_at = asyncio.get_running_loop().time()
        self._release_timer: asyncio.TimerHandle | None = None
        self._reason = ""
        self.depth = run.depth or MIN_DEPTH
        if connection is not None:
            self._set_depth(connection)

    @property
    def holds_lease(self) -> bool:
        """Whether it holds a connection now."""
        return self._connection is not None

    async def work(self) -> None:
        """Take batches until the plan is empty."""
        run = self._run
        sizer = run.new_sizer()
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    while self._active < self.depth and run.has_batches and not self._spares_for_others():
                        self._active += 1
                        group.create_task(self._worker(sizer))
                    if not self._active:
                        break
                    self._deeper.clear()
                    await self._deeper.wait()
        finally:
            self.give_back()

    async def _worker(self, sizer: Sizer) -> None:
        run = self._run
        try:
            while run.has_batches and (self._active == 1 or not self._spares_for_others()):
                batch = run.next_batch(sizer, self.number)
                if batch is None:
                    break
                await run.process(batch, sizer)
        finally:
            self._active -= 1
            self._deeper.set()

    def _spares_for_others(self) -> bool:
        """Whether what is left should be kept for lanes that are still connecting."""
        return self._active > 0 and self._run.is_nearly_given_out

    async def fetch_batch(self, batch: Batch) -> BatchResult:
        """The innermost call: fetch a batch on this lane's connection and see its messages settled.

        Raises:
            BatchInterrupted: The connection ended, or the server refused the command; the cause is chained.
            UidValidityChanged, AuthenticationFailed, CapabilityMissing, PoolClosed, SpoolError: The run cannot go on.
        """
        try:
            connection = await self._lease()
        except ImapipeError as error:
            if self._run.is_fatal(error):
                raise
            raise BatchInterrupted(batch, BatchResult(batch, missing=batch.uids)) from error
        flight = Flight(connection, self._run.inbox, self._run.ledger, by_batch=self._run.by_batch)
        state = _Sum(batch)
        try:
            error = await self._fetch(connection, batch.uids, flight, state)
            flight.hand_over()
            await flight.landed()
        except asyncio.CancelledError:
            connection.abort(ConnectionLost("the batch was cancelled"))
            raise
        finally:
            self._finished(connection)
        result = state.result(flight)
        if error is None:
            return result
        if self._run.is_fatal(error):
            raise error
        raise BatchInterrupted(batch, result) from error

    async def _fetch(
        self, connection: Connection, uids: UidSet, flight: Flight, state: _Sum
    ) -> ImapipeError | None:
        """Fetch, then look a second time for what was not delivered. Gives the error that stopped it."""
        while True:
            try:
                command = connection.uid_fetch(uids, self._run.fetch, flight.deliver)
                tagged = await asyncio.shield(command.finished)
            except ImapipeError as error:
                return error
            self._observe(connection, command)
            state.add(command)
            for failure in command.malformed.values():
                flight.failed[failure.uid] = failure
                self._run.ledger.fail(failure)
            if tagged.status != "OK":
                return to_error("UID FETCH", tagged)
            missing = command.missing
            if not missing:
                return None
            limited = tagged.code is not None and tagged.code.name == "MESSAGELIMIT"
            if not limited:
                try:
                    missing = await self._look_again(connection, missing, state)
                except ImapipeError as error:
                    return error
            if not missing:
                return None
            if len(missing) == len(uids):
                for uid in missing:
                    failure = Failure(uid, "no-data", "the server lists the message and sends no data for it")
                    flight.failed[uid] = failure
                    self._run.ledger.fail(failure)
                return None
            uids = missing

    async def _look_again(self, connection: Connection, missing: UidSet, state: _Sum) -> UidSet:
        """Which of the UIDs that were not delivered still exist; the others have vanished."""
        program = uid_key(missing).program(today=self._run.today)
        answer = await connection.uid_search(program)
        there = answer.uids & missing
        gone = missing - there
        if gone:
            state.vanished |= gone
            self._run.ledger.vanish(gone)
        return there

    # -- the lease -------------------------------------------------------------------------------

    async def _lease(self) -> Connection:
        """The lane's connection with the mailbox open; leases one if need be. Counts a call in flight."""
        async with self._lock:
            await self._yield_to_others()
            connection = self._connection
            if connection is not None and not connection.is_open:
                self._reason = str(connection.plane.error or "closed")
                self.give_back()
                connection = None
            if connection is None:
                connection = await self._run.pool.take(self._run.mailbox)
                self._connection = connection
                self._leased_at = asyncio.get_running_loop().time()
                try:
                    await self._open_mailbox(connection)
                except BaseException:
                    self.give_back()
                    raise
                if self._taken and self._reason:
                    self._run.events.emit(Reconnect(self.number, self._reason))
                    self._reason = ""
                self._taken = True
                self._set_depth(connection)
            if self._release_timer is not None:
                self._release_timer.cancel()
                self._release_timer = None
            self._in_flight += 1
            self._quiet.clear()
            return connection

    async def _open_mailbox(self, connection: Connection) -> None:
        selected = await self._run.open_mailbox(connection)
        if selected.uidvalidity != self._run.uidvalidity:
            raise UidValidityChanged(
                self._run.mailbox, expected=self._run.uidvalidity, found=selected.uidvalidity
            )

    async def _yield_to_others(self) -> None:
        """Somebody waits for a connection: let what is in flight land, and queue up behind him."""
        now = asyncio.get_running_loop().time()
        if self._connection is None or not self._run.pool.has_waiters or now - self._leased_at < MIN_LEASE_SECONDS:
            return
        await self._quiet.wait()
        self.give_back()

    def _finished(self, connection: Connection) -> None:
        self._in_flight -= 1
        if self._in_flight:
            return
        self._quiet.set()
        if connection is not self._connection:
            return
        if not connection.is_open:
            self._reason = str(connection.plane.error or "closed")
            self.give_back()
        elif self._run.pool.has_waiters:
            now = asyncio.get_running_loop().time()
            if now - self._leased_at >= MIN_LEASE_SECONDS:
                self.give_back()
        else:
            self._release_timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._release_if_idle)

    def _release_if_idle(self) -> None:
        self._release_timer = None
        if not self._in_flight:
            self.give_back()

    def give_back(self) -> None:
        """Return the lease; a connection with something in flight is ended by the pool. Synchronous."""
        if self._release_timer is not None:
            self._release_timer.cancel()
            self._release_timer = None
        connection, self._connection = self._connection, None
        if connection is not None:
            self._run.pool.give_back(connection)

    # -- depth -----------------------------------------------------------------------------------

    def _set_depth(self, connection: Connection) -> None:
        if self._run.fixed_depth:
            return
        round_trip = connection.round_trip_seconds
        wanted = MIN_DEPTH + int(round_trip / _SECONDS_PER_BATCH) if round_trip < 10 else MIN_DEPTH
        self.depth = max(self.depth, min(MAX_DEPTH, wanted))
        self._deeper.set()

    def _observe(self, connection: Connection, command: FetchCommand) -> None:
        """Learn from a FETCH that ended whether the server had to wait for us."""
        connection.fetched(command)
        before, self._last_finished = self._last_finished, command.finished_at
        if self._run.fixed_depth or not before or not command.first_byte_at or command.paused_seconds:
            return
        round_trip = connection.round_trip_seconds
        gap = command.first_byte_at - max(before, command.started_at)
        was_waiting = command.started_at < before
        if was_waiting or round_trip < 0.001:
            return
        if gap > round_trip * _GAP_OF_ROUND_TRIP and self.depth < MAX_DEPTH:
            self.depth = min(MAX_DEPTH, self.depth * 2)
            self._deeper.set()


class _Sum:
    """Adds up the commands that one batch took."""

    __slots__ = ("_batch", "_bytes", "_seconds", "vanished")

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._seconds = 0.0
        self._bytes = 0
        self.vanished = UidSet()

    def add(self, command: FetchCommand) -> None:
        """A command that got its tagged reply."""
        self._seconds += command.elapsed_seconds
        self._bytes += command.bytes_received

    def result(self, flight: Flight) -> BatchResult:
        """What became of the batch."""
        done = UidSet.from_numbers(flight.done)
        failed = dict(flight.failed)
        return BatchResult(
            self._batch,
            done=done,
            vanished=self.vanished,
            failed=failed,
            missing=self._batch.uids - done - self.vanished - UidSet.from_numbers(failed),
            elapsed_seconds=self._seconds,
            bytes_received=max(self._bytes, flight.bytes_received),
        )
