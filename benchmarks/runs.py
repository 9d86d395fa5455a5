"""Runs: what was seen in each run of an entry, and the medians and spreads that are kept of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.results import EntryResult
from benchmarks.statistic import NO_SPREAD, Spread, spread

ROUND_TRIPS_ALLOWED: Final = 5
"""How many round trips a client may need beyond what its reference takes."""


@dataclass(slots=True, kw_only=True)
class Runs:
    """The runs of one entry.

    Attributes:
        result: What is known of the entry; `summarize` puts the figures into it.
        wall: Seconds of each run.
        beside: In a paired row, seconds of the run of the reference beside each of them.
        rounds: The number of the round of each run: runs of the same round are compared.
        cpu: Processor seconds of each run.
        idle_rss: Resident bytes before each run.
        peak_rss: The most resident bytes in each run.
    """

    result: EntryResult
    wall: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    idle_rss: list[int] = field(default_factory=list)
    peak_rss: list[int] = field(default_factory=list)

    def in_rounds_of(self, base: Runs) -> list[tuple[float, float]]:
        """Seconds of each run with those of `base` in the same round, where there are both."""
        walls = dict(zip(base.rounds, base.wall, strict=True))
        return [(wall, walls[number]) for number, wall in zip(self.rounds, self.wall, strict=True) if number in walls]


def summarize(row: Sequence[Runs], *, paired: bool, round_trip_ms: float) -> None:
    """Put medians and spreads into the results of all entries of a row.

    The first is the reference, which is compared with nothing. In a paired row it has many runs in a round, and none of
    them stands beside that of imapipe alone.
    """
    reference = row[0]
    ours = next((runs for runs in row if runs.result.label == "imapipe" and not runs.result.problem), None)
    for runs in row:
        result = runs.result
        result.wall, result.cpu = _spread(runs.wall), _spread(runs.cpu)
        result.idle_rss, result.peak_rss = _spread(runs.idle_rss), _spread(runs.peak_rss)
        result.growth = _spread([peak - idle for idle, peak in zip(runs.idle_rss, runs.peak_rss, strict=True)])
        if runs is reference:
            continue
        if paired:
            pairs = list(zip(runs.wall, runs.beside, strict=True))
        else:
            pairs = runs.in_rounds_of(reference)
            result.more = _spread([wall - base for wall, base in pairs])
        result.ratio = _spread([wall / base for wall, base in pairs])
        if round_trip_ms:
            allowance = ROUND_TRIPS_ALLOWED * round_trip_ms / 1000
            result.of_allowance = _spread([wall / (base + allowance) for wall, base in pairs])
        if ours is not None:
            result.of_imapipe = _spread([wall / base for wall, base in runs.in_rounds_of(ours)])


def _spread(values: Sequence[float]) -> Spread:
    return spread(values) if values else NO_SPREAD
