"""Every row of what the project set out to do has a test, a section of the tour, and a line in the documentation."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from dovecot_server import DovecotServer, Mail
from imapipe.testing import make_messages

ROOT = Path(__file__).parents[2]
ROWS = range(1, 24)


def _tests_by_row() -> dict[int, set[str]]:
    found: dict[int, set[str]] = defaultdict(set)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name, row in re.findall(
            r"^(?:async )?def (test_s(\d+)_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE
        ):
            found[int(row)].add(name)
    return found


def _documented() -> dict[int, tuple[list[str], list[str]]]:
    """Tests and sections of the tour, by row, as `docs/large_volume.md` has them."""
    text = (ROOT / "docs" / "large_volume.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| S(\d+) \|[^|]*\|([^|]*)\|([^|]*)\|$", text, re.MULTILINE)
    return {int(row): (re.findall(r"`(\w+)`", tests), sections.strip().split(", ")) for row, tests, sections in rows}


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_a_test_of_its_name_and_a_line_in_the_documentation(row: int) -> None:
    tests = _tests_by_row()[row]
    assert tests
    named, sections = _documented()[row]
    assert named
    assert set(named) <= tests
    assert all(sections)


def _take_tour(*arguments: str, password: str = "") -> dict[str, object]:
    """Run the example in a process of its own; gives its document."""
    program = str(ROOT / "examples" / "large_volume.py")
    result = subprocess.run(
        [sys.executable, "-W", "error", program, "--json", "--messages", "1000", *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, "IMAPIPE_PASSWORD": password},
    )
    document: dict[str, object] = json.loads(result.stdout)
    return document


# Longer than others may take: the tour goes through everything, and a machine may have more to do.
@pytest.mark.timeout(600)
@pytest.mark.slow
def test_the_tour_shows_every_row_with_figures_of_this_run() -> None:
    document = _take_tour()
    rows = document["rows"]
    assert isinstance(rows, dict)
    assert sorted(rows, key=lambda row: int(row[1:])) == [f"S{row}" for row in ROWS]
    for row, (_, sections) in _documented().items():
        assert set(sections) <= set(rows[f"S{row}"]), f"S{row}"
    figures = {title: numbers for sections in rows.values() for title, numbers in sections.items()}

    assert figures["UID-Based Operations"]["done"] == 1000
    assert figures["UID-Based Operations"]["fetches_by_sequence_number"] == 0
    sizes = figures["Adaptive Batch Processing"]["sizes"]
    assert sizes[0] == 100
    assert any(after > before for before, after in pairwise(sizes))
    assert set(figures["Fixed Batch Processing"]["sizes"]) == {75}
    assert figures["Priority Batch Processing"]["in_order"]
    assert figures["Parallel Connections"]["4_connections"]["used"] == 4
    assert figures["Process Pool Parallel Processing"]["processes"] == 2
    assert figures["Cached Search Operations"]["searches_at_the_server"] == 4
    assert figures["Indexed Search Operations"]["fetched_by_the_second_update"] == 0
    assert all(figures["Indexed Search Operations"]["found"].values())
    found = list(figures["Progressive Search Refinement"]["found"].values())
    assert found == sorted(found, reverse=True)
    assert found[-1] > 0
    assert figures["Interrupting and Resuming"]["uids_lost"] == 0
    assert figures["Interrupting and Resuming"]["uids_repeated"] <= 8
    assert figures["Retry with Exponential Backoff"]["failed"] == {"500": "SERVERBUG"}
    assert figures["What the Defaults Do"]["marked_as_read"] == 0
    assert figures["An Empty Mailbox"] == {"complete": True, "planned": 0, "done": 0, "failed": 0}


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_the_tour_goes_through_a_real_mailbox_and_changes_nothing_there(dovecot: DovecotServer) -> None:
    user, count, now = dovecot.new_user(), 1200, datetime.now(UTC)
    mails = [
        Mail(raw, ("\\Flagged",) if number % 10 == 0 else (), now - timedelta(days=90 * (1 - number / count)))
        for number, raw in enumerate(make_messages(count), 1)
    ]
    dovecot.fill(user, "INBOX", mails)
    rows = _take_tour("--url", dovecot.url(user), password=dovecot.password)["rows"]
    assert isinstance(rows, dict)
    assert set(rows) == {f"S{row}" for row in ROWS}
    assert rows["S1"]["UID-Based Operations"]["done"] == 1000
    assert rows["S10"]["Cached Search Operations"]["answered_from_memory"] == 8
    assert rows["S11"]["Indexed Search Operations"]["fetched_by_the_second_update"] == 0
    assert rows["S13"]["Interrupting and Resuming"]["uids_lost"] == 0
    assert rows["S22"]["What the Defaults Do"]["marked_as_read"] == 0
    with dovecot.login(user) as client:
        client.select("INBOX", readonly=True)
        assert client.uid("SEARCH", "SEEN") == ("OK", [b""])
