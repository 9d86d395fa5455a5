"""Making one change of some messages that it is owed to: a run of its own, with the limits of the job around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from imapipe.journal.entry import Job
from imapipe.middleware.base import Middleware
from imapipe.middleware.base import Run as MiddlewareRun
from imapipe.net.connection import Connection
from imapipe.net.pool.pool import ConnectionPool
from imapipe.pipeline.after.duty import Duty
from imapipe.pipeline.batching import FixedBatch
from imapipe.pipeline.operation.change import ChangeMessages
from imapipe.pipeline.operation.changing import ChangeSession
from imapipe.pipeline.operation.checking import check_change
from imapipe.pipeline.operation.message_change import MessageChange
from imapipe.pipeline.operation.recovery import settle_pending
from imapipe.pipeline.operation.step import Step
from imapipe.pipeline.run import Run
from imapipe.pipeline.source.given import Given
from imapipe.pipeline.specification import Specification
from imapipe.wire.uid_set import UidSet


@dataclass(frozen=True, slots=True)
class Place:
    """Where the changes of a run are made.

    Attributes:
        pool: The connections of the account.
        account: Its name.
        mailbox: The mailbox.
        uidvalidity: Under which its UIDs are to be read.
        around: What stands around the changes: limits, and what tries again.
    """

    pool: ConnectionPool
    account: str
    mailbox: str
    uidvalidity: int
    around: Sequence[Middleware]

    async def check(self, change: MessageChange) -> Job:
        """Refuse a change that cannot be made without harm; gives it with its place.

        Raises:
            CommandNo: No such mailbox, it cannot be changed, or keeps no such flags.
            CapabilityMissing: The server cannot do it without harm.
            ImapipeError: The server could not be asked.
        """
        access = self._run(ChangeMessages(change.kind, change.target, change.flags), UidSet()).access

        async def look(connection: Connection) -> str:
            await access.open(connection, expected=self.uidvalidity)
            return await check_change(connection, change, self.mailbox)

        connection, target = await access.reach(look)
        access.give_back(connection)
        return Job(self.account, self.mailbox, self.uidvalidity, change.kind, target, change.flags)

    def pay(self, duty: Duty, uids: UidSet) -> Run:
        """The run that changes some messages; what an earlier one left open is found out first, by `Settling`."""
        job = duty.job
        session = ChangeSession(duty.journal, uids)
        return self._run(ChangeMessages(job.kind, job.target, job.flags, session), uids)

    def _run(self, change: ChangeMessages, uids: UidSet) -> Run:
        specification = Specification(
            self.mailbox,
            source=Given(uids, self.uidvalidity),
            operation=change,
            # One batch: who pays has cut them to groups.
            policy=FixedBatch(max(1, len(uids))),
            middleware=tuple(self.around),
            depth=1,
            with_modseq=change.compares_modseq,
        )
        return Run(specification, self.pool, self.account, lanes=1, however_long=True)


class Settling:
    """Finds out what came of a command whose answer is missing, before the first batch (a `Consumer`)."""

    def __init__(self, run: Run, duty: Duty) -> None:
        self._run = run
        self._duty = duty

    async def begin(self, run: MiddlewareRun) -> None:
        """See `Consumer`."""
        if self._duty.journal.story.pending is not None:
            await self._run.reach(self._settle)
        await run.plan.skip(run.plan.planned - self._duty.owed)

    async def finish(self) -> None:
        """See `Consumer`: batches have their outcome when they end."""

    async def _settle(self, connection: Connection) -> None:
        run = self._run
        await run.access.reopen(connection)
        await settle_pending(Step(connection, run.access, self._duty.journal, run.today, run.notes))
