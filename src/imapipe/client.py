"""The front: `create_pool`, `Pool`."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from imapipe.mailbox import ALL_STATUS_ITEMS, Mailbox, mailbox_name, outlast_outage
from imapipe.models.mailbox import MailboxEntry
from imapipe.net.account import parse_url
from imapipe.net.authentication import Credentials
from imapipe.net.bridge import IMAP4
from imapipe.net.connection import Connection
from imapipe.net.dial import Compress, DialOptions, dial
from imapipe.net.options import MAX_HELD_BYTES, MAX_SPOOL_BYTES, MINIMUM_BYTES_PER_SECOND
from imapipe.net.pool.leased_connection import Lease
from imapipe.net.pool.parting import Handle
from imapipe.net.pool.pool import ConnectionPool, PoolStats
from imapipe.net.proxy import through_proxy
from imapipe.net.reaching import OpenSocket
from imapipe.pipeline.delivery.stream import Runs
from imapipe.pipeline.source.search_store import SearchStore
from imapipe.runtime.event_bus import EventBus
from imapipe.wire.response.limits import Limits
from imapipe.wire.response.note import Note

if TYPE_CHECKING:
    from imapipe.account.group import MailboxGroup


class Pool:
    """The connections of one account, and what can be done with them. Made by `create_pool`.

    Use it as an async context manager, or call `close`. Connections are made when they are needed.

    Attributes:
        account: `user@host:port`.
        connections: The pool proper.
        runs: Runs that are being iterated.
        search_cache: Where answers to searches are remembered, or None.
    """

    __slots__ = ("account", "connections", "runs", "search_cache")

    def __init__(self, connections: ConnectionPool, account: str, *, search_cache: SearchStore | None = None) -> None:
        self.connections = connections
        self.account = account
        self.runs = Runs()
        self.search_cache = search_cache

    def __repr__(self) -> str:
        return f"<Pool {self.account} {self.connections.stats}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End runs that are still iterated (they save), then log out and close every connection.

        Cancelled, it ends what it waits for, too; no connection is left.
        """
        try:
            await self.runs.close()
        finally:
            await self.connections.close()

    def acquire(
        self, mailbox: str | None = None, *, write: bool = False, timeout_seconds: float | None = None
    ) -> AbstractAsyncContextManager[Lease]:
        """Lease a connection: `async with pool.acquire("INBOX") as connection: await connection.imap.noop()`.

        Args:
            mailbox: This mailbox is open on it, for reading (EXAMINE). Without a name no mailbox is.
            write: Open it for reading and writing (SELECT).
            timeout_seconds: How long to wait for a connection.

        Raises:
            PoolTimeout, PoolClosed, AuthenticationFailed, ConnectionFailed, Throttled: On entering the block.
            CommandTimeout, CommandBad, ServerBye, ProtocolError: The same; the server answers late, or nonsense.
            CommandNo: There is no such mailbox, or it cannot be opened for writing.
            LeaseEnded: By the lease, and whatever was kept of it, when it is used after the block.

        Cancellation while waiting leaves nothing behind; in the block, a command that is under way ends the connection.
        """
        if mailbox is not None:
            mailbox = mailbox_name("acquire", mailbox)
        elif write:
            raise ValueError("acquire(write=True) needs the name of the mailbox")
        return self.connections.lease(mailbox, write=write, timeout_seconds=timeout_seconds)

    def mailbox(self, name: str) -> Mailbox:
        """One mailbox by name, such as "INBOX" or "Projekte/Übersicht"."""
        return Mailbox(self.connections, self.account, self.runs, name, search_store=self.search_cache)

    def each(
        self,
        *names: str,
        exclude: Iterable[str] = (),
        subscribed: bool = False,
        all_mail: bool = True,
    ) -> MailboxGroup:
        r"""Many mailboxes as one: `pool.each("*", exclude=("Trash", r"\Junk")).search(q.ALL)`.

        Args:
            names: Names, patterns of LIST (`*` for anything, `%` for anything within a level; `[*]` and `[%]` for these
                characters themselves), and special uses such as `\Sent`; in this order, each mailbox once. None is all.
            exclude: Those to leave out, by the same words.
            subscribed: Only those that are subscribed, and INBOX.
            all_mail: At Gmail, where all are wanted: All Mail with Spam and Trash, each message once and with its
                labels, instead of a copy for every label.

        Raises:
            TypeError, ValueError: What cannot be the name of a mailbox.
        """
        # Not with this module: a job on one mailbox does without, and the import is a part of what that takes.
        from imapipe.account.choosing import Choice  # noqa: PLC0415
        from imapipe.account.group import MailboxGroup  # noqa: PLC0415
        from imapipe.account.selection import check_words  # noqa: PLC0415

        choice = Choice(check_words("each()", names) or ("*",), check_words("exclude=", exclude), subscribed, all_mail)
        return MailboxGroup(self.connections, self.mailbox("INBOX").search, choice)

    async def mailboxes(self, pattern: str = "*", *, outage_seconds: float = 0.0) -> list[MailboxEntry]:
        """All mailboxes that match (LIST), with their counts (STATUS) in one round trip where the server can.

        A mailbox whose counts the server refuses to tell is listed without (`status` is None), and a line that cannot
        be read is left out; `notes` names both.

        Args:
            pattern: Names, with `*` for any characters, and `%` for those of one level.
            outage_seconds: How long to wait for a server that does not work; `events` tells of each wait.

        Raises ValueError for a pattern with a line end, else raises as `acquire` and `Connection.list` do.
        """

        async def ask(connection: Connection) -> list[MailboxEntry]:
            return await connection.list(pattern, status_items=ALL_STATUS_ITEMS)

        return await outlast_outage(self.connections, ask, outage_seconds)

    def adopt(self, client: IMAP4) -> Connection:
        """Take over a user's own live aioimaplib client.

        The client itself stays usable: whose it is has to take care not to use it while others lease its connection.

        Raises:
            ConnectionFailed: It is not connected.
            ValueError: It has something in flight.
        """
        connection = Connection.adopt(client, self.connections.plane_options)
        self.connections.adopt(connection)
        return connection

    @property
    def stats(self) -> PoolStats:
        """How the pool stands."""
        return self.connections.stats

    @property
    def notes(self) -> Mapping[Note, int]:
        """What of the server's answers was passed over, and how often; what concerns a run is in its report."""
        return self.connections.learned.notes

    @property
    def events(self) -> EventBus:
        """Throttles, refusals and outages of the whole account."""
        return self.connections.events


def create_pool(
    url: str,
    *,
    user: str | None = None,
    host: str | None = None,
    password: str | None = None,
    token: Callable[[], Awaitable[str]] | None = None,
    max_size: int = 4,
    ssl_context: ssl.SSLContext | None = None,
    starttls: bool | None = None,
    allow_plaintext: bool = False,
    connect_timeout_seconds: float = 30.0,
    command_timeout_seconds: float = 60.0,
    stall_timeout_seconds: float = 30.0,
    minimum_bytes_per_second: float = MINIMUM_BYTES_PER_SECOND,
    acquire_timeout_seconds: float | None = 60.0,
    max_age_seconds: float = 3600.0,
    compress: Compress = "auto",
    max_held_bytes: int = MAX_HELD_BYTES,
    spool_above: int = 1024 * 1024,
    spool_dir: str | Path | None = None,
    max_spool_bytes: int = MAX_SPOOL_BYTES,
    limits: Limits | None = None,
    identify: Mapping[str, str | None] | None = None,
    search_cache: SearchStore | None = None,
    uidonly: bool | None = None,
    open_socket: OpenSocket | None = None,
    proxy: str | None = None,
) -> Pool:
    """Make the pool of an account; nothing is sent before the first use.

    Args:
        url: `imaps://user@host[:993]` for TLS, `imap://user@host[:143]` for STARTTLS where it is offered. User names
            may hold `@`; a password in a URL is refused.
        user: Instead of the URL's user.
        host: Instead of the URL's host.
        password: The password.
        token: Instead of it, an async function that gives an access token; called at every connect. Where it has a
            method `renew` (`imapipe.oauth.TokenFile` does), that is given a token that was refused, and gives another.
        max_size: The most connections at a time. Providers allow about 10 to 20.
        ssl_context: For TLS and STARTTLS; the system's defaults unless given.
        starttls: True demands STARTTLS, False forbids it; unless given it is used where it is offered, except on
            loopback.
        allow_plaintext: Send the password over a connection that is not encrypted and not loopback.
        connect_timeout_seconds: For connecting and logging in.
        command_timeout_seconds: How long the server may be silent after a command.
        stall_timeout_seconds: How long it may be silent in the middle of an answer.
        minimum_bytes_per_second: How slowly it may send an answer, or take a message: in all a command may take ten
            times `command_timeout_seconds`, a hundredth of a second for each message of the mailbox, and what its bytes
            take at this rate.
        acquire_timeout_seconds: How long `acquire` waits for a connection; None is for ever.
        max_age_seconds: Connections older than this are replaced; keep it below the life of a token.
        compress: COMPRESS=DEFLATE: True demands it, False forbids it, "auto" uses it only where bandwidth was measured
            to be the bottleneck, never on loopback.
        max_held_bytes: Bytes of messages a connection may hold before it stops reading.
        spool_above: Bodies longer than this many bytes go to temporary files; 16 KiB at least.
        spool_dir: Where those are made.
        max_spool_bytes: Bytes in those files before a connection stops reading.
        limits: The largest responses taken.
        identify: Fields to send with ID (RFC 2971) after login.
        search_cache: Where answers to searches are remembered, such as `imapipe.SearchCache()`: no search is sent
            again while the server says that nothing changed.
        uidonly: Enable UIDONLY (RFC 9586), under which commands that use sequence numbers are refused: True demands
            it, False forbids it; unless given it is enabled where it is offered, because Yahoo shows only 10,000
            messages of a mailbox without it.
        open_socket: `async (host, port) -> socket`, non-blocking and connected: the way through a proxy. TLS is put on
            top of it.
        proxy: The URL of a proxy instead, such as `socks5://127.0.0.1:1080` or `http://user:password@host:3128`; needs
            `pip install 'imapipe[proxy]'`. The proxy looks up the name of the server.

    Raises:
        InvalidURL, ValueError, TypeError: What is wrong, in one sentence.
    """
    account = parse_url(url, user=user, host=host)
    if proxy is not None:
        if open_socket is not None:
            raise ValueError("proxy= and open_socket= exclude each other: give one of them")
        open_socket = through_proxy(proxy)
    options = DialOptions(
        account=account,
        credentials=Credentials(account.user, password, token),
        ssl_context=ssl_context,
        starttls=starttls,
        allow_plaintext=allow_plaintext,
        connect_timeout_seconds=connect_timeout_seconds,
        command_timeout_seconds=command_timeout_seconds,
        stall_timeout_seconds=stall_timeout_seconds,
        minimum_bytes_per_second=minimum_bytes_per_second,
        compress=compress,
        identify=identify,
        uidonly=uidonly,
        open_socket=open_socket,
        max_held_bytes=max_held_bytes,
        spool_above=spool_above,
        spool_dir=str(spool_dir) if spool_dir is not None else None,
        max_spool_bytes=max_spool_bytes,
        limits=limits or Limits(),
        max_age_seconds=max_age_seconds,
    )
    options.check()

    def dialer(handle: Handle | None) -> Awaitable[Connection]:
        how = options if handle is None else replace(options, open_socket=handle.opener(options.open_socket))
        return dial(how, slow_link=pool.is_link_slow, learned=pool.learned)

    pool = ConnectionPool(
        dialer,
        max_size=max_size,
        acquire_timeout_seconds=acquire_timeout_seconds,
        plane_options=options.plane,
    )
    return Pool(pool, account.key, search_cache=search_cache)
