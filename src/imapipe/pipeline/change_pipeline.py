r"""`ChangePipeline`: search → batch → change, as an immutable value that is planned, or run.

Invariants:

- Nothing is sent that changes anything before `run`, and there not before all that can be refused was refused.
- A run uses one connection: what came of each command is known before the next one is sent.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from imapipe.errors import ProtocolError, TooManyMessages
from imapipe.journal.journal import Journal
from imapipe.middleware.base import Run as MiddlewareRun
from imapipe.models.argument import check_whole
from imapipe.models.cursor import Cursor, reissued
from imapipe.models.document import Document, json_value, printable
from imapipe.models.json_value import JSON
from imapipe.models.message import Message
from imapipe.models.report import RunReport
from imapipe.net.connection import Connection
from imapipe.pipeline.builder import PipelineBuilder
from imapipe.pipeline.operation.change import ChangeMessages
from imapipe.pipeline.operation.changing import ChangeSession
from imapipe.pipeline.operation.checking import check_change
from imapipe.pipeline.operation.recovery import settle_pending
from imapipe.pipeline.operation.step import Step
from imapipe.pipeline.plan import Plan
from imapipe.pipeline.run import Run
from imapipe.pipeline.source.sizes import fetch_sizes
from imapipe.pipeline.source.values import fetch_values
from imapipe.runtime.completion import to_the_end
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.uid_set import UidSet

SAMPLE_MESSAGES = 5


@dataclass(frozen=True, slots=True)
class ChangePlan(Document):
    r"""What a change would do: the dry run.

    Attributes:
        account: `user@host:port`.
        mailbox: The mailbox.
        uidvalidity: Its UIDVALIDITY.
        change: The change in words.
        target: The mailbox where messages go, or "".
        uids: Which messages.
        messages: How many.
        total_bytes: The sum of RFC822.SIZE.
        commands: What will be sent, one line for each command, without what is asked beforehand. Messages that have the
            flags already when it is their turn are left out then; and of more than 2,000 the later ones may go
            together, in larger batches, where the server is quick.
        sample: The newest of the messages, with envelope.
    """

    account: str
    mailbox: str
    uidvalidity: int
    change: str
    target: str
    uids: UidSet
    messages: int
    total_bytes: int
    commands: tuple[str, ...]
    sample: tuple[Message, ...]

    def to_dict(self) -> dict[str, JSON]:
        """As a JSON-ready value; of the messages of the sample it has UID, date, sender and subject."""
        return {**Document.to_dict(replace(self, sample=())), "sample": [*map(_told, self.sample)]}


def _told(message: Message) -> JSON:
    try:
        date, sender, subject = message.date, message.sender, message.subject
    except ProtocolError:
        # An envelope that cannot be read: what a change does it does to such a message, too.
        return {"uid": message.uid, "date": None, "from": None, "subject": ""}
    return {
        "uid": message.uid,
        "date": json_value(date),
        "from": None if sender is None else printable(str(sender)),
        "subject": printable(subject),
    }


class ChangePipeline(PipelineBuilder):
    """A change of messages of one mailbox, described step by step. Made by `Pipeline.move_to` and its like."""

    __slots__ = ()

    async def plan(self) -> ChangePlan:
        """What a run would do; nothing is changed.

        Raises as `run` does.
        """
        operation = self._operation
        run = self._new_run(operation)
        refused = _Preparation(run, operation, ChangeSession(Journal()), None)
        connection = await run.look()
        uids = await run.plan.left()

        async def learn(lease: Connection) -> tuple[str, int, Sequence[Message], bool, bool]:
            await run.access.reopen(lease)
            target = await refused.check(lease)
            await run.access.reopen(lease)
            sizes = await fetch_sizes(lease, uids)
            sample = await fetch_values(lease, uids[-SAMPLE_MESSAGES:], Fetch("envelope"), lambda message: message)
            return target, sizes.total_bytes, [*sample.values()], lease.offers("MOVE"), lease.offers("UIDPLUS")

        connection, (target, size, sample, moves, expunges) = await run.access.reach(learn, connection)
        run.access.give_back(connection)
        commands: list[str] = []
        batches = Plan(uids, max_command_bytes=operation.max_uid_text_bytes)
        sizer = self._specification.policy.sizer()
        while (batch := batches.next_batch(sizer, 0)) is not None:
            commands += operation.commands(batch.uids, target, moves=moves, expunges=expunges)
        return ChangePlan(
            run.account,
            run.mailbox,
            run.uidvalidity,
            operation.describe(),
            target,
            uids,
            len(uids),
            size,
            tuple(commands),
            tuple(sample),
        )

    async def run(
        self,
        *,
        journal: str | os.PathLike[str] | None = None,
        max_messages: int | None = None,
        max_failures: int | None = None,
    ) -> RunReport:
        """Make the change.

        Args:
            journal: A file in which each command is written down before it is sent. After a crash the same run with the
                same journal finds out what came of the last one, and goes on; `imapipe.undo` reads it, too. Without
                it a run can only tell what became of a command as long as its process lives.
            max_messages: Refuse to begin where the search finds more.
            max_failures: Give up when more messages than this were tried and failed.

        Returns:
            The report; `done` is what the server confirmed, `skipped` what an earlier run with this journal did,
            `vanished` what somebody else removed. `notes` tells where messages were marked and not removed.

        Raises:
            TooManyMessages: There are more than `max_messages`; nothing was sent.
            CommandNo: A mailbox does not exist, or keeps no such flags; nothing was sent.
            CapabilityMissing: It cannot be done safely on this server; nothing was sent.
            JournalError: The journal is another change's, or cannot be written.
            UidValidityChanged: What the journal knows means other messages now.
            AuthenticationFailed, ConnectionFailed, CheckpointError: The run as a whole could not be done.

        Otherwise it raises as `Pool.acquire` and `Connection.uid_search` do.

        Cancellation ends the connection; the journal then says what is in doubt, and the next run finds it out.
        """
        for name, value in (("max_messages", max_messages), ("max_failures", max_failures)):
            if value is not None:
                check_whole(name, value)
                if value < 0:
                    raise ValueError(f"{name} must be 0 or more, not {value}")
        await self._runs.wait_for_dropped()
        session = ChangeSession(Journal(journal))
        operation = replace(self._operation, session=session)
        try:
            # Whoever gives up while the file is being taken has to give it back.
            await to_the_end(asyncio.to_thread(session.journal.take))
            run = self._new_run(operation, max_failures=max_failures)
            await run.drive(_Preparation(run, operation, session, max_messages))
        finally:
            session.journal.close()
        return run.report()

    @property
    def _operation(self) -> ChangeMessages:
        operation = self._specification.operation
        assert isinstance(operation, ChangeMessages)
        return operation

    def _new_run(self, operation: ChangeMessages, *, max_failures: int | None = None) -> Run:
        with_modseq = self._specification.with_modseq or operation.compares_modseq
        specification = replace(self._specification, operation=operation, depth=1, with_modseq=with_modseq)
        return Run(specification, self._pool, self._account, lanes=1, max_failures=max_failures)


class _Preparation:
    """What is done before the first batch (a `Consumer`): refuse what cannot be done, end what an earlier run began."""

    def __init__(self, run: Run, operation: ChangeMessages, session: ChangeSession, max_messages: int | None) -> None:
        self._run = run
        self._operation = operation
        self._session = session
        self._max_messages = max_messages

    async def begin(self, run: MiddlewareRun) -> None:
        """See `Consumer`."""
        journal = self._session.journal
        self._session.planned = run.plan.planned
        target = await self._run.reach(self.check)
        journal.begin(self._operation.job(run.account, run.mailbox, run.uidvalidity, target))
        if highest := journal.highest_uid:
            # UIDNEXT may have fallen under the same UIDVALIDITY.
            met = Cursor(highest_uid=highest)
            now = run.uidvalidity, await run.believable_cursor(met)
            if (changed := reissued(run.mailbox, (run.uidvalidity, met), now, "begin another journal")) is not None:
                raise changed
        await self._run.reach(self._settle)
        await run.plan.skip(journal.done)
        left = self._run.plan.remaining_count
        if self._max_messages is not None and left > self._max_messages:
            raise TooManyMessages(left, self._max_messages)

    async def finish(self) -> None:
        """See `Consumer`: batches have their outcome when they end."""

    async def check(self, connection: Connection) -> str:
        """Refuse what cannot be done safely; gives the name of the target. Raises as `check_change` does."""
        await self._run.access.reopen(connection)
        return await check_change(connection, self._operation, self._run.mailbox)

    async def _settle(self, connection: Connection) -> None:
        run, journal = self._run, self._session.journal
        await run.access.reopen(connection)
        await settle_pending(Step(connection, run.access, journal, run.today, run.notes))
