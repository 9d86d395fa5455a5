"""`Mailbox`: one mailbox of an account, and what can be done with it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from imapipe.errors import CommandNo
from imapipe.middleware.base import Middleware
from imapipe.models.argument import check_consent, check_number
from imapipe.models.mailbox import MailboxStatus
from imapipe.models.message import Attachment, Message
from imapipe.net.connection import STATUS_ITEMS, Connection, status_apart
from imapipe.net.pool.pool import ConnectionPool
from imapipe.pipeline.delivery.stream import Runs
from imapipe.pipeline.operation.download import download_section
from imapipe.pipeline.outage import Outage
from imapipe.pipeline.pipeline import Pipeline
from imapipe.pipeline.source.search_store import SearchStore
from imapipe.pipeline.specification import Specification
from imapipe.search import ALL
from imapipe.wire.command.append import NewMessage
from imapipe.wire.mailbox_name import can_be_mailbox_name
from imapipe.wire.search_key import SearchKey

if TYPE_CHECKING:
    from imapipe.changes.feed import Changes
    from imapipe.pipeline.append.report import AppendReport
    from imapipe.store.base import BlockingCheckpointStore, CheckpointStore

ALL_STATUS_ITEMS: Final = (*STATUS_ITEMS, "SIZE", "HIGHESTMODSEQ", "MAILBOXID")

_Result = TypeVar("_Result")


class Mailbox:
    """One mailbox of an account. Made by `Pool.mailbox`; making one does no I/O."""

    __slots__ = ("_account", "_pool", "_runs", "_search_store", "name")

    def __init__(
        self, pool: ConnectionPool, account: str, runs: Runs, name: str, *, search_store: SearchStore | None = None
    ) -> None:
        self._pool = pool
        self._account = account
        self._runs = runs
        self._search_store = search_store
        self.name = mailbox_name("mailbox", name)

    def __repr__(self) -> str:
        return f"<Mailbox {self.name!r}>"

    async def status(self, *, outage_seconds: float = 0.0) -> MailboxStatus:
        """Counts, without opening it (STATUS).

        Args:
            outage_seconds: How long to wait for a server that does not work; `Pool.events` tells of each wait.

        Raises:
            CommandNo: There is no such mailbox.

        Otherwise it raises as `Pool.acquire` and `Connection.status` do.
        """

        async def ask(connection: Connection) -> MailboxStatus:
            return await status_apart(connection, self.name, ALL_STATUS_ITEMS)

        return await outlast_outage(self._pool, ask, outage_seconds)

    async def download(self, message: Message, attachment: Attachment) -> Attachment:
        """Bring an attachment of a message that was fetched without it, by `fetch("text")` or `fetch("structure")`.

        Args:
            message: A message of this mailbox.
            attachment: One of its `attachments`.

        Returns:
            The attachment with its content; the same one where that is there already.

        Raises:
            ValueError: A message of another mailbox, or an attachment of another message.
            UidValidityChanged: Its UID means another message now.
            MessageVanished: It is in the mailbox no more.
            NotFetched: The server says that it has no such part.
            CommandNo, CommandBad, Throttled: The server refused it.
            PoolTimeout, AuthenticationFailed, ConnectionFailed: No connection could be had, or it ended without
                bringing anything; what one brought that died in the middle is gone on with over another.

        Cancelling it ends the connection that it is on.
        """
        if message.mailbox != self.name:
            raise ValueError(f"the message is of {message.mailbox!r}, not of {self.name!r}")
        if not attachment.is_of(message):
            raise ValueError("the attachment is of another message")
        if attachment.is_fetched:
            return attachment
        whole = await download_section(self._pool, message, attachment.section)
        return attachment.found_in(whole)

    def changes(
        self,
        store: CheckpointStore | BlockingCheckpointStore | str | os.PathLike[str],
        *,
        name: str = "changes",
        on_uidvalidity: Literal["raise", "restart"] = "raise",
        outage_seconds: float = 0.0,
    ) -> Changes:
        """What changed since the last time: `async for change in mailbox.changes("sync.json")`; see `Changes`.

        Args:
            store: Where what was told is remembered: a path, or a store as `Checkpoint` takes it, also the same one.
            name: Whoever asks under another name is told everything for himself.
            on_uidvalidity: What to do where UIDVALIDITY changed or UIDNEXT fell: `"raise"`, or `"restart"` from
                nothing (`ChangeStream.has_restarted` tells).
            outage_seconds: How long to wait for a server that does not work; `Pool.events` tells of each wait.

        Iterating raises UidValidityChanged, CheckpointError; otherwise it raises as `Pool.acquire` and
        `Connection.uid_search` do.
        """
        # Not with this module: nothing else here needs a store, and its import is a part of what a small job takes.
        from imapipe.changes.feed import Changes  # noqa: PLC0415
        from imapipe.store.job_key import JobKey  # noqa: PLC0415

        key = JobKey(self._account, self.name, name)
        return Changes(self._pool, self._runs, key, store, on_uidvalidity=on_uidvalidity, outage_seconds=outage_seconds)

    async def create(self) -> None:
        """Make it (CREATE). Raises CommandNo where it is there already, or cannot be.

        Otherwise it raises as `Pool.acquire` and `Connection.create` do. Cancelled, it may be done all the same.
        """
        async with self._pool.lease() as connection:
            await connection.create(self.name)

    async def rename(self, new_name: str) -> Mailbox:
        """Give it, and those below it, another name (RENAME); gives the mailbox of that name. Raises CommandNo.

        Otherwise it raises as `Pool.acquire` and `Connection.rename` do. Cancelled, it may be done all the same.
        """
        renamed = Mailbox(self._pool, self._account, self._runs, new_name, search_store=self._search_store)
        async with self._pool.lease() as connection:
            await connection.rename(self.name, renamed.name)
        return renamed

    async def delete(self, *, with_messages: bool = False) -> None:
        """Remove it (DELETE). What is removed cannot be brought back.

        Args:
            with_messages: Also where there are messages in it.

        Raises:
            CommandNo: There are messages in it, or the server refuses.
            TypeError: `with_messages` is neither True nor False.

        Otherwise it raises as `Pool.acquire` and `Connection.delete` do. Cancelled, it may be done all the same.
        """
        check_consent("with_messages", with_messages)
        async with self._pool.lease() as connection:
            if not with_messages and (count := (await connection.status(self.name, ("MESSAGES",))).messages) != 0:
                reason = f"{self.name!r} holds {count} messages: move them, or say delete(with_messages=True)"
                raise CommandNo("DELETE", "NOTEMPTY", reason)
            await connection.delete(self.name)

    async def subscribe(self, subscribed: bool = True) -> None:
        """List it among the subscribed mailboxes (SUBSCRIBE), or no more (UNSUBSCRIBE). Raises CommandNo.

        Otherwise it raises as `Pool.acquire` and `Connection.subscribe` do. Cancelled, it may be done all the same.
        """
        async with self._pool.lease() as connection:
            await (connection.subscribe(self.name) if subscribed else connection.unsubscribe(self.name))

    async def append(
        self,
        messages: Iterable[NewMessage] | AsyncIterable[NewMessage],
        *,
        use: Sequence[Middleware] = (),
    ) -> AppendReport:
        """Put messages into it (APPEND), up to 500 and 4 MiB in one command where the server has MULTIAPPEND.

        ::

            report = await mailbox.append(messages, use=[imapipe.Retry(), imapipe.RateLimit(messages_per_second=20)])

        Args:
            messages: `imapipe.connection.NewMessage` values: the bytes or a `Body`, flags, date; any number of them,
                also from an asynchronous source. What can be read only once goes through a temporary file.
            use: Middleware, outermost first, as in `Pipeline.use`: limits, and what tries again. Bytes are those sent.

        Returns:
            The report: for each message where it is, or why it was not taken (its response code; `APPENDLIMIT` where
            it is larger than the server takes, `OVERQUOTA` where the account is full: then nothing more is sent).

        Raises:
            TypeError: What is no message, or no middleware.
            CommandNo: There is no such mailbox.
            AuthenticationFailed, ConnectionFailed, PoolTimeout, Throttled: Nothing could be sent. What comes later ends
                the job, and is in the report.

        Otherwise it raises as `Pool.acquire` and `Connection.append` do.

        Where a connection is lost before its answer came, the mailbox is looked at: nothing is sent twice. Cancelling
        it ends the connection; the messages under way may be there or not.
        """
        # Not with this module: few jobs append, and its import is a part of what a small job takes.
        from imapipe.pipeline.append.append import Appender  # noqa: PLC0415

        return await Appender(self._pool, self._account, self.name, use).append(messages)

    def search(self, criteria: SearchKey = ALL) -> Pipeline:
        """Begin a job on the messages that match; see `Pipeline`.

        Args:
            criteria: Search keys of `imapipe.search`, joined with `&`, `|` and `~`.
        """
        if not isinstance(criteria, SearchKey):
            raise TypeError(
                f"search() takes keys of imapipe.search such as q.UNSEEN, not {criteria!r}; "
                "q.parse() makes one of a text"
            )
        specification = Specification(self.name, search=criteria, search_store=self._search_store)
        return Pipeline(specification, self._pool, self._account, self._runs)


async def outlast_outage(
    connections: ConnectionPool, work: Callable[[Connection], Awaitable[_Result]], outage_seconds: float
) -> _Result:
    """Ask the server once more while it does not work, for so long; raises what it refuses, and ValueError."""
    check_number("outage_seconds", outage_seconds)
    if outage_seconds < 0:
        raise ValueError(f"outage_seconds must be 0 or more, not {outage_seconds}")
    return await Outage(outage_seconds, connections.events).around(lambda: connections.perform(work))


def mailbox_name(function: str, name: str) -> str:
    """The name of a mailbox, as it is known everywhere. Raises TypeError, ValueError."""
    if not isinstance(name, str):
        raise TypeError(f"{function}() takes the name of a mailbox, not {name!r}")
    if not can_be_mailbox_name(name):
        raise ValueError(f"{name!r} cannot be the name of a mailbox")
    # The one name without regard to case (RFC 9051 §5.1); a checkpoint must not know two of it.
    return "INBOX" if name.upper() == "INBOX" else name
