"""Plain aioimaplib: one command for each batch, its lines taken apart with one expression.

Its cost grows with the square of the batch and it may end in a RecursionError, so its batches are small. It has no
parser for ENVELOPE, so it has no entry for every field.
"""

from __future__ import annotations

import asyncio
import re
from importlib.metadata import version
from typing import Final

import aioimaplib

from benchmarks.job import Job, batches
from benchmarks.meter import Meter
from benchmarks.tally import Tally

VERSION: Final = version("aioimaplib")
_TIMEOUT_SECONDS: Final = 120.0
_MESSAGE = re.compile(rb"\d+ FETCH \(UID (\d+) FLAGS \(([^)]*)\)(?: INTERNALDATE \"[^\"]*\" RFC822.SIZE (\d+))?")


def run(job: Job, tally: Tally, meter: Meter) -> None:
    asyncio.run(_run(job, tally, meter))


async def _run(job: Job, tally: Tally, meter: Meter) -> None:
    client = aioimaplib.IMAP4(job.host, job.port, timeout=_TIMEOUT_SECONDS)
    await client.wait_hello_from_server()
    await client.login(job.user, job.password)
    await client.select("INBOX")  # after its examine() no FETCH is allowed
    if job.work == "search":
        for _ in range(int(job.options["searches"])):
            tally.found(await _search(client, job.options["search"]))
    else:
        if len(await _search(client, "ALL")) != job.count:
            raise RuntimeError("SEARCH ALL does not show every message")
        for uids in batches(job):
            response = await client.uid("fetch", uids, job.items)
            _read(job.work, response.lines, tally)
    meter.stop()
    await client.logout()


async def _search(client: aioimaplib.IMAP4, criteria: str) -> list[int]:
    response = await client.uid_search(criteria, charset=None)
    return [int(uid) for uid in response.lines[0].split()]


def _read(work: str, lines: list[bytes | bytearray], tally: Tally) -> None:
    for i, line in enumerate(lines):
        match = _MESSAGE.match(line)
        if match is None:
            continue
        if work in {"metadata", "flags"}:
            flags = match[2].decode().split()
            if work == "metadata":
                tally.metadata(int(match[1]), flags, int(match[3]))
            else:
                tally.flags(int(match[1]), flags)
        else:
            tally.content(int(match[1]), lines[i + 1])
