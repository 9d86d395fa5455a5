"""`kill -9` at random moments of a checkpointed run on a real Dovecot, then resume."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import imapipe
from dovecot_server import DovecotServer

MESSAGES = 3000
KILLS = 50
CONCURRENCY = 4
SAVE_EVERY_MESSAGES = 20
# What one run adds to the plan: less than most of them manage before they die.
STEP = 120


class _Killer:
    """Talks to `killed_job.py`."""

    def __init__(self, program: subprocess.Popen[str], dovecot: DovecotServer, user: str, folder: Path) -> None:
        self._program = program
        self._log = folder / "handled"
        self._report = folder / "report.json"
        self.state = folder / "state.json"
        self._order = {
            "url": dovecot.url(user),
            "password": dovecot.password,
            "state": str(self.state),
            "handled": str(self._log),
            "report": str(self._report),
            "concurrency": CONCURRENCY,
            "save_every_messages": SAVE_EVERY_MESSAGES,
        }

    def run(self, **order: object) -> str:
        """Have a child run; gives how it ended."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(json.dumps({**self._order, **order}) + "\n")
        self._program.stdin.flush()
        return self._program.stdout.readline().strip()

    @property
    def handled(self) -> list[int]:
        """The UIDs that were handled, in order, by all children."""
        data = self._log.read_bytes() if self._log.exists() else b""
        assert len(data) % 4 == 0
        return [int.from_bytes(data[at : at + 4], "big") for at in range(0, len(data), 4)]

    @property
    def known(self) -> imapipe.UidSet:
        """What the checkpoint knows to be done."""
        account = str(self._order["url"]).removeprefix("imap://")
        state = imapipe.JsonCheckpointStore(self.state).peek(imapipe.JobKey(account, "INBOX"))
        return state.done if state is not None else imapipe.UidSet()

    @property
    def report(self) -> dict[str, int]:
        """The report of the last child that came to its end."""
        report: dict[str, int] = json.loads(self._report.read_text())
        return report

    def start_over(self) -> None:
        """Forget everything."""
        self._log.unlink()
        self.state.unlink()


@pytest.fixture
def killer(dovecot: DovecotServer, tmp_path: Path) -> Iterator[_Killer]:
    user = dovecot.new_user("killed")
    dovecot.fill(user, "INBOX", [f"Subject: {uid}\r\n\r\n{uid}\r\n".encode() for uid in range(1, MESSAGES + 1)])
    program = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("killed_job.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    with program:
        yield _Killer(program, dovecot, user, tmp_path)
        assert program.stdin is not None
        program.stdin.close()
        assert program.wait(timeout=60) == 0


def _check_report(report: dict[str, int], limit: int, skipped: int) -> None:
    assert report["planned"] == limit
    assert report["planned"] == report["done"] + report["skipped"] + report["vanished"] + report["failed"]
    assert (report["failed"], report["vanished"], report["unaccounted"]) == (0, 0, 0)
    assert report["skipped"] == skipped
    assert report["done_all_runs"] == limit


@pytest.mark.slow
def test_fifty_deaths(killer: _Killer) -> None:
    moments = random.Random(1)
    # How long one takes that is left alone: deaths come at any moment of that, and some come too late. It follows the
    # machine, which others may make slower meanwhile.
    typical_seconds = math.inf
    for limit in (STEP, 2 * STEP, 3 * STEP):
        began = time.monotonic()
        assert killer.run(limit=limit, connections=1, handler_seconds=0.002, kill_after_seconds=60.0) == "ended 0"
        typical_seconds = min(typical_seconds, time.monotonic() - began)
    kills = finished = in_the_middle = 0
    limit = 4 * STEP
    while kills < KILLS or not in_the_middle or not finished:
        before = killer.handled
        known = killer.known
        # Nothing is taken for done that was not handled, and little that was handled is not known.
        assert known <= imapipe.UidSet.from_numbers(before)
        assert len(set(before)) - len(known) <= CONCURRENCY + SAVE_EVERY_MESSAGES
        how = killer.run(
            limit=limit,
            connections=moments.choice([1, 2]),
            handler_seconds=moments.choice([0.0005, 0.002]),
            kill_after_seconds=moments.uniform(0.0, 1.2 * typical_seconds),
        )
        now = killer.handled[len(before) :]
        assert len(now) == len(set(now))
        assert len(set(now) & set(before)) <= CONCURRENCY + SAVE_EVERY_MESSAGES
        if how == "killed":
            kills += 1
            in_the_middle += 0 < len(now) < limit - len(known)
            typical_seconds *= 1.1
            continue
        assert how == "ended 0"
        finished += 1
        typical_seconds /= 1.5
        _check_report(killer.report, limit, skipped=len(known))
        if limit == MESSAGES:
            killer.start_over()
            limit = 0
        limit = min(limit + STEP, MESSAGES)
    known = killer.known
    assert killer.run(limit=MESSAGES, connections=2, handler_seconds=0.0, kill_after_seconds=60.0) == "ended 0"
    assert set(killer.handled) == set(range(1, MESSAGES + 1))
    _check_report(killer.report, MESSAGES, skipped=len(known))
    # Nothing is left of all these processes: no lock, no journal, no temporary file.
    assert sorted(path.name for path in killer.state.parent.iterdir()) == ["handled", "report.json", "state.json"]
