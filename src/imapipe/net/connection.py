"""One connection to an IMAP server: what may be asked of it, in the words of RFC 9051.

Control goes through aioimaplib (`imap`), bulk data through our own data plane; both share one stream and one
session. Methods raise `CommandNo`, `CommandBad`, `Throttled` or `CapabilityMissing` for what the
server says, and `ConnectionLost`, `ServerBye`, `CommandTimeout` or `ProtocolError` when the connection ended.

Cancelling a method ends the connection, unless it says otherwise: an answer half read cannot be told
from the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from imapipe.errors import CapabilityMissing, CommandNo, ConnectionLost, ImapipeError, ProtocolError
from imapipe.models.mailbox import MailboxEntry, MailboxStatus
from imapipe.models.message import Message, MessageContext
from imapipe.net.bridge import IMAP4, adopt_client
from imapipe.net.command import Command, Company, FetchCommand
from imapipe.net.dataplane import Dataplane
from imapipe.net.search_set import pack
from imapipe.net.options import PlaneOptions
from imapipe.net.session import SelectedMailbox, Session
from imapipe.net.signals import to_error
from imapipe.wire.fetch_request import Fetch, Shape, compile_shape
from imapipe.wire.mailbox_name import decode_mailbox_name, encode_mailbox_name
from imapipe.wire.response import Esearch, Id, ListItem, Namespace, Response, Search, Tagged, UidBatches, parse_response
from imapipe.wire.response import MailboxStatus as StatusResponse
from imapipe.wire.search_program import SearchProgram
from imapipe.wire.uid_set import MAX_UID, UidSet

STATUS_ITEMS = ("MESSAGES", "UIDNEXT", "UIDVALIDITY", "UNSEEN")
# Servers are free to refuse longer lines; 8,000 octets pass nearly everywhere (RFC 7162 §4).
MAX_COMMAND_BYTES = 8000
# Of a command with a long search program this much is for the set of UIDs all the same.
_MIN_SET_BYTES = 1000
_SEARCH_WORDS_BYTES = 100


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """What UID SEARCH found.

    Attributes:
        uids: The UIDs.
        modseq: The highest mod-sequence of them, where the search used MODSEQ.
        limited_below: Where the server stopped short (RFC 9738): it looked at UIDs from this one up; else None.
    """

    uids: UidSet
    modseq: int | None = None
    limited_below: int | None = None


class Connection:
    """A connection that is logged in, or an adopted one.

    Attributes:
        plane: The data plane.
        session: The state as the server tells it.
        imap: The same connection as an `aioimaplib.IMAP4`.
        opened_at: Loop time of the connect.
        round_trip_seconds: The shortest time between a command and its reply so far.
    """

    __slots__ = (
        "_shapes",
        "expires_at",
        "imap",
        "opened_at",
        "plane",
        "round_trip_seconds",
        "session",
        "used_at",
    )

    def __init__(self, imap: IMAP4, plane: Dataplane, session: Session) -> None:
        self.imap = imap
        self.plane = plane
        self.session = session
        self.opened_at = self.used_at = asyncio.get_running_loop().time()
        self.expires_at = float("inf")
        self.round_trip_seconds = float("inf")
        self._shapes: dict[Fetch, Shape | None] = {}

    @classmethod
    def adopt(cls, client: IMAP4, options: PlaneOptions | None = None) -> Connection:
        """Take over a user's own idle aioimaplib client, which stays usable.

        Raises:
            ConnectionFailed: It is not connected.
            ValueError: It has something in flight.
        """
        plane, session = adopt_client(client, lambda owner: Dataplane(owner, options))
        return cls(client, plane, session)

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
    def selected(self) -> SelectedMailbox | None:
        """The selected mailbox, or None."""
        return self.session.selected

    def offers(self, capability: str) -> bool:
        """Whether the server offers a capability."""
        return capability in self.session.capabilities

    def require(self, capabilities: Iterable[str]) -> None:
        """Raise CapabilityMissing unless the server offers all of them."""
        for capability in sorted(capabilities):
            if capability in self.session.capabilities or (
                capability == "CONDSTORE" and "QRESYNC" in self.session.capabilities
            ):
                continue
            raise CapabilityMissing(capability)

    def abort(self, error: BaseException | None = None) -> None:
        """End the connection now, synchronously and without a word to the server."""
        self.plane.abort(error or ConnectionLost("the connection was thrown away"))

    # -- commands --------------------------------------------------------------------------------

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

    async def examine(self, mailbox: str, *, condstore: bool = False) -> SelectedMailbox:
        """Open a mailbox for reading (EXAMINE).

        Args:
            mailbox: Its name.
            condstore: Have HIGHESTMODSEQ told, where CONDSTORE is offered (RFC 7162 §3.1.8). Dovecot keeps none
                before somebody asks.
        """
        return await self._select("EXAMINE", mailbox, condstore)

    async def select(self, mailbox: str, *, condstore: bool = False) -> SelectedMailbox:
        """Open a mailbox for reading and writing (SELECT); arguments as in `examine`."""
        return await self._select("SELECT", mailbox, condstore)

    async def _select(self, verb: str, mailbox: str, condstore: bool) -> SelectedMailbox:
        line = verb.encode() + b" " + encode_mailbox_name(mailbox, utf8=self._utf8)
        if condstore and self.offers("CONDSTORE"):
            line += b" (CONDSTORE)"
        await self.execute(Command(verb, [line + b"\r\n"], mailbox=mailbox))
        selected = self.session.selected
        if selected is None:
            raise ProtocolError(f"{verb} was answered OK without a mailbox")
        selected.condstore = condstore
        return selected

    async def unselect(self) -> None:
        """Leave the mailbox without expunging: UNSELECT (RFC 3691), or where it is missing a harmless failure.

        CLOSE is never used: it expunges.
        """
        if self.session.selected is None:
            return
        if self.offers("UNSELECT") or self.offers("IMAP4REV2"):
            await self.execute(Command("UNSELECT", [b"UNSELECT\r\n"]))
            return
        # EXAMINE of a mailbox that does not exist leaves none selected (RFC 3501 §6.3.1).
        tagged = await self.plane.run(
            Command("EXAMINE", [b'EXAMINE "imapipe-no-such-mailbox"\r\n'], mailbox="imapipe-no-such-mailbox")
        )
        if tagged.status == "OK":
            raise ProtocolError("a mailbox that should not exist was opened")

    async def noop(self) -> None:
        """NOOP: the server tells what changed."""
        await self.execute(Command("NOOP", [b"NOOP\r\n"]))

    async def enable(self, *capabilities: str) -> frozenset[str]:
        """ENABLE (RFC 5161); gives all that is enabled now."""
        names = " ".join(capabilities).encode()
        await self.execute(Command("ENABLE", [b"ENABLE " + names + b"\r\n"]))
        return self.session.enabled

    async def identify(self, fields: dict[str, str] | None = None) -> dict[str, str | None]:
        """ID (RFC 2971): say who we are, hear who the server is."""
        from_us = fields or {"name": "imapipe"}
        pairs = " ".join(f'"{key}" "{value}"' for key, value in from_us.items())
        command = Command("ID", [f"ID ({pairs})\r\n".encode()])
        await self.execute(command)
        for response in self._responses(command):
            if isinstance(response, Id):
                return dict(response.fields)
        return {}

    async def namespace(self) -> Namespace | None:
        """NAMESPACE (RFC 2342), or None where the server says nothing."""
        command = Command("NAMESPACE", [b"NAMESPACE\r\n"])
        await self.execute(command)
        return next((r for r in self._responses(command) if isinstance(r, Namespace)), None)

    async def list(
        self, pattern: str = "*", *, reference: str = "", status_items: Sequence[str] = ()
    ) -> list[MailboxEntry]:
        """LIST the mailboxes, with their STATUS in the same round trip where LIST-STATUS is offered."""
        with_status = bool(status_items) and self.offers("LIST-STATUS")
        line = b"LIST " + encode_mailbox_name(reference, utf8=self._utf8) + b" " + _pattern(pattern, utf8=self._utf8)
        if with_status:
            line += f" RETURN (STATUS ({' '.join(status_items)}))".encode()
        command = Command("LIST", [line + b"\r\n"])
        await self.execute(command)
        entries: dict[bytes, MailboxEntry] = {}
        for response in self._responses(command):
            if isinstance(response, ListItem):
                name = decode_mailbox_name(response.name, utf8=self._utf8)
                delimiter = response.delimiter
                entries[response.name] = MailboxEntry(name, delimiter, frozenset(response.attributes), None)
            elif isinstance(response, StatusResponse) and response.name in entries:
                entries[response.name] = entries[response.name].with_status(
                    MailboxStatus.from_items(entries[response.name].name, response.values)
                )
        found = list(entries.values())
        if status_items and not with_status:
            found = [
                entry.with_status(await self.status(entry.name, status_items)) if entry.is_selectable else entry
                for entry in found
            ]
        return found

    async def status(self, mailbox: str, items: Sequence[str] = STATUS_ITEMS) -> MailboxStatus:
        """STATUS of a mailbox that is not selected (RFC 9051 §6.3.11); items not offered are left out."""
        wanted = [item for item in items if self._offers_status(item)]
        name = encode_mailbox_name(mailbox, utf8=self._utf8)
        command = Command("STATUS", [b"STATUS " + name + f" ({' '.join(wanted)})\r\n".encode()])
        await self.execute(command)
        for response in self._responses(command):
            if isinstance(response, StatusResponse):
                return MailboxStatus.from_items(mailbox, response.values)
        raise ProtocolError("STATUS was answered OK without a STATUS response")

    def _offers_status(self, item: str) -> bool:
        needed = {
            "HIGHESTMODSEQ": ("CONDSTORE", "QRESYNC"),
            "SIZE": ("STATUS=SIZE", "IMAP4REV2"),
            "MAILBOXID": ("OBJECTID",),
        }.get(item)
        return needed is None or any(self.offers(capability) for capability in needed)

    async def uid_search(
        self, program: SearchProgram, *, within: UidSet | None = None, save: bool = False
    ) -> SearchAnswer:
        """UID SEARCH in the selected mailbox, by ESEARCH where it is offered (RFC 4731).

        Args:
            program: The keys.
            within: Look only at these UIDs. Where the server has them saved it is told `$` (RFC 5182), else they are
                sent, a long set in several commands.
            save: Have the result saved for a search within it, where SEARCHRES is offered.

        Raises:
            CommandNo, CommandBad, Throttled: The server refused the search.
        """
        selected = self.session.selected
        if within is None or not within or (selected is not None and selected.saved == within):
            parts = [within]
        else:
            words = sum(map(len, program.chunks())) + _SEARCH_WORDS_BYTES
            parts = [*pack(within, max(_MIN_SET_BYTES, MAX_COMMAND_BYTES - words))]
        found = UidSet()
        modseq: int | None = None
        limited: int | None = None
        for part in parts:
            answer = await self._search_and_save(program, part, save=save and len(parts) == 1)
            found |= answer.uids
            modseq = max((m for m in (modseq, answer.modseq) if m is not None), default=None)
            limited = answer.limited_below if answer.limited_below is not None else limited
        return SearchAnswer(found if within is None else found & within, modseq, limited)

    async def _search_and_save(self, program: SearchProgram, within: UidSet | None, *, save: bool) -> SearchAnswer:
        if within is not None and not within:
            return SearchAnswer(within)
        if not (save and self.offers("ESEARCH") and self.offers("SEARCHRES")):
            return await self._search_once(program, within)
        selected = self.session.selected
        try:
            answer = await self._search_once(program, within, b"SAVE ALL COUNT")
        except CommandNo as error:
            if not error.code.startswith("NOTSAVED"):
                raise
            return await self._search_once(program, within)
        if selected is not None:
            selected.saved = answer.uids
        return answer

    async def uid_search_page(self, program: SearchProgram, count: int, *, above: int) -> SearchAnswer:
        """The first `count` UIDs above `above` that match: UID SEARCH RETURN (PARTIAL …), RFC 9394.

        Paging goes by the last UID seen: the offsets of PARTIAL drift when messages come and go.
        """
        self.require(["PARTIAL"])
        above_only = UidSet.from_ranges([(above + 1, MAX_UID)]) if above else None
        answer = await self._search_once(program, above_only, b"PARTIAL 1:%d" % count)
        # `n:*` and its like give the last message even where its UID is lower (RFC 9051 §9, seq-range).
        return replace(answer, uids=answer.uids - UidSet.from_ranges([(1, above)])) if above else answer

    async def uid_batches(self, size: int) -> list[tuple[int, int]]:
        """Ranges of UIDs that hold `size` messages each, lowest first: UIDBATCHES (RFC 10022)."""
        self.require(["UIDBATCHES"])
        command = Command("UIDBATCHES", [b"UIDBATCHES %d\r\n" % size])
        await self.execute(command)
        ranges = [found for r in self._responses(command) if isinstance(r, UidBatches) for found in r.ranges]
        return sorted((min(pair), max(pair)) for pair in ranges)

    async def _search_once(
        self, program: SearchProgram, within: UidSet | None, returns: bytes = b"ALL COUNT"
    ) -> SearchAnswer:
        extended = self.offers("ESEARCH") or self.offers("IMAP4REV2") or not returns.startswith(b"ALL")
        start = b"UID SEARCH RETURN (" + returns + b")" if extended else b"UID SEARCH"
        first, *others = program.chunks()
        narrowed = self._narrowing(within) if within is not None else b""
        if narrowed and program.charset is not None:
            charset, _, first = first.removeprefix(b"CHARSET ").partition(b" ")
            narrowed = b"CHARSET " + charset + b" " + narrowed
        pieces = [start + b" " + narrowed + first, *others]
        pieces[-1] += b"\r\n"
        command = Command("UID SEARCH", pieces, company=Company.SEARCH if extended else Company.ALONE)
        tagged = await self.execute(command)
        uids = UidSet()
        modseq: int | None = None
        for response in self._responses(command):
            if isinstance(response, Search):
                # Some servers answer one command with several lines.
                uids |= response.uids
                modseq = response.modseq if response.modseq is not None else modseq
            elif isinstance(response, Esearch):
                uids |= response.all or UidSet()
                uids |= response.partial.uids if response.partial is not None else UidSet()
                modseq = response.modseq if response.modseq is not None else modseq
        limit = tagged.code.message_limit if tagged.code is not None else None
        return SearchAnswer(uids, modseq, limit.uid if limit is not None else None)

    def _narrowing(self, within: UidSet) -> bytes:
        selected = self.session.selected
        if selected is not None and selected.saved == within:
            return b"$ "
        return b"UID " + within.text().encode() + b" "

    def uid_fetch(self, uids: UidSet, fetch: Fetch, deliver: Callable[[list[Message]], None]) -> FetchCommand:
        """Send a UID FETCH, without waiting; others may be in flight, for other UIDs.

        Args:
            uids: What to fetch, not empty.
            fetch: The items.
            deliver: Called from the event loop with messages as they complete, several at a time. Their
                `wire_size` must be given back with `release` once they are no longer held.

        Returns:
            The command: await its `finished` (shielded: it is not to be cancelled), then read `missing` and `malformed`.
        """
        selected = self.session.selected
        if selected is None:
            raise ProtocolError("UID FETCH needs a selected mailbox")
        uidonly = "UIDONLY" in self.session.enabled
        if fetch not in self._shapes:
            names = fetch.names if uidonly else ("UID", *fetch.names)
            self._shapes[fetch] = compile_shape(names, uidfetch=uidonly)
        line = b"UID FETCH " + uids.text().encode() + b" " + fetch.command(with_uid=not uidonly) + b"\r\n"
        context = MessageContext(selected.name, selected.uidvalidity, fetch)
        command = FetchCommand([line], uids, context, self._shapes[fetch], deliver)
        self.plane.submit(command)
        return command

    def fetched(self, command: FetchCommand) -> None:
        """A FETCH is over: keep what it taught about the server's order of items."""
        self._shapes[command.context.fetch] = command.shape
        self.used_at = command.finished_at

    def release(self, count: int, spooled: int = 0) -> None:
        """`count` bytes of delivered messages are held no more, `spooled` of them in temporary files."""
        self.plane.release(count, spooled)

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


def _pattern(pattern: str, *, utf8: bool) -> bytes:
    """A LIST pattern: wildcards stay, the rest is encoded as in a name."""
    return b'"INBOX"' if pattern.upper() == "INBOX" else encode_mailbox_name(pattern, utf8=utf8)
