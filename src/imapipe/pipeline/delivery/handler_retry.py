"""Trying a handler again: the trouble of a handler (its database is down) is not the fault of the messages.

Invariants:

- A call that failed with one of the errors that are named is made again for the same message, after a wait; only the
  last failure counts.
- While everything fails, nothing new is begun: after `breaker_after` failed calls in a row, over all workers, handling
  stands still, and one message that has failed already is tried alone from time to time. Its failures cost no attempt.
  The first success lets everybody go on, and so does a failure of another kind: what was waited for is not its cause.
- When that has lasted for `outage_seconds`, what waits fails, and the run gives up: no handler has seen the rest.
- Cancelling ends every wait at once.
"""

from __future__ import annotations

import asyncio
import math
import random as random_module
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from imapipe.models.argument import check_number, check_whole
from imapipe.models.event import HandlersPaused, HandlersResumed
from imapipe.models.message import Message
from imapipe.runtime.backoff import Backoff
from imapipe.runtime.event_bus import EventBus


@dataclass(frozen=True, slots=True)
class HandlerRetry:
    """When to call a handler again for a message that it failed with, and when to stand still.

    Args:
        attempts: How often a handler is called for one message at most, the first time included.
        wait_initial_seconds: How long to wait at most before the second call; doubled for each one after that.
        wait_max_seconds: The longest wait.
        on: The errors after which it helps to call again; others fail the message at once.
        breaker_after: Stand still after so many failed calls in a row, over all workers; 0 never.
        outage_seconds: How long to stand still before the run gives up.
        random: What gives numbers from 0 up to 1, for the jitter.

    Raises:
        ValueError, TypeError: What is wrong, in one sentence.
    """

    attempts: int = 5
    wait_initial_seconds: float = 0.2
    wait_max_seconds: float = 30.0
    on: tuple[type[Exception], ...] = (Exception,)
    breaker_after: int = 10
    outage_seconds: float = 300.0
    random: Callable[[], float] = random_module.random

    def __post_init__(self) -> None:
        check_whole("attempts", self.attempts)
        check_whole("breaker_after", self.breaker_after)
        for name in ("wait_initial_seconds", "wait_max_seconds", "outage_seconds"):
            check_number(name, getattr(self, name))
        if self.attempts < 1 or self.breaker_after < 0 or self.outage_seconds < 0:
            raise ValueError("use attempts >= 1, breaker_after >= 0 and outage_seconds >= 0")
        if not 0 <= self.wait_initial_seconds <= self.wait_max_seconds:
            raise ValueError("0 <= wait_initial_seconds <= wait_max_seconds is needed")
        if not all(issubclass(kind, Exception) for kind in self.on):
            raise TypeError(f"on takes a tuple of exception classes, not {self.on!r}")


class Tries:
    """The tries of a run's handler, and the breaker that all its workers share.

    Args:
        retry: The rules.
        handler: What is called.
        events: Where standing still is told.
        give_up: Ends the run, with a sentence that says why.
    """

    __slots__ = (
        "_backoff",
        "_events",
        "_failures",
        "_gave_up",
        "_give_up",
        "_handler",
        "_is_closed",
        "_opened_at",
        "_probing",
        "_retry",
    )

    def __init__(
        self,
        retry: HandlerRetry,
        handler: Callable[[Message], Awaitable[object]],
        events: EventBus,
        give_up: Callable[[str], None],
    ) -> None:
        self._retry = retry
        self._handler = handler
        self._events = events
        self._give_up = give_up
        self._backoff = Backoff(retry.wait_initial_seconds, retry.wait_max_seconds, random=retry.random)
        self._failures = 0
        self._gave_up = False
        self._opened_at = math.inf
        self._probing = asyncio.Lock()
        self._is_closed = asyncio.Event()
        self._is_closed.set()

    @property
    def stands_still(self) -> bool:
        """Whether nothing new is to be begun."""
        return not self._is_closed.is_set()

    async def go_on(self) -> None:
        """Wait until something new may be begun."""
        await self._is_closed.wait()

    async def __call__(self, message: Message) -> object:
        """Handle a message. Raises what the handler raised last."""
        tries = 0
        while True:
            try:
                result = await self._handler(message)
            except self._retry.on as error:
                tries += not self.stands_still
                self._failed(error)
                if self._gave_up:
                    raise
                if not self.stands_still:
                    if tries >= self._retry.attempts:
                        raise
                    await asyncio.sleep(self._backoff.seconds(tries, error))
                    continue
                last = error
            else:
                self._succeeded()
                return result
            probed = await self._probe(message, last)
            if probed is not None:
                return probed[0]
            if self._gave_up:
                raise last

    async def _probe(self, message: Message, error: Exception) -> tuple[object] | None:
        """Stand still, and try this message alone when it is its turn; gives what the handler gave, if it was that one.

        Raises what the handler raised last, where it has stood still for too long.
        """
        clock = asyncio.get_running_loop().time
        async with self._probing:
            count = 0
            while self.stands_still:
                left = self._opened_at + self._retry.outage_seconds - clock()
                if left <= 0:
                    self._gave_up = True
                    self._give_up(f"the handler fails with every message: {type(error).__name__}")
                    self._is_closed.set()
                    raise error
                count += 1
                await asyncio.sleep(min(self._backoff.seconds(count, error), left))
                try:
                    result = await self._handler(message)
                except self._retry.on as again:
                    error = again
                except BaseException:
                    # The message fails for it, and no other one may be there that would be tried instead.
                    self._go_on()
                    raise
                else:
                    self._succeeded()
                    return (result,)
        return None

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        is_too_much = self._retry.breaker_after and self._failures >= self._retry.breaker_after
        if is_too_much and not self.stands_still and not self._gave_up:
            self._opened_at = asyncio.get_running_loop().time()
            self._is_closed.clear()
            self._events.emit(HandlersPaused(self._failures, type(error).__name__))

    def _succeeded(self) -> None:
        self._failures = 0
        self._go_on()

    def _go_on(self) -> None:
        if self.stands_still:
            seconds = asyncio.get_running_loop().time() - self._opened_at
            self._is_closed.set()
            self._events.emit(HandlersResumed(seconds))
