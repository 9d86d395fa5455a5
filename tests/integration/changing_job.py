"""A change with a journal that is killed: a program, run by `test_changes_killed.py`."""

from __future__ import annotations

from typing import TypedDict

from tests.killing import obey

import imapipe


class Order(TypedDict):
    """What one child is to do."""

    url: str
    password: str
    journal: str
    kind: str
    batch: int
    kill_after_seconds: float


async def _run(order: Order) -> None:
    async with imapipe.create_pool(order["url"], password=order["password"], max_size=1) as pool:
        await change(pool, order["kind"], order["journal"], order["batch"])


async def change(pool: imapipe.Pool, kind: str, journal: str, batch: int) -> imapipe.RunReport:
    """Make a change of the INBOX, or go on with it."""
    if kind == "undo":
        return (await imapipe.undo(journal, pool)).reports[0]
    found = pool.mailbox("INBOX").search().batch(batch)
    job = {
        "flag": lambda: found.add_flags("$Work"),
        "set": lambda: found.set_flags("$Only"),
        "move": lambda: found.move_to("Archive"),
        "copy": lambda: found.copy_to("Archive"),
        "delete": lambda: found.delete(permanently=True),
    }[kind]()
    return await job.run(journal=journal)


if __name__ == "__main__":
    obey(_run)
