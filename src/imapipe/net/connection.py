"""One connection to an IMAP server: what may be asked of it, in the words of RFC 9051.

Control goes through aioimaplib (`imap`), bulk data through our own data plane; both share one stream and one
session. Methods raise `CommandNo`, `CommandBad`, `Throttled` or `CapabilityMissing` for what the
server says, and `ConnectionLost`, `ServerBye`, `CommandTimeout` or `ProtocolError` when the connection ended.

Cancelling a method ends the connection, unless it says otherwise: an answer half read cannot be told
from the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from imapipe.errors import CommandNo, ProtocolError
from imapipe.models.message import Message, MessageContext
from imapipe.net.bridge import IMAP4, adopt_client
from imapipe.net.changing import Changing
from imapipe.net.command import Command, Company, FetchCommand
from imapipe.net.dataplane import Dataplane
from imapipe.net.listing import STATUS_ITEMS
from imapipe.net.options import PlaneOptions
from imapipe.net.search_set import pack
from imapipe.net.session import SelectedMailbox, Session
from imapipe.wire.command.fetch import Fetch, uid_fetch
from imapipe.wire.command.search import SearchAnswer, read_search, room_within, uid_search
from imapipe.wire.command.select import select
from imapipe.wire.command.uidbatches import uidbatches
from imapipe.wire.command.unselect import examine_nothing, unselect
from imapipe.wire.response.note import Note
from imapipe.wire.response.response import UidBatches
from imapipe.wire.response.shape import Shape, compile_shape
from imapipe.wire.search_program import SearchProgram
from imapipe.wire.uid_set import MAX_UID, UidSet

__all__ = ["STATUS_ITEMS", "Connection", "SearchAnswer"]

Deliver: TypeAlias = Callable[[list[Message]], None]
UidRanges: TypeAlias = list[tuple[int, int]]

# The sections of a text are asked for in as many combinations as there are kinds of mail.
_MAX_SHAPES = 256


class Connection(Changing):
    """A connection that is logged in, or an adopted one.

    Attributes:
        expires_at: Loop time from which on it is to be replaced.
        parked_bytes: Of what is held, what waits for another answer before anybody can release it.
    """

    __slots__ = ("_shapes", "expires_at", "parked_bytes")

    def __init__(self, imap: IMAP4, plane: Dataplane, session: Session) -> None:
        super().__init__(imap, plane, session)
        self.expires_at = float("inf")
        self.parked_bytes = 0
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

        Raises:
            ValueError: A line end or NUL in the name.
        """
        return await self._select(mailbox, condstore=condstore, read_only=True)

    async def select(self, mailbox: str, *, condstore: bool = False) -> SelectedMailbox:
        """Open a mailbox for reading and writing (SELECT); arguments as in `examine`."""
        return await self._select(mailbox, condstore=condstore, read_only=False)

    async def _select(self, mailbox: str, *, condstore: bool, read_only: bool) -> SelectedMailbox:
        request = select(mailbox, self._dialect, read_only=read_only, condstore=condstore and self.offers("CONDSTORE"))
        try:
            await self._ask(request)
        except CommandNo as error:
            # NetEase (163.com, 126.com) and other Coremail servers open no mailbox for clients without a name.
            if self._identified or "unsafe login" not in error.text.lower() or not self.offers("ID"):
                raise
            if not await self.try_optional("ID", self.identify):
                raise
            await self._ask(request)
        selected = self.session.selected
        if selected is None:
            raise ProtocolError(f"{request.name} was answered OK without a mailbox")
        selected.condstore = condstore
        return selected

    async def unselect(self) -> None:
        """Leave the mailbox without expunging: UNSELECT (RFC 3691), or where it is missing a harmless failure.

        CLOSE is never used: it expunges.
        """
        if self.session.selected is None:
            return
        if self.offers("UNSELECT"):
            await self._ask(unselect())
            return
        tagged = await self.plane.run(Command.of(examine_nothing()))
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
            ValueError: The program was put together by hand, and not well.
        """
        selected = self.session.selected
        if within is None or not within or (selected is not None and selected.saved == within):
            parts = [within]
        else:
            parts = [*pack(within, room_within(program))]
        found = UidSet()
        modseq: int | None = None
        limited: int | None = None
        notes: tuple[Note, ...] = ()
        for part in parts:
            answer = await self._search_and_save(program, part, save=save and len(parts) == 1)
            found |= answer.uids
            modseq = max((m for m in (modseq, answer.modseq) if m is not None), default=None)
            limited = answer.limited_below if answer.limited_below is not None else limited
            notes += answer.notes
        return SearchAnswer(found if within is None else found & within, modseq, limited, notes)

    async def _search_and_save(self, program: SearchProgram, within: UidSet | None, *, save: bool) -> SearchAnswer:
        if within is not None and not within:
            return SearchAnswer(within)
        if not (save and self.offers("ESEARCH") and self.offers("SEARCHRES")):
            return await self._search_once(program, within)
        selected = self.session.selected
        try:
            answer = await self._search_once(program, within, save=True)
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
        answer = await self._search_once(program, above_only, first=count)
        # `n:*` and its like give the last message even where its UID is lower (RFC 9051 §9, seq-range).
        return replace(answer, uids=answer.uids - UidSet.from_ranges([(1, above)])) if above else answer

    async def uid_batches(self, size: int) -> UidRanges:
        """Ranges of UIDs that hold `size` messages each, lowest first: UIDBATCHES (RFC 10022)."""
        self.require(["UIDBATCHES"])
        _, responses = await self._ask(uidbatches(size))
        ranges = [found for r in responses if isinstance(r, UidBatches) for found in r.ranges]
        return sorted((min(pair), max(pair)) for pair in ranges)

    async def _search_once(
        self, program: SearchProgram, within: UidSet | None, *, save: bool = False, first: int | None = None
    ) -> SearchAnswer:
        selected = self.session.selected
        extended = save or first is not None or self.offers("ESEARCH")
        request = uid_search(
            program,
            extended=extended,
            save=save,
            first=first,
            within=within,
            within_saved=within is not None and selected is not None and selected.saved == within,
        )
        tagged, responses = await self._ask(request, company=Company.SEARCH if extended else Company.ALONE)
        return read_search(responses, tagged)

    def uid_fetch(self, uids: UidSet, fetch: Fetch, deliver: Deliver, *, doubts: bool = False) -> FetchCommand:
        """Send a UID FETCH, without waiting; others may be in flight, for other UIDs.

        Args:
            uids: What to fetch, not empty.
            fetch: The items.
            deliver: Called from the event loop with messages as they complete, several at a time. Their
                `wire_size` (and `spooled_size`) must be given back with `release` once they are no longer held.
            doubts: Keep back what the server may have invented for a message that is gone, in `doubtful`; `believe`
                delivers it.

        Returns:
            The command: await its `finished` (shielded: it is not to be cancelled), then read `missing` and
            `malformed`.

        Raises:
            ProtocolError: No mailbox is open.
            ValueError: No UID.
            ConnectionLost, ServerBye, CommandTimeout: The connection has ended already.
        """
        selected = self.session.selected
        if selected is None:
            raise ProtocolError("UID FETCH needs a selected mailbox")
        uidonly = "UIDONLY" in self.session.enabled
        request = uid_fetch(uids, fetch, with_uid=not uidonly)
        try:
            shape = self._shapes[fetch]
        except KeyError:
            if len(self._shapes) >= _MAX_SHAPES:
                self._shapes.clear()
            names = fetch.names if uidonly else ("UID", *fetch.names)
            shape = self._shapes[fetch] = compile_shape(names, uidfetch=uidonly)
        context = MessageContext(selected.name, selected.uidvalidity, fetch)
        command = FetchCommand(request.pieces, uids, context, shape, deliver, doubts=doubts)
        self.plane.submit(command)
        return command

    def believe(self, command: FetchCommand) -> None:
        """Have the `doubtful` messages of a FETCH that is over delivered; they are held from now on."""
        self.plane.arrivals.believe(command)

    def fetched(self, command: FetchCommand) -> None:
        """A FETCH is over: keep what it taught about the server's order of items."""
        self._shapes[command.context.fetch] = command.shape
        self.used_at = command.finished_at
