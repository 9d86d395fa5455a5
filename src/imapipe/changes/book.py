"""What is remembered of a mailbox between two looks, and how far the changes found by this one were told.

It is the state of a job of its own in a store of checkpoints, by the rules of that (`store.base`).

Invariants:

- The flags that are kept are those that were told and acknowledged. An item counts from the moment `acknowledge`
  returns: with a file a killed process repeats only what was in hand, a loss of power what was not synced.
- While changes are told, they are kept as they were found (`pending`), and each acknowledgement is a number: so many of
  them. Whoever opens the state after a crash adds these to the flags, and looks anew.
- `finished` moves on when all changes of a look were acknowledged, and never before: what was not told is found again.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, Self

from imapipe.changes.news import News
from imapipe.errors import CheckpointCorrupt, CheckpointError, CheckpointLost, CheckpointMismatch
from imapipe.models.cursor import Cursor
from imapipe.models.flag_table import FlagTable
from imapipe.models.json_value import JSON
from imapipe.runtime.completion import to_the_end
from imapipe.store.base import CheckpointHolding, CheckpointStore
from imapipe.store.checkpoint_state import CheckpointChange, CheckpointState, new_series
from imapipe.store.job_key import JobKey

_FINGERPRINT: Final = "changes"
_FLAGS: Final = "flags"
_PENDING: Final = "pending"
_ACKNOWLEDGED: Final = "acknowledged"
# A line of a journal is kept in memory, too.
_MAX_UNSAVED: Final = 10_000


class Book:
    """The state of one job, held. Made by `open`, ended by `close`."""

    __slots__ = (
        "_acknowledged",
        "_begun",
        "_holding",
        "_is_settled",
        "_is_unsynced",
        "_losses",
        "_news",
        "_one_at_a_time",
        "_sequence",
        "_state",
        "_unsaved",
        "known",
    )

    def __init__(
        self, holding: CheckpointHolding, state: CheckpointState, known: FlagTable, losses: list[CheckpointLost]
    ) -> None:
        """See `open`.

        Attributes:
            known: The flags that were told before this look.
        """
        self._holding = holding
        self._state = state
        self._losses = losses
        self._one_at_a_time = asyncio.Lock()
        self._sequence = state.sequence
        self._begun: Cursor | None = None
        self._news = News()
        self._acknowledged = 0
        self._unsaved = 0
        self._is_unsynced = False
        self._is_settled = False
        self.known = known

    @classmethod
    async def open(cls, store: CheckpointStore, key: JobKey, path: str) -> Self:
        """Take a key of a store. Cancelled, it lets a call of the store end and gives back what was taken.

        Args:
            store: The store.
            key: The job.
            path: Where that is, for errors.

        Raises:
            CheckpointError: It cannot be read, or is held by somebody else; see the classes below it.
            CheckpointMismatch: It is the state of a job of another kind.
        """
        losses: list[CheckpointLost] = []
        taken: list[CheckpointHolding] = []

        async def take() -> None:
            taken.append(await store.open(key, losses.append))

        try:
            await to_the_end(take())
            loaded = await to_the_end(taken[0].load())
            # In a thread: what was told of a hundred thousand messages takes a while to read and to add up.
            state, known = await asyncio.to_thread(_read, loaded, key, path)
        except BaseException:
            for holding in taken:
                # What ended the start is told, not this.
                with suppress(CheckpointError):
                    await to_the_end(holding.release())
            raise
        return cls(taken[0], state, known, losses)

    @property
    def uidvalidity(self) -> int:
        """UIDVALIDITY of what is known; 0 where nothing is."""
        return self._state.uidvalidity

    @property
    def cursor(self) -> Cursor:
        """How far the mailbox had come at the last look."""
        return self._state.cursor

    @property
    def since(self) -> int | None:
        """The mod-sequence at which nothing was known but what is known now."""
        return self._state.finished.highestmodseq if self._state.finished is not None else None

    def restart(self) -> None:
        """Forget everything: the UIDs mean other messages now."""
        self._state = replace(
            self._state, series=new_series(), sequence=0, finished=None, cursor=Cursor(), started_at=datetime.now(UTC)
        )
        self._sequence = 0
        self.known = FlagTable()

    async def settle(self, now: FlagTable, uidvalidity: int, cursor: Cursor) -> None:
        """Everything that changed is dealt with; `close` saves that.

        Args:
            now: The flags of all messages.
            uidvalidity: UIDVALIDITY of the mailbox.
            cursor: How far it had come.
        """
        self._is_settled = now is not self.known
        self.known = now
        await self.begin(News(), uidvalidity, cursor)

    async def begin(self, news: News, uidvalidity: int, cursor: Cursor) -> None:
        """Keep what is about to be told.

        Args:
            news: What changed.
            uidvalidity: UIDVALIDITY of the mailbox.
            cursor: How far it has come.

        Raises:
            CheckpointError: It could not be saved.
        """
        self._begun, self._news = cursor, news
        pending: dict[str, JSON] = {}
        if news:
            pending = {_FLAGS: {**self.known.to_json()}, _PENDING: news.to_json()}
        runs = replace(self._state.counters, runs=self._state.counters.runs + 1)
        self._state = replace(
            self._state,
            uidvalidity=uidvalidity,
            cursor=self._state.cursor.advanced(cursor),
            counters=runs,
            extra={**self._state.extra, **pending},
        )
        if news:
            await self.save()

    def acknowledge(self) -> None:
        """One more of the changes was dealt with. Takes microseconds.

        Raises:
            CheckpointError: It could not be kept.
            CheckpointLost: The state is another's now.
        """
        self._refuse_lost()
        count = self._acknowledged + 1
        self._sequence += 1
        change = CheckpointChange(series=self._state.series, sequence=self._sequence, extra={_ACKNOWLEDGED: count})
        self._holding.append(change)
        self._acknowledged = count
        self._unsaved += 1
        self._is_unsynced = True

    @property
    def is_full(self) -> bool:
        """Whether so much was acknowledged since the last save that another one is due."""
        return self._unsaved >= _MAX_UNSAVED

    async def save(self) -> None:
        """Save in full how far it was told.

        Raises:
            CheckpointError: It could not be saved.
        """
        async with self._one_at_a_time:
            await self._put(replace(self._state, extra={**self._state.extra, _ACKNOWLEDGED: self._acknowledged}))

    async def sync(self) -> None:
        """Make what was acknowledged survive a loss of power.

        Raises:
            CheckpointError: It could not be.
            CheckpointLost: The state is another's now.
        """
        self._refuse_lost()
        if self._is_unsynced:
            async with self._one_at_a_time:
                self._is_unsynced = False
                await to_the_end(self._holding.sync())

    async def close(self) -> None:
        """Save what is known now, and give the key back.

        Raises:
            CheckpointError: It could not be saved; what was acknowledged before is there still.
            CheckpointLost: The state is another's now, and was not written to.
        """
        try:
            self._refuse_lost()
            if self._begun is not None and (self._news or self._is_settled or self._state.finished != self._begun):
                async with self._one_at_a_time:
                    await to_the_end(self._put_last(self._begun))
        finally:
            await to_the_end(self._holding.release())

    async def _put_last(self, cursor: Cursor) -> None:
        is_whole = self._acknowledged == len(self._news)
        told = self._news if is_whole else self._news.first(self._acknowledged)
        flags = await asyncio.to_thread(lambda: told.applied_to(self.known).to_json())
        finished = cursor if is_whole else self._state.finished
        await self._put(replace(self._state, finished=finished, extra={_FLAGS: {**flags}}))

    async def _put(self, state: CheckpointState) -> None:
        self._sequence += 1
        self._unsaved = 0
        self._is_unsynced = False
        await to_the_end(self._holding.save(replace(state, sequence=self._sequence, saved_at=datetime.now(UTC))))

    def _refuse_lost(self) -> None:
        if self._losses:
            raise self._losses[0]


def _read(loaded: CheckpointState | None, key: JobKey, path: str) -> tuple[CheckpointState, FlagTable]:
    """The state to begin with, and the flags that were told."""
    if loaded is None:
        fresh = CheckpointState(
            account=key.account,
            mailbox=key.mailbox,
            name=key.name,
            uidvalidity=0,
            fingerprint=_FINGERPRINT,
        )
        return fresh, FlagTable()
    if loaded.fingerprint != _FINGERPRINT:
        raise CheckpointMismatch("it belongs to a job of another kind: give changes() another name=", path=path)
    try:
        known = FlagTable.from_json(loaded.extra.get(_FLAGS, {}))
        told = loaded.extra.get(_ACKNOWLEDGED, 0)
        if not isinstance(told, int):
            raise ValueError("how much was told is no number")
        if _PENDING in loaded.extra:
            known = News.from_json(loaded.extra[_PENDING]).first(told).applied_to(known)
    except ValueError as error:
        raise CheckpointCorrupt(f"what is known of the mailbox cannot be read: {error}", path=path) from error
    return replace(loaded, extra={}), known
