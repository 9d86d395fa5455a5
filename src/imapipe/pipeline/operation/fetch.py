"""Fetching one batch: UID FETCH, and a second look for what it did not bring.

Invariants:

- A UID that has an outcome in this run is not asked for, whatever a layer of the middleware asks for.
- A UID without data after OK is searched for: gone is vanished; what is there is asked for again as long as that
  makes progress, then it has failed. Nothing is taken for done because a server was silent.
- NIL for a body, and what a server may have made up for a message that is gone, is looked at again too, after a NOOP,
  before it is a failure or delivered.
- A command that was refused and may have been too long is sent again in shorter ones, at once.
- What was delivered has its outcome before the call returns, however the connection ended. Only a cancelled call
  does not wait: what of it nobody works on is forgotten, and was never acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from imapipe.errors import CommandBad, CommandNo, CommandTimeout, ConnectionLost, ImapipeError, ServerBye
from imapipe.models.batch import Batch, BatchResult, Failure
from imapipe.models.message import Message
from imapipe.net.command import NO_BODY, FetchCommand
from imapipe.net.connection import Connection, Deliver, reply_to
from imapipe.net.signals import to_error
from imapipe.pipeline.delivery.flight import Flight, Gathering
from imapipe.pipeline.operation.base import Observe, Work, Workbench
from imapipe.pipeline.operation.remainder import Remainder
from imapipe.pipeline.source.find import still_there
from imapipe.wire.command.encoder import uid_text_room
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.response.note import Note, count_notes
from imapipe.wire.response.response import Tagged
from imapipe.wire.uid_set import UidSet

# A server that hangs up after we stopped reading for so long may have lost its patience with us.
OWN_DELAY_SECONDS = 10.0
_NOTHING = UidSet()
DOES_NOT_FIT = Note("partial-fetch", "the rest of a message did not fit what had come: all of it was asked for")

Refuse: TypeAlias = Callable[[Failure], None]


@dataclass(frozen=True, slots=True)
class FetchMessages:
    """Fetch items of the messages, and hand them to whoever consumes the run (an `Operation`).

    Attributes:
        fetch: The items.
    """

    fetch: Fetch = Fetch()  # noqa: RUF009  # a frozen value

    @property
    def opens(self) -> bool:
        """See `Operation`."""
        return True

    @property
    def writes(self) -> bool:
        """See `Operation`."""
        return self.fetch.mark_seen

    @property
    def needs(self) -> frozenset[str]:
        """See `Operation`."""
        return self.fetch.needs

    @property
    def items(self) -> frozenset[str]:
        """See `Operation`."""
        return frozenset(self.fetch.names)

    @property
    def max_uid_text_bytes(self) -> int:
        """See `Operation`."""
        return uid_text_room(b"UID FETCH " + self.fetch.command())

    @property
    def asks_ahead(self) -> Fetch | None:
        """See `Operation`."""
        return None if self.writes else self.fetch

    def describe(self) -> str:
        """See `Operation`."""
        return f"FETCH {self.fetch.describe()}"

    def begin(self, batch: Batch, bench: Workbench, observe: Observe) -> Work:
        """See `Operation`."""
        return Fetching(self.fetch, self.max_uid_text_bytes, batch, bench, observe)


class Fetching:
    """The work of fetching one batch (a `Work`).

    Attributes:
        was_our_doing: The connection ended after we had not read from it for long, or at a command that may have been
            too long for it; the next one is shorter.
    """

    __slots__ = (
        "_batch",
        "_bench",
        "_bytes",
        "_fetch",
        "_flight",
        "_kept_bytes",
        "_max_uid_text_bytes",
        "_observe",
        "_reply_seconds",
        "_seconds",
        "_todo",
        "_wanted",
        "was_our_doing",
    )

    def __init__(self, fetch: Fetch, max_uid_text_bytes: int, batch: Batch, bench: Workbench, observe: Observe) -> None:
        self._fetch = fetch
        self._max_uid_text_bytes = max_uid_text_bytes
        self._bench = bench
        self._batch = batch
        self._observe = observe
        self._wanted = self._todo = batch.uids - bench.ledger.outcome_of(batch.uids)
        self._flight = Flight(bench.inbox, bench.ledger)
        self._seconds = 0.0
        self._reply_seconds: float | None = None
        self._bytes = 0
        self._kept_bytes = 0
        self.was_our_doing = False

    @property
    def bench(self) -> Workbench:
        """What the works of the run share."""
        return self._bench

    @property
    def is_unfinished(self) -> bool:
        """There is something to ask for, and it was not asked for without an error."""
        return bool(self._todo)

    @property
    def missing(self) -> UidSet:
        """What has no outcome yet."""
        return self._wanted - self._bench.ledger.outcome_of(self._wanted)

    async def perform(self, connection: Connection, gathering: Gathering | None) -> None:
        """Fetch what is missing and see it handled; see `Work`."""
        flight = self._flight
        flight.board(connection, gathering)
        self.was_our_doing = False
        error: ImapipeError | None = None
        try:
            try:
                await self._fetch_all(connection)
            except ImapipeError as stopped:
                error = stopped
            flight.drop_parked()
            flight.hand_over()
            await flight.landed()
        except asyncio.CancelledError:
            flight.forget()
            if flight.is_holding:
                # What nobody releases any more would count against the next holder of the connection.
                connection.abort(ConnectionLost("a run was cancelled with messages in hand"))
            raise
        if error is not None:
            self._todo = self.missing
            raise error
        self._todo = _NOTHING

    def result(self) -> BatchResult:
        """What became of the batch so far."""
        ledger, uids = self._bench.ledger, self._batch.uids
        missing = self.missing
        return BatchResult(
            self._batch,
            done=ledger.handled(uids),
            vanished=uids & ledger.vanished,
            # Also what failed before this call, or in another one for the same messages meanwhile.
            failed=ledger.failures_among(uids, self._flight.failed),
            missing=missing,
            elapsed_seconds=self._seconds,
            bytes_received=self._bytes,
            kept_bytes=self._kept_bytes,
            reply_seconds=self._reply_seconds,
        )

    async def _fetch_all(self, connection: Connection) -> None:
        """Ask for all of it."""
        await self._fetch_each(connection, self._todo, self._fetch, self._flight.deliver, self._flight.could_not_have)

    async def _fetch_each(
        self, connection: Connection, uids: UidSet, fetch: Fetch, deliver: Deliver, refuse: Refuse
    ) -> None:
        """Ask for messages, and again for what a second look finds to be there.

        Args:
            connection: Where.
            uids: Which.
            fetch: What of them.
            deliver: Who takes them.
            refuse: Who hears of those for which the server sends nothing usable.
        """
        for remainder in self._bench.remainders.among(uids, fetch):
            if await self._go_on(connection, remainder, deliver):
                uids -= UidSet.from_numbers([remainder.uid])
        todo = [uids]
        while todo:
            uids = todo.pop()
            if uids:
                # Nearly always the whole: only a set full of holes is too long for one command.
                asked, rest = uids.take_within(len(uids), connection.ways.learned.room(self._max_uid_text_bytes))
                todo += (rest, await self._ask(connection, asked, fetch, deliver, refuse))

    async def _go_on(self, connection: Connection, remainder: Remainder, deliver: Deliver) -> bool:
        """Ask for the rest of a message of which something came; False where all of it is to be asked for."""
        uid, before = remainder.uid, remainder.received
        remainders, books = self._bench.remainders, self._bench.books
        delivered = False

        def join(answers: list[Message]) -> None:
            nonlocal delivered
            for answer in answers:
                message = remainder.join(answer) if not delivered else None
                connection.release(answer)
                if message is None:
                    answer.discard()
                else:
                    delivered = True
                    remainders.joined(uid)
                    connection.hold(message)
                    deliver([message])

        remainder.prepare()
        one = UidSet.from_numbers([uid])
        try:
            await self._ask(connection, one, remainder.rest, join, pass_over, remainder)
        except (CommandNo, CommandBad):
            # It may be the range that it cannot do.
            pass
        except (ConnectionLost, ServerBye, CommandTimeout):
            if remainder.is_wrong:
                remainders.wrong(uid)
            else:
                self._kept_bytes += remainder.received - before
            raise
        if delivered:
            return True
        if uid in self._bench.ledger.vanished:
            remainders.drop(uid)
            return True
        remainders.wrong(uid)
        count_notes(books.notes, [DOES_NOT_FIT])
        return False

    async def _ask(
        self,
        connection: Connection,
        uids: UidSet,
        fetch: Fetch,
        deliver: Deliver,
        refuse: Refuse,
        remainder: Remainder | None = None,
    ) -> UidSet:
        """Send one FETCH, perhaps for the rest of a message; gives the UIDs that are to be asked for again."""
        books = self._bench.books
        command = await self._take_ahead(connection, uids, fetch, deliver)
        if command is None:
            command = connection.uid_fetch(uids, fetch, deliver, doubts=True, notes=books.notes)
        command.keeps_cut = True
        command.goes_on = remainder.part if remainder is not None else None
        books.fetching(command)
        try:
            tagged = await reply_to(connection, command)
        except (ConnectionLost, ServerBye, CommandTimeout) as error:
            if remainder is not None:
                remainder.extend(command.unfinished)
            elif command.unfinished is not None:
                self._kept_bytes += self._bench.remainders.keep(command.unfinished, fetch, connection)
            was_too_long = not command.first_byte_at and connection.ways.learned.is_too_long(command.line_bytes, error)
            self.was_our_doing = was_too_long or command.paused_seconds >= OWN_DELAY_SECONDS
            raise
        finally:
            self._bytes += command.bytes_received
            books.fetched(command)
            for failure in command.malformed.values():
                if failure.reason != NO_BODY:
                    refuse(failure)
        seconds = self._observe(connection, command)
        self._seconds += seconds
        first_byte_at = command.first_byte_at or command.finished_at
        answering = max(0.0, command.finished_at - first_byte_at - command.paused_seconds)
        self._reply_seconds = max(self._reply_seconds or 0.0, seconds - answering)
        missing = command.missing
        if command.doubtful or command.malformed:
            await self._judge(connection, command, refuse)
        if not missing:
            # Yahoo says NO after the last message now and then: what matters is that all of them are there.
            return _NOTHING
        if tagged.status != "OK" and not _says(tagged, "EXPUNGEISSUED"):
            refusal = to_error(command.name, tagged)
            if connection.ways.learned.is_too_long(command.line_bytes, refusal):
                return missing
            there = await self._despite(refusal, connection, missing)
            if there == missing:
                raise refusal
            return there
        if not _says(tagged, "MESSAGELIMIT"):
            missing = await self._look_again(connection, missing)
        if len(missing) < len(uids):
            return missing
        for uid in missing:
            refuse(Failure(uid, "no-data", "the server lists the message and sends no data for it"))
        return _NOTHING

    async def _take_ahead(
        self, connection: Connection, uids: UidSet, fetch: Fetch, deliver: Deliver
    ) -> FetchCommand | None:
        """What is on its way already, where that is what is wanted now."""
        ahead, self._bench.access.ahead = self._bench.access.ahead, None
        if ahead is None:
            return None
        command = ahead.take(connection, uids, fetch, deliver)
        await ahead.forget()
        return command

    async def _despite(self, refusal: ImapipeError, connection: Connection, missing: UidSet) -> UidSet:
        """Which messages of a FETCH that was refused exist: it may have been refused because some do not.

        That is a way of telling (RFC 2180 §4.1.2); Davmail and hMailServer know no other.
        """
        if not isinstance(refusal, CommandNo) or refusal.code not in ("", "NONEXISTENT"):
            return missing
        try:
            await connection.noop()
            return await self._look_again(connection, missing)
        except (CommandNo, CommandBad):
            return missing

    async def _judge(self, connection: Connection, command: FetchCommand, refuse: Refuse) -> None:
        """Tell messages that are gone, for which a server answers NIL or makes something up, from those that are there.

        Courier lists what is gone until NOOP, so that is sent first.
        """
        without_body = {uid: failure for uid, failure in command.malformed.items() if failure.reason == NO_BODY}
        doubted = UidSet.from_numbers([*without_body, *command.doubtful])
        if not doubted:
            return
        await connection.noop()
        there = await self._look_again(connection, doubted)
        for uid in doubted - there:
            command.doubtful.pop(uid, None)
        for uid, failure in without_body.items():
            if uid in there:
                refuse(failure)
        if command.doubtful:
            connection.believe(command)

    async def _look_again(self, connection: Connection, missing: UidSet) -> UidSet:
        """Which of the UIDs that were not delivered still exist; the others have vanished."""
        there = await still_there(connection, missing, self._bench.today)
        gone = missing - there
        if gone:
            self._bench.ledger.vanish(gone)
        return there


def pass_over(_: Failure) -> None:
    """A rest that cannot be had is no failure: its message is asked for as a whole."""


def _says(tagged: Tagged, code: str) -> bool:
    return tagged.code is not None and tagged.code.name == code
