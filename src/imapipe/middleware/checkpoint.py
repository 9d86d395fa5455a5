"""Checkpoint: a run that goes on where the last one stopped, however that ended.

What becomes of messages arrives from the ledger in groups. Each group is appended to the store at once, in the
callback, which costs microseconds; so a killed process repeats at most the messages in hand and one group. Every
`save_every_seconds` a task lets a thread make it durable.

Invariants:

- A UID is recorded as done after its handler returned, never before.
- The state is immutable and changes hands only in the event loop. The thread gets a snapshot, numbered in the loop;
  the store drops a snapshot that comes too late.
- A full save costs as much as the state is large, so full saves take at most a twentieth of one processor; in
  between, the thread syncs the journal, which costs as much as what is new.
- `stop` works without an `await` until everything is saved and the lock is released, so a cancellation cannot
  come between.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, Literal

from imapipe.errors import CheckpointError, CheckpointMismatch, UidValidityChanged
from imapipe.middleware.account_notes import AccountNotes
from imapipe.middleware.base import Call, Middleware, Run
from imapipe.models.batch import Batch, BatchResult, Failure
from imapipe.runtime.ticker import Ticker
from imapipe.store.base import CheckpointStore
from imapipe.store.checkpoint_state import CheckpointChange, CheckpointState
from imapipe.store.json_store import JsonCheckpointStore
from imapipe.wire.uid_set import UidSet

_SAVING_SHARE: Final = 1 / 20


class Checkpoint(Middleware):
    """Keeps what was done, and takes it out of the plan of the next run.

    Args:
        store: Where it is kept; a path is short for `JsonCheckpointStore(path)`.
        name: A name for the job. With it the checkpoint is the same whatever is searched and fetched.
        save_every_seconds: How old what is not yet durable may get.
        save_every_messages: How many messages a killed process may have to repeat, beside those in hand.
        retry_failed: Try messages again that failed in an earlier run. Otherwise they fail again, untried.
        on_uidvalidity: What to do where UIDVALIDITY changed: `"raise"`, or `"restart"` from nothing.
        on_mismatch: What to do where the checkpoint belongs to another search or fetch: `"raise"`, or `"accept"`
            what it has as done.
        when_complete: What to do with it when everything is done: `"keep"` or `"delete"`.
    """

    not_inside = ("Retry", "ByteBudget")

    def __init__(
        self,
        store: CheckpointStore | str | os.PathLike[str],
        *,
        name: str = "",
        save_every_seconds: float = 0.5,
        save_every_messages: int = 500,
        retry_failed: bool = True,
        on_uidvalidity: Literal["raise", "restart"] = "raise",
        on_mismatch: Literal["raise", "accept"] = "raise",
        when_complete: Literal["keep", "delete"] = "keep",
    ) -> None:
        if save_every_seconds <= 0:
            raise ValueError("save_every_seconds must be above 0")
        if save_every_messages < 1:
            raise ValueError("save_every_messages must be at least 1")
        _check_word("on_uidvalidity", on_uidvalidity, ("raise", "restart"))
        _check_word("on_mismatch", on_mismatch, ("raise", "accept"))
        _check_word("when_complete", when_complete, ("keep", "delete"))
        self.store: CheckpointStore = JsonCheckpointStore(store) if isinstance(store, str | os.PathLike) else store
        self.name = name
        self._save_every_seconds = save_every_seconds
        self._save_every_messages = save_every_messages
        self._retry_failed = retry_failed
        self._restart = on_uidvalidity == "restart"
        self._accept = on_mismatch == "accept"
        self._delete = when_complete == "delete"
        self._state: CheckpointState | None = None
        self._life: _Life | None = None

    @property
    def state(self) -> CheckpointState | None:
        """What is known now, or was at the end of the last run; None before the first."""
        return self._life.snapshot() if self._life is not None else self._state

    @property
    def done_all_runs(self) -> int | None:
        """Messages done over all runs, or None before the first."""
        if self._life is not None:
            return self._life.done_all_runs
        return self._state.counters.done if self._state is not None else None

    def peek(self, account: str, mailbox: str) -> CheckpointState | None:
        """Read what is kept for a mailbox, outside of a run; see `CheckpointStore.peek`."""
        return self.store.peek(account, mailbox)

    async def notes(self) -> AccountNotes:
        """What is kept for the account, for layers inside of this one; good from their `start` to their `stop`.

        Raises:
            CheckpointError: It cannot be read or written.
        """
        if self._life is None:
            raise CheckpointError("this Checkpoint was not started")
        return await self._life.open_notes()

    async def start(self, run: Run) -> None:
        """Lock and read the checkpoint, and take what is done out of the plan.

        Raises:
            CheckpointError: It cannot be read or written; see the classes below it.
            CheckpointMismatch: It belongs to another job.
            UidValidityChanged: Its UIDs mean other messages now.
        """
        if self._life is not None:
            raise CheckpointError("this Checkpoint serves another run; make one for each")
        # One thread: saves and syncs never overtake each other.
        saver = ThreadPoolExecutor(1, thread_name_prefix="imapipe-checkpoint")
        opened: list[CheckpointStore] = []

        def read() -> CheckpointState | None:
            self.store.open()
            opened.append(self.store)
            return self.store.load(run.account, run.mailbox)

        try:
            # In the thread: a checkpoint of millions of UIDs takes a while to read and to write.
            loaded = await asyncio.get_running_loop().run_in_executor(saver, read)
            life = _Life(run, self.store, saver, self._begin(run, loaded), self._save_every_seconds)
            await life.save_in_thread()
        except BaseException:
            # Waits for the thread, which a cancellation does not stop: it may be about to take the lock.
            saver.shutdown(wait=True)
            for store in opened:
                store.close()
            raise
        run.plan.skip(life.state.done)
        if not self._retry_failed:
            life.refuse_failed()
        life.begin(self._save_every_messages)
        self._life = life

    async def __call__(self, batch: Batch, call_next: Call) -> BatchResult:
        """Let a batch through, without messages that are not to be tried again.

        Raises:
            CheckpointError: What was done could not be saved, so no more is to be done.
        """
        life = self._life
        if life is None:
            raise CheckpointError("this Checkpoint was not started")
        if life.error is not None:
            raise life.error
        refused = life.refuse(batch.uids)
        if not refused:
            return await call_next(batch)
        rest = batch.uids - UidSet.from_numbers(refused)
        result = await call_next(batch.narrow(rest)) if rest else BatchResult(batch)
        return replace(result, batch=batch, failed={**result.failed, **refused})

    async def stop(self) -> None:
        """Save, release the lock, end the task. All but the last happens without waiting.

        Raises:
            CheckpointError: What was done could not be saved; what was saved before is there still.
        """
        life, self._life = self._life, None
        if life is None:
            return
        try:
            life.end(delete_complete=self._delete)
        finally:
            self._state = life.state
            self.store.close()
            await life.ticker.stop()

    def _begin(self, run: Run, loaded: CheckpointState | None) -> CheckpointState:
        """The state with which this run begins."""
        fresh = CheckpointState(
            account=run.account,
            mailbox=run.mailbox,
            uidvalidity=run.uidvalidity,
            fingerprint=run.fingerprint,
            name=self.name,
        )
        if loaded is None:
            return fresh
        if loaded.uidvalidity != run.uidvalidity:
            if not self._restart:
                raise UidValidityChanged(run.mailbox, expected=loaded.uidvalidity, found=run.uidvalidity)
            return replace(fresh, extra=loaded.extra)
        same_name = loaded.name == self.name
        same_job = same_name and (bool(self.name) or loaded.fingerprint == run.fingerprint)
        if not same_job and not self._accept:
            reason = "it belongs to another search or fetch" if same_name else "it belongs to a job of another name"
            raise CheckpointMismatch(
                f'{reason}; use another file, name="…", or on_mismatch="accept"',
                path=str(getattr(self.store, "path", "")),
            )
        return replace(loaded, fingerprint=run.fingerprint, name=self.name)


class _Life:
    """What a Checkpoint holds during one run."""

    def __init__(
        self, run: Run, store: CheckpointStore, saver: ThreadPoolExecutor, begun: CheckpointState, every: float
    ) -> None:
        self._run = run
        self._store = store
        self._saver = saver
        self._sequence = begun.sequence
        self._began = asyncio.get_running_loop().time()
        self._elapsed_before = begun.counters.elapsed_seconds
        self._bytes = run.bytes_received
        self._changes: list[CheckpointChange] = []
        self._unsubscribe: Callable[[], None] = _nothing
        self._saved_at = 0.0
        self._save_costs = 0.0
        self._loop = asyncio.get_running_loop()
        self.state = replace(begun, counters=replace(begun.counters, runs=begun.counters.runs + 1))
        self.done_all_runs = begun.counters.done
        self.error: CheckpointError | None = None
        self.ticker = Ticker(self._tick, every, name="imapipe checkpoint")
        self._refused: dict[str, UidSet] = {}
        self._notes: AccountNotes | None = None

    async def open_notes(self) -> AccountNotes:
        """What is kept for the account."""
        if self._notes is None:
            notes = AccountNotes(self._store, self._run.account)
            await self._loop.run_in_executor(self._saver, notes.open)
            self._notes = notes
        return self._notes

    def begin(self, every_messages: int) -> None:
        """Listen to the ledger, and save from time to time."""
        self._unsubscribe = self._run.ledger.subscribe(every_messages, self._settled)
        self.ticker.start()

    def refuse_failed(self) -> None:
        """Try nothing again that failed in an earlier run."""
        planned = self._run.plan.planned
        kept = {reason: uids & planned for reason, uids in self.state.failed.items()}
        self._refused = {reason: uids for reason, uids in kept.items() if uids}

    def refuse(self, uids: UidSet) -> dict[int, Failure]:
        """The failures of messages that failed in an earlier run and are not to be tried again."""
        return {
            uid: Failure(uid, reason, "failed in an earlier run and was not tried again")
            for reason, refused in self._refused.items()
            for uid in refused & uids
        }

    def snapshot(self) -> CheckpointState:
        """All that is known now, with a number of its own."""
        return self._folded(self.state, tuple(self._changes), *self._stamp())

    def save(self) -> None:
        """Save in full, here and now."""
        state = self.snapshot()
        self._store.save(state)
        self._saved(state)

    async def save_in_thread(self) -> None:
        """Save in full without holding up the loop."""
        state, changes, stamp = self.state, tuple(self._changes), self._stamp()
        notes = self._notes.snapshot() if self._notes is not None else None

        def save() -> tuple[CheckpointState, float]:
            began = time.thread_time()
            whole = self._folded(state, changes, *stamp)
            self._store.save(whole)
            if notes is not None:
                self._store.save(notes)
            return whole, time.thread_time() - began

        # Cancelled here, the thread saves all the same; `end` waits for it and saves something newer.
        whole, self._save_costs = await self._loop.run_in_executor(self._saver, save)
        self._saved(whole)

    def end(self, *, delete_complete: bool) -> None:
        """Save for the last time, without waiting for anything but the disk."""
        self.ticker.cancel()
        self._run.ledger.flush()
        self._unsubscribe()
        # A save under way in the thread comes to its end; the task that waits for it is cancelled.
        self._saver.shutdown(wait=True, cancel_futures=True)
        if delete_complete and self._is_complete():
            self.state = self.snapshot()
            self._store.delete(self.state.account, self.state.mailbox)
        else:
            self.save()
        if self._notes is not None:
            self._notes.save(self._notes.snapshot())

    def _is_complete(self) -> bool:
        if self._run.unaccounted:
            return False
        ledger = self._run.ledger
        # A message that failed is in none of the three.
        good = ledger.done_count + ledger.skipped_count + ledger.vanished_count
        return good >= len(self._run.plan.planned)

    def _settled(self, done: UidSet, failed: Mapping[int, Failure], vanished: UidSet) -> None:
        """The ledger has news. Called in the middle of the work on messages: quick, and raises nothing."""
        by_reason: dict[str, list[int]] = {}
        for uid, failure in failed.items():
            if not any(uid in uids for uids in self._refused.values()):
                by_reason.setdefault(failure.reason, []).append(uid)
        received, self._bytes = self._run.bytes_received - self._bytes, self._run.bytes_received
        self._sequence += 1
        change = CheckpointChange(
            series=self.state.series,
            sequence=self._sequence,
            done=done,
            failed={reason: UidSet.from_numbers(uids) for reason, uids in by_reason.items()},
            vanished=vanished,
            bytes_received=max(0, received),
        )
        self.done_all_runs += len(done)
        self._changes.append(change)
        try:
            self._store.append(change)
        except CheckpointError as error:
            self.error = error

    async def _tick(self) -> None:
        """Make durable what is new, in the thread."""
        self._run.ledger.flush()
        if not self._changes and self.error is None:
            return
        try:
            if self.error is not None or self._may_save_in_full():
                await self.save_in_thread()
            else:
                await self._loop.run_in_executor(self._saver, self._store.sync)
        except CheckpointError as error:
            self.error = error

    def _may_save_in_full(self) -> bool:
        return self._loop.time() - self._saved_at >= self._save_costs / _SAVING_SHARE

    def _saved(self, state: CheckpointState) -> None:
        self.state = state
        self._changes = [change for change in self._changes if change.sequence > state.sequence]
        self._saved_at = self._loop.time()
        self.error = None

    def _stamp(self) -> tuple[int, float]:
        """The number and the age of a snapshot; taken in the loop, like the numbers of changes."""
        self._sequence += 1
        return self._sequence, self._elapsed_before + self._loop.time() - self._began

    @staticmethod
    def _folded(
        state: CheckpointState, changes: tuple[CheckpointChange, ...], sequence: int, elapsed_seconds: float
    ) -> CheckpointState:
        folded = state.apply(changes)
        return replace(
            folded,
            sequence=sequence,
            counters=replace(folded.counters, elapsed_seconds=elapsed_seconds),
            saved_at=datetime.now(UTC),
        )


def _nothing() -> None:
    return


def _check_word(name: str, word: str, words: tuple[str, ...]) -> None:
    if word not in words:
        raise ValueError(f"{name} is one of {', '.join(map(repr, words))}, not {word!r}")
