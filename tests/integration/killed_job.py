"""A checkpointed job that is killed: a program, run by `test_kill.py`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TypedDict

from tests.killing import obey

import imapipe
from imapipe import search as q


class Order(TypedDict):
    """What one child is to do."""

    url: str
    password: str
    state: str
    handled: str
    report: str
    limit: int
    concurrency: int
    connections: int
    save_every_messages: int
    handler_seconds: float
    kill_after_seconds: float


async def _run(order: Order) -> None:
    log = os.open(order["handled"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def handle(message: imapipe.Message) -> None:
        await asyncio.sleep(order["handler_seconds"])
        # In the hands of the system, and so beyond our death, before the message counts as done.
        os.write(log, message.uid.to_bytes(4, "big"))

    checkpoint = imapipe.Checkpoint(order["state"], save_every_messages=order["save_every_messages"])
    async with imapipe.create_pool(order["url"], password=order["password"], max_size=2) as pool:
        job = pool.mailbox("INBOX").search(q.ALL).fetch("full").batch(25).limit(order["limit"])
        report = await job.use(checkpoint, imapipe.Retry()).run(
            handle, concurrency=order["concurrency"], connections=order["connections"]
        )
    # Nothing else runs here by now.
    Path(order["report"]).write_text(report.to_json(), encoding="utf-8")  # noqa: ASYNC240


if __name__ == "__main__":
    obey(_run)
