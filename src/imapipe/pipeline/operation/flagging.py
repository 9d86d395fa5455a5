r"""Changing flags, so that nothing that somebody else did to them is undone, now or by an undo later.

Invariants:

- Messages that have the flags already are done, and not touched: an undo leaves them alone.
- Flags are added and removed by one STORE, which touches no others. Messages that somebody else changed between the
  look at them and that STORE are contested: it cannot be told whose doing the flags are, so an undo leaves them alone.
- Where all flags are replaced, UNCHANGEDSINCE (RFC 7162 §3.1.3) names a mod-sequence from before
  the reading, so whatever was changed during it is in conflict, read again, and tried again; after a few rounds it
  has failed as `conflict`. The server tells a mod-sequence for each message then, which costs more than all the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

from imapipe.journal.entry import NO_UIDS, Intent, Job, Result
from imapipe.models.batch import Failure
from imapipe.pipeline.operation.flag_reading import Flagged, Groups, fetch_flags, search_flags, union
from imapipe.pipeline.operation.message_change import added_and_removed
from imapipe.pipeline.operation.news import FlagNews
from imapipe.pipeline.operation.step import Outcome, Step, failures
from imapipe.wire.command.store import FlagChange
from imapipe.wire.response.note import Note, count_notes
from imapipe.wire.uid_set import UidSet

MAX_ROUNDS = 5

CONTESTED = Note(
    "contested",
    "somebody else changed flags of messages at the same moment: they have both changes, and an undo leaves them alone",
)
FLAG_KINDS = frozenset(("add", "remove", "set", "change"))


def stores(kind: str, flags: Sequence[str]) -> list[tuple[FlagChange, tuple[str, ...]]]:
    """What is stored for a change of flags, in order."""
    added, removed = added_and_removed(kind, flags)
    if kind == "set":
        return [(FlagChange.REPLACE, added)]
    both = ((FlagChange.ADD, added), (FlagChange.REMOVE, removed))
    return [(change, named) for change, named in both if named]


async def flag_messages(step: Step, job: Job, uids: UidSet) -> Outcome:
    """Change the flags of messages; raises as the commands do."""
    if job.kind != "set":
        expunged = step.expunged
        with FlagNews(step.connection) as news:
            named = [flag for _, flags in stores(job.kind, job.flags) for flag in flags]
            found = await search_flags(step, uids, named) or await fetch_flags(step, uids)
            return await _change_at_once(step, job, uids, found, news, expunged)
    return await _change_unchanged(step, job, uids)


async def _change_at_once(step: Step, job: Job, uids: UidSet, found: Flagged, news: FlagNews, expunged: int) -> Outcome:
    there = found.uids
    absent = uids - there
    untold = await step.there(absent)
    failed = _untold(untold)
    wrong, groups = _wrong(job, found)
    done, vanished = there - wrong, absent - untold
    if not wrong:
        return Outcome(done, vanished, failed)
    number = step.journal.story.last_number + 1
    await step.journal.intend(Intent(number, wrong, before=groups))
    await _store(step, job, wrong)
    gone = await step.gone(wrong, expunged)
    stored = wrong - gone
    contested = await news.contested(step, stored)
    count_notes(step.notes, [CONTESTED] * len(contested))
    step.journal.answered(Result(number, stored, vanished=gone, contested=contested))
    return Outcome(done | stored, vanished | gone, failed)


async def _change_unchanged(step: Step, job: Job, uids: UidSet) -> Outcome:
    connection, journal = step.connection, step.journal
    selected = connection.selected
    is_safe = connection.offers("CONDSTORE") and selected is not None and bool(selected.highest_modseq)
    bound = (selected.highest_modseq or 0) if selected is not None else 0
    done, vanished, failed = NO_UIDS, NO_UIDS, failures((), "", "")
    todo = uids
    for _ in range(MAX_ROUNDS):
        expunged = step.expunged
        found = await fetch_flags(step, todo, with_modseq=is_safe)
        absent = todo - found.uids
        there = await step.there(absent)
        vanished |= absent - there
        failed += _untold(there)
        wrong, groups = _wrong(job, found)
        done |= found.uids - wrong
        if not wrong:
            return Outcome(done, vanished, failed)
        number = journal.story.last_number + 1
        await journal.intend(Intent(number, wrong, before=groups))
        modified = wrong & await connection.uid_store(
            wrong, FlagChange.REPLACE, job.flags, unchanged_since=bound if is_safe else None
        )
        gone = await step.gone(wrong, expunged)
        stored = wrong - modified - gone
        journal.answered(Result(number, stored, vanished=gone))
        done |= stored
        vanished |= gone
        todo = modified - gone
        if not todo:
            return Outcome(done, vanished, failed)
        bound = max(bound, found.highest_modseq)
    conflict = "somebody else changes the message again and again"
    return Outcome(done, vanished, failed + failures(todo, "conflict", conflict))


async def _store(step: Step, job: Job, uids: UidSet) -> None:
    for change, flags in stores(job.kind, job.flags):
        await step.connection.uid_store(uids, change, flags)


def _untold(uids: UidSet) -> tuple[Failure, ...]:
    return failures(uids, "no-data", "the server lists the message and does not tell its flags")


def _wrong(job: Job, found: Flagged) -> tuple[UidSet, Groups]:
    """The messages that do not have what they are to have, and by the flags that they have."""
    groups = tuple((had, uids) for had, uids in found.groups if result_of(job, had) != had)
    return union(uids for _, uids in groups), groups


def result_of(job: Job, had: frozenset[str]) -> frozenset[str]:
    r"""The flags of a message that had some; flags are compared without regard to case, `\Recent` is nobody's."""
    had = frozenset(flag for flag in had if flag.lower() != "\\recent")
    added, removed = added_and_removed(job.kind, job.flags)
    named = {flag.lower() for flag in (*added, *removed)}
    others = frozenset(flag for flag in had if flag.lower() not in named)
    kept = {flag.lower(): flag for flag in had}
    given = frozenset(kept.get(flag.lower(), flag) for flag in added)
    return given if job.kind == "set" else others | given


async def settle_flags(step: Step, job: Job, pending: Intent) -> Result:
    """What came of an intent whose answer is missing, by a look; what is half done is ended."""
    await step.connection.noop()
    found = await fetch_flags(step, pending.uids)
    wrong, _ = _wrong(job, found)
    if job.kind == "change" and (half := wrong - _untouched(job, pending, found)):
        await _store(step, job, half)
        wrong -= half
    absent = pending.uids - found.uids
    return Result(pending.number, found.uids - wrong, vanished=absent - await step.there(absent))


def _untouched(job: Job, pending: Intent, found: Flagged) -> UidSet:
    """The messages that have of the named flags what they had before."""
    added, removed = added_and_removed(job.kind, job.flags)
    named = {flag.lower() for flag in (*added, *removed)}

    def of_those(flags: frozenset[str]) -> set[str]:
        return {flag.lower() for flag in flags} & named

    return union(
        uids & before for now, uids in found.groups for had, before in pending.before if of_those(now) == of_those(had)
    )
