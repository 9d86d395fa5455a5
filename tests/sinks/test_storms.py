"""Exports through storms, and cancelled at random moments: run again they come to what an undisturbed one writes."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import orjson
import pytest
from tests.sinks.conftest import files_below
from tests.sinks.test_trouble import make_sink
from tests.storms import READING, STORMS, Storm

import imapipe
from imapipe import search as q
from imapipe.testing import Mailbox, Server, make_messages

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("made_up_time")]


async def _export(server: Server, kind: str, place: Path, *, commit_every: int) -> imapipe.AccountReport:
    async with imapipe.create_pool(server.url, password=server.password, max_size=2) as pool:
        retry = imapipe.Retry(wait_initial_seconds=0, attempts=3)
        layers = imapipe.Checkpoint(f"{place}.json", save_every_messages=5), retry
        job = pool.each("*").search(q.ALL).fetch("full").batch(5).use(*layers)
        return await job.run(make_sink(kind, place), commit_every_messages=commit_every)


def content(kind: str, path: Path) -> list[bytes]:
    """What was written, whatever its order."""
    if kind == "Sqlite":
        with closing(sqlite3.connect(path)) as database:
            return sorted(raw for (raw,) in database.execute("SELECT raw FROM contents"))
    if kind == "JsonLines":
        # All but the port of the server.
        rows = (orjson.loads(line) | {"account": ""} for line in path.read_bytes().splitlines())
        return sorted(map(orjson.dumps, rows))
    files = [path] if path.is_file() else [file for file in files_below(path) if file.suffix != ".imapipe"]
    between = b"\n\nFrom " if kind == "Mbox" else b"\0"
    parts = (part.strip() for file in files for part in (b"\n\n" + file.read_bytes()).split(between))
    # Locks, and the file of a mailbox without mail, which a run may pass over.
    return sorted(filter(None, parts))


@pytest.mark.parametrize("kind", ["EmlFolder", "JsonLines", "Maildir", "Mbox", "Sqlite"])
async def test_an_export_comes_to_the_same_end(tmp_path: Path, kind: str) -> None:
    boxes = {"INBOX": Mailbox(make_messages(20)), "Work": Mailbox(make_messages(7, seed=2)), "Empty": Mailbox()}
    async with Server(boxes) as server:
        assert (await _export(server, kind, tmp_path / "calm", commit_every=10)).complete
    expected = content(kind, tmp_path / "calm")
    for number in range(STORMS // 5):
        storm, place = Storm(number), tmp_path / str(number)
        lacks = storm.some_of("ESEARCH", "CONDSTORE", "OBJECTID", "LIST-STATUS", "PARTIAL")
        faults = storm.faults((*READING, "UID FETCH", "STATUS", "LIST", "NOOP"), 7)
        told = f"{number}: without {lacks}, {faults}"
        async with Server(boxes, remove_extensions=lacks, faults=faults) as server:
            for turn in range(14):
                commit_every = storm.chosen.choice((1, 4, 50))
                running = asyncio.create_task(_export(server, kind, place, commit_every=commit_every))
                if turn < 8 and storm.chosen.random() < 0.5:
                    for _ in range(storm.chosen.randint(1, 400)):
                        await asyncio.sleep(0)
                    running.cancel()
                with suppress(imapipe.ImapipeError, asyncio.CancelledError):
                    if (await running).complete:
                        break
            else:
                pytest.fail(f"never complete: {told}")
        assert content(kind, place) == expected, told
