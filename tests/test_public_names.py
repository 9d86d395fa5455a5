"""The public door: every name is there, comes from where type checkers think, and costs nothing until it is used."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import imapipe
from imapipe import middleware


def _typed_homes() -> dict[str, str]:
    """Where the imports for type checkers say that each name lives."""
    source = Path(imapipe.__file__).read_text(encoding="utf-8")
    blocks = [node for node in ast.parse(source).body if isinstance(node, ast.If)]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module or "" for node in imports for alias in node.names}


@pytest.mark.parametrize("name", imapipe.__all__)
def test_a_public_name_is_what_its_home_has(name: str) -> None:
    home = importlib.import_module(_typed_homes()[name])
    assert getattr(imapipe, name) is getattr(home, name)


def test_type_checkers_know_the_same_names() -> None:
    assert sorted(_typed_homes()) == sorted(imapipe.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = imapipe.no_such_name  # type: ignore[attr-defined]


def test_names_are_told_before_they_are_imported() -> None:
    assert set(imapipe.__all__) <= set(dir(imapipe))


def test_the_layers_of_middleware_come_when_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AccountNotes", "CheckpointLayer", "MetricsLayer", "RetryLayer"):
        monkeypatch.delitem(vars(middleware), name, raising=False)
        assert getattr(middleware, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'NoLayer'"):
        _ = middleware.NoLayer  # type: ignore[attr-defined]


def test_importing_the_package_imports_nothing_else_of_it() -> None:
    code = "import sys, imapipe; print(sorted(m for m in sys.modules if m.startswith('imapipe.') or m == 'asyncio'))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout.strip() == "[]"
