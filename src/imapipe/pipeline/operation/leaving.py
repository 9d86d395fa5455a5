r"""Removing messages here whose copies are in the target: the second half of a move on a server without MOVE.

Invariant: flags that somebody else changes between the COPY and the EXPUNGE are changed in the copies, too; where that
cannot be done the report says so. They are compared twice: when the messages are marked with `\Deleted`, which others
take for gone, and once more in the same flight as the EXPUNGE, so that no round trip lies between that look and the
removal. What is changed between these two commands, which the server has in hand together, is lost with any client; so
is what was changed since the first look where a crash comes between the EXPUNGE and the change of the copies.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import replace

from imapipe.errors import CommandBad, CommandNo
from imapipe.journal.entry import Intent, Job, Result, each_pair
from imapipe.pipeline.operation.flag_reading import Groups, fetch_flags
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
    seen = (await fetch_flags(step, uids)).groups
    await _carry_over(step, job, copied, intent.before, seen)
    last, marked = await _look_and_expunge(step, uids)
    await _carry_over(step, job, copied, seen, last)
    if kept := await step.there(uids) - marked:
        count_notes(step.notes, [IN_BOTH] * len(kept))
    return replace(copied, marked=marked)


async def _look_and_expunge(step: Step, uids: UidSet) -> tuple[Groups, UidSet]:
    """The flags that messages have when they go, and those that only stay marked; both commands are sent together."""
    look, expunge = asyncio.create_task(fetch_flags(step, uids)), asyncio.create_task(step.expunge(uids))
    try:
        await asyncio.wait((look, expunge))
    except asyncio.CancelledError:
        look.cancel()
        expunge.cancel()
        await asyncio.wait((look, expunge))
        raise
    # Where the connection ended both have failed, and asyncio complains of an exception that nobody has seen.
    look.exception()
    marked = expunge.result()
    return look.result().groups, marked


async def _carry_over(step: Step, job: Job, copied: Result, then: Groups, now: Groups) -> None:
    """Give the copies what somebody else did to the flags of messages from one look at them to the next."""
    numbers = dict(each_pair(copied.pairs))
    changes: dict[tuple[FlagChange, frozenset[str]], list[int]] = defaultdict(list)
    lost = 0
    for have, group in now:
        for had, before in then:
            new, old = _compared(have), _compared(had)
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
