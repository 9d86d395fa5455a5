"""What a pipeline finds out without a run: how far a search narrows, and what a run would do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from imapipe.models.cursor import Cursor
from imapipe.models.document import Document
from imapipe.net.connection import Connection
from imapipe.pipeline.memory import Memory
from imapipe.pipeline.run import Run
from imapipe.pipeline.source.sizes import Sizes, fetch_sizes
from imapipe.wire.uid_set import UidSet


@dataclass(frozen=True, slots=True)
class JobPlan(Document):
    """What a run would do, without fetching anything of the messages but their sizes.

    Attributes:
        mailbox: The mailbox.
        uidvalidity: Its UIDVALIDITY.
        cursor: How far it had come; with `uids` it goes to `Pipeline.only`.
        uids: What the search found, without what an earlier run did.
        messages: How many.
        total_bytes: The sum of RFC822.SIZE.
        unaccounted: Messages that the mailbox holds by EXISTS and that a search for all did not find.
        may_be_short: An answer to the search could not be read to its end: a message may be missing, nobody knows.
        skipped: Messages that the search found and that an earlier run did.
    """

    mailbox: str
    uidvalidity: int
    cursor: Cursor
    uids: UidSet
    messages: int
    total_bytes: int
    unaccounted: int = 0
    may_be_short: bool = False
    skipped: int = 0


class Reduction(NamedTuple):
    """One step of narrowing.

    Attributes:
        criteria: The search of this step, as text.
        before: How many messages there were.
        after: How many of them it left.
    """

    criteria: str
    before: int
    after: int

    @property
    def percent(self) -> float:
        """How much of what was there the step took away."""
        return 100 * (self.before - self.after) / self.before if self.before else 0.0


async def plan_job(run: Run, memory: Memory | None) -> JobPlan:
    """What a run would do, without what an earlier one did by the memory of its job. Raises as the run does."""
    run.access.give_back(await run.look())
    if memory is not None:
        await run.plan.skip(await memory.done_before(run))
    plan = run.plan
    uids = await plan.left()

    async def learn_sizes(lease: Connection) -> Sizes:
        await run.access.reopen(lease)
        return await fetch_sizes(lease, uids)

    connection, sizes = await run.access.reach(learn_sizes)
    run.access.give_back(connection)
    return JobPlan(
        run.mailbox,
        run.uidvalidity,
        run.cursor,
        uids,
        len(uids),
        sizes.total_bytes,
        unaccounted=run.unaccounted,
        may_be_short=run.may_be_short,
        skipped=len(run.plan.planned) - len(uids),
    )
