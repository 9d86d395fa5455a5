"""The two faces of following: something to await, and something to iterate over.

Invariants:

- Both are used once. Whichever way they end, every run under way has ended as a run that is cancelled does: its
  checkpoint is saved, its connections are given back.
- In an iteration a message is done when the next one is asked for; the one in hand at the end is not.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self

from imapipe.errors import PoolClosed
from imapipe.models.argument import check_number
from imapipe.models.message import Message
from imapipe.net.pool.pool import ConnectionPool
from imapipe.pipeline.delivery.consumption import Consumption
from imapipe.pipeline.delivery.stream import Runs
from imapipe.pipeline.follow.follower import Follower, Territory
from imapipe.pipeline.follow.report import FollowedReport, FollowHealth, FollowReport, MailboxHealth
from imapipe.pipeline.follow.watch import Watch, Way
from imapipe.providers import provider_of_account
from imapipe.runtime.histogram import Histogram

DEFAULT_POLL_SECONDS: Final = 60.0
_CALM_POLLS: Final = 5
# So many messages wait for whoever iterates.
_AHEAD: Final = 4


@dataclass(frozen=True, slots=True)
class FollowOptions:
    """How to follow.

    Attributes:
        poll_seconds: How often to ask for the counts of mailboxes of which the server does not tell by itself; five
            times as long where it does for all.
        idle_seconds: When IDLE is ended and begun anew; None follows the provider.
        way: The best way to use.
    """

    poll_seconds: float = DEFAULT_POLL_SECONDS
    idle_seconds: float | None = None
    way: Way = "notify"

    def check(self) -> None:
        """Raises TypeError, ValueError."""
        check_number("poll_seconds", self.poll_seconds)
        if self.idle_seconds is not None:
            check_number("idle_seconds", self.idle_seconds)
        if self.poll_seconds <= 0 or (self.idle_seconds is not None and self.idle_seconds <= 0):
            raise ValueError("poll_seconds and idle_seconds must be above 0")
        if self.way not in ("notify", "idle", "poll"):
            raise ValueError(f'way is "notify", "idle" or "poll", not {self.way!r}')


class _Following:
    """What both faces share."""

    def __init__(
        self, territory: Territory, pool: ConnectionPool, account: str, consumption: Consumption, options: FollowOptions
    ) -> None:
        self._territory = territory
        self._pool = pool
        self._account = account
        self._consumption = consumption
        self._options = options
        self._watch = Watch(options.way, options.idle_seconds or provider_of_account(account).idle_seconds)
        self._follower: Follower | None = None
        self._inner: asyncio.Task[None] | None = None
        self._is_stopped = False
        self._started_at = datetime.now(UTC)
        self._began = self._ended = 0.0

    def stop(self) -> None:
        """End it in good order: runs under way are ended as by a cancellation, and the report is given."""
        self._is_stopped = True
        if self._inner is not None and not self._inner.done() and not self._inner.cancelling():
            self._inner.cancel()

    @property
    def health(self) -> FollowHealth:
        """How it stands now."""
        follower = self._follower
        if follower is None:
            return FollowHealth(is_running=False, heard_seconds_ago=None, trouble="", mailboxes={})
        now = asyncio.get_running_loop().time()
        return FollowHealth(
            is_running=self._inner is not None and not self._inner.done(),
            heard_seconds_ago=None if follower.heard_at is None else now - follower.heard_at,
            trouble=follower.trouble,
            mailboxes={
                name: MailboxHealth(
                    way=each.way,
                    heard_seconds_ago=None if each.heard_at is None else now - each.heard_at,
                    lag_seconds=0.0 if each.due_since is None else now - each.due_since,
                    pending=len(each.pending),
                    is_gone=each.is_gone,
                    error="" if each.error is None else str(each.error),
                )
                for name, each in follower.mailboxes.items()
            },
        )

    @property
    def report(self) -> FollowReport:
        """What it did so far, or did; runs that are under way are counted when they end."""
        follower = self._follower
        mailboxes = {} if follower is None else follower.mailboxes
        return FollowReport(
            account=self._account,
            mailboxes={
                name: FollowedReport(
                    planned=each.tally.planned,
                    done=each.tally.done,
                    skipped=each.tally.skipped,
                    vanished=each.tally.vanished,
                    failed=each.tally.failed,
                    pending=len(each.pending),
                    unaccounted=each.tally.unaccounted,
                    changed=each.tally.changed,
                    change_failed=each.tally.change_failed,
                    failures=dict(each.tally.failures),
                    runs=each.tally.runs,
                    bytes_received=each.tally.bytes_received,
                    error="" if each.error is None else str(each.error),
                )
                for name, each in mailboxes.items()
            },
            latency_seconds=(follower.latency if follower is not None else Histogram()).distribution(),
            reconnects=self._watch.reconnects,
            started_at=self._started_at,
            elapsed_seconds=(self._ended or time.monotonic()) - self._began if self._began else 0.0,
        )

    def _begin(self) -> Follower:
        if self._follower is not None:
            raise RuntimeError("this was used already: call follow() again")
        self._started_at, self._began = datetime.now(UTC), time.monotonic()
        poll = self._options.poll_seconds
        self._follower = Follower(
            self._territory,
            self._pool,
            self._account,
            self._consumption,
            poll_seconds=poll,
            calm_poll_seconds=poll * _CALM_POLLS,
        )
        return self._follower


class Follow(_Following):
    """Following with a handler or a sink: `report = await job.follow(handle)`. Made by `Pipeline.follow`.

    It goes on until it is cancelled, until `stop` is called from elsewhere, or until an error comes that no patience
    helps against.
    """

    def __await__(self) -> Generator[None, None, FollowReport]:
        return self._run().__await__()

    async def _run(self) -> FollowReport:
        follower = self._begin()
        self._inner = asyncio.create_task(follower.follow(self._watch), name="imapipe follow")
        try:
            if self._is_stopped:
                self._inner.cancel()
            while not self._inner.done():
                try:
                    await asyncio.wait([self._inner])
                except asyncio.CancelledError:
                    await self._end_inner()
                    raise
            if not self._inner.cancelled():
                self._inner.result()
            elif not self._is_stopped:
                raise asyncio.CancelledError
            return self.report
        finally:
            self._ended = time.monotonic()

    async def _end_inner(self) -> None:
        assert self._inner is not None
        if not self._inner.cancelling():
            self._inner.cancel()
        while not self._inner.done():
            try:
                await asyncio.wait([self._inner])
            except asyncio.CancelledError:
                # Cancelled once more; what is being saved is saved.
                continue
        if not self._inner.cancelled():
            # Seen, so that nobody complains of it; the cancellation is what is raised.
            self._inner.exception()


class _Handoff:
    """Hands messages to whoever iterates, and waits until each is done with."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[Message, asyncio.Future[None]]] = deque()
        self.came = asyncio.Event()

    async def __call__(self, message: Message) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append((message, done))
        self.came.set()
        await done


class FollowStream(_Following):
    """Following as an iteration: `async with job.follow() as messages: async for message in messages: …`.

    Made by `Pipeline.follow`. It ends when `stop` is called, when the block is left, or with an error that no patience
    helps against.
    """

    def __init__(
        self, territory: Territory, pool: ConnectionPool, account: str, runs: Runs, options: FollowOptions
    ) -> None:
        self._handoff = _Handoff()
        consumption = Consumption.checked(self._handoff, concurrency=_AHEAD)
        super().__init__(territory, pool, account, consumption, options)
        self._runs = runs
        self._current: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        follower = self._begin()
        self._inner = self._runs.keep(follower.follow(self._watch), "imapipe follow")
        self._inner.add_done_callback(lambda _: self._handoff.came.set())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._inner is not None
        self.stop()
        await asyncio.wait([self._inner])
        self._ended = time.monotonic()
        if not self._inner.cancelled():
            # Whoever iterates got it, or left before.
            self._inner.exception()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        """The next message; the one before is done. Raises what ends following, and PoolClosed."""
        if self._inner is None:
            raise RuntimeError("iterate in a block: `async with job.follow() as messages`")
        current, self._current = self._current, None
        if current is not None and not current.done():
            current.set_result(None)
        while True:
            self._handoff.came.clear()
            while self._handoff.waiting:
                message, done = self._handoff.waiting.popleft()
                # Its run may have ended meanwhile; the message comes again with the next one.
                if not done.done():
                    self._current = done
                    return message
            if self._inner.done():
                if not self._inner.cancelled():
                    self._inner.result()
                elif not self._is_stopped:
                    raise PoolClosed
                raise StopAsyncIteration
            await self._handoff.came.wait()


def following(
    territory: Territory,
    pool: ConnectionPool,
    account: str,
    runs: Runs,
    consumption: Consumption | None,
    options: FollowOptions,
) -> Follow | FollowStream:
    """The face that goes with a consumer, or with none. Raises TypeError, ValueError."""
    options.check()
    if consumption is None:
        return FollowStream(territory, pool, account, runs, options)
    return Follow(territory, pool, account, consumption, options)
