"""What a run costs the machine: memory, processor time, and how late the event loop is.

Invariants:

- psutil is imported when the first sampler starts, not with this module: `import imapipe` stays quick.
- A platform that refuses to tell (a container without /proc) costs the numbers, never the run.
- The lag is measured ten times as often as the rest, because it is cheap to measure and short to miss.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from imapipe.models.distribution import NOTHING_SEEN, Distribution
from imapipe.models.document import Document
from imapipe.runtime.histogram import Histogram
from imapipe.runtime.ticker import Ticker

_log = logging.getLogger(__name__)

_LAG_TICKS_PER_SAMPLE: Final = 10


class Reading(NamedTuple):
    """One look at the process and the machine.

    Attributes:
        rss_bytes: Resident memory of this process.
        cpu_seconds: Processor time of this process since it began, user and system.
        system_cpu_percent: Load of all processors since the last look.
        system_memory_percent: Memory in use on the machine.
    """

    rss_bytes: int
    cpu_seconds: float
    system_cpu_percent: float
    system_memory_percent: float


Probe = Callable[[], Reading]


@dataclass(frozen=True, slots=True)
class ResourceUsage(Document):
    """What a sampler saw; all zeros where nothing could be seen.

    Attributes:
        peak_rss_bytes: The largest resident memory of the samples.
        cpu_seconds: Processor time of this process since the sampler started.
        loop_lag_seconds: How late the event loop came back to a timer.
        system_cpu_percent: The mean of the samples.
        system_memory_percent: The highest of the samples.
    """

    peak_rss_bytes: int = 0
    cpu_seconds: float = 0.0
    loop_lag_seconds: Distribution = NOTHING_SEEN
    system_cpu_percent: float = 0.0
    system_memory_percent: float = 0.0


class Sampler:
    """Looks at the process every `every_seconds`, at the start and at the end."""

    __slots__ = (
        "_blind",
        "_cpu_percent",
        "_due",
        "_every",
        "_first_cpu",
        "_given_probe",
        "_lag",
        "_last_cpu",
        "_memory_percent",
        "_peak_rss",
        "_probe",
        "_ticker",
        "_ticks",
    )

    def __init__(self, every_seconds: float = 1.0, *, probe: Probe | None = None) -> None:
        self._every = every_seconds / _LAG_TICKS_PER_SAMPLE
        self._given_probe = probe
        self._ticker: Ticker | None = None
        self._reset()

    def _reset(self) -> None:
        self._probe = self._given_probe
        self._blind = False
        self._ticks = 0
        self._due = 0.0
        self._lag = Histogram()
        self._peak_rss = 0
        self._first_cpu: float | None = None
        self._last_cpu = 0.0
        self._cpu_percent = Histogram()
        self._memory_percent = 0.0

    def start(self) -> None:
        """Begin anew, in the running loop."""
        self._reset()
        self._sample(first=True)
        self._ticker = Ticker(self._tick, self._every, name="imapipe resources")
        self._due = asyncio.get_running_loop().time() + self._every
        self._ticker.start()

    async def stop(self) -> None:
        """Take the last sample and end the task."""
        ticker, self._ticker = self._ticker, None
        if ticker is not None:
            self._sample()
            await ticker.stop()

    def usage(self) -> ResourceUsage:
        """What was seen so far; may be asked at any time, also after `stop`."""
        return ResourceUsage(
            peak_rss_bytes=self._peak_rss,
            cpu_seconds=max(0.0, self._last_cpu - (self._first_cpu or 0.0)),
            loop_lag_seconds=self._lag.distribution(),
            system_cpu_percent=self._cpu_percent.distribution().mean,
            system_memory_percent=self._memory_percent,
        )

    async def _tick(self) -> None:
        now = asyncio.get_running_loop().time()
        self._lag.add(max(0.0, now - self._due))
        self._ticks += 1
        if self._ticks % _LAG_TICKS_PER_SAMPLE == 0:
            self._sample()
        self._due = asyncio.get_running_loop().time() + self._every

    def _sample(self, *, first: bool = False) -> None:
        if self._blind:
            return
        try:
            if self._probe is None:
                self._probe = process_probe()
            reading = self._probe()
        except Exception:  # noqa: BLE001 - psutil has its own tree of errors; numbers for show never end a run.
            _log.warning("resource use cannot be read here and is left out of the report", exc_info=True)
            self._blind = True
            return
        self._peak_rss = max(self._peak_rss, reading.rss_bytes)
        if self._first_cpu is None:
            self._first_cpu = reading.cpu_seconds
        self._last_cpu = reading.cpu_seconds
        self._memory_percent = max(self._memory_percent, reading.system_memory_percent)
        if not first:
            # The first look has no earlier one to measure the load against.
            self._cpu_percent.add(max(0.0, reading.system_cpu_percent))


def process_probe() -> Probe:
    """Make the probe that asks psutil about this process.

    The load is measured from one look of this probe to its next: psutil's own memory of the last look is one for
    the whole process, and two samplers would disturb each other.
    """
    import psutil  # noqa: PLC0415 - see the module docstring

    process = psutil.Process()
    last_total = last_idle = 0.0

    def look() -> Reading:
        nonlocal last_total, last_idle
        with process.oneshot():
            own = process.cpu_times()
            rss_bytes = process.memory_info().rss
        times = psutil.cpu_times()._asdict()
        # Linux counts the time of guests in `user` and `nice` already.
        total = sum(times.values()) - times.get("guest", 0.0) - times.get("guest_nice", 0.0)
        idle = times["idle"] + times.get("iowait", 0.0)
        elapsed, rested = total - last_total, idle - last_idle
        last_total, last_idle = total, idle
        return Reading(
            rss_bytes=rss_bytes,
            cpu_seconds=own.user + own.system,
            system_cpu_percent=min(max(100.0 * (1.0 - rested / elapsed), 0.0), 100.0) if elapsed > 0 else 0.0,
            system_memory_percent=psutil.virtual_memory().percent,
        )

    return look
