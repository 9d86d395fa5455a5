"""The page of the documentation: figures, tables and charts from the results."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from benchmarks.charts import charts
from benchmarks.goals import verdicts
from benchmarks.results import Results, RowResult
from benchmarks.table import markdown, row_table, verdict_table

RESULTS: Final = "benchmarks/results.json"
_WORKS: Final = ("metadata", "fields", "headers", "bodies", "large", "flags", "search")
_TEMPLATE: Final = Path(__file__).with_name("page.md")


def publish(new: Results, docs: Path) -> None:
    """Put results into the documentation; rows that were not measured this time keep their older figures."""
    path = docs / RESULTS
    results = new
    if path.exists():
        results = Results.load(path)
        results.environment = new.environment
        results.calibration = list({each.link: each for each in (*results.calibration, *new.calibration)}.values())
        results.rows |= new.rows
    results.save(path)
    drawn = dict(charts(results))
    for name, text in drawn.items():
        (path.parent / f"{name}.svg").write_text(text)
    (docs / "benchmarks.md").write_text(_page(results, drawn))


def _page(results: Results, drawn: dict[str, str]) -> str:
    rows = results.rows
    works = [rows[name] for name in _WORKS if name in rows]
    others = [row for name, row in rows.items() if name not in _WORKS]
    configuration = results.environment["dovecot configuration"]
    environment = {name: value for name, value in results.environment.items() if value != configuration}
    return (
        _TEMPLATE.read_text()
        .replace("@GOALS@", verdict_table(verdicts(results)))
        .replace("@WORKS@", "\n".join(_section(row, drawn) for row in works))
        .replace("@SWEEPS@", _sweeps(others, drawn))
        .replace("@ENVIRONMENT@", markdown(("", ""), environment.items(), numbers=False))
        .replace("@CALIBRATION@", _calibration(results))
        .replace("@CONFIGURATION@", configuration)
    )


def _section(row: RowResult, drawn: dict[str, str]) -> str:
    chart = f"![{row.title}](benchmarks/{row.name}.svg)\n\n" if row.name in drawn else ""
    link = f" over {row.link}" if row.link else ""
    title = row.title[:1].upper() + row.title[1:]
    where = f"`{row.name}`{link}, {row.measured_at[:10]}, commit `{row.commit}`"
    return f"### {title}\n\n{where}\n\n{chart}{row_table(row)}\n"


def _sweeps(rows: list[RowResult], drawn: dict[str, str]) -> str:
    parts = []
    shown = set[str]()
    for row in rows:
        sweep = row.name.partition("-")[0]
        if sweep in drawn and sweep not in shown and row.name != sweep:
            parts.append(f"![{sweep}](benchmarks/{sweep}.svg)\n")
            shown.add(sweep)
        parts.append(_section(row, drawn))
    return "\n".join(parts)


def _calibration(results: Results) -> str:
    rows = [
        (each.link, f"{each.round_trip_ms:.1f}", f"{each.worst_round_trip_ms:.1f}", f"{each.megabytes_per_second:,.2f}")
        for each in results.calibration
    ]
    return (
        markdown(("asked for", "round trip, ms", "worst of 21, ms", "MB/s"), rows) if rows else "No row used the proxy."
    )
