"""`MailboxGroup`: mailboxes of an account by name, pattern or special use."""

from __future__ import annotations

from imapipe.account.pipeline import AccountPipeline, Choice
from imapipe.net.pool.pool import ConnectionPool
from imapipe.pipeline.pipeline import Pipeline
from imapipe.search import ALL
from imapipe.wire.search_key import SearchKey


class MailboxGroup:
    """Mailboxes of an account. Made by `Pool.each`; making one does no I/O."""

    __slots__ = ("_choice", "_job", "_pool")

    def __init__(self, pool: ConnectionPool, job: Pipeline, choice: Choice) -> None:
        self._pool = pool
        self._job = job
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
        return AccountPipeline(self._pool, self._job.search(criteria), self._choice)
