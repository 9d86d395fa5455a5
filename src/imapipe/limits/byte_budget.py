"""Byte budget: no more than so many bytes within any 24 hours, over restarts.

Providers lock an account that downloads too much in a day (Gmail: above 2,500 MB, for about a day), and do not say when
their day begins. So the 24 hours roll: what was received counts until it is a whole day old, in steps of an hour.

With a layer around it that keeps notes (`Checkpoint` does), what was received is kept there, for the account and not
for a mailbox: it is known again after a restart, for another mailbox of the same checkpoint, and when the checkpoint of
a mailbox was deleted because all was done. Without one it is known to this instance only. Where several processes work
on an account at the same time, a file that all of them name is the place instead (`limits.shared_bytes`).

Invariants:

- A batch is let through when it fits into what is left, by the known sizes of its messages or by what messages were
  worth so far. While nothing is known, one batch goes alone. So the budget is passed by no more than the batches under
  way turn out to be larger than thought.
- A batch larger than the whole budget goes alone, when nothing was received for 24 hours.
- What batches under way are thought to bring is written down before they are sent, so that a killed process has
  counted rather too much. In a shared file, those of other processes count like those of this one.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from imapipe.errors import CheckpointCorrupt
from imapipe.limits.byte_account import ByteAccount
from imapipe.limits.shared_bytes import SharedBytes, SharedCount, SharedPlace
from imapipe.middleware.base import Call, KeepsNotes, Layer, Limit, Notes, Run
from imapipe.models.argument import check_whole
from imapipe.models.batch import Batch, BatchResult
from imapipe.models.event import Wait
from imapipe.runtime.completion import to_the_end

_NOTE: Final = "byte_budget"
# A clock that was set, or a computer that slept, shows after so long at most.
_LONGEST_SLEEP_SECONDS: Final = 60.0
# When the batches of another process are back, nobody says.
_LOOK_EVERY_SECONDS: Final = 0.05


class ByteBudget(Limit):
    """Lets no more than so many bytes of messages through within any 24 hours.

    What counts is the bytes of FETCH responses, after decompression; searches and sizes are not worth counting.

    Args:
        bytes_per_day: The budget of an account. Leave some of what the provider allows to other programs.
        on_exhausted: "wait" until enough of it is free again; "stop" ends the run: what was not tried is `not-tried`
            in its report, and a later run goes on with it.
        shared: A file in which the bytes are counted instead of in a checkpoint: all who name it, other processes too
            and at the same time, have one budget for each account. Made where it is missing; all say the same number.
            `imapipe.cluster.Limits.budget` counts in a database.
        clock: Seconds since 1970.
        sleep: What waits.
    """

    def __init__(
        self,
        bytes_per_day: int,
        *,
        on_exhausted: Literal["wait", "stop"] = "wait",
        shared: str | os.PathLike[str] | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        check_whole("bytes_per_day", bytes_per_day)
        if bytes_per_day < 1:
            raise ValueError("bytes_per_day must be at least 1")
        if on_exhausted not in ("wait", "stop"):
            raise ValueError(f'on_exhausted is "wait" or "stop", not {on_exhausted!r}')
        self._terms = _Terms(bytes_per_day, on_exhausted == "stop", clock, sleep, type(self).__name__)
        self._shared = shared
        self._accounts: dict[str, ByteAccount] = {}
        self._latest = ByteAccount()

    @property
    def bytes_per_day(self) -> int:
        """The budget of an account."""
        return self._terms.bytes_per_day

    @property
    def used_bytes(self) -> int:
        """What was received within the last 24 hours, on the account of the run that began last.

        Of what other processes received, it knows what they had written down when this one looked the last time.
        """
        now = self._terms.clock()
        self._latest.count(now)
        return self._latest.usage.used(now)

    async def start(self, run: Run) -> Layer:
        """Recall what was received on the run's account, whose budget its runs share.

        Raises:
            CheckpointError: The notes cannot be read or written.
        """
        account = self._accounts.get(run.account)
        if account is None:
            account = self._accounts.setdefault(run.account, ByteAccount(self._count_of(run.account)))
        keeper = next((layer for layer in run.layers if isinstance(layer, KeepsNotes)), None)
        notes = await keeper.notes() if keeper is not None and account.shared is None else None
        layer = _ByteBudgetLayer(self._terms, run, account, notes)
        await layer.begin()
        self._latest = account
        return layer

    def _count_of(self, account: str) -> SharedCount | None:
        """Where the bytes of an account are counted for all processes, if anywhere."""
        return SharedBytes(self._shared, account) if self._shared is not None else None


class SharedByteBudget(ByteBudget):
    """A `ByteBudget` that counts in a place that several processes share.

    Args:
        place: The place.
        bytes_per_day: The budget of an account.
        on_exhausted: As that of `ByteBudget`.
        clock: Seconds since 1970, the same for all of them.
    """

    def __init__(
        self,
        place: SharedPlace,
        bytes_per_day: int,
        *,
        on_exhausted: Literal["wait", "stop"] = "wait",
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(bytes_per_day, on_exhausted=on_exhausted, clock=clock)
        self._place = place

    def _count_of(self, account: str) -> SharedCount | None:
        return self._place.of(account)


@dataclass(frozen=True, slots=True)
class _Terms:
    """What the user said, for all runs."""

    bytes_per_day: int
    stops: bool
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    name: str


class _ByteBudgetLayer(Layer):
    """Holds back the batches of one run.

    Attributes:
        reserved: What its batches under way are thought to bring.
    """

    def __init__(self, terms: _Terms, run: Run, account: ByteAccount, notes: Notes | None) -> None:
        self.reserved = 0
        self._terms = terms
        self._run = run
        self._account = account
        self._notes = notes
        self._counted = run.bytes_received

    @property
    def notes_path(self) -> str | None:
        """Where its notes are kept; None where it has none."""
        return None if self._notes is None else self._notes.path

    async def __call__(self, batch: Batch, call_next: Call) -> BatchResult:
        """Let a batch through if it fits; otherwise wait, or give it back untried.

        Raises:
            CheckpointError: What is about to be received could not be written down.
        """
        price = await self._admit(batch)
        if price is None:
            return BatchResult(batch, missing=batch.uids)
        worth, before = self._account.worth, self._run.bytes_received
        try:
            result = await call_next(batch)
            worth.learn(result.bytes_received, len(batch) - len(result.missing))
            return result
        finally:
            if not worth.is_known:
                # It went alone, and was interrupted: nothing but this is known of it.
                worth.learn(self._run.bytes_received - before, len(batch))
            await self._leave(price)

    async def begin(self) -> None:
        """Read what was written down."""
        shared = self._account.shared
        if shared is None:
            self._recall()
        else:
            shared.open()
        self._account.runs.append(self)
        try:
            await self._stand()
        except BaseException:
            self._end()
            raise

    async def stop(self) -> None:
        """Write down what was received."""
        self.count(self._terms.clock())
        try:
            await self._tell()
        finally:
            self._end()
        self._write_down()

    def _end(self) -> None:
        self._account.runs.remove(self)
        if self._account.shared is not None and not self._account.runs:
            self._account.shared.close()

    def _recall(self) -> None:
        if self._notes is None:
            return
        # What another run of this process has written there is known, and its batches are under way still.
        is_ours = any(run.notes_path == self.notes_path for run in self._account.runs)
        note = None if is_ours else self._notes.get(_NOTE)
        if note is not None:
            try:
                self._account.usage.recall(note, self._terms.clock())
            except ValueError as error:
                raise CheckpointCorrupt(f"its byte budget cannot be read: {error}", path=self._notes.path) from error
        # What may have been under way when the last process died is counted from here on, once.
        self._write_down()

    def count(self, now: float) -> None:
        """Count what came since the last time."""
        received = self._run.bytes_received
        self._account.add(now, received - self._counted)
        self._counted = received

    async def _admit(self, batch: Batch) -> int | None:
        """Wait until the batch fits; gives its price, or None when it is not to be sent."""
        terms, account = self._terms, self._account
        told = False
        async with account.queue():
            while True:
                now = terms.clock()
                entered = None
                try:
                    async with account.alone(now):
                        price = account.price(batch)
                        if account.fits(price, now, terms.bytes_per_day):
                            self._enter(price or 0)
                            entered = price or 0
                except BaseException:
                    if entered is not None:
                        # The others were not told, so it does not go.
                        self._forget(entered)
                    raise
                if entered is not None:
                    return entered
                if account.under_way:
                    # What they really bring is known when they are back.
                    await account.landing()
                    continue
                if account.others[0]:
                    await terms.sleep(_LOOK_EVERY_SECONDS)
                    continue
                fits_at = account.fits_at(price or 0, now, terms.bytes_per_day)
                if terms.stops:
                    because = f"the budget of {terms.bytes_per_day:,} bytes in 24 hours is used up"
                    # As this machine counts: the clock of the budget may be that of a database.
                    self._run.give_up(because, retry_at=datetime.now(UTC) + timedelta(seconds=fits_at - now))
                    return None
                seconds = max(1.0, fits_at - now)
                if not told:
                    self._run.events.emit(Wait(terms.name, seconds))
                    told = True
                await terms.sleep(min(seconds, _LONGEST_SLEEP_SECONDS))

    def _enter(self, price: int) -> None:
        """A batch is about to be sent. Raises CheckpointError, and then it is not."""
        self.reserved += price
        try:
            self._write_down()
        except BaseException:
            self.reserved -= price
            raise
        self._account.under_way += 1

    async def _leave(self, price: int) -> None:
        """A batch is back, however that went."""
        self.count(self._terms.clock())
        self._forget(price)
        self._account.landed()
        self._write_down()
        await self._tell()

    def _forget(self, price: int) -> None:
        """A batch is not under way."""
        self.reserved -= price
        self._account.under_way -= 1

    async def _tell(self) -> None:
        """Let other processes know how this one stands, whatever becomes of the run meanwhile."""
        if self._account.shared is not None:
            await to_the_end(self._stand())

    async def _stand(self) -> None:
        async with self._account.alone(self._terms.clock()):
            pass

    def _write_down(self) -> None:
        """Keep what was received, and what may come at once."""
        if self._notes is not None:
            self._notes.put(_NOTE, self._account.usage.to_note(self._account.reserved))
