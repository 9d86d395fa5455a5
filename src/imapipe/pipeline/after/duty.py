"""A change that is owed to messages: to which of them, and what is known of its last command.

Invariants:

- A message is owed a change from the moment of its outcome until the server confirmed the change, a look at the
  mailboxes showed it, or the message is gone.
- What is owed and the intent of the command under way change in one write: at no moment is a message in neither.
- The counts reconcile: `due = changed + vanished + failed + open`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol, cast

from imapipe.journal.entry import NO_UIDS, Intent, Job, Result
from imapipe.journal.journal import Journal
from imapipe.models.batch import Failure
from imapipe.models.json_value import JSON
from imapipe.models.report import MAX_FAILURE_DETAILS
from imapipe.wire.uid_set import UidSet

LEAVES = ("move", "delete")
"""The kinds of changes after which a message is in its mailbox no more."""


class Keeper(Protocol):
    """Where what is owed is kept."""

    def keep(self) -> None:
        """What is owed has changed. Raises CheckpointError."""

    async def keep_durably(self) -> None:
        """The same, and a loss of power does not lose it. Raises CheckpointError."""


class KeptJournal(Journal):
    """The journal of a change of which only what is open is kept, elsewhere; what was is of no use to anybody.

    Args:
        job: What it is of.
        keeper: Where it is kept.
        answer: Called with what came of an intent.
    """

    __slots__ = ("_answer", "_keeper")

    def __init__(self, job: Job, keeper: Keeper, answer: Callable[[Result], None]) -> None:
        super().__init__()
        self.story.job = job
        self._keeper = keeper
        self._answer = answer

    async def intend(self, intent: Intent) -> None:
        """Keep what is about to be sent. Raises CheckpointError: then nothing is to be sent."""
        assert self.story.pending is None
        self.story.pending = intent
        await self._keeper.keep_durably()

    def copied(self, result: Result) -> None:
        """What was copied, and is to be removed here next. Raises CheckpointError."""
        self.story.copied = result
        self._keeper.keep()

    def answered(self, result: Result) -> None:
        """What came of the intent. Raises CheckpointError."""
        self.story.pending = self.story.copied = None
        self._answer(result)
        self._keeper.keep()


class Duty:
    """A change, and the messages that it is owed to.

    Args:
        outcome: To which messages: "done" or "failed".
        job: The change, and where.
        keeper: Where it is kept.

    Attributes:
        outcome: The same.
        job: The same.
        journal: What is known of its last command.
        owed: Messages that have not been changed.
        failed: Those of them for which the change failed in this run.
        failures: Why, of the first 10,000.
        due: How many messages there were in this run.
        changed: How many were changed.
        vanished: How many were gone before.
    """

    __slots__ = ("changed", "due", "failed", "failures", "job", "journal", "outcome", "owed", "vanished")

    def __init__(self, outcome: str, job: Job, keeper: Keeper) -> None:
        self.outcome = outcome
        self.job = job
        self.journal = KeptJournal(job, keeper, self._answered)
        self.owed = NO_UIDS
        self.failed = NO_UIDS
        self.failures: dict[int, Failure] = {}
        self.due = self.changed = self.vanished = 0

    @property
    def open(self) -> UidSet:
        """Messages that are to be changed in this run still."""
        return self.owed - self.failed if self.failed else self.owed

    @property
    def settled(self) -> int:
        """How many messages need no change any more."""
        return self.changed + self.vanished

    def owe(self, uids: UidSet) -> None:
        """Messages came to the outcome."""
        self.due += len(uids - self.owed)
        self.owed |= uids

    def forgive(self, uids: UidSet) -> None:
        """Messages came to another outcome meanwhile; what is under way is brought to its end all the same."""
        pending = self.journal.story.pending
        uids &= self.owed
        uids -= pending.uids if pending is not None else NO_UIDS
        self.due -= len(uids)
        self._settle(uids)

    def settle(self, done: UidSet, vanished: UidSet) -> None:
        """Messages were changed, or are gone."""
        done &= self.owed
        vanished = vanished & self.owed - done
        self.changed += len(done)
        self.vanished += len(vanished)
        self._settle(done | vanished)

    def fail(self, uids: UidSet, why: Mapping[int, Failure], otherwise: Failure) -> None:
        """The change of messages failed; a later run tries it again, where they are kept.

        Args:
            uids: Which messages; those that need no change are left out.
            why: The reasons, as far as they are known.
            otherwise: The reason of the others, under any UID.
        """
        uids &= self.owed
        self.failed |= uids
        for uid in uids:
            if len(self.failures) >= MAX_FAILURE_DETAILS:
                break
            self.failures[uid] = why.get(uid) or Failure(uid, otherwise.reason, otherwise.detail)

    @property
    def name(self) -> str:
        """Tells it apart from the others of a mailbox."""
        job = self.job
        return " ".join((self.outcome, str(job.uidvalidity), job.kind, job.target, *job.flags))

    def value(self) -> JSON:
        """To whom it is owed; null where to nobody. Small: it is kept with every group of outcomes."""
        if not self.owed:
            return None
        value = {"outcome": self.outcome, "job": self.job.line(), "owed": self.owed.text()}
        return cast("JSON", value)

    def command(self) -> JSON:
        """What is known of the command under way; null where there is none."""
        story = self.journal.story
        if story.pending is None:
            return None
        value = {"intent": story.pending.line()}
        if story.copied is not None:
            value["copied"] = story.copied.line("copied")
        return cast("JSON", value)

    @classmethod
    def read(cls, value: JSON, commands: Mapping[str, JSON], mailbox: str, keeper: Keeper) -> Duty:
        """From what was kept of a mailbox, under the name that it has now.

        Args:
            value: To whom it is owed.
            commands: What is known of commands, by the names of duties.
            mailbox: The mailbox.
            keeper: Where it is kept.

        Raises ValueError, TypeError, KeyError where it is something else.
        """
        match value:
            case {"outcome": "done" | "failed" as outcome, "job": dict(job), "owed": str(owed)}:
                duty = cls(outcome, replace(Job.read(job), mailbox=mailbox), keeper)
                duty.owe(UidSet.parse(owed))
                command = commands.get(duty.name)
                if command is not None:
                    duty._take_up(command)
                return duty
            case _:
                raise ValueError("what is owed to messages is not whole")

    def _take_up(self, command: JSON) -> None:
        match command:
            case {"intent": dict(intent), **rest}:
                self.journal.story.pending = Intent.read(intent)
                if isinstance(copied := rest.get("copied"), dict):
                    self.journal.story.copied = Result.read(copied, "copied")
            case _:
                raise ValueError("what is known of a command is not whole")

    def _answered(self, result: Result) -> None:
        self.settle(result.done, result.vanished)

    def _settle(self, uids: UidSet) -> None:
        self.owed -= uids
        if settled := self.failed & uids:
            self.failed -= settled
            for uid in settled:
                self.failures.pop(uid, None)
