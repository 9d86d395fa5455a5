"""A run's way to its mailbox: its leases, and the mailbox opened on them.

Invariants:

- Every lease of a run is taken and given back here, so it is known what the run holds and what came over it.
- The first time a run opens the mailbox, it does so anew also where it is open already: a server tells an old view
  of what came since only with the reply to the next command. UIDVALIDITY is taken then, and never differs later.
- Each opening of the mailbox on a lease is compared once with what the run knew before it: UIDNEXT that fell shows that
  UIDs of the plan were given to other messages. Where somebody else had opened it, with another UIDNEXT, it cannot be
  told which of the two came first: it is opened anew.
- A UIDNEXT that is missing, late or made up ends nothing and hides nothing; see `told`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from imapipe.errors import CommandBad, CommandNo, ConnectionLost, ImapipeError, PoolTimeout
from imapipe.models.cursor import Cursor, reissued
from imapipe.models.event import Wait
from imapipe.net.connection import Connection
from imapipe.net.pool.pool import ConnectionPool
from imapipe.net.session import SelectedMailbox
from imapipe.net.transient import is_transient
from imapipe.pipeline.ahead import Ahead, Order
from imapipe.pipeline.books import Books
from imapipe.pipeline.outage import Outage
from imapipe.pipeline.told import believable_cursor, is_made_up
from imapipe.runtime.event_bus import EventBus
from imapipe.wire.uid_set import UidSet

# How often the search is begun where connections end, or the server asks for less.
LOOK_ATTEMPTS = 5
LOOK_PAUSE_SECONDS = 0.25
SEARCH_AGAIN = "search again"
RUN_AGAIN = "run it again"

_Result = TypeVar("_Result")

_log = logging.getLogger(__name__)


class MailboxAccess:
    """The leases of a run.

    Args:
        pool: Where they come from.
        mailbox: What is opened on them.
        opens: The mailbox must be open; else `reopen` does nothing, and who needs its UIDVALIDITY finds that out.
        writes: Open it for writing.
        however_long: Wait without an end for a connection to become free, always.
        remembers: Have HIGHESTMODSEQ told: answers are remembered by it.
        events: Where waits are told.
        books: Where bytes are counted.
        outage: How long to wait for a server that does not work.

    Attributes:
        uidvalidity: UIDVALIDITY of the mailbox, once it was opened.
        cursor: How far the mailbox had come then, with what was found in it.
        ahead: What was asked for together with the mailbox and not taken over yet, or None.
    """

    __slots__ = (
        "_books",
        "_events",
        "_however_long",
        "_leases",
        "_mailbox",
        "_openings",
        "_opens",
        "_pool",
        "_remembers",
        "_seen",
        "_waiting",
        "_writes",
        "ahead",
        "cursor",
        "outage",
        "uidvalidity",
    )

    def __init__(
        self,
        pool: ConnectionPool,
        mailbox: str,
        *,
        opens: bool = True,
        writes: bool,
        however_long: bool = False,
        remembers: bool,
        events: EventBus,
        books: Books,
        outage: Outage,
    ) -> None:
        self.outage = outage
        self._pool = pool
        self._mailbox = mailbox
        self._opens = opens
        self._writes = writes
        self._however_long = however_long
        self._remembers = remembers
        self._events = events
        self._books = books
        self._leases: dict[Connection, int] = {}
        self._openings: dict[Connection, SelectedMailbox] = {}
        self._waiting = 0
        self._seen = Cursor()
        self.uidvalidity = 0
        self.cursor = Cursor()
        self.ahead: Ahead | None = None

    @property
    def leases_held(self) -> int:
        """How many connections it has."""
        return len(self._leases)

    def is_of(self, pool: object) -> bool:
        """Whether its connections are of this pool."""
        return pool is self._pool

    @property
    def leases_wanted(self) -> int:
        """How many it has or waits for."""
        return len(self._leases) + self._waiting

    async def take(self, *, however_long: bool = False, unchecked: bool = False) -> Connection:
        """Lease a connection; raises as `ConnectionPool.take` does.

        Args:
            however_long: Wait without an end for one to become free.
            unchecked: See `ConnectionPool.take`.
        """
        self._waiting += 1
        try:
            limit = math.inf if however_long or self._however_long else None
            connection = await self._pool.take(self._mailbox, timeout_seconds=limit, unchecked=unchecked)
        finally:
            self._waiting -= 1
        self._leases[connection] = connection.wire_bytes
        self._pool.refuse_self_waits()
        return connection

    def give_back(self, connection: Connection) -> None:
        """Return a lease, whatever is in flight on it."""
        if self.ahead is not None and self.ahead.connection is connection:
            self._drop_ahead()
        self._openings.pop(connection, None)
        self._books.wire_bytes += connection.wire_bytes - self._leases.pop(connection)
        self._pool.give_back(connection)

    @property
    def others_wait(self) -> bool:
        """Whether somebody who is not of this run waits for a connection, here or where the pool's slots are shared."""
        return (self._pool.has_waiters and self._pool.stats.waiting > self._waiting) or self._pool.owes_connection

    def check_slots(self) -> None:
        """See `ConnectionPool.check_slots`."""
        self._pool.check_slots()

    async def open(
        self,
        connection: Connection,
        *,
        expected: int | None = None,
        remembered: Cursor | None = None,
        advice: str = SEARCH_AGAIN,
        ahead: Order | None = None,
    ) -> SelectedMailbox:
        """Open the mailbox anew, and take its UIDVALIDITY for that of the run.

        Args:
            connection: Where.
            expected: The UIDVALIDITY of UIDs that were given instead of a search.
            remembered: How far the mailbox had come when they were seen.
            advice: What to do where they mean other messages now.
            ahead: What to ask for in the same flight; see `ahead`.

        Raises:
            CommandNo: There is no such mailbox, or its flags cannot be changed and the job would.
            UidValidityChanged: The UIDs that were given mean other messages now.
        """
        self._drop_ahead()
        selected = await (self._select(connection) if ahead is None else self._select_and_ask(connection, ahead))
        cursor = await believable_cursor(connection, selected, remembered)
        if expected is not None:
            self._compare((expected, remembered), (selected.uidvalidity, cursor), advice)
        self.uidvalidity = selected.uidvalidity
        self.cursor = self._seen = cursor
        self._openings[connection] = selected
        return selected

    def found(self, uids: UidSet, selected: SelectedMailbox, *, exists: int) -> None:
        """The server says that it has these messages: UIDNEXT cannot be at or below them again.

        Args:
            uids: What a search found.
            selected: Where it was made.
            exists: How many messages there were when that was opened.
        """
        arrived = selected.exists + selected.expunged - exists
        if is_made_up(self.cursor.uidnext, uids, arrived):
            self.cursor = replace(self.cursor, uidnext=None)
            self._seen = replace(self._seen, uidnext=None)
        self.cursor = self.cursor.met(uids)
        self._seen = self._seen.met(uids)

    async def believable_cursor(self, connection: Connection, remembered: Cursor) -> Cursor:
        """The cursor, to be compared with one of an earlier time.

        Where the numbers that came with the mailbox leave open which of the two is behind, it is opened anew, and the
        server asked.

        Args:
            connection: A lease.
            remembered: How far the mailbox had come then.

        Raises:
            UidValidityChanged: The UIDs of the run itself mean other messages now.
        """
        if self.cursor.leaves_open(remembered):
            selected = await self._select(connection)
            cursor = await believable_cursor(connection, selected, remembered)
            self._compare((self.uidvalidity, self._seen), (selected.uidvalidity, cursor), RUN_AGAIN)
            self.cursor = replace(self.cursor, uidnext=cursor.uidnext)
            self._seen = replace(self._seen, uidnext=cursor.uidnext)
            self._openings[connection] = selected
        return self.cursor

    async def reopen(self, connection: Connection) -> None:
        """See to it that the mailbox is open, with the UIDs of this run.

        Raises:
            UidValidityChanged: The UIDs of the run mean other messages now.
            CommandNo: The mailbox cannot be opened any more.
        """
        if not self._opens:
            return
        selected = connection.selected
        is_open = selected is not None and selected.name == self._mailbox and selected.read_only is not self._writes
        is_compared = selected is not None and selected is self._openings.get(connection)
        # What another lease of the run learns meanwhile may be newer than the answer to this one.
        seen = self._seen
        if selected is None or not is_open or not (is_compared or _agree(selected.uidnext, seen.lowest_uidnext())):
            selected = await self._select(connection)
            is_compared = False
        cursor = await believable_cursor(connection, selected, None if is_compared else seen)
        self._compare((self.uidvalidity, None if is_compared else seen), (selected.uidvalidity, cursor), RUN_AGAIN)
        if cursor.uidnext is not None and (self._seen.uidnext is None or cursor.uidnext > self._seen.uidnext):
            self._seen = self._seen.advanced(cursor)
        self._openings[connection] = selected

    def _compare(self, then: tuple[int, Cursor | None], now: tuple[int, Cursor], advice: str) -> None:
        """Raise where UIDs that were seen at an earlier time mean other messages now; see `reissued`."""
        error = reissued(self._mailbox, then, now, advice)
        if error is not None:
            raise error

    async def _select(self, connection: Connection) -> SelectedMailbox:
        """EXAMINE, or SELECT where the fetch changes flags; with HIGHESTMODSEQ where answers are remembered by it."""
        if not self._writes:
            return await connection.examine(self._mailbox, condstore=self._remembers)
        selected = await connection.select(self._mailbox, condstore=self._remembers)
        if selected.read_only:
            raise CommandNo("SELECT", "READ-ONLY", "the job needs a mailbox that can be changed (mark_seen=True does)")
        return selected

    async def _select_and_ask(self, connection: Connection, order: Order) -> SelectedMailbox:
        selecting = asyncio.ensure_future(self._select(connection))
        try:
            # By then EXAMINE is on its way, unless something else has to come first.
            await asyncio.sleep(0)
            if not selecting.done():
                self.ahead = Ahead(connection, self._mailbox, order, self._books.notes)
            return await selecting
        except BaseException:
            selecting.cancel()
            self._drop_ahead()
            raise

    def _drop_ahead(self) -> None:
        if self.ahead is not None:
            self.ahead.drop()
            self.ahead = None

    async def revisit(
        self, work: Callable[[Connection], Awaitable[_Result]], *, uidvalidity: int, cursor: Cursor
    ) -> _Result:
        """Do something with what was found at an earlier time, instead of `open`; `reopen` compares with that.

        Raises as `reach` does; no lease is left.
        """
        self.uidvalidity = uidvalidity
        self.cursor = self._seen = cursor
        connection, result = await self.reach(work)
        self.give_back(connection)
        return result

    async def ask(
        self, work: Callable[[Connection], Awaitable[_Result]], lease: Connection | None
    ) -> tuple[Connection | None, _Result]:
        """`reach`, on the lease that is held where one is; one that had to be taken is given back.

        So it is in the middle of a run, where the lanes have leases of their own.
        """
        connection, result = await self.reach(work, lease)
        if lease is not None:
            return connection, result
        self.give_back(connection)
        return None, result

    async def reach(
        self, work: Callable[[Connection], Awaitable[_Result]], connection: Connection | None = None
    ) -> tuple[Connection, _Result]:
        """Do something before there are batches, and again where a connection ends or the server asks for less.

        Args:
            work: What to do.
            connection: A lease to begin with.

        Returns:
            The lease, and what `work` gave. When it raises, no lease is left.

        Raises:
            AuthenticationFailed, ConnectionFailed, PoolTimeout, Throttled: No connection could be had.
        """
        for attempt in itertools.count(1):
            was_connected = connection is not None
            was_taken = not was_connected
            try:
                if connection is None:
                    # The first command tells whether it is still there; a question ahead would be a round trip.
                    connection = await self.take(unchecked=attempt == 1)
                was_connected = True
                result = await work(connection)
            except BaseException as error:
                has_died = attempt == 1 and connection is not None and isinstance(error, ConnectionLost)
                if connection is not None:
                    self.give_back(connection)
                    connection = None
                if not isinstance(error, ImapipeError):
                    raise
                if has_died and was_taken:
                    # While it was idle, perhaps, and nobody knew: that is no news, another one is taken.
                    continue
                if await self.outage.outlast(error):
                    continue
                # Without time for an outage, what cannot even be connected to ends the run at once.
                may_wait = was_connected or self.outage.seconds
                pause = _pause_after(error, attempt) if may_wait else None
                if pause is None:
                    raise
                # Nothing shows the events of a run that has not begun.
                _log.warning("%s is looked at again in %.0f s: %s", self._mailbox, pause, error)
            else:
                self.outage.heard()
                return connection, result
            self._events.emit(Wait("search", pause))
            await asyncio.sleep(pause)
        raise AssertionError  # the loop has no end


def _agree(first: int | None, second: int | None) -> bool:
    return not first or not second or first == second


def _pause_after(error: ImapipeError, attempt: int) -> float | None:
    """How long to wait before it is begun again, or None where that cannot help, or was tried often enough."""
    verdict = is_transient(error, fetching=False)
    if not verdict.transient or isinstance(error, CommandNo | CommandBad | PoolTimeout) or attempt >= LOOK_ATTEMPTS:
        return None
    return max(LOOK_PAUSE_SECONDS * 2.0**attempt, verdict.wait_at_least or 0.0)
