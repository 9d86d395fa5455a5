r"""Messages that go to another mailbox, or away: MOVE (RFC 6851), else COPY, STORE \Deleted and UID EXPUNGE.

Invariants:

- Before messages go, the journal knows UIDNEXT of the target, and by what each of them can be recognised there.
- Nothing is removed here before its copy is confirmed, and then only by UID.
- What a server does not tell is looked for; a message that is not here has vanished only if it is not there either.
"""

from __future__ import annotations

from imapipe.journal.entry import NO_UIDS, Intent, Job, Result, as_pairs
from imapipe.pipeline.operation.arrival import find_arrivals, read_marks
from imapipe.pipeline.operation.flag_reading import Groups, fetch_flags
from imapipe.pipeline.operation.leaving import leave
from imapipe.pipeline.operation.step import Outcome, Step, failures, target_numbers
from imapipe.wire.response.code import CopyUid
from imapipe.wire.uid_set import UidSet


async def transfer_messages(step: Step, job: Job, uids: UidSet) -> Outcome:
    """Move or copy messages; those without an outcome were left out by the server. Raises as the commands do."""
    connection, journal = step.connection, step.journal
    marks = await read_marks(connection, uids)
    known = UidSet.from_numbers(marks)
    absent = uids - known
    there = await step.there(absent)
    vanished = absent - there
    failed = failures(there, "no-data", "the server lists the message and does not say what it is")
    if not known:
        return Outcome(NO_UIDS, vanished, failed)
    by_copy = job.kind == "copy" or not connection.offers("MOVE")
    before: Groups = (await fetch_flags(step, known)).groups if job.kind == "move" and by_copy else ()
    selected = connection.selected
    uidvalidity, uidnext = await target_numbers(connection, job.target)
    if connection.selected is not selected:
        await step.access.reopen(connection)
    number = journal.story.last_number + 1
    intent = Intent(number, known, uidvalidity, uidnext, tuple(marks[uid] for uid in known), before)
    await journal.intend(intent)
    send = connection.uid_copy if by_copy else connection.uid_move
    result = await _confirmed(step, job, intent, await send(known, job.target), by_copy=by_copy)
    if job.kind == "move" and by_copy and result.done:
        journal.copied(result)
        result = await leave(step, job, intent, result)
    journal.answered(result)
    rest = known - result.done - result.vanished
    if rest and not result.done and not result.vanished:
        failed += failures(rest, "not-moved", "the server says OK and leaves the message where it is")
    return Outcome(result.done, vanished | result.vanished, failed)


async def _confirmed(step: Step, job: Job, intent: Intent, told: CopyUid | None, *, by_copy: bool) -> Result:
    """What came of a command that was answered with OK: what COPYUID tells of it, and for the rest a look.

    Args:
        step: Where.
        job: What is done.
        intent: With which messages.
        told: COPYUID.
        by_copy: The messages stay here, too.
    """
    pairs = _believed(told, intent, may_be_old=step.connection.offers("X-GM-EXT-1")) if told is not None else {}
    rest = intent.uids - UidSet.from_numbers(pairs)
    unplaced = vanished = NO_UIDS
    if rest and (by_copy or rest - await step.there(rest)):
        found = await find_arrivals(step, job, intent, pairs)
        pairs |= found.pairs
        unplaced = found.unplaced
        vanished = rest - found.there - found.done
    done = UidSet.from_numbers(pairs) | unplaced
    return Result(intent.number, done, as_pairs(sorted(pairs.items())), vanished)


def _believed(told: CopyUid, intent: Intent, *, may_be_old: bool) -> dict[int, int]:
    """What COPYUID says; nothing where some of it cannot be: an undo would take away what it names.

    Args:
        told: It.
        intent: What the command was for.
        may_be_old: Gmail only gives labels: a message that has the one of the target stays what it is there, and so
            does one for two that are the same.
    """
    if told.uidvalidity != intent.uidvalidity or len(told.source) > len(intent.uids):
        return {}
    pairs = {here: there for here, there in told.pairs() if here in intent.uids}
    is_new = len(set(pairs.values())) == len(pairs) and min(pairs.values(), default=0) >= intent.uidnext
    return pairs if is_new or may_be_old else {}


async def remove_messages(step: Step, uids: UidSet) -> Outcome:
    """Remove messages for good; raises as the commands do."""
    journal = step.journal
    expunged = step.expunged
    before = await step.there(uids)
    if not before:
        return Outcome(vanished=uids)
    number = journal.story.last_number + 1
    await journal.intend(Intent(number, before))
    await step.mark(before)
    gone = await step.gone(before, expunged)
    marked = await step.expunge(before - gone) if before - gone else NO_UIDS
    left = await step.there(before - gone) - marked
    done = before - gone - left
    journal.answered(Result(number, done, vanished=gone, marked=marked))
    kept = failures(left, "not-removed", "the server says OK and keeps the message")
    return Outcome(done, uids - before | gone, kept)
