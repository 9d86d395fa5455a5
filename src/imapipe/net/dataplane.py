"""The data plane: one connection's bytes, from the transport to messages, on its own.

It knows neither aioimaplib nor the pool. Commands come in through `submit`; what goes out are tagged
replies, untagged responses and, for FETCH, messages.

Invariants:

- `buffer_updated` is the whole receive path. It runs a loop over framed responses and never recurses, never
  blocks and never raises into the event loop: whatever goes wrong ends the connection and fails what waits.
- A FETCH response goes to the command in flight that asked for its UID and has not got it yet, whatever the
  order. A message is handed over once every item asked for is there; items that come apart are joined by UID.
  A FETCH without UID, or for a UID that nobody waits for, is unsolicited and never counts as an answer.
- Reading pauses when the bytes received and not released pass `max_held_bytes`, and goes on below half of it.
- One timer for each connection. It does not count while reading is paused by us.
- Commands are sent in the order of `submit`. FETCHes, and searches that name their tag, travel together;
  everything else travels alone (RFC 9051 §5.5). No command is sent while another waits for a continuation.
- A connection that fails fails at once: the transport is aborted in the same call, every command gets the error.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Iterable
from typing import Protocol, cast

from imapipe.errors import CommandTimeout, ConnectionLost, ImapipeError, ProtocolError, ServerBye, SpoolError
from imapipe.models.batch import Failure
from imapipe.models.message import FoundItem, Message
from imapipe.net.command import Command, Company, FetchCommand
from imapipe.net.compression import Deflate
from imapipe.net.signals import code_words
from imapipe.net.spool import SpoolBudget, SpoolFile
from imapipe.wire.fetch import scan_fetch
from imapipe.wire.fetch_request import compile_shape
from imapipe.wire.framing import Frame, Framer, Limits
from imapipe.wire.literal import Literal
from imapipe.wire.response import Continuation, Status, Tagged, parse_response

EXCERPT_BYTES = 1024
MAX_HELD_BYTES = 8 * 1024 * 1024
MAX_SPOOL_BYTES = 1024 * 1024 * 1024


class Owner(Protocol):
    """Who keeps the state of the connection (`net.session.Session`)."""

    def sending(self, command: Command) -> None:
        """A command is about to be written."""

    def heard(self, text: bytes, literals: tuple[Literal, ...]) -> None:
        """An untagged response came that is no answer to a FETCH in flight."""

    def completed(self, command: Command, tagged: Tagged) -> None:
        """A tagged reply came; the command's owner has not seen it yet."""

    def lost(self, error: BaseException) -> None:
        """The connection has ended; called once."""


class Dataplane(asyncio.BufferedProtocol):
    """One connection below the level of mailboxes.

    Args:
        owner: Tracks the state of the connection: hears of everything but the answers to FETCHes in flight.
        command_timeout_seconds: How long the server may be silent while a command waits.
        stall_timeout_seconds: How long it may be silent in the middle of an answer.
        max_held_bytes: Bytes received and not released above which reading pauses.
        spool_above: Literals longer than this go to temporary files.
        spool_dir: Where those are made; None is the system's folder for them.
        max_spool_bytes: Bytes in temporary files above which reading pauses.
        limits: The largest responses taken.

    Attributes:
        bytes_received: Bytes after decompression.
        wire_bytes: Bytes on the wire, received.
        held_bytes: Bytes handed over and not released.
        max_held_seen: The most `held_bytes` has been.
    """

    def __init__(
        self,
        *,
        owner: Owner,
        command_timeout_seconds: float = 60.0,
        stall_timeout_seconds: float = 30.0,
        max_held_bytes: int = MAX_HELD_BYTES,
        spool_above: int = 1024 * 1024,
        spool_dir: str | None = None,
        max_spool_bytes: int = MAX_SPOOL_BYTES,
        limits: Limits | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._owner = owner
        self.command_timeout_seconds = command_timeout_seconds
        self.stall_timeout_seconds = stall_timeout_seconds
        self.max_held_bytes = max_held_bytes
        self._budget = SpoolBudget(max_spool_bytes)
        self._budget.freed = self._resume_if_possible
        self._spool_dir = spool_dir
        self._framer = Framer(limits, spool=self._open_spool, spool_above=spool_above)
        self._transport: asyncio.Transport | None = None
        self._deflate: Deflate | None = None
        self._waiting: deque[Command] = deque()
        self._flight: dict[bytes, Command] = {}
        self._fetches: list[FetchCommand] = []
        self._asks: Command | None = None
        self._detaching = False
        self._paused = False
        self._paused_since = 0.0
        self._paused_total = 0.0
        self._last_heard = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._error: BaseException | None = None
        self._bye: Status | None = None
        self._tag_number = 0
        self._tag_prefix = b"P"
        self._write_paused = False
        self.bytes_received = 0
        self.wire_bytes = 0
        self.held_bytes = 0
        self.max_held_seen = 0
        self.greeting: asyncio.Future[bytes] = self._loop.create_future()

    # -- what the owner calls --------------------------------------------------------------------

    @property
    def error(self) -> BaseException | None:
        """Why the connection ended, or None while it lives."""
        return self._error

    @property
    def is_busy(self) -> bool:
        """Whether a command is in flight or waiting to be sent."""
        return bool(self._flight or self._waiting)

    @property
    def is_compressed(self) -> bool:
        """Whether COMPRESS=DEFLATE is on."""
        return self._deflate is not None

    @property
    def transport(self) -> asyncio.Transport | None:
        """The transport, once there is one."""
        return self._transport

    @property
    def is_reading_paused(self) -> bool:
        """Whether we do not read for the moment, because too much is held."""
        return self._paused

    def submit(self, command: Command) -> None:
        """Send a command as soon as it may be; its `finished` tells the rest.

        Raises:
            ConnectionLost: The connection has ended already (or the error that ended it).
        """
        if self._error is not None:
            raise self._error
        if not command.tag:
            self._tag_number += 1
            command.tag = self._tag_prefix + str(self._tag_number).encode()
        self._waiting.append(command)
        self._send_waiting()

    async def run(self, command: Command) -> Tagged:
        """Submit a command and wait for its tagged reply, whatever that says.

        A wait that is cancelled ends the connection: nobody would know which bytes are whose.

        Raises:
            ConnectionLost, CommandTimeout, ProtocolError, ServerBye: The connection ended first.
        """
        self.submit(command)
        try:
            return await command.finished
        except asyncio.CancelledError:
            self.abort(ConnectionLost(f"{command.name} was cancelled"))
            raise

    def abort(self, error: BaseException) -> None:
        """End the connection now, without a word to the server; every command fails with `error`."""
        self._fail(error)

    def write(self, data: bytes) -> None:
        """Send bytes outside of any command (DONE after IDLE)."""
        self._write(data)

    def release(self, count: int) -> None:
        """`count` bytes of messages handed over are held no more."""
        self.held_bytes -= count
        if self._paused:
            self._resume_if_possible()

    async def compress(self, command: Command) -> Tagged:
        """Send COMPRESS DEFLATE; after OK both directions are compressed (RFC 4978)."""
        self._detaching = True
        try:
            tagged = await self.run(command)
        finally:
            self._detaching = False
        if tagged.status == "OK" and self._error is None:
            self._deflate = Deflate()
            rest = self._framer.rest()
            if rest:
                self._inflate(rest)
        if self._transport is not None and self._error is None:
            self._transport.resume_reading()
        return tagged

    async def start_tls(self, command: Command, context: ssl.SSLContext, server_hostname: str) -> Tagged:
        """Send STARTTLS; after OK the connection is encrypted (RFC 9051 §6.2.1).

        Raises:
            ProtocolError: Bytes stood behind the OK: somebody in the middle put them there, and the
                connection is ended.
            ssl.SSLError, OSError: The handshake failed.
        """
        self._detaching = True
        try:
            tagged = await self.run(command)
        finally:
            self._detaching = False
        if tagged.status != "OK" or self._transport is None:
            if self._transport is not None:
                self._transport.resume_reading()
            return tagged
        if self._framer.rest():
            error = ProtocolError("bytes came before the TLS handshake (a STARTTLS injection)")
            self._fail(error)
            raise error
        upgraded = await self._loop.start_tls(self._transport, self, context, server_hostname=server_hostname)
        self._transport = cast(asyncio.Transport, upgraded)
        return tagged

    # -- what the transport calls ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._last_heard = self._loop.time()

    def adopt(self, transport: asyncio.Transport) -> None:
        """Take over a transport whose greeting was read by somebody else."""
        self.connection_made(transport)
        self.greeting.set_result(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._error is None:
            if self._bye is not None:
                self._fail(ServerBye("connection", code_words(self._bye.code), self._bye.text))
            else:
                self._fail(ConnectionLost(str(exc) if exc else "the server closed the connection"))

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        self._send_waiting()

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._deflate is not None:
            return self._deflate.buffer
        return self._framer.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        if self._error is not None:
            return
        self._last_heard = self._loop.time()
        self.wire_bytes += nbytes
        if self._deflate is not None:
            self._inflate(self._deflate.buffer[:nbytes])
            return
        self.bytes_received += nbytes
        self._framer.received(nbytes)
        self._take(self._framer.frames())

    def eof_received(self) -> bool:
        return False

    # -- receiving -------------------------------------------------------------------------------

    def _inflate(self, data: bytes | memoryview) -> None:
        """Inflate what came, in bounded steps, and never past a pause."""
        deflate = self._deflate
        if deflate is None:
            return
        try:
            for inflated in deflate.inflate(data):
                self.bytes_received += len(inflated)
                self._take(self._framer.feed(inflated))
                if self._error is not None or self._paused:
                    return
        except ProtocolError as error:
            self._fail(error)

    def _take(self, frames: Iterable[Frame]) -> None:
        """Route every response; the loop in which nearly all time is spent."""
        try:
            fetch = self._fetches[0] if self._fetches else None
            shape = fetch.shape if fetch is not None else None
            for text, literals, size in frames:
                if fetch is not None and shape is not None:
                    match = shape.match(text)
                    if match is not None:
                        uid = int(match[shape.uid_group])
                        if uid not in fetch.pending:
                            # Dovecot answers pipelined FETCHes in turns when its output is full.
                            fetch = self._fetch_of(uid) or fetch
                        if uid in fetch.pending and fetch.shape is shape:
                            fetch.pending.discard(uid)
                            fetch.bytes_received += size
                            self.held_bytes += size
                            fetch.ready.append(Message(fetch.context, uid, size, match, shape, literals))
                            continue
                self._route(text, literals, size)
                if self._error is not None or (self._detaching and not self._flight):
                    break
                fetch = self._fetches[0] if self._fetches else None
                shape = fetch.shape if fetch is not None else None
            self._hand_over()
        except (ProtocolError, SpoolError) as error:
            self._fail(error)
        except Exception as error:  # a defect of ours must not leave a connection half read
            self._fail(error)
            raise

    def _fetch_of(self, uid: int) -> FetchCommand | None:
        """The FETCH in flight that waits for a UID."""
        for fetch in self._fetches:
            if uid in fetch.pending:
                return fetch
        return None

    def _hand_over(self) -> None:
        for fetch in self._fetches:
            if fetch.ready:
                self._deliver(fetch)
        held = self.held_bytes
        if held > self.max_held_seen:
            self.max_held_seen = held
        if not self._paused and (held > self.max_held_bytes or self._budget.held_bytes > self._budget.limit_bytes):
            self._pause()

    def _deliver(self, fetch: FetchCommand) -> None:
        if not fetch.first_byte_at:
            fetch.first_byte_at = self._last_heard
        ready, fetch.ready = fetch.ready, []
        fetch.deliver(ready)

    def _route(self, text: bytes, literals: tuple[Literal, ...], size: int) -> None:
        """Everything that is not an answer in the expected shape."""
        if not self.greeting.done():
            self.greeting.set_result(text)
            return
        head = text[:1]
        if head == b"+":
            self._continue(text)
            return
        if _is_fetch(text):
            self._route_fetch(text, literals, size)
            return
        if head != b"*" and text.partition(b" ")[0] in self._flight:
            self._complete(text)
            return
        self._owner.heard(text, literals)
        owner = self._owner_of(text)
        if owner is not None:
            owner.receive(text, literals)
        if text[:6].upper() == b"* BYE ":
            status = parse_response(text)
            if isinstance(status, Status):
                self._bye = status

    def _owner_of(self, text: bytes) -> Command | None:
        """The command an untagged response belongs to: the one in flight alone, or the search it names."""
        for tag, command in self._flight.items():
            if command.company is Company.ALONE:
                return command
            if command.company is Company.SEARCH and b'(TAG "' + tag + b'")' in text[:80].upper():
                return command
        return None

    def _route_fetch(self, text: bytes, literals: tuple[Literal, ...], size: int) -> None:
        try:
            scan = scan_fetch(text, literals)
        except ProtocolError as error:
            self._malformed(text, error, size)
            return
        fetch = self._fetch_of(scan.uid) if scan.uid is not None else None
        if fetch is None or scan.uid is None:
            self._owner.heard(text, literals)
            for command in self._flight.values():
                if command.company is Company.ALONE:
                    command.receive(text, literals)
            return
        uid = scan.uid
        found = fetch.found.setdefault(uid, {})
        for name, span in scan.items.items():
            found[name] = FoundItem(text, literals, span)
        fetch.bytes_received += size
        fetch.found_bytes[uid] = fetch.found_bytes.get(uid, 0) + size
        self.held_bytes += size
        if not fetch.names <= found.keys():
            return
        total = fetch.found_bytes.pop(uid)
        del fetch.found[uid]
        fetch.pending.discard(uid)
        for name in fetch.context.fetch.body_names:
            if found[name].is_nil:
                fetch.malformed[uid] = Failure(uid, "no-body", f"the server sent NIL for {name}")
                self.held_bytes -= total
                return
        fetch.ready.append(Message.from_items(fetch.context, uid, total, found))
        if fetch.names <= scan.items.keys():
            uidfetch = "UID" not in scan.items
            fetch.shape = compile_shape(tuple(scan.items), uidfetch=uidfetch) or fetch.shape

    def _malformed(self, text: bytes, error: ProtocolError, size: int) -> None:
        """An answer that cannot be read costs its message, where the UID can still be seen, and nothing else."""
        uid = _visible_uid(text)
        for fetch in self._fetches:
            if uid in fetch.pending:
                fetch.pending.discard(uid)
                fetch.bytes_received += size
                self.held_bytes -= fetch.found_bytes.pop(uid, 0)
                fetch.found.pop(uid, None)
                fetch.malformed[uid] = Failure(uid, "malformed", str(error), text[:EXCERPT_BYTES])
                return

    def _complete(self, text: bytes) -> None:
        tagged = parse_response(text)
        if not isinstance(tagged, Tagged):
            raise ProtocolError("a tagged reply was expected")
        command = self._flight.pop(tagged.tag.encode("ascii", "replace"), None)
        if command is None:
            return
        if command is self._asks:
            self._asks = None
        if isinstance(command, FetchCommand):
            command.finished_at = self._last_heard
            command.paused_seconds = self._paused_total - command.paused_at_start
            if command.ready:
                self._deliver(command)
            self._fetches.remove(command)
            self.held_bytes -= sum(command.found_bytes.values())
            command.found.clear()
        self._owner.completed(command, tagged)
        command.complete(tagged)
        if self._detaching and not self._flight and self._transport is not None:
            # What follows the OK is of another kind (TLS, DEFLATE): it must stay where it is.
            self._transport.pause_reading()
        else:
            self._send_waiting()

    def _continue(self, text: bytes) -> None:
        if self._asks is None:
            return
        parsed = parse_response(text)
        line = parsed.text if isinstance(parsed, Continuation) else ""
        piece = self._asks.next_piece(line.encode("utf-8", "surrogateescape"))
        if piece is not None:
            self._write(piece)
        if not self._asks.pieces and not self._asks.keeps_asking:
            self._asks = None
            self._send_waiting()

    # -- sending ---------------------------------------------------------------------------------

    def _send_waiting(self) -> None:
        while self._waiting and self._asks is None and not self._write_paused and self._error is None:
            command = self._waiting[0]
            if command.company is Company.ALONE:
                if self._flight:
                    return
            elif any(other.company is Company.ALONE for other in self._flight.values()):
                return
            self._waiting.popleft()
            self._send(command)

    def _send(self, command: Command) -> None:
        now = self._loop.time()
        if not self._flight:
            self._last_heard = now
        command.started_at = now
        self._owner.sending(command)
        self._flight[command.tag] = command
        if isinstance(command, FetchCommand):
            self._fetches.append(command)
            command.paused_at_start = self._paused_total
        first = command.pieces.pop(0)
        if command.pieces or command.keeps_asking:
            self._asks = command
        self._write(command.tag + b" " + first)
        self._watch()

    def _write(self, data: bytes) -> None:
        if self._transport is None or self._error is not None:
            return
        self._transport.write(self._deflate.deflate(data) if self._deflate is not None else data)

    # -- time, pauses and the end ----------------------------------------------------------------

    def _watch(self) -> None:
        if self._timer is None and self._error is None and not self._paused and self._flight:
            self._timer = self._loop.call_later(self._patience(), self._check_time)

    def _patience(self) -> float:
        if self._framer.partial or any(fetch.first_byte_at for fetch in self._fetches):
            return self.stall_timeout_seconds
        quiet = [c.quiet_seconds for c in self._flight.values() if c.quiet_seconds is not None]
        return max(quiet) if quiet else self.command_timeout_seconds

    def _check_time(self) -> None:
        self._timer = None
        if self._error is not None or self._paused or not self._flight:
            return
        patience = self._patience()
        silent = self._loop.time() - self._last_heard
        if silent >= patience:
            command = next(iter(self._flight.values()))
            self._fail(CommandTimeout(command.name, timeout_seconds=patience))
            return
        self._timer = self._loop.call_later(patience - silent, self._check_time)

    def _pause(self) -> None:
        self._paused = True
        self._paused_since = self._loop.time()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def _resume_if_possible(self) -> None:
        if (
            not self._paused
            or self._error is not None
            or self.held_bytes > self.max_held_bytes // 2
            or self._budget.held_bytes > self._budget.limit_bytes // 2
        ):
            return
        self._paused = False
        self._last_heard = self._loop.time()
        self._paused_total += self._last_heard - self._paused_since
        if self._deflate is not None and self._deflate.has_more:
            # Called from a release, maybe deep in a handler: what is left to inflate waits its turn.
            self._loop.call_soon(self._inflate, b"")
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        self._watch()

    def _fail(self, error: BaseException) -> None:
        if self._error is not None:
            return
        self._error = error
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()
        self._framer.close()
        now = self._loop.time()
        commands = [*self._flight.values(), *self._waiting]
        self._flight.clear()
        self._waiting.clear()
        for fetch in self._fetches:
            fetch.finished_at = now
            fetch.paused_seconds = self._paused_total - fetch.paused_at_start
            if fetch.ready:
                self._deliver(fetch)
            fetch.found.clear()
        self._fetches.clear()
        self._asks = None
        for command in commands:
            command.fail(_for_command(error, command))
        if not self.greeting.done():
            self.greeting.set_exception(error)
            self.greeting.exception()
        self._owner.lost(error)

    def _open_spool(self, size: int) -> SpoolFile:
        return SpoolFile(size, self._spool_dir, self._budget)


def _for_command(error: BaseException, command: Command) -> BaseException:
    """The error as this command's owner should see it."""
    if isinstance(error, ServerBye):
        return ServerBye(command.name, error.code, error.text)
    if isinstance(error, ImapipeError):
        return error
    lost = ConnectionLost(f"the connection was ended by {type(error).__name__}")
    lost.__cause__ = error
    return lost


def _is_fetch(text: bytes) -> bool:
    words = text[:64].split(b" ", 3)
    return len(words) > 3 and words[2].upper() in (b"FETCH", b"UIDFETCH") and words[1].isdigit()


def _visible_uid(text: bytes) -> int:
    """The UID of an answer that cannot be parsed, if it stands at its beginning; 0 otherwise."""
    words = text[:128].replace(b"(", b" ").split()
    if len(words) > 2 and words[2].upper() == b"UIDFETCH" and words[1].isdigit():
        return int(words[1])
    if len(words) > 4 and words[3].upper() == b"UID" and words[4].strip(b")").isdigit():
        return int(words[4].strip(b")"))
    return 0
