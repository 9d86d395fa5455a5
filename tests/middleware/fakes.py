"""The least that the contract of `middleware.base` asks for, and an event loop whose time is made up."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeVar

import pytest

from imapipe.middleware.base import Layer, Settled
from imapipe.models.batch import NO_UIDS, Batch, BatchInterrupted, BatchResult, Failure
from imapipe.models.cursor import Cursor
from imapipe.models.event import Event
from imapipe.models.identity import Identity, Renumbered
from imapipe.runtime.event_bus import EventBus
from imapipe.runtime.resources import ResourceUsage
from imapipe.wire.uid_set import UidSet

T = TypeVar("T")
L_co = TypeVar("L_co", bound=Layer, covariant=True)


def uids(text: str) -> UidSet:
    return UidSet.parse(text)


@dataclass
class FakePlan:
    planned: UidSet = NO_UIDS
    remaining: UidSet = NO_UIDS
    batch_size: int = 100

    async def left(self) -> UidSet:
        return self.remaining

    async def skip(self, uids: UidSet) -> UidSet:
        skipped = self.remaining & uids
        self.remaining -= skipped
        return skipped


@dataclass
class FakeLedger:
    """Tells its subscriber in groups, as the real one does."""

    done_count: int = 0
    failed_count: int = 0
    refused_count: int = 0
    vanished_count: int = 0
    skipped_count: int = 0
    subscribers: list[tuple[int, Settled]] = field(default_factory=list)
    _done: list[int] = field(default_factory=list)
    _failed: dict[int, Failure] = field(default_factory=dict)
    _vanished: UidSet = NO_UIDS

    def subscribe(self, every: int, settled: Settled) -> Callable[[], None]:
        entry = (every, settled)
        self.subscribers.append(entry)
        return lambda: self.subscribers.remove(entry)

    def settle(self, *uids: int) -> None:
        for uid in uids:
            self.done_count += 1
            self._done.append(uid)
            self._tell_if_due()

    def fail(self, *failures: Failure) -> None:
        for failure in failures:
            self.failed_count += 1
            self._failed[failure.uid] = failure
            self._tell_if_due()

    def vanish(self, uids: UidSet) -> None:
        self.vanished_count += len(uids)
        self._vanished |= uids
        self.flush()

    def _tell_if_due(self) -> None:
        if len(self._done) + len(self._failed) >= min([1 << 30, *(every for every, _ in self.subscribers)]):
            self.flush()

    def flush(self) -> None:
        if not (self._done or self._failed or self._vanished):
            return
        done, failed, vanished = UidSet.from_numbers(self._done), self._failed, self._vanished
        self._done, self._failed, self._vanished = [], {}, NO_UIDS
        for _, settled in tuple(self.subscribers):
            settled(done, failed, vanished)


@dataclass
class FakeResources:
    seen: ResourceUsage = field(default_factory=ResourceUsage)

    def usage(self) -> ResourceUsage:
        return self.seen


class Starts(Protocol[L_co]):
    """A middleware, with the type of its layers."""

    async def start(self, run: FakeRun) -> L_co:
        """Give a layer."""


class FakeRun:
    """A run that is told what happens."""

    def __init__(
        self, planned: str | UidSet = "1:1000", *, uidvalidity: int = 42, fingerprint: str = "ALL full"
    ) -> None:
        self.account = "ann@imap.example.org:993"
        self.mailbox = "INBOX"
        self.uidvalidity = uidvalidity
        self.fingerprint = fingerprint
        self.items = frozenset({"BODY[]"})
        self.is_whole = True
        found = uids(planned) if isinstance(planned, str) else planned
        self.plan = FakePlan(found, found)
        self.ledger = FakeLedger()
        self.events = EventBus()
        self.layers: Sequence[Layer] = ()
        self.resources = FakeResources()
        self.cursor = Cursor()
        self.renumbered: Renumbered | None = None
        self.has_begun = True
        self.unaccounted = 0
        self.may_be_short = False
        self.bytes_received = 0
        self.connections = 4
        self.gave_up_because = ""
        self.is_held = False
        self.retry_at: datetime | None = None
        self.refused: dict[int, Failure] = {}
        self.failure: BaseException | None = None
        self.ended_at_once = False
        self.heard: list[Event] = []
        self.events.subscribe(self.heard.append)

    async def start(self, middleware: Starts[L_co]) -> L_co:
        """Start one more, inside of those that were started before."""
        layer = await middleware.start(self)
        self.layers = (*self.layers, layer)
        return layer

    async def stop(self) -> None:
        """Stop all, innermost first."""
        for layer in reversed(self.layers):
            await layer.stop()
        self.layers = ()

    async def believable_cursor(self, remembered: Cursor) -> Cursor:
        return self.cursor

    async def identities(self, uids: UidSet) -> Mapping[int, Identity]:
        return {}

    async def aside(self, work: Callable[[], Awaitable[T]]) -> T:
        return await work()

    async def refuse(self, uids: UidSet, reason: str, detail: str) -> None:
        for uid in await self.plan.skip(uids):
            self.refused[uid] = Failure(uid, reason, detail)
            self.ledger.failed_count += 1
            self.ledger.refused_count += 1

    def give_up(self, because: str, *, retry_at: datetime | None = None) -> None:
        self.gave_up_because = because
        self.retry_at = retry_at

    def hold(self) -> Callable[[], None]:
        self.is_held = True

        def go_on() -> None:
            self.is_held = False

        return go_on

    def fail(self, error: BaseException, *, at_once: bool = False) -> None:
        self.failure = self.failure or error
        self.ended_at_once = self.ended_at_once or at_once


def done(batch: Batch, *, bytes_received: int = 0, elapsed_seconds: float = 0.0) -> BatchResult:
    """Everything was delivered."""
    return BatchResult(batch, done=batch.uids, bytes_received=bytes_received, elapsed_seconds=elapsed_seconds)


def interrupted(
    batch: Batch, error: BaseException, done: UidSet = NO_UIDS, failed: Mapping[int, Failure] | None = None
) -> BatchInterrupted:
    """The batch ended after `done`, because of `error`."""
    failures = failed or {}
    missing = batch.uids - done - UidSet.from_numbers(failures)
    caught = BatchInterrupted(batch, BatchResult(batch, done=done, failed=failures, missing=missing))
    caught.__cause__ = error
    return caught


# What was sent over loopback may take a moment, on a machine that is busy.
_REAL_SECONDS = 0.001
# What a thread was asked for takes as long as it takes. This is for one that waits for the loop itself.
_THREAD_SECONDS = 10.0


def _noted(future: asyncio.Future[T], asked: set[asyncio.Future[object]]) -> asyncio.Future[T]:
    """Note what a thread was asked for, until it is done."""
    asked.add(future)  # type: ignore[arg-type]
    future.add_done_callback(asked.discard)
    return future


class _JumpingSelector(selectors.DefaultSelector):
    """Where the loop would wait for a timer, time jumps."""

    loop: FakeTimeLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(None if timeout is None else 0)
        if not events and timeout and (timeout > 1 or self.loop.asked):
            events = super().select(_THREAD_SECONDS if self.loop.asked else _REAL_SECONDS)
        if not events and timeout:
            self.loop.now += timeout + self.loop.lateness
        return events


class FakeTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock moves only when nothing is left to do; timers come `lateness` seconds late.

    A little time passes with each reading, as it does in the world.
    """

    def __init__(self, *, lateness: float = 0.0) -> None:
        selector = _JumpingSelector()
        selector.loop = self
        self.now = 1_000.0
        self.lateness = lateness
        self.asked: set[asyncio.Future[object]] = set()
        super().__init__(selector)

    def time(self) -> float:
        self.now += 1e-9
        return self.now

    def run_in_executor(
        self, executor: Executor | None, function: Callable[..., T], *given: object
    ) -> asyncio.Future[T]:
        """Have a thread do something; no time passes before it has."""
        return _noted(super().run_in_executor(executor, function, *given), self.asked)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as in asyncio
        """Wait for threads as long as it takes: since Python 3.12 a limit of this loop's own seconds would be over."""
        await super().shutdown_default_executor()


def jump_instead_of_waiting(loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the time of a loop that runs already made up: where it would wait for a timer, time jumps."""
    assert isinstance(loop, asyncio.SelectorEventLoop)
    selector: selectors.BaseSelector = loop._selector  # type: ignore[attr-defined]
    really_select, now = selector.select, loop.time()
    ask_thread, asked = loop.run_in_executor, set[asyncio.Future[object]]()

    def run_in_executor(executor: Executor | None, function: Callable[..., T], *given: object) -> asyncio.Future[T]:
        return _noted(ask_thread(executor, function, *given), asked)

    def select(timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        nonlocal now
        events = really_select(None if timeout is None else 0)
        if not events and timeout:
            # The name of a server is looked up by a thread: its time to connect is not over because of that.
            events = really_select(_THREAD_SECONDS if asked else _REAL_SECONDS)
        if not events and timeout:
            now += timeout
        return events

    def time() -> float:
        nonlocal now
        now += 1e-9
        return now

    shut_down = loop.shutdown_default_executor

    async def shutdown_default_executor(timeout: float | None = None) -> None:  # noqa: ASYNC109 - as in asyncio
        # As in `FakeTimeLoop`: threads take real time.
        await shut_down()

    monkeypatch.setattr(selector, "select", select)
    monkeypatch.setattr(loop, "time", time)
    monkeypatch.setattr(loop, "run_in_executor", run_in_executor)
    monkeypatch.setattr(loop, "shutdown_default_executor", shutdown_default_executor)


def block(seconds: float) -> None:
    """Block the running loop, as a careless handler does; time passes in a `FakeTimeLoop` only."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, FakeTimeLoop)
    loop.now += seconds


def run_in_fake_time(coroutine: Coroutine[object, object, T], *, lateness: float = 0.0) -> T:
    """Run a coroutine in a loop whose waits take no time."""
    with asyncio.Runner(loop_factory=lambda: FakeTimeLoop(lateness=lateness)) as runner:
        return runner.run(coroutine)
