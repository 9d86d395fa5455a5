"""imapipe under a `RateLimit`: the rate that comes out, over some seconds.

Options: `kind` (messages, commands or bytes), `rate` (of that per second), `seconds`.
Notes: `rate` is what was measured from the end of the first second to the end of the last one, `seconds` long.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import imapipe
import imapipe.client
import imapipe.limits.rate_limit
from benchmarks.job import Job
from benchmarks.meter import Meter
from benchmarks.tally import Tally
from imapipe import search as q

VERSION: Final = imapipe.__version__
_SETTLE_SECONDS: Final = 1.0


def run(job: Job, tally: Tally, meter: Meter) -> dict[str, float]:
    return asyncio.run(_run(job, tally, meter))


async def _run(job: Job, tally: Tally, meter: Meter) -> dict[str, float]:
    kind, rate = job.options["kind"], float(job.options["rate"])
    seconds = 0.5 if job.verify else float(job.options["seconds"])
    limit = {
        "messages": imapipe.RateLimit(messages_per_second=rate),
        "commands": imapipe.RateLimit(commands_per_second=rate),
        "bytes": imapipe.RateLimit(bytes_per_second=rate),
    }[kind]
    passed: list[tuple[float, float]] = []  # when, and how many messages, commands or bytes until then
    amount = 0.0

    async def read(message: imapipe.Message) -> None:
        nonlocal amount
        amount += message.wire_size if kind == "bytes" else 1 / (job.batch if kind == "commands" else 1)
        passed.append((time.perf_counter(), amount))
        tally.count += 1

    url = f"imap://{job.user}@{job.host}:{job.port}"
    async with imapipe.create_pool(url, password=job.password, max_size=job.connections) as pool:
        pipeline = pool.mailbox("INBOX").search(q.ALL).batch(job.batch).fetch("envelope").use(limit)
        started = time.perf_counter()
        running = asyncio.create_task(pipeline.run(read, concurrency=8, connections=job.connections))
        await asyncio.wait([running], timeout=_SETTLE_SECONDS + seconds)
        ended = running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        meter.stop()
    if ended:
        raise RuntimeError("the mailbox was read before the time was over: it is too small for this rate")
    first, last = started + _SETTLE_SECONDS, started + _SETTLE_SECONDS + seconds
    return {"rate": (_until(passed, last) - _until(passed, first)) / seconds, "asked": rate}


def _until(passed: list[tuple[float, float]], when: float) -> float:
    return max((amount for at, amount in passed if at <= when), default=0.0)
