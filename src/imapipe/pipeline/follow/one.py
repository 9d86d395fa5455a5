"""One mailbox, as what is to be followed."""

from __future__ import annotations

from collections.abc import Sequence

from imapipe.errors import CommandNo
from imapipe.models.mailbox import MailboxStatus
from imapipe.net.connection import STATUS_ITEMS, Connection, status_apart
from imapipe.net.pool.pool import ConnectionPool
from imapipe.pipeline.follow.followed import Place
from imapipe.pipeline.specification import Specification

_ITEMS = (*STATUS_ITEMS, "MAILBOXID")


class OneMailbox:
    """A mailbox by name (a `Territory`)."""

    is_one = True
    is_everything = False

    def __init__(self, pool: ConnectionPool, specification: Specification) -> None:
        self._pool = pool
        self._specification = specification
        self.middleware = specification.middleware
        self._was_there = False

    async def look(self) -> Sequence[Place]:
        """See `Territory`; no mailbox where it was there once and is gone."""
        name = self._specification.mailbox

        async def ask(connection: Connection) -> MailboxStatus:
            return await status_apart(connection, name, _ITEMS)

        try:
            status = await self._pool.perform(ask)
        except CommandNo:
            if self._was_there:
                return []
            raise
        self._was_there = True
        return [Place(self._specification, status)]
