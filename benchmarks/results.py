"""Results: what was measured, as values and as JSON.

Every single run is kept; medians and ratios are computed when they are shown.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.calibration import Calibration
from benchmarks.statistic import Spread, spread


@dataclass(slots=True, kw_only=True)
class EntryResult:
    """What one entry did in one row.

    Attributes:
        label: Its name in the row.
        subject: What ran.
        batch: Messages asked for at once; 0 is all.
        connections: Connections used.
        options: Of the subject.
        version: Of the client.
        problem: Why it has no figures, or "".
        wall: Seconds of each run.
        ratios: Each of them divided by the run of the reference beside it.
        rounds: The number of the round of each run: runs of the same round are compared.
        cpu: Processor seconds of each run.
        idle_rss: Resident bytes before each run.
        peak_rss: The most resident bytes in each run.
        notes: The subject's own, of the last run.
    """

    label: str
    subject: str
    batch: int = 0
    connections: int = 1
    options: dict[str, str] = field(default_factory=dict)
    version: str = ""
    problem: str = ""
    wall: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    idle_rss: list[int] = field(default_factory=list)
    peak_rss: list[int] = field(default_factory=list)
    notes: dict[str, float] = field(default_factory=dict)

    @property
    def measured(self) -> bool:
        return bool(self.wall) and not self.problem

    @property
    def wall_spread(self) -> Spread:
        return spread(self.wall)

    @property
    def ratio_spread(self) -> Spread:
        return spread(self.ratios)

    @property
    def growth_bytes(self) -> float:
        """The median of how far the memory rose above the idle process."""
        return spread([peak - idle for idle, peak in zip(self.idle_rss, self.peak_rss, strict=True)]).median


@dataclass(slots=True, kw_only=True)
class RowResult:
    """What all entries did in one row; the first is the reference.

    Attributes:
        name: Of the row.
        title: What was compared.
        work: What was done.
        mailbox: A name for the mailbox.
        messages: Messages read in a run.
        received: Bytes that the ceiling received in a run; 0 where there is no ceiling.
        link: The network, or "".
        round_trip_ms: Its round trip.
        x: Where the row stands in its sweep.
        measured_at: When, as ISO 8601.
        commit: Of the code measured.
        quick: Whether it is a smaller work than that of a full run.
        entries: The entries.
    """

    name: str
    title: str
    work: str
    mailbox: str
    messages: int
    received: int
    link: str
    round_trip_ms: float
    x: float | None
    measured_at: str
    commit: str
    quick: bool
    entries: list[EntryResult]

    def entry(self, label: str) -> EntryResult | None:
        """An entry that was measured, by its label."""
        return next((entry for entry in self.entries if entry.label == label and entry.measured), None)

    def times(self, label: str, base: str) -> Spread | None:
        """How many times as long as `base` an entry took, in the same rounds; None unless both were measured."""
        one, other = self.entry(label), self.entry(base)
        if one is None or other is None:
            return None
        walls = dict(zip(other.rounds, other.wall, strict=True))
        shared = [wall / walls[i] for i, wall in zip(one.rounds, one.wall, strict=True) if i in walls]
        return spread(shared) if shared else None


@dataclass(slots=True, kw_only=True)
class Results:
    """All that was measured."""

    environment: dict[str, str]
    calibration: list[Calibration] = field(default_factory=list)
    rows: dict[str, RowResult] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        partial.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Results:
        data = json.loads(path.read_text())
        return cls(
            environment=data["environment"],
            calibration=[Calibration(**each) for each in data["calibration"]],
            rows={name: _row(each) for name, each in data["rows"].items()},
        )


def _row(data: dict[str, Any]) -> RowResult:
    return RowResult(**{**data, "entries": [EntryResult(**entry) for entry in data["entries"]]})
