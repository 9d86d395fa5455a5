"""Who takes the messages of each mailbox of an account.

Invariants:

- A sink is divided among mailboxes where each of them gets one of its own; else it serves one after the other.
- `concurrency` is that of the job, not of each mailbox.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from imapipe.models.mailbox import MailboxEntry
from imapipe.models.message import Message
from imapipe.pipeline.delivery.handlers import Handler, check_handler
from imapipe.pipeline.delivery.processes import ProcessHandler
from imapipe.pipeline.delivery.sink import Sink, is_sink, sink_for


@dataclass(frozen=True, slots=True)
class Handlers:
    """Who takes the messages of each mailbox.

    Attributes:
        each: In the order of the mailboxes.
        are_many: Whether they may work side by side.
    """

    each: Sequence[Handler | Sink]
    are_many: bool = True


def handlers_for(handler: Handler | Sink, mailboxes: Sequence[MailboxEntry], concurrency: int) -> Handlers:
    """Divide a sink, or share out a handler, among mailboxes.

    Args:
        handler: Where all messages go.
        mailboxes: The mailboxes.
        concurrency: How many handlers work at a time, in all mailboxes together.

    Raises:
        TypeError: A handler that cannot be awaited.
    """
    if is_sink(handler):
        divided = [sink_for(handler, str(entry.name), entry.delimiter) for entry in mailboxes]
        each = [handler if sink is None else sink for sink in divided]
        return Handlers(each, are_many=None not in divided)
    if isinstance(handler, ProcessHandler):
        return Handlers([handler] * len(mailboxes), are_many=False)
    limited: Handler | Sink = _limited(handler, concurrency)  # type: ignore[arg-type]  # no sink: seen above
    return Handlers([limited] * len(mailboxes))


def _limited(handler: Handler, concurrency: int) -> Handler:
    """The handler, called as often at a time as is said for all mailboxes together."""
    checked = check_handler(handler)
    turns = asyncio.Semaphore(max(1, concurrency))

    async def handle(message: Message) -> None:
        async with turns:
            await checked(message)

    return handle
