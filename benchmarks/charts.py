"""Which charts are drawn of which rows."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.results import EntryResult, Results, RowResult
from benchmarks.svg import Bar, Line, bar_chart, line_chart

_UNDRAWN = ("rtt-", "size-", "rate-")


def charts(results: Results) -> Iterator[tuple[str, str]]:
    """Draw every chart for which there are figures: a name and its SVG."""
    for row in results.rows.values():
        if not row.name.startswith(_UNDRAWN) and any(entry.measured for entry in row.entries):
            yield row.name, _bars(row)
    for sweep, title, x_label, per_message in (
        ("rtt", "Headers over a slower network", "round trip in milliseconds", False),
        ("size", "Flags of ever larger mailboxes", "messages", True),
    ):
        rows = sorted((row for name, row in results.rows.items() if name.startswith(f"{sweep}-")), key=_place)
        if len(rows) > 1:
            yield sweep, _lines(title, x_label, rows, per_message=per_message)


def _place(row: RowResult) -> float:
    return row.x or 0.0


def _bars(row: RowResult) -> str:
    bars = []
    first = row.entries[0]
    for entry in row.entries:
        if entry.measured:
            wall = entry.wall
            ratio = f" · {entry.ratio.median:.2f} x" if entry.ratio and entry is not first else ""
            seconds = f"{wall.median:.2f} s" if wall.median >= 0.1 else f"{wall.median * 1e3:.0f} ms"
            bars.append(Bar(entry.label, wall.median, wall.low, wall.high, seconds + ratio, _kind(entry, first)))
    peers = row.entry("imapipe") is not None and not any(entry.options for entry in row.entries)
    if peers:
        bars.sort(key=lambda bar: (bar.kind != "reference", bar.kind != "ours", bar.value))
    network = f", {row.link}" if row.link and "round trip" not in row.title and "MB/s" not in row.title else ""
    reference = "the ceiling" if first.label == "ceiling" else first.label
    subtitle = f"seconds, median of {first.wall.count}; x: times {reference}; the thin line goes from lowest to highest"
    return bar_chart(row.title[:1].upper() + row.title[1:] + network, subtitle, bars)


def _kind(entry: EntryResult, first: EntryResult) -> str:
    return "ours" if entry.label == "imapipe" else "reference" if entry is first else ""


def _lines(title: str, x_label: str, rows: list[RowResult], *, per_message: bool) -> str:
    labels = dict.fromkeys(entry.label for row in rows for entry in row.entries)
    lines = []
    for label in sorted(labels, key=lambda each: (each != "imapipe", each != "ceiling")):
        points = []
        for row in rows:
            entry = row.entry(label)
            if entry is not None:
                wall = entry.wall.median
                points.append((_place(row), wall / row.messages * 1e6 if per_message else wall))
        if points:
            lines.append(Line(label, points))
    unit = "microseconds a message" if per_message else "seconds"
    work = f"{rows[0].messages:,} messages; " if not per_message else ""
    return line_chart(title, f"{work}one connection; medians", x_label, unit, lines)
