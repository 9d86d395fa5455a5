"""The process of one run of one Python subject: `python -m benchmarks.subject NAME < job.json > outcome.json`.

A subject is a module of `benchmarks.subjects` with a text `VERSION` and a function `run`. What a subject imports is
imported before the clock starts.
"""

from __future__ import annotations

import importlib
import sys
from typing import Protocol, cast

from benchmarks.job import Job, Outcome
from benchmarks.meter import Meter
from benchmarks.tally import Tally


class Subject(Protocol):
    """The module of a subject."""

    VERSION: str

    def run(self, job: Job, tally: Tally, meter: Meter) -> dict[str, float] | None:
        """Do the job; call `meter.stop` when the last message was read, before logging out.

        Returns:
            Notes for the outcome.
        """


def main() -> None:
    job = Job.from_json(sys.stdin.read())
    subject = cast(Subject, importlib.import_module(f"benchmarks.subjects.{sys.argv[1]}"))
    tally, meter = Tally(verify=job.verify), Meter()
    meter.start()
    notes = subject.run(job, tally, meter)
    meter.stop()
    outcome = Outcome(
        wall_seconds=meter.wall_seconds,
        cpu_seconds=meter.cpu_seconds,
        idle_rss=meter.idle_rss,
        peak_rss=meter.peak_rss,
        count=tally.count,
        total=tally.total,
        digest=tally.digest,
        version=subject.VERSION,
        notes=notes or {},
    )
    # On a line of its own: a library may have printed something before it.
    print("\n" + outcome.to_json(), flush=True)


if __name__ == "__main__":
    main()
