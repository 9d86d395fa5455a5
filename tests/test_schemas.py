"""The published JSON schemas are those of the classes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


def test_the_published_schemas_are_up_to_date() -> None:
    pytest.importorskip("pydantic")
    from imapipe.contrib.models import json_schemas  # noqa: PLC0415

    page = Path(__file__).parents[1] / "docs/schemas.json"
    assert json.loads(page.read_text(encoding="utf-8")) == json_schemas(), (
        "docs/schemas.json is out of date: python tools/json_schemas.py > docs/schemas.json"
    )
