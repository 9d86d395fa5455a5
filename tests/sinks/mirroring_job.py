"""Mirroring into every kind of sink that can: a program, run by `test_mirror_kill.py`, whose children are killed."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from tests.killing import obey
from tests.sinks.mirrors import MIRRORS

import imapipe
from imapipe import search as q


class Order(TypedDict):
    """What one child is to do."""

    url: str
    password: str
    folder: str
    kill_after_seconds: float


async def _run(order: Order) -> None:
    folder = Path(order["folder"])
    async with imapipe.create_pool(order["url"], password=order["password"], max_size=1) as pool:
        inbox = pool.mailbox("INBOX")
        for kind, (make, _) in MIRRORS.items():
            sink, state = make(folder / kind), folder / f"{kind}.json"
            job = inbox.search(q.ALL).fetch("full").use(imapipe.Checkpoint(state))
            assert (await job.run(sink)).complete
            await inbox.changes(state).mirror(sink, max_deletions="50%")


if __name__ == "__main__":
    obey(_run)
