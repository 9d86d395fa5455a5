"""The ledger of a run: the outcome of every planned UID.

Updated once per message, so its hot path is an append and a comparison. Recent outcomes are merged into
interval sets in groups, and subscribers (the checkpoint) hear of a group before the next message is settled.

Invariants:

- A UID gets one outcome: who enters a failure of what may be done already asks `outcome_of` first.
- `settled()` of a subscriber with `every=n` is called with at most `n` UIDs outstanding.
- What was not tried, because the run gave it up (`give_up`) or a layer did not want it (`refuse`), has failed in the
  report of that run. Subscribers do not hear of it: for a later run such a message is as it was before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from operator import or_

from imapipe.middleware.base import Settled
from imapipe.models.batch import Failure
from imapipe.pipeline.plan import Plan
from imapipe.runtime.large_sets import beside_the_loop
from imapipe.wire.uid_set import UidSet

GROUP = 4096
MAX_FAILURE_DETAILS = 10_000
NOT_TRIED = "not-tried"


class Ledger:
    """Outcomes by UID.

    Attributes:
        done: UIDs whose handler returned, as of the last `flush`.
        vanished: UIDs that were gone.
        failed: All UIDs that failed.
        failures: Details of the first 10,000 of them.
        refused_count: How many of them a layer refused.
        uncommitted: UIDs that a sink has written and not made safe yet: no outcome, and not to be asked for again.
        skipped: UIDs that an earlier run did.
    """

    __slots__ = (
        "_recent",
        "_recent_failures",
        "_recent_vanished",
        "_room",
        "_subscribers",
        "done",
        "failed",
        "failed_count",
        "failures",
        "refused_count",
        "skipped",
        "uncommitted",
        "vanished",
    )

    def __init__(self) -> None:
        self.done = UidSet()
        self.failed = UidSet()
        self.vanished = UidSet()
        self.skipped = UidSet()
        self.uncommitted = UidSet()
        self.failures: dict[int, Failure] = {}
        self.failed_count = 0
        self.refused_count = 0
        self._recent: list[int] = []
        self._recent_failures: dict[int, Failure] = {}
        self._recent_vanished = UidSet()
        # How many may be in `_recent` before the next flush.
        self._room = GROUP
        self._subscribers: list[tuple[int, Settled]] = []

    @property
    def done_count(self) -> int:
        """Messages handled, exact at any time."""
        return len(self.done) + len(self._recent)

    @property
    def vanished_count(self) -> int:
        """Messages that were gone."""
        return len(self.vanished) + len(self._recent_vanished)

    @property
    def skipped_count(self) -> int:
        """Messages that an earlier run did."""
        return len(self.skipped)

    def subscribe(self, every: int, settled: Settled) -> Callable[[], None]:
        """See `middleware.base.Ledger.subscribe`."""
        entry = (every, settled)
        self._subscribers.append(entry)
        self._make_room()

        def unsubscribe() -> None:
            if entry in self._subscribers:
                self._subscribers.remove(entry)
                self._make_room()

        return unsubscribe

    async def skip(self, plan: Plan) -> None:
        """An earlier run did what is out of the plan and was not refused; before the first batch. The last call counts.

        Cancelled, nothing was entered.
        """
        failed = self.failed

        def find() -> UidSet:
            return (plan.planned - plan.remaining - failed).ranked()

        self.skipped = await beside_the_loop(find, plan.planned)

    def settle(self, uid: int) -> None:
        """The message was handled. The caller settles each UID once."""
        recent = self._recent
        recent.append(uid)
        if len(recent) >= self._room:
            self.flush()

    def await_commit(self, uids: UidSet) -> None:
        """A sink has written the messages; they are done when it has made them safe."""
        self.uncommitted |= uids

    def commit(self) -> None:
        """What was written is safe: it is done."""
        done, self.uncommitted = self.uncommitted, UidSet()
        self._recent.extend(done)
        self.flush()

    def fail(self, failure: Failure) -> None:
        """The message will not be tried again in this run."""
        uid = failure.uid
        if uid in self.failed or uid in self._recent_failures:
            return
        self.failed_count += 1
        self._recent_failures[uid] = failure
        if len(self.failures) < MAX_FAILURE_DETAILS:
            self.failures[uid] = failure
        self._make_room()
        if len(self._recent) >= self._room:
            self.flush()

    def vanish(self, uids: UidSet) -> None:
        """The messages are gone from the mailbox."""
        self._recent_vanished |= uids
        self.flush()

    async def give_up(self, uids: UidSet, detail: str) -> None:
        """The messages were never tried, and this run will not try them. Cancelled, nothing was entered."""
        await self._fail_untold(uids, NOT_TRIED, detail)

    async def refuse(self, uids: UidSet, reason: str, detail: str) -> None:
        """A layer says that the messages are not to be tried. Cancelled, nothing was entered."""
        await self._fail_untold(uids, reason, detail)
        self.refused_count += len(uids)

    async def _fail_untold(self, uids: UidSet, reason: str, detail: str) -> None:
        while True:
            before = self.failed
            failed = await beside_the_loop(partial(or_, before, uids), before, uids)
            if self.failed is before:
                break
        self.failed = failed
        self.failed_count += len(uids)
        for uid in islice(uids, MAX_FAILURE_DETAILS - len(self.failures)):
            self.failures[uid] = Failure(uid, reason, detail)

    def outcome_of(self, uids: UidSet) -> UidSet:
        """Those of `uids` that have an outcome in this run, or wait for the commit of a sink."""
        self.flush()
        # Small intersections: the sets of a long run can be large, and a batch meets little of them.
        return self.handled(uids) | uids & self.failed | uids & self.vanished

    def handled(self, uids: UidSet) -> UidSet:
        """Those of `uids` that are done as of the last `flush`, or will be when a sink commits."""
        return uids & self.done | uids & self.uncommitted

    def failures_among(self, uids: UidSet, known: Mapping[int, Failure]) -> dict[int, Failure]:
        """Why messages failed: as it is known, else as it was written down; all of them that have failed.

        Args:
            uids: Which messages.
            known: Failures that are known of.
        """
        failures = dict(known)
        for uid in uids & self.failed:
            failures.setdefault(uid, self.failures.get(uid) or Failure(uid, "failed"))
        return failures

    def flush(self) -> None:
        """Merge what is recent and tell the subscribers."""
        if not (self._recent or self._recent_failures or self._recent_vanished):
            return
        done = UidSet.from_numbers(self._recent)
        failed: Mapping[int, Failure] = self._recent_failures
        vanished = self._recent_vanished
        self._recent = []
        self._recent_failures = {}
        self._recent_vanished = UidSet()
        self._make_room()
        self.done |= done
        self.failed |= UidSet.from_numbers(failed)
        self.vanished |= vanished
        for _, settled in tuple(self._subscribers):
            settled(done, failed, vanished)

    def _make_room(self) -> None:
        """Subscribers or recent failures have changed."""
        self._room = min([GROUP, *(every for every, _ in self._subscribers)]) - len(self._recent_failures)
