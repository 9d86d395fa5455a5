"""The part of a connection that needs no open mailbox: capabilities, ID, LIST, STATUS, NOOP, LOGOUT."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from imapipe.errors import CapabilityMissing, CommandNo, ConnectionLost, ImapipeError, ProtocolError
from imapipe.models.mailbox import MailboxEntry, MailboxStatus
from imapipe.net.bridge import IMAP4, tidy_client
from imapipe.net.command import Command
from imapipe.net.dataplane import Dataplane
from imapipe.net.session import SelectedMailbox, Session
from imapipe.net.signals import to_error
from imapipe.wire.mailbox_name import decode_mailbox_name, encode_mailbox_name, quote
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
    def is_clean(self) -> bool:
        """Whether it can be given to somebody else: open, nothing in flight, no command that we do not follow."""
        return (
            self.is_open
            and not self.plane.is_busy
            and not self.session.unknown_commands
            and not self.imap.has_pending_idle()
        )

    @property
    def capabilities(self) -> frozenset[str]:
        """What the server offers, upper case."""
        return self.session.capabilities

    @property
    def wire_bytes(self) -> int:
        """Bytes received on the wire so far."""
        return self.plane.wire_bytes

    @property
    def error(self) -> BaseException | None:
        """What ended it, or None."""
        return self.plane.error

    @property
    def max_held_bytes(self) -> int:
        """Bytes of messages that it holds before it stops reading."""
        return self.plane.arrivals.max_held_bytes

    @property
    def max_spool_bytes(self) -> int:
        """Bytes of them in temporary files before it stops reading."""
        return self.plane.arrivals.max_spool_bytes

    @property
    def selected(self) -> SelectedMailbox | None:
        """The selected mailbox, or None."""
        return self.session.selected

    def tidy(self) -> None:
        """Leave nothing of this holder to the next."""
        tidy_client(self.imap)

    def offers(self, capability: str) -> bool:
        """Whether the server offers a capability, by name or with another one that holds it."""
        offered = self.session.capabilities
        return (
            capability in offered
            or _IMPLIED_BY.get(capability) in offered
            or (capability in _IN_REV2 and "IMAP4REV2" in offered)
        )

    def require(self, capabilities: Iterable[str]) -> None:
        """Raise CapabilityMissing unless the server offers all of them."""
        for capability in sorted(capabilities):
            if not self.offers(capability):
                raise CapabilityMissing(capability)

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

    async def ask_capabilities(self) -> None:
        """CAPABILITY, where the server has not said it already."""
        if not self.session.capabilities:
            await self.execute(Command("CAPABILITY", [b"CAPABILITY\r\n"]))

    async def noop(self) -> None:
        """NOOP: the server tells what changed."""
        await self.execute(Command("NOOP", [b"NOOP\r\n"]))

    async def enable(self, *capabilities: str) -> frozenset[str]:
        """ENABLE (RFC 5161); gives all that is enabled now."""
        names = " ".join(capabilities).encode()
        await self.execute(Command("ENABLE", [b"ENABLE " + names + b"\r\n"]))
        return self.session.enabled

    async def identify(self, fields: Mapping[str, str | None] | None = None) -> dict[str, str | None]:
        """ID (RFC 2971): say who we are, hear who the server is.

        Raises:
            ValueError: A line end or NUL in a field.
        """
        words = [_nstring(word) for pair in (fields or _WHO_WE_ARE).items() for word in pair]
        command = Command("ID", [b"ID (" + b" ".join(words) + b")\r\n"])
        await self.execute(command)
        self._identified = True
        return next((dict(r.fields) for r in self._responses(command) if isinstance(r, Id)), {})

    async def namespace(self) -> Namespace | None:
        """NAMESPACE (RFC 2342), or None where the server says nothing."""
        command = Command("NAMESPACE", [b"NAMESPACE\r\n"])
        await self.execute(command)
        return next((r for r in self._responses(command) if isinstance(r, Namespace)), None)

    async def list(
        self, pattern: str = "*", *, reference: str = "", status_items: Sequence[str] = ()
    ) -> list[MailboxEntry]:
        """LIST the mailboxes, with their STATUS in the same round trip where LIST-STATUS is offered.

        A mailbox whose STATUS the server refuses is listed without.
        """
        wanted = [item for item in status_items if self._offers_status(item)]
        with_status = bool(wanted) and self.offers("LIST-STATUS")
        line = b"LIST " + encode_mailbox_name(reference, utf8=self._utf8) + b" " + _pattern(pattern, utf8=self._utf8)
        if with_status:
            line += f" RETURN (STATUS ({' '.join(wanted)}))".encode()
        command = Command("LIST", [line + b"\r\n"])
        await self.execute(command)
        entries: dict[str, MailboxEntry] = {}
        statuses: dict[str, MailboxStatus] = {}
        for response in self._responses(command):
            if isinstance(response, ListItem):
                name = decode_mailbox_name(response.name, utf8=self._utf8)
                entries[name] = MailboxEntry(name, response.delimiter, response.attributes)
            elif isinstance(response, StatusResponse):
                name = decode_mailbox_name(response.name, utf8=self._utf8)
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
        """
        wanted = [item for item in items if self._offers_status(item)] or ["MESSAGES"]
        name = encode_mailbox_name(mailbox, utf8=self._utf8)
        command = Command("STATUS", [b"STATUS " + name + f" ({' '.join(wanted)})\r\n".encode()])
        await self.execute(command)
        for response in self._responses(command):
            if isinstance(response, StatusResponse):
                return MailboxStatus.from_items(mailbox, response.values)
        raise ProtocolError("STATUS was answered OK without a STATUS response")

    def _offers_status(self, item: str) -> bool:
        needed = _STATUS_NEEDS.get(item)
        return needed is None or self.offers(needed)

    async def logout(self, timeout_seconds: float = 5.0) -> None:
        """Say LOGOUT, wait a moment for the answer, close the transport. Never raises for a connection that is gone."""
        if self.is_open and not self.plane.is_busy:
            try:
                async with asyncio.timeout(timeout_seconds):
                    await self.plane.run(Command("LOGOUT", [b"LOGOUT\r\n"]))
            except (ImapipeError, OSError):
                # Gone before it could answer: what LOGOUT wanted has happened.
                self.abort()
        self.abort(ConnectionLost("the connection was closed"))

    @property
    def _utf8(self) -> bool:
        return "UTF8=ACCEPT" in self.session.enabled

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


def _nstring(word: str | None) -> bytes:
    return b"NIL" if word is None else quote(word)


def _pattern(pattern: str, *, utf8: bool) -> bytes:
    """A LIST pattern: wildcards stay, the rest is encoded as in a name."""
    return b'"INBOX"' if pattern.upper() == "INBOX" else encode_mailbox_name(pattern, utf8=utf8)
