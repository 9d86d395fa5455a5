"""Commands on their way: what was sent, what came back, and who waits for it.

`Command` is any command but FETCH; it collects its untagged responses as they came. `FetchCommand` is a
UID FETCH that may be one of several in flight and hands over messages as they complete.

A command ends exactly once: `complete` by its tagged reply, or `fail`. `finished` is what its owner awaits.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Container, Sequence
from enum import Enum
from typing import Protocol, Self

from imapipe.models.batch import Failure
from imapipe.models.message import Message, MessageContext
from imapipe.net.holdings import Charge
from imapipe.net.parts import Parts
from imapipe.net.unfinished import Part, Unfinished
from imapipe.net.upload import Upload
from imapipe.wire.command.encoder import Piece, Request
from imapipe.wire.response.literal import Literal
from imapipe.wire.response.response import Response, Tagged
from imapipe.wire.response.shape import Shape
from imapipe.wire.uid_set import UidSet

# What servers send of a message whenever it changes (RFC 9051 §7.5.2, RFC 7162 §3.2).
_TOLD_UNASKED = frozenset(("FLAGS", "MODSEQ"))

# What the objects for an untagged response, and for each literal in it, take beside their bytes. News of messages are
# kept as text; of others values are made, which take more than their text.
_NEWS = re.compile(rb"[\0 ]*\* *\d")
_NEWS_BYTES = 120
_RESPONSE_BYTES = 700
_LITERAL_BYTES = 60

# The reason of a failure: the server sent NIL for what every message has.
NO_BODY = "no-body"

Untagged = tuple[bytes, tuple[Literal, ...]]


class Company(Enum):
    """Which commands may be in flight together (RFC 9051 §5.5)."""

    ALONE = "alone"
    OPENING = "opening"
    """SELECT or EXAMINE: nothing travels with it but UID FETCHes behind it, of the mailbox that it opens."""
    FETCH = "fetch"
    SEARCH = "search"
    """A SEARCH whose answer names its tag (ESEARCH, RFC 4731): it may travel among FETCHes."""
    STATUS = "status"
    """A STATUS, whose answer names its mailbox: it may travel among others."""
    APPEND = "append"
    """An APPEND of a group: others may be behind it, since nothing that one of them says is about another one."""
    EXPUNGE = "expunge"
    """A UID EXPUNGE: it may follow UID FETCHes at once. The server must answer these first, as they were before it."""


class Owner(Protocol):
    """Who keeps the state of a connection (`net.session.Session`)."""

    def sending(self, command: Command) -> None:
        """A command is about to be written."""

    def heard(self, text: bytes, literals: tuple[Literal, ...], response: Response | None = None) -> None:
        """An untagged response came that is no answer to a FETCH in flight; `response` where it was read already."""

    def completed(self, command: Command, tagged: Tagged) -> None:
        """A tagged reply came; the command's owner has not seen it yet."""

    def lost(self, error: BaseException) -> None:
        """The connection has ended; called once."""

    @property
    def logged_in(self) -> bool:
        """Whether the login is over."""

    @property
    def messages(self) -> int:
        """How many messages the selected mailbox holds; 0 where none is."""


class Command:
    """A command that is sent alone, or a search that names its tag.

    Args:
        name: What errors call it, such as `UID SEARCH`; never arguments.
        pieces: What is sent, in order, made by `wire.command`; between two pieces the client waits for a continuation
            request. Bodies in them are read while they are sent.
        company: What may be in flight with it.
        keeps_asking: The server may ask for more after the last piece (AUTHENTICATE, IDLE).
        mailbox: The mailbox that a SELECT or EXAMINE names.
        quiet_seconds: How long the server may be silent, where that is not the connection's own limit.

    Attributes:
        finished: Its tagged reply, or the error that ended the connection.
        untagged: The untagged responses that came for it, in order.
        reply: The line of its tagged reply, b"" before.
        started_at: Loop time at which it was written.
        line_bytes: The length of its first line without the tag; 0 where a body is in its first piece.
        uploads: The bodies of it whose turn came.
        is_collected: Its owner wants all that comes, as it came (aioimaplib's own commands).
        charge: What is kept of what came for it, None before it is sent.
        asked: How often the server asked for more than there is.
    """

    is_collected = False

    __slots__ = (
        "asked",
        "charge",
        "company",
        "finished",
        "keeps_asking",
        "line_bytes",
        "mailbox",
        "name",
        "pieces",
        "quiet_seconds",
        "reply",
        "started_at",
        "tag",
        "untagged",
        "uploads",
    )

    def __init__(
        self,
        name: str,
        pieces: Sequence[Piece],
        *,
        company: Company = Company.ALONE,
        keeps_asking: bool = False,
        mailbox: str = "",
        quiet_seconds: float | None = None,
    ) -> None:
        self.name = name
        self.pieces = list(pieces)
        self.company = company
        self.tag = b""
        self.untagged: list[Untagged] = []
        self.charge: Charge | None = None
        self.asked = 0
        self.finished: asyncio.Future[Tagged] = asyncio.get_running_loop().create_future()
        self.reply = b""
        self.started_at = 0.0
        self.line_bytes = len(pieces[0]) if pieces and isinstance(pieces[0], bytes) else 0
        self.keeps_asking = keeps_asking
        self.mailbox = mailbox
        self.quiet_seconds = quiet_seconds
        self.uploads: tuple[Upload, ...] = ()

    @classmethod
    def of(cls, request: Request, *, company: Company = Company.ALONE) -> Self:
        """Make it of an encoded command."""
        return cls(request.name, request.pieces, company=company, mailbox=request.mailbox)

    @property
    def is_endless(self) -> bool:
        """Whether it lasts for as long as its owner likes (IDLE, until DONE is sent)."""
        return False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.tag.decode('ascii', 'replace')}>"

    def keep(self, text: bytes, literals: tuple[Literal, ...]) -> None:
        """Receive an untagged response, where there is room for it.

        Raises:
            ResponseTooLarge: There is none.
        """
        cost = len(text) + (_NEWS_BYTES if _NEWS.match(text) else _RESPONSE_BYTES)
        if literals:
            cost += sum(map(len, literals)) + _LITERAL_BYTES * len(literals)
        self.keep_bytes(cost)
        self.receive(text, literals)

    def keep_bytes(self, count: int) -> None:
        """So many bytes are kept for it, until `let_go`. Raises ResponseTooLarge."""
        if self.charge is not None:
            self.charge.add(count)

    def let_go(self) -> None:
        """Whoever waited for it has what came."""
        if self.charge is not None:
            self.charge.release()

    def receive(self, text: bytes, literals: tuple[Literal, ...]) -> None:
        """An untagged response that belongs to this command."""
        self.untagged.append((text, literals))

    def next_piece(self, text: bytes) -> Piece | None:
        """What to send after a continuation request with this text, or None where none was expected."""
        return self.pieces.pop(0) if self.pieces else None

    def complete(self, tagged: Tagged) -> None:
        """The tagged reply is there."""
        if not self.finished.done():
            self.finished.set_result(tagged)

    def fail(self, error: BaseException) -> None:
        """There will be no tagged reply."""
        self.let_go()
        if not self.finished.done():
            self.finished.set_exception(error)
            # Whoever waits gets it; where nobody does any more (cancelled), it is no one's news.
            self.finished.exception()


class FetchCommand(Command):
    """A UID FETCH.

    Attributes:
        uids: What was asked for.
        names: The items that were asked for.
        needed: Those of them without which a message is not handed over: parts of the message itself.
        pending: UIDs without a complete answer so far.
        ready: Messages complete and not handed over yet.
        malformed: UIDs whose answer could not be read.
        doubts: Whether what may have been invented is kept back.
        keeps_cut: Whether what came of a message is of use when the connection dies in the middle of it. Set by whoever
            sent it, and owns `unfinished` then.
        goes_on: Where a literal of the answer goes, of which the beginning came over another connection. Set so too.
        unfinished: What came of a message in the middle of which the connection died.
        doubtful: By UID, what may have been invented for a message that is gone: complete, and neither handed over
            nor counted as held.
        parts: By UID, the messages of which not all has come.
        incomplete: How many messages were handed over without an item that was asked for, by its name.
        notes: What of the answers and of their values was passed over, and how often.
        bytes_received: Bytes of its answers.
        paused_seconds: How long reading was paused while it was in flight.
        first_byte_at: Loop time of its first answer, 0.0 before.
        finished_at: Loop time of its tagged reply, or of the end of the connection.
    """

    __slots__ = (
        "bytes_received",
        "context",
        "deliver",
        "doubtful",
        "doubts",
        "finished_at",
        "first_byte_at",
        "goes_on",
        "incomplete",
        "keeps_cut",
        "malformed",
        "names",
        "needed",
        "notes",
        "parts",
        "paused_at_start",
        "paused_seconds",
        "pending",
        "ready",
        "shape",
        "uids",
        "unfinished",
    )

    def __init__(
        self,
        pieces: Sequence[Piece],
        uids: UidSet,
        context: MessageContext,
        shape: Shape | None,
        deliver: Callable[[list[Message]], None],
        *,
        doubts: bool = False,
    ) -> None:
        super().__init__("UID FETCH", pieces, company=Company.FETCH)
        self.uids = uids
        self.pending = set(uids)
        self.context = context
        self.names = frozenset(context.fetch.names)
        self.needed = frozenset(name for name in context.fetch.names if name.startswith(("BODY[", "BINARY[")))
        self.shape = shape
        self.deliver = deliver
        self.ready: list[Message] = []
        self.parts: dict[int, Parts] = {}
        self.malformed: dict[int, Failure] = {}
        self.keeps_cut = False
        self.goes_on: Part | None = None
        self.unfinished: Unfinished | None = None
        self.doubts = doubts
        self.doubtful: dict[int, Message] = {}
        self.incomplete: dict[str, int] = {}
        self.notes = context.notes
        self.bytes_received = 0
        self.paused_at_start = 0.0
        self.paused_seconds = 0.0
        self.first_byte_at = 0.0
        self.finished_at = 0.0

    def is_enough(self, items: Container[str]) -> bool:
        """Whether a message can be handed over with these items, when no others will come.

        What a server also tells without being asked (flags that changed) is no answer, unless that was all.
        """
        if self.needed:
            return all(name in items for name in self.needed)
        telling = self.names - _TOLD_UNASKED
        return any(name in items for name in telling or self.names)

    @property
    def missing(self) -> UidSet:
        """UIDs that were asked for and not answered whole."""
        return UidSet.from_numbers(self.pending)

    @property
    def elapsed_seconds(self) -> float:
        """From being sent to its tagged reply, without the time in which we did not read."""
        return max(0.0, self.finished_at - self.started_at - self.paused_seconds)
