"""`kill -9` at random moments of an export into every kind of sink, then resume: no double, no half, none missing.

`nox -s proof` does the same with 20,000 messages.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.sinks.conftest import ODD
from tests.sinks.test_mbox import read_mboxrd

from imapipe.testing import Server
from imapipe.testing.messages import make_messages

KILLS = 50
MESSAGES = int(os.environ.get("IMAPIPE_PROOF_MESSAGES", "300"))
# So long lives a child at most, and so long may the last one take: more messages take more time, in more lives.
LIFE_SECONDS, LAST_LIFE_SECONDS = (0.6, 60.0) if MESSAGES <= 1000 else (12.0, 1800.0)


def _check(folder: Path, bodies: dict[int, bytes], *, with_tables: bool) -> None:
    """Every kind of sink holds every message once."""
    wanted = sorted(bodies.values())
    assert sorted(path.read_bytes() for path in (folder / "maildir/cur").iterdir()) == wanted
    assert not list((folder / "maildir/tmp").iterdir())
    assert sorted(path.read_bytes() for path in (folder / "eml").glob("*.eml")) == wanted
    assert sorted(read_mboxrd((folder / "all.mbox").read_bytes())) == wanted
    rows = [json.loads(line) for line in (folder / "all.jsonl").read_bytes().splitlines()]
    assert sorted(row["uid"] for row in rows) == sorted(bodies)
    listed = [json.loads(line) for line in (folder / "attachments/attachments.jsonl").read_bytes().splitlines()]
    assert (
        len({(row["uid"], row["section"]) for row in listed})
        == len(listed)
        == sum(len(row["attachments"]) for row in rows)
    )
    for row in listed:
        assert hashlib.sha256((folder / "attachments" / row["path"]).read_bytes()).hexdigest() == row["sha256"]
    database = sqlite3.connect(folder / "all.sqlite")
    assert (
        sorted(raw for (raw,) in database.execute("SELECT raw FROM messages JOIN contents ON message = id")) == wanted
    )
    assert database.execute("SELECT count(*), count(text) FROM contents").fetchone() == (len(bodies), len(bodies))
    assert database.execute("SELECT count(*) FROM words").fetchone() == (len(bodies),)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
    if with_tables:
        import polars  # noqa: PLC0415

        assert sorted(polars.read_parquet(folder / "parquet/*.parquet")["uid"]) == sorted(bodies)
    unfinished = [path for path in folder.rglob("*") if path.name.endswith((".imapipe-part", ".part", ".tmp"))]
    assert unfinished == []


def messages() -> list[bytes]:
    """What is in the mailbox; mbox cannot tell whether the last line of a message had an end."""
    return [
        *(body for body in ODD if body.endswith(b"\n")),
        *make_messages(MESSAGES, seed=9, size=None if MESSAGES <= 2000 else 3000),
    ]


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that goes on while the test waits for a child."""
    server = Server(messages())
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    done = asyncio.Event()

    async def serve() -> None:
        async with server:
            ready.set()
            await done.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(60)
    yield server
    loop.call_soon_threadsafe(done.set)
    thread.join(60)
    loop.close()


class _Killer:
    """Talks to `exporting_job.py`."""

    def __init__(self, program: subprocess.Popen[str], server: Server, *, with_tables: bool) -> None:
        self._program = program
        self._order = {"url": server.url, "password": server.password, "with_tables": with_tables}

    def run(self, folder: Path, seconds: float) -> str:
        """Have a child run; gives how it ended."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        order = {**self._order, "folder": str(folder), "kill_after_seconds": seconds}
        self._program.stdin.write(json.dumps(order) + "\n")
        self._program.stdin.flush()
        return self._program.stdout.readline().strip()


@pytest.mark.slow
def test_fifty_deaths(server: Server, tmp_path: Path) -> None:
    with_tables = all(find_spec(name) for name in ("pyarrow", "polars"))
    bodies = dict(enumerate(messages(), start=1))
    moments = random.Random(5)
    program = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("exporting_job.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    with program:
        killer = _Killer(program, server, with_tables=with_tables)
        kills = number = 0
        while kills < KILLS:
            number += 1
            folder = tmp_path / str(number)
            folder.mkdir()
            while kills < KILLS and killer.run(folder, moments.uniform(0.02, LIFE_SECONDS)) == "killed":
                kills += 1
            assert killer.run(folder, LAST_LIFE_SECONDS) == "ended 0"
            _check(folder, bodies, with_tables=with_tables)
        assert program.stdin is not None
        program.stdin.close()
        assert program.wait(timeout=60) == 0
