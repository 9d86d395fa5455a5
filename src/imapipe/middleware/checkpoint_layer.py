"""What a Checkpoint does during one run: it hears what becomes of messages, and keeps that.

What becomes of messages arrives from the ledger in groups. Each group is appended to the store at once, in the
callback, which costs microseconds; so a killed process repeats at most the messages in hand and one group. Every
`save_every_seconds` a task makes it durable.

A store that writes behind (an async one) has appended nothing yet that would outlive the process. With such a one
groups are half as large, and where more than the other half waits to be written, no further message is handed out
until it is (`arrears`): so the same bound holds, also while its database is away.

Invariants:

- A UID is recorded as done after its handler returned, never before.
- The state is immutable and changes hands only in the event loop. What is saved is numbered in the loop; the store
  drops what comes too late.
- A full save costs as much as the state is large, so full saves take at most a twentieth of one processor, all runs of
  a Checkpoint together; in between the store syncs what was appended, which costs as much as what is new.
- The last save goes on through a cancellation of `stop`, and is waited for, with all that is done until then.
- What cannot be recorded is not handed out: an append that fails ends the run at once. When the key is lost, nothing
  more is written, and the handlers at work are cancelled: another run may have their messages by now.
- Messages that have an outcome which does not outlive this process yet are never more than `save_every_messages`,
  beside those in hand.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

from imapipe.errors import CheckpointError, CheckpointLost
from imapipe.middleware.account_notes import AccountNotes
from imapipe.middleware.arrears import Arrears
from imapipe.middleware.base import Accompany, Call, Layer, Run
from imapipe.middleware.loss import Loss
from imapipe.middleware.renumbering import told
from imapipe.models.batch import Batch, BatchResult, Failure
from imapipe.models.json_value import JSON
from imapipe.runtime.completion import to_the_end
from imapipe.runtime.ticker import Ticker
from imapipe.store.base import CheckpointHolding, SavesLast, WritesBehind
from imapipe.store.checkpoint_state import CheckpointChange, CheckpointState
from imapipe.store.threaded import ThreadedCheckpointHolding
from imapipe.wire.uid_set import UidSet

_SAVING_SHARE: Final = 1 / 20


@dataclass(slots=True)
class Sharing:
    """What the runs of one Checkpoint share.

    Attributes:
        runs: How many there are now.
    """

    runs: int = 0


class CheckpointLayer(Layer):
    """The checkpoint of one run.

    Attributes:
        done_all_runs: Messages done over all runs, as of the last group.
        error: Why the last group could not be kept, or None; it passes when a full save succeeds.
    """

    def __init__(
        self,
        run: Run,
        holding: CheckpointHolding,
        begun: CheckpointState,
        loss: Loss,
        sharing: Sharing,
        *,
        path: str = "",
        delete_complete: bool = False,
    ) -> None:
        self._run = run
        self._holding = holding
        self._loss = loss
        self._sharing = sharing
        self._path = path
        self._delete_complete = delete_complete
        self._loop = asyncio.get_running_loop()
        self._one_at_a_time = asyncio.Lock()
        self._state = replace(begun, counters=replace(begun.counters, runs=begun.counters.runs + 1))
        self._sequence = begun.sequence
        self._changes: list[CheckpointChange] = []
        self._values = dict(begun.extra)
        self._accompanying: dict[str, Accompany] = {}
        self._is_unsynced = False
        # Once: to look at a protocol takes long.
        self._behind = holding if isinstance(holding, WritesBehind) else None
        self._arrears = Arrears(run.hold, self._behind, self._write_behind)
        self._began = self._loop.time()
        self._elapsed_before = begun.counters.elapsed_seconds
        self._bytes = run.bytes_received
        self._saved_at = 0.0
        self._save_seconds = 0.0
        self._unsubscribe: Callable[[], None] = lambda: None
        self._ticker: Ticker | None = None
        self.done_all_runs = begun.counters.done
        self.error: CheckpointError | None = None

    @property
    def state(self) -> CheckpointState:
        """What is known now, or was at the end of the run."""
        return self._folded(self._state, tuple(self._changes), self._stamp()) if self._changes else self._state

    async def notes(self) -> AccountNotes:
        """What is kept for the account, for layers inside of this one; good from their `start` to their `stop`.

        Raises:
            CheckpointError: It cannot be read or written.
        """
        async with self._one_at_a_time:
            values = await to_the_end(self._holding.notes())
        return AccountNotes(values, self._put_note, self._path)

    def value(self, name: str) -> JSON:
        """See `KeepsValues`."""
        return self._values.get(name)

    def put_values(self, values: Mapping[str, JSON]) -> None:
        """See `KeepsValues`."""
        self._check()
        news = self._news(values)
        if not news:
            return
        self._sequence += 1
        self._keep(CheckpointChange(series=self._state.series, sequence=self._sequence, extra=news))
        self._check()

    def accompany(self, name: str, value: Accompany) -> None:
        """See `KeepsValues`."""
        self._accompanying[name] = value

    async def make_durable(self) -> None:
        """See `KeepsValues`."""
        self._check()
        async with self._one_at_a_time:
            try:
                await self._sync()
            except Exception as error:
                self._is_unsynced = True
                raise self._failed(error) from error
        self._check()

    def begin(self, every_seconds: float, every_messages: int) -> None:
        """Listen to the ledger, and save from time to time."""
        self._sharing.runs += 1
        if not isinstance(self._holding, ThreadedCheckpointHolding):
            may_wait = every_messages // 2
            self._arrears.begin(may_wait)
            every_messages -= may_wait
        self._unsubscribe = self._run.ledger.subscribe(every_messages, self._settled)
        self._ticker = Ticker(self._tick, every_seconds, name="imapipe checkpoint")
        self._ticker.start()
        self._loss.tell = partial(self._run.fail, at_once=True)
        if self._loss.error is not None:
            self._loss.tell(self._loss.error)

    async def __call__(self, batch: Batch, call_next: Call) -> BatchResult:
        """Let a batch through.

        Raises:
            CheckpointError: What was done could not be kept, so no more is to be done.
            CheckpointLost: The checkpoint is another's now.
        """
        self._check()
        return await call_next(batch)

    def _check(self) -> None:
        if (error := self._loss.error or self.error) is not None:
            raise error

    async def save(self) -> None:
        """Save in full without holding up the loop.

        Raises:
            CheckpointError: It could not be saved.
        """
        async with self._one_at_a_time:
            state, changes, stamp = self._state, tuple(self._changes), self._stamp()
            given = self._arrears.given
            self._is_unsynced = False

            def fold() -> tuple[CheckpointState, float]:
                began = time.thread_time()
                return self._folded(state, changes, stamp), time.thread_time() - began

            # In a thread: millions of UIDs take a while to add up.
            whole, seconds = await to_the_end(asyncio.to_thread(fold))
            began = self._loop.time()
            await to_the_end(self._holding.save(whole))
            self._arrears.outlives(given)
        if isinstance(self._holding, ThreadedCheckpointHolding):
            seconds += self._holding.save_seconds
        else:
            # What a database does elsewhere is not known; the time it took is the most that it can be.
            seconds += self._loop.time() - began
        self._keep_newer_than(whole)
        self._saved_at, self._save_seconds = self._loop.time(), seconds
        self.error = None

    async def stop(self) -> None:
        """Save and give the key back.

        Raises:
            CheckpointError: What was done could not be saved; what was saved before is there still.
            CheckpointLost: The checkpoint is another's now, and was not written to.
        """
        if self._ticker is not None:
            self._ticker.cancel()
        # Nothing is held any more: what is still to be written is written here.
        self._arrears.end()
        self._sharing.runs -= 1
        await to_the_end(self._end())
        if self._loss.error is not None:
            raise self._loss.error

    async def _end(self) -> None:
        try:
            # A call that is under way comes to its end first.
            if self._ticker is not None:
                await self._ticker.stop()
            await self._arrears.stop()
            self._run.ledger.flush()
            while (last := self._last()) is not None:
                if self._deletes():
                    await self._holding.delete()
                    return
                save = self._holding.save
                if isinstance(self._holding, SavesLast) and self._is_complete():
                    # Every message has its outcome: nothing will come behind this.
                    save = self._holding.save_last
                state = await asyncio.to_thread(last)
                await save(state)
                self._keep_newer_than(state)
                self._run.ledger.flush()
                # Where the run ended with an error, handlers may have come to their end meanwhile.
                if not self._changes:
                    return
        finally:
            self._unsubscribe()
            await to_the_end(self._holding.release())

    def _keep_newer_than(self, state: CheckpointState) -> None:
        """A state was saved."""
        self._state = state
        self._changes = [change for change in self._changes if change.sequence > state.sequence]

    def _last(self) -> Callable[[], CheckpointState] | None:
        """What makes the last state to be saved, in any thread; None where the checkpoint is another's."""
        if self._loss.error is not None:
            return None
        state, changes, stamp = self._state, tuple(self._changes), self._stamp()
        has_begun = self._run.has_begun
        finished = self._run.cursor if self._run.is_whole and self._is_complete() else None

        def make() -> CheckpointState:
            last = self._folded(state, changes, stamp)
            if has_begun:
                last = told(last)
            return last if finished is None else replace(last, finished=finished)

        return make

    def _deletes(self) -> bool:
        return self._delete_complete and self._is_complete()

    def _is_complete(self) -> bool:
        if self._run.unaccounted or self._run.may_be_short or any(value is not None for value in self._values.values()):
            return False
        ledger = self._run.ledger
        # A message that failed is in none of the three.
        good = ledger.done_count + ledger.skipped_count + ledger.vanished_count
        return good >= len(self._run.plan.planned)

    def _settled(self, done: UidSet, failed: Mapping[int, Failure], vanished: UidSet) -> None:
        """The ledger has news. Called in the middle of the work on messages: quick, and raises nothing."""
        by_reason: dict[str, list[int]] = {}
        for uid, failure in failed.items():
            by_reason.setdefault(failure.reason, []).append(uid)
        received, self._bytes = self._run.bytes_received - self._bytes, self._run.bytes_received
        self._sequence += 1
        news = self._news({name: value(done, failed, vanished) for name, value in self._accompanying.items()})
        change = CheckpointChange(
            series=self._state.series,
            sequence=self._sequence,
            done=done,
            failed={reason: UidSet.from_numbers(uids) for reason, uids in by_reason.items()},
            vanished=vanished,
            bytes_received=max(0, received),
            extra=news,
        )
        self.done_all_runs += len(done)
        self._keep(change)
        self._arrears.give(change.count)
        if self._loss.error is None:
            # After an error its last changes may not be the last ones here.
            self._arrears.look(self._changes if self.error is None else None)

    def _news(self, values: Mapping[str, JSON]) -> dict[str, JSON]:
        """Those of some values that are others than before."""
        news = {name: value for name, value in values.items() if value != self._values.get(name)}
        self._values |= news
        return news

    def _keep(self, change: CheckpointChange) -> None:
        self._changes.append(change)
        if self._loss.error is not None:
            return
        self._is_unsynced = True
        try:
            self._holding.append(change)
        except Exception as error:  # noqa: BLE001 - whatever a store of somebody's own raises
            self._run.fail(self._failed(error))

    def _put_note(self, name: str, value: JSON) -> None:
        if self._loss.error is not None:
            raise self._loss.error
        self._is_unsynced = True
        self._holding.put_note(name, value)

    async def _tick(self) -> None:
        """Make durable what is new."""
        self._run.ledger.flush()
        if self._loss.error is not None:
            return
        try:
            if self.error is not None or (self._changes and self._may_save_in_full()):
                await self.save()
            elif self._is_unsynced:
                async with self._one_at_a_time:
                    await self._sync()
        except Exception as error:  # noqa: BLE001 - whatever a store of somebody's own raises
            self._is_unsynced = True
            self._failed(error)

    async def _sync(self) -> None:
        self._is_unsynced = False
        given = self._arrears.given
        await to_the_end(self._holding.sync())
        self._arrears.outlives(given)

    async def _write_behind(self) -> bool:
        """Let what was appended outlive this process; False where that failed: the ticks go on trying."""
        try:
            async with self._one_at_a_time:
                if self._behind is None:
                    await self._sync()
                else:
                    given = self._arrears.given
                    await to_the_end(self._behind.written())
                    self._arrears.outlives(given)
        except Exception as error:  # noqa: BLE001 - whatever a store of somebody's own raises
            self._is_unsynced = True
            self._failed(error)
            return False
        return True

    def _failed(self, error: Exception) -> CheckpointError:
        """The store raised."""
        if isinstance(error, CheckpointLost):
            self._loss(error)
            return error
        if not isinstance(error, CheckpointError):
            unexpected = CheckpointError(f"its store failed with {type(error).__name__}: {error}", path=self._path)
            unexpected.__cause__ = error
            error = unexpected
        self.error = error
        return error

    def _may_save_in_full(self) -> bool:
        pause = self._save_seconds / _SAVING_SHARE * self._sharing.runs
        return self._loop.time() - self._saved_at >= pause

    def _stamp(self) -> tuple[int, float]:
        """The number and the age of a snapshot; taken in the loop, like the numbers of changes."""
        self._sequence += 1
        return self._sequence, self._elapsed_before + self._loop.time() - self._began

    @staticmethod
    def _folded(
        state: CheckpointState, changes: tuple[CheckpointChange, ...], stamp: tuple[int, float]
    ) -> CheckpointState:
        sequence, elapsed_seconds = stamp
        folded = state.apply(changes)
        return replace(
            folded,
            sequence=sequence,
            counters=replace(folded.counters, elapsed_seconds=elapsed_seconds),
            saved_at=datetime.now(UTC),
        )
