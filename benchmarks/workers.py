"""What a second worker of a cluster brings, and how many small jobs workers do in a second.

    PYTHONPATH=src:tools python -m benchmarks.workers [--pairs 3] [--accounts 1000]

Both are runs of `examples/cluster/run.py` without trouble: PostgreSQL, mail servers and workers are processes of this
machine. In the first row the mail servers let 50 KB a second through on each connection, and a worker has four tasks in
hand, so that what a worker reads depends on connections and not on processors: all processes together use a small part
of them, which is told beside the figure. There are so many accounts that a run is much longer than its largest account
takes, with which nobody can help at the end. Each pair is a run with one worker and one with two, in turns. In the
second row nothing is held back, and accounts have five messages in five mailboxes.
"""

from __future__ import annotations

import argparse
import os
import statistics
from dataclasses import dataclass
from typing import Final

from cluster_simulation.measure import run_example

LEAST: Final = 1.8
# Of the processors; above this it is they that hold up the second worker, and not the connections.
MOST_BUSY: Final = 0.5
_PROCESSES: Final = ("workers", "servers", "database")


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a run.

    Attributes:
        messages_per_second: What was read.
        busy: The part of the processors that each kind of process used.
    """

    messages_per_second: float
    busy: tuple[float, ...]

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {busy:.0%}" for name, busy in zip(_PROCESSES, self.busy, strict=True))
        return f"{self.messages_per_second:,.0f}/s (processors: {parts})"


def run(workers: int) -> Run:
    """What so many workers read where each connection is slow."""
    figures = run_example(
        *("--workers", f"{workers}", "--accounts", "144", "--messages", "150", "--concurrency", "4"),
        *("--no-rates", "--connection-bytes-per-second", "50000", "--latency-ms", "5"),
    )
    processors = (os.cpu_count() or 1) * figures["seconds"]
    return Run(
        figures["messages_per_second"], tuple(figures[f"{name}_cpu_seconds"] / processors for name in _PROCESSES)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--accounts", type=int, default=1000, help="of the second row")
    options = parser.parse_args()
    ratios = []
    for pair in range(options.pairs):
        runs = {workers: run(workers) for workers in ((1, 2) if pair % 2 else (2, 1))}
        ratios.append(runs[2].messages_per_second / runs[1].messages_per_second)
        print(f"1 worker: {runs[1]}, 2 workers: {runs[2]}: {ratios[-1]:.2f} x", flush=True)
        if sum(runs[2].busy) > MOST_BUSY:
            print("the processors were too busy for that to tell anything", flush=True)
    if ratios:
        middle = statistics.median(ratios)
        print(f"2 workers: {middle:.2f} x 1 worker ({min(ratios):.2f} … {max(ratios):.2f}); goal: ≥ {LEAST} x")
    if not options.accounts:
        return
    figures = run_example(
        *("--workers", "2", "--accounts", f"{options.accounts}", "--messages", "5", "--no-rates"),
        *("--connection-bytes-per-second", "1e9", "--latency-ms", "0"),
    )
    print(
        f"{options.accounts:,} accounts on 2 workers: {figures['jobs_per_second']:.1f} jobs a second;"
        f" from defer to start {figures['start_p50_seconds']:.2f} s, p95 {figures['start_p95_seconds']:.2f} s"
    )


if __name__ == "__main__":
    main()
