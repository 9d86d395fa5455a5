"""Changes of mail by a process that is killed again and again end as if it had not been.

`nox -s proof` kills each of them a hundred times on both servers; the suite a few times.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.integration.changing_job import change
from tests.integration.mail_state import Account, Mail, open_account, read_mail

import imapipe
from dovecot_server import DovecotServer
from imapipe.journal.journal import read_journal
from imapipe.pipeline.operation.recovery import LOOK_AGAIN_SECONDS

pytestmark = pytest.mark.asyncio

IN_PROOF: Final = "IMAPIPE_PROOF_MESSAGES" in os.environ
KILLS: Final = 100 if IN_PROOF else 2
COUNT: Final = 240 if IN_PROOF else 60
BATCH: Final = 20


class _Killer:
    """Talks to `changing_job.py`."""

    def __init__(self, program: subprocess.Popen[str]) -> None:
        self._program = program

    async def run(self, account: Account, kind: str, journal: Path, kill_after_seconds: float) -> str:
        """Have a child run; gives how it ended. The embedded server is served meanwhile."""
        order = {**account._asdict(), "journal": str(journal), "kind": kind, "batch": BATCH}
        return await asyncio.to_thread(self._obey, json.dumps({**order, "kill_after_seconds": kill_after_seconds}))

    def _obey(self, order: str) -> str:
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(order + "\n")
        self._program.stdin.flush()
        return self._program.stdout.readline().strip()


@pytest.fixture(scope="module")
def killer() -> Iterator[_Killer]:
    program = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("changing_job.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    with program:
        yield _Killer(program)
        assert program.stdin is not None
        program.stdin.close()
        assert program.wait(timeout=60) == 0


def _check(kind: str, before: list[Mail], inbox: list[Mail], archive: list[Mail]) -> None:
    if kind == "flag":
        assert inbox == [mail._replace(flags=mail.flags | {"$Work"}) for mail in before]
    elif kind == "copy":
        assert (inbox, archive) == (before, before)
    elif kind == "delete":
        assert (inbox, archive) == ([], [])
    else:
        assert (inbox, archive) == ((before, []) if kind == "undo" else ([], before))


KINDS: Final = ("flag", "move", "copy", "delete", "undo")
EACH: Final = [(server, kind) for kind in KINDS for server in ("dovecot", "embedded")]
# In the suite each kind on one of the servers.
CASES: Final = EACH if IN_PROOF else EACH[:1] + EACH[2:3] + EACH[5::2]


@pytest.mark.slow
@pytest.mark.parametrize(("server", "kind"), CASES)
async def test_killed_at_random_moments_the_end_is_the_same(
    dovecot: DovecotServer, killer: _Killer, tmp_path: Path, server: str, kind: str
) -> None:
    chance = random.Random(f"{server} {kind}")
    kills = rounds = in_the_middle = 0
    typical_seconds = math.inf
    while kills < KILLS or not in_the_middle:
        rounds += 1
        journal = tmp_path / f"{rounds}.jsonl"
        async with (
            open_account(server, dovecot, COUNT, missing=("MOVE", "OBJECTID")) as account,
            imapipe.create_pool(account.url, password=account.password) as pool,
        ):
            before = await read_mail(pool, "INBOX")
            if kind == "undo":
                await change(pool, "move", str(journal), BATCH)
            how = ""
            is_whole = True
            while how != "ended 0":
                # One that finds out first what came of a command takes that much longer; the last one is left alone.
                most_seconds = 1.1 * typical_seconds + LOOK_AGAIN_SECONDS
                is_left_alone = typical_seconds is math.inf or (kills >= KILLS and in_the_middle)
                seconds = 60.0 if is_left_alone else chance.uniform(0.0, most_seconds)
                began = time.monotonic()
                how = await killer.run(account, kind, journal, seconds)
                assert how in ("killed", "ended 0")
                kills += how == "killed"
                in_the_middle += how == "killed" and journal.exists()
                if typical_seconds is math.inf:
                    typical_seconds = time.monotonic() - began
                elif not in_the_middle:
                    # The machine has become slower, or faster, since that was measured.
                    typical_seconds *= 1.5 if how == "killed" else 0.5
                elif is_whole and how != "killed":
                    # By a time that a busy machine made long nearly all would be over before their death.
                    typical_seconds = min(typical_seconds, time.monotonic() - began)
                is_whole = False
            _check(kind, before, await read_mail(pool, "INBOX"), await read_mail(pool, "Archive"))
        story = read_journal(journal if kind != "undo" else f"{journal}.undo")
        assert story.pending is None
        assert sum(len(result.done) for _, result in story.steps) == COUNT
