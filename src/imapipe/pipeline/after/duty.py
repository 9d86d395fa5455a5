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
from typing import Protocol

from imapipe.journal.entry import NO_UIDS, Intent, Job, Result
from imapipe.journal.journal import Journal
from imapipe.journal.owed import Owed
from imapipe.models.batch import Failure
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
    def kept(self) -> Owed:
        """What of it is kept."""
        story = self.journal.story
        return Owed(self.outcome, self.job, self.owed, story.pending, story.copied)

    @classmethod
    def of(cls, owed: Owed, mailbox: str, keeper: Keeper) -> Duty:
        """From what was kept of a mailbox, under the name that it has now."""
        duty = cls(owed.outcome, replace(owed.job, mailbox=mailbox), keeper)
        duty.owe(owed.uids)
        duty.journal.story.pending, duty.journal.story.copied = owed.intent, owed.copied
        return duty

    def _answered(self, result: Result) -> None:
        self.settle(result.done, result.vanished)

    def _settle(self, uids: UidSet) -> None:
        self.owed -= uids
        if settled := self.failed & uids:
            self.failed -= settled
            for uid in settled:
                self.failures.pop(uid, None)
