"""Progress: how far a run is, told a few times a second and once at the end.

Invariants:

- Numbers of messages come from the ledger and are exact; speeds are smoothed over a few seconds.
- What shows the progress cannot hurt the run: when it raises, that is logged once and it is not called again in that
  run.
- The last snapshot of a run, and only that, is `final`.
- Runs that share a `Progress` are told of one by one; a snapshot names its account and mailbox.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from imapipe.middleware.base import Layer, Middleware, Run
from imapipe.models.argument import check_number
from imapipe.models.document import Document
from imapipe.models.event import (
    Attempt,
    BatchEnd,
    Event,
    HandlersPaused,
    HandlersResumed,
    LimitAwaited,
    Reconnect,
    Refusal,
    ServerAwaited,
    Wait,
)
from imapipe.runtime.ticker import Ticker

_log = logging.getLogger(__name__)

# After so long a change of speed shows by two thirds.
_SMOOTHING_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class ProgressSnapshot(Document):
    """How far a run is.

    Attributes:
        planned: Messages that the search found.
        done: Messages handled in this run.
        skipped: Messages that an earlier run did.
        vanished: Messages that were gone.
        failed: Messages that failed.
        bytes_received: Bytes of FETCH responses, after decompression.
        elapsed_seconds: Since the run began.
        messages_per_second: Messages settled lately, smoothed.
        bytes_per_second: Bytes received lately, smoothed.
        eta_seconds: How long the rest will take at this speed, or None while there is no speed.
        batch_size: How many messages the next batch may hold.
        connections: Connections in use.
        waits: How often a batch was held back.
        final: The run is over.
        waiting_for: What everything waits for now: the server, the handler, a connection or a limit, and why; "" where
            it goes on.
        account: The run's account, `user@host:port`.
        mailbox: Its mailbox.
    """

    derived: ClassVar[Sequence[str]] = ("settled",)

    planned: int
    done: int
    skipped: int
    vanished: int
    failed: int
    bytes_received: int
    elapsed_seconds: float
    messages_per_second: float
    bytes_per_second: float
    eta_seconds: float | None
    batch_size: int
    connections: int
    waits: int
    final: bool = False
    account: str = ""
    mailbox: str = ""
    waiting_for: str = ""

    @property
    def settled(self) -> int:
        """Messages with an outcome."""
        return self.done + self.skipped + self.vanished + self.failed


Show = Callable[[ProgressSnapshot], Awaitable[None] | None]


class Progress(Middleware):
    """Calls `show` with a snapshot of the run every `every_seconds` and at its end.

    Args:
        show: A function or a coroutine function. For each run a call begins when the last one has ended.
        every_seconds: The time between two calls.
    """

    def __init__(self, show: Show, *, every_seconds: float = 0.2) -> None:
        if not callable(show):
            raise TypeError("Progress needs something to call with each snapshot")
        check_number("every_seconds", every_seconds)
        if every_seconds <= 0:
            raise ValueError("every_seconds must be above 0")
        self._show = show
        self._every_seconds = every_seconds

    async def start(self, run: Run) -> Layer:
        """Begin to tell of a run."""
        return _ProgressLayer(run, self._show, self._every_seconds)


class _ProgressLayer(Layer):
    """Tells of one run."""

    def __init__(self, run: Run, show: Show, every_seconds: float) -> None:
        self._show: Show | None = show
        self._meter = _Meter(run)
        self._unsubscribe = run.events.subscribe(self._meter.hear)
        self._ticker: Ticker | None = Ticker(self._tick, every_seconds, name="imapipe progress")
        self._ticker.start()

    async def stop(self) -> None:
        """Tell for the last time, also when cancelled; a coroutine function may then not come to its end."""
        ticker, self._ticker = self._ticker, None
        self._unsubscribe()
        if ticker is None:
            return
        try:
            # First, so that a call under way has ended before the last one begins.
            await ticker.stop()
        finally:
            await self._tell(self._meter.snapshot(final=True))

    async def _tick(self) -> None:
        await self._tell(self._meter.snapshot())

    async def _tell(self, snapshot: ProgressSnapshot) -> None:
        if self._show is None:
            return
        try:
            shown = self._show(snapshot)
            if inspect.isawaitable(shown):
                await shown
        except Exception:  # noqa: BLE001 - anything may go wrong in a display, and none of it is worth a run.
            _log.exception("showing the progress failed; it is not shown any more")
            self._show = None


class _Meter:
    """Makes snapshots of a run, with speeds."""

    __slots__ = ("_began", "_bytes_speed", "_last", "_message_speed", "_run", "_waiting", "_waiting_for", "_waits")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._began = asyncio.get_running_loop().time()
        self._last = (self._began, 0, 0)
        self._message_speed = _Speed()
        self._bytes_speed = _Speed()
        self._waits = 0
        self._waiting_for = ""
        # What a part of the run waits for, and until when; it is worth telling while nothing else goes on.
        self._waiting: dict[object, tuple[str, float]] = {}

    def hear(self, event: Event) -> None:
        """Count the waits, and keep what is waited for."""
        match event:
            case Wait():
                self._waits += 1
            case ServerAwaited(reason=reason):
                self._waiting_for = f"the server ({reason})"
            case HandlersPaused(reason=reason):
                self._waiting_for = f"the handler ({reason})"
            case Attempt(batch=batch, wait_seconds=seconds, reason=reason):
                self._waiting[batch] = f"the server ({reason})", asyncio.get_running_loop().time() + seconds
            case Refusal(text=text):
                self._waiting["connection"] = f"a connection ({text})", math.inf
            case LimitAwaited(limit=limit, reason=reason):
                self._waiting["connection"] = f"a limit of {limit} ({reason})", math.inf
            case HandlersResumed() | BatchEnd() | Reconnect():
                self._waiting_for = ""
                self._waiting.pop("connection", None)
            case _:
                return

    def snapshot(self, *, final: bool = False) -> ProgressSnapshot:
        """How far the run is now."""
        run, ledger = self._run, self._run.ledger
        now = asyncio.get_running_loop().time()
        planned, received = len(run.plan.planned), run.bytes_received
        settled = ledger.done_count + ledger.vanished_count + ledger.failed_count
        tried = settled - ledger.refused_count
        then, tried_then, received_then = self._last
        is_moving = (tried, received) != (tried_then, received_then)
        if now > then:
            self._message_speed.add(tried - tried_then, now - then)
            self._bytes_speed.add(received - received_then, now - then)
            self._last = (now, tried, received)
        rest = max(0, planned - ledger.skipped_count - settled)
        speed = self._message_speed.per_second
        return ProgressSnapshot(
            planned=planned,
            done=ledger.done_count,
            skipped=ledger.skipped_count,
            vanished=ledger.vanished_count,
            failed=ledger.failed_count,
            bytes_received=received,
            elapsed_seconds=now - self._began,
            messages_per_second=speed,
            bytes_per_second=self._bytes_speed.per_second,
            eta_seconds=0.0 if not rest else rest / speed if speed > 0 else None,
            batch_size=run.plan.batch_size,
            connections=run.connections,
            waits=self._waits,
            waiting_for=self._waiting_for or ("" if final or is_moving else self._part_waits_for(now)),
            final=final,
            account=run.account,
            mailbox=run.mailbox,
        )

    def _part_waits_for(self, now: float) -> str:
        self._waiting = {part: wait for part, wait in self._waiting.items() if wait[1] > now}
        return next((what for what, _ in self._waiting.values()), "")


class _Speed:
    """An exponential mean of a speed that does not depend on how often it is asked."""

    __slots__ = ("_amount", "_seconds")

    def __init__(self) -> None:
        self._amount = 0.0
        self._seconds = 0.0

    def add(self, amount: float, seconds: float) -> None:
        """So much happened in so many seconds."""
        kept = math.exp(-seconds / _SMOOTHING_SECONDS)
        self._amount = self._amount * kept + amount
        self._seconds = self._seconds * kept + seconds

    @property
    def per_second(self) -> float:
        return self._amount / self._seconds if self._seconds > 0 else 0.0
