"""A copy into another account: a program, run by `test_account.py`, whose children are killed."""

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
    source_user: str
    target: str
    target_user: str
    password: str
    folder: str
    kill_after_seconds: float


async def _run(order: Order) -> None:
    async with (
        imapipe.create_pool(order["source"], user=order["source_user"], password=order["password"]) as here,
        imapipe.create_pool(order["target"], user=order["target_user"], password=order["password"]) as there,
    ):
        job = here.mailbox("INBOX").search(q.ALL).fetch("full").batch(25)
        sink = sinks.Account(there, state=Path(order["folder"]) / "state")
        assert (await job.run(sink, commit_every_messages=20)).complete


if __name__ == "__main__":
    obey(_run)
