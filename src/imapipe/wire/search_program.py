"""From a search key to what is sent: the order of words, quoted strings, literals, CHARSET (RFC 9051 §6.4.4).

A search is kept as a *program in prefix order*, which is how IMAP itself writes it: an `Operator` is followed by its
operands, a `Term` stands for itself. `OR` and `AND` take any number of operands here, on the wire two and a pair of
parentheses. One flat tuple has no depth: nothing here recurses, however a search was put together.

Invariant: a tuple of tokens holds exactly one complete program.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from enum import Enum
from hashlib import sha256
from typing import Final, NamedTuple, TypeGuard

from imapipe.wire.literal_argument import MAX_UNASKED_BYTES, LiteralArgument
from imapipe.wire.mailbox_name import quote
from imapipe.wire.search_term import RAW, Argument, Atom, Term, format_date
from imapipe.wire.uid_set import UidSet

_MAX_QUOTED_BYTES: Final = 1_000
"""Longer text goes as a literal: with unknown servers a line should stay near 1,000 bytes (RFC 2683 §3.2.1.5)."""

_MAX_DESCRIBED_CHARACTERS: Final = 1_000


class Operation(Enum):
    """How an operator combines its operands."""

    AND = "AND"
    OR = "OR"
    NOT = "NOT"


class Operator(NamedTuple):
    """Stands before `arity` operands: 1 for NOT, 2 or more for AND and OR."""

    operation: Operation
    arity: int


Tokens = tuple[Term | Operator, ...]


@dataclass(frozen=True, slots=True)
class SearchProgram:
    """A search as it is sent: everything after `UID SEARCH [RETURN (…)] [CHARSET …]`, without the final CRLF.

    Attributes:
        pieces: Bytes and literals in order, the markers of the literals left out.
        charset: "UTF-8" when a `CHARSET` must be sent, else None.
    """

    pieces: tuple[bytes | LiteralArgument, ...]
    charset: str | None

    def chunks(self) -> tuple[bytes, ...]:
        """Return all that follows UID SEARCH and its RETURN, with CHARSET, cut where a continuation is awaited.

        Each chunk but the last ends with the marker of a synchronising literal, the next begins with its data.
        """
        chunk = bytearray(f"CHARSET {self.charset} ".encode() if self.charset else b"")
        chunks: list[bytes] = []
        for piece in self.pieces:
            if isinstance(piece, bytes):
                chunk += piece
                continue
            chunk += piece.marker
            if piece.synchronising:
                chunks.append(bytes(chunk))
                chunk.clear()
            chunk += piece.data
        return (*chunks, bytes(chunk))


def build_program(tokens: Tokens, *, today: date, literal_plus: bool, utf8: bool) -> SearchProgram:
    """Write a program for the wire; the arguments are those of `SearchKey.program`."""
    pieces: list[bytes | LiteralArgument] = []
    line = bytearray()
    charset: str | None = None
    for word in lay_out(tokens):
        if isinstance(word, str):
            line += word.encode("ascii")
            continue
        if word.name == RAW:
            line += str(word.arguments[0]).encode("ascii")
            continue
        line += word.name.encode("ascii")
        for argument in word.arguments:
            line += b" "
            if not _is_text(argument):
                line += _bare(argument, today).encode("ascii")
                continue
            data = argument.encode()
            quotable = utf8 or data.isascii()
            if not quotable:
                charset = "UTF-8"
            if quotable and len(data) <= _MAX_QUOTED_BYTES:
                line += quote(data)
                continue
            pieces.append(bytes(line))
            line.clear()
            pieces.append(LiteralArgument(data, not literal_plus or len(data) > MAX_UNASKED_BYTES))
    if line:
        pieces.append(bytes(line))
    return SearchProgram(tuple(pieces), charset)


def describe_program(tokens: Tokens) -> str:
    """Write a program for people and fingerprints: one line of text, the same whenever and wherever it is sent.

    The text can be parsed again (`wire.search_text.parse`), unless it has raw parts or a set of UIDs that is too
    long to be shown: of that it holds a digest.
    """
    words: list[str] = []
    for word in lay_out(tokens):
        if isinstance(word, str):
            words.append(word)
        elif word.name == RAW:
            words.append(str(word.arguments[0]))
        else:
            words.append(" ".join((word.name, *map(_describe_argument, word.arguments))))
    return "".join(words)


def lay_out(tokens: Tokens) -> Iterator[str | Term]:
    """Put a program into the order and punctuation of IMAP; joined, the words are the whole text.

    An OR of many operands becomes a balanced tree of ORs of two, so that the server meets a depth of 14 for 10,000
    of them. ANDs get parentheses, but not the one around everything; so does raw text, which may be several keys.
    """
    remaining = enumerate(tokens)
    # Work to do, the next at the end: text to write, or a number of operands to combine by OR.
    work: list[str | int] = [1]
    while work:
        task = work.pop()
        if isinstance(task, str):
            yield task
            continue
        if task > 1:
            yield "OR "
            work += (task // 2, " ", task - task // 2)
            continue
        position, token = next(remaining)
        if isinstance(token, Term):
            if token.name == RAW and len(tokens) > 1:
                yield "("
                work.append(")")
            yield token
        elif token.operation is Operation.NOT:
            yield "NOT "
            work.append(1)
        elif token.operation is Operation.OR:
            work.append(token.arity)
        else:
            if position > 0:
                yield "("
                work.append(")")
            work += (1, " ") * (token.arity - 1)
            work.append(1)


def _is_text(argument: Argument) -> TypeGuard[str]:
    return isinstance(argument, str) and not isinstance(argument, Atom)


def _bare(argument: Argument, today: date) -> str:
    """Write an argument that is no text."""
    if isinstance(argument, timedelta):
        return format_date(today - argument)
    if isinstance(argument, date):
        return format_date(argument)
    return argument.text() if isinstance(argument, UidSet) else str(argument)


def _describe_argument(argument: Argument) -> str:
    if _is_text(argument):
        return quote(argument).decode()
    if isinstance(argument, timedelta):
        return f"{argument.days}d"
    if isinstance(argument, UidSet):
        text = argument.text()
        return text if len(text) <= _MAX_DESCRIBED_CHARACTERS else f"sha256:{sha256(text.encode()).hexdigest()}"
    return format_date(argument) if isinstance(argument, date) else str(argument)
