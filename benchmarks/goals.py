"""The goals, and what was measured against them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from benchmarks.results import EntryResult, Results, RowResult
from benchmarks.runs import ROUND_TRIPS_ALLOWED
from benchmarks.statistic import Spread
from benchmarks.sweeps import FIRST_JOB, RATES
from benchmarks.works import AIOIMAPLIB, AIOIMAPLIB_BEST

_MEBIBYTE: Final = 2**20
_PACE: Final = 0.9
_FLOODED: Final = 64
_AIOIMAPLIB: Final = (AIOIMAPLIB.label, AIOIMAPLIB_BEST.label)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One goal and what became of it.

    Attributes:
        row: Which row it is about.
        goal: The goal in words.
        measured: What was measured, in words.
        met: Whether it is met; None when it could not be measured.
        out_of_reach: No client could meet it on this machine: the ceiling itself does not.
    """

    row: str
    goal: str
    measured: str
    met: bool | None
    out_of_reach: bool = False


@dataclass(frozen=True, slots=True)
class _Goal:
    row: str
    text: str
    measure: Callable[[RowResult, Results], tuple[str, bool | None]]
    # Of a peer, and how many times as fast as it: what the ceiling can be asked, too.
    rival: tuple[str, float] | None = None
    # Whether what is to be carried can be carried so fast at all.
    is_possible: Callable[[RowResult], bool] | None = None

    def is_out_of_reach(self, row: RowResult) -> bool:
        if self.is_possible is not None:
            return not self.is_possible(row)
        if self.rival is None:
            return False
        label, least = self.rival
        peer = row.entry(label)
        return peer is not None and peer.ratio.median < least


def verdicts(results: Results) -> Iterator[Verdict]:
    """Judge every goal whose row was measured."""
    for goal in _goals():
        row = results.rows.get(goal.row)
        if row is not None:
            measured, met = goal.measure(row, results)
            yield Verdict(goal.row, goal.text, measured, met, met is False and goal.is_out_of_reach(row))


def _goals() -> Iterator[_Goal]:
    yield _ceiling("metadata", 1.3)
    yield _faster("metadata", "IMAPClient", 9)
    for peer in ("imap_tools", "imapflow", *_AIOIMAPLIB):
        yield _faster("metadata", peer, 5)
    yield _ceiling("fields", 3.5)
    yield _faster("fields", "IMAPClient", 4)
    yield _ceiling("headers", 1.2)
    for peer in ("IMAPClient", "imap_tools", *_AIOIMAPLIB, "imapflow"):
        yield _faster("headers", peer, 4)
    yield _ceiling("bodies", 1.25)
    yield _faster("bodies", "IMAPClient", 5)
    yield _Goal("bodies", "faster than all", _fastest)
    yield _memory("bodies", 40)
    for kind, times in (("small", 2.5), ("mixed", 4)):
        yield _text(kind)
        for row in (f"text-{kind}", f"text-{kind}-tls"):
            yield _faster(row, "imap_tools", times)
        yield _faster(f"text-{kind}", "imaplib + fast-mail-parser", 1)
    yield _at_least("text-link", "plain text", "full", 4)
    yield _as_its_bytes_allow("text-link", "text", "full", 4)
    yield _Goal("text-link", f"text: ≥ {_PACE:g} x what its bytes allow", _pace_of_line)
    yield _faster("maildir", "mbsync, durable", 3)
    yield _memory("maildir", 64)
    for peer, times in (("IMAPClient", 1), ("imap_tools", 1), ("mbsync", 1), ("imapsync", 5)):
        yield _slower("copy", peer, times)
    for row in ("set-flags", "moves", "on-done"):
        for peer in ("IMAPClient", "imap_tools"):
            yield _slower(row, peer, 1)
    for peer in ("imap_tools", "imaplib"):
        yield _slower("append", peer, 5)
    for face in ("FastAPI", "aiohttp"):
        yield _at_least("listeners", f"{face}, 50 listen", "nobody listens", 0.9)
    yield _at_most("tables", "JSON Lines", "imapipe", 1.5)
    yield _at_most("tables", "Parquet", "imapipe", 2)
    yield _ceiling("large", 1.8)
    yield _memory("large", 24)
    yield _Goal("large", "least memory of all", _leanest)
    yield _Goal("rtt-100", f"≤ 1.15 x (ceiling + {ROUND_TRIPS_ALLOWED} round trips)", _near_ceiling)
    for peer in ("IMAPClient", "IMAPClient, by 100", "imaplib", "imap_tools", "aioimaplib"):
        yield _faster("rtt-100", peer, 10)
    yield _at_least("connections", "4 connections", "1 connection", 3.8)
    yield from _growth()
    for label in ("import imapipe", FIRST_JOB):
        yield _Goal("import", f"{label}: ≤ 150 ms over a bare interpreter", functools.partial(_import, label))
    for row in ("metadata", "bodies", "remote"):
        for store in ("SQLite", "PostgreSQL"):
            yield _at_most(f"stores-{row}", store, "JSON", 1.15)
    yield _at_least("processes", "2 workers", "1 worker", 1.4)
    for kind, rate in RATES:
        yield _Goal(f"rate-{kind}", f"within 5 % of {rate:,} a second", _rate)
    yield _Goal("hostile", f"peak memory ≤ idle + {_FLOODED} MiB at every flood", _flooded)


def _ceiling(row: str, most: float) -> _Goal:
    def judge(result: RowResult, _: Results) -> tuple[str, bool | None]:
        ours = result.entry("imapipe")
        if ours is None:
            return _problem(result, "imapipe")
        return f"{_times(ours.ratio)}", ours.ratio.median <= most

    return _Goal(row, f"≤ {most:g} x the ceiling", judge)


def _faster(row: str, peer: str, least: float) -> _Goal:
    def judge(result: RowResult, _: Results) -> tuple[str, bool | None]:
        rival = result.entry(peer)
        if rival is None or not rival.of_imapipe:
            return _problem(result, "imapipe", peer)
        times = rival.of_imapipe
        return f"{_times(times)}; the ceiling: {rival.ratio.median:.2f} x", times.median >= least

    return _Goal(row, f"≥ {least:g} x as fast as {peer}", judge, (peer, least))


def _text(kind: str) -> _Goal:
    """The goal about what text costs beside the bytes that it is in."""
    bodies = "bodies-small" if kind == "small" else "bodies"

    def judge(result: RowResult, results: Results) -> tuple[str, bool | None]:
        text = result.entry("imapipe")
        beside = results.rows.get(bodies)
        bytes_only = beside.entry("imapipe") if beside is not None else None
        if text is None or bytes_only is None:
            return f"needs the row {bodies} too", None
        times = text.wall.median / bytes_only.wall.median
        each = (text.wall.median - bytes_only.wall.median) / result.messages * 1e6
        return f"{times:.2f} x, {each:.1f} µs a message more", times <= 3

    return _Goal(f"text-{kind}", "≤ 3 x the bodies as bytes", judge)


def _at_least(row: str, label: str, base: str, least: float) -> _Goal:
    """An entry against the reference of its row, `base`."""

    def judge(result: RowResult, _: Results) -> tuple[str, bool | None]:
        entry = result.entry(label)
        if entry is None or not entry.ratio:
            return _problem(result, label, base)
        times = entry.ratio.inverse()
        return _times(times), times.median >= least

    return _Goal(row, f"{label}: ≥ {least:g} x as fast as {base}", judge)


def _at_most(row: str, label: str, base: str, most: float) -> _Goal:
    """What an entry may take of the time of its row's reference, `base`."""

    def judge(result: RowResult, _: Results) -> tuple[str, bool | None]:
        entry = result.entry(label)
        if entry is None or not entry.ratio:
            return _problem(result, label, base)
        return _times(entry.ratio), entry.ratio.median <= most

    return _Goal(row, f"{label}: ≤ {most:g} x the time of {base}", judge)


def _slower(row: str, label: str, most: float) -> _Goal:
    """An entry that is to take longer than the reference of its row, which is imapipe."""

    def judge(result: RowResult, _: Results) -> tuple[str, bool | None]:
        entry = result.entry(label)
        if entry is None or not entry.ratio:
            return _problem(result, label, "imapipe")
        return _times(entry.ratio), entry.ratio.median >= most

    return _Goal(row, f"≥ {most:g} x as fast as {label}", judge)


def _as_its_bytes_allow(row: str, label: str, base: str, least: float) -> _Goal:
    """A goal for an entry on a line, which is out of reach where it has to carry too much of what `base` carries."""
    goal = _at_least(row, label, base, least)

    def is_possible(result: RowResult) -> bool:
        entry, reference = result.entry(label), result.entry(base)
        if entry is None or reference is None:
            return True
        return reference.notes["wire_bytes"] / entry.notes["wire_bytes"] >= least

    return _Goal(row, goal.text, goal.measure, is_possible=is_possible)


def _pace_of_line(result: RowResult, _: Results) -> tuple[str, bool | None]:
    """Text on a line against all of the messages: as much faster as it is less."""
    text, full = result.entry("text"), result.entry("full")
    if text is None or full is None or not text.ratio:
        return _problem(result, "text", "full")
    allowed = full.notes["wire_bytes"] / text.notes["wire_bytes"]
    times = text.ratio.inverse()
    return f"{_times(times)}, {allowed:.2f} x fewer bytes", times.median >= _PACE * allowed


def _memory(row: str, mebibytes: int) -> _Goal:
    def judge(result: RowResult, _: Results) -> tuple[str, bool | None]:
        ours = result.entry("imapipe")
        if ours is None:
            return _problem(result, "imapipe")
        return f"idle + {ours.growth.median / _MEBIBYTE:.1f} MiB", ours.growth.median <= mebibytes * _MEBIBYTE

    return _Goal(row, f"peak memory ≤ idle + {mebibytes} MiB", judge)


def _flooded(result: RowResult, _: Results) -> tuple[str, bool | None]:
    growths = {entry.label: entry.growth.median / _MEBIBYTE for entry in result.entries if not entry.problem}
    if len(growths) < len(result.entries):
        return "not all were measured", None
    most = max(growths, key=lambda label: growths[label])
    return f"{most}: idle + {growths[most]:.1f} MiB", growths[most] <= _FLOODED


def _fastest(result: RowResult, _: Results) -> tuple[str, bool | None]:
    times = {entry.label: entry.of_imapipe for entry in _peers(result) if entry.of_imapipe}
    if not times:
        return _problem(result, "imapipe")
    label = min(times, key=lambda each: times[each].median)
    return f"next is {label}: {_times(times[label])}", times[label].median >= 1


def _leanest(result: RowResult, _: Results) -> tuple[str, bool | None]:
    ours = result.entry("imapipe")
    # mbsync is no library: it has no idle process to compare with.
    rivals = [entry for entry in _peers(result) if entry.idle_rss.low]
    if ours is None or not rivals:
        return _problem(result, "imapipe")
    # What the work adds to the process: the interpreters themselves differ by more.
    least = min(rivals, key=lambda entry: entry.growth.median)
    grown = [entry.growth.median / _MEBIBYTE for entry in (ours, least)]
    text = f"+{grown[0]:.1f} MiB; next is {least.label}: +{grown[1]:.1f} MiB"
    return text, ours.growth.median <= least.growth.median


def _peers(result: RowResult) -> list[EntryResult]:
    return [entry for entry in result.entries if entry.measured and entry.label not in {"ceiling", "imapipe"}]


def _near_ceiling(result: RowResult, _: Results) -> tuple[str, bool | None]:
    ours = result.entry("imapipe")
    if ours is None:
        return _problem(result, "imapipe")
    return _times(ours.of_allowance), ours.of_allowance.median <= 1.15


def _growth() -> Iterator[_Goal]:
    """The goals about the largest mailbox that was measured, against that of ten thousand messages."""

    def pair(result: RowResult, results: Results) -> tuple[EntryResult, EntryResult, RowResult, RowResult] | None:
        sizes = [row for name, row in results.rows.items() if name.startswith("size-") and row.entry("imapipe")]
        largest = max(sizes, key=lambda row: row.messages, default=None)
        small = result.entry("imapipe")
        large = largest.entry("imapipe") if largest is not None else None
        if small is None or large is None or largest is None or largest is result:
            return None
        return small, large, result, largest

    def judge_time(result: RowResult, results: Results) -> tuple[str, bool | None]:
        found = pair(result, results)
        if found is None:
            return "no larger mailbox was measured", None
        small, large, of_small, of_large = found
        each = [entry.wall.median / row.messages for entry, row in ((small, of_small), (large, of_large))]
        text = (
            f"{each[1] / each[0]:.2f} x ({each[0] * 1e6:.1f} → {each[1] * 1e6:.1f} µs, {of_large.messages:,} messages)"
        )
        return text, each[1] <= 1.1 * each[0]

    def judge_memory(result: RowResult, results: Results) -> tuple[str, bool | None]:
        found = pair(result, results)
        if found is None:
            return "no larger mailbox was measured", None
        small, large, _, of_large = found
        more = large.peak_rss.median - small.peak_rss.median
        return f"{more / _MEBIBYTE:+.1f} MiB ({of_large.messages:,} messages)", more <= 16 * _MEBIBYTE

    yield _Goal("size-10000", "growth to the largest: time per message ≤ 1.1 x", judge_time)
    yield _Goal("size-10000", "growth to the largest: peak memory ≤ +16 MiB", judge_memory)


def _import(label: str, result: RowResult, _: Results) -> tuple[str, bool | None]:
    ours = result.entry(label)
    if ours is None or not ours.more:
        return _problem(result, label, "python")
    more = ours.more
    return f"{more.median * 1e3:.0f} ms ({more.low * 1e3:.0f} … {more.high * 1e3:.0f})", more.median <= 0.150


def _rate(result: RowResult, _: Results) -> tuple[str, bool | None]:
    parts, met = [], True
    for entry in result.entries:
        if not entry.measured:
            return _problem(result, entry.label)
        share = entry.notes["rate"] / entry.notes["asked"]
        parts.append(f"{entry.label}: {share:.1%}")
        met = met and abs(share - 1) <= 0.05
    return ", ".join(parts), met


def _times(times: Spread) -> str:
    return f"{times.median:.2f} x ({times.low:.2f} … {times.high:.2f})"


def _problem(result: RowResult, *labels: str) -> tuple[str, bool | None]:
    """Why a goal could not be judged; it counts as missed when that is our own doing."""
    for entry in result.entries:
        if entry.label in labels and not entry.measured:
            ours = entry.subject.startswith(("imapipe", "import", "processes", "rate", "service"))
            return f"{entry.label}: {entry.problem or 'not measured'}", False if ours else None
    return "not measured", None
