"""Finding out what came of a command whose answer is missing, by looking at both mailboxes.

Invariants:

- What was begun is ended, never begun again: a message whose copy is in the target is removed here, not copied again.
- What was not begun stays as it is; the run's own search finds it.
- Nothing is looked at before the mailbox of the messages is known to be the open one: what failed may have left the
  target open, where the same UIDs are other messages.
- A server may still be at work on a command after its connection has ended: what is not whole is looked at again until
  two looks agree.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from imapipe.journal.entry import Intent, Job, Result, as_pairs
from imapipe.pipeline.operation.arrival import Arrival, find_arrivals
from imapipe.pipeline.operation.flagging import FLAG_KINDS, settle_flags
from imapipe.pipeline.operation.leaving import leave
from imapipe.pipeline.operation.step import Step

LOOK_AGAIN_SECONDS = 0.5
MAX_LOOKS = 11

_Found = TypeVar("_Found", Arrival, Result)


async def settle_pending(step: Step, *, was_answered: bool = False) -> Result | None:
    """End the intent that has no result, if there is one; the mailbox is open for writing when this returns.

    Args:
        step: Where.
        was_answered: The command was refused: the server is not at work on it any more.

    Raises:
        ImapipeError: As the commands do; the intent stays open.
    """
    story = step.journal.story
    pending, copied = story.pending, story.copied
    # Also where nothing is pending: what comes next counts on it.
    await step.access.reopen(step.connection)
    if pending is None:
        return None
    job, looks = step.job, 1 if was_answered else MAX_LOOKS
    if job.kind in FLAG_KINDS:
        result = await _until_two_agree(pending, partial(settle_flags, step, job, pending), looks)
    elif job.kind == "delete":
        result = await _until_two_agree(pending, partial(_look_after_removal, step, pending), looks)
    elif copied is not None:
        result = await leave(step, job, pending, copied)
    else:
        result = await _settle_transfer(step, job, pending, looks)
    step.journal.answered(result)
    return result


async def _until_two_agree(pending: Intent, look: Callable[[], Awaitable[_Found]], looks: int) -> _Found:
    found = await look()
    for _ in range(looks - 1):
        if len(found.done) == len(pending.uids):
            break
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
        before, found = found, await look()
        if found == before:
            break
    return found


async def _look_after_removal(step: Step, pending: Intent) -> Result:
    await step.connection.noop()
    return Result(pending.number, pending.uids - await step.there(pending.uids))


async def _settle_transfer(step: Step, job: Job, pending: Intent, looks: int) -> Result:
    found = await _until_two_agree(pending, partial(find_arrivals, step, job, pending), looks)
    vanished = pending.uids - found.there - found.done
    result = Result(pending.number, found.done, as_pairs(sorted(found.pairs.items())), vanished)
    if job.kind == "move" and found.there & found.done:
        step.journal.copied(result)
        result = await leave(step, job, pending, result)
    return result
