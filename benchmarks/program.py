"""A program of others as a subject: its time is that from its start to its end, its memory is looked up meanwhile."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.meter import Meter, memory


def measure_program(command: Sequence[str], home: str, meter: Meter) -> None:
    """Run a program to its end.

    Args:
        command: It, and its arguments.
        home: Its HOME, so that it finds nobody's settings.
        meter: Gets its processor time and its peak of memory; it has no idle process to compare with.

    Raises:
        RuntimeError: It ended with another status than 0.
    """
    meter.start()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(command, env={**os.environ, "HOME": home}, stdout=subprocess.DEVNULL)
    status = Path(f"/proc/{process.pid}/status")
    peak = 0
    while process.poll() is None:
        peak = max(peak, memory("VmHWM", status))
        time.sleep(0.002)
    meter.stop()
    if process.returncode != 0:
        msg = f"{Path(command[0]).name} ended with status {process.returncode}"
        raise RuntimeError(msg)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    meter.cpu_seconds = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    meter.idle_rss, meter.peak_rss = 0, peak
