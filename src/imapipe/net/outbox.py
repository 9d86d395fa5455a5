"""What a connection sends, and when: the commands that wait, those in flight, and the bytes on their way out.

Invariants:

- Commands go out in the order of `submit`. FETCHes, and searches that name their tag, travel together, and so do
  STATUS commands, and so do APPENDs; FETCHes may follow an EXAMINE at once, and a UID EXPUNGE may follow FETCHes.
  Everything else travels alone (RFC 9051 §5.5).
- Nothing is sent while a command waits for a continuation request, nor while bytes before it are still unsent.
- At most `WRITE_BYTES` at a time are given to the transport, and none while it asks for a pause: a literal of any size
  takes no second copy of it in memory, and a body that is read while it is sent is never in memory at all.
- A command is either waiting, or in flight, or over.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable

from imapipe.errors import ProtocolError
from imapipe.net.command import Command, Company
from imapipe.net.compression import Deflate
from imapipe.net.upload import Upload, Wait
from imapipe.wire.command.encoder import Piece
from imapipe.wire.response.response import Continuation, parse_response

WRITE_BYTES = 64 * 1024

# SASL mechanisms have one step or two, and a refusal that is asked about; nobody needs more.
_MOST_ASKED = 8

# Which companies a command may join.
_TOGETHER = {
    Company.ALONE: frozenset[Company](),
    Company.OPENING: frozenset[Company](),
    Company.FETCH: frozenset((Company.FETCH, Company.SEARCH, Company.OPENING)),
    Company.SEARCH: frozenset((Company.FETCH, Company.SEARCH)),
    Company.STATUS: frozenset((Company.STATUS,)),
    Company.APPEND: frozenset((Company.APPEND,)),
    Company.EXPUNGE: frozenset((Company.FETCH,)),
}
_FIRST_LISTENS = frozenset((Company.ALONE, Company.OPENING, Company.STATUS, Company.APPEND, Company.EXPUNGE))
_SEARCH_ANSWER = re.compile(rb"\* *E?SEARCH(?: *\( *TAG +\"?([^\" )]+))?", re.IGNORECASE)


class Outbox:
    """The sending half of a connection.

    Args:
        starting: Told of each command just before it is written.
        source_failed: Told when a body could not be read as it was announced; the connection cannot go on.
        waiting: Told when the sending begins to wait for a source, and when that gave something.

    Attributes:
        flight: Commands that were sent and are not over, by tag, in the order of sending.
        deflate: Compresses what is sent, once that is agreed.
        sent_bytes: Bytes given to the transport, before compression.
    """

    __slots__ = (
        "_asks",
        "_held",
        "_room",
        "_source_failed",
        "_starting",
        "_transport",
        "_unsent",
        "_waiting",
        "_waiting_for_source",
        "deflate",
        "flight",
        "sent_bytes",
    )

    def __init__(
        self, starting: Callable[[Command], None], source_failed: Callable[[Exception], None], waiting: Wait
    ) -> None:
        self._starting = starting
        self._source_failed = source_failed
        self._waiting_for_source = waiting
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[Command] = deque()
        self._asks: Command | None = None
        self._unsent: deque[memoryview | Upload] = deque()
        self._room = asyncio.Event()
        self._room.set()
        self._held = False
        self.flight: dict[bytes, Command] = {}
        self.deflate: Deflate | None = None
        self.sent_bytes = 0

    @property
    def is_empty(self) -> bool:
        """Whether no command waits or is in flight, and nothing is left to be sent of one that has its reply."""
        return not (self.flight or self._waiting or self._unsent)

    def connect(self, transport: asyncio.Transport) -> None:
        """Write to this transport from now on."""
        self._transport = transport

    def submit(self, command: Command) -> None:
        """Send a command as soon as it may be."""
        self._waiting.append(command)
        self.proceed()

    def withdraw(self, command: Command) -> bool:
        """Take back a command; False when it was sent already, or is over."""
        if command not in self._waiting:
            return False
        self._waiting.remove(command)
        return True

    def hold(self) -> None:
        """Send no further command until `proceed(go_on=True)`."""
        self._held = True

    def proceed(self, *, go_on: bool = False) -> None:
        """Send what may be sent now."""
        self._held = self._held and not go_on
        while self._waiting and self._asks is None and not self._unsent and not self._held and self._room.is_set():
            together = _TOGETHER[self._waiting[0].company]
            if self.flight and not all(command.company in together for command in self.flight.values()):
                return
            self._send(self._waiting.popleft())

    def ask(self, text: bytes) -> None:
        """The server asks for more (production `continue-req`).

        Raises:
            ProtocolError: It does so without an end; each time is answered, and the answers would pile up.
        """
        command = self._asks
        if command is None:
            return
        if not command.pieces and not command.is_endless:
            command.asked += 1
            if command.asked > _MOST_ASKED:
                raise ProtocolError(f"the server asks for more of {command.name} again and again")
        response = parse_response(text)
        asked = response.text if isinstance(response, Continuation) else ""
        piece = command.next_piece(asked.encode("utf-8", "surrogateescape"))
        if not command.pieces and not command.keeps_asking:
            self._asks = None
        if piece is not None:
            self._write_piece(command, piece)
        self.proceed()

    def finish(self, command: Command) -> None:
        """A command got its tagged reply, maybe while more of it was still to be asked for."""
        del self.flight[command.tag]
        if command is self._asks:
            self._asks = None

    def listener(self, text: bytes) -> Command | None:
        """The command that an untagged response belongs to: the one in flight alone, or a search that it answers.

        Of STATUS commands it is the first one: whoever sent them looks at the names in the answers.
        """
        searches: list[Command] = []
        for command in self.flight.values():
            if command.company in _FIRST_LISTENS:
                return command
            if command.company is Company.SEARCH:
                searches.append(command)
        match = _SEARCH_ANSWER.match(text) if searches else None
        if match is None:
            return None
        if match[1] is None:
            # An answer without the tag that RFC 4731 asks for, or a plain SEARCH: whose turn it is.
            return searches[0]
        return next((command for command in searches if command.tag == match[1].upper()), None)

    def drain(self) -> list[Command]:
        """The connection has ended: every command that is not over."""
        commands = [*self.flight.values(), *self._waiting]
        self.flight.clear()
        self._waiting.clear()
        for item in self._unsent:
            if isinstance(item, Upload):
                item.cancel()
        self._unsent.clear()
        self._asks = None
        return commands

    # -- bytes -----------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send bytes, behind those that are still unsent."""
        self._unsent.append(memoryview(data))
        self._flush()

    def pause(self) -> None:
        """The transport holds enough."""
        self._room.clear()

    def resume(self) -> None:
        """The transport takes more."""
        self._room.set()
        self._flush()
        self.proceed()

    def _flush(self) -> None:
        while self._unsent and self._room.is_set() and self._transport is not None:
            data = self._unsent[0]
            if isinstance(data, Upload):
                # It writes by itself, and says when it is over.
                data.begin()
                return
            piece, rest = data[:WRITE_BYTES], data[WRITE_BYTES:]
            if rest:
                self._unsent[0] = rest
            else:
                self._unsent.popleft()
            self._put(piece)

    def _put(self, data: bytes | memoryview) -> None:
        if self._transport is not None:
            self.sent_bytes += len(data)
            self._transport.write(data if self.deflate is None else self.deflate.deflate(data))

    def _send(self, command: Command) -> None:
        self.flight[command.tag] = command
        self._starting(command)
        first = command.pieces.pop(0)
        if command.pieces or command.keeps_asking:
            self._asks = command
        if isinstance(first, bytes):
            self.write(command.tag + b" " + first)
        else:
            self.write(command.tag + b" ")
            self._write_piece(command, first)

    def _write_piece(self, command: Command, piece: Piece) -> None:
        if isinstance(piece, bytes):
            self.write(piece)
            return
        for part in piece:
            if isinstance(part, bytes):
                self._unsent.append(memoryview(part))
                continue
            upload = Upload(part, self._room, self._put, self._uploaded, self._waiting_for_source)
            command.uploads += (upload,)
            self._unsent.append(upload)
        self._flush()

    def _uploaded(self, error: Exception | None) -> None:
        """The body at the head is over."""
        if error is not None:
            self._source_failed(error)
            return
        self._unsent.popleft()
        self._flush()
        self.proceed()
