"""A move with a journal that is killed: a program, run by `test_changes_of_mail_on_dovecot.py`."""

from __future__ import annotations

from typing import TypedDict

from tests.killing import obey

import imapipe


class Order(TypedDict):
    """What one child is to do."""

    url: str
    password: str
    journal: str
    kill_after_seconds: float


async def _run(order: Order) -> None:
    async with imapipe.create_pool(order["url"], password=order["password"], max_size=1) as pool:
        await pool.mailbox("INBOX").search().batch(20).move_to("Archive").run(journal=order["journal"])


if __name__ == "__main__":
    obey(_run)
