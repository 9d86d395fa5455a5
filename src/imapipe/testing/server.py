"""The testing server: an IMAP server in the test's own event loop."""

from __future__ import annotations

from functools import cached_property
from types import TracebackType
from urllib.parse import quote

from .commands import COMMANDS
from .connections import HOST, Connections
from .host import FetchOrder, Host, Messages
from .session import Session

__all__ = ["FetchOrder", "Messages", "Server"]


class Server(Host):
    """An IMAP server on a loopback port of its own, for tests and demonstrations.

    It is an asynchronous context manager; at its end every session is cancelled, every socket closed.

    Example::

        async with Server(messages=1000) as server:
            async with imapipe.create_pool(server.url, password=server.password) as pool:
                ...
            sizes = [record.messages for record in server.commands.named("UID FETCH")]

    Args:
        messages: How many messages INBOX gets (see ``make_messages``), or the raw messages, or a ``Mailbox``
            such as ``SyntheticMailbox``, or a mapping from mailbox name to any of these, or ``Mailboxes`` such
            as ``GmailMailboxes``.
        user: The one account's name.
        password: Its password.
        token: The access token that XOAUTH2 and OAUTHBEARER accept.
        extensions: Name of a profile (``modern``, ``plain``, ``gmail``, ``exchange``, ``dovecot``, ``yahoo``,
            ``everything``) or the names of the extensions on offer.
        add_extensions: Extensions on top of that.
        remove_extensions: Extensions taken away from it.
        mechanisms: SASL mechanisms on offer.
        capability_codes: Whether the greeting and the reply to a login carry the capabilities.
        latency_seconds: Round trip of the line: every command is worked on this long after it arrived, the
            greeting comes as late. Commands sent together wait together.
        bandwidth_bytes_per_second: Limit of each connection's output.
        line_bytes_per_second: Limit of all connections' output together.
        max_connections: How many may be logged in at once; above it a login is refused.
        too_many_style: Words of that refusal, ``dovecot`` or ``gmail``.
        tls: Context for TLS from the first byte.
        starttls: Context for STARTTLS.
        login_disabled: Refuse logins without TLS.
        faults: What shall go wrong; may be changed later at ``server.faults``.
        throttle: A hidden rate limit.
        message_limit: Messages per command for MESSAGELIMIT; adds that extension.
        visible_limit: How many messages of a mailbox are visible without UIDONLY (Yahoo: 10,000).
        visible_side: Which ones: the ``newest`` or the ``oldest``.
        minimum_uid_batch: Smallest batch UIDBATCHES takes.
        strings: How strings are written; see ``StringStyle``.
        fetch_order: Order of the items in a FETCH response: as ``asked``, ``uid_last``, or ``shuffled``.
        search_charsets: Charsets that SEARCH takes.
        max_command_bytes: Longest line of a command; a longer one is answered BAD.
        max_literal_bytes: Longest literal taken.
        expunged_fetch: What FETCH says of a message that is gone and was not told of yet: it is left out
            (``leave_out``; NO [EXPUNGEISSUED] where numbers were used), its bodies are NIL (``nil``, Dovecot),
            or a body is invented and EXPUNGE told only with NOOP (``invent``, Courier). By default Dovecot's way
            in the profile ``dovecot``, else ``leave_out``.
        tell_unchanged: Whether STORE answers for messages whose flags were so before; by default not in the
            profile ``dovecot``.
        append_limit: Bytes of the largest message APPEND takes; adds the extension APPENDLIMIT.
        quota: Limit of the account; adds the extension QUOTA.
        seed: Seed of made messages and of shuffling.
        now: Time of day: of arrivals, copies, and searches for an age.
        clock: Seconds for records.
        sleep: Waiting of delays and throttles.

    Attributes:
        mailboxes: The mailboxes by name; edits are told to sessions that have one selected.
        commands: Every command, a ``CommandLog``.
        counters: Sums over all connections.
        faults: The faults, a ``Faults``.
        client_ids: What clients said with ID, by connection number.
    """

    host = HOST

    @cached_property
    def _connections(self) -> Connections:
        return Connections(self, COMMANDS)

    # What tests ask for.

    @property
    def port(self) -> int:
        """Where it listens, or listened last; 0 before it is started."""
        return self._connections.port

    @property
    def url(self) -> str:
        """URL of the account without its password: ``imaps`` with TLS, else ``imap``."""
        scheme = "imaps" if self.tls is not None else "imap"
        return f"{scheme}://{quote(self.user, safe='@')}@{self.host}:{self.port}"

    @property
    def sessions(self) -> list[Session]:
        """Sessions that are open now, in order of their numbers."""
        return self._connections.sessions

    def release_stalls(self) -> None:
        """Let every stalled connection go on."""
        self._connections.release_stalls()

    def disconnect_all(self, *, reset: bool = False) -> int:
        """End every connection at once, with ``reset`` as a crash would; returns how many."""
        return self._connections.disconnect_all(reset=reset)

    def push(self, data: bytes, *, count: int = 1, connection: int | None = None) -> int:
        """Send raw bytes, CRLF included, that nobody asked for; returns to how many sessions.

        Args:
            data: What to send; it goes out between two responses, at once where no command is running.
            count: How often.
            connection: Number of the connection, None for all.
        """
        chosen = [session for session in self.sessions if connection in (None, session.number)]
        for session in chosen:
            session.push(data, count)
        return len(chosen)

    # Life.

    async def __aenter__(self) -> Server:
        """Start listening on a free port."""
        await self.open_port()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening, cancel the sessions, close their sockets."""
        await self.stop()

    async def open_port(self) -> None:
        """Listen, on the same port as before if there was one; harmless when it is open."""
        await self._connections.open_port()

    async def close_port(self) -> None:
        """Refuse connections, as a server does that is down; sessions that are open go on."""
        await self._connections.close_port()

    async def stop(self) -> None:
        """Stop listening and end every session; harmless when stopped."""
        await self._connections.stop()
