"""Measuring a row: a run of each entry that is checked against what was stored, then rounds of timed runs.

In each round the entries come in a new random order. In a paired row each entry has a run of the reference right
before or right after it, by chance; in other rows the reference is one of the entries. So what the machine does
besides hits both sides alike, and a ratio compares neighbours.
"""

from __future__ import annotations

import contextlib
import datetime
import random
from collections.abc import Iterator
from typing import Final

from benchmarks.calibration import proxy
from benchmarks.job import Outcome
from benchmarks.results import EntryResult, RowResult
from benchmarks.row import Entry, Row
from benchmarks.runner import Runner, SubjectFailed
from benchmarks.runs import Runs, summarize
from benchmarks.tally import Expected

SLOW_SECONDS: Final = 20.0
"""An entry whose first run took longer is timed in the first three rounds only."""

_SLOW_ROUNDS: Final = 3
_GREETING_BYTES: Final = 1000  # what the session's own texts may differ by


def measure(
    row: Row, runner: Runner, expected: Expected | None, *, port: int, rounds: int, quick: bool, commit: str
) -> RowResult:
    """Measure a row.

    Args:
        row: What to measure.
        runner: Runs the entries.
        expected: What every entry must have read.
        port: The server's.
        rounds: How many rounds.
        quick: Whether this is a smaller work than usual.
        commit: The code that is measured.
    """
    with _reach(port, row) as reached:
        runs = {entry.label: Runs(result=_new_result(entry)) for entry in row.entries}
        received, slow = 0, set[str]()
        for entry in row.entries:
            result = runs[entry.label].result
            try:
                outcome = runner.run(row, entry, expected, port=reached, verify=True)
            except SubjectFailed as failure:
                result.problem = str(failure)
                continue
            result.version, result.notes = outcome.version, outcome.notes
            if entry.subject == "drain":
                received = max(received, int(outcome.notes["received"]))
            if outcome.wall_seconds > SLOW_SECONDS and entry != row.reference:
                slow.add(entry.label)
        order = random.Random(row.name)
        for number in range(min(rounds, row.rounds or rounds)):
            for unit in _units(row, order):
                if number >= _SLOW_ROUNDS and any(entry.label in slow for entry in unit):
                    continue
                _run_unit(row, unit, runner, expected, reached, number, runs)
    round_trip_ms = row.link.round_trip_ms if row.link else 0.0
    summarize(list(runs.values()), paired=row.paired, round_trip_ms=round_trip_ms)
    return RowResult(
        name=row.name,
        title=row.title,
        work=row.work,
        mailbox=f"{row.mailbox.count:,} {row.mailbox.kind}" if row.mailbox else "",
        messages=(expected.count if expected else 0) * row.searches,
        received=received,
        link=row.link.label if row.link else "",
        round_trip_ms=round_trip_ms,
        x=row.x,
        measured_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        commit=commit,
        quick=quick,
        entries=[each.result for each in runs.values()],
    )


@contextlib.contextmanager
def _reach(port: int, row: Row) -> Iterator[int]:
    """The port that a row's entries connect to."""
    if row.link is None:
        yield port
    else:
        with proxy(port, row.link) as through:
            yield through


def _new_result(entry: Entry) -> EntryResult:
    return EntryResult(
        label=entry.label,
        subject=entry.subject,
        batch=entry.batch,
        connections=entry.connections,
        options=entry.options,
    )


def _units(row: Row, order: random.Random) -> list[list[Entry]]:
    """What runs together in one round, in this round's order."""
    if not row.paired:
        return [[entry] for entry in order.sample(row.entries, len(row.entries))]
    units = [order.sample([row.reference, entry], 2) for entry in row.entries[1:]]
    return order.sample(units, len(units))


def _run_unit(
    row: Row,
    unit: list[Entry],
    runner: Runner,
    expected: Expected | None,
    port: int,
    number: int,
    runs: dict[str, Runs],
) -> None:
    if any(runs[entry.label].result.problem for entry in unit):
        return
    outcomes: dict[str, Outcome] = {}
    for entry in unit:
        try:
            outcome = runner.run(row, entry, expected, port=port, verify=False)
            _check_received(row, entry, runs[entry.label].result, outcome)
            outcomes[entry.label] = outcome
        except SubjectFailed as failure:
            runs[entry.label].result.problem = f"in round {number + 1}: {failure}"
            return
    for label, outcome in outcomes.items():
        entry_runs = runs[label]
        entry_runs.wall.append(outcome.wall_seconds)
        entry_runs.cpu.append(outcome.cpu_seconds)
        entry_runs.idle_rss.append(outcome.idle_rss)
        entry_runs.peak_rss.append(outcome.peak_rss)
        entry_runs.rounds.append(number)
        entry_runs.result.notes = outcome.notes
        if row.paired:
            entry_runs.beside.append(outcomes[row.reference.label].wall_seconds)


def _check_received(row: Row, entry: Entry, result: EntryResult, outcome: Outcome) -> None:
    """The ceiling reads nothing, but it must receive as much as in the run in which it counted responses."""
    if entry.subject == "drain" and row.work != "search":
        missing = result.notes["received"] - outcome.notes["received"]
        if abs(missing) > _GREETING_BYTES:
            raise SubjectFailed(f"received {missing:,.0f} bytes less than in its first run")
