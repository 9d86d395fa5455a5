"""The page of the documentation and its charts are what the published figures say."""

from __future__ import annotations

from pathlib import Path

from benchmarks.publish import RESULTS, publish
from benchmarks.results import Results

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_page_and_the_charts_are_made_from_the_figures(tmp_path: Path) -> None:
    publish(Results.load(DOCS / RESULTS), tmp_path)
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    kept = sorted(path.relative_to(DOCS) for path in (DOCS / "benchmarks").iterdir())
    assert made == sorted([Path("benchmarks.md"), *kept])
    for path in made:
        assert (tmp_path / path).read_text() == (DOCS / path).read_text(), path


def test_rows_that_were_not_measured_again_keep_their_figures(tmp_path: Path) -> None:
    publish(Results.load(DOCS / RESULTS), tmp_path)
    new = Results.load(DOCS / RESULTS)
    name, row = new.rows.popitem()
    row.commit = "another"
    new.rows = {name: row}
    publish(new, tmp_path)
    merged = Results.load(tmp_path / RESULTS)
    before = Results.load(DOCS / RESULTS)
    assert list(merged.rows) == list(before.rows)
    assert [each for each in merged.rows if merged.rows[each] != before.rows[each]] == [name]


def test_figures_are_saved_as_they_were_loaded(tmp_path: Path) -> None:
    results = Results.load(DOCS / RESULTS)
    results.save(tmp_path / "results.json")
    assert (tmp_path / "results.json").read_text() == (DOCS / RESULTS).read_text()
    assert Results.load(tmp_path / "results.json") == results
