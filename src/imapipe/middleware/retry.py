"""Retry: asks again for what was never delivered, and finds the message that a server cannot deliver.

Invariants:

- Only UIDs that are missing are asked for again; what was delivered has its outcome, whatever happened after.
- A try that delivered something, or brought a part of a message that the next one goes on behind, is progress and costs
  nothing. Only fruitless tries in a row are counted.
- A batch that stays fruitless is halved, and halved again, until single messages are left; one that fails alone is
  poisoned: it becomes `failed`, and the rest goes on. The pieces are a stack, there is no recursion.
- An outage of the server makes no message poisoned. Nothing is halved where no connection could be made
  (`Verdict.bisect`), nor where the server is silent and nothing at all comes to the run. Where connections just end,
  without a byte for anybody, one or two messages may do that to the server: they cannot be in all pieces, so halves and
  quarters are asked for in turn, and if none of a few comes it is an outage.
- The first FETCH of a run may be called BAD for what it asks, or for one of its messages: a message alone tells, and
  another one where it was called BAD, too. Only then is the kind of command given up.
- Halving goes on only as long as the fruitless tries in a row are no more than finding one message can take.
- A batch that is given up gives back everything that is missing.
- Each run has a budget of fruitless tries. When it is spent, every batch has its first try and no other.
- An account whose quota is used up is tried by one batch at a time, `attempts` times in all; then its runs end, and
  what they did not ask for is not tried (`quota`).
"""

from __future__ import annotations

import asyncio
import random as random_module
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from imapipe.errors import CommandError, CommandTimeout, ProtocolError, ServerBye, Throttled
from imapipe.middleware.base import Call, Layer, Limit, Middleware, Run
from imapipe.middleware.quota import Quota, Quotas
from imapipe.middleware.tries import Tries, Trouble
from imapipe.models.argument import check_number, check_whole
from imapipe.models.batch import Batch, BatchInterrupted, BatchResult
from imapipe.models.event import Attempt
from imapipe.net.signals import over_quota
from imapipe.net.transient import Verdict, is_transient, reason
from imapipe.runtime.backoff import Backoff

if TYPE_CHECKING:
    from tenacity.wait import wait_base

# So many messages are asked for alone, in a run, before a kind of command that the server calls BAD is given up.
_PROBES: Final = 3


class Retry(Middleware):
    """Asks again after errors that pass.

    Args:
        attempts: How often to ask in a row without getting anything, the first time included; also how often an account
            is asked whose quota is used up, by all its batches together.
        wait_initial_seconds: How long to wait at most before the second try; doubled for each one after that.
        wait_max_seconds: The longest wait of our own; a server may ask for more.
        budget: How many fruitless tries all batches of a run may have together.
        outage_seconds: How long a run waits for a server that cannot be reached, or opens no mailbox, at its beginning
            and in the middle; 0 gives up at once. That costs no attempt, and is no message's fault.
        wait: A wait strategy of tenacity, instead of the two times above.
        sleep: What waits.
        random: What gives numbers from 0 up to 1, for the jitter.
    """

    not_inside = (Limit,)
    stands_around_changes = True

    def __init__(
        self,
        attempts: int = 5,
        *,
        wait_initial_seconds: float = 0.5,
        wait_max_seconds: float = 60.0,
        budget: int = 1_000,
        outage_seconds: float = 300.0,
        wait: wait_base | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        check_whole("attempts", attempts)
        check_whole("budget", budget)
        for name, seconds in (
            ("wait_initial_seconds", wait_initial_seconds),
            ("wait_max_seconds", wait_max_seconds),
            ("outage_seconds", outage_seconds),
        ):
            check_number(name, seconds)
        if attempts < 1:
            raise ValueError("attempts must be at least 1")
        if not 0 <= wait_initial_seconds <= wait_max_seconds:
            raise ValueError("0 <= wait_initial_seconds <= wait_max_seconds is needed")
        if budget < 0 or outage_seconds < 0:
            raise ValueError("budget and outage_seconds cannot be negative")
        self.attempts = attempts
        self.budget = budget
        self.outage_seconds = outage_seconds
        self._backoff = Backoff(wait_initial_seconds, wait_max_seconds, strategy=wait, random=random)
        self._sleep = sleep
        self._quotas: WeakKeyDictionary[asyncio.AbstractEventLoop, Quotas] = WeakKeyDictionary()

    async def start(self, run: Run) -> RetryLayer:
        """Give a run the whole budget."""
        return RetryLayer(run, self.attempts, self.budget, self._quotas_here(), self._backoff, self._sleep)

    @asynccontextmanager
    async def kept_open(self) -> AsyncIterator[None]:
        """Have it remembered over the runs of one job that an account's quota is used up."""
        with self._quotas_here().kept():
            yield

    def _quotas_here(self) -> Quotas:
        # Of each loop, because what waits does so in a loop.
        return self._quotas.setdefault(asyncio.get_running_loop(), Quotas(self._new_quota))

    def _new_quota(self) -> Quota:
        def wait_seconds(tries: int, error: Throttled) -> float:
            return self._backoff.seconds(tries, error, at_least=is_transient(error).wait_at_least)

        return Quota(self.attempts, wait_seconds, self._sleep)


class RetryLayer(Layer):
    """Asks again in one run.

    Attributes:
        budget_left: Fruitless tries that the run may still have.
    """

    def __init__(
        self,
        run: Run,
        attempts: int,
        budget: int,
        quotas: Quotas,
        backoff: Backoff,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.budget_left = budget
        self._run = run
        self._quotas = quotas
        self._quota = quotas.take(run.account)
        self._attempts = attempts
        self._backoff = backoff
        self._sleep = sleep
        self._has_been_served = False
        self._probes_left = _PROBES

    async def __call__(self, batch: Batch, call_next: Call) -> BatchResult:
        """Let a batch through, and again where that may help.

        Raises:
            BatchInterrupted: Given up. Its result has what all tries reached; its cause is the last error.
        """
        work = Tries(batch, self._attempts)
        loop = asyncio.get_running_loop()
        while work.pieces:
            received = self._run.bytes_received
            try:
                async with self._quota.turn():
                    if (refusal := self._quota.refusal) is not None and self._quota.is_used_up:
                        return self._end(work, refusal)
                    sent_at = loop.time()
                    asked = work.next_piece()
                    result = await self._ask(asked, call_next, sent_at)
            except BatchInterrupted as interrupted:
                error = interrupted.__cause__ or interrupted
                # Bytes for other batches count too: the server that sends them is up.
                kept = interrupted.result.kept_bytes
                is_heard = self._run.bytes_received > received or kept > 0 or _is_answer(error)
                self._was_served(interrupted.result)
                trouble = Trouble(error, self._judge(error, is_heard=is_heard), is_heard)
                if work.interrupted(interrupted.result, trouble):
                    self.budget_left -= 1
                if work.given_up or self.budget_left < 0:
                    self.budget_left = max(0, self.budget_left)
                    raise BatchInterrupted(batch, work.result) from error
                if work.wait_before_next:
                    await self._wait(work, trouble)
            else:
                self._was_served(result)
                work.succeeded(result)
        return work.result

    async def stop(self) -> None:
        """The run is over."""
        self._quotas.give_back(self._run.account)

    async def _ask(self, batch: Batch, call_next: Call, sent_at: float) -> BatchResult:
        """Ask, and remember what that says of the account's quota."""
        try:
            result = await call_next(batch)
        except BatchInterrupted as interrupted:
            if isinstance(error := interrupted.__cause__, Throttled) and error.is_quota:
                self._quota.refused(error, sent_at)
            raise
        self._quota.served(sent_at)
        return result

    def _end(self, work: Tries, refusal: Throttled) -> BatchResult:
        """The quota is used up: end the run; what was asked for in vain has failed, all else was not tried.

        Raises:
            BatchInterrupted: The batch was asked for.
        """
        self._run.give_up(over_quota(refusal), retry_at=refusal.retry_at)
        if work.attempt >= work.batch.attempt:
            raise BatchInterrupted(work.batch, work.result) from refusal
        return work.result

    def _was_served(self, result: BatchResult) -> None:
        if len(result.missing) < len(result.batch):
            self._has_been_served = True

    def _judge(self, error: BaseException, *, is_heard: bool) -> Verdict:
        # Where a connection just ends, other pieces show whether the server is down (`Tries`); where it is silent,
        # finding out would cost a timeout for each piece.
        bytes_came = is_heard or not isinstance(error, CommandTimeout)
        verdict = is_transient(error, bytes_came=bytes_came, taken_before=self._has_been_served)
        if not verdict.probe:
            return verdict
        may_probe = self._probes_left > 0
        self._probes_left -= may_probe
        return verdict._replace(probe=may_probe)

    async def _wait(self, work: Tries, trouble: Trouble) -> None:
        verdict, error = trouble.verdict, trouble.error
        seconds = 0.0 if verdict.split_now else self._backoff.seconds(work.tries, error, at_least=verdict.wait_at_least)
        # Told before the wait: a lane that backs off gives its lease to others.
        self._run.events.emit(Attempt(work.batch.number, work.attempt + 1, seconds, reason(error)))
        # For what the whole account waits for, each batch does so when its turn comes.
        if seconds > 0 and not (isinstance(error, Throttled) and error.is_quota):
            await self._sleep(seconds)


def _is_answer(error: BaseException) -> bool:
    """Whether an error is what the server said to the FETCH; taking leave is none."""
    return isinstance(error, CommandError | ProtocolError) and not isinstance(error, ServerBye)
