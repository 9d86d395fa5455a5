"""imapipe into a sink: one `run` with its default settings; what was written is read back after the clock has stopped.

Options: `sink` = "maildir", "jsonl", "parquet" or "sqlite".
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, Final

# What is imported when it is first used; as with the peers, that belongs before the clock.
import aiolimiter  # noqa: F401
import filelock  # noqa: F401
import psutil  # noqa: F401
import tenacity  # noqa: F401

import imapipe
import imapipe.client
import imapipe.middleware.base
from benchmarks.job import Job
from benchmarks.meter import Meter
from benchmarks.tally import Person, Tally
from imapipe import search as q
from imapipe import sinks

VERSION: Final = imapipe.__version__
_PRESETS: Final = {"bodies": "full", "fields": "envelope"}


def run(job: Job, tally: Tally, meter: Meter) -> dict[str, float]:
    kind = job.options["sink"]
    with tempfile.TemporaryDirectory(prefix="imapipe-bench-") as folder:
        path = Path(folder, "out")
        sink = _MAKE[kind](path)
        notes = asyncio.run(_run(job, sink, meter))
        _READ_BACK[kind](path, tally)
        return notes


async def _run(job: Job, sink: imapipe.Sink, meter: Meter) -> dict[str, float]:
    async with imapipe.create_pool(
        f"imap://{job.user}@{job.host}:{job.port}", password=job.password, max_size=job.connections
    ) as pool:
        report = await pool.mailbox("INBOX").search(q.ALL).fetch(_PRESETS[job.work]).run(sink)
        meter.stop()
        if not report.complete:
            raise RuntimeError(report.table())
        return {"wire_bytes": float(report.wire_bytes)}


def _parquet(path: Path) -> imapipe.Sink:
    importlib.import_module("pyarrow.parquet")
    return sinks.Parquet(path)


_MAKE: Final[dict[str, Callable[[Path], imapipe.Sink]]] = {
    "maildir": sinks.Maildir,
    "jsonl": sinks.JsonLines,
    "parquet": _parquet,
    "sqlite": sinks.Sqlite,
}


def _read_maildir(path: Path, tally: Tally) -> None:
    for file in path.glob("cur/*"):
        tally.content(int(file.name.split(".U")[1].split("M")[0]), file.read_bytes())


def _read_rows(rows: Iterator[dict[str, Any]], tally: Tally) -> None:
    for row in rows:
        from_, to, cc = ([Person(each["name"], each["email"]) for each in row[name]] for name in ("from", "to", "cc"))
        date = row["date"]
        if isinstance(date, str):
            date = datetime.fromisoformat(date)
        seconds = date.timestamp() if date is not None else 0.0
        tally.fields((row["uid"], row["flags"], row["size"]), seconds, row["subject"], (from_, to, cc))


def _read_lines(path: Path, tally: Tally) -> None:
    with path.open("rb") as file:
        _read_rows(map(json.loads, file), tally)


def _read_parquet(path: Path, tally: Tally) -> None:
    parquet = importlib.import_module("pyarrow.parquet")
    _read_rows(iter(parquet.read_table(path).to_pylist()), tally)


def _read_sqlite(path: Path, tally: Tally) -> None:
    with closing(sqlite3.connect(path)) as database:
        for uid, raw in database.execute("SELECT uid, raw FROM messages JOIN contents ON message = id"):
            tally.content(uid, raw)


_READ_BACK: Final[dict[str, Callable[[Path, Tally], None]]] = {
    "maildir": _read_maildir,
    "jsonl": _read_lines,
    "parquet": _read_parquet,
    "sqlite": _read_sqlite,
}
