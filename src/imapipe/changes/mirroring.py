"""One mailbox mirrored into a sink: `Changes.mirror`, and each mailbox of `MailboxGroup.mirror`.

Invariant: what is remembered of the mailbox moves on when everything is committed, and is no more than a shorter way to
see what is there: without it, or with an older one, the same comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from imapipe.changes.book import Book
from imapipe.changes.mirror import DeletionBound, Mirror, MirrorReport, bring_up_to_date
from imapipe.changes.sight import see
from imapipe.models.mailbox import MailboxStatus
from imapipe.net.pool.pool import ConnectionPool
from imapipe.pipeline.access import MailboxAccess
from imapipe.pipeline.books import Books
from imapipe.pipeline.outage import Outage
from imapipe.store.base import CheckpointStore
from imapipe.store.checkpoint_state import CheckpointState
from imapipe.store.job_key import JobKey


def access_for_looking(pool: ConnectionPool, mailbox: str, outage_seconds: float) -> MailboxAccess:
    """The way to a mailbox that is looked at only."""
    return MailboxAccess(
        pool,
        mailbox,
        writes=False,
        remembers=True,
        events=pool.events,
        books=Books(),
        outage=Outage(outage_seconds, pool.events),
    )


async def mirror_mailbox(
    pool: ConnectionPool,
    key: JobKey,
    store: CheckpointStore,
    path: str,
    sinks: Sequence[Mirror],
    *,
    bound: DeletionBound | None,
    outage_seconds: float,
) -> MirrorReport:
    """Look at a mailbox, and bring sinks up to date with it, one after the other.

    Args:
        pool: Where the connection comes from; none is held while the sink is written.
        key: Under which it is remembered how the mailbox was.
        store: Where.
        path: Where that is, for errors.
        sinks: The sinks. What one of them refuses leaves those behind it as they are.
        bound: How much may be removed; None is nothing.
        outage_seconds: How long to wait for a server that does not work.

    Raises:
        DeletionsRefused, UidValidityChanged, SinkError: See `bring_up_to_date`.
        CheckpointError: The state cannot be read or written, or is in use.
        ImapipeError: The server could not be asked.

    Cancelled, it keeps what the sink committed; the next time goes on from there.
    """
    access = access_for_looking(pool, key.mailbox, outage_seconds)
    book = await Book.open(store, key, path)
    try:
        # What is remembered is of no account where UIDs mean other messages: the sink says what it has.
        connection, seen = await access.reach(partial(see, access, book, restarts=True))
        access.give_back(connection)
        reports = [
            await bring_up_to_date(
                sink,
                seen.flags,
                account=key.account,
                mailbox=key.mailbox,
                uidvalidity=seen.uidvalidity,
                cursor=seen.cursor,
                bound=bound,
            )
            for sink in sinks
        ]
        report = MirrorReport.of_all(reports)
        # With something kept that is gone, the mailbox is looked at again though nothing changed: a bound may be given.
        await book.settle(
            seen.flags, seen.uidvalidity, replace(seen.cursor, exists=None) if report.kept else seen.cursor
        )
    finally:
        await book.close()
    return report


def is_up_to_date(status: MailboxStatus | None, remembered: CheckpointState | None) -> bool:
    """Whether the numbers prove that nothing changed in a mailbox since it was mirrored, flags included."""
    then = remembered.finished if remembered is not None else None
    if status is None or remembered is None or then is None:
        return False
    now = (status.uidvalidity, status.uidnext, status.messages, status.highest_modseq, status.mailbox_id)
    known = (remembered.uidvalidity, then.uidnext, then.exists, then.highestmodseq, then.mailboxid)
    return None not in (*now[:4], *known[:4]) and bool(status.highest_modseq) and now == known
