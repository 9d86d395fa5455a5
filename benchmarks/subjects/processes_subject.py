"""imapipe with a handler that computes, in as many worker processes as the option `workers` says."""

from __future__ import annotations

import asyncio
import hashlib
import operator
from typing import Final

import imapipe
import imapipe.client
from benchmarks.job import Job
from benchmarks.meter import Meter
from benchmarks.tally import Tally
from imapipe import search as q

VERSION: Final = imapipe.__version__
_ROUNDS: Final = 10_000  # of a hash: some milliseconds a message


def compute(body: bytes) -> int:
    """What a worker does with a body: work for a processor; gives the body's length."""
    hashlib.pbkdf2_hmac("sha256", body, b"salt", _ROUNDS)
    return len(body)


def run(job: Job, tally: Tally, meter: Meter) -> None:
    asyncio.run(_run(job, tally, meter))


async def _run(job: Job, tally: Tally, meter: Meter) -> None:
    async def add(message: imapipe.Message, length: object) -> None:
        assert isinstance(length, int)
        if job.verify:
            tally.content(message.uid, message.body)
        else:
            tally.count += 1
            tally.total += length

    url = f"imap://{job.user}@{job.host}:{job.port}"
    async with imapipe.create_pool(url, password=job.password, max_size=1) as pool:
        workers = int(job.options["workers"])
        handler = imapipe.in_processes(compute, workers=workers, send=operator.attrgetter("body"), then=add)
        report = await pool.mailbox("INBOX").search(q.ALL).fetch("full").run(handler, concurrency=2 * workers)
        meter.stop()
        if not report.complete:
            raise RuntimeError(report.table())
