"""Fetching one batch, and very large messages of it in windows that several connections fetch at the same time.

A window is a range of a message, asked for by a partial FETCH (RFC 9051 §6.4.5) and received into its place in the
whole, so nothing is copied when all of them are there. A connection that dies costs no byte that came.

Invariants:

- A message is put together only if each window begins with the last bytes of the one before it, all of them came with
  the same RFC822.SIZE, and there is nothing behind the last one. Otherwise it is asked for as a whole.
- The work has its lane's connection. Others help as long as there are windows left; it waits for none to be free, and
  the run never has more than it may.
- Messages that come in windows take together no more room than one connection may hold in files, unless one does.
- What came of a message is kept for the next try, with the remainders of the run.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from imapipe.errors import (
    CommandBad,
    CommandNo,
    CommandTimeout,
    ConnectionLost,
    ImapipeError,
    ServerBye,
    SpoolError,
    UidValidityChanged,
)
from imapipe.models.batch import Batch
from imapipe.models.message import Message
from imapipe.net.connection import Connection, room_for
from imapipe.pipeline.delivery.tasks import end_tasks
from imapipe.pipeline.operation.base import Observe, Work, Workbench
from imapipe.pipeline.operation.fetch import DOES_NOT_FIT, Fetching, FetchMessages, pass_over
from imapipe.pipeline.operation.remainder import Remainder
from imapipe.pipeline.operation.windowed import Windowed
from imapipe.pipeline.source.sizes import fetch_sizes
from imapipe.wire.response.note import count_notes
from imapipe.wire.uid_set import UidSet

LEAST_WINDOW_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class FetchWindows(FetchMessages):
    """Fetch whole messages, large ones in windows (an `Operation`).

    Attributes:
        window_bytes: How large a window is; what is no larger comes as it is.
    """

    window_bytes: int = LEAST_WINDOW_BYTES

    @property
    def asks_ahead(self) -> None:
        """See `Operation`: sizes come first."""

    def begin(self, batch: Batch, bench: Workbench, observe: Observe) -> Work:
        """See `Operation`."""
        return WindowedFetching(self, batch, bench, observe)


class WindowedFetching(Fetching):
    """The work of fetching one batch, large messages in windows (a `Work`)."""

    __slots__ = ("_window_bytes",)

    def __init__(self, operation: FetchWindows, batch: Batch, bench: Workbench, observe: Observe) -> None:
        super().__init__(operation.fetch, operation.max_uid_text_bytes, batch, bench, observe)
        self._window_bytes = operation.window_bytes

    async def _fetch_all(self, connection: Connection) -> None:
        """Ask for sizes, then for what is small, then for each large message by all connections that can be had."""
        flight, remainders = self._flight, self._bench.remainders
        large: dict[int, int] = {}
        # Without sizes there are no windows.
        with suppress(CommandNo, CommandBad):
            sizes = await fetch_sizes(connection, self._todo)
            large = {uid: sizes[uid] for uid in self._todo if uid in sizes and sizes[uid] > self._window_bytes}
        small = self._todo - UidSet.from_numbers(large)
        await self._fetch_each(connection, small, self._fetch, flight.deliver, flight.could_not_have)
        for uid, size in large.items():
            if remainders.may_keep(uid):
                async with remainders.room_for(size, connection.max_spool_bytes):
                    if await self._fetch_windowed(connection, uid, size):
                        continue
                remainders.wrong(uid)
                count_notes(self._bench.books.notes, [DOES_NOT_FIT])
            one = UidSet.from_numbers([uid])
            await self._fetch_each(connection, one, self._fetch, flight.deliver, flight.could_not_have)

    async def _fetch_windowed(self, connection: Connection, uid: int, size: int) -> bool:
        """Fetch one message; False where it is to be asked for as a whole."""
        remainders = self._bench.remainders
        windowed = remainders.windowed.get(uid)
        if windowed is None or windowed.size != size:
            remainders.drop(uid)
            place = room_for(connection, size)
            windowed = remainders.windowed[uid] = Windowed(uid, size, place, self._fetch, self._window_bytes)
        before = windowed.received
        crew = _Crew(self, uid, windowed)
        try:
            fits = await crew.work(connection)
        finally:
            self._kept_bytes += max(0, windowed.received - before)
        if uid in self._bench.ledger.vanished:
            remainders.drop(uid)
            return True
        message = windowed.join() if fits else None
        if message is None:
            return False
        remainders.joined(uid)
        connection.hold(message)
        self._flight.deliver([message])
        return True

    async def fetch_window(self, connection: Connection, uid: int, windowed: Windowed, window: Remainder) -> bool:
        """Fetch one window over some connection; False where it does not fit."""
        accepted = False

        def take(answers: list[Message]) -> None:
            nonlocal accepted
            for answer in answers:
                connection.release(answer)
                if windowed.accept(window, answer):
                    accepted = True
                else:
                    answer.discard()

        window.prepare()
        try:
            await self._ask(connection, UidSet.from_numbers([uid]), window.rest, take, pass_over, window)
        except (CommandNo, CommandBad):
            # It may be the range that it cannot do.
            return False
        return accepted


class _Crew:
    """The connections that fetch one message."""

    __slots__ = ("_changed", "_error", "_fits", "_in_hand", "_uid", "_windowed", "_work")

    def __init__(self, work: WindowedFetching, uid: int, windowed: Windowed) -> None:
        self._work = work
        self._uid = uid
        self._windowed = windowed
        self._in_hand = 0
        self._fits = True
        self._error: Exception | None = None
        self._changed = asyncio.Event()

    async def work(self, connection: Connection) -> bool:
        """Fetch all windows; False as soon as one does not fit.

        Where this connection ends, the others go on. Raises what ended it if they do not reach the end, and what ends
        the run.
        """
        left = self._windowed.left
        count = min(len(left), self._work.bench.connections) - 1
        helpers = [asyncio.create_task(self._help(), name="imapipe window") for _ in range(count)]
        lost: ImapipeError | None = None
        try:
            while True:
                try:
                    await self._pull(connection)
                except (ConnectionLost, ServerBye, CommandTimeout) as error:
                    lost = error
                while self._in_hand and self._fits and self._error is None and (lost or not left):
                    self._changed.clear()
                    await self._changed.wait()
                if self._error is not None:
                    raise self._error
                if not self._fits or not left:
                    return self._fits
                if lost is not None:
                    raise lost
        finally:
            await end_tasks(helpers)

    async def _help(self) -> None:
        """Take part with one more connection, if the run may have one."""
        bench = self._work.bench
        if bench.access.leases_wanted >= bench.connections:
            return
        try:
            connection = await bench.access.take()
            try:
                await bench.access.reopen(connection)
                await self._pull(connection, helping=True)
            finally:
                bench.access.give_back(connection)
        except (SpoolError, UidValidityChanged) as error:
            self._error = error
        except ImapipeError:
            # What it had in hand is left for the others.
            pass
        except Exception as error:  # noqa: BLE001 - a defect, which the work raises
            self._error = error
        finally:
            self._changed.set()

    async def _pull(self, connection: Connection, *, helping: bool = False) -> None:
        """Fetch windows as long as there are some, and nobody else waits for the connection."""
        left = self._windowed.left
        while left and self._fits and self._error is None:
            if helping and self._work.bench.access.others_wait:
                return
            window = left.popleft()
            self._in_hand += 1
            is_done = False
            try:
                is_done = await self._work.fetch_window(connection, self._uid, self._windowed, window)
                if not is_done:
                    self._fits = False
            finally:
                self._in_hand -= 1
                if not is_done:
                    left.appendleft(window)
                self._changed.set()
