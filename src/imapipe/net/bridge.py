"""The bridge to aioimaplib: the only module that imports it, and the only one that uses its private names.

A leased connection's `.imap` is a real `aioimaplib.IMAP4`. Its protocol object is `BridgeProtocol`: the class
of aioimaplib with its receive path and its scheduling taken out, because every byte is read by
our data plane. What users know stays: methods, `Response` objects with result and lines, IDLE with its
queue, exceptions.

Private names relied on (a contract test checks them): `IMAP4.create_client`, `IMAP4._client_task`, `Command._timer`,
`Command._timeout`, `Command._set_timer` being cancelled by `Command.close`, `IMAP4ClientProtocol._idle_event`.

Invariants:

- One command at a time besides FETCHes of ours: the data plane queues, so the tables of aioimaplib stay empty but
  for IDLE, which `has_pending_idle` looks for.
- The state (`state`, `capabilities`) is read from the session that the data plane feeds; assignments of
  aioimaplib's own methods to `state` agree with it and are not kept.
- A command that times out or is cancelled ends the connection.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, cast

import aioimaplib
from aioimaplib import aioimaplib as private

from imapipe.errors import ConnectionFailed, ImapipeError
from imapipe.net.command import Command
from imapipe.net.dataplane import Dataplane
from imapipe.net.session import Session
from imapipe.net.signals import code_words
from imapipe.wire.literal import Literal, literal_bytes
from imapipe.wire.mailbox_name import decode_mailbox_name, encode_mailbox_name, quote
from imapipe.wire.response import Tagged

IMAP4 = aioimaplib.IMAP4
Open = Callable[[], Awaitable[None]]

# What may stand unquoted (RFC 9051 §9, astring without what needs thought).
_SAFE = re.compile(r"[A-Za-z0-9!#$&'+,\-./:;<=>?@^_`|~\[\]]+\Z")
_MESSAGE_DATA = re.compile(rb"\d+ (?:FETCH|EXPUNGE)\b", re.IGNORECASE)
# Which arguments are mailbox names.
_MAILBOXES: dict[str, slice] = {
    "SELECT": slice(0, 1),
    "EXAMINE": slice(0, 1),
    "CREATE": slice(0, 1),
    "DELETE": slice(0, 1),
    "RENAME": slice(0, 2),
    "STATUS": slice(0, 1),
    "APPEND": slice(0, 1),
    "SUBSCRIBE": slice(0, 1),
    "UNSUBSCRIBE": slice(0, 1),
    "COPY": slice(1, 2),
    "MOVE": slice(1, 2),
}
_ALONE = frozenset(name for name, cmd in private.Commands.items() if cmd.exec is private.Exec.is_sync)


class _Bridged(Command):
    """A command of aioimaplib on our data plane."""

    __slots__ = ("_collect_names", "theirs")

    def __init__(self, theirs: private.Command, pieces: list[bytes], mailbox: str) -> None:
        is_idle = theirs.name == "IDLE"
        name = f"{theirs.prefix or ''}{theirs.name}"
        quiet = 3600.0 if is_idle else None
        super().__init__(
            name,
            pieces,
            keeps_asking=is_idle or theirs.name == "AUTHENTICATE",
            mailbox=mailbox,
            quiet_seconds=quiet,
        )
        self.tag = theirs.tag.encode()
        self.theirs = theirs
        self._collect_names = theirs.name not in _ALONE

    def receive(self, text: bytes, literals: tuple[Literal, ...]) -> None:
        """Give the lines as aioimaplib does: the asterisk cut off, and for most commands the name as well."""
        line = text[2:] if text[:2] == b"* " else text
        if self._collect_names and not _MESSAGE_DATA.match(line):
            name, _, rest = line.partition(b" ")
            if name.upper().decode("ascii", "replace") == self.theirs.untagged_resp_name:
                line = rest
            elif self.theirs.name != "NOOP":
                return
        for position, piece in enumerate(line.split(b"}\r\n") if literals else [line]):
            last = position == len(literals)
            self.theirs.append_to_resp(piece if last else piece + b"}")
            if not last:
                self.theirs.append_to_resp(bytearray(literal_bytes(literals[position])))  # type: ignore[arg-type]
        if self.theirs.name == "IDLE":
            self.theirs.flush()

    def complete(self, tagged: Tagged) -> None:
        code = f"[{code_words(tagged.code)}] " if tagged.code is not None else ""
        self.theirs.close(f"{code}{tagged.text}".encode("utf-8", "surrogateescape"), tagged.status)
        super().complete(tagged)

    def fail(self, error: BaseException) -> None:
        self.theirs._timer.cancel()
        super().fail(error)


class _BridgedSasl(_Bridged):
    """AUTHENTICATE: a request after the initial response is a refusal's reason; the answer is an empty line."""

    __slots__ = ()

    def next_piece(self, text: bytes) -> bytes | None:
        return b"\r\n"


class _BridgedIdle(_Bridged):
    """IDLE: the request says that it has begun."""

    __slots__ = ("_begun",)

    def __init__(self, theirs: private.Command, pieces: list[bytes], begun: asyncio.Event) -> None:
        super().__init__(theirs, pieces, "")
        self._begun = begun

    def next_piece(self, text: bytes) -> bytes | None:
        self._begun.set()
        return None


class BridgeProtocol(private.IMAP4ClientProtocol):
    """aioimaplib's protocol object without its receive path."""

    def __init__(self, plane: Dataplane, session: Session) -> None:
        self._plane = plane
        self._session = session
        self._capabilities: set[str] = set()
        super().__init__(asyncio.get_running_loop())

    @property
    def state(self) -> str:
        """aioimaplib's name for where the connection is."""
        session = self._session
        if session.error is not None or session.logged_out:
            return str(private.LOGOUT)
        if session.selected is not None:
            return str(private.SELECTED)
        if session.logged_in:
            return str(private.AUTH)
        return str(private.NONAUTH) if session.greeted else str(private.CONNECTED)

    @state.setter
    def state(self, value: str) -> None:
        """Their methods assign what the session knows already."""

    @property
    def capabilities(self) -> set[str]:
        """Upper-case names."""
        return set(self._session.capabilities)

    @capabilities.setter
    def capabilities(self, value: set[str]) -> None:
        """As for `state`; brackets that aioimaplib leaves in must not get in."""

    @property
    def transport(self) -> asyncio.Transport | None:  # type: ignore[override]  # theirs is a plain attribute
        """The transport of the connection."""
        return self._plane.transport

    @transport.setter
    def transport(self, value: object) -> None:
        """The data plane holds it."""

    async def execute(self, command: private.Command, scrub: str | None = None) -> private.Response:
        """Send a command of theirs and wait for its reply.

        Raises:
            aioimaplib.Abort: The command is not legal in this state.
            aioimaplib.CommandTimeout: Its timeout passed; the connection is ended.
            ConnectionLost, ServerBye, ProtocolError: The connection ended.
        """
        literal, self.literal_data = self.literal_data, None
        known = private.Commands.get(command.name)
        if known is not None and self.state not in known.valid_states:
            command._timer.cancel()
            raise private.Abort(f"command {command.name} illegal in state {self.state}")
        # One timer for each connection is enough; theirs is armed again for every line.
        command._timer.cancel()
        timeout, command._timeout = command._timeout, None
        bridged = self._bridge(command, literal)
        if command.name == "IDLE":
            self.pending_sync_command = command
        try:
            async with asyncio.timeout(timeout):
                await self._plane.run(bridged)
        except TimeoutError as error:
            if isinstance(error, ImapipeError):
                raise
            raise private.CommandTimeout(command) from error
        finally:
            if command.name == "IDLE":
                self.pending_sync_command = None
                self._idle_event.clear()
        if self._session.logged_out and self.transport is not None:
            self.transport.close()
        return command.response

    def _bridge(self, command: private.Command, literal: bytes | None) -> _Bridged:
        arguments = ["" if argument is None else str(argument) for argument in command.args]
        mailbox = ""
        if command.name in _MAILBOXES:
            where = _MAILBOXES[command.name]
            arguments[where] = [_mailbox_argument(name) for name in arguments[where]]
            if command.name in ("SELECT", "EXAMINE") and arguments:
                mailbox = decode_mailbox_name(_unquote(arguments[0].encode()))
        elif command.name == "LOGIN" and arguments and not _SAFE.match(arguments[0]):
            arguments[0] = quote(arguments[0]).decode()
        line = " ".join([f"{command.prefix or ''}{command.name}", *arguments]).encode() + b"\r\n"
        if command.name == "APPEND" and literal is not None:
            return _Bridged(command, [line, literal + b"\r\n"], mailbox)
        if command.name == "IDLE":
            return _BridgedIdle(command, [line], self._idle_event)
        if command.name == "AUTHENTICATE":
            return _BridgedSasl(command, [line], "")
        return _Bridged(command, [line], mailbox)

    async def search(
        self, *criteria: str, charset: str | None = "utf-8", by_uid: bool = False
    ) -> private.Response:
        """SEARCH; CHARSET is sent only where something in it is not ASCII (Exchange rejects it otherwise)."""
        needed = charset is not None and not all(str(criterion).isascii() for criterion in criteria)
        return await super().search(*criteria, charset=charset if needed else None, by_uid=by_uid)

    async def capability(self) -> None:
        """Ask for the capabilities; the session hears the answer."""
        await self.execute(private.Command("CAPABILITY", self.new_tag()))

    async def greeted(self) -> None:
        """The greeting was read: wake whoever waits for a state."""
        async with self.state_condition:
            self.state_condition.notify_all()

    def send(self, line: str, scrub: str | None = None) -> None:
        """Write a line outside of any command (DONE)."""
        self._plane.write(line.encode() + b"\r\n")


class BridgedIMAP4(aioimaplib.IMAP4):
    """aioimaplib's client over our data plane.

    Args:
        plane: The data plane, not connected yet.
        session: What it feeds.
        opening: Connects and reads the greeting; raises what went wrong.
        timeout_seconds: For each of aioimaplib's own methods.
    """

    def __init__(self, plane: Dataplane, session: Session, opening: Open, timeout_seconds: float) -> None:
        self._plane = plane
        self._session = session
        self._opening = opening
        super().__init__(timeout=timeout_seconds)

    def create_client(
        self,
        host: str,
        port: int,
        loop: asyncio.AbstractEventLoop | None,
        conn_lost_cb: Callable[[Exception | None], None] | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Start to connect, as theirs does."""
        bridge = BridgeProtocol(self._plane, self._session)
        self.protocol = bridge

        async def connect() -> None:
            await self._opening()
            await bridge.greeted()

        self._client_task = asyncio.get_running_loop().create_task(connect())

    async def opened(self) -> None:
        """Wait until the connection stands and the greeting was read."""
        try:
            await self._client_task
        except asyncio.CancelledError:
            self._client_task.cancel()
            raise


def adopt_client(client: aioimaplib.IMAP4, make_plane: Callable[[Session], Dataplane]) -> tuple[Dataplane, Session]:
    """Put our data plane under a user's own live client, which stays usable.

    Args:
        client: Connected, logged in or not, with nothing in flight.
        make_plane: Makes the data plane for the session.

    Raises:
        ConnectionFailed: The client is not connected.
        ValueError: It has a command or IDLE in flight, or is adopted already.
    """
    old = client.protocol
    if isinstance(old, BridgeProtocol):
        raise ValueError("this client runs on imapipe already")
    if old is None or old.transport is None or old.transport.is_closing():
        raise ConnectionFailed("the client to adopt is not connected: call wait_hello_from_server() first")
    if old.pending_sync_command is not None or old.pending_async_commands or old.incomplete_line:
        raise ValueError("the client to adopt has a command in flight: wait for it (or end IDLE) first")
    session = Session(
        capabilities=frozenset(name.strip("[]").upper() for name in old.capabilities),
        logged_in=old.state in (private.AUTH, private.SELECTED),
        greeted=True,
    )
    plane = make_plane(session)
    bridge = BridgeProtocol(plane, session)
    bridge.tagpre, bridge.tagnum = old.tagpre, old.tagnum
    bridge.idle_queue = old.idle_queue
    transport = cast(asyncio.Transport, old.transport)
    transport.set_protocol(plane)
    plane.adopt(transport)
    cast(Any, client).protocol = bridge
    return plane, session


def _mailbox_argument(name: str) -> str:
    """A mailbox name as aioimaplib's users give it: quoted and encoded unless it is that already."""
    if _SAFE.match(name) or (len(name) > 1 and name[0] == name[-1] == '"'):
        return name
    return encode_mailbox_name(name).decode()


def _unquote(name: bytes) -> bytes:
    return re.sub(rb"\\(.)", rb"\1", name[1:-1]) if name[:1] == b'"' else name
