"""Who waits for a connection of a pool, and whose code is running while he does."""

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


@dataclass(slots=True, eq=False)
class Waiter:
    """Somebody who waits for a connection.

    Attributes:
        mailbox: Which one it should have open, if there is a choice.
        write: Whether that should be open for writing.
        future: The connection, once it is his.
        holder: The run whose handler he is, or None.
        refusal: Why the last connection could not be made while he waited, or None.
    """

    mailbox: str | None
    write: bool
    future: asyncio.Future[Connection]
    holder: Holder | None = None
    refusal: Exception | None = None

    @property
    def is_over(self) -> bool:
        """Whether he waits no more: he has his connection, or an error, or was cancelled."""
        return self.future.done()

    def was_told(self, error: BaseException) -> bool:
        """Whether an error is what he was told instead of getting a connection."""
        return self.future.done() and not self.future.cancelled() and self.future.exception() is error

    def fail(self, error: Exception) -> None:
        """He gets none; nothing happens where he does not wait any more."""
        if not self.future.done():
            self.future.set_exception(error)
