"""Mail is flagged, moved and brought back on a real server, also by a process that is killed again and again."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

import imapipe
from dovecot_server import DovecotServer
from imapipe import search as q
from imapipe.journal.journal import read_journal
from imapipe.testing.messages import make_messages

pytestmark = pytest.mark.asyncio

COUNT = 600
KILLS = 20


async def _all(pool: imapipe.Pool, mailbox: str) -> list[tuple[str, object, int, frozenset[str]]]:
    """What there is, by subject, INTERNALDATE, size and flags."""
    return sorted(
        [
            (message.headers.get("Message-ID", ""), message.internal_date, message.size, message.flags - {"\\Recent"})
            async for message in pool.mailbox(mailbox).search(q.ALL).fetch("headers")
        ],
        key=repr,
    )


@pytest.mark.slow
async def test_flags_moves_and_undo_leave_all_as_it_was(dovecot: DovecotServer, tmp_path: Path) -> None:
    user = dovecot.new_user()
    dovecot.fill(user, "INBOX", make_messages(COUNT))
    async with imapipe.create_pool(dovecot.url(user), password=dovecot.password) as pool:
        async with pool.acquire() as connection:
            await connection.create("Archive")
        before = await _all(pool, "INBOX")
        inbox = pool.mailbox("INBOX").search(q.ALL)
        flagged = await inbox.add_flags("\\Flagged", "$Work").run(journal=tmp_path / "flags")
        moved = await inbox.move_to("Archive").run(journal=tmp_path / "move")
        assert (flagged.done, moved.done, flagged.complete, moved.complete) == (COUNT, COUNT, True, True)
        assert (await _all(pool, "INBOX"), len(await _all(pool, "Archive"))) == ([], COUNT)
        assert (await imapipe.undo(tmp_path / "move", pool)).undone == COUNT
        report = await pool.mailbox("INBOX").search(q.ALL).remove_flags("\\Flagged", "$Work").run()
        assert report.done == COUNT
        assert await _all(pool, "INBOX") == before
        assert await _all(pool, "Archive") == []


@pytest.mark.slow
async def test_a_move_killed_at_random_moments_ends_in_one_place(dovecot: DovecotServer, tmp_path: Path) -> None:
    user, chance = dovecot.new_user(), random.Random(12)
    dovecot.fill(user, "INBOX", make_messages(COUNT))
    journal = tmp_path / "move.jsonl"
    async with imapipe.create_pool(dovecot.url(user), password=dovecot.password) as pool:
        async with pool.acquire() as connection:
            await connection.create("Archive")
        before = await _all(pool, "INBOX")
        order = {"url": dovecot.url(user), "password": dovecot.password, "journal": str(journal)}
        program = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name("changing_job.py")),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        told = b"".join(
            json.dumps({**order, "kill_after_seconds": chance.uniform(0.02, 0.12)}).encode() + b"\n"
            for _ in range(KILLS)
        )
        ends, _ = await program.communicate(told)
        assert ends.split().count(b"killed") >= KILLS // 2, ends
        report = await pool.mailbox("INBOX").search().move_to("Archive").run(journal=journal)
        assert report.complete
        assert await _all(pool, "Archive") == before
        assert await _all(pool, "INBOX") == []
    story = read_journal(journal)
    assert story.pending is None
    assert sum(len(result.done) for _, result in story.steps) == COUNT
