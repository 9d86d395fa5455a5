"""The command that measures the time to the first output works, and the page has its rows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "first_output.py"

pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="the docs are not part of the wheel")


def _steps(text: str) -> list[str]:
    return re.findall(r"^\| (.+?) \| [\d.]+ s \|$", text, re.MULTILINE)


@pytest.mark.slow
def test_the_first_job_and_the_demo_are_measured() -> None:
    """All but the installation, which asks a package index."""
    command = [sys.executable, str(TOOL), "--python", sys.executable, "--demo-messages", "1000"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    first, demo = _steps(printed)
    steps = _steps((ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8"))
    assert steps[0].startswith("`pip install 'imapipe[cli]'`")
    assert steps[1:] == [first, demo.replace("1,000", "5,000")]
