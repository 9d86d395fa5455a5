"""imapipe: a keyword for all messages, or all of them into another mailbox, also after a handler; new messages.

Options: `journal` = "off" for changes without one, `layers` = "Checkpoint" for those after a handler.
"""

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
from benchmarks.letters import letters, read_header
from benchmarks.meter import Meter
from benchmarks.tally import Tally
from imapipe.connection import NewMessage

VERSION: Final = imapipe.__version__


def run(job: Job, tally: Tally, meter: Meter) -> None:
    with tempfile.TemporaryDirectory(prefix="imapipe-bench-") as folder:
        asyncio.run(_run(job, tally, meter, Path(folder)))


async def _run(job: Job, tally: Tally, meter: Meter, folder: Path) -> None:
    new = [NewMessage(letter) for letter in letters(job)]
    if new:
        # To make them is no part of it.
        meter.start()
    url = f"imap://{job.user}@{job.host}:{job.port}"
    connections = 2 if job.work == "on-done" else 1
    async with imapipe.create_pool(url, password=job.password, max_size=connections) as pool:
        found = pool.mailbox("INBOX").search()
        report: imapipe.RunReport | imapipe.AppendReport
        if job.work == "append":
            report = await pool.mailbox(TARGET).append(new)
        elif job.work == "on-done":
            layers = [imapipe.Checkpoint(folder / "state.json")] if "layers" in job.options else []
            report = (
                await found.fetch("headers").use(*layers).run(_handle, connections=1, on_done=imapipe.move_to(TARGET))
            )
        else:
            change = found.move_to(TARGET) if job.work == "moves" else found.add_flags(KEYWORD)
            report = await change.run(journal=None if job.options.get("journal") == "off" else folder / "journal")
        meter.stop()
        tally.count = report.done


async def _handle(message: imapipe.Message) -> None:
    read_header(message.uid, message.headers.raw)
