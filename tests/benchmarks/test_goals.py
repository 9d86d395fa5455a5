"""The verdicts: met, missed, missed by the ceiling too, not measured."""

from __future__ import annotations

import pytest

from benchmarks.goals import Verdict, verdicts
from benchmarks.results import EntryResult, Results, RowResult
from benchmarks.runs import Runs, summarize
from benchmarks.table import verdict_table

MEBIBYTE = 2**20


def entry(label: str, *walls: float, ceiling: float = 1.0, grown: int = 0, subject: str = "x_peer") -> Runs:
    return Runs(
        result=EntryResult(label=label, subject=subject),
        wall=list(walls),
        beside=[ceiling] * len(walls),
        rounds=list(range(len(walls))),
        cpu=list(walls),
        idle_rss=[10 * MEBIBYTE] * len(walls),
        peak_rss=[10 * MEBIBYTE + grown] * len(walls),
    )


def row(name: str, *entries: Runs, messages: int = 1000, round_trip_ms: float = 0.0, paired: bool = True) -> RowResult:
    summarize(entries, paired=paired, round_trip_ms=round_trip_ms)
    return RowResult(
        name=name,
        title=name,
        work="",
        mailbox="",
        messages=messages,
        received=0,
        link="",
        round_trip_ms=round_trip_ms,
        x=None,
        measured_at="2026-01-01T00:00:00+00:00",
        commit="0",
        quick=False,
        entries=[each.result for each in entries],
    )


def judge(*rows: RowResult) -> dict[tuple[str, str], Verdict]:
    results = Results(environment={}, rows={each.name: each for each in rows})
    return {(each.row, each.goal): each for each in verdicts(results)}


CEILING = entry("ceiling", 1.0, 1.0, 1.0, subject="drain")


def test_only_rows_that_were_measured_are_judged() -> None:
    assert judge() == {}
    assert {name for name, _ in judge(row("large", CEILING))} == {"large"}


@pytest.mark.parametrize(("wall", "met"), [(1.3, True), (1.31, False)])
def test_the_distance_to_the_ceiling_is_the_median_of_the_pairs(wall: float, met: bool) -> None:
    verdict = judge(row("metadata", CEILING, entry("imapipe", 0.1, wall, 9.0)))["metadata", "≤ 1.3 x the ceiling"]
    assert verdict.met is met
    assert verdict.measured.startswith(f"{wall:.2f} x (0.10 … 9.00)")


def test_a_peer_is_compared_with_the_run_of_the_same_round() -> None:
    # Nine times as slow in each round, though the medians of the two say something else.
    ours, peer = entry("imapipe", 1.0, 2.0, 3.0), entry("IMAPClient", 9.0, 18.0, 27.0)
    assert judge(row("metadata", CEILING, ours, peer))["metadata", "≥ 9 x as fast as IMAPClient"].met is True


def test_what_the_ceiling_misses_too_is_told_apart() -> None:
    goal = ("headers", "≥ 4 x as fast as imapflow")
    ours = entry("imapipe", 1.2, 1.2, 1.2)
    near = judge(row("headers", CEILING, ours, entry("imapflow", 3.9, 3.9, 3.9)))[goal]
    far = judge(row("headers", CEILING, ours, entry("imapflow", 4.1, 4.1, 4.1)))[goal]
    assert (near.met, near.out_of_reach) == (False, True)
    assert (far.met, far.out_of_reach) == (False, False)
    table = verdict_table([near, far])
    assert table.count("MISSED") == 2
    assert table.count("MISSED, by the ceiling too") == 1


def test_a_peer_that_is_absent_is_not_measured_and_we_ourselves_have_missed() -> None:
    absent = Runs(result=EntryResult(label="imapflow", subject="imapflow", problem="absent: Node is not installed"))
    broken = Runs(result=EntryResult(label="imapipe", subject="imapipe_subject", problem="the digests differ"))
    goal = ("metadata", "≥ 5 x as fast as imapflow")
    unknown = judge(row("metadata", CEILING, entry("imapipe", 1.0), absent))[goal]
    assert (unknown.met, unknown.measured) == (None, "imapflow: absent: Node is not installed")
    missed = judge(row("metadata", CEILING, broken, absent))["metadata", "≤ 1.3 x the ceiling"]
    assert (missed.met, missed.measured) == (False, "imapipe: the digests differ")


def test_the_fastest_peer_and_the_leanest_one_are_found() -> None:
    ours = entry("imapipe", 1.1, 1.1, 1.1, grown=2 * MEBIBYTE)
    quick, lean = entry("quick", 1.0, 1.0, 1.0, grown=90 * MEBIBYTE), entry("lean", 5.0, 5.0, 5.0, grown=MEBIBYTE)
    assert judge(row("bodies", CEILING, ours, lean))["bodies", "faster than all"].met is True
    beaten = judge(row("bodies", CEILING, ours, lean, quick))["bodies", "faster than all"]
    assert (beaten.met, beaten.measured[:13]) == (False, "next is quick")
    assert judge(row("large", CEILING, ours, quick))["large", "least memory of all"].met is True
    assert judge(row("large", CEILING, ours, quick, lean))["large", "least memory of all"].met is False


@pytest.mark.parametrize(("large", "grown", "met"), [(110.0, 16, (True, True)), (111.0, 17, (False, False))])
def test_growth_is_from_ten_thousand_to_the_largest(large: float, grown: int, met: tuple[bool, bool]) -> None:
    rows = [
        row("size-1000", entry("imapipe", 0.9), messages=1_000),
        row("size-10000", entry("imapipe", 1.0), messages=10_000),
        row("size-1000000", entry("imapipe", large, grown=grown * MEBIBYTE), messages=1_000_000),
    ]
    found = judge(*rows)
    assert found["size-10000", "growth to the largest: time per message ≤ 1.1 x"].met is met[0]
    assert found["size-10000", "growth to the largest: peak memory ≤ +16 MiB"].met is met[1]


@pytest.mark.parametrize(("wall", "met"), [(1.72, True), (1.73, False)])
def test_round_trips_are_allowed_for(wall: float, met: bool) -> None:
    """1.15 x (1 s + 5 x 100 ms) = 1.725 s."""
    found = judge(row("rtt-100", CEILING, entry("imapipe", wall), round_trip_ms=100))
    assert found["rtt-100", "≤ 1.15 x (ceiling + 5 round trips)"].met is met


@pytest.mark.parametrize(("wall", "met"), [(0.25, True), (0.26, False)])
def test_the_import_is_measured_over_a_bare_interpreter(wall: float, met: bool) -> None:
    entries = [entry(label, wall) for label in ("import imapipe", "all that a first job needs")]
    found = judge(row("import", entry("python", 0.1), *entries, paired=False))
    assert [each.met for (name, _), each in found.items() if name == "import"] == [met, met]


@pytest.mark.parametrize(("wall", "met"), [(3.0, True), (3.2, False)])
def test_a_step_of_a_sweep_is_compared_with_its_reference_in_the_same_round(wall: float, met: bool) -> None:
    one, four = entry("1 connection", 12.0, 24.0, 9.0), entry("4 connections", wall, 2 * wall, 9.0)
    judged = judge(row("connections", one, four, paired=False))
    verdict = judged["connections", "4 connections: ≥ 3.8 x as fast as 1 connection"]
    assert verdict.met is met
    assert verdict.measured == f"{12 / wall:.2f} x (1.00 … {12 / wall:.2f})"


@pytest.mark.parametrize(("wall", "met"), [(5.0, True), (5.7, False)])
def test_text_on_a_line_is_judged_by_its_bytes(wall: float, met: bool) -> None:
    full, text = entry("full", 10.0), entry("text", wall, ceiling=10.0)
    full.result.notes, text.result.notes = {"wire_bytes": 126e6}, {"wire_bytes": 60e6}
    verdict = judge(row("text-link", full, text))["text-link", "text: ≥ 0.9 x what its bytes allow"]
    assert verdict.met is met
    assert verdict.measured.endswith("2.10 x fewer bytes")
