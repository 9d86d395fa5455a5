"""Tokens of a response: atoms, numbers, strings, lists (RFC 9051 §9).

Invariants:
    The text of a response holds CRLF only directly after a literal's marker, so the k-th `}` CRLF in it stands
    for the k-th literal. A parenthesis inside a quoted string or a literal never counts as structure.
    Every expression here is linear: its alternatives begin with different bytes, so nothing is matched twice.
    No error carries mail content: excerpts show structure only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple, TypeAlias

from imapipe.errors import NestedTooDeeply, ProtocolError
from imapipe.wire.response.literal import Literal, SpooledLiteral, literal_bytes

MAX_DEPTH = 100
"""Lists nested deeper than this are passed over but not parsed: no message needs it, and an attack would."""

QUOTED = rb'"[^"\\\r]*+(?:"|(?:(?:\\[^\r]|\r(?!\n))[^"\\\r]*+)++")'
"""`quoted`, with 8-bit and bare control characters let through (Proton Bridge, Exchange)."""

UNENDED = rb'(?P<unended>"(?s:.)*+)'
"""A quote behind which no string ends, and all that follows: nothing is looked for in it again."""

MARKER = rb"\{\d++\+?\}\r\n"
"""What stands in the text for a literal; literal8 has a `~` before it."""

_PLAIN = rb'[^()"{\r]*+'
_OPAQUE = QUOTED + rb"|" + MARKER + rb"|\{(?!\d++\+?\}\r\n)|\r(?!\n)"


def _nested(depth: int) -> bytes:
    """An expression for a parenthesised list of at most `depth` levels."""
    inner = b""
    for _ in range(depth):
        inner = rb"\(" + _PLAIN + rb"(?:(?:" + _OPAQUE + (rb"|" + inner if inner else b"") + rb")" + _PLAIN + rb")*+\)"
    return inner


ATOM = rb'[^ ()"\r\n]++'
"""`atom`, generously: flags, numbers, names with brackets and 8-bit bytes pass."""

# Deep enough for every ENVELOPE and nearly every BODYSTRUCTURE; the rest is counted token by token.
NESTED = _nested(6)

VALUE = QUOTED + rb"|~?" + MARKER + rb"|" + NESTED + rb"|" + ATOM

_VALUE = re.compile(VALUE)
_QUOTED = re.compile(QUOTED)
_MARKER = re.compile(rb"~?" + MARKER)
_ATOM = re.compile(ATOM)
# Of bytes that `split` takes for no space either.
_ATOMS = re.compile(rb'([^()"{\0-\x1f]*+)\)')
_NUMBER = re.compile(rb"\d{1,20}(?!\d)")
_STRUCTURE = re.compile(QUOTED + rb"|[()]|" + UNENDED)
# The last alternative makes every match begin where the one before it ended.
_TOKEN = re.compile(rb" *+(?:(\()|(\))|(" + QUOTED + rb")|~?(" + MARKER + rb")|(" + ATOM + rb")|(?s:.?))")
_LOOSE_NUMBER = re.compile(rb"([+-]?)(\d{1,30})(?:\.\d{1,30})?(?:[eE]\+?\d{1,3})?")

MAX_TOKENS = 400_000
"""Values with more strings, atoms and parentheses are not taken apart: an object costs a hundred times its text."""

MAX_WORDS = 10_000
"""Lists of words with more are not taken apart: no server has so many capabilities, no mailbox so many keywords."""

LONG_VALUE = 65_536
"""From this many bytes on, lists are counted token by token: an expression that can go back needs memory per token."""

_LARGEST = 2**64 - 1
_SHOWN_WORDS = frozenset(
    b"NIL OK NO BAD BYE PREAUTH FETCH UIDFETCH UID FLAGS INTERNALDATE RFC822 SIZE ENVELOPE BODY BODYSTRUCTURE HEADER "
    b"TEXT MIME FIELDS BINARY MODSEQ LIST LSUB STATUS SEARCH ESEARCH TAG EXISTS EXPUNGE RECENT VANISHED EARLIER "
    b"NAMESPACE CAPABILITY ENABLED UIDBATCHES MIN MAX ALL COUNT PARTIAL ID".split()
)
_WORD = re.compile(rb"[A-Za-z0-9\x80-\xff]+|[^ ()\[\]{}\"\\<>*+~]")

Value: TypeAlias = "bytes | bytearray | SpooledLiteral | list[Value] | None"
"""One parsed value: NIL is None, a list is a list, everything else is its bytes."""


class ItemSpan(NamedTuple):
    """Where a value stands in the text of a response.

    Attributes:
        start: Offset of its first byte.
        end: Offset after its last byte; equal to `start` when the server left the value out (Yandex).
        literal_index: How many literals of the response stand before `start`.
    """

    start: int
    end: int
    literal_index: int


def redact(text: bytes, offset: int) -> str:
    """The structure of `text` around `offset`: protocol words and punctuation stay, all else becomes `x`."""
    start = max(0, offset - 24)

    def hide(match: re.Match[bytes]) -> bytes:
        word = match[0]
        return word if word in _SHOWN_WORDS else b"x" * min(len(word), 8)

    return _WORD.sub(hide, text[start : offset + 24]).decode("ascii", "replace")


def malformed(reason: str, text: bytes, offset: int) -> ProtocolError:
    """The error for `text` breaking the grammar at `offset`."""
    return ProtocolError(reason, offset=offset, excerpt=redact(text, offset))


def unquote(quoted: bytes) -> bytes:
    """The content of a quoted string, given with its quotes (RFC 9051 §4.3)."""
    inner = quoted[1:-1]
    if b"\\" not in inner:
        return inner
    # An expression would keep an object for each escape, and a subject of nothing else takes hundreds of megabytes.
    return b"\\".join([piece.replace(b"\\", b"") for piece in inner.split(rb"\\")])


def loose_number(text: bytes) -> int | None:
    """A number as servers send it, within 0 … 2^64-1; None when it is none.

    `9.3736e+06` (mail.ru) is 9373600; a negative one (Zoho's MODSEQ -1) is 0.
    """
    if text.isdigit() and len(text) < 19:
        return int(text)
    match = _LOOSE_NUMBER.fullmatch(text)
    if match is None:
        return None
    if match[1] == b"-":
        return 0
    if match[2] == text:
        return min(int(text), _LARGEST)
    return int(min(float(text), _LARGEST))


def split_words(text: bytes) -> list[bytes]:
    """The words between the spaces of a text. Raises ProtocolError: there are more than MAX_WORDS."""
    words = text.split(None, MAX_WORDS)
    if len(words) > MAX_WORDS:
        raise malformed(f"no more than {MAX_WORDS} words were expected", text, 0)
    return words


def value_end(text: bytes, offset: int) -> int:
    """The offset after the value that begins at `offset`, found without parsing it.

    Raises:
        ProtocolError: No value stands there, or it does not end.
    """
    if len(text) - offset < LONG_VALUE or text[offset : offset + 1] != b"(":
        match = _VALUE.match(text, offset)
        if match is not None:
            return match.end()
    if text[offset : offset + 1] != b"(":
        raise malformed("a value was expected", text, offset)
    return list_end(text, offset, _STRUCTURE)


def list_end(text: bytes, offset: int, structure: re.Pattern[bytes]) -> int:
    """The offset after the list that begins at `offset`, by counting its parentheses.

    Args:
        text: The response.
        offset: Where the opening parenthesis stands.
        structure: Matches a quoted string, a parenthesis, or UNENDED.

    Raises:
        ProtocolError: The list or a string in it does not end.
    """
    depth = 0
    for match in structure.finditer(text, offset):
        token = match[0]
        if token == b"(":
            depth += 1
        elif token == b")":
            depth -= 1
            if not depth:
                return match.end()
        elif match.lastgroup is not None:
            raise malformed("a quoted string does not end", text, match.start())
    raise malformed("a list does not end", text, offset)


class Cursor:
    """A position in a response, with the grammar's small productions as methods.

    Attributes:
        text: The response, literals cut out.
        pos: Offset of the next byte.
        literals: The literals of the response, in order.
        literal_index: The index of the next literal.
    """

    __slots__ = ("literal_index", "literals", "pos", "text")

    def __init__(self, text: bytes, pos: int = 0, literals: Sequence[Literal] = (), literal_index: int = 0) -> None:
        self.text = text
        self.pos = pos
        self.literals = literals
        self.literal_index = literal_index

    def error(self, reason: str) -> ProtocolError:
        """The error for the place the cursor stands at, to be raised."""
        return malformed(reason, self.text, self.pos)

    def at_end(self) -> bool:
        """Whether nothing but spaces is left; skips them."""
        self.spaces()
        return self.pos >= len(self.text)

    def peek(self) -> bytes:
        """The next byte without moving; empty at the end."""
        return self.text[self.pos : self.pos + 1]

    def spaces(self) -> None:
        """Skip any number of spaces, none included: servers leave them out and add them."""
        text, pos = self.text, self.pos
        while text[pos : pos + 1] == b" ":
            pos += 1
        self.pos = pos

    def accept(self, token: bytes) -> bool:
        """Move past `token` if it comes next."""
        if self.text.startswith(token, self.pos):
            self.pos += len(token)
            return True
        return False

    def expect(self, token: bytes) -> None:
        """Move past `token`, which must come next."""
        if not self.accept(token):
            raise self.error(f"{token.decode('ascii')!r} was expected")

    def atom(self) -> bytes:
        """`atom`: the bytes up to a space, a parenthesis, a quote or the end."""
        match = _ATOM.match(self.text, self.pos)
        if match is None:
            raise self.error("an atom was expected")
        self.pos = match.end()
        return match[0]

    def number(self) -> int:
        """`number64`: digits only."""
        match = _NUMBER.match(self.text, self.pos)
        if match is None:
            raise self.error("a number was expected")
        self.pos = match.end()
        return int(match[0])

    def quoted(self) -> bytes:
        """`quoted`: the content of a quoted string, escapes undone."""
        match = _QUOTED.match(self.text, self.pos)
        if match is None:
            raise self.error("a quoted string was expected")
        self.pos = match.end()
        return unquote(match[0])

    def literal(self) -> Literal:
        """`literal` or `literal8`: the next literal of the response, as it is."""
        match = _MARKER.match(self.text, self.pos)
        if match is None or self.literal_index >= len(self.literals):
            raise self.error("a literal was expected")
        self.pos = match.end()
        self.literal_index += 1
        return self.literals[self.literal_index - 1]

    def string(self) -> bytes:
        """`string`: quoted or literal, as bytes in memory."""
        return self.quoted() if self.peek() == b'"' else literal_bytes(self.literal())

    def nstring(self) -> bytes | None:
        """`nstring`: a string, or None for NIL."""
        if self.peek() in (b'"', b"{", b"~"):
            return self.string()
        start = self.pos
        if self.atom().upper() == b"NIL":
            return None
        self.pos = start
        raise self.error("a string or NIL was expected")

    def astring(self) -> bytes:
        """`astring`: an atom or a string."""
        if self.peek() == b'"' or _MARKER.match(self.text, self.pos) is not None:
            return self.string()
        return self.atom()

    def atoms(self) -> list[bytes]:
        """A parenthesised list of at most MAX_WORDS atoms and strings, such as `flag-list`; NIL is an empty list."""
        found: list[bytes] = []
        if not self.accept(b"("):
            if self.atom().upper() != b"NIL":
                raise self.error("a list was expected")
            return found
        # Nearly always there are atoms in it and nothing else, and there may be many.
        match = _ATOMS.match(self.text, self.pos)
        if match is not None:
            self.pos = match.end()
            return split_words(match[1])
        self.spaces()
        while not self.accept(b")"):
            if len(found) >= MAX_WORDS:
                raise self.error(f"no more than {MAX_WORDS} words were expected")
            found.append(self.astring())
            self.spaces()
        return found

    def skip_value(self) -> None:
        """Move past one value of any kind without parsing it."""
        end = value_end(self.text, self.pos)
        if self.literals:
            self.literal_index += self.text.count(b"}\r\n", self.pos, end)
        self.pos = end

    def parse_value(self) -> Value:
        """Parse one value of any kind.

        Raises:
            NestedTooDeeply: Lists in it nest deeper than MAX_DEPTH.
            ProtocolError: No value stands there, it does not end, or it has more than MAX_TOKENS tokens.
        """
        stack: list[list[Value]] = []
        items: list[Value] | None = None
        value: Value
        for match in islice(_TOKEN.finditer(self.text, self.pos), MAX_TOKENS):
            kind = match.lastindex
            if kind == 3:
                raw = match[3]
                value = unquote(raw) if b"\\" in raw else raw[1:-1]
            elif kind == 5:
                value = match[5]
                if value.upper() == b"NIL":
                    value = None
            elif kind == 1:
                if len(stack) >= MAX_DEPTH:
                    raise NestedTooDeeply(MAX_DEPTH, match.start())
                opened: list[Value] = []
                if items is not None:
                    items.append(opened)
                stack.append(opened)
                items = opened
                continue
            elif kind == 2 and stack:
                value = stack.pop()
                if stack:
                    items = stack[-1]
                    continue
                items = None
            elif kind == 4:
                if self.literal_index >= len(self.literals):
                    raise self.error("a literal is missing")
                value = self.literals[self.literal_index]
                self.literal_index += 1
            else:
                break
            if items is None:
                self.pos = match.end()
                return value
            items.append(value)
        raise self.error("a value of a usual size was expected")
