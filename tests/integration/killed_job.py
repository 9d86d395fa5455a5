"""A checkpointed job that is killed: a program, run by `test_kill.py`.

It imports everything once and then makes a child for each line it reads, so that a death costs milliseconds. A line
is JSON: the account, the paths, how many messages, and after how many seconds the child is killed with SIGKILL. The
answer is a line, too: `killed`, or the report of the child as it came to its end.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from importlib import import_module
from typing import TypedDict

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


async def _run(order: Order) -> imapipe.RunReport:
    log = os.open(order["handled"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def handle(message: imapipe.Message) -> None:
        await asyncio.sleep(order["handler_seconds"])
        # In the hands of the system, and so beyond our death, before the message counts as done.
        os.write(log, message.uid.to_bytes(4, "big"))

    checkpoint = imapipe.Checkpoint(order["state"], save_every_messages=order["save_every_messages"])
    async with imapipe.create_pool(order["url"], password=order["password"], max_size=2) as pool:
        job = pool.mailbox("INBOX").search(q.ALL).fetch("full").batch(25).limit(order["limit"])
        return await job.use(checkpoint, imapipe.Retry()).run(
            handle, concurrency=order["concurrency"], connections=order["connections"]
        )


def _child(order: Order) -> None:
    status = 1
    try:
        report = asyncio.run(_run(order))
        with open(order["report"], "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(report.to_json())
        status = 0
    finally:
        os._exit(status)


def _obey(order: Order) -> str:
    pid = os.fork()
    if not pid:
        _child(order)
    end = time.monotonic() + order["kill_after_seconds"]
    while time.monotonic() < end:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return f"ended {os.waitstatus_to_exitcode(status)}"
        time.sleep(0.0005)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return "killed" if os.WIFSIGNALED(status) else f"ended {os.waitstatus_to_exitcode(status)}"


def _main() -> None:
    # What is imported when it is first needed: here, once, and not in every child.
    for name in imapipe.__all__:
        getattr(imapipe, name)
    for module in ("filelock", "psutil", "tenacity"):
        import_module(module)
    for line in sys.stdin:
        sys.stdout.write(_obey(json.loads(line)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
