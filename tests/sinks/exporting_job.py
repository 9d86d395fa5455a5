"""An export into every kind of sink at once: a program, run by `test_kill.py`, whose children are killed.

It imports everything once and makes a child for each line that it reads, as `tests/integration/killed_job.py` does.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import TypedDict

import imapipe
from imapipe import search as q
from imapipe import sinks


class Order(TypedDict):
    """What one child is to do."""

    url: str
    password: str
    folder: str
    with_tables: bool
    kill_after_seconds: float


async def _run(order: Order) -> None:
    folder = Path(order["folder"])
    everywhere: list[imapipe.Sink] = [
        sinks.Maildir(folder / "maildir"),
        sinks.Mbox(folder / "all.mbox"),
        sinks.EmlFolder(folder / "eml"),
        sinks.JsonLines(folder / "all.jsonl"),
        sinks.Attachments(folder / "attachments"),
    ]
    if order["with_tables"]:
        everywhere.append(sinks.Parquet(folder / "parquet"))
    async with imapipe.create_pool(order["url"], password=order["password"], max_size=2) as pool:
        job = pool.mailbox("INBOX").search(q.ALL).fetch("full").batch(25)
        # Whoever was killed holds the checkpoint for a moment longer than it lives.
        report = await job.use(imapipe.Checkpoint(folder / "state.json")).run(
            sinks.Tee(*everywhere), commit_every_messages=20
        )
        assert report.complete


def _obey(order: Order) -> str:
    pid = os.fork()
    if not pid:
        status = 1
        try:
            asyncio.run(_run(order))
            status = 0
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(status)
    end = time.monotonic() + order["kill_after_seconds"]
    while time.monotonic() < end:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return f"ended {os.waitstatus_to_exitcode(status)}"
        time.sleep(0.0005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "killed"


def _main() -> None:
    for name in imapipe.__all__:
        getattr(imapipe, name)
    for module in ("filelock", "psutil", "tenacity"):
        import_module(module)
    for line in sys.stdin:
        sys.stdout.write(_obey(json.loads(line)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
