"""The part of a connection that needs no open mailbox: capabilities, ID, LIST, STATUS, NOOP, LOGOUT."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from imapipe.errors import CapabilityMissing, CommandBad, CommandNo, ConnectionLost, ImapipeError, ProtocolError
from imapipe.models.mailbox import MailboxEntry, MailboxStatus
from imapipe.net.bridge import IMAP4, tidy_client
from imapipe.net.command import Command, Company
from imapipe.net.dataplane import Dataplane
from imapipe.net.session import SelectedMailbox, Session
from imapipe.net.signals import to_error
from imapipe.wire.command.capability import capability
from imapipe.wire.command.enable import enable
from imapipe.wire.command.encoder import Dialect, Request, atoms
from imapipe.wire.command.id import id_
from imapipe.wire.command.list import list_
from imapipe.wire.command.logout import logout
from imapipe.wire.command.namespace import namespace
from imapipe.wire.command.noop import noop
from imapipe.wire.command.status import status
from imapipe.wire.mailbox_name import decode_mailbox_names
from imapipe.wire.response.response import Id, ListItem, Namespace, Response, Tagged, parse_response
from imapipe.wire.response.response import MailboxStatus as StatusResponse

STATUS_ITEMS = ("MESSAGES", "UIDNEXT", "UIDVALIDITY", "UNSEEN")

# What IMAP4rev2 holds without saying so (RFC 9051 appendix E).
_IN_REV2 = frozenset(
    """BINARY ENABLE ESEARCH IDLE LIST-EXTENDED LIST-STATUS LITERAL- MOVE NAMESPACE SASL-IR SEARCHRES SPECIAL-USE
    STATUS=SIZE UIDPLUS UNSELECT""".split()
)
_STATUS_NEEDS = {"HIGHESTMODSEQ": "CONDSTORE", "SIZE": "STATUS=SIZE", "MAILBOXID": "OBJECTID"}
_WHO_WE_ARE = {"name": "imapipe"}
_IMPLIED_BY = {"CONDSTORE": "QRESYNC", "LITERAL-": "LITERAL+"}


class Conversation:
    """A connection as far as no open mailbox is concerned; `Connection` is the whole.

    Attributes:
        plane: The data plane.
        session: The state as the server tells it.
        imap: The same connection as an `aioimaplib.IMAP4`.
        opened_at: Loop time of the connect.
        used_at: Loop time of the last reply.
        round_trip_seconds: The shortest time between a command and its reply so far.
    """

    __slots__ = ("_identified", "imap", "opened_at", "plane", "round_trip_seconds", "session", "used_at")

    def __init__(self, imap: IMAP4, plane: Dataplane, session: Session) -> None:
        self.imap = imap
        self.plane = plane
        self.session = session
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
        return self.plane.arrivals.max_held_bytes

    @property
    def max_spool_bytes(self) -> int:
        """The same for temporary files."""
        return self.plane.arrivals.max_spool_bytes

    def release(self, count: int, spooled: int = 0) -> None:
        """`count` bytes of delivered messages are held no more, `spooled` of them in temporary files."""
        self.plane.release(count, spooled)

    def tidy(self) -> None:
        """Leave nothing of this holder to the next."""
        tidy_client(self.imap)

    def offers(self, capability: str) -> bool:
        """Whether the server offers a capability, by name or with another one that holds it, and has not refused it."""
        offered = self.session.capabilities
        return capability not in self.session.refused and (
            capability in offered
            or _IMPLIED_BY.get(capability) in offered
            or (capability in _IN_REV2 and "IMAP4REV2" in offered)
        )

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
        """
        tagged = await self.plane.run(command)
        self._measure(command)
        if tagged.status != "OK":
            raise to_error(command.name, tagged)
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
            await ask()
        except (CommandNo, CommandBad, ProtocolError):
            if not self.is_open:
                raise
            self.session.refused.add(capability)
            return False
        return True

    async def ask_capabilities(self) -> None:
        """CAPABILITY, where the server has not said it already."""
        if not self.session.capabilities:
            await self._ask(capability())

    async def noop(self) -> None:
        """NOOP: the server tells what changed."""
        await self._ask(noop())

    async def enable(self, *capabilities: str) -> frozenset[str]:
        """ENABLE (RFC 5161); gives all that is enabled now.

        Raises:
            ValueError: One of them is no name of a capability.
        """
        await self._ask(enable(capabilities))
        return self.session.enabled

    async def identify(self, fields: Mapping[str, str | None] | None = None) -> dict[str, str | None]:
        """ID (RFC 2971): say who we are, hear who the server is.

        Raises:
            ValueError: A line end or NUL in a field, or more than RFC 2971 allows.
        """
        _, responses = await self._ask(id_(fields or _WHO_WE_ARE, self._dialect))
        self._identified = True
        return next((dict(r.fields) for r in responses if isinstance(r, Id)), {})

    async def namespace(self) -> Namespace | None:
        """NAMESPACE (RFC 2342), or None where the server says nothing, or refuses to."""
        found: list[Response] = []

        async def ask() -> None:
            found.extend((await self._ask(namespace()))[1])

        await self.try_optional("NAMESPACE", ask)
        return next((r for r in found if isinstance(r, Namespace)), None)

    async def list(
        self, pattern: str = "*", *, reference: str = "", status_items: Sequence[str] = ()
    ) -> list[MailboxEntry]:
        """LIST the mailboxes, with their STATUS in the same round trip where LIST-STATUS is offered.

        A mailbox whose STATUS the server refuses is listed without.

        Raises:
            ValueError: A line end or NUL in a name, or an item of STATUS that is none.
        """
        # All are looked at: whether one is refused must not depend on the server.
        atoms(("MESSAGES", *status_items), "an item of STATUS")
        wanted = [item for item in status_items if self._offers_status(item)]
        with_status = bool(wanted) and self.offers("LIST-STATUS")
        _, responses = await self._ask(
            list_(pattern, self._dialect, reference=reference, status_items=wanted if with_status else ())
        )
        entries: dict[str, MailboxEntry] = {}
        statuses: dict[str, MailboxStatus] = {}
        found = [r for r in responses if isinstance(r, ListItem | StatusResponse)]
        names = decode_mailbox_names([response.name for response in found], utf8=self._dialect.utf8)
        for response in found:
            name = names[response.name]
            if isinstance(response, ListItem):
                entries[name] = MailboxEntry(name, response.delimiter, response.attributes)
            else:
                statuses[name] = MailboxStatus.from_items(name, response.values)
        if wanted and not with_status:
            for entry in entries.values():
                if entry.is_selectable:
                    with suppress(CommandNo):
                        statuses[entry.name] = await self.status(entry.name, wanted)
        return [
            entry.with_status(statuses[entry.name]) if entry.name in statuses else entry for entry in entries.values()
        ]

    async def status(self, mailbox: str, items: Sequence[str] = STATUS_ITEMS) -> MailboxStatus:
        """STATUS of a mailbox that is not selected (RFC 9051 §6.3.11); items not offered are left out.

        Raises:
            CommandNo: There is no such mailbox.
            ValueError: A line end or NUL in the name, or an item that is none.
        """
        atoms(("MESSAGES", *items), "an item of STATUS")
        wanted = [item for item in items if self._offers_status(item)] or ["MESSAGES"]
        _, responses = await self._ask(status(mailbox, wanted, self._dialect))
        for response in responses:
            if isinstance(response, StatusResponse):
                return MailboxStatus.from_items(mailbox, response.values)
        raise ProtocolError("STATUS was answered OK without a STATUS response")

    def _offers_status(self, item: str) -> bool:
        needed = _STATUS_NEEDS.get(item)
        return needed is None or self.offers(needed)

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

    async def _ask(self, request: Request, *, company: Company = Company.ALONE) -> tuple[Tagged, Iterable[Response]]:
        """Send a command; gives its OK and what came before it, and raises as `execute` does."""
        command = Command.of(request, company=company)
        return await self.execute(command), self._responses(command)

    def _measure(self, command: Command) -> None:
        now = asyncio.get_running_loop().time()
        self.used_at = now
        self.round_trip_seconds = min(self.round_trip_seconds, now - command.started_at)

    def _responses(self, command: Command) -> Iterable[Response]:
        for text, literals in command.untagged:
            try:
                yield parse_response(text, literals)
            except ProtocolError:
                if command.name != "LIST":
                    raise
                # Exchange lists folders with control characters in their names; the others are still good.
