"""A prediction beside a real run: three workers, fifty accounts, on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean

from cluster_simulation.costs import Costs
from cluster_simulation.measure import RUN, run_example
from cluster_simulation.model import Account, Fleet, Load, Prediction, simulate

WORKERS = 3
ACCOUNTS = 50
CONCURRENCY = 10
_CONNECTION_BYTES_PER_SECOND = 50_000.0
_LATENCY_MS = 5.0
# Of a message, around its own.
_FETCH_BYTES = 60


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was predicted, and what was.

    Attributes:
        predicted: The prediction.
        measured: The figures of the run.
    """

    predicted: Prediction
    measured: Mapping[str, float]

    def ratio(self, name: str) -> float:
        """The predicted figure as a multiple of the measured one."""
        predicted: float = getattr(self.predicted, name)
        return predicted / self.measured[name]

    def table(self) -> str:
        """As a table in Markdown."""
        lines = ["| figure | predicted | measured | ratio |", "|---|--:|--:|--:|"]
        for name in (
            "seconds",
            "messages_per_second",
            "start_p95_seconds",
            "database_writes",
            "database_writes_per_second",
        ):
            predicted = getattr(self.predicted, name)
            lines.append(f"| {name} | {predicted:,.2f} | {self.measured[name]:,.2f} | {self.ratio(name):.2f} |")
        return "\n".join(lines)


def check(costs: Costs, *, messages: int) -> Comparison:
    """Run the example, and predict the same."""
    measured = run_example(
        *("--workers", f"{WORKERS}", "--accounts", f"{ACCOUNTS}", "--messages", f"{messages}"),
        *("--concurrency", f"{CONCURRENCY}", "--latency-ms", f"{_LATENCY_MS:g}"),
        *("--connection-bytes-per-second", f"{_CONNECTION_BYTES_PER_SECOND:g}"),
    )
    sys.path.append(str(RUN.parent))
    from population import population  # noqa: PLC0415 - its folder is not on the path

    people = population(ACCOUNTS, messages)
    content = people[0].mailbox("INBOX")
    sizes = [content[uid].content.size for uid in content.uids]
    # They are asked for one after the other.
    between_seconds = measured["defer_seconds"] / ACCOUNTS
    accounts = tuple(
        Account(each.messages, each.connections, each.messages_per_second or float("inf"), number * between_seconds)
        for number, each in enumerate(people)
    )
    load = Load(
        accounts=accounts,
        parts=round(measured["tasks"] / ACCOUNTS) - 1,
        connection_messages_per_second=_CONNECTION_BYTES_PER_SECOND / (mean(sizes) + _FETCH_BYTES),
        round_trip_seconds=_LATENCY_MS / 1000,
    )
    processors = float(os.cpu_count() or 1)
    fleet = Fleet(
        workers=WORKERS,
        concurrency=CONCURRENCY,
        processors=processors,
        servers_share=True,
        database_processors=processors,
    )
    return Comparison(simulate(load, fleet, costs), measured)
