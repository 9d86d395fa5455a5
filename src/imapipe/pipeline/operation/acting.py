"""What operations have in common that do something with messages instead of fetching them."""

from __future__ import annotations

from imapipe.models.batch import Batch, BatchResult, Failure
from imapipe.pipeline.operation.base import Workbench
from imapipe.wire.uid_set import UidSet


class ActingOperation:
    """The part of an `Operation` that is the same for all that bring nothing of their messages."""

    __slots__ = ()

    @property
    def opens(self) -> bool:
        """See `Operation`."""
        return True

    @property
    def needs(self) -> frozenset[str]:
        """See `Operation`."""
        return frozenset()

    @property
    def items(self) -> frozenset[str]:
        """See `Operation`."""
        return frozenset()

    @property
    def asks_ahead(self) -> None:
        """See `Operation`."""


class ActingWork:
    """The part of a `Work` that is about what becomes of its batch; the outcomes are in the ledger."""

    __slots__ = ("_batch", "_bench", "_elapsed", "_failed", "_is_over")

    def __init__(self, batch: Batch, bench: Workbench) -> None:
        self._batch = batch
        self._bench = bench
        self._failed: dict[int, Failure] = {}
        self._elapsed = 0.0
        self._is_over = False

    @property
    def is_unfinished(self) -> bool:
        """See `Work`."""
        return not self._is_over and bool(self._missing)

    @property
    def was_our_doing(self) -> bool:
        """See `Work`."""
        return False

    def result(self) -> BatchResult:
        """See `Work`."""
        ledger, uids = self._bench.ledger, self._batch.uids
        return BatchResult(
            self._batch,
            done=ledger.handled(uids),
            vanished=uids & ledger.vanished,
            failed=ledger.failures_among(uids, self._failed),
            missing=self._missing,
            elapsed_seconds=self._elapsed,
        )

    @property
    def _missing(self) -> UidSet:
        return self._batch.uids - self._bench.ledger.outcome_of(self._batch.uids)

    def _fail(self, failure: Failure) -> None:
        self._failed[failure.uid] = failure
        self._bench.ledger.fail(failure)
