"""The time that imports take: a new interpreter that imports the modules named in the options, and ends."""

from __future__ import annotations

import resource
import subprocess
import sys
from typing import Final

from benchmarks.job import Job
from benchmarks.meter import Meter
from benchmarks.tally import Tally

VERSION: Final = sys.version.split(maxsplit=1)[0]


def run(job: Job, tally: Tally, meter: Meter) -> None:
    modules = job.options["modules"]
    code = f"import {modules}" if modules else "pass"
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    meter.start()
    subprocess.run([sys.executable, "-c", code], check=True)
    meter.stop()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    meter.cpu_seconds = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    tally.count = 1
