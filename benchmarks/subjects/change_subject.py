"""imapipe: a keyword for all messages, or all of them into another mailbox. Option: `journal` = "off"."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Final

# What is imported when it is first used; as with the peers, that belongs before the clock.
import filelock  # noqa: F401
import psutil  # noqa: F401

import imapipe
import imapipe.client
import imapipe.middleware.base
from benchmarks.job import KEYWORD, TARGET, Job
from benchmarks.meter import Meter
from benchmarks.tally import Tally

VERSION: Final = imapipe.__version__


def run(job: Job, tally: Tally, meter: Meter) -> None:
    with tempfile.TemporaryDirectory(prefix="imapipe-bench-") as folder:
        asyncio.run(_run(job, tally, meter, None if job.options.get("journal") == "off" else Path(folder) / "journal"))


async def _run(job: Job, tally: Tally, meter: Meter, journal: Path | None) -> None:
    url = f"imap://{job.user}@{job.host}:{job.port}"
    async with imapipe.create_pool(url, password=job.password, max_size=1) as pool:
        found = pool.mailbox("INBOX").search()
        change = found.move_to(TARGET) if job.work == "moves" else found.add_flags(KEYWORD)
        report = await change.run(journal=journal)
        meter.stop()
        tally.count = report.done
