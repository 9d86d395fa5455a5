"""The tries of a batch: which of its messages are asked for next, together or in pieces, and when no more (`retry`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from imapipe.models.batch import Batch, BatchResult, Failure
from imapipe.net.transient import Verdict, reason
from imapipe.wire.uid_set import UidSet

# What failed once in company gets a second try alone before it is called poisoned.
_TRIES_ALONE: Final = 2
# So many pieces in a row for which no byte came are an outage. Two poisoned messages make no more than four, wherever
# they are (but in batches of fewer than eight, which are given up).
_SILENT_PIECES: Final = 5


@dataclass(frozen=True, slots=True)
class Trouble:
    """What interrupted a try.

    Attributes:
        error: The error.
        verdict: What to do about it.
        is_heard: Something came from the server meanwhile, if only the error itself.
    """

    error: BaseException
    verdict: Verdict
    is_heard: bool


class Tries:
    """A batch on its way through its tries.

    Attributes:
        batch: What was asked of Retry.
        result: What all tries reached together.
        pieces: What is still to be asked for, the next one last, each with its fruitless tries so far.
        attempt: The number of the last try.
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
        "_probed",
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
        # What was asked for alone to tell whether anything comes.
        self._probed = UidSet()

    @property
    def tries(self) -> int:
        """The fruitless tries of the next piece."""
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

    def interrupted(self, result: BatchResult, trouble: Trouble) -> bool:
        """The piece was interrupted: plan what comes next; returns whether the try was fruitless."""
        verdict = trouble.verdict
        self.result = self.result.merge(result)
        missing = self._piece & self.result.missing
        nothing_came = len(missing) == len(self._piece) and not result.kept_bytes
        fruitless = nothing_came and not verdict.split_now
        tries = self._piece_tries + 1 if fruitless else 0
        silent = fruitless and not trouble.is_heard
        self._fruitless = self._fruitless + 1 if fruitless else 0
        if not silent:
            self._heard()
        elif self._halving and tries == 1:
            self._silent_pieces += 1
        self.given_up = not verdict.transient and not (verdict.probe and self._probe())
        self.wait_before_next = verdict.probe
        if not verdict.transient or not missing:
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

    def _probe(self) -> bool:
        """Ask next for one message alone that was not yet; False where there is none."""
        if len(self._piece) == 1:
            self._probed |= self._piece
        missing = self.result.missing
        left = missing - self._probed
        if not left:
            return False
        chosen = UidSet.from_numbers([left[len(left) // 2]])
        rest = missing - chosen
        self.pieces = [(rest, 0), (chosen, 0)] if rest else [(chosen, 0)]
        return True

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
