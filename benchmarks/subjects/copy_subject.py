"""imapipe into another account: one `run` into `sinks.Account` with a state; what arrived is read after the clock."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Final

# What is imported when it is first used; as with the peers, that belongs before the clock.
import filelock  # noqa: F401
import psutil  # noqa: F401
import tenacity  # noqa: F401

import imapipe
import imapipe.client
from benchmarks.copies import read_back, target_of
from benchmarks.job import Job
from benchmarks.meter import Meter
from benchmarks.tally import Tally
from imapipe import search as q
from imapipe import sinks

VERSION: Final = imapipe.__version__


def run(job: Job, tally: Tally, meter: Meter) -> None:
    with tempfile.TemporaryDirectory(prefix="imapipe-bench-") as folder:
        asyncio.run(_run(job, Path(folder, "copied"), meter))
    read_back(job, tally)


async def _run(job: Job, state: Path, meter: Meter) -> None:
    def pool(user: str) -> imapipe.Pool:
        return imapipe.create_pool(
            f"imap://{user}@{job.host}:{job.port}", password=job.password, max_size=job.connections
        )

    async with pool(job.user) as old, pool(target_of(job)) as new:
        report = await old.mailbox("INBOX").search(q.ALL).fetch("full").run(sinks.Account(new, state=state))
        meter.stop()
        if not report.complete:
            raise RuntimeError(report.table())
