"""Changing flags, only of messages that nobody else changed since their flags were read.

Invariants:

- Messages that have the flags already are done, and not touched: an undo leaves them alone.
- UNCHANGEDSINCE (RFC 7162 §3.1.3) names a mod-sequence from before the flags were read, so whatever was changed during
  the reading is in conflict, read again, and tried again; after a few rounds it has failed as `conflict`.
"""

from __future__ import annotations

from imapipe.journal.entry import NO_UIDS, Intent, Job, Result
from imapipe.models.message import Message
from imapipe.pipeline.operation.step import Outcome, Step, failures
from imapipe.pipeline.source.values import fetch_values
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.command.store import FlagChange
from imapipe.wire.uid_set import UidSet

MAX_ROUNDS = 5


async def flag_messages(step: Step, job: Job, change: FlagChange, uids: UidSet) -> Outcome:
    """Change the flags of messages; raises as the commands do."""
    connection, journal = step.connection, step.journal
    selected = connection.selected
    is_safe = connection.offers("CONDSTORE") and selected is not None and bool(selected.highest_modseq)
    bound = (selected.highest_modseq or 0) if selected is not None else 0
    done, vanished, failed = NO_UIDS, NO_UIDS, failures((), "", "")
    todo = uids
    for _ in range(MAX_ROUNDS):
        expunged = selected.expunged if selected is not None else 0
        read = await _read(step, todo, with_modseq=is_safe)
        absent = todo - UidSet.from_numbers(read)
        there = await step.there(absent)
        vanished |= absent - there
        failed += failures(there, "no-data", "the server lists the message and does not tell its flags")
        wrong = UidSet.from_numbers(uid for uid, (had, _) in read.items() if result_of(job, had) != had)
        done |= UidSet.from_numbers(read) - wrong
        if not wrong:
            return Outcome(done, vanished, failed)
        before: dict[frozenset[str], list[int]] = {}
        for uid in wrong:
            before.setdefault(read[uid][0], []).append(uid)
        groups = tuple((had, UidSet.from_numbers(numbers)) for had, numbers in before.items())
        number = journal.story.last_number + 1
        await journal.intend(Intent(number, wrong, before=groups))
        modified = wrong & await connection.uid_store(
            wrong, change, job.flags, unchanged_since=bound if is_safe else None
        )
        gone = NO_UIDS
        if selected is not None and selected.expunged != expunged:
            gone = wrong - await step.there(wrong)
        stored = wrong - modified - gone
        journal.answered(Result(number, stored, vanished=gone))
        done |= stored
        vanished |= gone
        todo = modified - gone
        if not todo:
            return Outcome(done, vanished, failed)
        bound = max([bound, *(modseq for _, modseq in read.values())])
    conflict = "somebody else changes the message again and again"
    return Outcome(done, vanished, failed + failures(todo, "conflict", conflict))


def result_of(job: Job, had: frozenset[str]) -> frozenset[str]:
    r"""The flags of a message that had some; flags are compared without regard to case, `\Recent` is nobody's."""
    had = frozenset(flag for flag in had if flag.lower() != "\\recent")
    named = {flag.lower() for flag in job.flags}
    others = frozenset(flag for flag in had if flag.lower() not in named)
    if job.kind == "remove":
        return others
    kept = {flag.lower(): flag for flag in had}
    given = frozenset(kept.get(flag.lower(), flag) for flag in job.flags)
    return given if job.kind == "set" else others | given


async def _read(step: Step, uids: UidSet, *, with_modseq: bool) -> dict[int, tuple[frozenset[str], int]]:
    def read(message: Message) -> tuple[frozenset[str], int]:
        modseq = message.modseq if with_modseq else 0
        return frozenset(flag for flag in message.flags if flag.lower() != "\\recent"), modseq or 0

    fetch = Fetch("flags", "modseq") if with_modseq else Fetch("flags")
    return await fetch_values(step.connection, uids, fetch, read)


async def settle_flags(step: Step, job: Job, pending: Intent) -> Result:
    """What came of an intent whose answer is missing."""
    read = await _read(step, pending.uids, with_modseq=False)
    done = UidSet.from_numbers(uid for uid, (had, _) in read.items() if result_of(job, had) == had)
    absent = pending.uids - UidSet.from_numbers(read)
    return Result(pending.number, done, vanished=absent - await step.there(absent))
