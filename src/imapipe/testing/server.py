"""The testing server: an IMAP server in the test's own event loop."""

from __future__ import annotations

import asyncio
import itertools
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Literal
from urllib.parse import quote

from . import commands_fetch, commands_login, commands_mailbox, commands_message, commands_search
from .extensions import choose_extensions
from .faults import CutConnection, Fault, Faults, RefuseConnection
from .link import Link, OutputLimit
from .mailbox import Mailbox
from .mailboxes import Mailboxes
from .messages import make_messages
from .records import CommandLog, CommandRecord, Counters
from .session import Entry, Session
from .structure import StringStyle
from .throttle import Throttle

# Not Iterable[bytes]: next to it type checkers cannot tell what a dict of mailboxes is.
Messages = int | Sequence[bytes] | Iterator[bytes] | Mailbox | Mapping[str, "int | Iterable[bytes] | Mailbox"]
"""What a server may be filled with: a number of made messages, raw messages, or mailboxes by name."""

FetchOrder = Literal["asked", "uid_last", "shuffled"]

_COMMANDS: dict[str, Entry] = {
    **commands_login.COMMANDS,
    **commands_mailbox.COMMANDS,
    **commands_fetch.COMMANDS,
    **commands_search.COMMANDS,
    **commands_message.COMMANDS,
}

_TOO_MANY: dict[str, tuple[str, str]] = {
    "dovecot": (
        "UNAVAILABLE",
        "Maximum number of connections from user+IP exceeded (mail_max_userip_connections={limit})",
    ),
    "gmail": ("ALERT", "Too many simultaneous connections. (Failure)"),
}


class Server:
    """An IMAP server on a loopback port of its own, for tests and demonstrations.

    It is an asynchronous context manager; at its end every session is cancelled, every socket closed.

    Example::

        async with Server(messages=1000) as server:
            async with imapipe.create_pool(server.url, password=server.password) as pool:
                ...
            sizes = [record.messages for record in server.commands.named("UID FETCH")]

    Args:
        messages: How many messages INBOX gets (see ``make_messages``), or the raw messages, or a ``Mailbox``
            such as ``SyntheticMailbox``, or a mapping from mailbox name to any of these.
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
        seed: Seed of made messages and of shuffling.
        clock: Seconds for records.
        sleep: Waiting of delays and throttles.

    Attributes:
        mailboxes: The mailboxes by name; edits are told to sessions that have one selected.
        commands: Every command, a ``CommandLog``.
        counters: Sums over all connections.
        faults: The faults, a ``Faults``.
        client_ids: What clients said with ID, by connection number.
    """

    def __init__(
        self,
        messages: Messages = 0,
        *,
        user: str = "ann",
        password: str = "secret",
        token: str = "token",
        extensions: str | Iterable[str] = "modern",
        add_extensions: Iterable[str] = (),
        remove_extensions: Iterable[str] = (),
        mechanisms: Iterable[str] = ("PLAIN", "XOAUTH2", "OAUTHBEARER"),
        capability_codes: bool = True,
        latency_seconds: float = 0.0,
        bandwidth_bytes_per_second: float | None = None,
        max_connections: int | None = None,
        too_many_style: Literal["dovecot", "gmail"] = "dovecot",
        tls: ssl.SSLContext | None = None,
        starttls: ssl.SSLContext | None = None,
        login_disabled: bool = False,
        faults: Iterable[Fault] = (),
        throttle: Throttle | None = None,
        message_limit: int | None = None,
        visible_limit: int | None = None,
        visible_side: Literal["newest", "oldest"] = "newest",
        minimum_uid_batch: int = 500,
        strings: StringStyle = "auto",
        fetch_order: FetchOrder = "asked",
        search_charsets: Iterable[str] = ("us-ascii", "utf-8"),
        max_command_bytes: int = 65_536,
        max_literal_bytes: int = 64 << 20,
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        added = [*add_extensions, "MESSAGELIMIT"] if message_limit is not None else list(add_extensions)
        self.extensions = choose_extensions(extensions, added, remove_extensions)
        self.user, self.password, self.token = user, password, token
        self.mechanisms = tuple(mechanisms)
        self.capability_codes = capability_codes
        self.latency_seconds = latency_seconds
        self.bandwidth_bytes_per_second = bandwidth_bytes_per_second
        self.max_connections = max_connections
        self.tls, self.starttls, self.login_disabled = tls, starttls, login_disabled
        self.faults = Faults(faults)
        self.throttle = throttle
        self.message_limit = message_limit
        self.visible_limit, self.visible_side = visible_limit, visible_side
        self.minimum_uid_batch = minimum_uid_batch
        self.strings: StringStyle = strings
        self.fetch_order: FetchOrder = fetch_order
        self.search_charsets = frozenset(name.lower() for name in search_charsets)
        self.max_command_bytes, self.max_literal_bytes = max_command_bytes, max_literal_bytes
        self.seed = seed
        self.clock = clock
        self.sleep = sleep
        self.mailboxes = Mailboxes()
        self.commands = CommandLog()
        self.counters = Counters()
        self.client_ids: dict[int, dict[str, str | None]] = {}
        self.host = "127.0.0.1"
        self.port = 0
        self._too_many_style = too_many_style
        self._numbers = itertools.count(1)
        self._sessions: dict[asyncio.Task[None], Session] = {}
        self._links: set[Link] = set()
        self._listening: asyncio.Server | None = None
        self._fill(messages)

    def _fill(self, messages: Messages) -> None:
        boxes: Mapping[str, int | Iterable[bytes] | Mailbox]
        boxes = messages if isinstance(messages, Mapping) else {"INBOX": messages}
        for name, content in boxes.items():
            if isinstance(content, Mailbox):
                self.mailboxes.add(name, content)
            else:
                raw = make_messages(content, seed=self.seed) if isinstance(content, int) else content
                self.mailboxes.add(name).extend(raw)
        if "INBOX" not in self.mailboxes:
            self.mailboxes.add("INBOX")

    # What tests ask for.

    @property
    def url(self) -> str:
        """URL of the account without its password: ``imaps`` with TLS, else ``imap``."""
        scheme = "imaps" if self.tls is not None else "imap"
        return f"{scheme}://{quote(self.user, safe='@')}@{self.host}:{self.port}"

    @property
    def sessions(self) -> list[Session]:
        """Sessions that are open now, in order of their numbers."""
        return sorted(self._sessions.values(), key=lambda session: session.number)

    @property
    def logged_in_sessions(self) -> int:
        """How many sessions are logged in now."""
        return sum(1 for session in self._sessions.values() if session.user is not None and not session.over)

    @property
    def too_many_connections(self) -> tuple[str, str]:
        """Response code and text of a login above ``max_connections``."""
        code, text = _TOO_MANY[self._too_many_style]
        return code, text.format(limit=self.max_connections)

    def release_stalls(self) -> None:
        """Let every stalled connection go on."""
        for link in self._links:
            link.release_stall()

    def disconnect_all(self, *, reset: bool = False) -> int:
        """End every connection at once, with ``reset`` as a crash would; returns how many."""
        links = list(self._links)
        for link in links:
            link.cut = "reset" if reset else "close"
            link.close(reset=reset)
        return len(links)

    # Life.

    async def __aenter__(self) -> Server:
        """Start listening on a free port."""
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(
            lambda: Link(self.counters, self._on_open, self.bandwidth_bytes_per_second, self.tls is not None),
            self.host,
            0,
            ssl=self.tls,
            backlog=512,
        )
        self.port = self._listening.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening, cancel the sessions, close their sockets."""
        await self.stop()

    async def stop(self) -> None:
        """Stop listening and end every session; harmless when stopped."""
        if self._listening is not None:
            self._listening.close()
        tasks = list(self._sessions)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        links = list(self._links)
        for link in links:
            link.abort()
        await asyncio.gather(*(link.closed for link in links))
        # Transports that were given up during a handshake close their sockets in the next turn of the loop.
        await asyncio.sleep(0)
        if self._listening is not None:
            await self._listening.wait_closed()
            self._listening = None

    def _on_open(self, link: Link) -> None:
        counters = self.counters
        number = next(self._numbers)
        counters.connections += 1
        counters.open_connections += 1
        counters.peak_connections = max(counters.peak_connections, counters.open_connections)
        self._links.add(link)
        link.closed.add_done_callback(lambda _: self._on_closed(link))
        faults = self.faults.of_connection(CommandRecord(number, "", "", "", self.clock()))
        session = Session(self, link, number, _COMMANDS)
        greeting = self._greeting(session)
        for fault in faults:
            if isinstance(fault, RefuseConnection):
                counters.refused_connections += 1
                if not fault.text:
                    link.close(reset=True)
                    return
                greeting = f"* BYE {fault.text}\r\n".encode("latin-1", "replace")
                session.over = True
            elif isinstance(fault, CutConnection):
                link.limits.append(OutputLimit(fault.after_bytes, fault.kind))
        task = asyncio.get_running_loop().create_task(session.run(greeting), name=f"imapipe.testing session {number}")
        self._sessions[task] = session
        task.add_done_callback(self._on_session_end)

    def _greeting(self, session: Session) -> bytes:
        if self.capability_codes:
            return f"* OK [{commands_login.capability_text(session)}] imapipe.testing ready\r\n".encode("ascii")
        return b"* OK imapipe.testing ready\r\n"

    def _on_session_end(self, task: asyncio.Task[None]) -> None:
        del self._sessions[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a session of imapipe.testing failed", "exception": error, "task": task}
            )

    def _on_closed(self, link: Link) -> None:
        self._links.discard(link)
        self.counters.open_connections -= 1
