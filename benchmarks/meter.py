"""Time, processor time and memory of this process over a stretch of code.

On Linux the peak is the kernel's own high-water mark, set back at the start. `getrusage` will not do: a process that
was started by vfork inherits the mark of its parent there.
"""

from __future__ import annotations

import gc
import resource
import sys
import time
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


class Meter:
    """Measures from `start` to `stop`.

    Attributes:
        wall_seconds: Between the two.
        cpu_seconds: User and system time between the two.
        idle_rss: Resident bytes at `start`.
        peak_rss: The most resident bytes since, read at `stop`.
    """

    def __init__(self) -> None:
        self.wall_seconds = 0.0
        self.cpu_seconds = 0.0
        self.idle_rss = 0
        self.peak_rss = 0
        self._started = (0.0, 0.0)

    def start(self) -> None:
        gc.collect()
        self.idle_rss = memory("VmRSS")
        if _CLEAR.exists():
            _CLEAR.write_text("5")
        self._started = (time.perf_counter(), time.process_time())

    def stop(self) -> None:
        """Stop; only the first call counts."""
        if self.wall_seconds:
            return
        self.wall_seconds = time.perf_counter() - self._started[0]
        self.cpu_seconds = time.process_time() - self._started[1]
        self.peak_rss = memory("VmHWM")


def memory(field: str, status: Path = _STATUS) -> int:
    """Bytes from a field of /proc/…/status; the peak of getrusage where there is no such file, 0 if it has gone."""
    if not _STATUS.exists():
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return 0
