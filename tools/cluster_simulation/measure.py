"""Finding out what things cost, by runs of `examples/cluster/run.py` without trouble; and what a real run says.

A run in which no mailbox is chosen tells what a look at an account costs. A run of few tasks with many messages, one of
many tasks with few messages, and one of tasks that are slow give three equations for what a message, a task and a
second of a task cost. Runs with next to nothing to do tell what a task takes when it has to wait for nobody.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from cluster_simulation.costs import Cost, Costs

RUN: Final = Path(__file__).parents[2] / "examples" / "cluster" / "run.py"
_LATENCY_MS: Final = 100.0
_SPENT: Final = ("workers_cpu_seconds", "servers_cpu_seconds", "database_cpu_seconds", "database_writes")
# Nothing is held back by the mail server.
_FAST: Final = ("--no-rates", "--connection-bytes-per-second", "1e9", "--latency-ms", "0")


def run_example(*arguments: str) -> Mapping[str, float]:
    """Run the example without trouble; gives its figures.

    Raises:
        RuntimeError: It did not keep its promises, or did not run.
    """
    command = [sys.executable, str(RUN), "--json", "--trouble", "none", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
    figures: Mapping[str, float] = json.loads(done.stdout)["figures"]
    return figures


def measure(scale: float = 1.0) -> Costs:
    """Find out what things cost on this machine; two minutes, with a scale of 1."""
    load = os.getloadavg()[0]
    few = run_example(
        *("--workers", "1", "--accounts", "4", "--messages", f"{20_000 * scale:.0f}", "--concurrency", "4"),
        *("--idle-seconds", f"{10 * scale:g}", *_FAST),
    )
    empty = run_example("--workers", "1", "--accounts", f"{200 * scale:.0f}", "--messages", "0", "--only-look", *_FAST)
    many = run_example("--workers", "1", "--accounts", f"{200 * scale:.0f}", "--messages", "5", *_FAST)
    slow = run_example(
        *("--workers", "1", "--accounts", "10", "--messages", f"{1000 * scale:.0f}", "--concurrency", "10"),
        *("--no-rates", "--connection-bytes-per-second", "20000", "--latency-ms", "0"),
    )
    # The least of a few: a machine that is busy with something else makes them longer, and nothing makes them shorter.
    tiny = ("--workers", "1", "--accounts", "8", "--messages", "1", "--concurrency", "1")
    alone = run_example(*tiny, *_FAST)
    far = run_example(*tiny, *_FAST, "--latency-ms", f"{_LATENCY_MS:g}")
    delay = far["task_least_seconds"] - alone["task_least_seconds"]
    idle = {name: few[f"idle_{name}"] / few["idle_seconds"] for name in _SPENT}
    of = {}
    for name in _SPENT:
        look = max(0.0, (empty[name] - idle[name] * empty["seconds"]) / empty["jobs"])
        spent = [run[name] - idle[name] * run["seconds"] - look * run["jobs"] for run in (few, many, slow)]
        message, task, running_second = solve((few, many, slow), spent)
        of[name] = Cost(message, look, task, running_second)
    return Costs(
        machine=f"{os.cpu_count()} processors with a load of {load:.0f} before it, {platform.machine()}, CPython "
        f"{platform.python_version()}",
        worker=of["workers_cpu_seconds"],
        server=of["servers_cpu_seconds"],
        database=of["database_cpu_seconds"],
        writes=of["database_writes"],
        idle_database=idle["database_cpu_seconds"],
        idle_writes=idle["database_writes"],
        pickup_seconds=alone["start_least_seconds"],
        task_seconds=alone["task_least_seconds"],
        round_trips=max(0.0, delay / (_LATENCY_MS / 1000)),
        start_seconds=alone["worker_start_seconds"],
    )


def solve(runs: Sequence[Mapping[str, float]], spent: Sequence[float]) -> tuple[float, float, float]:
    """What a message, a task and a second of a task cost, from three runs of which each has another share of them.

    By Cramer's rule. What the noise puts below nothing is nothing. Looks are not in it.
    """
    rows = [(run["messages"], run["tasks"] - run["jobs"], run["running_seconds"]) for run in runs]
    whole = _determinant(rows)

    def instead(column: int) -> float:
        changed = [[*row[:column], spent[number], *row[column + 1 :]] for number, row in enumerate(rows)]
        return max(0.0, _determinant(changed) / whole)

    return instead(0), instead(1), instead(2)


def _determinant(rows: Sequence[Sequence[float]]) -> float:
    (a, b, c), (d, e, f), (g, h, i) = rows
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
