"""A copy of a whole account into another one: a program, run by `test_copy_kill.py`, whose children are killed."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from tests.killing import obey

import imapipe
from imapipe import search as q
from imapipe import sinks


class Order(TypedDict):
    """What one child is to do."""

    source: str
    source_password: str
    target: str
    target_password: str
    state: str
    kill_after_seconds: float


async def _run(order: Order) -> None:
    async with (
        imapipe.create_pool(order["source"], password=order["source_password"]) as old,
        imapipe.create_pool(order["target"], password=order["target_password"]) as new,
    ):
        folders = await sinks.map_folders(old, new)
        job = old.each("*", exclude=folders.left_out).search(q.ALL).fetch("full").batch(25)
        sink = sinks.Account(new, folders, state=Path(order["state"]))
        report = await job.run(sink, commit_every_messages=20)
        assert report.complete, report.table()


if __name__ == "__main__":
    obey(_run)
