"""Fetching one batch: UID FETCH, and a second look for what it did not bring.

Invariants:

- A UID that has an outcome in this run is not asked for, whatever a layer of the middleware asks for.
- A UID without data after OK is searched for: gone is vanished; what is there is asked for again as long as that
  makes progress, then it has failed. Nothing is taken for done because a server was silent.
- What was delivered has its outcome before the call returns, however the connection ended. Only a cancelled call
  does not wait: what of it nobody works on is forgotten, and was never acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from imapipe.errors import CommandTimeout, ConnectionLost, ImapipeError, ServerBye
from imapipe.models.batch import Batch, BatchResult, Failure
from imapipe.net.command import FetchCommand
from imapipe.net.connection import Connection
from imapipe.net.signals import to_error
from imapipe.pipeline.flight import Flight, Gathering
from imapipe.pipeline.lookup import still_there
from imapipe.wire.response.response import Tagged
from imapipe.wire.uid_set import UidSet

if TYPE_CHECKING:
    from imapipe.pipeline.run import Run

# A server that hangs up after we stopped reading for so long may have lost its patience with us.
OWN_DELAY_SECONDS = 10.0
_NOTHING = UidSet()

Observe = Callable[[Connection, FetchCommand], float]
"""Called with each FETCH that got its tagged reply; gives the seconds that the server worked on it."""


class Fetching:
    """One call for a batch, on one connection or on several after each other.

    Attributes:
        was_our_delay: The connection ended after we had not read from it for long.
    """

    __slots__ = (
        "_batch",
        "_bytes",
        "_flight",
        "_observe",
        "_reply_seconds",
        "_run",
        "_seconds",
        "_todo",
        "_wanted",
        "was_our_delay",
    )

    def __init__(self, run: Run, batch: Batch, observe: Observe) -> None:
        self._run = run
        self._batch = batch
        self._observe = observe
        self._wanted = self._todo = batch.uids - run.ledger.outcome_of(batch.uids)
        self._flight = Flight(run.inbox, run.ledger)
        self._seconds = 0.0
        self._reply_seconds: float | None = None
        self._bytes = 0
        self.was_our_delay = False

    @property
    def is_unfinished(self) -> bool:
        """There is something to ask for, and it was not asked for without an error."""
        return bool(self._todo)

    @property
    def missing(self) -> UidSet:
        """What has no outcome yet."""
        return self._wanted - self._run.ledger.outcome_of(self._wanted)

    async def fetch(self, connection: Connection, gathering: Gathering | None) -> None:
        """Fetch what is missing, on a connection that has the mailbox open, and see it settled.

        Args:
            connection: The connection.
            gathering: Where messages are to be given out in whole batches.

        Raises:
            ImapipeError: What stopped it. What was delivered before is settled.

        Cancelling it ends the connection if it was in the middle of an answer.
        """
        flight = self._flight
        flight.board(connection, gathering)
        self.was_our_delay = False
        error: ImapipeError | None = None
        try:
            try:
                await self._fetch_all(connection)
            except ImapipeError as stopped:
                error = stopped
            flight.hand_over()
            await flight.landed()
        except asyncio.CancelledError:
            self._run.inbox.forget(flight)
            raise
        if error is not None:
            self._todo = self.missing
            raise error
        self._todo = _NOTHING

    def result(self) -> BatchResult:
        """What became of the batch so far."""
        ledger, uids = self._run.ledger, self._batch.uids
        missing = self.missing
        failed = dict(self._flight.failed)
        # Also what failed before this call, or in another one for the same messages meanwhile.
        for uid in uids & ledger.failed:
            failed.setdefault(uid, ledger.failures.get(uid) or Failure(uid, "failed"))
        return BatchResult(
            self._batch,
            done=uids & ledger.done,
            vanished=uids & ledger.vanished,
            failed=failed,
            missing=missing,
            elapsed_seconds=self._seconds,
            bytes_received=self._bytes,
            reply_seconds=self._reply_seconds,
        )

    async def _fetch_all(self, connection: Connection) -> None:
        """Ask for all of it, and again for what a second look finds to be there."""
        todo = [self._todo]
        while todo:
            uids = todo.pop()
            if uids:
                # Nearly always the whole: only a set full of holes is too long for one command.
                asked, rest = uids.take_within(len(uids), self._run.max_uid_text_bytes)
                todo += (rest, await self._ask(connection, asked))

    async def _ask(self, connection: Connection, uids: UidSet) -> UidSet:
        """Send one FETCH; gives the UIDs that are to be asked for again."""
        run = self._run
        command = connection.uid_fetch(uids, run.fetch, self._flight.deliver)
        run.books.fetching(command)
        try:
            tagged = await asyncio.shield(command.finished)
        except asyncio.CancelledError:
            connection.abort(ConnectionLost("a FETCH was cancelled"))
            raise
        except (ConnectionLost, ServerBye, CommandTimeout):
            self.was_our_delay = command.paused_seconds >= OWN_DELAY_SECONDS
            raise
        finally:
            self._bytes += command.bytes_received
            run.books.fetched(command)
            for failure in command.malformed.values():
                self._flight.could_not_have(failure)
        seconds = self._observe(connection, command)
        self._seconds += seconds
        first_byte_at = command.first_byte_at or command.finished_at
        answering = max(0.0, command.finished_at - first_byte_at - command.paused_seconds)
        self._reply_seconds = max(self._reply_seconds or 0.0, seconds - answering)
        missing = command.missing
        if not missing:
            # Yahoo says NO after the last message now and then: what matters is that all of them are there.
            return _NOTHING
        if tagged.status != "OK" and not _says(tagged, "EXPUNGEISSUED"):
            raise to_error(command.name, tagged)
        if not _says(tagged, "MESSAGELIMIT"):
            missing = await self._look_again(connection, missing)
        if len(missing) < len(uids):
            return missing
        for uid in missing:
            self._flight.could_not_have(
                Failure(uid, "no-data", "the server lists the message and sends no data for it")
            )
        return _NOTHING

    async def _look_again(self, connection: Connection, missing: UidSet) -> UidSet:
        """Which of the UIDs that were not delivered still exist; the others have vanished."""
        there = await still_there(connection, missing, self._run.today)
        gone = missing - there
        if gone:
            self._run.ledger.vanish(gone)
        return there


def _says(tagged: Tagged, code: str) -> bool:
    return tagged.code is not None and tagged.code.name == code
