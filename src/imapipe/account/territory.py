"""All mailboxes of an account, as what is to be followed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from imapipe.account.news import News, news_in
from imapipe.middleware.base import Middleware
from imapipe.models.mailbox import MailboxEntry
from imapipe.pipeline.builder import specification_of
from imapipe.pipeline.follow.followed import Place
from imapipe.pipeline.memory import memory_of
from imapipe.pipeline.pipeline import Pipeline


class ManyMailboxes:
    """The mailboxes that a job is for, as they are now (a `Territory`).

    Args:
        choose: Gives them, and the job that is to be run on each.
        middleware: The layers of that job.
        is_everything: No mailbox is named: those that come are followed too, and whoever tells of news tells of all.
    """

    is_one = False

    def __init__(
        self,
        choose: Callable[[], Awaitable[tuple[Sequence[MailboxEntry], Pipeline]]],
        middleware: Sequence[Middleware],
        *,
        is_everything: bool,
    ) -> None:
        self._choose = choose
        self.middleware = middleware
        self.is_everything = is_everything
        self._seen: set[str] = set()

    async def look(self) -> Sequence[Place]:
        """See `Territory`. What an earlier job left is asked of its checkpoint once for each mailbox."""
        entries, job = await self._choose()
        memory = memory_of(job.middleware)
        new = [entry.name for entry in entries if entry.name not in self._seen]
        known = await memory.recall_all(job.account, new) if memory is not None and new else {}
        self._seen.update(new)
        places = []
        for entry in entries:
            specification = specification_of(job.at(entry.name))
            remembered = known.get(entry.name)
            if news_in(entry.status, remembered, job.criteria, job.fingerprint) is News.ALL or remembered is None:
                places.append(Place(specification, entry.status, entry.delimiter))
                continue
            places.append(
                Place(specification, entry.status, entry.delimiter, remembered.uidvalidity, remembered.finished)
            )
        return places
