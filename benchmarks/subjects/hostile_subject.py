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
from benchmarks.job import Job
from benchmarks.meter import Meter
from benchmarks.tally import Tally
from imapipe import search as q

VERSION: Final = imapipe.__version__
_ENOUGH_SECONDS: Final = 60.0
_FETCHED: Final = {"subject": "envelope", "structure": "structure"}


def run(job: Job, tally: Tally, meter: Meter) -> dict[str, float]:
    flood = job.options["flood"]
    command = [sys.executable, "-m", "benchmarks.flood", flood]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        try:
            received = asyncio.run(_run(port, flood, meter))
        finally:
            server.kill()
    tally.count = 1
    return {"received": received}


async def _run(port: int, flood: str, meter: Meter) -> float:
    async def read(message: imapipe.Message) -> None:
        if flood in _FETCHED:
            _ = message.envelope.subject if flood == "subject" else message.structure

    async with imapipe.create_pool(f"imap://ann@127.0.0.1:{port}", password="secret", max_size=1) as pool:
        with suppress(imapipe.ImapipeError):
            # The end of the connection, where it is not one message that failed.
            async with asyncio.timeout(_ENOUGH_SECONDS):
                await pool.mailbox("INBOX").search(q.ALL).fetch(_FETCHED.get(flood, "flags")).run(read)
        meter.stop()
        return float(pool.connections.wire_bytes)
