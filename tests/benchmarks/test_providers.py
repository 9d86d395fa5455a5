"""The table of a job on each provider's server is made by a command, and the page has one of it."""

from __future__ import annotations

import asyncio

import pytest
from tests.docs_code import ROOT

from benchmarks.providers import HEAD, Figures, measure, put, table
from imapipe.testing import PROVIDERS

PAGE = ROOT / "docs" / "rate_limits.md"


def test_a_row_of_the_table_is_what_the_job_came_to() -> None:
    figures = asyncio.run(measure("gmail", 300, rate=300))
    assert figures.report.complete
    assert figures.report.done == 300
    assert figures.refused <= 10
    row = table({"gmail": figures}).splitlines()[-1]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == [
        "gmail",
        f"{figures.report.elapsed_seconds:.1f}",
        f"{figures.report.messages_per_second:,.0f}",
        str(figures.refused),
        str(figures.throttled),
        str(figures.report.reconnects),
        "yes",
    ]


def test_the_page_has_the_table_of_every_provider() -> None:
    text = PAGE.read_text(encoding="utf-8")
    made = text.partition("benchmarks.providers -->\n\n")[2].partition("\n\n<!-- end -->")[0]
    head, _, *rows = made.splitlines()
    assert [cell.strip() for cell in head.strip("|").split("|")] == list(HEAD)
    assert [row.split("|")[1].strip() for row in rows] == list(PROVIDERS)
    assert {row.split("|")[-2].strip() for row in rows} == {"yes"}
    assert put(text, made) == text


def test_a_page_without_a_place_for_it_is_refused() -> None:
    with pytest.raises(ValueError, match="no place"):
        put("# A page\n", table({"gmail": Figures(asyncio.run(measure("gmail", 1)).report, 0, 0)}))
