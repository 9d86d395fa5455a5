"""The local index: what is known of messages without asking the server.

Invariants:

- All work on the file is done in a worker thread, one call at a time; the event loop never waits for the disk.
- A call that is cancelled ends its transaction first: nothing is half written.
- An update is runs of a pipeline, and can be cut off at any moment: the next one fetches what is missing.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import date
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Generic, NamedTuple, Protocol, Self, TypeVar

import anyio.to_thread

from imapipe.catalog.index_entry import IndexEntry, SizeClass, identity_of, search_for, to_row
from imapipe.catalog.index_file import IndexedMailbox, IndexFile
from imapipe.catalog.index_query import IndexQuery
from imapipe.catalog.index_report import IndexReport
from imapipe.errors import CapabilityMissing, CommandBad, CommandNo, MessageIndexError, NotFetched, ProtocolError
from imapipe.middleware.base import Middleware, Run
from imapipe.models.message import Message
from imapipe.models.report import RunReport
from imapipe.pipeline.pipeline import Pipeline, SearchResult
from imapipe.search import ALL, modseq
from imapipe.wire.search_key import SearchKey
from imapipe.wire.uid_set import UidSet

__all__ = ["IndexEntry", "MessageIndex", "SizeClass"]

_Result = TypeVar("_Result")
_Item = TypeVar("_Item")


class Searchable(Protocol):
    """What can be indexed: a mailbox, as `Pool.mailbox` gives it."""

    def search(self, criteria: SearchKey, /) -> Pipeline:
        """Begin a job on the messages that match."""


class _Group(Generic[_Item]):
    """Keeps something of each message, a transaction for each group (a `Sink`).

    Attributes:
        count: How many rows that made or changed.
    """

    __slots__ = ("_items", "_keep", "_read", "count")

    def __init__(self, read: Callable[[Message], _Item], keep: Callable[[list[_Item]], Awaitable[int]]) -> None:
        self._read = read
        self._keep = keep
        self._items: list[_Item] = []
        self.count = 0

    async def open(self, run: Run) -> None:
        """See `Sink`."""

    async def write(self, messages: Sequence[Message]) -> Mapping[int, Exception]:
        """See `Sink`; what the server got wrong costs that message only."""
        malformed: dict[int, Exception] = {}
        for message in messages:
            try:
                self._items.append(self._read(message))
            except (NotFetched, ProtocolError) as error:
                malformed[message.uid] = error
        return malformed

    async def commit(self) -> None:
        """See `Sink`."""
        items, self._items = self._items, []
        self.count += await self._keep(items)

    async def close(self) -> None:
        """See `Sink`."""


class _Flags(NamedTuple):
    """What became of the flags of messages that were known.

    Attributes:
        changed: How many had others.
        bytes_received: Bytes of FETCH responses.
        is_whole: Whether all of them were told.
    """

    changed: int
    bytes_received: int = 0
    is_whole: bool = True


class MessageIndex:
    """A file with sender, subject, dates, size, flags and Message-ID of messages, and four ways to find them.

    ::

        async with imapipe.MessageIndex("mail.index") as index:
            await index.update(pool.mailbox("INBOX"))
            entries = await index.find(sender="ann@example.org", subject="invoice", limit=20)

    It is an SQLite database with full-text search. It may hold many mailboxes of many accounts, and several processes
    may read it while one writes.

    Args:
        path: The file; made by the first use, readable for its owner only.
        must_exist: Refuse to make one.
    """

    __slots__ = ("_file", "_limiter", "_lock", "_must_exist", "path")

    def __init__(self, path: str | os.PathLike[str], *, must_exist: bool = False) -> None:
        self.path = Path(path)
        self._must_exist = must_exist
        self._file: IndexFile | None = None
        self._limiter: anyio.CapacityLimiter | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<MessageIndex {str(self.path)!r}>"

    async def __aenter__(self) -> Self:
        """Open the file; raises MessageIndexError."""
        self._limiter = anyio.CapacityLimiter(1)
        self._file = await anyio.to_thread.run_sync(partial(IndexFile, self.path, must_exist=self._must_exist))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the file, also under cancellation; harmless when it is closed."""
        file, self._file = self._file, None
        if file is not None:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._alone, IndexFile.close, file)

    async def find(
        self,
        *,
        sender: str | None = None,
        subject: str | None = None,
        since: date | None = None,
        before: date | None = None,
        size_class: SizeClass | str | None = None,
        text: str | None = None,
        mailbox: str | None = None,
        account: str | None = None,
        limit: int | None = None,
    ) -> list[IndexEntry]:
        """Find messages by all the conditions that are given, newest first. The server is not asked.

        Words match whole words, whatever their case and accents; `invoice*` matches every word that begins so. In
        scripts without spaces any part of a text matches.

        Args:
            sender: A whole address, or "" for messages without one; else words of the sender's name or address, such
                as a domain.
            subject: Words that all stand in the subject.
            since: The date of the message is this moment or later; a `date` means its midnight in the local time zone.
            before: Its date is earlier than this.
            size_class: `tiny`, `small`, `medium`, `large` or `huge`.
            text: Words that each stand in the subject, or in the sender's name or address.
            mailbox: Only in mailboxes of this name.
            account: Only in this account: `user@host:port`.
            limit: At most so many.

        Raises:
            ValueError: A condition that cannot be asked; the message says what can.
            MessageIndexError: The file cannot be read.
        """
        query = IndexQuery(
            sender=sender,
            subject=subject,
            text=text,
            since=since,
            before=before,
            size_class=size_class,
            account=account,
            mailbox=mailbox,
            limit=limit,
        )
        query.to_sql()
        return await self._in_thread(lambda file: file.find(query))

    async def update(
        self,
        mailbox: Searchable,
        *,
        search: SearchKey = ALL,
        use: Sequence[Middleware] = (),
        connections: int | None = 1,
        refresh_flags: bool = True,
    ) -> IndexReport:
        """Bring the index up to date with a mailbox: only messages that it does not know are fetched.

        Messages that are gone are taken out when the search is for all of them; another search adds to what is there.
        The flags of messages that it knows are brought up to date: with CONDSTORE only those that changed are asked
        for, else those of all that the search finds. A UIDVALIDITY that changed begins the mailbox anew, and so does
        UIDNEXT that fell, or another message under the last UID that is known.

        Args:
            mailbox: What to index, such as `pool.mailbox("INBOX")`.
            search: Which messages.
            use: Middleware for the run, outermost first, such as `imapipe.Retry()`.
            connections: How many connections to use at most; None is all of the pool.
            refresh_flags: Whether to bring flags up to date, too.

        Raises:
            MessageIndexError: The file cannot be written, or another process begins the mailbox anew.
            UidValidityChanged: UIDs were given to other messages in the middle of it; update again.
            ImapipeError: What ends a run; see `Pipeline.run`. What was added until then stays.

        Cancellation keeps what was added; the next update goes on from there.
        """
        began = time.monotonic()
        found = await mailbox.search(search).with_modseq().use(*use).uids()
        account, name, uidvalidity = found.account, found.mailbox, found.uidvalidity
        remembered = await self._in_thread(lambda file: file.remembered(account, name))
        cursor = found.cursor
        if remembered is not None and remembered[0] == uidvalidity:
            cursor = await found.believable_cursor(remembered[1])
        indexed = await self._in_thread(lambda file: file.open_mailbox(account, name, uidvalidity, cursor))
        if (
            remembered is not None
            and not cursor.is_as_it_was(remembered[1])
            and await self._is_another(mailbox, use, found, indexed)
        ):
            indexed = await self._in_thread(lambda file: file.begin_anew(indexed))
        if not indexed.known:
            # The flags of whatever is added from here on are those of a later time.
            await self._in_thread(lambda file: file.keep_flags_modseq(indexed, cursor.highestmodseq))
        known = indexed.known
        whole = search == ALL and not (found.unaccounted or found.may_be_short)
        gone = known - found.uids if whole else UidSet()
        if gone:
            await self._in_thread(lambda file: file.remove(indexed, gone))
        fresh = found.uids - known
        rows = _Group(to_row, lambda group: self._in_thread(lambda file: file.add(indexed, group)))
        run: RunReport | None = None
        if fresh:
            run = await found.pipeline(fresh).fetch("envelope").run(rows, connections=connections)
            await self._in_thread(IndexFile.analyse)
        flags = _Flags(0)
        if refresh_flags:
            flags = await self._refresh_flags(mailbox, use, found, indexed, connections)
            if whole and flags.is_whole:
                await self._in_thread(lambda file: file.keep_flags_modseq(indexed, found.cursor.highestmodseq))
        total = await self._in_thread(lambda file: file.count(indexed.number))
        return IndexReport(
            str(self.path),
            account,
            name,
            uidvalidity,
            found=len(found),
            known=len(found.uids & known),
            added=rows.count,
            removed=len(gone),
            flags_changed=flags.changed,
            failed=run.failed if run is not None else 0,
            unaccounted=found.unaccounted,
            may_be_short=found.may_be_short,
            total=total,
            reindexed=indexed.reindexed,
            failures=run.failures if run is not None else {},
            bytes_received=flags.bytes_received + (run.bytes_received if run is not None else 0),
            elapsed_seconds=time.monotonic() - began,
        )

    async def _refresh_flags(
        self,
        mailbox: Searchable,
        use: Sequence[Middleware],
        found: SearchResult,
        indexed: IndexedMailbox,
        connections: int | None,
    ) -> _Flags:
        """Bring the flags of messages that were known before up to date."""
        known = indexed.known & found.uids
        since = await self._in_thread(lambda file: file.flags_modseq(indexed))
        highest = found.cursor.highestmodseq
        if known and since is not None and highest is not None and highest >= since:
            if highest == since:
                return _Flags(0)
            with suppress(CapabilityMissing, CommandNo, CommandBad):
                changed = await mailbox.search(modseq(since + 1)).use(*use).uids()
                if changed.uidvalidity == found.uidvalidity and not changed.may_be_short:
                    known &= changed.uids
        if not known:
            return _Flags(0)
        group = _Group(
            lambda message: (message.uid, message.flags),
            lambda flags: self._in_thread(lambda file: file.update_flags(indexed, flags)),
        )
        run = await found.pipeline(known).fetch("flags").run(group, connections=connections)
        return _Flags(group.count, run.bytes_received, is_whole=run.complete)

    async def _is_another(
        self, mailbox: Searchable, use: Sequence[Middleware], found: SearchResult, indexed: IndexedMailbox
    ) -> bool:
        """Whether the last message that is known and there is another one by now.

        Where a mailbox was set back and has grown beyond what it was, no number shows it. All messages above some UID
        are others then, so the last one is among them. It is searched for by what is known of it, and looked at only
        where it is not found: some servers search badly.
        """
        both = indexed.known & found.uids
        known = await self._in_thread(lambda file: file.row(indexed, both.max)) if both else None
        if known is None:
            return False
        with suppress(CommandNo, CommandBad):
            if await mailbox.search(search_for(known)).use(*use).uids():
                return False
        async with found.pipeline(UidSet.from_numbers([both.max])).fetch("envelope").stream() as messages:
            rows = [message async for message in messages]
        try:
            return any(identity_of(to_row(message)) != identity_of(known) for message in rows)
        except (NotFetched, ProtocolError):
            return False

    async def _in_thread(self, work: Callable[[IndexFile], _Result]) -> _Result:
        file = self._file
        if file is None:
            raise MessageIndexError("it is not open; use `async with MessageIndex(...)`", path=str(self.path))
        return await anyio.to_thread.run_sync(self._alone, work, file, limiter=self._limiter)

    def _alone(self, work: Callable[[IndexFile], _Result], file: IndexFile) -> _Result:
        # The limiter spares threads. But one whose caller asyncio itself has cancelled has left it, and works on.
        with self._lock:
            return work(file)
