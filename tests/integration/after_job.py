"""A job whose messages are moved after their handler, and that is killed: a program of `test_after_on_dovecot.py`."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from itertools import count
from typing import TypedDict

from tests.killing import obey

import imapipe
from imapipe import search as q
from imapipe.journal.entry import Intent
from imapipe.pipeline.after import duty, layer


class Order(TypedDict):
    """What one child is to do."""

    url: str
    password: str
    state: str
    handled: str
    kind: str
    intents: int
    delay_seconds: float
    kill_after_seconds: float


CHANGES = {
    "move": imapipe.move_to("Processed"),
    "copy": imapipe.copy_to("Processed"),
    "add": imapipe.add_flags("$Done"),
}


def job(pool: imapipe.Pool, state: str) -> imapipe.Pipeline:
    """The job that is killed."""
    layers = (imapipe.Checkpoint(state, save_every_messages=20), imapipe.Retry())
    return pool.mailbox("INBOX").search(q.ALL).batch(20).fetch("headers").use(*layers)


def _die_after(intents: int, delay_seconds: float) -> None:
    """Be killed so long after that many changes were begun, and before the next one is sent.

    Without the latter a job of few messages would be over now and then when its death comes.
    """
    intend = duty.KeptJournal.intend
    left = count(1)

    async def dying(self: duty.KeptJournal, intent: Intent) -> None:
        number = next(left)
        if number == intents:
            threading.Timer(delay_seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
        await intend(self, intent)
        if number > intents:
            await asyncio.Event().wait()

    duty.KeptJournal.intend = dying  # type: ignore[method-assign]


async def _run(order: Order) -> None:
    # Many small groups, so that many of the moments are in the middle of a change.
    layer.GROUP_SECONDS, layer.GROUP_MESSAGES = 0.01, 20
    _die_after(order["intents"], order["delay_seconds"])
    seen = os.open(order["handled"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def handle(message: imapipe.Message) -> None:
        os.write(seen, f"{message.headers['Message-ID']}\n".encode())
        if message.uid % 10 == 0:
            raise ValueError("no")

    async with imapipe.create_pool(order["url"], password=order["password"], max_size=2) as pool:
        failing = imapipe.add_flags("$Failed")
        await job(pool, order["state"]).run(handle, on_done=CHANGES[order["kind"]], on_failed=failing)


if __name__ == "__main__":
    obey(_run)
