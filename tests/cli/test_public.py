"""The command line is built on what everybody can use."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import imapipe.cli

MODULES = sorted(Path(imapipe.cli.__file__).parent.glob("*.py"))
PUBLIC = {"imapipe", "imapipe.contrib", "imapipe.contrib.cluster", "imapipe.search", "imapipe.testing"}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.stem))
def test_only_public_names_of_imapipe_are_imported(module: Path) -> None:
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            if name.split(".")[0] == "imapipe":
                assert name in PUBLIC or name.startswith("imapipe.cli")
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "imapipe":
            assert node.attr in imapipe.__all__ or node.attr == "__version__"
