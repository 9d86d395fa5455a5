"""What is told of a job while it runs: few events a second, however many messages, batches and mailboxes there are.

A `JobWatch` is told of each run by two layers (`layers`), adds up what it hears, and puts it into the ring a few
times a second: the progress of all runs together, what failed, what was waited for, what else happened.

Invariants:

- What a tick tells is bounded: the first `MOST_TOLD` of the failures and of the news since the last one, and how many
  there were in all.
- Nothing is called for a message; a layer of ours costs a batch one call.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from imapipe.contrib.job_events import EventRing
from imapipe.middleware.base import Layer, Middleware, Run
from imapipe.middleware.progress import Progress, ProgressSnapshot
from imapipe.models.batch import Failure
from imapipe.models.document import Document
from imapipe.models.event import BatchEnd, Event, MailboxFollowed, NewsHandled, Wait
from imapipe.models.json_value import JSON
from imapipe.runtime.ticker import Ticker
from imapipe.wire.uid_set import UidSet

MOST_TOLD: Final = 20
_GROUP: Final = 4096
# So often nothing is told where nothing changed but speeds and times.
_SIGN_OF_LIFE_TICKS: Final = 10
# What happens all the time is in the progress.
_OF_COURSE: Final = (BatchEnd, MailboxFollowed, NewsHandled)


@dataclass(frozen=True, slots=True)
class FailuresData(Document):
    """Messages that failed since the last event of this kind.

    Attributes:
        count: How many.
        failures: The first 20 of them: mailbox and uid, and why.
    """

    count: int
    failures: Sequence[dict[str, JSON]]


@dataclass(frozen=True, slots=True)
class WaitSum(Document):
    """What one layer held back.

    Attributes:
        count: How many batches.
        seconds: For how long together.
    """

    count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class WaitsData(Document):
    """What held batches back since the last event of this kind.

    Attributes:
        waits: By the layer: a limit, a retry.
    """

    waits: Mapping[str, WaitSum]


@dataclass(frozen=True, slots=True)
class NewsData(Document):
    """What else happened since the last event of this kind.

    Attributes:
        count: How much.
        events: The first 20: `event` is the name of a class of `imapipe.events`, the rest are its fields.
    """

    count: int
    events: Sequence[dict[str, JSON]]


class JobWatch:
    """Hears what the runs of a job do, and tells of it in its ring.

    Args:
        ring: Where to tell.
        account: The account of the job.
        every_seconds: How often.
    """

    def __init__(self, ring: EventRing, account: str, *, every_seconds: float) -> None:
        self._ring = ring
        self._account = account
        self._every_seconds = every_seconds
        self._ticker: Ticker | None = None
        self._began = 0.0
        # The newest snapshot of each run under way, by mailbox, and the sum of those that are over.
        self._under_way: dict[str, ProgressSnapshot] = {}
        self._over: ProgressSnapshot | None = None
        self._ticks_untold = 0
        self._listening: set[_ListeningLayer] = set()
        self._told: ProgressSnapshot | None = None
        self._failures: list[dict[str, JSON]] = []
        self._failure_count = 0
        self._news: list[dict[str, JSON]] = []
        self._news_count = 0
        self._waits: dict[str, list[float]] = {}

    @property
    def layers(self) -> Sequence[Middleware]:
        """What a job of one run or of many is to use."""
        return Progress(self._hear_snapshot, every_seconds=self._every_seconds), _Listening(self)

    @property
    def progress(self) -> ProgressSnapshot | None:
        """How far all runs together are; None before the first one has begun."""
        if self._ticker is None:
            return self._told
        snapshots = [*self._under_way.values()] if self._over is None else [self._over, *self._under_way.values()]
        if not snapshots:
            return None
        elapsed_seconds = asyncio.get_running_loop().time() - self._began
        return total(snapshots, self._account, elapsed_seconds, is_final=not self._under_way)

    def start(self) -> None:
        """Begin to tell, in the running loop."""
        self._began = asyncio.get_running_loop().time()
        self._ticker = Ticker(self._tick, self._every_seconds, name="imapipe job events")
        self._ticker.start()

    async def stop(self) -> None:
        """Tell for the last time."""
        if self._ticker is not None:
            await self._ticker.stop()
            self._told = None
            self.tell()
            self._ticker = None

    def tell(self) -> None:
        """Tell what is new since the last time."""
        for layer in tuple(self._listening):
            layer.flush_failures()
        self._tell_progress()
        if self._failure_count:
            self._ring.append("failures", FailuresData(self._failure_count, self._failures).to_dict())
            self._failures, self._failure_count = [], 0
        if self._waits:
            waits = {layer: WaitSum(int(count), seconds) for layer, (count, seconds) in self._waits.items()}
            self._ring.append("waits", WaitsData(waits).to_dict())
            self._waits = {}
        if self._news_count:
            self._ring.append("news", NewsData(self._news_count, self._news).to_dict())
            self._news, self._news_count = [], 0

    def hear(self, event: Event) -> None:
        """Something happened beside the messages."""
        if isinstance(event, _OF_COURSE):
            return
        if isinstance(event, Wait):
            waits = self._waits.setdefault(event.layer, [0, 0.0])
            waits[0] += 1
            waits[1] += event.seconds
            return
        self._news_count += 1
        if len(self._news) < MOST_TOLD:
            self._news.append({"event": type(event).__name__, **event.to_dict()})

    def hear_failures(self, mailbox: str, failures: Mapping[int, Failure]) -> None:
        """Messages of a mailbox failed."""
        self._failure_count += len(failures)
        for uid, failure in failures.items():
            if len(self._failures) >= MOST_TOLD:
                return
            self._failures.append({"mailbox": mailbox, "uid": uid, **failure.to_dict()})

    def listen(self, layer: _ListeningLayer) -> None:
        """A run has begun."""
        self._listening.add(layer)

    def forget(self, layer: _ListeningLayer) -> None:
        """A run is over."""
        self._listening.discard(layer)

    def _tell_progress(self) -> None:
        progress, before = self.progress, self._told
        if progress is None:
            return
        self._ticks_untold += 1
        if before is None or self._ticks_untold >= _SIGN_OF_LIFE_TICKS or _facts(progress) != _facts(before):
            self._ticks_untold = 0
            self._told = progress
            self._ring.append("progress", progress.to_dict())

    async def _tick(self) -> None:
        self.tell()

    def _hear_snapshot(self, snapshot: ProgressSnapshot) -> None:
        if not snapshot.final:
            self._under_way[snapshot.mailbox] = snapshot
            return
        self._under_way.pop(snapshot.mailbox, None)
        over = [snapshot] if self._over is None else [self._over, snapshot]
        self._over = total(over, self._account, snapshot.elapsed_seconds, is_final=True)


def _facts(snapshot: ProgressSnapshot) -> tuple[object, ...]:
    """What is worth telling of: speeds and times change all the time."""
    return snapshot.planned, snapshot.settled, snapshot.connections, snapshot.waits, snapshot.waiting_for


def total(
    snapshots: Sequence[ProgressSnapshot], account: str, elapsed_seconds: float, *, is_final: bool
) -> ProgressSnapshot:
    """Several runs as one: counts and speeds added up.

    Args:
        snapshots: One or more.
        account: Their account.
        elapsed_seconds: How long they took together.
        is_final: What `final` is to say.
    """
    now = [snapshot for snapshot in snapshots if not snapshot.final]
    speed = math.fsum(snapshot.messages_per_second for snapshot in now)
    planned, settled = sum(each.planned for each in snapshots), sum(each.settled for each in snapshots)
    rest = max(0, planned - settled)
    mailboxes = {snapshot.mailbox for snapshot in snapshots}
    return ProgressSnapshot(
        planned=planned,
        done=sum(each.done for each in snapshots),
        skipped=sum(each.skipped for each in snapshots),
        vanished=sum(each.vanished for each in snapshots),
        failed=sum(each.failed for each in snapshots),
        bytes_received=sum(each.bytes_received for each in snapshots),
        elapsed_seconds=elapsed_seconds,
        messages_per_second=speed,
        bytes_per_second=math.fsum(each.bytes_per_second for each in now),
        eta_seconds=0.0 if not rest else rest / speed if speed > 0 else None,
        batch_size=max((each.batch_size for each in now), default=0),
        connections=sum(each.connections for each in now),
        waits=sum(each.waits for each in snapshots),
        waiting_for=next((each.waiting_for for each in now if each.waiting_for), ""),
        final=is_final,
        account=account,
        mailbox=mailboxes.pop() if len(mailboxes) == 1 else "",
    )


class _Listening(Middleware):
    """Hears of failures and events of each run."""

    def __init__(self, watch: JobWatch) -> None:
        self._watch = watch

    async def start(self, run: Run) -> Layer:
        """Listen to a run."""
        return _ListeningLayer(run, self._watch)


class _ListeningLayer(Layer):
    """Listens to one run."""

    def __init__(self, run: Run, watch: JobWatch) -> None:
        self._ledger = run.ledger
        self._mailbox = run.mailbox
        self._watch = watch
        self._flushed = run.ledger.failed_count
        self._unsubscribe = (run.events.subscribe(watch.hear), run.ledger.subscribe(_GROUP, self._settled))
        watch.listen(self)

    def flush_failures(self) -> None:
        """Have the ledger tell of failures now, if there are any, instead of with its next group."""
        if self._ledger.failed_count != self._flushed:
            self._flushed = self._ledger.failed_count
            self._ledger.flush()

    async def stop(self) -> None:
        """The run is over."""
        self._ledger.flush()
        self._watch.forget(self)
        for unsubscribe in self._unsubscribe:
            unsubscribe()

    def _settled(self, done: UidSet, failed: Mapping[int, Failure], vanished: UidSet) -> None:
        if failed:
            self._watch.hear_failures(self._mailbox, failed)
