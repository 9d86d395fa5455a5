"""`MailboxGroup`: mailboxes of an account by name, pattern or special use."""

from __future__ import annotations

from collections.abc import Callable

from imapipe.account.pipeline import AccountPipeline, Choice
from imapipe.net.pool.pool import ConnectionPool
from imapipe.pipeline.pipeline import Pipeline
from imapipe.search import ALL
from imapipe.wire.search_key import SearchKey


class MailboxGroup:
    """Mailboxes of an account. Made by `Pool.each`; making one does no I/O."""

    __slots__ = ("_begin", "_choice", "_pool")

    def __init__(self, pool: ConnectionPool, begin: Callable[[SearchKey], Pipeline], choice: Choice) -> None:
        self._pool = pool
        # Begins the job on one mailbox; no search of ours is added to it: `unaccounted` is for those of everything.
        self._begin = begin
        self._choice = choice

    def __repr__(self) -> str:
        return f"<MailboxGroup {' '.join(self._choice.wanted)}>"

    def search(self, criteria: SearchKey = ALL) -> AccountPipeline:
        """Begin a job on the messages that match, in each of the mailboxes; see `AccountPipeline`.

        Args:
            criteria: Search keys of `imapipe.search`, joined with `&`, `|` and `~`.
        """
        if not isinstance(criteria, SearchKey):
            raise TypeError(f"search() takes keys of imapipe.search such as q.UNSEEN, not {criteria!r}")
        return AccountPipeline(self._pool, self._begin(criteria), self._choice)
