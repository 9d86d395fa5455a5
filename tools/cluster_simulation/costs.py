"""What things cost on one machine: measured, and kept in `costs.json`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

COSTS_FILE: Final = Path(__file__).with_name("costs.json")


@dataclass(frozen=True, slots=True)
class Cost:
    """What something costs: for each message, for each task, for each second in which a task runs.

    Attributes:
        message: For a message.
        look: For the first task of a job, which looks at the mailboxes of an account.
        task: For each other task.
        running_second: For a second of a task, whatever its messages do: saves, renewals, looking whether it is needed.
    """

    message: float = 0.0
    look: float = 0.0
    task: float = 0.0
    running_second: float = 0.0

    def of(self, messages: float, looks: float, tasks: float, running_seconds: float) -> float:
        """What all of that costs."""
        return self.message * messages + self.look * looks + self.task * tasks + self.running_second * running_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What everything costs. Processor seconds are those of one processor.

    Attributes:
        machine: Where this was measured, in words.
        worker: Processor seconds of a worker.
        server: Processor seconds of the embedded mail server; they matter where it shares the machine.
        database: Processor seconds of the database.
        writes: Rows that are written in the database.
        idle_database: Processor seconds of the database for a second of a worker, whatever it does.
        idle_writes: Rows that are written for a second of a worker, whatever it does.
        pickup_seconds: From a task's being there to its start, where a worker is free.
        task_seconds: What a task takes beside its messages on a server without latency.
        round_trips: How often a task waits for the server before its first message.
        start_seconds: From the start of a worker to its first task.
    """

    machine: str
    worker: Cost
    server: Cost
    database: Cost
    writes: Cost
    idle_database: float
    idle_writes: float
    pickup_seconds: float
    task_seconds: float
    round_trips: float
    start_seconds: float

    @classmethod
    def load(cls, path: Path = COSTS_FILE) -> Self:
        """Read them.

        Raises:
            OSError: There is no such file.
            TypeError: It has other costs than these.
        """
        kept = json.loads(path.read_text(encoding="utf-8"))
        return cls(**kept | {name: Cost(**kept[name]) for name in ("worker", "server", "database", "writes")})

    def save(self, path: Path = COSTS_FILE) -> None:
        """Write them, to three digits: more is noise."""
        path.write_text(json.dumps(_rounded(asdict(self)), indent=2) + "\n", encoding="utf-8")


def _rounded(costs: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _rounded(cost) if isinstance(cost, dict) else float(f"{cost:.3g}") if isinstance(cost, float) else cost
        for name, cost in costs.items()
    }
