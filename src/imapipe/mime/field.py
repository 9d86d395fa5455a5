"""Fields of the header of a part: Content-Type and its like, as they are and as they should be (RFC 2045 §5).

Invariants:

- No function raises; time is linear in the length of the field.
- What is remembered is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from imapipe.wire.encoded_word import decode_header
from imapipe.wire.parameter import decode_parameters

# Behind the name of a field: the colon and the value, which goes on over lines that begin with white space.
_VALUE: Final = re.compile(rb"[ \t]*+:[ \t]*+([^\r\n]*+(?:(?:\r?\n[ \t]|\r(?!\n))[^\r\n]*+)*+)")
_FOLD: Final = re.compile(rb"\r?\n|\r")
_COMMENT: Final = re.compile(rb"\([^()\"]*\)")
# RFC 2045 §5.1 `type "/" subtype`, in quotation marks perhaps.
_TYPE: Final = re.compile(rb"[\s\"']*+([A-Za-z0-9!#$&^_.+-]++)\s*+/\s*+([A-Za-z0-9!#$&^_.+-]++)")
_PIECE: Final = re.compile(rb"(?:[^;\"]++|\"(?:[^\"\\]++|\\.)*+\")++", re.DOTALL)
# Where the next parameter begins although there is no semicolon: `text/plain charset=utf-8 format=flowed`.
_NEXT: Final = re.compile(rb"[\s,](?=[A-Za-z][A-Za-z0-9*_-]{0,40}+=)")
_NAME: Final = re.compile(rb"\s*+([^\s=\"]++)\s*+(?:=\s*+(.*+))?", re.DOTALL)
_ESCAPED: Final = re.compile(rb"\\([\"\\])")
_EASY_BOUNDARY: Final = re.compile(
    rb"multipart/([a-z]++)[;\s]++boundary=(?:\"([^\"\\?\r\n]++)\"|([^\s\";?]++))\s*+", re.IGNORECASE
)

# A longer one says nothing that is worth its time.
_MAX_VALUE_BYTES: Final = 64 * 1024
_TEXT: Final = "text/plain"

_TYPES: dict[bytes, str] = {}
_MAX_TYPES: Final = 512
_MAX_TYPE_BYTES: Final = 120
_WORDS: dict[bytes, str] = {}
_MAX_WORD_BYTES: Final = 20


def find_field(header: bytes, lowered: bytes, name: bytes) -> bytes | None:
    """The value of the first field of a name, still folded; None where it is absent.

    Args:
        header: The header.
        lowered: The same in lower case, made once for all fields.
        name: The name in lower case.
    """
    if lowered.startswith(name):
        match = _VALUE.match(header, len(name))
        if match is not None:
            return match[1]
    name = b"\n" + name
    at = lowered.find(name)
    while at >= 0:
        match = _VALUE.match(header, at + len(name))
        if match is not None:
            return match[1]
        at = lowered.find(name, at + len(name))
    return None


def content_type_of(value: bytes) -> str:
    """`type/subtype` of a Content-Type in lower case; text/plain where it names none (RFC 2045 §5.2)."""
    found = _TYPES.get(value)
    if found is not None:
        return found
    match = _TYPE.match(value)
    if match is None and b"(" in value:
        match = _TYPE.match(_COMMENT.sub(b"", value[:_MAX_VALUE_BYTES]))
    found = f"{match[1].decode('ascii')}/{match[2].decode('ascii')}".lower() if match is not None else _TEXT
    if len(value) <= _MAX_TYPE_BYTES:
        if len(_TYPES) >= _MAX_TYPES:
            _TYPES.clear()
        _TYPES[value] = found
    return found


def boundary_of(value: bytes) -> bytes:
    """The boundary of a multipart's Content-Type; b"" where it names none."""
    easy = _EASY_BOUNDARY.fullmatch(value)
    if easy is not None:
        return (easy[2] or easy[3]).rstrip()
    pairs = list(split_parameters(value))
    for name, found in pairs:
        if name.lower() == b"boundary":
            return found.rstrip()
    # In sections or percent-encoded (RFC 2231), which nobody needs and somebody does.
    return decode_parameters(pairs).get("boundary", "").encode("utf-8", "replace").rstrip()


def parameters_of(value: bytes) -> dict[str, str]:
    """The parameters of a Content-Type or Content-Disposition, decoded, by lower-case name."""
    return decode_parameters(split_parameters(value))


def charset_of(value: bytes) -> bytes:
    """The charset that a Content-Type names, as it stands there; b"" where it names none."""
    if b"harset" not in value and b"HARSET" not in value:
        return b""
    pairs = list(split_parameters(value))
    for name, found in pairs:
        if name.lower() == b"charset":
            return found
    return decode_parameters(pairs).get("charset", "").encode("utf-8", "replace")


def word_of(value: bytes) -> str:
    """The first word of a field, as Content-Disposition and Content-Transfer-Encoding have it, in lower case."""
    found = _WORDS.get(value)
    if found is not None:
        return found
    word = _FOLD.sub(b" ", value[:_MAX_VALUE_BYTES])
    if b"(" in word:
        word = _COMMENT.sub(b" ", word)
    found = word.partition(b";")[0].strip(b" \t\"'").decode("utf-8", "replace").lower()
    if len(value) <= _MAX_WORD_BYTES:
        if len(_WORDS) >= _MAX_TYPES:
            _WORDS.clear()
        _WORDS[value] = found
    return found


def text_of(value: bytes) -> str:
    """The whole value as text."""
    return decode_header(value).strip()


def split_parameters(value: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The parameters behind the first word of a field: names and values, without their quotes, not yet decoded.

    Semicolons may be missing, values with spaces may lack quotes, and quotes may lack their other half.
    """
    value = value[:_MAX_VALUE_BYTES]
    if b"\n" in value or b"\r" in value:
        value = _FOLD.sub(b"", value)
    match = _TYPE.match(value)
    at = match.end() if match is not None else 0
    while at < len(value):
        piece = _PIECE.match(value, at)
        if piece is None and value[at : at + 1] == b'"':
            # Not closed: from here on a quotation mark is a character like others.
            for rest in value[at:].split(b";"):
                yield from _parameters(rest)
            return
        if piece is not None:
            at = piece.end()
            if value[at : at + 1] == b'"':
                # The value itself is not closed.
                end = value.find(b";", at)
                end = len(value) if end < 0 else end
                yield from _parameters(piece[0] + value[at:end])
                for rest in value[end:].split(b";"):
                    yield from _parameters(rest)
                return
            yield from _parameters(piece[0])
        at += 1


def _parameters(piece: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The parameters between two semicolons: one, or several where semicolons are missing."""
    while piece:
        start = _NEXT.match(piece)
        match = _NAME.match(piece, start.end() if start is not None else 0)
        if match is None:
            return
        name, value = match.groups()
        piece = b""
        if value is None:
            following = _NEXT.search(match.string, match.start())
            if following is not None:
                # Words before the first parameter, such as a comment.
                piece = match.string[following.end() :]
                continue
            yield name, b""
            return
        if value[:1] == b'"':
            end = _closing_quote(value)
            # What follows may be a parameter, or belong to the value: `filename="a "b" c.pdf"`.
            following = _NEXT.search(value, end) if end else None
            if following is not None:
                piece = value[following.end() :]
                value = value[: following.start()]
            value = value.rstrip()
            value = value[1:-1] if value[-1:] == b'"' and len(value) > 1 else value.strip(b'"')
            if b"\\" in value:
                # No other character is escaped: Windows writes whole paths.
                value = _ESCAPED.sub(rb"\1", value)
        else:
            following = _NEXT.search(value)
            if following is not None:
                piece = value[following.end() :]
                value = value[: following.start()]
            value = value.strip()
            if b"(" in value and name.lower() == b"charset":
                value = _COMMENT.sub(b"", value).strip()
        yield name, value


def _closing_quote(value: bytes) -> int:
    """The place behind the quotation mark that ends a value; 0 where it has none."""
    at = value.find(b'"', 1)
    while at > 0:
        if value[at - 1 : at] != b"\\":
            return at + 1
        at = value.find(b'"', at + 1)
    return 0
