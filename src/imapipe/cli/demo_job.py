"""The job of the demo, in a process of its own that may be killed at any moment.

It is a job like any other: search, batch, fetch, handler, with a checkpoint. On standard output it tells its parent how
far it is, one JSON object a line. What it handled it writes to a log, where a kill cannot take it back.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final, Self

import orjson

import imapipe
from imapipe import search as q
from imapipe.cli.account import PASSWORD_VARIABLE

CONCURRENCY: Final = 8
CONNECTIONS: Final = 2
SAVE_EVERY_MESSAGES: Final = 100
# After a kill: the messages that were in hand, and those whose outcome was not yet saved.
ALLOWED_REPEATS: Final = CONCURRENCY + SAVE_EVERY_MESSAGES
# Lines of one length: the size of a log says how many there are.
LOG_LINE: Final = "%010d %64s\n"
LOG_LINE_BYTES: Final = len(LOG_LINE % (0, ""))
_BATCH: Final = imapipe.AdaptiveBatch(start=50, minimum=25, maximum=200, target_seconds=1.0)


@dataclass(frozen=True, slots=True)
class Order:
    """What the parent wants: one argument, in JSON.

    Attributes:
        url: The account.
        checkpoint: The file of the checkpoint.
        log: The file to which handled messages are appended.
        rate: Messages per second, 0 for no limit.
        hold_at: After so many messages it waits to be killed; 0: it goes on to the end.
    """

    url: str
    checkpoint: str
    log: str
    rate: float
    hold_at: int = 0

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        return cls(**orjson.loads(text))

    def to_json(self) -> str:
        """Write it as an argument of a process."""
        return orjson.dumps(asdict(self)).decode()


async def work(order: Order) -> imapipe.RunReport:
    """Do the job; goes on where the checkpoint says."""
    log = os.open(order.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    left = order.hold_at or sys.maxsize

    async def handle(message: imapipe.Message) -> None:
        nonlocal left
        if not left:
            # Whoever is to kill us is late, for the machine is busy; this job must not be over before.
            await asyncio.Event().wait()
        left -= 1
        digest = hashlib.sha256(message.body).hexdigest()
        os.write(log, (LOG_LINE % (message.uid, digest)).encode())
        # Others have their turn between the work and its acknowledgement: the worst moment to be killed in.
        await asyncio.sleep(0)

    layers: list[imapipe.Middleware] = [
        imapipe.Progress(lambda snapshot: _tell({"progress": asdict(snapshot)}), every_seconds=0.1),
        imapipe.Checkpoint(order.checkpoint, save_every_messages=SAVE_EVERY_MESSAGES),
        imapipe.Retry(attempts=5),
    ]
    if order.rate > 0:
        layers.append(imapipe.RateLimit(messages_per_second=order.rate))
    try:
        async with imapipe.create_pool(order.url, password=os.environ[PASSWORD_VARIABLE], max_size=CONNECTIONS) as pool:
            job = pool.mailbox("INBOX").search(q.ALL).batch(_BATCH).fetch("full").use(*layers)
            return await job.run(handle, concurrency=CONCURRENCY)
    finally:
        os.close(log)


def _tell(news: Mapping[str, object]) -> None:
    os.write(sys.stdout.fileno(), orjson.dumps(news) + b"\n")


def main() -> None:
    """Run the order given as the only argument."""
    report = asyncio.run(work(Order.from_json(sys.argv[1])))
    _tell({"report": orjson.loads(report.to_json()), "table": report.table()})


if __name__ == "__main__":
    main()
