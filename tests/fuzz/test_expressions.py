"""No regular expression goes back over what it took: eight times as much takes eight times as long, whatever it is."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from fuzz import expressions
from fuzz.growth import pumped, superlinear

SIZES = (16, 128, 1024, 8192)
FOUND = expressions.find()


def faults(pattern: re.Pattern[str] | re.Pattern[bytes], way: str, sizes: tuple[int, ...] = SIZES) -> str:
    """What takes more than linear time, as a person wants to read it; "" where nothing does."""
    for parts in expressions.hostile(pattern):
        times = superlinear(partial(expressions.run, pattern, way), partial(pumped, *parts), sizes)
        if times is not None:
            return f"{way} of {parts!r}: {times:.0f} times as long for 8 times as much"
    return ""


def test_every_expression_of_the_package_is_found() -> None:
    """Those of modules, of functions, and of the classes that are written in place."""
    patterns = {str(expression.pattern.pattern) for expression in FOUND}
    assert len(FOUND) > 150
    assert r"\{\d+\+?\}\s*\Z" in patterns
    assert any(expression.place.startswith("imapipe.wire.response.repair:") for expression in FOUND)


@pytest.mark.parametrize("line", ["from re import compile", "import re as regex", "    from re import search"])
def test_no_expression_hides_behind_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    made = ModuleType("imapipe.contrib.new")
    made.__file__ = str(tmp_path / "new.py")
    monkeypatch.setattr(expressions, "every_module", lambda: [made])
    for before in ("from re import Match", "from re import Pattern"):
        (tmp_path / "new.py").write_text(f"{before}\n")
        assert not expressions.find()
    (tmp_path / "new.py").write_text(f"{line}\n")
    with pytest.raises(LookupError, match=r"imapipe\.contrib\.new"):
        expressions.find()


@pytest.mark.no_cover
@pytest.mark.parametrize("expression", FOUND, ids=lambda expression: expression.place)
def test_time_is_linear(expression: expressions.Expression) -> None:
    assert not list(filter(None, (faults(expression.pattern, way) for way in expression.ways)))


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("pattern", "way", "sizes"),
    [
        # Of this one 8,192 bytes take half a second.
        (rb" *(?:(\()|([a-z]+))", "each", (64, 512, 4096)),
        (rb"<[^>]*>", "each", SIZES),
    ],
)
def test_what_goes_back_is_noticed(pattern: bytes, way: str, sizes: tuple[int, ...]) -> None:
    """Expressions that stood in this package. One look may miss it on a busy machine, which slows the small input."""
    compiled = re.compile(pattern)
    assert any(faults(compiled, way, sizes) for _ in range(3))
