"""A job in a process of its own, for test_resuming.py: it may kill itself in the middle of a message.

Arguments: URL, checkpoint, log, and after how many messages to die (0 for never). Writes the report to standard output.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import imapipe
from imapipe import search as q

CONCURRENCY = 4
SAVE_EVERY_MESSAGES = 10
BATCH = 25


async def work(url: str, checkpoint: str, log_path: str, die_after: int) -> imapipe.RunReport:
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    handled = 0

    async def handle(message: imapipe.Message) -> None:
        nonlocal handled
        os.write(log, b"%d\n" % message.uid)
        handled += 1
        if handled == die_after:
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(0)

    layer = imapipe.Checkpoint(checkpoint, save_every_messages=SAVE_EVERY_MESSAGES, when_complete="delete")
    async with imapipe.create_pool(url, password="secret", max_size=2) as pool:
        job = pool.mailbox("INBOX").search(q.ALL).fetch("full").batch(BATCH).use(layer)
        return await job.run(handle, concurrency=CONCURRENCY)


if __name__ == "__main__":
    sys.stdout.write(asyncio.run(work(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))).to_json())
