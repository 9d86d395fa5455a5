"""What is an extra says how it is installed, where it is not."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest


@pytest.mark.parametrize(("face", "missing"), [("fastapi", "fastapi"), ("aiohttp", "aiohttp_sse")])
def test_without_its_extra_a_face_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, face: str, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, f"imapipe.contrib.{face}", raising=False)
    with pytest.raises(ModuleNotFoundError, match=rf"pip install 'imapipe\[{face}\]'"):
        import_module(f"imapipe.contrib.{face}")
