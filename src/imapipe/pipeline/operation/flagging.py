r"""Changing flags, so that nothing that somebody else did to them is undone, now or by an undo later.

Invariants:

- Messages that have the flags already are done, and not touched: an undo leaves them alone.
- Where all flags are replaced, and where few messages are changed so that it can be undone, STORE names a mod-sequence
  from before the reading (UNCHANGEDSINCE, RFC 7162 §3.1.3). Whatever was changed during it is in conflict, read again,
  and tried again; so it is known of each flag whose doing it is. The server tells a mod-sequence for each message then,
  which costs more than all the rest.
- After a few rounds replacing has failed as `conflict`. Adding and removing is safe without that condition, for it
  touches no other flags: so are changed what is left then, and what is too much for it. Messages that somebody else
  changed between the look at them and that STORE are contested: it cannot be told whose doing the flags are, so an
  undo leaves them alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from imapipe.errors import CommandBad, CommandNo, ProtocolError
from imapipe.journal.entry import NO_UIDS, Intent, Job, Result
from imapipe.pipeline.operation.flag_reading import Flagged, Groups, fetch_flags, search_flags, union
from imapipe.pipeline.operation.message_change import added_and_removed
from imapipe.pipeline.operation.news import FlagNews
from imapipe.pipeline.operation.step import Outcome, Step, failures
from imapipe.wire.command.store import FlagChange
from imapipe.wire.response.note import Note, count_notes
from imapipe.wire.uid_set import UidSet

MAX_ROUNDS = 5
MOST_CONDITIONAL = 1_000
"""Of so many messages at most a mod-sequence each is no matter, some 10 ms."""

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
    if job.kind == "set" or (step.journal.is_kept and len(uids) <= MOST_CONDITIONAL):
        bound = await _bound(step)
        if job.kind == "set" or bound:
            return await _change_unchanged(step, job, uids, bound)
    return await _change_at_once(step, job, uids)


async def _bound(step: Step) -> int:
    """A mod-sequence that no change from now on has, or 0 where the server keeps none."""
    connection, selected = step.connection, step.connection.selected
    if selected is None or not connection.offers("CONDSTORE"):
        return 0
    if selected.highest_modseq is None:
        # Dovecot tells it at SELECT only to those who want to be told of every change.
        try:
            status = await connection.status(selected.name, ("HIGHESTMODSEQ",))
        except (CommandNo, CommandBad, ProtocolError):
            if not connection.is_open:
                raise
            return 0
        selected.highest_modseq = status.highest_modseq
    return selected.highest_modseq or 0


async def _change_at_once(step: Step, job: Job, uids: UidSet) -> Outcome:
    """Add and remove flags; what somebody else changes meanwhile is contested."""
    expunged = step.expunged
    with FlagNews(step.connection) as news:
        found = await _read_named(step, job, uids) or await fetch_flags(step, uids)
        outcome, wrong, groups = await _judge(step, job, uids, found)
        if not wrong:
            return outcome
        number = step.journal.story.last_number + 1
        await step.journal.intend(Intent(number, wrong, before=groups))
        await _store(step, job, wrong)
    gone = await step.gone(wrong, expunged)
    stored = wrong - gone
    contested = await news.contested(step, stored)
    count_notes(step.notes, [CONTESTED] * len(contested))
    step.journal.answered(Result(number, stored, vanished=gone, contested=contested))
    return outcome.and_also(stored, gone)


async def _change_unchanged(step: Step, job: Job, uids: UidSet, bound: int) -> Outcome:
    """Change what nobody else has changed since it was read, and read the rest again.

    Args:
        step: Where.
        job: What.
        uids: Which messages.
        bound: A mod-sequence from before anything is read; 0 where there are none, and nothing can be compared.
    """
    journal = step.journal
    outcome, todo = Outcome(), uids
    for number_of_round in range(MAX_ROUNDS):
        expunged = step.expunged
        found = await _read_named(step, job, todo) if job.kind != "set" and not number_of_round else None
        found = found or await fetch_flags(step, todo, with_modseq=bool(bound))
        judged, wrong, groups = await _judge(step, job, todo, found)
        outcome += judged
        if not wrong:
            return outcome
        number = journal.story.last_number + 1
        await journal.intend(Intent(number, wrong, before=groups))
        modified = await _store(step, job, wrong, unchanged_since=bound or None)
        gone = await step.gone(wrong, expunged)
        stored = wrong - modified - gone
        journal.answered(Result(number, stored, vanished=gone))
        outcome = outcome.and_also(stored, gone)
        todo = modified - gone
        if not todo:
            return outcome
        bound = max(bound, found.highest_modseq)
    if job.kind != "set":
        return outcome + await _change_at_once(step, job, todo)
    conflict = "somebody else changes the message again and again"
    return outcome + Outcome(failed=failures(todo, "conflict", conflict))


async def _read_named(step: Step, job: Job, uids: UidSet) -> Flagged | None:
    """Which messages have the flags that are added and removed, by searches; None where it must be read."""
    return await search_flags(step, uids, [flag for _, flags in stores(job.kind, job.flags) for flag in flags])


async def _judge(step: Step, job: Job, uids: UidSet, found: Flagged) -> tuple[Outcome, UidSet, Groups]:
    """What needs no change, or cannot have one; the messages that do, and these by the flags that they have."""
    absent = uids - found.uids
    untold = await step.there(absent)
    wrong, groups = _wrong(job, found)
    failed = failures(untold, "no-data", "the server lists the message and does not tell its flags")
    return Outcome(found.uids - wrong, absent - untold, failed), wrong, groups


async def _store(step: Step, job: Job, uids: UidSet, *, unchanged_since: int | None = None) -> UidSet:
    """Store; gives the messages that were left alone, because somebody changed them since."""
    modified = NO_UIDS
    for change, flags in stores(job.kind, job.flags):
        if not uids:
            break
        left = await step.connection.uid_store(uids, change, flags, unchanged_since=unchanged_since)
        modified |= uids & left
        uids -= left
        # From here on they have been changed: by us.
        unchanged_since = None
    return modified


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
