"""Changing one batch: an intent in the journal, the commands, what came of it.

Invariants:

- Nothing is sent that changes a message before its intent is durable.
- A message is done when the server confirmed it, or when a look at the mailboxes shows it.
- While it is open what came of an intent, nothing else is changed.
- A message that the server refuses to change keeps no other one from it: a command that is refused is halved down to
  single messages, as long as it goes on now and then.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from imapipe.errors import CommandBad, CommandNo, Throttled
from imapipe.journal.entry import NO_UIDS, Job
from imapipe.journal.journal import Journal
from imapipe.models.batch import Batch, Failure
from imapipe.net.connection import Connection
from imapipe.net.transient import is_transient, reason
from imapipe.pipeline.delivery.flight import Gathering
from imapipe.pipeline.operation.acting import ActingWork
from imapipe.pipeline.operation.base import Workbench
from imapipe.pipeline.operation.flagging import FLAG_KINDS, flag_messages
from imapipe.pipeline.operation.recovery import settle_pending
from imapipe.pipeline.operation.step import Outcome, Step
from imapipe.pipeline.operation.transfer import remove_messages, transfer_messages
from imapipe.wire.uid_set import UidSet

# What a line has room for besides its UIDs was taken into account when the batch was made.
_LINE_ROOM = 8_000
MAX_REFUSALS = 5
"""So often others may expunge some of the messages of a batch between the look at them and the command."""
MAX_FRUITLESS = 20
"""So many refusals in a row, and it is not a message that is refused."""
_OF_MESSAGES = frozenset(("UID STORE", "UID COPY", "UID MOVE"))
_OF_MAILBOXES = frozenset(
    (
        "AUTHORIZATIONFAILED",
        "CLIENTBUG",
        "NONEXISTENT",
        "NOPERM",
        "OVERQUOTA",
        "PERMANENTFLAGS",
        "READ-ONLY",
        "TRYCREATE",
    )
)
"""RFC 5530, RFC 9051 §7.1: not of a message."""


@dataclass(slots=True)
class ChangeSession:
    """What the batches of a run share.

    Attributes:
        journal: What is written down.
        planned: What the run is for; an earlier one may have left more to find out about.
        fruitless: Refusals since anything was changed.
        lock: One batch at a time.
    """

    journal: Journal
    planned: UidSet = NO_UIDS
    fruitless: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Changing(ActingWork):
    """The work of changing one batch (a `Work`)."""

    __slots__ = ("_session",)

    def __init__(self, session: ChangeSession, batch: Batch, bench: Workbench) -> None:
        super().__init__(batch, bench)
        self._session = session

    async def perform(self, connection: Connection, gathering: Gathering | None) -> None:
        """See `Work`. Cancelling it ends the connection; what came of its command is found out by the next run."""
        loop = asyncio.get_running_loop()
        async with self._session.lock:
            began = loop.time()
            bench = self._bench
            step = Step(connection, bench.access, self._session.journal, bench.today, bench.books.notes)
            try:
                await self._change(step)
            except (CommandNo, CommandBad, Throttled):
                if connection.is_open:
                    # A refusal may come after a part of it was done (RFC 6851 §3.3, MESSAGELIMIT).
                    await self._settle(step, was_answered=True)
                raise
            finally:
                self._elapsed += loop.time() - began
        self._is_over = True

    async def _settle(self, step: Step, *, was_answered: bool = False) -> None:
        result = await settle_pending(step, was_answered=was_answered)
        if result is not None:
            self._book(Outcome(done=result.done, vanished=result.vanished))

    async def _change(self, step: Step) -> None:
        await self._settle(step)
        job, session = step.job, self._session
        most = step.connection.message_limit or len(self._batch.uids)
        size, is_found, expunged = most, False, 0
        while uids := self._missing:
            part, _ = uids.take_within(size, step.connection.ways.learned.room(_LINE_ROOM))
            try:
                self._book(await change_messages(step, job, part))
            except CommandNo as error:
                if error.code == "EXPUNGEISSUED":
                    # Dovecot copies nothing where somebody has expunged one of the messages; without that one it does.
                    expunged += 1
                    if expunged > MAX_REFUSALS:
                        raise
                    await self._settle(step, was_answered=True)
                    continue
                session.fruitless += 1
                if not _is_of_some(error) or session.fruitless > MAX_FRUITLESS:
                    raise
                await self._settle(step, was_answered=True)
                size, is_found = max(1, len(part) // 2), len(part) == 1
                for uid in part & self._missing if is_found else ():
                    self._fail(Failure(uid, reason(error), str(error)))
            else:
                session.fruitless = 0
                if is_found:
                    size = min(2 * size, most)

    def _book(self, outcome: Outcome) -> None:
        ledger = self._bench.ledger
        known = ledger.outcome_of(outcome.done | outcome.vanished)
        planned = self._session.planned
        for uid in (outcome.done & planned) - known:
            ledger.settle(uid)
        if gone := (outcome.vanished & planned) - known:
            ledger.vanish(gone)
        for failure in outcome.failed:
            self._fail(failure)


def _is_of_some(refusal: CommandNo) -> bool:
    """Whether it may be single messages that the server does not change, and not all that are there or to come."""
    name = refusal.code.upper().partition(" ")[0]
    is_passing = is_transient(refusal, fetching=False).transient
    return refusal.command in _OF_MESSAGES and name not in _OF_MAILBOXES and not is_passing


async def change_messages(step: Step, job: Job, uids: UidSet) -> Outcome:
    """Do to some messages what a job is; those without an outcome are still to be done.

    Raises:
        ImapipeError: What stopped it. What came of it stays open in the journal.
    """
    if job.kind in FLAG_KINDS:
        return await flag_messages(step, job, uids)
    if job.kind == "delete":
        return await remove_messages(step, uids)
    return await transfer_messages(step, job, uids)
