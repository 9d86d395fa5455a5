"""An export into every kind of sink at once: a program, run by `test_kill.py`, whose children are killed."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from tests.killing import obey

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
        sinks.Sqlite(folder / "all.sqlite"),
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


if __name__ == "__main__":
    obey(_run)
