"""Messages that failed in earlier runs, by the memory among the middleware, and were not done since."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from imapipe.net.connection import Connection
from imapipe.pipeline.access import MailboxAccess
from imapipe.pipeline.source.base import Found, Question
from imapipe.wire.uid_set import UidSet


@dataclass(frozen=True, slots=True)
class Failed:
    """What the memory knows as failed (a `Source`)."""

    @property
    def is_whole(self) -> bool:
        """See `Source`."""
        return False

    async def find(self, connection: Connection, access: MailboxAccess, question: Question) -> Found:
        """See `Source`."""
        known = None
        if question.memory is not None:
            known = await question.memory.recall(question.account, question.mailbox)
        if known is None:
            return Found(UidSet(), (await access.open(connection)).exists)
        selected = await access.open(
            connection,
            expected=known.uidvalidity,
            remembered=known.cursor,
            advice='start again without only_failed(), and with on_uidvalidity="restart"',
        )
        # Put together of those of each reason, which may be many.
        return Found(await asyncio.to_thread(lambda: known.failed_uids), selected.exists)
