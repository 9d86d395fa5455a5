r"""The one encoder of commands: from values to bytes (RFC 9051 §9), and never to bytes that mean something else.

A function here for each production that an argument can be; `Request` puts the words of a command together. What a
connection takes beyond the common ground (UTF-8 in quotes, literals without asking) is its `Dialect`.

Invariants:

- Nothing here gives CR, LF or NUL outside a literal, nor a token that is not whole: what cannot be written is refused
  by one `ValueError`, before anything is sent. Its text never holds what may be a secret.
- `Request` is the only place where words become pieces, and it looks at each of them once more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, TypeAlias

from imapipe.wire.literal_argument import MAX_UNASKED_BYTES, Body, LiteralArgument, StreamedLiteral
from imapipe.wire.mailbox_name import encode_mailbox_name, quote
from imapipe.wire.search_term import format_date
from imapipe.wire.uid_set import UidSet

Part: TypeAlias = bytes | LiteralArgument | StreamedLiteral
Word: TypeAlias = Part | tuple[Part, ...]
"""What stands between two spaces; a tuple is written without spaces between its parts."""

Piece: TypeAlias = bytes | tuple[bytes | Body, ...]
"""What is sent in one go: between two pieces the client waits for a continuation request."""

# Servers are free to refuse longer lines; 8,000 octets pass nearly everywhere (RFC 7162 §4).
MAX_COMMAND_BYTES: Final = 8000
# Of a command with many other words this much is for the set of UIDs all the same.
_MIN_SET_BYTES: Final = 1000
# Tag, spaces and CRLF.
_FRAME_BYTES: Final = 20

# Longer text goes as a literal: with unknown servers a line should stay near 1,000 bytes (RFC 2683 §3.2.1.5).
_MAX_QUOTED_BYTES: Final = 1000
# Beyond this the server is asked even where it need not be: a refusal must not cost the sending of it all.
_MAX_HOPED_BYTES: Final = 1024 * 1024
# Shorter parts of a piece are joined, so that they go out in one write.
_JOINED_BYTES: Final = 64 * 1024

_ATOM: Final = re.compile(r"[!#$&'+-\[^-z|}~]+")
_LITERAL_END: Final = re.compile(rb"\{\d+\+?\}\Z")
_MAX_NUMBER: Final = 2**63 - 1


class Dialect(NamedTuple):
    """What a connection takes beyond the common ground.

    Attributes:
        utf8: UTF8=ACCEPT is enabled (RFC 6855): UTF-8 may stand in quotes, and names of mailboxes are UTF-8.
        literal_plus: LITERAL+ is offered (RFC 7888): any literal may go without being asked for.
        literal_minus: LITERAL- is offered: short ones may.
    """

    utf8: bool = False
    literal_plus: bool = False
    literal_minus: bool = False

    def string(self, text: str) -> Part:
        """A text: production `string`, quoted where it can be.

        Raises:
            ValueError: CR, LF or NUL, or half a surrogate pair.
        """
        data = _utf8(text)
        if len(data) <= _MAX_QUOTED_BYTES and (self.utf8 or data.isascii()):
            return quote(data)
        return LiteralArgument(_checked(data), self._asks_for(len(data)))

    def nstring(self, text: str | None) -> Part:
        """A text or NIL; raises as `string` does."""
        return b"NIL" if text is None else self.string(text)

    def literal(self, data: bytes | Body) -> LiteralArgument | StreamedLiteral:
        """Bytes of any kind: production `literal`."""
        if isinstance(data, Body):
            return StreamedLiteral(data, self._asks_for(data.size))
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise ValueError("a message is sent from bytes or from a Body")
        return LiteralArgument(bytes(data), self._asks_for(len(data)))

    def mailbox(self, name: str) -> bytes:
        """The name of a mailbox: production `mailbox`, always quoted.

        Raises:
            ValueError: CR, LF or NUL in it, or half a surrogate pair.
        """
        return encode_mailbox_name(_text(name, "the name of a mailbox"), utf8=self.utf8)

    def list_mailbox(self, pattern: str) -> bytes:
        """A pattern of LIST: its wildcards stay, the rest is as in a name; raises as `mailbox` does."""
        return self.mailbox(pattern)

    def _asks_for(self, size: int) -> bool:
        allowed = _MAX_HOPED_BYTES if self.literal_plus else MAX_UNASKED_BYTES if self.literal_minus else -1
        return size > allowed


class Request:
    """A command without its tag, ready to be sent. It cannot be changed into another one by any of its words.

    Args:
        name: The command, such as `UID FETCH`; never an argument.
        words: What follows it, made by the functions of this module.
        mailbox: The mailbox that a SELECT or EXAMINE names.

    Raises:
        ValueError: CR, LF or NUL in a word that is no literal, or a last word that looks like the marker of one.

    Attributes:
        pieces: What is sent, in order.
    """

    __slots__ = ("mailbox", "name", "pieces")

    def __init__(self, name: str, *words: Word, mailbox: str = "") -> None:
        self.name = name
        self.mailbox = mailbox
        self.pieces: tuple[Piece, ...]
        try:
            # Nearly all commands are one line, and a FETCH is one that must cost nothing.
            line = b" ".join((name.encode(), *words))  # type: ignore[arg-type]  # else TypeError
        except TypeError:
            self.pieces = _cut(name, words)
        else:
            self.pieces = (_checked(_whole(line)) + b"\r\n",)

    def __repr__(self) -> str:
        # The words may hold a password, or somebody's mail.
        return f"<Request {self.name}>"


def uid_text_room(words: bytes) -> int:
    """How many bytes of the text of a set of UIDs fit into a command beside these words, such as `UID FETCH (FLAGS)`.

    At least 1,000, however long the words are.
    """
    return max(_MIN_SET_BYTES, MAX_COMMAND_BYTES - _FRAME_BYTES - len(words))


def one_line(text: str) -> bytes:
    """A line that is no command of ours, with its CRLF.

    Raises:
        ValueError: It is more than one.
    """
    return _checked(text.encode()) + b"\r\n"


# ---------------------------------------------------------------- productions


def atom(word: object, what: str) -> bytes:
    """A word without quotes: production `atom`.

    Args:
        word: The word.
        what: What it is, for the error.

    Raises:
        ValueError: It holds something that would end it, or is empty.
    """
    if not isinstance(word, str) or not _ATOM.fullmatch(word):
        raise ValueError(f'{what} is a word of ASCII without spaces, ( ) {{ % * " \\ ]: {_shown(word)} is none')
    return word.encode()


def atoms(words: Iterable[str], what: str) -> list[bytes]:
    """Several words, at least one; raises as `atom` does."""
    if isinstance(words, str):
        raise ValueError(f"{what}: pass a list of words, not one text")
    found = [atom(word, what) for word in words]
    if not found:
        raise ValueError(f"{what}: name at least one")
    return found


def parenthesised(words: Iterable[bytes]) -> bytes:
    """Words in parentheses."""
    return b"(" + b" ".join(words) + b")"


def number(value: object, what: str, *, low: int = 0, high: int = _MAX_NUMBER) -> bytes:
    """A number: productions `number`, `nz-number` (with `low=1`), `number64`.

    Raises:
        ValueError: It is no whole number within the limits.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{what} is a whole number from {low} to {high}: {_shown(value)} is none")
    return b"%d" % value


def sequence_set(uids: object) -> bytes:
    """UIDs: production `sequence-set`.

    Raises:
        ValueError: The set is empty, which the grammar cannot say.
    """
    if not isinstance(uids, UidSet) or not uids:
        raise ValueError("a command on messages needs a UidSet with at least one UID")
    return uids.text().encode()


def flag(name: object) -> bytes:
    r"""A flag that can be set: production `flag`, so a keyword such as `$Junk` or a system flag such as `\Seen`.

    Raises:
        ValueError: It is neither, or `\Recent`, which only the server sets.
    """
    what = r"a flag (a keyword such as $Junk, or one such as \Seen)"
    if not isinstance(name, str) or name.lower() == "\\recent":
        raise ValueError(f"{what} is needed: {_shown(name)} is none that can be set")
    return b"\\" + atom(name[1:], what) if name[:1] == "\\" else atom(name, what)


def can_be_set(name: str) -> bool:
    """Whether a flag that a server told can be given to a message: some tell of keywords that the grammar has not."""
    try:
        flag(name)
    except ValueError:
        return False
    return True


def flag_list(flags: Iterable[str]) -> bytes:
    """Flags in parentheses, maybe none: production `flag-list`; raises as `flag` does."""
    if isinstance(flags, str):
        raise ValueError("flags: pass a list of them, not one text")
    return parenthesised(dict.fromkeys(map(flag, flags)))


def date_time(moment: object) -> bytes:
    """A moment: production `date-time`, such as `"17-Jul-1996 02:44:25 -0700"`.

    Raises:
        ValueError: It has no zone, which would leave the moment open.
    """
    offset = moment.utcoffset() if isinstance(moment, datetime) else None
    if offset is None or not isinstance(moment, datetime):
        raise ValueError("a moment is a datetime with a zone, such as datetime.now(UTC)")
    if offset % timedelta(minutes=1):
        # Local mean time of the nineteenth century: the grammar has whole minutes.
        moment, offset = moment.astimezone(UTC), timedelta(0)
    sign = "-" if offset < timedelta(0) else "+"
    hours, minutes = divmod(abs(offset) // timedelta(minutes=1), 60)
    return f'"{format_date(moment):0>11} {moment:%H:%M:%S} {sign}{hours:02d}{minutes:02d}"'.encode()


# ---------------------------------------------------------------- checks


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{what} is a str, not {type(value).__name__}")
    return value


def _utf8(text: object) -> bytes:
    # Not within `except`: the error of the codec holds the whole text, which may be a password.
    with suppress(UnicodeEncodeError):
        return _text(text, "a text").encode()
    raise ValueError("a text holds half a surrogate pair, which stands for no character")


def _checked(data: bytes) -> bytes:
    """Data that stands on a line of a command; three searches for a byte are faster than one for a class."""
    if b"\r" in data or b"\n" in data or b"\0" in data:
        raise ValueError("CR, LF and NUL cannot stand in a command; remove them")
    return data


def _whole(line: bytes) -> bytes:
    if line[-1:] == b"}" and _LITERAL_END.search(line):
        raise ValueError("a command cannot end like a literal such as {5}: the next one would be taken for it")
    return line


def _cut(name: str, words: Iterable[Word]) -> tuple[Piece, ...]:
    """A command that is more than a line: cut where a continuation request is awaited."""
    pieces: list[Piece] = []
    parts: list[bytes | Body] = [_checked(name.encode())]
    part: Part = b""
    for word in words:
        parts.append(b" ")
        for part in word if isinstance(word, tuple) else (word,):
            if isinstance(part, bytes):
                parts.append(_checked(part))
                continue
            parts.append(part.marker)
            if part.synchronising:
                pieces.append(_join(parts))
                parts = []
            parts.append(part.data)
    if isinstance(part, bytes):
        _whole(part)
    parts.append(b"\r\n")
    pieces.append(_join(parts))
    return tuple(pieces)


def _join(parts: list[bytes | Body]) -> Piece:
    joined: list[bytes | Body] = []
    run: list[bytes] = []
    for part in parts:
        if isinstance(part, bytes) and len(part) <= _JOINED_BYTES:
            run.append(part)
            continue
        if run:
            joined.append(b"".join(run))
            run = []
        joined.append(part)
    if not joined:
        return b"".join(run)
    return (*joined, b"".join(run)) if run else tuple(joined)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"
