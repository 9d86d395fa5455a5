"""Retry: asks again for what was never delivered, and finds the message that a server cannot deliver.

Invariants:

- Only UIDs that are missing are asked for again; what was delivered has its outcome, whatever happened after.
- A try that delivered something is progress and costs nothing. Only fruitless tries in a row are counted.
- A batch that stays fruitless is halved, and halved again, until single messages are left; one that fails alone is
  poisoned: it becomes `failed`, and the rest goes on. The pieces are a stack, there is no recursion.
- An outage of the server makes no message poisoned. Nothing is halved where no connection could be made
  (`Verdict.bisect`), nor where the server is silent and nothing at all comes to the run. Where connections just end,
  without a byte for anybody, one or two messages may do that to the server: they cannot be in all pieces, so halves and
  quarters are asked for in turn, and if none of a few comes it is an outage.
- Halving goes on only as long as the fruitless tries in a row are no more than finding one message can take.
- A batch that is given up gives back everything that is missing.
- Each run has a budget of fruitless tries. When it is spent, every batch has its first try and no other.

"""

from __future__ import annotations

import asyncio
import random as random_module
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from imapipe.errors import CommandError, CommandTimeout, ProtocolError, ServerBye
from imapipe.middleware.base import Call, Layer, Limit, Middleware, Run
from imapipe.models.batch import Batch, BatchInterrupted, BatchResult, Failure
from imapipe.models.event import Attempt
from imapipe.net.transient import Verdict, is_transient, reason
from imapipe.runtime.backoff import Backoff
from imapipe.wire.uid_set import UidSet

if TYPE_CHECKING:
    from tenacity.wait import wait_base

# What failed once in company gets a second try alone before it is called poisoned.
_TRIES_ALONE: Final = 2
# So many pieces in a row for which no byte came are an outage. Two poisoned messages make no more than four, wherever
# they are (but in batches of fewer than eight, which are given up).
_SILENT_PIECES: Final = 5


class Retry(Middleware):
    """Asks again after errors that pass.

    Args:
        attempts: How often to ask in a row without getting anything, the first time included.
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

    async def start(self, run: Run) -> RetryLayer:
        """Give a run the whole budget."""
        return RetryLayer(run, self.attempts, self.budget, self._backoff, self._sleep)


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
        backoff: Backoff,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.budget_left = budget
        self._run = run
        self._attempts = attempts
        self._backoff = backoff
        self._sleep = sleep
        self._has_been_served = False

    async def __call__(self, batch: Batch, call_next: Call) -> BatchResult:
        """Let a batch through, and again where that may help.

        Raises:
            BatchInterrupted: Given up. Its result has what all tries reached; its cause is the last error.
        """
        work = _Work(batch, self._attempts)
        while work.pieces:
            asked = work.next_piece()
            received = self._run.bytes_received
            try:
                result = await call_next(asked)
            except BatchInterrupted as interrupted:
                error = interrupted.__cause__ or interrupted
                # Bytes for other batches count too: the server that sends them is up.
                is_heard = self._run.bytes_received > received or _is_answer(error)
                trouble = _Trouble(error, self._judge(error, is_heard=is_heard), is_heard)
                self._was_served(interrupted.result)
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

    def _was_served(self, result: BatchResult) -> None:
        if len(result.missing) < len(result.batch):
            self._has_been_served = True

    def _judge(self, error: BaseException, *, is_heard: bool) -> Verdict:
        # Where a connection just ends, other pieces show whether the server is down (`_Work`); where it is silent,
        # finding out would cost a timeout for each piece.
        bytes_came = is_heard or not isinstance(error, CommandTimeout)
        return is_transient(error, bytes_came=bytes_came, taken_before=self._has_been_served)

    async def _wait(self, work: _Work, trouble: _Trouble) -> None:
        verdict, error = trouble.verdict, trouble.error
        seconds = 0.0 if verdict.split_now else self._backoff.seconds(work.tries, error, at_least=verdict.wait_at_least)
        # Told before the wait: a lane that backs off gives its lease to others.
        self._run.events.emit(Attempt(work.batch.number, work.attempt + 1, seconds, reason(error)))
        if seconds > 0:
            await self._sleep(seconds)


def _is_answer(error: BaseException) -> bool:
    """Whether an error is what the server said to the FETCH; taking leave is none."""
    return isinstance(error, CommandError | ProtocolError) and not isinstance(error, ServerBye)


@dataclass(frozen=True, slots=True)
class _Trouble:
    """What interrupted a try.

    Attributes:
        error: The error.
        verdict: What to do about it.
        is_heard: Something came from the server meanwhile, if only the error itself.
    """

    error: BaseException
    verdict: Verdict
    is_heard: bool


class _Work:
    """A batch on its way through its tries.

    Attributes:
        batch: What was asked of Retry.
        result: What all tries reached together.
        pieces: What is still to be asked for, the next one last, each with its fruitless tries so far.
        attempt: The number of the last try.
        tries: The fruitless tries of the next piece.
        given_up: No further try is to be made.
        wait_before_next: Another try follows an error.
    """

    __slots__ = (
        "_attempts",
        "_fruitless",
        "_halving",
        "_is_up",
        "_most_fruitless",
        "_piece",
        "_piece_tries",
        "_silent_pieces",
        "attempt",
        "batch",
        "given_up",
        "pieces",
        "result",
        "wait_before_next",
    )

    def __init__(self, batch: Batch, attempts: int) -> None:
        self.batch = batch
        self.result = BatchResult(batch, missing=batch.uids)
        self.pieces: list[tuple[UidSet, int]] = [(batch.uids, 0)]
        self.attempt = batch.attempt - 1
        self.given_up = False
        self.wait_before_next = False
        self._attempts = attempts
        self._fruitless = 0
        self._halving = False
        # The tries granted at first, the way down to one message, and its tries alone; all that twice, because the
        # neighbours of a poisoned message may be poisoned too.
        self._most_fruitless = 2 * (attempts + len(batch).bit_length() + _TRIES_ALONE)
        # Pieces in a row during which nothing came from the server.
        self._silent_pieces = 0
        # Something came from the server after the batch was halved.
        self._is_up = False
        self._piece = batch.uids
        self._piece_tries = 0

    @property
    def tries(self) -> int:
        return self.pieces[-1][1] if self.pieces else 0

    def next_piece(self) -> Batch:
        """Take the next piece, as a batch; the first one is the batch itself, with its known size."""
        self._piece, self._piece_tries = self.pieces.pop()
        self.attempt += 1
        if self.attempt == self.batch.attempt:
            return self.batch
        return self.batch.narrow(self._piece, attempt=self.attempt)

    def succeeded(self, result: BatchResult) -> None:
        """The piece came back whole."""
        self.result = self.result.merge(result)
        self._fruitless = 0
        self._heard()

    def interrupted(self, result: BatchResult, trouble: _Trouble) -> bool:
        """The piece was interrupted: plan what comes next; returns whether the try was fruitless."""
        verdict = trouble.verdict
        self.result = self.result.merge(result)
        missing = self._piece & self.result.missing
        fruitless = len(missing) == len(self._piece) and not verdict.split_now
        tries = self._piece_tries + 1 if fruitless else 0
        silent = fruitless and not trouble.is_heard
        self._fruitless = self._fruitless + 1 if fruitless else 0
        if not silent:
            self._heard()
        elif self._halving and tries == 1:
            self._silent_pieces += 1
        self.given_up = not verdict.transient
        self.wait_before_next = False
        if self.given_up or not missing:
            return fruitless
        alone = len(missing) == 1
        is_outage = self._silent_pieces >= _SILENT_PIECES
        if not is_outage and not verdict.split_now and tries < self._tries_granted(alone=alone):
            self._ask_for([(missing, tries)], last=silent)
        elif not verdict.bisect or is_outage or self._fruitless >= self._most_fruitless:
            self.given_up = True
        elif not alone:
            self._halving = True
            middle = len(missing) // 2
            self._ask_for([(missing[middle:], 0), (missing[:middle], 0)], last=silent)
        elif silent and not self._is_up:
            # Not even one of the other messages came.
            self.given_up = True
        else:
            self._poisoned(missing, trouble.error)
        return fruitless

    def _ask_for(self, pieces: list[tuple[UidSet, int]], *, last: bool) -> None:
        """Ask for these again, at once or after all others."""
        at = 0 if last else len(self.pieces)
        self.pieces[at:at] = pieces
        self.wait_before_next = True

    def _heard(self) -> None:
        self._silent_pieces = 0
        self._is_up = self._halving

    def _tries_granted(self, *, alone: bool) -> int:
        if not self._halving:
            return self._attempts
        return min(_TRIES_ALONE, self._attempts) if alone else 1

    def _poisoned(self, uids: UidSet, error: BaseException) -> None:
        failures = {uid: Failure(uid, reason(error), str(error)) for uid in uids}
        self.result = self.result.merge(BatchResult(self.batch, failed=failures))
