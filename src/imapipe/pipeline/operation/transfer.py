r"""Messages that go to another mailbox, or away: MOVE (RFC 6851), else COPY, STORE \Deleted and UID EXPUNGE.

Invariants:

- Before messages go, the journal knows UIDNEXT of the target, and by what each of them can be recognised there.
- Nothing is removed here before its copy is confirmed, and then only by UID.
- What a server does not tell is looked for; a message that is not here has vanished only if it is not there either.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from imapipe.journal.entry import NO_UIDS, Intent, Job, Result, as_pairs
from imapipe.pipeline.operation.arrival import find_arrivals, read_marks
from imapipe.pipeline.operation.flag_reading import Groups, fetch_flags
from imapipe.pipeline.operation.leaving import leave
from imapipe.pipeline.operation.step import Outcome, Step, failures, target_numbers
from imapipe.wire.response.code import CopyUid
from imapipe.wire.uid_set import UidSet

# No range is longer, with the comma behind it.
_RANGE_BYTES: Final = 22


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
    uidvalidity, uidnext = await _target_numbers(step, job)
    number = journal.story.last_number + 1
    intent = Intent(number, known, uidvalidity, uidnext, tuple(marks[uid] for uid in known), before)
    await journal.intend(intent)
    expunged = step.expunged
    told = await (connection.uid_copy if by_copy else connection.uid_move)(known, job.target)
    pairs = _believed(told, intent, may_be_old=connection.offers("X-GM-EXT-1")) if told is not None else {}
    if not by_copy and step.expunged - expunged < len(pairs):
        # It says so, and did not say that they are gone.
        stayed = await step.there(UidSet.from_numbers(pairs))
        pairs = {here: there for here, there in pairs.items() if here not in stayed}
    elif job.kind == "move" and by_copy and pairs:
        # They are removed here next, so the target has to say so, too.
        now = await _target_numbers(step, job)
        if now[0] != uidvalidity or now[1] <= max(pairs.values()):
            pairs = {}
    result = await _confirmed(step, job, intent, pairs, by_copy=by_copy)
    if job.kind == "move" and by_copy and result.done:
        journal.copied(result)
        result = await leave(step, job, intent, result)
    journal.answered(result)
    rest = known - result.done - result.vanished
    if rest and not result.done and not result.vanished:
        failed += failures(rest, "not-moved", "the server says OK and leaves the message where it is")
    return Outcome(result.done, vanished | result.vanished, failed)


async def _target_numbers(step: Step, job: Job) -> tuple[int, int]:
    """UIDVALIDITY and UIDNEXT of the target; the mailbox is open behind this. Raises as `target_numbers` does."""
    selected = step.connection.selected
    numbers = await target_numbers(step.connection, job.target)
    if step.connection.selected is not selected:
        await step.access.reopen(step.connection)
    return numbers


async def _confirmed(step: Step, job: Job, intent: Intent, told: dict[int, int], *, by_copy: bool) -> Result:
    """What came of a command that was answered with OK: what COPYUID tells of it, and for the rest a look.

    Args:
        step: Where.
        job: What is done.
        intent: With which messages.
        told: UIDs of messages, and what they became, as far as that is believed.
        by_copy: The messages stay here, too.
    """
    pairs = dict(told)
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
    most = len(intent.uids)
    # A text of a few kilobytes may name each of them millions of times.
    if told.uidvalidity != intent.uidvalidity or max(map(len, told.arguments)) > most * _RANGE_BYTES:
        return {}
    both = list(islice(told.pairs(), most + 1))
    if len(both) > most:
        return {}
    pairs = {here: there for here, there in both if here in intent.uids}
    is_whole = len(told.source) == len(told.destination) == len(both)
    is_new = len(set(pairs.values())) == len(pairs) and min(pairs.values(), default=0) >= intent.uidnext
    return pairs if (is_whole and is_new) or may_be_old else {}


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
