"""Results: what was measured, as values and as JSON.

Of the single runs only medians and their spreads are kept; `benchmarks.runs` computes them.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.calibration import Calibration
from benchmarks.statistic import NO_SPREAD, Spread

_DIGITS: Final = 8
"""Significant digits in the JSON: more than any run repeats, and enough that no figure of the page is rounded twice."""


@dataclass(slots=True, kw_only=True)
class EntryResult:
    """What one entry did in one row. A spread over no run at all means that there is nothing to compare.

    Attributes:
        label: Its name in the row.
        subject: What ran.
        batch: Messages asked for at once; 0 is all.
        connections: Connections used.
        options: Of the subject.
        version: Of the client.
        problem: Why it has no figures, or "".
        wall: Seconds of a run.
        ratio: How many times as long as the run of the reference beside it.
        more: Seconds beyond those of the reference in the same round; not in paired rows.
        of_imapipe: How many times as long as imapipe in the same round.
        of_allowance: Seconds divided by those of the reference beside it and the round trips allowed.
        cpu: Processor seconds of a run.
        idle_rss: Resident bytes before a run.
        peak_rss: The most resident bytes in a run.
        growth: Bytes from the one to the other.
        notes: The subject's own, of the last run.
    """

    label: str
    subject: str
    batch: int = 0
    connections: int = 1
    options: dict[str, str] = field(default_factory=dict)
    version: str = ""
    problem: str = ""
    wall: Spread = NO_SPREAD
    ratio: Spread = NO_SPREAD
    more: Spread = NO_SPREAD
    of_imapipe: Spread = NO_SPREAD
    of_allowance: Spread = NO_SPREAD
    cpu: Spread = NO_SPREAD
    idle_rss: Spread = NO_SPREAD
    peak_rss: Spread = NO_SPREAD
    growth: Spread = NO_SPREAD
    notes: dict[str, float] = field(default_factory=dict)

    @property
    def measured(self) -> bool:
        return bool(self.wall) and not self.problem


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


@dataclass(slots=True, kw_only=True)
class Results:
    """All that was measured."""

    environment: dict[str, str]
    calibration: list[Calibration] = field(default_factory=list)
    rows: dict[str, RowResult] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        data = asdict(self)
        for row in data["rows"].values():
            row["entries"] = [_plain(entry) for entry in row["entries"]]
        partial.write_text(_on_one_line(json.dumps(data, indent=1, ensure_ascii=False)) + "\n")
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Results:
        data = json.loads(path.read_text())
        return cls(
            environment=data["environment"],
            calibration=[Calibration(**each) for each in data["calibration"]],
            rows={name: _row(each) for name, each in data["rows"].items()},
        )


def _plain(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry for the JSON: spreads as lists of numbers, and nothing that is empty."""
    found = {}
    for name, value in entry.items():
        if isinstance(value, dict) and "median" in value:
            if value["count"]:
                found[name] = [_rounded(number) for number in value.values()]
        elif value not in ("", {}):
            found[name] = value
    return found


def _rounded(number: float) -> float:
    rounded = float(f"{number:.{_DIGITS}g}")
    return int(rounded) if rounded.is_integer() else rounded


def _on_one_line(text: str) -> str:
    """Put lists of numbers on one line each."""
    return re.sub(r"\[\s+([\d\s.,e+-]+?)\s+\]", lambda found: f"[{' '.join(found[1].split())}]", text)


def _row(data: dict[str, Any]) -> RowResult:
    return RowResult(**{**data, "entries": [_entry(entry) for entry in data["entries"]]})


def _entry(data: dict[str, Any]) -> EntryResult:
    spreads: dict[str, Any] = {name: _spread(each) for name, each in data.items() if isinstance(each, list)}
    return EntryResult(**{**data, **spreads})


def _spread(numbers: list[float]) -> Spread:
    median, low_quartile, high_quartile, low, high, count = numbers
    return Spread(median, low_quartile, high_quartile, low, high, round(count))
