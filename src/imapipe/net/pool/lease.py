"""Who waits for a connection of a pool, and whose code is running while he does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from imapipe.errors import PoolTimeout
from imapipe.net.connection import Connection


class Holder(Protocol):
    """Somebody who holds leases while other code of his runs: a run, while its handlers do."""

    @property
    def leases_held(self) -> int:
        """How many leases he holds now."""

    def is_of(self, pool: object) -> bool:
        """Whether they are of this pool."""


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

    async def wait(
        self, until: float | None, limit_seconds: float, max_size: int, shortage: Callable[[], str] = str
    ) -> Connection:
        """Wait for the connection.

        Args:
            until: The time by which it must be there, or None.
            limit_seconds: How long that was from the beginning.
            max_size: Of the pool.
            shortage: Tells why no connection may be made now, "" where that is not the reason.

        Raises:
            PoolTimeout: It was not there in time; it says why none could be made, if one was tried.
            Exception: What he was told instead of getting one.
        """
        try:
            async with asyncio.timeout_at(until):
                return await self.future
        except TimeoutError as error:
            # What the dialer raised is no timeout of ours, whatever its class.
            if self.future.done() and not self.future.cancelled() and self.future.exception() is error:
                raise
            why = self.refusal
            told = shortage() or (str(why) if why is not None else "")
            reason = f"no connection became free in {limit_seconds:g} seconds, and none could be made: {told}"
            raise PoolTimeout(timeout_seconds=limit_seconds, max_size=max_size, reason=reason if told else "") from why

    def fail(self, error: Exception) -> None:
        """He gets none; nothing happens where he does not wait any more."""
        if not self.future.done():
            self.future.set_exception(error)


def self_wait(limit: int, max_size: int) -> PoolTimeout:
    """What a handler is told whose own run holds all connections that there may be."""
    reason = (
        f"this handler's own run holds all {limit} connections, so acquire() would wait for ever: "
        "run it with fewer connections=, or raise max_size of the pool"
    )
    return PoolTimeout(timeout_seconds=0.0, max_size=max_size, reason=reason)
