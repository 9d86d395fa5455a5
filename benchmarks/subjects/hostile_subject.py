"""imapipe at a server that floods: how much memory that takes, and that it ends.

Options: `flood`, a key of `flood.FLOODS`.
Notes: `received` is how many bytes came before it had enough.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import suppress
from typing import Final

import imapipe
import imapipe.client
from benchmarks.flood import FLOODS, Flood
from benchmarks.job import Job
from benchmarks.meter import Meter
from benchmarks.tally import Tally
from imapipe import search as q

VERSION: Final = imapipe.__version__
_ENOUGH_SECONDS: Final = 15.0


def run(job: Job, tally: Tally, meter: Meter) -> dict[str, float]:
    name = job.options["flood"]
    command = [sys.executable, "-m", "benchmarks.flood", name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        try:
            received = asyncio.run(_run(port, FLOODS[name], meter))
        finally:
            server.kill()
    tally.count = 1
    return {"received": received}


async def _run(port: int, flood: Flood, meter: Meter) -> float:
    url = f"imap://ann@127.0.0.1:{port}"
    async with imapipe.create_pool(url, password="secret", max_size=flood.connections) as pool:
        with suppress(imapipe.ImapipeError, TimeoutError):
            # The end of the connection, where it is not one message that failed; it may be made anew each time.
            async with asyncio.timeout(_ENOUGH_SECONDS):
                await _ask(pool, flood)
        meter.stop()
        return float(pool.connections.wire_bytes)


async def _ask(pool: imapipe.Pool, flood: Flood) -> None:
    if flood.asks == "list":
        await pool.mailboxes()
        return
    if flood.asks == "own":
        async with pool.acquire("INBOX") as connection:
            await connection.imap.uid_search("ALL", charset=None)
        return
    if flood.asks in ("namespace", "identify"):
        async with pool.acquire() as connection:
            await (connection.namespace() if flood.asks == "namespace" else connection.identify())
        return

    async def read(message: imapipe.Message) -> None:
        _ = {"flags": lambda: message.flags, "envelope": lambda: message.envelope.subject}.get(
            flood.fetch, lambda: message.structure
        )()

    job = pool.mailbox("INBOX").search(q.ALL).fetch(flood.fetch)
    await (job.batch(flood.batch) if flood.batch else job).run(read)
