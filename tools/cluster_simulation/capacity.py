"""How many workers a load needs: the smallest fleet after which a larger one makes little difference."""

from __future__ import annotations

from cluster_simulation.costs import Costs
from cluster_simulation.model import Fleet, Load, Prediction, simulate

WORKERS = (1, 2, 4, 8, 16)


def predictions(
    load: Load, costs: Costs, *, concurrency: int = 20, database_processors: float = 4.0
) -> dict[int, Prediction]:
    """What fleets of growing size make of a load, where each worker dies once a day."""
    return {
        workers: simulate(
            load,
            Fleet(
                workers=workers,
                concurrency=concurrency,
                database_processors=database_processors,
                hours_between_deaths=24,
            ),
            costs,
        )
        for workers in WORKERS
    }


def table(load: Load, costs: Costs, *, database_processors: float = 4.0) -> str:
    """The same as a table in Markdown."""
    lines = [
        "| workers | hours | messages/s | tasks/s | workers busy | database busy | rows written a second |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for workers, made in predictions(load, costs, database_processors=database_processors).items():
        lines.append(
            f"| {workers} | {made.seconds / 3600:.2f} | {made.messages_per_second:,.0f} | {made.tasks_per_second:,.0f}"
            f" | {made.workers_busy:.0%} | {made.database_busy:.0%} | {made.database_writes_per_second:,.0f} |"
        )
    return "\n".join(lines)
