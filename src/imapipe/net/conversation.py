"""The part of a connection that is about the connection itself: capabilities, ID, NAMESPACE, NOOP, LOGOUT."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from imapipe.errors import (
    CapabilityMissing,
    CommandBad,
    CommandNo,
    CommandTimeout,
    ConnectionLost,
    ImapipeError,
    ProtocolError,
    ServerBye,
)
from imapipe.models.message import Message
from imapipe.net.bridge import IMAP4
from imapipe.net.command import Command, Company
from imapipe.net.dataplane import Dataplane
from imapipe.net.intake import TURN_RESPONSES, cost_of
from imapipe.net.session import SelectedMailbox, Session
from imapipe.net.signals import to_error
from imapipe.net.ways import Ways
from imapipe.wire.command.capability import capability
from imapipe.wire.command.enable import enable
from imapipe.wire.command.encoder import Dialect, Request
from imapipe.wire.command.id import id_
from imapipe.wire.command.logout import logout
from imapipe.wire.command.namespace import namespace
from imapipe.wire.command.noop import noop
from imapipe.wire.response.limits import LONG_BYTES
from imapipe.wire.response.response import (
    Exists,
    Expunge,
    FetchScan,
    Id,
    Namespace,
    Recent,
    Response,
    Tagged,
    parse_response,
)

_WHO_WE_ARE = {"name": "imapipe"}
_NEWS = (Exists, Expunge, FetchScan, Recent)
# As most of it is written, and there is one for each message of a MOVE.
_PLAIN_NEWS = re.compile(rb"\* \d{1,9} (?:EXPUNGE|EXISTS|RECENT)")
_KIND = re.compile(rb"[\0 ]*(?:\* *)?(?:\d+ +)?([A-Za-z]*)")


class Conversation:
    """A connection as far as no open mailbox is concerned; `Connection` is the whole.

    Attributes:
        plane: The data plane.
        session: The state as the server tells it.
        ways: Which ways of asking are open.
        imap: The same connection as an `aioimaplib.IMAP4`.
        opened_at: Loop time of the connect.
        used_at: Loop time of the last reply.
        round_trip_seconds: The shortest time between a command and its reply so far.
    """

    __slots__ = (
        "_identified",
        "imap",
        "opened_at",
        "plane",
        "round_trip_seconds",
        "session",
        "used_at",
        "ways",
    )

    def __init__(self, imap: IMAP4, plane: Dataplane, session: Session) -> None:
        self.imap = imap
        self.plane = plane
        self.session = session
        self.ways = Ways(session)
        self.opened_at = self.used_at = asyncio.get_running_loop().time()
        self.round_trip_seconds = float("inf")
        self._identified = False

    @property
    def is_open(self) -> bool:
        """Whether the connection can be used."""
        return self.plane.is_usable and not self.session.logged_out

    @property
    def is_quiet(self) -> bool:
        """Whether it is open and nothing is in flight."""
        return self.is_open and not self.plane.is_busy

    @property
    def is_clean(self) -> bool:
        """Whether it can be given to somebody else: open, nothing in flight, no command that we do not follow."""
        return self.is_quiet and not self.session.unknown_commands and not self.imap.has_pending_idle()

    @property
    def capabilities(self) -> frozenset[str]:
        """What the server offers, upper case."""
        return self.session.capabilities

    @property
    def selected(self) -> SelectedMailbox | None:
        """The selected mailbox, or None."""
        return self.session.selected

    @property
    def error(self) -> BaseException | None:
        """Why the connection ended, or None while it lives."""
        return self.plane.error

    @property
    def wire_bytes(self) -> int:
        """Bytes received on the wire so far."""
        return self.plane.wire_bytes

    @property
    def max_held_bytes(self) -> int:
        """Bytes of messages delivered and not released, in memory, above which it does not read on."""
        return self.plane.holdings.max_held_bytes

    @property
    def max_spool_bytes(self) -> int:
        """The same for temporary files."""
        return self.plane.holdings.max_spool_bytes

    def hold(self, message: Message) -> None:
        """A message that was put together of several answers is held from now on."""
        self.plane.holdings.hold([message])

    @property
    def release(self) -> Callable[[Message], None]:
        """Called with a delivered message that is held no more; the second time it does nothing."""
        return self.plane.release

    def offers(self, capability: str) -> bool:
        """Whether the server offers a capability, by name or with another one that holds it, and has not refused it."""
        return self.ways.may(capability)

    def require(self, capabilities: Iterable[str]) -> None:
        """Raise CapabilityMissing unless the server offers all of them."""
        for name in sorted(capabilities):
            if not self.offers(name):
                raise CapabilityMissing(name)

    def abort(self, error: BaseException | None = None) -> None:
        """End the connection now, synchronously and without a word to the server."""
        self.plane.abort(error or ConnectionLost("the connection was thrown away"))

    async def execute(self, command: Command) -> Tagged:
        """Send a command and give its OK.

        Raises:
            CommandNo, CommandBad, Throttled: The server refused it.
            ConnectionLost, CommandTimeout, ServerBye: The connection ended first.
            ProtocolError: What came cannot be read, or is too much.

        Cancelling it ends the connection, unless the command was not sent yet.
        """
        try:
            tagged = await self.plane.run(command)
        except (ConnectionLost, ServerBye, CommandTimeout) as error:
            if not command.untagged:
                self.ways.learned.is_too_long(command.line_bytes, error)
            raise
        self._measure(command)
        if tagged.status != "OK":
            refusal = to_error(command.name, tagged)
            self.ways.learned.is_too_long(command.line_bytes, refusal)
            raise refusal
        self.ways.learned.taken(command.line_bytes)
        return tagged

    async def try_optional(self, capability: str, ask: Callable[[], Awaitable[object]]) -> bool:
        """Ask for what may be left out: a refusal, or an answer that nobody can read, ends nothing.

        Args:
            capability: What must be offered for it; after a refusal it counts as not offered.
            ask: Sends the command.

        Returns:
            Whether the server did it.
        """
        if not self.offers(capability):
            return False
        try:
            await self.ways.ask(capability, ask)
        except (CommandNo, CommandBad, ProtocolError):
            if not self.is_open:
                raise
            self.ways.refused.add(capability)
            return False
        return True

    async def ask_capabilities(self) -> None:
        """CAPABILITY, where the server has not said it already; one that does not say it offers nothing.

        Raises as `execute` does.
        """
        if not self.session.capabilities:
            with suppress(CommandNo, CommandBad):
                await self._ask(capability())

    async def noop(self) -> None:
        """NOOP: the server tells what changed.

        Raises as `execute` does.
        """
        await self._ask(noop())

    async def enable(self, *capabilities: str) -> frozenset[str]:
        """ENABLE (RFC 5161); gives all that is enabled now.

        Raises:
            ValueError: One of them is no name of a capability.

        Otherwise it raises as `execute` does.
        """
        await self._ask(enable(capabilities))
        return self.session.enabled

    async def identify(self, fields: Mapping[str, str | None] | None = None) -> dict[str, str | None]:
        """ID (RFC 2971): say who we are, hear who the server is.

        Raises:
            ValueError: A line end or NUL in a field, or more than RFC 2971 allows.

        Otherwise it raises as `execute` does.
        """
        _, responses = await self._ask(id_(fields or _WHO_WE_ARE, self._dialect))
        self._identified = True
        return next((dict(r.fields) for r in responses if isinstance(r, Id)), {})

    async def namespace(self) -> Namespace | None:
        """NAMESPACE (RFC 2342), or None where the server says nothing, or refuses to.

        Raises as `execute` does.
        """
        found: list[Response] = []

        async def ask() -> None:
            found.extend((await self._ask(namespace()))[1])

        await self.try_optional("NAMESPACE", ask)
        return next((r for r in found if isinstance(r, Namespace)), None)

    async def logout(self, timeout_seconds: float = 5.0) -> None:
        """Say LOGOUT, wait a moment for the answer, close the transport. Never raises for a connection that is gone."""
        if self.is_quiet:
            try:
                async with asyncio.timeout(timeout_seconds):
                    await self.plane.run(Command.of(logout()))
            except (ImapipeError, OSError):
                # Gone before it could answer: what LOGOUT wanted has happened.
                self.abort()
        self.abort(ConnectionLost("the connection was closed"))

    @property
    def _dialect(self) -> Dialect:
        offered = self.session.capabilities
        return Dialect(
            utf8="UTF8=ACCEPT" in self.session.enabled,
            literal_plus="LITERAL+" in offered,
            literal_minus=self.offers("LITERAL-"),
        )

    async def _ask(self, request: Request, *, company: Company = Company.ALONE) -> tuple[Tagged, Sequence[Response]]:
        """Send a command; gives its OK and what came before it, and raises as `execute` does."""
        command = Command.of(request, company=company)
        return await self.execute(command), await self._responses(command)

    def _measure(self, command: Command) -> None:
        now = asyncio.get_running_loop().time()
        self.used_at = now
        self.round_trip_seconds = min(self.round_trip_seconds, now - command.started_at)

    async def _responses(self, command: Command) -> Sequence[Response]:
        """What came before the reply of a command, news of messages apart, which the session has heard.

        What cannot be read and is no answer to it is passed over.
        """
        responses: list[Response] = []
        left = TURN_RESPONSES
        # What was read is not kept as text, too.
        waiting, command.untagged = command.untagged[::-1], []
        while waiting:
            text, literals = waiting.pop()
            if _PLAIN_NEWS.fullmatch(text):
                continue
            left -= cost_of(text)
            if left <= 0:
                # A hundred thousand mailboxes are no reason to keep others waiting.
                left = TURN_RESPONSES
                await asyncio.sleep(0)
            try:
                if len(text) > LONG_BYTES:
                    response = await asyncio.to_thread(parse_response, text, literals)
                else:
                    response = parse_response(text, literals)
                if not isinstance(response, _NEWS):
                    responses.append(response)
            except ProtocolError as error:
                kind = _kind_of(text)
                # Of mailboxes the others are still good; of a SEARCH messages would be missing.
                if kind not in ("LIST", "STATUS") and command.name.endswith(kind.removeprefix("E")):
                    raise
                self.ways.learned.passed_over(
                    kind.lower() or "response", f"a line in the answer to {command.name}: {error}"
                )
        return responses


def _kind_of(text: bytes) -> str:
    """The first word of an untagged response that is no number."""
    match = _KIND.match(text)
    return match[1].decode("ascii").upper() if match is not None else ""
