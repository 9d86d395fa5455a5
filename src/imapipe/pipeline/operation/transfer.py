r"""Messages that go to another mailbox, or away: MOVE (RFC 6851), else COPY, STORE \Deleted and UID EXPUNGE.

Invariants:

- Before messages go, the journal knows UIDNEXT of the target, and by what each of them can be known there.
- Nothing is removed here before its copy is confirmed, and then only by UID.
"""

from __future__ import annotations

from imapipe.journal.entry import NO_UIDS, Intent, Job, Result, as_pairs
from imapipe.pipeline.operation.step import Outcome, Step, failures, read_keys, target_numbers
from imapipe.wire.response.code import CopyUid
from imapipe.wire.uid_set import UidSet


async def transfer_messages(step: Step, job: Job, uids: UidSet) -> Outcome:
    """Move or copy messages; those without an outcome were left out by the server. Raises as the commands do."""
    connection, journal = step.connection, step.journal
    keys = await read_keys(connection, uids)
    known = UidSet.from_numbers(keys)
    absent = uids - known
    there = await step.there(absent)
    vanished = absent - there
    failed = failures(there, "no-data", "the server lists the message and does not say what it is")
    if not known:
        return Outcome(NO_UIDS, vanished, failed)
    uidvalidity, uidnext = await target_numbers(connection, job.target)
    number = journal.story.last_number + 1
    await journal.intend(Intent(number, known, uidvalidity, uidnext, tuple(keys[uid] for uid in known)))
    if job.kind == "move" and connection.offers("MOVE"):
        told = await connection.uid_move(known, job.target)
        result = await _confirmed(step, number, known, told, uidvalidity)
    else:
        told = await connection.uid_copy(known, job.target)
        result = await _confirmed(step, number, known, told, uidvalidity, stays=True)
        if job.kind == "move" and result.done:
            journal.copied(result)
            marked = await step.remove(result.done)
            result = Result(number, result.done, result.pairs, result.vanished, marked)
    journal.answered(result)
    rest = known - result.done - result.vanished
    if rest and not result.done and not result.vanished:
        failed += failures(rest, "not-moved", "the server says OK and leaves the message where it is")
    return Outcome(result.done, vanished | result.vanished, failed)


async def _confirmed(
    step: Step, number: int, uids: UidSet, told: CopyUid | None, uidvalidity: int, *, stays: bool = False
) -> Result:
    """What an OK says of the messages.

    Args:
        step: Where.
        number: Of which intent.
        uids: Which messages.
        told: COPYUID.
        uidvalidity: UIDVALIDITY of the target.
        stays: They stay here, too.
    """
    pairs = [(here, there) for here, there in told.pairs() if here in uids] if told is not None else []
    if told is not None and pairs and told.uidvalidity == uidvalidity:
        done = UidSet.from_numbers(here for here, _ in pairs)
        rest = uids - done
        return Result(number, done, as_pairs(pairs), rest - await step.there(rest))
    there = await step.there(uids)
    if stays:
        # Whoever is gone was perhaps not copied; nothing of it is here any more that could be lost by us.
        return Result(number, there, vanished=uids - there)
    return Result(number, uids - there)


async def remove_messages(step: Step, uids: UidSet) -> Outcome:
    """Remove messages for good; raises as the commands do."""
    journal = step.journal
    before = await step.there(uids)
    if not before:
        return Outcome(vanished=uids)
    number = journal.story.last_number + 1
    await journal.intend(Intent(number, before))
    marked = await step.remove(before)
    left = await step.there(before) - marked
    journal.answered(Result(number, before - left, marked=marked))
    kept = failures(left, "not-removed", "the server says OK and keeps the message")
    return Outcome(before - left, uids - before, kept)
