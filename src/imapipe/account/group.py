"""`MailboxGroup`: mailboxes of an account by name, pattern or special use."""

from __future__ import annotations

import os
from collections.abc import Callable

from imapipe.account.choosing import Choice
from imapipe.account.mirror import AccountMirrorReport, OnMirrored, mirror_account
from imapipe.account.pipeline import AccountPipeline
from imapipe.changes.mirror import DeletionBound, mirrors_of
from imapipe.net.pool.pool import ConnectionPool
from imapipe.pipeline.delivery.sink import Sink
from imapipe.pipeline.pipeline import Pipeline
from imapipe.search import ALL
from imapipe.store.base import BlockingCheckpointStore, CheckpointStore
from imapipe.store.json_store import JsonCheckpointStore
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
            raise TypeError(
                f"search() takes keys of imapipe.search such as q.UNSEEN, not {criteria!r}; "
                "q.parse() makes one of a text"
            )
        return AccountPipeline(self._pool, self._begin(criteria), self._choice)

    async def mirror(
        self,
        sink: Sink,
        store: CheckpointStore | BlockingCheckpointStore | str | os.PathLike[str],
        *,
        max_deletions: int | str | None = None,
        name: str = "mirror",
        outage_seconds: float = 0.0,
        on_mailbox: OnMirrored | None = None,
    ) -> AccountMirrorReport:
        """Bring what a sink has of the mailboxes up to date with them: flags, and what is gone from them.

        New messages are a job's: run it first. See `Changes.mirror` for what happens in each mailbox. A mailbox in
        which nothing changed costs no command of its own where the server tells HIGHESTMODSEQ; one that is gone from
        the server is not looked at, and what the sink has of it stays.

        Args:
            sink: A sink that can follow changes, such as `sinks.Maildir(…)` or a `sinks.Tee` of such; no run uses it.
            store: Where it is remembered how the mailboxes were: a path, or a store as `Checkpoint` takes it, also the
                same one. It belongs to the sink.
            max_deletions: How much may be removed of each mailbox: a number such as 100, or a share of what the sink
                has of it, such as "10%"; None is nothing.
            name: The name of the state in the store.
            outage_seconds: How long to wait for a server that does not work; `Pool.events` tells of each wait.
            on_mailbox: Called when a mailbox has ended; what it raises ends all.

        Returns:
            The report. What goes wrong with a mailbox, such as `DeletionsRefused`, is in its `errors`.

        Raises:
            TypeError, ValueError: A sink that cannot mirror; a bound that is none.
            AuthenticationFailed, PoolClosed, CheckpointError: The account or the file of the state cannot be used.
            ImapipeError: The mailboxes could not be listed.

        Cancelled, it keeps what the sink committed; the next time goes on from there.
        """
        mirrors_of(sink)
        bound = DeletionBound.parse(max_deletions)
        kept = JsonCheckpointStore(store) if isinstance(store, str | os.PathLike) else store
        entries = await self.search().mailboxes()
        return await mirror_account(
            self._pool,
            self._begin(ALL).account,
            entries,
            sink,
            kept,
            name=name,
            bound=bound,
            outage_seconds=outage_seconds,
            on_mailbox=on_mailbox,
        )
