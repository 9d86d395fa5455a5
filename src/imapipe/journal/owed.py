"""What is owed to messages, as a checkpoint keeps it: a change, to which of them, and its command under way.

    after:          [{"outcome": "done", "job": {… the first line of a journal …}, "owed": "5:9"}]
    after commands: {NAME: {"intent": {… a line of a journal …}, "copied": {… maybe another …}}}

Invariants:

- Where a mailbox is numbered anew, what is owed goes with the messages that were found again, and so does the command
  under way.
- What nobody can change any more is of no numbering (`LOST`); a run tells it and forgets it.
- Of a command that takes messages elsewhere, those that were not found again may have gone: so that they are looked for
  there, they get UIDs that no message of the mailbox has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, cast

from imapipe.errors import CheckpointCorrupt
from imapipe.journal.entry import Intent, Job, Result, as_pairs, each_pair
from imapipe.models.json_value import JSON
from imapipe.wire.uid_set import MAX_UID, UidSet

OWED: Final = "after"
COMMANDS: Final = "after commands"
LOST: Final = 0
"""The UIDVALIDITY of what is owed to messages that were not found again."""


@dataclass(frozen=True, slots=True)
class Owed:
    """A change that is owed.

    Attributes:
        outcome: To which messages: "done" or "failed".
        job: The change, and where.
        uids: The messages.
        intent: The command under way, or None.
        copied: What was copied for it, or None.
    """

    outcome: str
    job: Job
    uids: UidSet
    intent: Intent | None = None
    copied: Result | None = None

    @property
    def name(self) -> str:
        """Tells it apart from the others of a mailbox."""
        job = self.job
        return " ".join((self.outcome, str(job.uidvalidity), job.kind, job.target, *job.flags))

    def value(self) -> JSON:
        """To whom it is owed; null where to nobody. Small: it is kept with every group of outcomes."""
        if not self.uids:
            return None
        return cast("JSON", {"outcome": self.outcome, "job": self.job.line(), "owed": self.uids.text()})

    def command(self) -> JSON:
        """What is known of the command under way; null where there is none."""
        if self.intent is None:
            return None
        value = {"intent": self.intent.line()}
        if self.copied is not None:
            value["copied"] = self.copied.line("copied")
        return cast("JSON", value)

    @classmethod
    def read(cls, value: JSON, commands: Mapping[str, JSON]) -> Owed:
        """From what was kept; raises ValueError, TypeError, KeyError where it is something else."""
        match value:
            case {"outcome": "done" | "failed" as outcome, "job": dict(job), "owed": str(uids)}:
                owed = cls(outcome, Job.read(job), UidSet.parse(uids))
            case _:
                raise ValueError("what is owed to messages is not whole")
        match commands.get(owed.name):
            case None:
                return owed
            case {"intent": dict(intent), **rest}:
                copied = rest.get("copied")
                read = Intent.read(intent)
                if owed.job.target and not read.marks:
                    raise ValueError("what is known of a command is not whole")
                return replace(
                    owed,
                    intent=read,
                    copied=Result.read(copied, "copied") if isinstance(copied, dict) else None,
                )
            case _:
                raise ValueError("what is known of a command is not whole")

    def renumbered(self, before: int, uidvalidity: int, now: Mapping[int, int]) -> Iterator[Owed]:
        """The same in a new numbering, and apart from it what is owed to messages that were not found again.

        Args:
            before: The UIDVALIDITY under which `now` knows messages.
            uidvalidity: That of now.
            now: The UIDs of now, by those of before.
        """
        if self.job.uidvalidity != before:
            yield self.lost(self.uids)
            return
        numbers = {uid: now[uid] for uid in self.uids if uid in now}
        intent, copied = self.intent, self.copied
        if intent is not None:
            if self.job.target:
                gone = [uid for uid in intent.uids if uid not in now]
                numbers |= {uid: MAX_UID - place for place, uid in enumerate(reversed(gone))}
            intent = _intent_under(intent, numbers)
        if self.uids != (missed := self.uids - UidSet.from_numbers(numbers)):
            yield Owed(
                self.outcome,
                replace(self.job, uidvalidity=uidvalidity),
                _under(self.uids, numbers),
                intent,
                _result_under(copied, numbers) if copied is not None and intent is not None else None,
            )
        if missed:
            yield self.lost(missed)

    def lost(self, uids: UidSet) -> Owed:
        """What is owed to some messages, which nobody can find any more."""
        return Owed(self.outcome, replace(self.job, uidvalidity=LOST), uids)


def read_owed(values: Mapping[str, JSON]) -> list[Owed]:
    """What a checkpoint keeps; raises CheckpointCorrupt where that is something else."""
    owed, commands = values.get(OWED) or [], values.get(COMMANDS) or {}
    try:
        if not isinstance(owed, list) or not isinstance(commands, dict):
            raise TypeError("a list or an object is missing")
        return [Owed.read(value, commands) for value in owed]
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointCorrupt(f"what it owes to messages cannot be read: {error}") from error


def kept(owed: Iterable[Owed]) -> dict[str, JSON]:
    """The values under which a checkpoint keeps it."""
    owed = list(owed)
    commands: dict[str, JSON] = {each.name: command for each in owed if (command := each.command()) is not None}
    return {OWED: kept_owed(owed), COMMANDS: commands or None}


def kept_owed(owed: Iterable[Owed]) -> JSON:
    """The first of these values: to whom it is owed."""
    return [value for each in owed if (value := each.value()) is not None] or None


def _under(uids: UidSet, numbers: Mapping[int, int]) -> UidSet:
    return UidSet.from_numbers(numbers[uid] for uid in uids if uid in numbers)


def _intent_under(intent: Intent, numbers: Mapping[int, int]) -> Intent | None:
    """An intent, of the messages that have a number; None where there are none."""
    places = sorted((numbers[uid], place) for place, uid in enumerate(intent.uids) if uid in numbers)
    if not places:
        return None
    return replace(
        intent,
        uids=UidSet.from_numbers(number for number, _ in places),
        marks=tuple(intent.marks[place] for _, place in places) if intent.marks else (),
        before=tuple((flags, some) for flags, uids in intent.before if (some := _under(uids, numbers))),
    )


def _result_under(result: Result, numbers: Mapping[int, int]) -> Result:
    return replace(
        result,
        done=_under(result.done, numbers),
        pairs=as_pairs(sorted((numbers[here], there) for here, there in each_pair(result.pairs) if here in numbers)),
        vanished=_under(result.vanished, numbers),
        marked=_under(result.marked, numbers),
        contested=_under(result.contested, numbers),
    )
