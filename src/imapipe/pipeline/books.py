"""The books of a run: what is counted beside the outcomes, and the report made of all of it.

Invariant: after `close` the report does not change any more.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from imapipe.models.batch import BatchResult
from imapipe.models.event import Attempt, Event, Reconnect, Throttle, Wait
from imapipe.models.report import RunReport
from imapipe.pipeline.memory import memory_of
from imapipe.runtime.histogram import Histogram
from imapipe.runtime.resources import Sampler

if TYPE_CHECKING:
    from imapipe.net.command import FetchCommand
    from imapipe.pipeline.run import Run


class Books:
    """Counts what a run costs.

    Attributes:
        unaccounted: Messages that the search did not find although the mailbox holds them.
        wire_bytes: Bytes on the wire, of the leases that have ended.
    """

    __slots__ = (
        "_batch_seconds",
        "_batch_sizes",
        "_began",
        "_fetching",
        "_received",
        "_reconnects",
        "_report",
        "_retries",
        "_sampler",
        "_started_at",
        "_waits",
        "unaccounted",
        "wire_bytes",
    )

    def __init__(self) -> None:
        self._sampler = Sampler()
        self._started_at = datetime.now(UTC)
        self._began = time.monotonic()
        self._fetching: set[FetchCommand] = set()
        self._received = 0
        self._batch_seconds = Histogram()
        self._batch_sizes = Histogram()
        self._retries = 0
        self._reconnects = 0
        self._waits = 0
        self._report: RunReport | None = None
        self.unaccounted = 0
        self.wire_bytes = 0

    @property
    def bytes_received(self) -> int:
        """Bytes of FETCH responses so far, after decompression."""
        return self._received + sum(command.bytes_received for command in self._fetching)

    def open(self) -> None:
        """The run begins."""
        self._started_at = datetime.now(UTC)
        self._began = time.monotonic()
        self._sampler.start()

    async def close(self, run: Run) -> None:
        """The run is over."""
        await self._sampler.stop()
        self._report = self._make_report(run)

    def fetching(self, command: FetchCommand) -> None:
        """A FETCH was sent."""
        self._fetching.add(command)

    def fetched(self, command: FetchCommand) -> None:
        """A FETCH is over, however it ended."""
        self._fetching.discard(command)
        self._received += command.bytes_received

    def batch_ended(self, result: BatchResult) -> None:
        """A batch went through all layers."""
        self._batch_seconds.add(result.elapsed_seconds)
        self._batch_sizes.add(len(result.batch))

    def listen(self, event: Event) -> None:
        """Count an event."""
        match event:
            case Attempt():
                self._retries += 1
            case Reconnect():
                self._reconnects += 1
            case Wait() | Throttle():
                self._waits += 1
            case _:
                return

    def report(self, run: Run) -> RunReport:
        """What became of the run so far, or at its end."""
        return self._report if self._report is not None else self._make_report(run)

    def _make_report(self, run: Run) -> RunReport:
        ledger = run.ledger
        ledger.flush()
        usage = self._sampler.usage()
        memory = memory_of(run.layers)
        done_all_runs = memory.done_all_runs if memory is not None else None
        return RunReport(
            account=run.account,
            mailbox=run.mailbox,
            uidvalidity=run.uidvalidity,
            planned=len(run.plan.planned),
            done=ledger.done_count,
            skipped=ledger.skipped_count,
            vanished=ledger.vanished_count,
            failed=ledger.failed_count,
            failures=dict(ledger.failures),
            failed_uids=ledger.failed,
            unaccounted=self.unaccounted,
            started_at=self._started_at,
            elapsed_seconds=time.monotonic() - self._began,
            bytes_received=self.bytes_received,
            wire_bytes=self.wire_bytes,
            batch_seconds=self._batch_seconds.distribution(),
            batch_sizes=self._batch_sizes.distribution(),
            retries=self._retries,
            reconnects=self._reconnects,
            throttle_waits=self._waits,
            peak_rss_bytes=usage.peak_rss_bytes,
            cpu_seconds=usage.cpu_seconds,
            loop_lag_seconds=usage.loop_lag_seconds,
            system_cpu_percent=usage.system_cpu_percent,
            system_memory_percent=usage.system_memory_percent,
            done_all_runs=done_all_runs if done_all_runs is not None else ledger.done_count,
        )
