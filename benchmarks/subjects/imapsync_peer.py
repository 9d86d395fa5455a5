"""imapsync, without its log file, its look for a newer release, and its sums of sizes before and after."""

from __future__ import annotations

import subprocess
import tempfile
from typing import Final

from benchmarks.copies import read_back, target_of
from benchmarks.job import Job
from benchmarks.meter import Meter
from benchmarks.program import measure_program
from benchmarks.tally import Tally


def _version() -> str:
    return subprocess.run(["imapsync", "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]


VERSION: Final = _version()
_OPTIONS: Final = (
    "--nossl1 --nossl2 --notls1 --notls2 --nolog --noreleasecheck --noid --nofoldersizes --nofoldersizesatend".split()
)


def run(job: Job, tally: Tally, meter: Meter) -> None:
    with tempfile.TemporaryDirectory(prefix="imapsync-") as folder:
        command = ["imapsync", *_OPTIONS, "--tmpdir", folder]
        for number, user in enumerate((job.user, target_of(job)), 1):
            for option, value in (("host", job.host), ("port", job.port), ("user", user), ("password", job.password)):
                command += [f"--{option}{number}", str(value)]
        measure_program(command, folder, meter)
    read_back(job, tally)
