"""The data plane: one connection's bytes, from the transport to messages, on its own.

It knows neither aioimaplib nor the pool. Commands come in through `submit`; what goes out are tagged replies,
untagged responses and, for FETCH, messages. `Outbox` says what is sent when, `Arrivals` whose an answer is,
`Patience` when the server was waited for long enough.

Invariants:

- `buffer_updated` is the whole receive path. It runs a loop over framed responses and never recurses, never
  blocks and never raises into the event loop: whatever goes wrong ends the connection and fails what waits.
- Reading pauses when more is held than may be, and goes on below half of that.
- What comes is taken in turns (`Intake`), so that nothing that a server sends keeps the event loop from others.
- A connection that fails fails at once: the transport is aborted in the same call, messages that are whole are
  handed over, every command gets the error.
- After BYE nothing is sent any more; what is in flight may still be answered, for a moment.
- Behind the OK of STARTTLS nothing is read as IMAP before the handshake; behind that of COMPRESS all is compressed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import cast

from imapipe.errors import CommandTimeout, ConnectionLost, ProtocolError, ServerBye, SpoolError
from imapipe.models.message import Message
from imapipe.net.arrivals import Arrivals
from imapipe.net.bounds import bounds_now
from imapipe.net.command import Command, FetchCommand, Owner
from imapipe.net.compression import Deflate
from imapipe.net.holdings import Charge, Holdings, reserve_of
from imapipe.net.intake import Intake, cost_of
from imapipe.net.long_responses import LongResponses
from imapipe.net.options import PlaneOptions
from imapipe.net.outbox import Outbox
from imapipe.net.patience import Patience
from imapipe.net.places import Places
from imapipe.net.secrets import Secrets
from imapipe.net.signals import as_error_of, code_words
from imapipe.runtime.defect import DEFECTS, tell_defect
from imapipe.wire.response.framing import Frame, Framer
from imapipe.wire.response.literal import Literal
from imapipe.wire.response.response import Status, Tagged, parse_response

# What a server may send while nobody asks it for anything: news of others, a few bytes each.
UNASKED_BYTES = 1024 * 1024

_TAKING_FAILED = "what takes the messages of a connection failed"

_STATUS = re.compile(rb" *(?:\* *)?(?:(?:OK|NO|BAD|BYE|PREAUTH)(?: |\Z|\[)|\[)", re.IGNORECASE)
_BYE = re.compile(rb"\* *BYE(?: |\Z|\[)", re.IGNORECASE)


class Dataplane(asyncio.BufferedProtocol):
    """One connection below the level of mailboxes.

    Args:
        owner: Tracks the state of the connection: hears of everything but the answers to FETCHes in flight.
        options: What it may take.
        secrets: What nothing that is told may show.

    Attributes:
        transport: The transport, once there is one.
        error: Why the connection ended, or None while it lives.
        greeting: The first response.
        arrivals: What came for the FETCHes in flight.
        places: Where literals go.
        holdings: What is kept, and what was handed over and not released.
    """

    def __init__(self, owner: Owner, options: PlaneOptions | None = None, secrets: Secrets | None = None) -> None:
        options = options or PlaneOptions()
        self.secrets = secrets or Secrets()
        self._loop = asyncio.get_running_loop()
        self._owner = owner
        self._options = options
        self.holdings = Holdings(*options.most_bytes, reserve_of(self._loop))
        self.arrivals = Arrivals(self.holdings, self.secrets)
        self.places = Places(self.arrivals, options)
        framer = Framer(options.limits, place=self.places.open, spool_above=options.least_spooled)
        self._intake = Intake(self._loop, framer, self._take, self.abort)
        self._outbox = Outbox(self._starting, self._source_failed, self._wait_for_source)
        self._patience = Patience(
            self._loop, options, owner, self._intake, self._outbox, self.arrivals, self._timed_out
        )
        self._watchdog = self._patience.watchdog
        self._long = LongResponses(self._intake, self.arrivals, self._take, self._watchdog)
        self._unasked_until = 0  # Up to how many bytes may come while nothing is asked.
        self._bound()
        self.transport: asyncio.Transport | None = None
        self._switch: Command | None = None
        self.error: BaseException | None = None
        self._bye: Status | None = None
        self._tag_number = 0
        self.greeting: asyncio.Future[bytes] = self._loop.create_future()

    @property
    def is_usable(self) -> bool:
        """Whether commands can be sent: it has not ended, and the server did not say BYE."""
        return self.error is None and self._bye is None

    @property
    def is_busy(self) -> bool:
        """Whether a command is in flight or waiting to be sent."""
        return not self._outbox.is_empty

    @property
    def is_compressed(self) -> bool:
        """Whether COMPRESS=DEFLATE is on."""
        return self._intake.deflate is not None

    @property
    def bytes_received(self) -> int:
        """Bytes received, after decompression."""
        return self._intake.bytes_received

    @property
    def wire_bytes(self) -> int:
        """Bytes received, on the wire."""
        return self._intake.wire_bytes

    @property
    def is_reading_paused(self) -> bool:
        """Whether we do not read for the moment, because too much is held."""
        return self._intake.is_held_back

    @property
    def fetch_seconds(self) -> float:
        """For how long FETCHes have been in flight; pauses are left out where they have ended."""
        return self.arrivals.busy_until(self._loop.time())

    def submit(self, command: Command) -> None:
        """Send a command as soon as it may be; its `finished` tells the rest.

        Raises:
            ConnectionLost: The connection has ended already (or the error that ended it).
        """
        if self.error is not None:
            raise as_error_of(command.name, self.error)
        if self._bye is not None:
            raise self._farewell(command.name)
        if not command.tag:
            self._tag_number += 1
            command.tag = b"P%d" % self._tag_number
        self._outbox.submit(command)
        self._watchdog.watch()

    async def run(self, command: Command) -> Tagged:
        """Submit a command and wait for its tagged reply, whatever that says, and until its bodies are sent.

        Cancelled while the command is under way it ends the connection: nobody would know which bytes are whose. A
        command that was not sent yet is taken back, which harms nobody.

        Raises:
            ConnectionLost, CommandTimeout, ProtocolError, ServerBye: The connection ended first.
        """
        self.submit(command)
        try:
            return await command.finished
        except asyncio.CancelledError:
            if not self._outbox.withdraw(command) and command.tag in self._outbox.flight:
                self.abort(ConnectionLost(f"{command.name} was cancelled"))
            raise
        finally:
            command.let_go()
            for upload in command.uploads:
                await upload.over()

    def abort(self, error: BaseException) -> None:
        """End the connection now, without a word to the server; every command fails with `error`."""
        if self.error is not None:
            return
        self.error = error
        self._watchdog.stop()
        if self.transport is not None:
            self.transport.abort()
        if isinstance(error, ConnectionLost | CommandTimeout | ServerBye):
            self.places.keep(self._intake.cut())
        self._intake.close()
        self.arrivals.close()
        for command in self._outbox.drain():
            if isinstance(command, FetchCommand) and command in self.arrivals.commands:
                try:
                    self.arrivals.finish(command, self._loop.time(), self._watchdog.paused_seconds)
                except DEFECTS as defect:
                    tell_defect(_TAKING_FAILED, defect, protocol=self)
            command.fail(as_error_of(command.name, error))
        if not self.greeting.done():
            self.greeting.set_exception(error)
            # Where nobody waits for it any more, it is no one's news.
            self.greeting.exception()
        self._owner.lost(error)

    def write(self, data: bytes) -> None:
        """Send bytes outside of any command (DONE after IDLE)."""
        if self.error is None:
            self._outbox.write(data)
            self._patience.ends_idle()

    def release(self, message: Message) -> None:
        """A message that was handed over is held no more; the second time it does nothing."""
        self.holdings.release(message)
        if self._intake.is_held_back and not self.holdings.is_half_full:
            self._resume()

    async def compress(self, command: Command) -> Tagged:
        """Send COMPRESS DEFLATE; after OK both directions are compressed (RFC 4978)."""
        self._switch = command
        return await self.run(command)

    async def begin_tls(self, command: Command) -> Tagged:
        """Send STARTTLS; after OK reading stands still until `take_over` (`net.upgrade` does the rest)."""
        self._switch = command
        return await self.run(command)

    def unread(self) -> bytes:
        """Take out what was received behind the OK of STARTTLS."""
        return self._intake.rest()

    def take_over(self, transport: asyncio.Transport) -> None:
        """Go on over another transport, on top of the one before."""
        self.transport = transport
        self._outbox.connect(transport)
        self._intake.connect(transport)
        self._outbox.proceed(go_on=True)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._outbox.connect(self.transport)
        self._intake.connect(self.transport)
        if self.error is not None:
            self.transport.abort()

    def adopt(self, transport: asyncio.Transport) -> None:
        """Take over a transport whose greeting was read by somebody else."""
        self.connection_made(transport)
        self.greeting.set_result(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        reason = str(exc) if exc else "the server closed the connection"
        self.abort(ConnectionLost(reason) if self._bye is None else self._farewell("connection"))

    def pause_writing(self) -> None:
        self._outbox.pause()

    def resume_writing(self) -> None:
        self._watchdog.hear()  # The server takes what we send.
        if self.error is None:
            self._outbox.resume()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._intake.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        if self.error is None:
            self._watchdog.hear()
            self._intake.received(nbytes)

    def _take(self, frames: Iterable[Frame]) -> None:
        try:
            self.arrivals.take(frames, self._route)
            if not self._long.reads_ahead():
                self.arrivals.hand_over(self._watchdog.heard_at)
            self.holdings.streaming(self._intake.kept_bytes)
        except (ProtocolError, SpoolError) as error:
            self.abort(error)
        except DEFECTS as error:
            tell_defect(_TAKING_FAILED, error, protocol=self)
            self.abort(error)
        except BaseException as error:  # The end of the process, maybe; until then nobody is to wait.
            self.abort(error)
            raise
        if self.error is not None:
            return
        if self.holdings.is_full and not self.is_reading_paused:
            self._watchdog.pause()
            self._intake.hold_back()
        if self._intake.bytes_received > self._unasked_until and not self._outbox.flight:
            self.abort(ProtocolError("the server sends on and on, and nobody has asked for anything"))

    def _route(self, text: bytes, literals: tuple[Literal, ...], size: int) -> bool:
        """Everything that is not an answer in the expected shape; whether to go on in this turn."""
        goes_on = self._intake.spend(cost_of(text))
        if not self.greeting.done():
            self.greeting.set_result(self.secrets.hide_in_status(text))
            return goes_on
        if text[0] == 0:
            # NULs in front of a response are met in the wild.
            text = text.lstrip(b"\0")
        if text[:1] == b"+":
            self._patience.idle_bytes += size
            self._outbox.ask(text)
        elif text[:1] != b"*" and (command := self._outbox.flight.get(text.partition(b" ")[0])) is not None:
            return self._complete(command, self.secrets.hide_in_status(text)) and goes_on
        elif not (self._long.takes(text, literals, size) or self.arrivals.answer(text, literals, size)):
            self._untagged(text, literals, size)
        return goes_on and self.error is None and not self._intake.is_aside

    def _untagged(self, text: bytes, literals: tuple[Literal, ...], size: int) -> None:
        listener = self._outbox.listener(text)
        if is_status := _STATUS.match(text) is not None:
            text = self.secrets.hide_in_status(text)
        if is_status or listener is None:
            self._patience.idle_bytes += size
        self._owner.heard(text, literals, self._long.response)
        if listener is not None:
            listener.keep(text, literals)
        if self._bye is None and _BYE.match(text) and isinstance(status := parse_response(text), Status):
            self._bye = status
            self._outbox.hold()
            self._patience.said_goodbye()
            if not self._outbox.flight:
                self.abort(self._farewell("connection"))

    def _complete(self, command: Command, text: bytes) -> bool:
        """A tagged reply; whether what follows it is of the same kind."""
        if not isinstance(tagged := parse_response(text), Tagged):
            raise ProtocolError("a tagged reply was expected")
        self._outbox.finish(command)
        self._patience.begin()
        ok = tagged.status == "OK"
        switched = ok and command is self._switch
        try:
            if isinstance(command, FetchCommand):
                self.arrivals.finish(command, self._watchdog.heard_at, self._watchdog.paused_seconds, answered=ok)
            command.reply = text
            self._owner.completed(command, tagged)
            if switched:
                self._begin_switch(command)
            if command is self._switch:
                self._switch = None
            command.complete(tagged)
        except BaseException as error:  # It is in flight no more, so nobody else would tell it.
            command.fail(as_error_of(command.name, error))
            raise
        self._bound()
        self._outbox.proceed()
        if self._bye is not None and not self._outbox.flight and command.name != "LOGOUT":
            self.abort(self._farewell("connection"))
        return self.error is None and not switched

    def _begin_switch(self, command: Command) -> None:
        if command.name == "STARTTLS":
            self._outbox.hold()
            self._intake.wait_for_handshake()
        else:
            self._intake.deflate = self._outbox.deflate = Deflate()

    def _starting(self, command: Command) -> None:
        """A command is about to be written."""
        command.started_at = self._loop.time()
        command.charge = Charge(self.holdings, f"the answer to {command.name}")
        if len(self._outbox.flight) == 1:
            # The silence before it was nobody's fault.
            self._watchdog.heard_at = command.started_at
            self._patience.begin()
        if isinstance(command, FetchCommand):
            self.arrivals.begin(command, self._watchdog.paused_seconds)
        if command.quiet_seconds is not None:
            self._watchdog.rush()
        self._owner.sending(command)
        self._bound()

    def _bound(self) -> None:
        """What may come now depends on what is in flight, and on whether the login is over."""
        limits = bounds_now(self._options.limits, self._owner, self._outbox.flight.values())
        self._intake.limits = limits
        self.holdings.max_kept_bytes = limits.kept_bytes
        self._unasked_until = self._intake.bytes_received + min(UNASKED_BYTES, limits.kept_bytes)

    def _source_failed(self, error: Exception) -> None:
        """The bytes that were announced cannot be sent: whoever sends them hears why."""
        for command in self._outbox.flight.values():
            command.fail(error)
        self.abort(ConnectionLost("the message to be sent could not be read as it was announced"))

    def _wait_for_source(self, begins: bool) -> None:
        """While we wait for what we are to send, the silence is not the server's."""
        if begins:
            self._watchdog.pause()
        elif not self.is_reading_paused and self.error is None:
            self._watchdog.resume()

    def _timed_out(self, seconds: float, was_silent: bool) -> None:
        name = next((command.name for command in self._outbox.flight.values()), "connection")
        if self._bye is not None:
            self.abort(self._farewell(name))
        else:
            self.abort(CommandTimeout(name, timeout_seconds=seconds, was_silent=was_silent))

    def _farewell(self, name: str) -> ServerBye:
        """What the server's BYE means for a command."""
        assert self._bye is not None
        return ServerBye(name, code_words(self._bye.code), self._bye.text)

    def _resume(self) -> None:
        if self.error is None:
            self._watchdog.resume()
            self._intake.go_on()
