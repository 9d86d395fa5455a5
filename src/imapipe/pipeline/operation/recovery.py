"""Finding out what came of a command whose answer is missing, by looking at both mailboxes.

Invariants:

- What was begun is ended, never begun again: a message whose copy is in the target is removed here, not copied again.
- What was not begun stays as it is; the run's own search finds it.
- A server may still be at work on a command after its connection has ended: what is not whole is looked at again until
  two looks agree.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque

from imapipe.errors import UidValidityChanged
from imapipe.journal.entry import Intent, Job, Result, as_pairs
from imapipe.pipeline.operation.flagging import settle_flags
from imapipe.pipeline.operation.step import Step, read_keys
from imapipe.pipeline.source.find import find
from imapipe.search import uid as with_uid
from imapipe.wire.uid_set import MAX_UID, UidSet

LOOK_AGAIN_SECONDS = 0.5
MAX_LOOKS = 10

_FLAG_KINDS = ("add", "remove", "set")


async def settle_pending(step: Step) -> Result | None:
    """End the intent that has no result, if there is one; the mailbox is open for writing again when this returns.

    Raises:
        UidValidityChanged: The target was renumbered meanwhile.
        ImapipeError: As the commands do; the intent stays open.
    """
    story = step.journal.story
    pending, copied = story.pending, story.copied
    if pending is None:
        return None
    job = step.job
    if job.kind in _FLAG_KINDS:
        result = await settle_flags(step, job, pending)
    elif job.kind == "delete":
        result = Result(pending.number, pending.uids - await step.there(pending.uids))
    elif copied is not None:
        result = copied
        if left := await step.there(copied.done):
            marked = await step.remove(left)
            result = Result(pending.number, copied.done, copied.pairs, copied.vanished, marked)
    else:
        result = await _settle_transfer(step, job, pending)
    step.journal.answered(result)
    return result


async def _settle_transfer(step: Step, job: Job, pending: Intent) -> Result:
    there, pairs = await _look(step, job, pending)
    for _ in range(MAX_LOOKS):
        if len(pairs) == len(pending.uids):
            break
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
        before = there, pairs
        there, pairs = await _look(step, job, pending)
        if (there, pairs) == before:
            break
    arrived = UidSet.from_numbers(pairs)
    result = Result(pending.number, arrived, as_pairs(sorted(pairs.items())), pending.uids - there - arrived)
    if job.kind == "move" and (left := there & arrived):
        step.journal.copied(result)
        marked = await step.remove(left)
        result = Result(pending.number, result.done, result.pairs, result.vanished, marked)
    return result


async def _look(step: Step, job: Job, pending: Intent) -> tuple[UidSet, dict[int, int]]:
    """Which messages are still here, and which are in the target under which UID."""
    connection = step.connection
    await connection.noop()
    there = await step.there(pending.uids)
    target = await connection.examine(job.target)
    if target.uidvalidity != pending.uidvalidity:
        raise UidValidityChanged(
            job.target,
            expected=pending.uidvalidity,
            found=target.uidvalidity,
            advice="see for yourself where the messages of the last line of the journal are",
        )
    above = with_uid(UidSet.from_ranges([(max(1, pending.uidnext), MAX_UID)]))
    arrived = await find(connection, above, target.exists, step.today)
    keys = await read_keys(connection, arrived) if arrived else {}
    by_key: dict[str, deque[int]] = defaultdict(deque)
    for number in sorted(keys):
        by_key[keys[number]].append(number)
    pairs: dict[int, int] = {}
    known = dict(zip(pending.uids, pending.keys, strict=True))
    # Those that are gone come first: of two that are alike, the one that is here was not moved.
    for number in (*(pending.uids - there), *there):
        if found := by_key.get(known[number]):
            pairs[number] = found.popleft()
    await step.access.reopen(connection)
    return there, pairs
