"""One connection to an IMAP server: what may be asked of it, in the words of RFC 9051.

Control goes through aioimaplib (`imap`), bulk data through our own data plane; both share one stream and one
session. Methods raise `CommandNo`, `CommandBad`, `Throttled` or `CapabilityMissing` for what the
server says, and `ConnectionLost`, `ServerBye`, `CommandTimeout` or `ProtocolError` when the connection ended.

Cancelling a method ends the connection, unless it says otherwise: an answer half read cannot be told
from the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from functools import partial
from typing import TypeAlias

from imapipe.errors import CommandNo, ConnectionLost, ProtocolError
from imapipe.models.mailbox import MailboxStatus
from imapipe.models.message import Message, MessageContext
from imapipe.net.bridge import IMAP4, adopt_client
from imapipe.net.command import Command, Company, FetchCommand
from imapipe.net.dataplane import Dataplane
from imapipe.net.listing import STATUS_ITEMS
from imapipe.net.options import PlaneOptions
from imapipe.net.searching import Searching
from imapipe.net.session import SelectedMailbox, Session
from imapipe.net.spool import SpoolFile
from imapipe.wire.command.fetch import Fetch, uid_fetch
from imapipe.wire.command.search import SearchAnswer
from imapipe.wire.command.select import select
from imapipe.wire.command.unselect import examine_nothing, unselect
from imapipe.wire.response.note import Note
from imapipe.wire.response.response import Tagged
from imapipe.wire.response.shape import Shape, compile_shape
from imapipe.wire.uid_set import UidSet

__all__ = ["STATUS_ITEMS", "Connection", "SearchAnswer"]

Deliver: TypeAlias = Callable[[list[Message]], None]

# The sections of a text are asked for in as many combinations as there are kinds of mail.
_MAX_SHAPES = 256


class Connection(Searching):
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

        Otherwise it raises as `execute` does.
        """
        return await self._select(mailbox, condstore=condstore, read_only=True)

    async def select(self, mailbox: str, *, condstore: bool = False) -> SelectedMailbox:
        """Open a mailbox for reading and writing (SELECT); arguments as in `examine`.

        Raises as `examine` does.
        """
        return await self._select(mailbox, condstore=condstore, read_only=False)

    async def _select(self, mailbox: str, *, condstore: bool, read_only: bool) -> SelectedMailbox:
        name = self._spelled(mailbox)
        try:
            await self._open(name, condstore=condstore, read_only=read_only)
        except CommandNo as error:
            name = await self._after_refusal(error, name, mailbox)
            await self._open(name, condstore=condstore, read_only=read_only)
        selected = self.session.selected
        if selected is None:
            raise ProtocolError(f"{'EXAMINE' if read_only else 'SELECT'} was answered OK without a mailbox")
        selected.name = str(mailbox)
        selected.condstore = condstore
        return selected

    async def _after_refusal(self, error: CommandNo, name: str, mailbox: str) -> str:
        """See to what a mailbox may have been refused for; gives the name to open it by, or raises the refusal."""
        # NetEase (163.com, 126.com) and other Coremail servers open no mailbox for clients without a name.
        if "unsafe login" in error.text.lower() and not self._identified:
            if await self.try_optional("ID", self.identify):
                return name
        elif spelled := await self._spelling_of(mailbox):
            return spelled
        raise error

    async def _open(self, mailbox: str, *, condstore: bool, read_only: bool) -> None:
        async def ask(*, condstore: bool = False) -> None:
            request = select(mailbox, self._dialect, read_only=read_only, condstore=condstore)
            await self._ask(request, company=Company.OPENING)

        ways: dict[str, Callable[[], Awaitable[None]]] = {}
        if condstore and self.ways.may("CONDSTORE", "SELECT (CONDSTORE)"):
            ways["SELECT (CONDSTORE)"] = partial(ask, condstore=True)
        await self.ways.first(ways, ask)

    async def unselect(self) -> None:
        """Leave the mailbox without expunging: UNSELECT (RFC 3691), or where it is missing a harmless failure.

        CLOSE is never used: it expunges.

        Raises as `execute` does.
        """
        if self.session.selected is None:
            return

        async def fail() -> None:
            tagged = await self.plane.run(Command.of(examine_nothing()))
            if tagged.status == "OK":
                raise ProtocolError("a mailbox that should not exist was opened")

        async def leave() -> None:
            await self._ask(unselect())

        await self.ways.first({"UNSELECT": leave} if self.ways.may("UNSELECT") else {}, fail)

    def uid_fetch(
        self,
        uids: UidSet,
        fetch: Fetch,
        deliver: Deliver,
        *,
        doubts: bool = False,
        notes: MutableMapping[Note, int] | None = None,
    ) -> FetchCommand:
        """Send a UID FETCH, without waiting; others may be in flight, for other UIDs.

        Args:
            uids: What to fetch, not empty.
            fetch: The items.
            deliver: Called from the event loop with messages as they complete, several at a time. Their
                bytes must be given back with `release` once they are no longer needed.
            doubts: Keep back what the server may have invented for a message that is gone, in `doubtful`; `believe`
                delivers it.
            notes: What of the answers is passed over is added, and what of the values of messages, when they are read.

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
        context = MessageContext(selected.name, selected.uidvalidity, fetch, notes)
        return self._submit_fetch(uids, context, deliver, doubts=doubts)

    def uid_fetch_ahead(
        self,
        mailbox: str,
        uidvalidity: int,
        uids: UidSet,
        fetch: Fetch,
        deliver: Deliver,
        *,
        notes: MutableMapping[Note, int] | None = None,
    ) -> FetchCommand | None:
        """Send a UID FETCH right behind the EXAMINE that is under way; None where there is none.

        Whoever does so looks at what EXAMINE says before anything is believed of the answers.

        Args:
            mailbox: The mailbox that is being opened.
            uidvalidity: Its UIDVALIDITY as far as is known.
            uids: As in `uid_fetch`, where `doubts` is set.
            fetch: So too.
            deliver: So too.
            notes: So too.

        Raises:
            ConnectionLost, ServerBye, CommandTimeout: The connection has ended already.
        """
        if not self.session.is_opening:
            return None
        return self._submit_fetch(uids, MessageContext(mailbox, uidvalidity, fetch, notes), deliver, doubts=True)

    def _submit_fetch(self, uids: UidSet, context: MessageContext, deliver: Deliver, *, doubts: bool) -> FetchCommand:
        fetch = context.fetch
        uidonly = "UIDONLY" in self.session.enabled
        request = uid_fetch(uids, fetch, with_uid=not uidonly)
        try:
            shape = self._shapes[fetch]
        except KeyError:
            if len(self._shapes) >= _MAX_SHAPES:
                self._shapes.clear()
            names = fetch.names if uidonly else ("UID", *fetch.names)
            shape = self._shapes[fetch] = compile_shape(names, uidfetch=uidonly)
        command = FetchCommand(request.pieces, uids, context, shape, deliver, doubts=doubts)
        self.plane.submit(command)
        return command

    def believe(self, command: FetchCommand) -> None:
        """Have the `doubtful` messages of a FETCH that is over delivered; they are held from now on."""
        self.plane.arrivals.believe(command)

    def fetched(self, command: FetchCommand) -> None:
        """A FETCH has its reply: keep what it taught about the server."""
        self._shapes[command.context.fetch] = command.shape
        if command.finished.result().status == "OK":
            self.ways.learned.taken(command.line_bytes)
        self.used_at = command.finished_at


async def status_apart(connection: Connection, mailbox: str, items: Sequence[str]) -> MailboxStatus:
    """STATUS of a mailbox; where it is the selected one, it is selected no more. Raises as `Connection.status` does.

    STATUS is for mailboxes that are not selected (RFC 9051 §6.3.11); some servers tell old numbers of one that is.
    """
    if connection.selected is not None and connection.selected.name == mailbox:
        await connection.unselect()
    return await connection.status(mailbox, items)


async def reply_to(connection: Connection, command: FetchCommand) -> Tagged:
    """Wait for the reply to a FETCH of `uid_fetch`.

    Raises:
        ConnectionLost, ServerBye, CommandTimeout: The connection ended before it came.

    Cancelled, it ends the connection: nobody could tell whose the rest of the answers is.
    """
    try:
        return await asyncio.shield(command.finished)
    except asyncio.CancelledError:
        connection.abort(ConnectionLost("a FETCH was cancelled"))
        if command.unfinished is not None:
            command.unfinished.discard()
        raise


def room_for(connection: Connection, size: int) -> bytearray | SpoolFile:
    """The place of a body that comes over several connections: in memory or, where it is large, a temporary file.

    Raises:
        SpoolError: There is no room for the file.
    """
    return connection.plane.places.room_for(size)
