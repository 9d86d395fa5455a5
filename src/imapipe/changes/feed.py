"""Iterating over what changed in a mailbox: `Mailbox.changes`.

A task of its own (`_Look`) holds the state, looks at the mailbox and makes durable what is acknowledged; the iterator
takes what it found, one change after the other.

Invariants:

- A change is acknowledged when the next one is asked for; `break` leaves the last one unacknowledged.
- No connection is leased while changes are told: all of them are found before the first one is.
- An iterator that is dropped without being closed ends its task, which saves; a look that begins later on the same pool
  waits for that, and so does the pool when it closes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Final, Literal, Self

from imapipe.changes.book import Book
from imapipe.changes.mirror import DeletionBound, MirrorReport, mirrors_of
from imapipe.changes.mirroring import access_for_looking, mirror_mailbox
from imapipe.changes.news import News
from imapipe.changes.sight import see
from imapipe.errors import PoolClosed
from imapipe.models.argument import check_number
from imapipe.models.change import Change
from imapipe.net.pool.pool import ConnectionPool
from imapipe.pipeline.access import MailboxAccess
from imapipe.pipeline.delivery.sink import Sink
from imapipe.pipeline.delivery.stream import Runs
from imapipe.runtime.closing import EndsWithBlock
from imapipe.store.base import BlockingCheckpointStore, CheckpointStore
from imapipe.store.job_key import JobKey
from imapipe.store.json_store import JsonCheckpointStore
from imapipe.store.threaded import as_async

_SYNC_SECONDS: Final = 0.5
# An iteration that finds everything there would never let others have the event loop.
_TURN_CHANGES: Final = 256

OnUidValidity = Literal["raise", "restart"]


class Changes:
    """What changed in a mailbox since it was asked the last time. Made by `Mailbox.changes`; making one does no I/O.

    `async for change in changes` looks at the mailbox once and ends; iterating again looks again. The first time every
    message is `Arrived`; later on only what is new is told, as `Arrived`, `FlagsChanged` and `Vanished`. A change is
    acknowledged when the next one is asked for: `break` leaves the last one to the next time, and a process that is
    killed repeats only that one. By QRESYNC, else CONDSTORE, else by comparison.

    The iteration raises:
        UidValidityChanged: UIDs mean other messages now.
        CheckpointError: The state cannot be read or written, or is in use; see the classes below it.
        CommandNo, CommandBad, Throttled: The server refused.
        ProtocolError: The server tells of fewer messages than it says there are.
        PoolTimeout, AuthenticationFailed, ConnectionFailed, ConnectionLost: It could not be asked.
    """

    __slots__ = ("_key", "_outage_seconds", "_path", "_pool", "_restarts", "_runs", "_store")

    def __init__(
        self,
        pool: ConnectionPool,
        runs: Runs,
        key: JobKey,
        store: CheckpointStore | BlockingCheckpointStore | str | os.PathLike[str],
        *,
        on_uidvalidity: OnUidValidity,
        outage_seconds: float,
    ) -> None:
        if on_uidvalidity not in ("raise", "restart"):
            raise ValueError(f"on_uidvalidity is one of 'raise', 'restart', not {on_uidvalidity!r}")
        check_number("outage_seconds", outage_seconds)
        if outage_seconds < 0:
            raise ValueError(f"outage_seconds must be 0 or more, not {outage_seconds}")
        kept = JsonCheckpointStore(store) if isinstance(store, str | os.PathLike) else store
        self._store = as_async(kept)
        self._path = str(getattr(kept, "path", ""))
        self._runs = runs
        self._key = key
        self._restarts = on_uidvalidity == "restart"
        self._pool = pool
        self._outage_seconds = outage_seconds

    def __repr__(self) -> str:
        return f"<Changes {self._key.mailbox!r}>"

    def __aiter__(self) -> ChangeStream:
        return self.stream()

    def stream(self) -> ChangeStream:
        """One look as an async context manager, whose end waits until everything is saved."""
        access = access_for_looking(self._pool, self._key.mailbox, self._outage_seconds)
        open_book = partial(Book.open, self._store, self._key, self._path)
        found = _Look(access, open_book, restarts=self._restarts)
        return ChangeStream(found, self._runs, self._key.mailbox)

    async def mirror(self, sink: Sink, *, max_deletions: int | str | None = None) -> MirrorReport:
        """Bring what a sink has of the mailbox up to date with it: flags, and what is gone. New messages are a job's.

        What the sink has is compared with what is there now; what is remembered only spares the server. So run it after
        the job that brings new messages, with a state of its own; a crash at any moment repeats what was not committed.

        Args:
            sink: A sink that can follow changes (`Mirror`), such as `sinks.Maildir(…)`, that no run uses now.
            max_deletions: How much may be removed: a number such as 100, or a share of what the sink has of the
                mailbox, such as "10%"; None is nothing.

        Raises:
            TypeError, ValueError: A sink that cannot mirror; a bound that is none.
            DeletionsRefused: More is gone than that; flags are up to date then, and nothing was removed.
            UidValidityChanged: What the sink has means other messages now, under the same UIDVALIDITY.
            SinkError: It cannot be written.
            CheckpointError, ImapipeError: As the iteration raises them.

        Cancelled, it keeps what the sink committed.
        """
        return await mirror_mailbox(
            self._pool,
            self._key,
            self._store,
            self._path,
            mirrors_of(sink),
            bound=DeletionBound.parse(max_deletions),
            outage_seconds=self._outage_seconds,
        )


class _Look:
    """One look at the mailbox, and the keeping of what is acknowledged of it.

    Attributes:
        has_looked: What changed is known, or never will be.
        is_over: Everything was acknowledged.
        book: What is remembered; None until it has looked.
        changes: What is still to be told.
        uidvalidity: UIDVALIDITY of the mailbox.
        has_restarted: What was remembered is of other messages, and was forgotten.
    """

    def __init__(self, access: MailboxAccess, open_book: Callable[[], Awaitable[Book]], *, restarts: bool) -> None:
        self._access = access
        self._open_book = open_book
        self._restarts = restarts
        self.has_looked = asyncio.Event()
        self.is_over = asyncio.Event()
        self.book: Book | None = None
        self.changes: Iterator[Change] = iter(())
        self.uidvalidity = 0
        self.has_restarted = False

    async def drive(self) -> None:
        """Do all of it. Cancelling it saves what was acknowledged."""
        book = await self._open_book()
        try:
            connection, seen = await self._access.reach(partial(see, self._access, book, restarts=self._restarts))
            self._access.give_back(connection)
            now, self.uidvalidity, cursor, self.has_restarted = seen
            # In a thread: the comparison of hundreds of thousands of messages takes a while.
            news = News() if now is book.known else await asyncio.to_thread(News.between, book.known, now)
            await book.begin(news, self.uidvalidity, cursor)
            self.book, self.changes = book, news.items()
            self.has_looked.set()
            while not self.is_over.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(_SYNC_SECONDS):
                        await self.is_over.wait()
                await book.sync()
        finally:
            await book.close()


class ChangeStream(EndsWithBlock):
    """An iterator over what one look at a mailbox has found, to be used once.

    Leaving the block of `async with` early ends it; what was not acknowledged is told again by the next one.
    """

    __slots__ = ("_current", "_ended", "_is_asked", "_look", "_mailbox", "_runs", "_task", "_told")

    def __init__(self, found: _Look, runs: Runs, mailbox: str) -> None:
        self._look = found
        self._runs = runs
        self._mailbox = mailbox
        self._task: asyncio.Task[None] | None = None
        self._current: Change | None = None
        self._told = 0
        self._ended = False
        self._is_asked = False

    def __aiter__(self) -> Self:
        return self

    @property
    def uidvalidity(self) -> int:
        """UIDVALIDITY of the mailbox, once something was asked for; else 0."""
        return self._look.uidvalidity

    @property
    def has_restarted(self) -> bool:
        """Whether the UIDs of earlier looks mean other messages now, so that everything is told anew."""
        return self._look.has_restarted

    async def __anext__(self) -> Change:
        if self._is_asked:
            raise RuntimeError("two tasks iterate over one stream of changes: let one of them do it")
        self._is_asked = True
        try:
            return await self._next()
        finally:
            self._is_asked = False

    async def _next(self) -> Change:
        if self._ended:
            raise StopAsyncIteration
        if self._task is None:
            self._task = self._runs.keep(self._look.drive(), f"imapipe changes {self._mailbox}")
            has_looked = self._look.has_looked
            self._task.add_done_callback(lambda _: has_looked.set())
        await self._look.has_looked.wait()
        book = self._look.book
        if book is None or self._task.done():
            return await self._end()
        if self._current is not None:
            self._current = None
            await self._acknowledge(book)
        self._current = next(self._look.changes, None)
        if self._current is None:
            self._look.is_over.set()
            return await self._end()
        return self._current

    async def _acknowledge(self, book: Book) -> None:
        try:
            book.acknowledge()
        except BaseException:
            # The next one would be counted in its place. What saving raises now is no more than that.
            with suppress(Exception):
                await self.aclose()
            raise
        self._told += 1
        if book.is_full:
            await book.save()
        elif self._told % _TURN_CHANGES == 0:
            await asyncio.sleep(0)

    async def _end(self) -> Change:
        """Wait for the task, and raise what it raised."""
        assert self._task is not None
        # Not awaited itself: whoever cancels us now must not cancel what it saves.
        await asyncio.wait([self._task])
        self._ended = True
        if self._task.cancelled():
            # It was the pool that ended it, not whoever iterates.
            raise PoolClosed
        self._task.result()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End it, and save what was acknowledged. Raises what saving raised."""
        task, was_over = self._task, self._ended
        self._ended = True
        if task is None or was_over:
            return
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    def __del__(self) -> None:
        if self._task is not None:
            self._runs.drop(self._task)
