"""Commands of aioimaplib on our data plane: what they send, and how what comes back is given to them.

A user of aioimaplib reads `Response.lines`: untagged responses without their asterisk, for most commands
without their name too, each literal a `bytearray` of its own behind the line with its marker, and the text of
the tagged reply at the end. That form is kept, and what its own receive path loses is added.

Names of mailboxes are written the way aioimaplib's users do: what is ASCII is taken as it is on the wire (so in
modified UTF-7, where that was done by hand), and quoted where it must be; everything else is encoded here.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Protocol

from imapipe.net.command import Command
from imapipe.wire.command.encoder import Request, Word
from imapipe.wire.command.idle import DONE
from imapipe.wire.command.login import login
from imapipe.wire.literal_argument import LiteralArgument
from imapipe.wire.mailbox_name import decode_mailbox_name, encode_mailbox_name, quote
from imapipe.wire.response.literal import Literal, literal_bytes
from imapipe.wire.response.response import Tagged

# RFC 2177 wants IDLE renewed every 29 minutes; until then the server need not say a word.
IDLE_QUIET_SECONDS = 3600.0

# What may stand unquoted (RFC 9051 §9, astring without what needs thought), and in the pattern of a LIST.
_SAFE = re.compile(r"[A-Za-z0-9!#$&'+,\-./:;<=>?@^_`|~\[\]]+\Z")
_SAFE_PATTERN = re.compile(r"[A-Za-z0-9!#$&'+,\-./:;<=>?@^_`|~\[\]%*]+\Z")
_MESSAGE_DATA = re.compile(rb"\d+ +((?:UID)?FETCH|EXPUNGE)\b", re.IGNORECASE)
_REPLY_START = re.compile(rb"[^ ]+ +[A-Za-z]+ ?")
# Answers under another name than that of the command; aioimaplib drops them.
_OTHER_NAMES = {
    "SEARCH": (b"ESEARCH",),
    "FETCH": (b"UIDFETCH", b"VANISHED"),
    "STORE": (b"UIDFETCH",),
    "EXPUNGE": (b"VANISHED",),
}
# Which arguments are mailbox names, and which are names with wildcards.
_MAILBOXES: dict[str, slice] = {
    "SELECT": slice(0, 1),
    "EXAMINE": slice(0, 1),
    "CREATE": slice(0, 1),
    "DELETE": slice(0, 1),
    "RENAME": slice(0, 2),
    "STATUS": slice(0, 1),
    "APPEND": slice(0, 1),
    "SUBSCRIBE": slice(0, 1),
    "UNSUBSCRIBE": slice(0, 1),
    "COPY": slice(1, 2),
    "MOVE": slice(1, 2),
}
_PATTERNS = ("LIST", "LSUB")


class Theirs(Protocol):
    """What is used of an `aioimaplib.Command`."""

    name: str
    tag: str
    args: tuple[object, ...]
    prefix: str | None
    untagged_resp_name: str

    def append_to_resp(self, line: bytes | bytearray) -> None:
        """Add a line of the response."""

    def close(self, line: bytes, result: str) -> None:
        """Add the last line, and the result."""

    def flush(self) -> None:
        """The lines so far belong together (IDLE)."""


class Bridged(Command):
    """A command of aioimaplib.

    Args:
        theirs: The command.
        request: What is sent for it.
        takes_all: It gets every untagged response, whole, and not only those under its own name.
        quiet_seconds: How long the server may be silent.
        keeps_asking: The server may ask for more after the last piece.
    """

    is_collected = True

    __slots__ = ("_takes_all", "theirs")

    def __init__(
        self,
        theirs: Theirs,
        request: Request,
        *,
        takes_all: bool = True,
        quiet_seconds: float | None = None,
        keeps_asking: bool = False,
    ) -> None:
        super().__init__(
            request.name,
            request.pieces,
            keeps_asking=keeps_asking,
            mailbox=request.mailbox,
            quiet_seconds=quiet_seconds,
        )
        self.tag = theirs.tag.encode()
        self.theirs = theirs
        self._takes_all = takes_all

    def receive(self, text: bytes, literals: tuple[Literal, ...]) -> None:
        """Give the lines as aioimaplib does."""
        line = text.removeprefix(b"*").lstrip(b" ")
        if not self._takes_all:
            own = self._own_part(line)
            if own is None:
                return
            line = own
        pieces = line.split(b"}\r\n") if literals else [line]
        for piece, literal in zip(pieces, literals, strict=False):
            self.theirs.append_to_resp(piece + b"}")
            self.theirs.append_to_resp(bytearray(literal_bytes(literal)))
        self.theirs.append_to_resp(pieces[-1])

    def complete(self, tagged: Tagged) -> None:
        """Give the text of the tagged reply, its response code included."""
        match = _REPLY_START.match(self.reply)
        self.theirs.close(self.reply[match.end() :] if match is not None else b"", tagged.status)
        super().complete(tagged)

    def _own_part(self, line: bytes) -> bytes | None:
        """What of an untagged response is for this command; None where nothing is."""
        wanted = self.theirs.untagged_resp_name
        data = _MESSAGE_DATA.match(line)
        name, _, rest = line.partition(b" ")
        name = (data[1] if data is not None else name).upper()
        if name == wanted.encode():
            return line if data is not None else rest
        if name in _OTHER_NAMES.get(wanted, ()) or self.theirs.name == "NOOP":
            return line
        return None


class BridgedSasl(Bridged):
    """AUTHENTICATE: a request after the initial response gives a refusal's reason; the answer is an empty line."""

    __slots__ = ()

    def next_piece(self, text: bytes) -> bytes | None:
        """Answer whatever is asked."""
        return b"\r\n"


class BridgedIdle(Bridged):
    """IDLE: the continuation request says that it has begun, DONE ends it.

    Args:
        theirs: The command, whose `flush` gives what it was given together to the user's queue.
        request: What is sent for it.
        begun: Set when the server has begun.
        wake: Called when the connection ended, so that nobody waits for a push any more.
        quiet_seconds: How long the server may take to begin.
    """

    __slots__ = ("_begun", "_is_over", "_wake", "_will_flush")

    def __init__(
        self,
        theirs: Theirs,
        request: Request,
        *,
        begun: asyncio.Event,
        wake: Callable[[], None],
        quiet_seconds: float | None,
    ) -> None:
        super().__init__(theirs, request, quiet_seconds=quiet_seconds, keeps_asking=True)
        self._begun = begun
        self._wake = wake
        self._is_over = False
        self._will_flush = False

    def next_piece(self, text: bytes) -> bytes | None:
        """The server has begun; somebody may have thought better of it meanwhile."""
        if self._begun.is_set():
            return None
        self._begun.set()
        self.quiet_seconds = IDLE_QUIET_SECONDS
        return DONE if self._is_over else None

    def end(self, write: Callable[[bytes], None]) -> None:
        """Send DONE, once, and not before the server has begun."""
        was_over, self._is_over = self._is_over, True
        if self._begun.is_set() and not was_over:
            self.quiet_seconds = None
            write(DONE)

    @property
    def is_endless(self) -> bool:
        """Until it is to end."""
        return not self._is_over

    def receive(self, text: bytes, literals: tuple[Literal, ...]) -> None:
        """Responses that came together are one push."""
        super().receive(text, literals)
        if not self._will_flush:
            self._will_flush = True
            asyncio.get_running_loop().call_soon(self._flush)

    def complete(self, tagged: Tagged) -> None:
        """It is over; what came before is given first."""
        self._flush()
        super().complete(tagged)

    def fail(self, error: BaseException) -> None:
        """The connection ended."""
        self._flush()
        self._wake()
        super().fail(error)

    def _flush(self) -> None:
        self._will_flush = False
        self.theirs.flush()


def write_command(theirs: Theirs, literal: bytes | None, *, utf8: bool) -> Request:
    """What is sent for a command.

    Args:
        theirs: The command.
        literal: The message of an APPEND.
        utf8: Whether UTF8=ACCEPT is enabled.

    Raises:
        ValueError: CR, LF or NUL in an argument, or a marker of a literal that does not come.
    """
    arguments = [b"" if argument is None else str(argument).encode() for argument in theirs.args]
    mailbox = ""
    if theirs.name in _MAILBOXES:
        where = _MAILBOXES[theirs.name]
        raw = [_raw_name(str(name), utf8=utf8) for name in theirs.args[where]]
        arguments[where] = [_astring(name) for name in raw]
        if theirs.name in ("SELECT", "EXAMINE") and raw:
            mailbox = decode_mailbox_name(raw[0], utf8=utf8)
    elif theirs.name in _PATTERNS:
        arguments[:2] = [_pattern(str(name), utf8=utf8) for name in theirs.args[:2]]
    elif theirs.name == "LOGIN" and len(arguments) == 2:
        # aioimaplib quotes the password and not the user.
        return login(str(theirs.args[0]), _unquote(str(theirs.args[1])))
    elif theirs.name == "ID" and len(arguments) > 1:
        # aioimaplib puts spaces behind and before the parentheses, where the grammar has none (RFC 2971 §4).
        arguments = [b"(" + b" ".join(arguments[1:-1]) + b")"]
    words: list[Word] = [*arguments]
    if literal is not None:
        # aioimaplib has put the marker in its place already.
        words[-1] = LiteralArgument(bytes(literal), synchronising=True)
    return Request(f"{theirs.prefix or ''}{theirs.name}", *words, mailbox=mailbox)


def _raw_name(name: str, *, utf8: bool) -> bytes:
    """A mailbox name as it is on the wire, without quotes."""
    bare = _unquote(name)
    if bare.isascii():
        return bare.encode()
    return _unquote(encode_mailbox_name(bare, utf8=utf8).decode()).encode()


def _astring(raw: bytes) -> bytes:
    return raw if _SAFE.match(raw.decode("utf-8", "replace")) else quote(raw)


def _pattern(pattern: str, *, utf8: bool) -> bytes:
    """The reference or the pattern of a LIST."""
    if _SAFE_PATTERN.match(pattern) or _is_quoted(pattern):
        return pattern.encode()
    return quote(_raw_name(pattern, utf8=utf8))


def _is_quoted(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] == '"'


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if _is_quoted(text) else text
