"""Leases: who holds connections of a pool, who waits for them, and how many there are."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from imapipe.net.connection import Connection


class Holder(Protocol):
    """Somebody who holds leases while other code of his runs: a run, while its handlers do."""

    @property
    def leases_held(self) -> int:
        """How many leases he holds now."""


holder: ContextVar[Holder | None] = ContextVar("imapipe_holder", default=None)
"""Whose code is running: set around the handlers of a run, so that they cannot wait for themselves."""


@dataclass(frozen=True, slots=True)
class PoolStats:
    """The pool at one moment.

    Attributes:
        max_size: What the pool may hold.
        limit: What it holds at most for now; below `max_size` after a refusal.
        leased: Connections in use.
        idle: Connections waiting for use.
        opening: Connections being made.
        waiting: Callers of `acquire` in the queue.
        opened: Connections made since the start.
        refused: How often the server had too many.
    """

    max_size: int
    limit: int
    leased: int
    idle: int
    opening: int
    waiting: int
    opened: int
    refused: int


@dataclass(slots=True, eq=False)
class Waiter:
    """Somebody who waits for a connection.

    Attributes:
        mailbox: Which one it should have open, if there is a choice.
        future: The connection, once it is his.
        holder: The run whose handler he is, or None.
    """

    mailbox: str | None
    future: asyncio.Future[Connection]
    holder: Holder | None = None

    def was_told(self, error: BaseException) -> bool:
        """Whether an error is what he was told instead of getting a connection."""
        return self.future.done() and not self.future.cancelled() and self.future.exception() is error

    def fail(self, error: Exception) -> None:
        """He gets none; nothing happens where he does not wait any more."""
        if not self.future.done():
            self.future.set_exception(error)
