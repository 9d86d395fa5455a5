"""Putting any number of messages into a mailbox: in groups, each a run of its own with the limits of the job around it.

Invariants:

- Memory is that of one group, and of a result for each message.
- Every message that was taken from the source has a result, also where an error ended the job after some were taken.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from contextlib import aclosing, suppress
from typing import Final, NamedTuple

from imapipe.errors import CommandBad, CommandNo, ImapipeError, ProtocolError, UidValidityChanged
from imapipe.middleware.base import Middleware, check_order
from imapipe.middleware.base import Run as MiddlewareRun
from imapipe.models.batch import NO_UIDS, Failure
from imapipe.net.connection import Connection
from imapipe.net.options import PlaneOptions
from imapipe.net.pool.pool import ConnectionPool
from imapipe.pipeline.access import MailboxAccess
from imapipe.pipeline.append.appending import AppendMessages, AppendSession, find_arrived
from imapipe.pipeline.append.letter import Letter
from imapipe.pipeline.append.report import Appended, AppendReport
from imapipe.pipeline.batching import FixedBatch
from imapipe.pipeline.ledger import NOT_TRIED
from imapipe.pipeline.operation.step import target_numbers
from imapipe.pipeline.run import Run
from imapipe.pipeline.source.base import Found, Question
from imapipe.pipeline.specification import Specification
from imapipe.wire.command.append import NewMessage
from imapipe.wire.uid_set import UidSet

MAX_IN_GROUP: Final = 2_000
MAX_BYTES_IN_GROUP: Final = 4 * 1024 * 1024
"""So many messages, and bytes unless it is one message, are a group."""
IN_DOUBT: Final = "in-doubt"


class Appender:
    """Appends messages, group by group.

    Args:
        pool: The connections of the account.
        account: Its name.
        mailbox: Where they go.
        middleware: Limits, and what tries again; outermost first.

    Raises:
        TypeError: What is no middleware.
        ValueError: An order in which one of them cannot do what it promises.
    """

    def __init__(self, pool: ConnectionPool, account: str, mailbox: str, middleware: Sequence[Middleware]) -> None:
        for one in middleware:
            if not isinstance(one, Middleware):
                raise TypeError(f"use= takes middleware such as imapipe.Retry(), not {one!r}")
        check_order(middleware)
        self._pool = pool
        self._account = account
        self._mailbox = mailbox
        self._middleware = tuple(middleware)
        # None of those that were taken and have no result yet.
        self._results: list[Appended | None] = []
        self._uidvalidity = self._floor = 0
        self._placed = NO_UIDS
        self._tells_uids = True
        self._sent_bytes = 0
        self._retries = 0
        self._waits = 0
        self._full: Failure | None = None
        self._error: ImapipeError | None = None

    async def append(self, messages: Iterable[NewMessage] | AsyncIterable[NewMessage]) -> AppendReport:
        """Append them. Raises what the source raises, and ImapipeError where nothing was taken before."""
        began = time.monotonic()
        async with aclosing(_groups(messages, self._results, self._pool.plane_options)) as groups:
            async for group in groups:
                try:
                    await self._append(group)
                except ImapipeError as error:
                    if not any(result is not None and result.failure is None for result in self._results):
                        raise
                    self._error = error
                    break
                finally:
                    for letter in group:
                        letter.close()
        return AppendReport(
            account=self._account,
            mailbox=self._mailbox,
            uidvalidity=self._uidvalidity,
            results=tuple(
                result or Appended(failure=_not_tried(number)) for number, result in enumerate(self._results, 1)
            ),
            sent_bytes=self._sent_bytes,
            retries=self._retries,
            throttle_waits=self._waits,
            elapsed_seconds=time.monotonic() - began,
            error=self._error,
        )

    async def _append(self, group: list[Letter]) -> None:
        """One group; a result for each is there when it returns or raises ImapipeError."""
        session = AppendSession(
            self._mailbox,
            {letter.number: letter for letter in group},
            uidvalidity=self._uidvalidity,
            # What arrived before is told from what this group brings by where it is, or by UIDNEXT of now.
            floor=self._floor if self._tells_uids else 0,
            placed=self._placed,
            full=self._full,
        )
        specification = Specification(
            self._mailbox,
            source=_Letters(session),
            operation=AppendMessages(session),
            policy=FixedBatch(len(group)),
            middleware=self._middleware,
            depth=1,
        )
        run = Run(specification, self._pool, self._account, lanes=1)
        try:
            await run.drive(_LastLook(run, session))
        finally:
            run.ledger.flush()
            self._uidvalidity, self._floor = session.uidvalidity, session.floor
            self._placed = session.placed
            self._tells_uids = all(session.uids.values())
            self._full = session.full
            self._sent_bytes += session.sent_bytes
            report = run.report()
            self._retries += report.retries
            self._waits += report.throttle_waits
            for letter in group:
                self._results[letter.number - 1] = _result(letter, session, run)


class _Letters(NamedTuple):
    """The numbers of a group in the place of UIDs (a `Source`).

    Attributes:
        session: The group.
    """

    session: AppendSession

    @property
    def is_whole(self) -> bool:
        """See `Source`."""
        return False

    async def find(self, connection: Connection, access: MailboxAccess, question: Question) -> Found:
        """See `Source`: the mailbox is asked about, and not opened unless its numbers are told only then."""
        session = self.session
        if not session.floor:
            before = session.uidvalidity
            try:
                session.uidvalidity, session.floor = await target_numbers(connection, session.mailbox)
            except (CommandNo, CommandBad, ProtocolError):
                if not connection.is_open:
                    raise
                selected = await access.open(connection)
                session.uidvalidity, session.floor = selected.uidvalidity, selected.uidnext or 1
            if before not in (0, session.uidvalidity):
                raise UidValidityChanged(
                    session.mailbox, expected=before, found=session.uidvalidity, advice="append the rest again"
                )
        access.uidvalidity = session.uidvalidity
        return Found(UidSet.from_numbers(session.letters), 0)


class _LastLook:
    """Finds out at the end which of those in doubt arrived (a `Consumer`)."""

    def __init__(self, run: Run, session: AppendSession) -> None:
        self._run = run
        self._session = session

    async def begin(self, run: MiddlewareRun) -> None:
        """See `Consumer`: there is nothing to prepare."""

    async def finish(self) -> None:
        """See `Consumer`."""
        if not self._session.doubtful:
            return
        access = self._run.access
        # What ended the sending may be in the way of this, too: they stay in doubt then, and the report says so.
        with suppress(ImapipeError):
            connection, _ = await access.reach(self._look)
            access.give_back(connection)

    async def _look(self, connection: Connection) -> None:
        await self._run.access.reopen(connection)
        self._session.uids |= await find_arrived(connection, self._session, self._run.today)
        self._session.doubtful = NO_UIDS


def _result(letter: Letter, session: AppendSession, run: Run) -> Appended:
    number = letter.number
    if number in session.uids:
        return Appended(session.uids[number] or None)
    if number in session.doubtful:
        why = "the connection was lost before its answer, and the mailbox could not be looked at: it may have arrived"
        return Appended(failure=Failure(number, IN_DOUBT, why))
    return Appended(failure=run.ledger.failures.get(number) or _not_tried(number))


def _not_tried(number: int) -> Failure:
    return Failure(number, NOT_TRIED, "the job ended before it")


async def _groups(
    messages: Iterable[NewMessage] | AsyncIterable[NewMessage], results: list[Appended | None], options: PlaneOptions
) -> AsyncGenerator[list[Letter], None]:
    """What is a group; a result is made for each message, and is that of those that cannot be sent."""
    group: list[Letter] = []
    size = 0
    try:
        async for message in _each(messages):
            number = len(results) + 1
            try:
                letter = await Letter.of(number, message, options)
            except (ValueError, OSError) as error:
                results.append(Appended(failure=Failure(number, type(error).__name__, str(error))))
                continue
            results.append(None)
            if group and (len(group) >= MAX_IN_GROUP or size + letter.size > MAX_BYTES_IN_GROUP):
                full, group, size = group, [letter], letter.size
                yield full
                continue
            group.append(letter)
            size += letter.size
        if group:
            last, group = group, []
            yield last
    finally:
        for letter in group:
            letter.close()


async def _each(messages: Iterable[NewMessage] | AsyncIterable[NewMessage]) -> AsyncGenerator[NewMessage, None]:
    if isinstance(messages, AsyncIterable):
        async for message in messages:
            yield message
    else:
        for message in messages:
            yield message
