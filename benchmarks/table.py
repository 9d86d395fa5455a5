"""Results as Markdown tables, for the terminal and for the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from benchmarks.calibration import Calibration
from benchmarks.goals import Verdict
from benchmarks.results import EntryResult, RowResult

_MEBIBYTE: Final = 2**20
_NOTHING: Final = "–"


def row_table(row: RowResult) -> str:
    """The table of one row: an entry on each line, those without figures at the end, with the reason."""
    with_ceiling = row.entries[0].label == "ceiling"
    per_message = row.messages > 0
    head = ["", "seconds", "lowest … highest"]
    head += ["messages/s", "MB/s", "CPU s per 10,000"] if per_message else ["CPU s"]
    head += ["peak MiB", "over idle", "of the ceiling" if with_ceiling else f"x {row.entries[0].label}"]
    head += ["x imapipe"] if _compares_with_imapipe(row) else []
    head += ["runs", *(title for title, _ in _noted(row))]
    measured = [entry for entry in row.entries if entry.measured]
    parts = [markdown(head, [_cells(row, entry, with_ceiling=with_ceiling) for entry in measured])] if measured else []
    parts += [f"{_name(entry)}: {entry.problem or 'not measured'}." for entry in row.entries if not entry.measured]
    return "\n\n".join(parts)


def _cells(row: RowResult, entry: EntryResult, *, with_ceiling: bool) -> list[str]:
    wall, cpu = entry.wall, entry.cpu.median
    cells = [_name(entry), f"{wall.median:.3f}", f"{wall.low:.3f} … {wall.high:.3f}"]
    if row.messages:
        megabytes = f"{row.received / wall.median / 1e6:.1f}" if row.received else _NOTHING
        cells += [f"{row.messages / wall.median:,.0f}", megabytes, f"{cpu / row.messages * 10_000:.3f}"]
    else:
        cells += [f"{cpu:.3f}"]
    growth = f"{entry.growth.median / _MEBIBYTE:+.0f}" if entry.idle_rss.low else _NOTHING
    cells += [f"{entry.peak_rss.median / _MEBIBYTE:.0f}", growth]
    if entry.ratio:
        cells += [f"{100 / entry.ratio.median:.0f} %" if with_ceiling else f"{entry.ratio.median:.2f}"]
    else:
        cells += ["100 %" if with_ceiling else "1.00"]
    if _compares_with_imapipe(row):
        cells += [f"{entry.of_imapipe.median:.2f}" if entry.of_imapipe else _NOTHING]
    cells += [str(wall.count)]
    return [*cells, *(f"{entry.notes[name]:,.0f}" if name in entry.notes else _NOTHING for _, name in _noted(row))]


def _compares_with_imapipe(row: RowResult) -> bool:
    """Whether there is a column for it: where imapipe is what all are compared with, there is one already."""
    return row.entry("imapipe") is not None and row.entries[0].label != "imapipe"


def _noted(row: RowResult) -> Sequence[tuple[str, str]]:
    """What a row has of its own: titles of columns, and the names of notes."""
    if row.name.startswith("rate-"):
        return (("asked for", "asked"), ("measured", "rate"))
    if row.name.startswith("stores-"):
        # Of the database, for a million messages.
        return (("transactions", "transactions"), ("rows written", "rows"))
    return (("p50 ms", "p50_ms"), ("p95 ms", "p95_ms")) if row.name == "follow" else ()


def _name(entry: EntryResult) -> str:
    version = entry.version if entry.subject.endswith("_peer") or entry.subject == "imapflow" else ""
    return f"{entry.label} {version}".rstrip()


def calibration_text(found: Calibration) -> str:
    return (
        f"proxy, {found.link}: measured {found.round_trip_ms:.1f} ms, at worst {found.worst_round_trip_ms:.1f} ms, "
        f"{found.megabytes_per_second:,.2f} MB/s"
    )


def verdict_table(verdicts: Iterable[Verdict]) -> str:
    """Goals beside what was measured."""
    rows = [(each.row, each.goal, each.measured, _word(each)) for each in verdicts]
    return markdown(("row", "goal", "measured: median (lowest … highest)", "verdict"), rows, numbers=False)


def _word(verdict: Verdict) -> str:
    if verdict.out_of_reach:
        return "MISSED, by the ceiling too"
    return {True: "met", False: "MISSED", None: "not measured"}[verdict.met]


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = True) -> str:
    """A Markdown table with its columns lined up: the first one to the left, the others to the right if numbers."""
    body = [list(row) for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(head, *body, strict=True)]
    rights = [numbers and column > 0 for column in range(len(head))]
    rule = "|".join("-" * (width + 1) + ("-:"[right]) for width, right in zip(widths, rights, strict=True))
    return "\n".join([_line(head, widths, rights), f"|{rule}|", *(_line(row, widths, rights) for row in body)])


def _line(cells: Sequence[str], widths: Sequence[int], rights: Sequence[bool]) -> str:
    columns = zip(cells, widths, rights, strict=True)
    padded = (cell.rjust(width) if right else cell.ljust(width) for cell, width, right in columns)
    return f"| {' | '.join(padded)} |"
