"""From an account to a connection that is logged in: connect, TLS, STARTTLS, log in, compress.

Invariants:

- A password goes over plain text only to loopback, or where the caller allowed it by name. Loopback is where the socket
  leads, and not a name alone: `localhost` may be another machine's, behind a function that opens sockets.
- All of it is under one timeout; whatever goes wrong, the socket is closed before the exception leaves.
- Errors of the operating system, of TLS and of the caller's own functions become `ConnectionFailed` or
  `AuthenticationFailed` with a sentence that says what to do, the cause chained.
- What may be left out (ID, ENABLE, COMPRESS, STARTTLS where it is not demanded) ends nothing when it is refused.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal as Choice

from imapipe.errors import (
    AuthenticationFailed,
    CapabilityMissing,
    CommandTimeout,
    ConnectionFailed,
    ImapipeError,
    ProtocolError,
    ServerBye,
)
from imapipe.models.argument import check_number, check_whole
from imapipe.net.account import Account
from imapipe.net.authentication import Credentials, Login
from imapipe.net.bridge import BridgedIMAP4
from imapipe.net.command import Command
from imapipe.net.connection import Connection
from imapipe.net.dataplane import Dataplane
from imapipe.net.learned import Learned
from imapipe.net.options import (
    MAX_HELD_BYTES,
    MAX_SPOOL_BYTES,
    MINIMUM_BYTES_PER_SECOND,
    SPOOL_ABOVE,
    PlaneOptions,
)
from imapipe.net.peer import is_local
from imapipe.net.reaching import OpenSocket
from imapipe.net.session import Session
from imapipe.net.signals import is_one_too_many, refusal_in, status_error, to_error
from imapipe.net.unreachable import unreachable
from imapipe.net.upgrade import start_tls
from imapipe.wire.command.compress import compress
from imapipe.wire.response.limits import Limits
from imapipe.wire.response.response import parse_greeting

# How much of what a server says where no IMAP was spoken is told.
SHOWN_CHARACTERS = 120

Compress = Choice["auto", True, False]


@dataclass(frozen=True, slots=True)
class DialOptions:
    """How to connect. Times in seconds, sizes in bytes; `create_pool` documents them."""

    account: Account
    credentials: Credentials
    ssl_context: ssl.SSLContext | None = None
    starttls: bool | None = None
    allow_plaintext: bool = False
    connect_timeout_seconds: float = 30.0
    command_timeout_seconds: float = 60.0
    stall_timeout_seconds: float = 30.0
    minimum_bytes_per_second: float = MINIMUM_BYTES_PER_SECOND
    compress: Compress = "auto"
    identify: Mapping[str, str | None] | None = None
    uidonly: bool | None = None
    open_socket: OpenSocket | None = None
    max_held_bytes: int = MAX_HELD_BYTES
    spool_above: int = SPOOL_ABOVE
    spool_dir: str | None = None
    max_spool_bytes: int = MAX_SPOOL_BYTES
    limits: Limits = field(default_factory=Limits)
    max_age_seconds: float = 3600.0

    @property
    def plane(self) -> PlaneOptions:
        """What each connection may take."""
        return PlaneOptions(
            command_timeout_seconds=self.command_timeout_seconds,
            stall_timeout_seconds=self.stall_timeout_seconds,
            minimum_bytes_per_second=self.minimum_bytes_per_second,
            max_held_bytes=self.max_held_bytes,
            spool_above=self.spool_above,
            spool_dir=self.spool_dir,
            max_spool_bytes=self.max_spool_bytes,
            limits=self.limits,
        )

    def check(self) -> None:
        """Refuse what can be refused before anything is sent. Raises ValueError, TypeError."""
        for name in (
            "connect_timeout_seconds",
            "command_timeout_seconds",
            "stall_timeout_seconds",
            "minimum_bytes_per_second",
            "max_age_seconds",
        ):
            check_number(name, getattr(self, name))
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)!r}")
        for name in ("max_held_bytes", "spool_above", "max_spool_bytes"):
            check_whole(name, getattr(self, name))
            if getattr(self, name) < 1024:
                raise ValueError(f"{name} must be at least 1024 bytes, not {getattr(self, name)!r}")
        if self.compress not in ("auto", True, False):
            raise ValueError(f'compress must be "auto", True or False, not {self.compress!r}')


async def dial(options: DialOptions, *, slow_link: bool = False, learned: Learned | None = None) -> Connection:
    """Connect and log in.

    Args:
        options: How.
        slow_link: Bandwidth was measured to be the bottleneck, so that `compress="auto"` means on.
        learned: What other connections to this server have found out.

    Raises:
        ConnectionFailed: Name, port, TLS or greeting.
        AuthenticationFailed: The credentials were refused.
        Throttled: The server has too many connections of this account.
        CapabilityMissing: The server cannot do what was asked for.
    """
    login = options.credentials.begin(options.account.host, options.account.port)
    try:
        return await _dial_once(options, login, learned, slow_link=slow_link)
    except AuthenticationFailed:
        if not login.may_begin_again:
            raise
    # Some servers hang up behind a refusal: a new token, or another mechanism, needs a new connection.
    return await _dial_once(options, login, learned, slow_link=slow_link)


async def _dial_once(options: DialOptions, login: Login, learned: Learned | None, *, slow_link: bool) -> Connection:
    account = options.account
    session = Session()
    plane = Dataplane(session, options.plane, options.credentials.secrets)

    async def opening() -> None:
        await _open_transport(plane, options)
        _greet(session, await plane.greeting, account)

    imap = BridgedIMAP4(
        plane,
        session,
        opening,
        host=account.host,
        port=account.port,
        timeout_seconds=options.command_timeout_seconds,
    )
    try:
        async with asyncio.timeout(options.connect_timeout_seconds):
            await imap.opened()
            connection = Connection(imap, plane, session)
            connection.ways.learned = learned or connection.ways.learned
            connection.ways.learned.has_greeted = True
            await _secure(connection, options)
            await _log_in(connection, options, login)
            await _compress(connection, options, slow_link=slow_link)
    except BaseException as error:
        failed = _explain(
            error,
            options,
            name_is_right=learned is not None and learned.has_greeted,
            # Whoever waits for TLS says nothing before the client does.
            waits_for_tls=not account.tls and plane.transport is not None and not session.greeted,
        )
        plane.abort(failed if isinstance(failed, ImapipeError) else ConnectionFailed("given up"))
        if failed is error:
            raise
        raise failed from error
    connection.expires_at = connection.opened_at + options.max_age_seconds
    return connection


async def _open_transport(plane: Dataplane, options: DialOptions) -> None:
    account = options.account
    context = _context(options) if account.tls else None
    name = account.host if context else None
    loop = asyncio.get_running_loop()
    if options.open_socket is None:
        await loop.create_connection(lambda: plane, account.host, account.port, ssl=context, server_hostname=name)
    else:
        connected = await _open_socket(options.open_socket, options)
        try:
            await loop.create_connection(lambda: plane, sock=connected, ssl=context, server_hostname=name)
        except BaseException:
            connected.close()
            raise
    used = plane.transport.get_extra_info("socket") if plane.transport is not None else None
    if used is not None:
        # In IDLE nobody sends for half an hour; only the system notices that the other side is gone.
        used.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


async def _open_socket(open_socket: OpenSocket, options: DialOptions) -> socket.socket:
    """Ask the caller's function; the errors of libraries for proxies are of any class."""
    try:
        opened = await open_socket(options.account.host, options.account.port)
    except ImapipeError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, TimeoutError):
            raise
        raise _failed(f"open_socket() raised {type(error).__name__}: {_shown(str(error))}", options) from error
    if not isinstance(opened, socket.socket):
        raise _failed(f"open_socket() gave no socket, but {type(opened).__name__}", options, is_permanent=True)
    return opened


def _context(options: DialOptions) -> ssl.SSLContext:
    return options.ssl_context or ssl.create_default_context()


def _greet(session: Session, text: bytes, account: Account) -> None:
    try:
        greeting = parse_greeting(text)
    except ProtocolError as error:
        # A balancer in front of servers that are busy speaks SMTP, or its own words: "421 Server is busy".
        said = _shown(text.decode("utf-8", "replace"))
        refusal = status_error("connect", "BYE", None, said)
        if is_one_too_many(refusal):
            raise refusal from error
        raise ConnectionFailed(
            f'what answers there does not speak IMAP: it says "{said}"', host=account.host, port=account.port
        ) from error
    session.heard(text, ())
    session.greeted = True
    if greeting.kind == "BYE":
        refusal = status_error("connect", "BYE", greeting.code, greeting.text)
        if is_one_too_many(refusal):
            raise refusal
        raise ConnectionFailed(f"the server refused it: {_shown(greeting.text)}", host=account.host, port=account.port)
    session.logged_in = greeting.kind == "PREAUTH"


async def _secure(connection: Connection, options: DialOptions) -> None:
    """STARTTLS where it is offered or demanded; on loopback only where it is demanded."""
    account = options.account
    if account.tls:
        return
    is_here = _is_here(connection, account)
    trusted = is_here or options.allow_plaintext
    if connection.session.logged_in:
        # STARTTLS is not possible any more: somebody in the middle can say PREAUTH to make us go on in the open.
        if options.starttls or not trusted:
            reason = "the server says PREAUTH before TLS, which is not trusted: use imaps://"
            raise _failed(reason, options, is_permanent=True)
        return
    await connection.ask_capabilities()
    offered = connection.offers("STARTTLS")
    if options.starttls and not offered:
        raise CapabilityMissing("STARTTLS", "starttls=True demands it; use imaps:// if the server has that")
    if options.starttls or (offered and options.starttls is None and not is_here):
        tagged = await start_tls(connection.plane, _context(options), account.host)
        if tagged.status == "OK":
            return
        error = to_error("STARTTLS", tagged)
        if is_one_too_many(error):
            raise error
        if options.starttls:
            raise _failed(f"STARTTLS was refused: {_shown(tagged.text)}", options)
        connection.ways.refused.add("STARTTLS")
        why = f"STARTTLS was refused ({_shown(tagged.text)})"
    else:
        why = "starttls=False forbids STARTTLS" if offered else "the server offers no STARTTLS"
    if not trusted:
        raise _failed(
            f"{why}, and a password must not go over plain text: use imaps://, or allow it with allow_plaintext=True",
            options,
            is_permanent=True,
        )


def _is_here(connection: Connection, account: Account) -> bool:
    """Whether what is sent stays on this machine: by the name of the host, and by the address that the socket has."""
    return account.is_loopback and is_local(connection)


async def _log_in(connection: Connection, options: DialOptions, login: Login) -> None:
    if not connection.session.logged_in:
        await connection.ask_capabilities()
        await login.run(connection.plane.run, connection.capabilities)
    await connection.ask_capabilities()
    if options.identify is not None:
        fields = options.identify
        await connection.try_optional("ID", lambda: connection.identify(fields))
    if options.uidonly:
        connection.require(["UIDONLY"])
        if "UIDONLY" not in await connection.enable("UIDONLY"):
            raise CapabilityMissing("UIDONLY", "it offers that, and enables something else or nothing")
    elif options.uidonly is None:
        # Without it Yahoo shows no more than 10,000 messages of a mailbox.
        await connection.try_optional("UIDONLY", lambda: connection.enable("UIDONLY"))


async def _compress(connection: Connection, options: DialOptions, *, slow_link: bool) -> None:
    """COMPRESS=DEFLATE where it is demanded, or worth it: on a fast link it costs more time than it saves."""
    demanded = options.compress is True
    if demanded:
        connection.require(["COMPRESS=DEFLATE"])
    worth_it = slow_link and not _is_here(connection, options.account) and connection.offers("COMPRESS=DEFLATE")
    if demanded or (options.compress == "auto" and worth_it):
        command = Command.of(compress())
        tagged = await connection.ways.ask("COMPRESS=DEFLATE", lambda: connection.plane.compress(command))
        if tagged.status == "OK":
            return
        if demanded:
            raise to_error("COMPRESS", tagged)
        connection.ways.refused.add("COMPRESS=DEFLATE")


def _failed(reason: str, options: DialOptions, *, is_permanent: bool = False) -> ConnectionFailed:
    account = options.account
    return ConnectionFailed(reason, host=account.host, port=account.port, is_permanent=is_permanent)


def _shown(text: str) -> str:
    """What somebody else said, fit for an error: one line without control characters, cut."""
    shown = "".join(character if character.isprintable() else "\ufffd" for character in text[: SHOWN_CHARACTERS + 1])
    return shown if len(shown) <= SHOWN_CHARACTERS else shown[:SHOWN_CHARACTERS] + "…"


def _explain(error: BaseException, options: DialOptions, *, name_is_right: bool, waits_for_tls: bool) -> BaseException:
    """Turn what the operating system and TLS say into one sentence; let our own errors pass.

    Args:
        error: What happened.
        options: How to connect.
        name_is_right: The host was reached by this name before.
        waits_for_tls: It did not greet, without TLS.
    """
    if isinstance(error, ConnectionFailed) and not error.host:
        return type(error)(error.reason, host=options.account.host, port=options.account.port)
    if isinstance(error, ServerBye):
        return refusal_in(error)
    if isinstance(error, ImapipeError) and not isinstance(error, CommandTimeout):
        return error
    if isinstance(error, TimeoutError):
        advice = "; maybe imaps:// is what this port wants" if waits_for_tls else ""
        return _failed(
            f"nothing usable in {options.connect_timeout_seconds:g} seconds (connect_timeout_seconds){advice}", options
        )
    if isinstance(error, OSError):
        account = options.account
        return unreachable(
            error, account.host, account.port, name_is_right=name_is_right, tls_advice="imap:// is what this port wants"
        )
    return error
