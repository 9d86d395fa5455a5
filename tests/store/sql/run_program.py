"""A run in a process of its own, to be killed or stopped: each message that was handled is a line in a file.

The last line on standard output is how it ended: `done`, or the name of the exception.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import imapipe
from imapipe import search as q
from imapipe.store import SqlCheckpointStore


async def run(order: dict[str, Any]) -> None:
    handled = os.open(order["handled"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def handle(message: imapipe.Message) -> None:
        os.write(handled, b"%d\n" % message.uid)
        await asyncio.sleep(order["pause_seconds"])

    store = SqlCheckpointStore(order["dsn"], lease_seconds=order["lease_seconds"])
    checkpoint = imapipe.Checkpoint(store, save_every_messages=5, save_every_seconds=0.05)
    async with imapipe.create_pool(order["url"], password=order["password"]) as pool:
        await pool.mailbox("INBOX").search(q.ALL).fetch("flags").use(checkpoint).run(handle, concurrency=2)


if __name__ == "__main__":
    try:
        asyncio.run(run(json.loads(sys.argv[1])))
    except imapipe.ImapipeError as error:
        ended = type(error).__name__
    else:
        ended = "done"
    sys.stdout.write(ended)
