"""One connection to an IMAP server: what may be asked of it, in the words of RFC 9051.

Control goes through aioimaplib (`imap`), bulk data through our own data plane; both share one stream and one
session. Methods raise `CommandNo`, `CommandBad`, `Throttled` or `CapabilityMissing` for what the
server says, and `ConnectionLost`, `ServerBye`, `CommandTimeout` or `ProtocolError` when the connection ended.

Cancelling a method ends the connection, unless it says otherwise: an answer half read cannot be told
from the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from imapipe.errors import CommandNo, ProtocolError
from imapipe.models.message import Message, MessageContext
from imapipe.net.bridge import IMAP4, adopt_client
from imapipe.net.command import Command, Company, FetchCommand
from imapipe.net.conversation import STATUS_ITEMS, Conversation
from imapipe.net.dataplane import Dataplane
from imapipe.net.options import PlaneOptions
from imapipe.net.search_set import pack
from imapipe.net.session import SelectedMailbox, Session
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.mailbox_name import encode_mailbox_name
from imapipe.wire.response.response import Esearch, Search, UidBatches
from imapipe.wire.response.shape import Shape, compile_shape
from imapipe.wire.search_program import SearchProgram
from imapipe.wire.uid_set import MAX_UID, UidSet

__all__ = ["MAX_COMMAND_BYTES", "STATUS_ITEMS", "Connection", "SearchAnswer"]

Deliver: TypeAlias = Callable[[list[Message]], None]
UidRanges: TypeAlias = list[tuple[int, int]]

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


class Connection(Conversation):
    """A connection that is logged in, or an adopted one.

    Attributes:
        expires_at: Loop time from which on it is to be replaced.
    """

    __slots__ = ("_shapes", "expires_at")

    def __init__(self, imap: IMAP4, plane: Dataplane, session: Session) -> None:
        super().__init__(imap, plane, session)
        self.expires_at = float("inf")
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
        try:
            await self.execute(Command(verb, [line + b"\r\n"], mailbox=mailbox))
        except CommandNo as error:
            # NetEase (163.com, 126.com) and other Coremail servers open no mailbox for clients without a name.
            if self._identified or "unsafe login" not in error.text.lower() or not self.offers("ID"):
                raise
            await self.identify()
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
        if self.offers("UNSELECT"):
            await self.execute(Command("UNSELECT", [b"UNSELECT\r\n"]))
            return
        # EXAMINE of a mailbox that does not exist leaves none selected (RFC 3501 §6.3.1).
        tagged = await self.plane.run(
            Command("EXAMINE", [b'EXAMINE "imapipe-no-such-mailbox"\r\n'], mailbox="imapipe-no-such-mailbox")
        )
        if tagged.status == "OK":
            raise ProtocolError("a mailbox that should not exist was opened")

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

    async def uid_batches(self, size: int) -> UidRanges:
        """Ranges of UIDs that hold `size` messages each, lowest first: UIDBATCHES (RFC 10022)."""
        self.require(["UIDBATCHES"])
        command = Command("UIDBATCHES", [b"UIDBATCHES %d\r\n" % size])
        await self.execute(command)
        ranges = [found for r in self._responses(command) if isinstance(r, UidBatches) for found in r.ranges]
        return sorted((min(pair), max(pair)) for pair in ranges)

    async def _search_once(
        self, program: SearchProgram, within: UidSet | None, returns: bytes = b"ALL COUNT"
    ) -> SearchAnswer:
        extended = self.offers("ESEARCH") or not returns.startswith(b"ALL")
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
                if response.count is not None and response.count > len(response.all or ()):
                    raise ProtocolError(f"ESEARCH counts {response.count} messages and lists fewer")
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

    def uid_fetch(self, uids: UidSet, fetch: Fetch, deliver: Deliver) -> FetchCommand:
        """Send a UID FETCH, without waiting; others may be in flight, for other UIDs.

        Args:
            uids: What to fetch, not empty.
            fetch: The items.
            deliver: Called from the event loop with messages as they complete, several at a time. Their
                `wire_size` (and `spooled_size`) must be given back with `release` once they are no longer held.

        Returns:
            The command: await its `finished` (shielded: it is not to be cancelled), then read `missing` and
            `malformed`.

        Raises:
            ProtocolError: No mailbox is open.
            ConnectionLost, ServerBye, CommandTimeout: The connection has ended already.
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
