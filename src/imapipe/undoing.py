r"""Undoing a change by its journal: messages go back, and flags become what they were.

Invariants:

- Nothing is made up: only messages of which the journal knows where they went are moved back.
- Only what the change itself did is taken back: of flags that somebody else set since, none is touched.
- An undo is a change like others, with a journal of its own beside the first one: it may be interrupted and run again.
- While it runs nobody goes on with the change.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from imapipe import search as q
from imapipe.client import Pool
from imapipe.errors import JournalError, TooManyMessages
from imapipe.journal.entry import Job, Story, each_pair
from imapipe.journal.journal import UNDO_SUFFIX, Journal, read_journal, reading
from imapipe.middleware.base import Middleware
from imapipe.models.argument import check_whole
from imapipe.models.document import Document
from imapipe.models.report import RunReport
from imapipe.pipeline.change_pipeline import ChangePipeline, ChangePlan
from imapipe.pipeline.operation.flagging import result_of
from imapipe.pipeline.pipeline import Pipeline
from imapipe.wire.command.encoder import can_be_set
from imapipe.wire.uid_set import UidSet


@dataclass(frozen=True, slots=True)
class UndoReport(Document):
    """What an undo did.

    Attributes:
        undone: Messages that are as they were, over all runs of the undo; those that went back have new UIDs.
        lost: How many messages could not be brought back, by the reason.
        reports: The reports of the runs that it took.
    """

    derived: ClassVar[Sequence[str]] = ("undone_now", "complete")
    told_as: ClassVar[Mapping[str, str]] = {"reports": "runs"}

    undone: int
    lost: Mapping[str, int]
    reports: tuple[RunReport, ...]

    @property
    def undone_now(self) -> int:
        """Those that were brought back this time; none of them where an earlier run has left nothing to undo."""
        return sum(report.done for report in self.reports)

    @property
    def complete(self) -> bool:
        """Whether everything is as it was."""
        return not self.lost

    def table(self) -> str:
        """For people."""
        before = self.undone - self.undone_now
        lines = [f"undone  {self.undone:,}" + (f", {before:,} of them by an earlier run" if before else "")]
        if not self.undone_now and not self.lost:
            lines = ["nothing was left to undo" + (f"; an earlier run has undone {before:,}" if before else "")]
        lines += [f"not undone  {count:,}: {reason}" for reason, count in self.lost.items()]
        return "\n".join(lines)


async def undo(
    journal: str | os.PathLike[str],
    pool: Pool,
    *,
    use: Sequence[Middleware] = (),
    max_messages: int | None = None,
) -> UndoReport:
    """Take a change back.

    Args:
        journal: The journal of the change.
        pool: A pool of the same account.
        use: Middleware for the changes that it takes, such as `Progress`, `Retry` or `RateLimit`.
        max_messages: Refuse to begin where there is more to take back.

    Returns:
        What was done, and what cannot be undone: messages that were removed for good, copies (which stay, because
        one of them may be the only one left), messages of which the server did not tell where they went.

    Raises:
        TooManyMessages: There are more than `max_messages`; nothing was sent.
        JournalError: It is no journal, of another account, a run has it, its last command has no result yet, or the
            undo was undone itself.
        UidValidityChanged: What it knows means other messages now.
        ImapipeError: As `ChangePipeline.run` does.

    Cancelled, or where it raises on the way, what was taken back stays so; called again it goes on from there.
    """
    if max_messages is not None:
        check_whole("max_messages", max_messages)
    path = os.fsdecode(journal)
    with reading(path) as story:
        steps, lost = _plan(story, _job_of(story, path, pool), pool)
        count = sum(len(step.uids) for step in steps)
        if max_messages is not None and count > max_messages:
            raise TooManyMessages(count, max_messages)
        for own in (f"{path}{step.suffix}" for step in steps):
            if Journal(own).was_undone:
                # What was brought back is away again, with UIDs that only that journal knows.
                raise JournalError(f"this undo was undone itself: undo the undo of that, {own}{UNDO_SUFFIX}", path=own)
        undone, reports = 0, []
        for step in steps:
            report = await step.change.use(*use).run(journal=f"{path}{step.suffix}")
            reports.append(report)
            undone += report.done + report.skipped
            for reason, count in (
                ("somebody removed the message since", report.vanished),
                ("see failures", report.failed),
            ):
                if count:
                    lost[reason] = lost.get(reason, 0) + count
        return UndoReport(undone, lost, tuple(reports))


async def plan_undo(journal: str | os.PathLike[str], pool: Pool) -> tuple[list[ChangePlan], dict[str, int]]:
    """What an undo would do, and what it could not bring back; raises as `undo` does."""
    path = os.fsdecode(journal)
    story = read_journal(path)
    steps, lost = _plan(story, _job_of(story, path, pool), pool)
    return [await step.change.plan() for step in steps], lost


def _job_of(story: Story, path: str, pool: Pool) -> Job:
    """What a journal is of; raises JournalError where that cannot be undone, or not here."""
    job = story.job
    assert job is not None
    if job.account != pool.account:
        raise JournalError(f"it is of {job.account}, not of {pool.account}", path=path)
    if story.pending is not None:
        raise JournalError(
            "it is not known what came of its last command; run the change again with it first", path=path
        )
    return job


class _Step(NamedTuple):
    """One of the changes that take a change back.

    Attributes:
        suffix: What the name of its journal ends in. It stays the same when more was changed since.
        uids: The messages.
        change: What is done to them.
    """

    suffix: str
    uids: UidSet
    change: ChangePipeline


def _plan(story: Story, job: Job, pool: Pool) -> tuple[list[_Step], dict[str, int]]:
    """The changes that take it back, and what none of them can."""
    lost: dict[str, int] = {}

    def lose(reason: str, count: int) -> None:
        if count:
            lost[reason] = lost.get(reason, 0) + count

    done = UidSet()
    marked = UidSet()
    back: dict[int, UidSet] = {}
    for intent, result in story.steps:
        done |= result.done
        marked |= result.marked
        if job.kind == "move":
            kept = [there for here, there in each_pair(result.pairs) if here not in result.marked]
            back[intent.uidvalidity] = back.get(intent.uidvalidity, UidSet()) | UidSet.from_numbers(kept)
            lose("the server did not tell where the message went", len(result.done - result.marked) - len(kept))
    here, there = (pool.mailbox(name).search(q.ALL) for name in (job.mailbox, job.target or job.mailbox))
    chosen: list[tuple[UidSet, ChangePipeline]] = []
    if job.kind == "copy":
        lose("a copy stays: remove it yourself where you do not want it", len(done))
    elif job.kind == "delete":
        lose("the message was removed for good", len(done - marked))
    elif job.kind == "move":
        for uidvalidity, uids in back.items():
            chosen.append((uids, there.only(uids, uidvalidity=uidvalidity).move_to(job.mailbox)))
    else:
        chosen += _flags_back(story, job, here)
        contested = sum(len(result.contested) for _, result in story.steps)
        lose("somebody else changed the message at the same moment, so it is left as it is", contested)
    steps = [_Step(f"{UNDO_SUFFIX}{number or ''}", *each) for number, each in enumerate(chosen)]
    unmarked = here.only(marked, uidvalidity=job.uidvalidity).remove_flags("\\Deleted")
    steps.append(_Step(f"{UNDO_SUFFIX}-marked", marked, unmarked))
    return [step for step in steps if step.uids], lost


def _flags_back(story: Story, job: Job, here: Pipeline) -> Iterator[tuple[UidSet, ChangePipeline]]:
    """Take away what was added, and add what was taken away."""
    groups: dict[tuple[frozenset[str], frozenset[str]], UidSet] = {}
    for intent, result in story.steps:
        for before, uids in intent.before:
            after = result_of(job, before)
            difference = (after - before, before - after)
            groups[difference] = groups.get(difference, UidSet()) | uids & (result.done - result.contested)
    for (added, removed), uids in groups.items():
        # What a server tells of need not be what it takes.
        words = [f"-{flag}" for flag in sorted(added)]
        words += [f"+{flag}" for flag in sorted(removed) if can_be_set(flag)]
        if words:
            yield uids, here.only(uids, uidvalidity=job.uidvalidity).change_flags(*words)
