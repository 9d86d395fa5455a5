"""The list of modules in the documentation is that of the source."""

from __future__ import annotations

from pathlib import Path

import module_list


def test_every_module_has_its_line() -> None:
    page = Path(__file__).parents[1] / "docs" / "modules.md"
    assert page.read_text(encoding="utf-8") == module_list.module_list(), (
        "docs/modules.md is out of date: python tools/module_list.py > docs/modules.md"
    )


def test_every_module_says_what_it_is() -> None:
    silent = [path for path in module_list.SOURCE.rglob("*.py") if not module_list.first_paragraph(path)]
    assert silent == []
