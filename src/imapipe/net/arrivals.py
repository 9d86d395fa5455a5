"""What arrives for the FETCHes in flight: whose it is, when a message is whole, how much is held.

Invariants:

- An answer goes to the command in flight that asked for its UID and has not got it yet, whatever the order. A message
  is handed over once every item asked for is there; items that come apart are joined by UID. An answer without UID,
  or for a UID that nobody waits for, is unsolicited and never counts.
- A message that lacks an item, but not its body, is handed over when the tagged OK came, or when what waits for the
  rest passes `max_held_bytes`; `FetchCommand.incomplete` counts what is missing. An answer without its end is only
  believed when the next line brings it.
- What is handed over is held (`net.holdings`), and nothing else: only what can be released may stop the reading. What
  came of others, and what is known of those that failed, is kept until their FETCH is over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final, TypeAlias

from imapipe.errors import ProtocolError
from imapipe.models.batch import Failure
from imapipe.models.message import Message
from imapipe.net.command import NO_BODY, FetchCommand
from imapipe.net.holdings import Charge, Holdings
from imapipe.net.parts import Parts
from imapipe.net.secrets import Secrets
from imapipe.wire.response.framing import Frame
from imapipe.wire.response.item_value import is_readable
from imapipe.wire.response.limits import LONG_BYTES
from imapipe.wire.response.literal import Literal
from imapipe.wire.response.note import Note, count_notes
from imapipe.wire.response.salvage import Answer, read_fetch, salvage_rest
from imapipe.wire.response.shape import Shape, compile_shape
from imapipe.wire.response.token import ItemSpan

EXCERPT_BYTES = 1024

# So many malformed answers to one FETCH are shown; nobody looks at more.
_MOST_EXCERPTS: Final = 1000

# What the objects for a message, or for a failure, take beside its bytes.
_MESSAGE_BYTES: Final = 500

Route: TypeAlias = Callable[[bytes, tuple[Literal, ...], int], bool]
"""What to do with a response that has not the expected shape: text, literals, its bytes. False stops the taking."""

_NOTHING = re.compile(rb"(?!)")
FETCH = re.compile(rb"[\0 ]*(?:\* *)?\d+ +(?:UID)?FETCH *\(", re.IGNORECASE)
_VISIBLE_UID = re.compile(
    rb"[\0 ]*(?:\* *)?(?:(\d{1,10}) +UIDFETCH *\(|\d+ +FETCH *\([^\"\r\n]{0,100}?\bUID +(\d{1,10})\b)", re.IGNORECASE
)


class Arrivals:
    """The receiving half of the FETCHes in flight.

    Args:
        holdings: The account of the connection.
        secrets: What no excerpt of an answer may show.

    Attributes:
        commands: The FETCHes in flight, in the order of sending.
        known: How the response reads that is taken now, where a thread has read it.
        busy_seconds: How long FETCHes have been in flight in all, pauses left out; up to when the last one ended.
        busy_since: Since when FETCHes have been in flight without a gap; None when there are none.
    """

    __slots__ = (
        "_frame",
        "_holdings",
        "_open",
        "_open_mark",
        "_paused_at_start",
        "_secrets",
        "busy_seconds",
        "busy_since",
        "commands",
        "known",
    )

    def __init__(self, holdings: Holdings, secrets: Secrets) -> None:
        self._holdings = holdings
        self._secrets = secrets
        # The message whose answer may go on in the next line, and how many bytes had come when it was opened.
        self._open: tuple[FetchCommand, int] | None = None
        self._open_mark = 0
        # What of the response under way is in temporary files.
        self._frame = Charge(holdings, "a response")
        self.commands: list[FetchCommand] = []
        self.known: Answer | None = None
        self.busy_seconds = 0.0
        self.busy_since: float | None = None
        self._paused_at_start = 0.0

    @property
    def has_begun(self) -> bool:
        """Whether the answer to a FETCH in flight has begun."""
        return any(command.first_byte_at for command in self.commands)

    def busy_until(self, now: float) -> float:
        """For how long FETCHes have been in flight in all, one that is still on its way included."""
        return self.busy_seconds + (now - self.busy_since if self.busy_since is not None else 0.0)

    def spooling(self, size: int) -> None:
        """A literal of the response under way goes to a temporary file. Raises ResponseTooLarge."""
        self._frame.spool(size)

    def close(self) -> None:
        """Nothing more will come, of the response under way and in all."""
        self._frame.release()
        self._holdings.close()

    def begin(self, command: FetchCommand, paused_seconds: float) -> None:
        """A FETCH is about to be sent; for `paused_seconds` reading was paused so far."""
        command.paused_at_start = paused_seconds
        if self.busy_since is None:
            self.busy_since = command.started_at
            self._paused_at_start = paused_seconds
        self.commands.append(command)

    def take(self, frames: Iterable[Frame], route: Route) -> None:
        """Take the answers among the responses, give the others to `route`: the loop that takes nearly all the time.

        Raises:
            ProtocolError, SpoolError: What `frames` or `route` raise.
        """
        fetch: FetchCommand | None = None
        shape: Shape | None = None
        match_shape, uid_group = _NOTHING.match, 0
        pending: set[int] = set()
        ready: list[Message] = []
        stale = True
        held = received = 0
        frame = self._frame
        try:
            for text, literals, size in frames:
                if stale:
                    stale = False
                    fetch = self.commands[0] if self.commands else None
                    shape = fetch.shape if fetch is not None else None
                    if fetch is not None and shape is not None:
                        match_shape, uid_group, pending, ready = (
                            shape.match,
                            shape.uid_group,
                            fetch.pending,
                            fetch.ready,
                        )
                if fetch is not None and shape is not None:
                    # What is long is not even looked at here.
                    match = match_shape(text) if size <= LONG_BYTES or len(text) <= LONG_BYTES else None
                    if match is not None:
                        uid = int(match[uid_group])
                        if uid not in pending:
                            # Dovecot answers pipelined FETCHes in turns when its output is full.
                            other = self.waiting_for(uid)
                            if other is not None and other.shape is shape:
                                fetch.bytes_received += received
                                received = 0
                                fetch, pending, ready = other, other.pending, other.ready
                        if uid in pending:
                            pending.remove(uid)
                            received += size
                            held += size
                            if literals and frame.files:
                                held -= frame.hand_over()
                            ready.append(Message(fetch.context, uid, size, match, shape, literals))
                            continue
                    fetch.bytes_received += received
                    received = 0
                stale = True
                # Whoever keeps something of it has a charge of its own.
                frame.release()
                if not route(text, literals, size):
                    return
        finally:
            if fetch is not None:
                fetch.bytes_received += received
            self._holdings.held_bytes += held

    def answer(self, text: bytes, literals: tuple[Literal, ...], size: int) -> bool:
        """Take a response of another shape; False when it is no answer to a FETCH in flight.

        Raises:
            ResponseTooLarge: Too much of messages that do not become whole.
        """
        if not self.commands or not FETCH.match(text):
            return self._go_on(text, literals, size)
        self._leave_open()
        scan, salvage, error = self.known or read_fetch(text, literals)
        if scan is None:
            return error is not None and self._malformed(text, error, size)
        cut: Failure | None = None
        if error is not None and scan.uid is not None:
            cut = Failure(scan.uid, "malformed", str(error), self._secrets.excerpt(text, EXCERPT_BYTES))
        fetch = self.waiting_for(scan.uid) if scan.uid is not None else None
        if fetch is None or scan.uid is None:
            return False
        parts = fetch.parts.get(scan.uid) or Parts(self._holdings)
        labels = parts.labels(fetch.names, scan.items, fetch.notes)
        if salvage is not None:
            if salvage.finished and salvage.broken and not fetch.is_enough(parts.items.keys() | labels.keys()):
                # Nothing that will come makes a message of it: the next look gets the same answer.
                return self._malformed(text, ProtocolError("what can be read is no message"), size, cut)
            count_notes(fetch.notes, salvage.notes)
            parts.cut, parts.closed = (None if salvage.finished else cut), False
        self._add(fetch, scan.uid, parts, {n: scan.items[label] for n, label in labels.items()}, (text, literals, size))
        if salvage is None and fetch.names <= scan.items.keys():
            # The server's own order of the items: what follows is recognised at once.
            fetch.shape = compile_shape(tuple(scan.items), uidfetch="UID" not in scan.items) or fetch.shape
        return True

    def _go_on(self, text: bytes, literals: tuple[Literal, ...], size: int) -> bool:
        """Take a line that goes on with the answer directly before it (Xeams, Domino)."""
        is_rest = self._open is not None and text[:1] != b"*" and len(text) <= LONG_BYTES
        if self._open is None or not is_rest or self._open_mark != self._bytes_received():
            self._leave_open()
            return False
        fetch, uid = self._open
        rest = salvage_rest(text, literals)
        parts = fetch.parts.get(uid)
        if parts is None or rest is None or rest.scan.uid not in (None, uid):
            if parts is not None:
                parts.closed = False
            self._leave_open()
            return False
        parts.closed = parts.cut is not None and rest.finished and not parts.closed
        if parts.cut is not None and not parts.closed:
            self._leave_open()
            return True
        count_notes(fetch.notes, (Note("fetch-line", "an answer that goes on in the next line"),))
        found = {
            n: rest.scan.items[label] for n, label in parts.labels(fetch.names, rest.scan.items, fetch.notes).items()
        }
        self._add(fetch, uid, parts, found, (text, literals, size))
        return True

    def _add(
        self,
        fetch: FetchCommand,
        uid: int,
        parts: Parts,
        items: Mapping[str, ItemSpan],
        response: tuple[bytes, tuple[Literal, ...], int],
    ) -> None:
        """Join items to what came of a message, and hand it over when it is whole."""
        text, literals, size = response
        found = {name: span for name, span in items.items() if is_readable(name, text, span)}
        for name in items.keys() - found.keys():
            count_notes(fetch.notes, [Note("fetch-item", f"{name} cannot be read")])
        # Before it is counted: where that is too much it is forgotten with its command.
        fetch.parts[uid] = parts
        fetch.bytes_received += size
        parts.add(found, text, literals, size)
        if parts.cut is None and fetch.names <= parts.items.keys():
            self._complete(fetch, uid, parts)
            return
        self._open = fetch, uid
        self._open_mark = self._bytes_received()
        if (
            self._holdings.kept_bytes > self._holdings.max_held_bytes
            and parts.cut is None
            and fetch.is_enough(parts.items)
        ):
            # What waits for the rest takes memory that nobody can release: so much of it is not waited for.
            self._complete(fetch, uid, parts)

    def _complete(self, fetch: FetchCommand, uid: int, parts: Parts) -> None:
        """A message has all that will come of it: it is ready, unless the server has no body for it."""
        fetch.parts.pop(uid, None)
        parts.charge.release()
        self._open = None
        fetch.pending.discard(uid)
        for name in fetch.context.fetch.body_names:
            if parts.items[name].is_nil:
                self._fail(fetch, Failure(uid, NO_BODY, f"the server sent NIL for {name}"))
                return
        if fetch.doubts and parts.may_be_invented():
            fetch.doubtful[uid] = Message.from_items(fetch.context, uid, parts.size, parts.items, tuple(parts.literals))
            fetch.keep_bytes(parts.size + _MESSAGE_BYTES)
            return
        for name in fetch.names - parts.items.keys():
            fetch.incomplete[name] = fetch.incomplete.get(name, 0) + 1
        message = Message.from_items(fetch.context, uid, parts.size, parts.items, tuple(parts.literals))
        self._holdings.hold([message])
        fetch.ready.append(message)

    def _leave_open(self) -> None:
        """What came now is no rest of the answer before it: an answer without an end is malformed."""
        if self._open is None:
            return
        (fetch, uid), self._open = self._open, None
        parts = fetch.parts.get(uid)
        if parts is None or parts.cut is None:
            return
        if parts.closed:
            parts.cut = None
            if uid in fetch.pending and fetch.names <= parts.items.keys():
                self._complete(fetch, uid, parts)
            return
        self._forget(fetch, uid)
        if uid in fetch.pending:
            fetch.pending.discard(uid)
            self._fail(fetch, parts.cut)

    def _bytes_received(self) -> int:
        """Tells whether an answer came since: the loop of `take` counts bytes, and nothing else."""
        return sum([command.bytes_received for command in self.commands])

    def waiting_for(self, uid: int) -> FetchCommand | None:
        """The FETCH in flight that waits for a UID."""
        for command in self.commands:
            if uid in command.pending:
                return command
        return None

    def hand_over(self, now: float) -> None:
        """Give the messages that are whole to those who asked for them."""
        holdings = self._holdings
        holdings.max_held_seen = max(holdings.max_held_seen, holdings.held_bytes)
        for command in self.commands:
            if command.ready:
                self._deliver(command, now)

    def believe(self, command: FetchCommand) -> None:
        """Hand over what was doubtful of a FETCH that is over."""
        messages, command.doubtful = list(command.doubtful.values()), {}
        self._holdings.hold(messages)
        self._give(command, messages)

    def finish(self, command: FetchCommand, now: float, paused_seconds: float, *, answered: bool = False) -> None:
        """A FETCH is over: hand over what is whole, forget what is not.

        Args:
            command: The FETCH.
            now: Loop time of its end.
            paused_seconds: For how long reading was paused so far.
            answered: Its tagged OK came. Then what has its body is handed over too, though other items are missing.
        """
        self.commands.remove(command)
        self._leave_open()
        command.finished_at = now
        command.paused_seconds = paused_seconds - command.paused_at_start
        if not self.commands and self.busy_since is not None:
            self.busy_seconds += max(0.0, now - self.busy_since - (paused_seconds - self._paused_at_start))
            self.busy_since = None
        try:
            for uid, parts in tuple(command.parts.items()):
                if answered and uid in command.pending and command.is_enough(parts.items):
                    self._complete(command, uid, parts)
        finally:
            for uid in tuple(command.parts):
                self._forget(command, uid)
            command.let_go()
        if command.ready:
            self._deliver(command, now)

    def _deliver(self, command: FetchCommand, now: float) -> None:
        if not command.first_byte_at:
            command.first_byte_at = now
        ready, command.ready = command.ready, []
        self._give(command, ready)

    def _give(self, command: FetchCommand, messages: list[Message]) -> None:
        """Hand messages over. What could not be is held by nobody; who raised has to say so."""
        try:
            command.deliver(messages)
        except BaseException:
            for message in messages:
                self._holdings.release(message)
            raise

    def _forget(self, command: FetchCommand, uid: int) -> None:
        parts = command.parts.pop(uid, None)
        if parts is not None:
            parts.discard()

    def _fail(self, fetch: FetchCommand, failure: Failure) -> None:
        """A message cannot be had."""
        if len(fetch.malformed) >= _MOST_EXCERPTS:
            failure = replace(failure, excerpt=b"")
        fetch.malformed[failure.uid] = failure
        fetch.keep_bytes(len(failure.excerpt) + len(failure.detail) + _MESSAGE_BYTES)

    def _malformed(self, text: bytes, error: ProtocolError, size: int, failure: Failure | None = None) -> bool:
        """An answer that cannot be read costs its message, where the UID can still be seen, and nothing else."""
        match = _VISIBLE_UID.match(text)
        uid = failure.uid if failure is not None else int(match[1] or match[2]) if match is not None else 0
        command = self.waiting_for(uid)
        if command is None:
            return False
        command.pending.discard(uid)
        command.bytes_received += size
        self._forget(command, uid)
        self._fail(
            command,
            failure or Failure(uid, "malformed", str(error), self._secrets.excerpt(text, EXCERPT_BYTES)),
        )
        return True
