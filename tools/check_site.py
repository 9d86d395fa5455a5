"""Looks for every page of the documentation in the built site: `python tools/check_site.py docs docs/_build/html`.

Sphinx writes pages of its own (search, index of names), and would put one of these in the place of a page of the same
name without a word.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path


class _Heading(HTMLParser):
    """Collects the text of the first heading of a page, without the link to itself that themes put there."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self._within: list[str] = []
        self._is_over = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "h1" or self._within:
            self._within.append("" if "headerlink" in (dict(attrs).get("class") or "") else tag)

    def handle_endtag(self, tag: str) -> None:
        if self._within:
            self._within.pop()
            self._is_over = self._is_over or tag == "h1"

    def handle_data(self, data: str) -> None:
        if self._within and "" not in self._within and not self._is_over:
            self.text += data


def problems(docs: Path, site: Path) -> list[str]:
    """What is wrong with the built site; nothing, if every page is in it with its own title."""
    found = []
    for source in sorted(docs.rglob("*.md")):
        name = source.relative_to(docs)
        if name.parts[0] == "_build":
            continue
        wanted = re.search(r"^# (.+)$", source.read_text(encoding="utf-8"), re.MULTILINE)
        page = site / name.with_suffix(".html")
        if wanted is None:
            found.append(f"{name} has no title")
        elif not page.is_file():
            found.append(f"{name} is not in the site")
        else:
            text = page.read_text(encoding="utf-8")
            heading = _Heading()
            heading.feed(text)
            if option := re.search(r"[\s(>]–[a-z][a-z-]+", text):
                found.append(f"{name} shows the option {option[0].strip()!r} with a dash that nobody can type")
            if heading.text.strip() != wanted[1].replace("`", "").strip():
                found.append(f"{name} is called {wanted[1]!r}, and its page in the site {heading.text.strip()!r}")
    return found


def main() -> int:
    """Tell the problems; exit status 1 if there are any."""
    found = problems(*map(Path, sys.argv[1:3]))
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
