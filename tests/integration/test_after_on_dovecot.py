"""A real server: what follows a message is done once, also by a job that is killed again and again."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import pytest
from tests.integration.after_job import CHANGES, job

import imapipe
from dovecot_server import DovecotServer
from imapipe import search as q
from imapipe.testing.messages import make_messages

pytestmark = [pytest.mark.asyncio, pytest.mark.slow]

# Fifty deaths need no more messages than this.
MESSAGES: Final = min(2_000, int(os.environ.get("IMAPIPE_PROOF_MESSAGES", "120")))
KILLS: Final = 4 if MESSAGES == 120 else 50
# A change of few messages is over soon, above all where the mail is in memory.
LATEST_SECONDS: Final = 0.004 if MESSAGES == 120 else 0.02
KINDS: Final = ("copy", "move") if MESSAGES == 120 else sorted(CHANGES)


async def _ids(pool: imapipe.Pool, mailbox: str) -> Counter[str]:
    messages = pool.mailbox(mailbox).search(q.ALL).fetch("headers")
    return Counter([message.headers["Message-ID"] async for message in messages])


@pytest.mark.parametrize("kind", KINDS)
async def test_a_job_killed_at_random_moments_changes_each_message_once(
    dovecot: DovecotServer, tmp_path: Path, kind: str
) -> None:
    user, chance = dovecot.new_user(), random.Random(kind)
    dovecot.fill(user, "INBOX", make_messages(MESSAGES))
    state, handled = tmp_path / "state.json", tmp_path / "handled"
    async with imapipe.create_pool(dovecot.url(user), password=dovecot.password) as pool:
        await pool.mailbox("Processed").create()
        before = await _ids(pool, "INBOX")
        bad = {
            message.headers["Message-ID"]
            async for message in pool.mailbox("INBOX").search(q.ALL).fetch("headers")
            if message.uid % 10 == 0
        }
        order = {"url": dovecot.url(user), "password": dovecot.password, "kind": kind}
        order |= {"state": str(state), "handled": str(handled)}
        program = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name("after_job.py")),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        orders = [
            {
                **order,
                "intents": chance.randint(1, 3),
                "delay_seconds": chance.uniform(0, LATEST_SECONDS),
                "kill_after_seconds": 60,
            }
            for _ in range(KILLS)
        ]
        ends, _ = await program.communicate(b"".join(json.dumps(each).encode() + b"\n" for each in orders))
        # Each changes sixty messages at most, so the first half of them has enough to do.
        assert ends.split().count(b"-9") >= KILLS // 2, ends

        async def handle(message: imapipe.Message) -> None:
            if message.headers["Message-ID"] in bad:
                raise ValueError("no")

        changes = {"on_done": CHANGES[kind], "on_failed": imapipe.add_flags("$Failed")}
        report = await job(pool, str(state)).run(handle, **changes)  # type: ignore[arg-type]
        assert (report.change_failed, report.changes_owed, report.changes_due) == (
            0,
            0,
            report.changed + report.change_vanished,
        )
        assert (report.failed, report.vanished, report.change_vanished) == (len(bad), 0, 0)
        here, there = await _ids(pool, "INBOX"), await _ids(pool, "Processed")
        done = before - Counter(bad)
        if kind == "move":
            assert (here, there) == (Counter(bad), done)
        elif kind == "copy":
            assert (here, there) == (before, done)
        else:
            flagged = await pool.mailbox("INBOX").search(q.keyword("$Done")).uids()
            assert len(flagged) == done.total()
        failed = await pool.mailbox("INBOX").search(q.keyword("$Failed")).uids()
        assert len(failed) == len(bad)
