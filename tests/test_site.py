"""The check of the built documentation sees what is missing and what was overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from check_site import problems


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    docs, site = tmp_path / "docs", tmp_path / "docs" / "_build" / "html"
    for name, title in (("index", "Welcome"), ("more/search", "Search *and* `find`")):
        source, page = docs / f"{name}.md", site / f"{name}.html"
        source.parent.mkdir(parents=True, exist_ok=True)
        page.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(f"# {title.replace('*', '')}\n\n# Not this\n")
        shown = title.replace("*and*", "and").replace("`find`", "<code><span>find</span></code>")
        link = '<a class="headerlink" href="#top">¶</a>'
        page.write_text(f"<h2>Before</h2><section><h1>{shown}{link}</h1><p>text</p><h1>Later</h1></section>")
    (site / "leftover.md").write_text("no title")
    return docs, site


def test_a_whole_site_has_no_problems(folders: tuple[Path, Path]) -> None:
    assert problems(*folders) == []


def test_a_page_that_was_overwritten_is_seen(folders: tuple[Path, Path]) -> None:
    (folders[1] / "more" / "search.html").write_text("<h1>Search</h1>")
    assert problems(*folders) == ["more/search.md is called 'Search and `find`', and its page in the site 'Search'"]


def test_an_option_that_became_typography_is_seen(folders: tuple[Path, Path]) -> None:
    (folders[1] / "index.html").write_text("<h1>Welcome</h1><p>name a file with –password-file, or 1 – 2</p>")
    assert problems(*folders) == ["index.md shows the option '–password-file' with a dash that nobody can type"]


def test_a_page_that_is_missing_is_seen(folders: tuple[Path, Path]) -> None:
    (folders[1] / "index.html").unlink()
    (folders[0] / "more" / "search.md").write_text("no heading\n")
    assert problems(*folders) == ["index.md is not in the site", "more/search.md has no title"]
