r"""Removing messages here whose copies are in the target: the second half of a move on a server without MOVE.

Invariant: flags that somebody else changes between the COPY and the EXPUNGE are changed in the copies, too; where that
cannot be done the report says so. They are compared when the messages are marked with `\Deleted` already, which others
take for gone; what is changed in the instant between that look and the EXPUNGE is lost with any client.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from imapipe.errors import CommandBad, CommandNo
from imapipe.journal.entry import Intent, Job, Result, each_pair
from imapipe.pipeline.operation.flag_reading import fetch_flags
from imapipe.pipeline.operation.step import Step
from imapipe.wire.command.store import FlagChange
from imapipe.wire.response.note import Note, count_notes
from imapipe.wire.uid_set import UidSet

FLAGS_LOST = Note(
    "flags-lost",
    "no MOVE: somebody else changed flags of messages while they were moved, and their copies were not given the same",
)
IN_BOTH = Note(
    "in-both",
    "no MOVE: somebody else took \\Deleted away from messages that were moved: they are here and in the target",
)
_IGNORED = frozenset(("\\deleted", "\\recent"))


async def leave(step: Step, job: Job, intent: Intent, copied: Result) -> Result:
    """Remove what was copied; gives the result with what was only marked. Raises as the commands do."""
    uids = await step.there(copied.done)
    if not uids:
        return copied
    await step.mark(uids)
    await _carry_over(step, job, intent, copied, uids)
    marked = await step.expunge(uids)
    if kept := await step.there(uids) - marked:
        count_notes(step.notes, [IN_BOTH] * len(kept))
    return replace(copied, marked=marked)


async def _carry_over(step: Step, job: Job, intent: Intent, copied: Result, uids: UidSet) -> None:
    """Give the copies what somebody else did to the flags of messages since they were read."""
    numbers = dict(each_pair(copied.pairs))
    changes: dict[tuple[FlagChange, frozenset[str]], list[int]] = defaultdict(list)
    lost = 0
    for now, group in (await fetch_flags(step, uids)).groups:
        for had, before in intent.before:
            new, old = _compared(now), _compared(had)
            if new.keys() == old.keys() or not (changed := group & before):
                continue
            placed = [numbers[uid] for uid in changed if uid in numbers]
            lost += len(changed) - len(placed)
            for change, flags in (
                (FlagChange.ADD, {new[flag] for flag in new.keys() - old.keys()}),
                (FlagChange.REMOVE, {old[flag] for flag in old.keys() - new.keys()}),
            ):
                if flags and placed:
                    changes[change, frozenset(flags)] += placed
    if changes:
        lost += await _change_copies(step, job, {key: UidSet.from_numbers(each) for key, each in changes.items()})
    count_notes(step.notes, [FLAGS_LOST] * lost)


async def _change_copies(step: Step, job: Job, changes: dict[tuple[FlagChange, frozenset[str]], UidSet]) -> int:
    """Change flags in the target; gives of how many messages that was refused."""
    refused = UidSet()
    connection = step.connection
    await connection.select(job.target)
    for (change, flags), numbers in changes.items():
        try:
            await connection.uid_store(numbers, change, sorted(flags))
        except (CommandNo, CommandBad):
            if not connection.is_open:
                raise
            refused |= numbers
    await step.access.reopen(connection)
    return len(refused)


def _compared(flags: frozenset[str]) -> dict[str, str]:
    return {flag.lower(): flag for flag in flags if flag.lower() not in _IGNORED}
