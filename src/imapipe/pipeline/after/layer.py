"""Changes that follow the messages of one run: owed with their outcome, made in groups beside the run.

Invariants:

- A message is owed its change in the same write in which a Checkpoint keeps its outcome; nothing is sent for it before
  that is durable. So a crash between handler and change ends in the change: the next run makes it first.
- One command at a time is under way, and at most one of each change is in doubt; what came of it is found out before
  the next one.
- When more than `MOST_OWED` messages wait for their changes, no further batch is asked for.
- A change that failed is not tried again in this run; after `MOST_FRUITLESS` groups in a row without any success the
  run is given up: nothing is handled whose change cannot be made.
- `stop` lets changes end for `DRAIN_SECONDS`. What is not made then is kept, where there is a Checkpoint.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

from imapipe.errors import ImapipeError
from imapipe.journal.entry import NO_UIDS
from imapipe.journal.owed import COMMANDS, OWED, kept, kept_owed, read_owed
from imapipe.middleware.base import Call, KeepsValues, Layer, Run
from imapipe.models.batch import Batch, BatchResult, Failure
from imapipe.models.event import Attempt, Event, Reconnect, Wait
from imapipe.models.json_value import JSON
from imapipe.models.report import ChangeTally
from imapipe.pipeline.after.duty import LEAVES, Duty
from imapipe.pipeline.after.payment import Place, Settling
from imapipe.pipeline.dispatch import FATAL
from imapipe.pipeline.follow.followed import PASSING
from imapipe.pipeline.operation.message_change import MessageChange
from imapipe.wire.response.note import Note, add_counts
from imapipe.wire.uid_set import UidSet

GROUP_MESSAGES = 1_000
GROUP_SECONDS = 1.0
MOST_OWED = 5_000
MOST_FRUITLESS = 3
DRAIN_SECONDS = 10.0


class AfterLayer(Layer):
    """The changes of one run.

    Args:
        run: The run.
        place: Where they are made.
        keeper: What keeps what is owed; without it that lives as long as the run.
    """

    def __init__(self, run: Run, place: Place, keeper: KeepsValues | None) -> None:
        self._run = run
        self._place = place
        self._keeper = keeper
        self._duties: list[Duty] = []
        self._today: dict[str, Duty] = {}
        self._notes: dict[Note, int] = {}
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._less = asyncio.Event()
        self._is_last = False
        self._fruitless = 0
        self._unsubscribe: Callable[[], None] = _nothing

    @property
    def changes(self) -> ChangeTally:
        """What became of the changes so far."""
        failures: dict[int, Failure] = {}
        for duty in self._duties:
            failures |= duty.failures
        return ChangeTally(
            due=sum(duty.due for duty in self._duties),
            changed=sum(duty.changed for duty in self._duties),
            vanished=sum(duty.vanished for duty in self._duties),
            failed=sum(len(duty.failed) for duty in self._duties),
            failures=failures,
            notes=self._notes,
        )

    async def begin(self, changes: Mapping[str, MessageChange]) -> None:
        """Refuse what cannot be done, make what earlier runs left owed, and listen.

        Args:
            changes: By outcome ("done", "failed").

        Raises:
            CheckpointError: What is owed cannot be read or kept.
            ImapipeError: As `Place.check` does, and what ends a run.
        """
        for outcome, change in changes.items():
            self._today[outcome] = Duty(outcome, await self._place.check(change), self)
        self._take_up()
        for duty in self._duties:
            await self._begin_with(duty)
        if self._keeper is not None:
            self._keeper.accompany(OWED, self._came)
        else:
            self._unsubscribe = self._run.ledger.subscribe(GROUP_MESSAGES, self._heard)
        self._task = asyncio.create_task(self._work(), name=f"imapipe changes after {self._run.mailbox}")

    async def __call__(self, batch: Batch, call_next: Call) -> BatchResult:
        """Let a batch through when not too many messages wait for their changes."""
        while self._waiting >= MOST_OWED and not self._is_over:
            self._less.clear()
            self._wake.set()
            await self._less.wait()
        if self._is_over:
            return BatchResult(batch, missing=batch.uids)
        return await call_next(batch)

    async def finish(self) -> None:
        """Make all changes that are owed. Raises what ended them."""
        self._run.ledger.flush()
        self._is_last = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait([self._task])
            self._task.result()

    async def stop(self) -> None:
        """Make what is owed, as far as the time goes; a cancellation meanwhile ends that at once."""
        self._unsubscribe()
        self._is_last = True
        self._wake.set()
        if self._task is None:
            return
        cancellation: asyncio.CancelledError | None = None
        left_seconds: float | None = DRAIN_SECONDS
        while not self._task.done():
            try:
                await asyncio.wait([self._task], timeout=left_seconds)
            except asyncio.CancelledError as cancelled:
                cancellation = cancelled
            if not self._task.done():
                self._task.cancel()
                left_seconds = None
        if cancellation is not None:
            raise cancellation

    # -- what is owed ----------------------------------------------------------------------------------

    def keep(self) -> None:
        """See `Keeper`."""
        if self._keeper is not None:
            self._keeper.put_values(kept(duty.kept for duty in self._duties))

    async def keep_durably(self) -> None:
        """See `Keeper`."""
        self.keep()
        if self._keeper is not None:
            await self._keeper.make_durable()

    @property
    def _waiting(self) -> int:
        return sum(len(duty.open) for duty in self._duties)

    @property
    def _is_over(self) -> bool:
        return self._fruitless >= MOST_FRUITLESS or (self._task is not None and self._task.done())

    def _value(self) -> JSON:
        return kept_owed(duty.kept for duty in self._duties)

    def _take_up(self) -> None:
        """What earlier runs left owed, and what this one will; the old comes first."""
        keeper = self._keeper
        values = {name: keeper.value(name) for name in (OWED, COMMANDS)} if keeper is not None else {}
        standing = [Duty.of(owed, self._run.mailbox, self) for owed in read_owed(values)]
        for duty in standing:
            today = self._today.get(duty.outcome)
            if duty.job.uidvalidity != self._run.uidvalidity:
                why = Failure(0, "renumbered", "the server renumbered the mailbox, and the message was not found again")
                duty.fail(duty.owed, {}, why)
            elif today is not None and today.job == duty.job:
                self._today[duty.outcome] = duty
        self._duties = [*standing, *(duty for duty in self._today.values() if duty not in standing)]

    async def _begin_with(self, duty: Duty) -> None:
        """Make a change that is owed since an earlier run."""
        before = duty.owed
        await self._pay_all(duty)
        if duty.job.uidvalidity != self._run.uidvalidity:
            # Nobody can make it any more; this run tells it.
            duty.owed = NO_UIDS
            duty.journal.story.pending = duty.journal.story.copied = None
            self.keep()
        elif duty.outcome == "failed" and duty.job.kind in LEAVES and before != duty.owed:
            reason = "changed-now"
            await self._run.refuse(
                before - duty.owed, reason, "it failed in an earlier run, whose change of it was made now"
            )

    def _came(self, done: UidSet, failed: Mapping[int, Failure], vanished: UidSet) -> JSON:
        """Messages came to an outcome. Called in the middle of the work on messages: quick, and raises nothing."""
        for duty in self._duties:
            if duty.outcome == "failed" and duty.owed:
                duty.forgive(done)
        if (today := self._today.get("done")) is not None:
            today.owe(done)
        if failed and (today := self._today.get("failed")) is not None:
            # What failed for no reason of its own is no failure of the message: it is tried again.
            today.owe(UidSet.from_numbers(uid for uid, failure in failed.items() if failure.reason not in PASSING))
        if self._waiting >= GROUP_MESSAGES:
            self._wake.set()
        return self._value()

    def _heard(self, done: UidSet, failed: Mapping[int, Failure], vanished: UidSet) -> None:
        self._came(done, failed, vanished)

    # -- making changes --------------------------------------------------------------------------------

    async def _work(self) -> None:
        """Make what is owed, in groups, until there is nothing more to come."""
        try:
            while True:
                is_last = self._is_last
                if not is_last:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(GROUP_SECONDS):
                            await self._wake.wait()
                    self._wake.clear()
                    self._run.ledger.flush()
                for duty in self._duties:
                    await self._pay_all(duty)
                if is_last:
                    return
        except Exception as error:
            self._run.fail(error)
            raise
        finally:
            self._less.set()

    async def _pay_all(self, duty: Duty) -> None:
        while (uids := duty.open) and self._fruitless < MOST_FRUITLESS:
            settled = duty.settled
            await self._pay(duty, uids[:GROUP_MESSAGES])
            self._less.set()
            if duty.settled > settled:
                self._fruitless = 0
                continue
            self._fruitless += 1
            if self._fruitless >= MOST_FRUITLESS:
                why = next(iter(duty.failures.values()), Failure(0, "failed"))
                self._run.give_up(f"the changes that follow messages cannot be made: {why.reason} {why.detail}".strip())

    async def _pay(self, duty: Duty, uids: UidSet) -> None:
        run = self._place.pay(duty, uids)
        why: ImapipeError | None = None
        stop_listening = run.events.subscribe(self._tell)
        try:
            await run.drive(Settling(run, duty))
        except ImapipeError as error:
            if isinstance(error, FATAL):
                raise
            why = error
        finally:
            stop_listening()
            run.ledger.flush()
            duty.settle(run.ledger.done, run.ledger.vanished)
            add_counts(self._notes, run.notes)
        if uids & duty.owed:
            reason = Failure(0, type(why).__name__, str(why)) if why is not None else Failure(0, "failed")
            duty.fail(uids, run.ledger.failures, reason)
        self.keep()

    def _tell(self, event: Event) -> None:
        """What the report counts; what the pool tells comes to the run by itself."""
        if isinstance(event, Attempt | Wait | Reconnect):
            self._run.events.emit(event)


def _nothing() -> None:
    return
