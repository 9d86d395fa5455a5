"""The parts of a message as offsets into its bytes (RFC 2045, RFC 2046).

Invariant: a ``Part`` never copies a body; ``raw[part.body_start:part.end]`` is the body and
``raw[part.header_start:part.body_start]`` the header with the empty line that ends it.
"""

from __future__ import annotations

import base64
import binascii
import quopri
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

_HEADER_END = re.compile(rb"\r?\n\r?\n")
_FOLD = re.compile(rb"\r?\n(?=[ \t])")
_LINE_END = re.compile(rb"\r?\n")
_PARAMETER = re.compile(rb';\s*([^\s=;]+)\s*=\s*("(?:\\.|[^"\\])*"|[^\s;]*)')
_MAX_DEPTH = 30

Parameters = tuple[tuple[bytes, bytes], ...]


@dataclass(slots=True)
class Part:
    """One entity: a whole message or a body part of one.

    Attributes:
        header_start: Offset of the first byte of the header.
        body_start: Offset of the first byte of the body.
        end: Offset behind the last byte of the body.
        headers: ``(lower-case name, unfolded value)`` in order.
        maintype: First half of the content type, upper case.
        subtype: Second half of the content type, upper case.
        parameters: Parameters of the content type.
        children: Parts of a multipart, or the one message of a ``message/rfc822``.
    """

    header_start: int
    body_start: int
    end: int
    headers: list[tuple[bytes, bytes]]
    maintype: bytes = b"TEXT"
    subtype: bytes = b"PLAIN"
    parameters: Parameters = ()
    children: list[Part] = field(default_factory=list)

    def header(self, name: bytes) -> bytes | None:
        """Value of the first header field of that lower-case name, or None."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    @property
    def is_multipart(self) -> bool:
        """True when the children are the parts of a multipart."""
        return self.maintype == b"MULTIPART"

    @property
    def is_message(self) -> bool:
        """True for a ``message/rfc822`` whose child is the message inside."""
        return self.maintype == b"MESSAGE" and self.subtype in (b"RFC822", b"GLOBAL") and bool(self.children)

    def encoding(self) -> bytes:
        """Content-Transfer-Encoding in upper case, ``7BIT`` when absent."""
        return (self.header(b"content-transfer-encoding") or b"7BIT").split(b";")[0].strip().upper() or b"7BIT"

    def decoded(self, raw: bytes) -> bytes:
        """The body with its transfer encoding undone (RFC 3516 BINARY)."""
        body = raw[self.body_start : self.end]
        encoding = self.encoding()
        if encoding == b"BASE64":
            try:
                return base64.b64decode(body)
            except binascii.Error:
                return body
        if encoding == b"QUOTED-PRINTABLE":
            return quopri.decodestring(body)
        return body


def parse_headers(block: bytes) -> list[tuple[bytes, bytes]]:
    """Split a header block into ``(lower-case name, unfolded value)``."""
    fields: list[tuple[bytes, bytes]] = []
    for line in _LINE_END.split(_FOLD.sub(b"", block)):
        name, colon, value = line.partition(b":")
        if colon and name.strip():
            fields.append((name.strip().lower(), value.strip()))
    return fields


def parse_parameterised(value: bytes) -> tuple[bytes, Parameters]:
    """Split ``text/plain; charset="utf-8"`` into its head and its parameters."""
    head, semicolon, tail = value.partition(b";")
    found: list[tuple[bytes, bytes]] = []
    for match in _PARAMETER.finditer(semicolon + tail):
        text = match.group(2)
        if text[:1] == b'"':
            text = re.sub(rb"\\(.)", rb"\1", text[1:-1])
        found.append((match.group(1), text))
    return head.strip(), tuple(found)


def parse_message(raw: bytes) -> Part:
    """Parse a whole message; any bytes give a tree, never an error."""
    return _parse(raw, 0, len(raw), (b"TEXT", b"PLAIN"), 0)


def _parse(raw: bytes, start: int, end: int, default: tuple[bytes, bytes], depth: int) -> Part:
    body_start = _find_body(raw, start, end)
    part = Part(start, body_start, end, parse_headers(raw[start:body_start]))
    part.maintype, part.subtype = default
    content_type = part.header(b"content-type")
    if content_type is not None:
        head, part.parameters = parse_parameterised(content_type)
        maintype, slash, subtype = head.upper().partition(b"/")
        if slash and maintype and subtype:
            part.maintype, part.subtype = maintype.strip(), subtype.strip()
    if depth >= _MAX_DEPTH:
        return part
    if part.is_multipart:
        inner = (b"MESSAGE", b"RFC822") if part.subtype == b"DIGEST" else (b"TEXT", b"PLAIN")
        for child_start, child_end in _split_multipart(raw, part):
            part.children.append(_parse(raw, child_start, child_end, inner, depth + 1))
    elif part.maintype == b"MESSAGE" and part.subtype in (b"RFC822", b"GLOBAL"):
        part.children.append(_parse(raw, body_start, end, (b"TEXT", b"PLAIN"), depth + 1))
    return part


def _find_body(raw: bytes, start: int, end: int) -> int:
    if raw.startswith(b"\r\n", start, end):
        return start + 2
    if raw.startswith(b"\n", start, end):
        return start + 1
    match = _HEADER_END.search(raw, start, end)
    return match.end() if match else end


def _split_multipart(raw: bytes, part: Part) -> list[tuple[int, int]]:
    boundary = next((value for name, value in part.parameters if name.lower() == b"boundary"), b"")
    if not boundary:
        return []
    mark = b"--" + boundary
    ranges: list[tuple[int, int]] = []
    open_at = -1
    position = part.body_start
    while True:
        found = raw.find(mark, position, part.end)
        if found < 0:
            if open_at >= 0:
                ranges.append((open_at, part.end))
            return ranges
        position = found + len(mark)
        at_line_start = found == part.body_start or raw[found - 1 : found] == b"\n"
        if not at_line_start or raw[position : position + 1] not in (b"\r", b"\n", b"-", b" ", b"\t", b""):
            continue
        if open_at >= 0:
            stop = found - 1 if found > open_at else found
            if stop > open_at and raw[stop - 1 : stop] == b"\r":
                stop -= 1
            ranges.append((open_at, max(stop, open_at)))
        if raw.startswith(b"--", position, part.end):
            return ranges
        line_end = raw.find(b"\n", position, part.end)
        if line_end < 0:
            return ranges
        open_at = position = line_end + 1
        # The delimiter's own line end may serve as the line start of the next one.


def find_part(root: Part, numbers: Sequence[int]) -> Part | None:
    """The part a section number names (RFC 3501 6.4.5), or None.

    A message that is not a multipart has exactly one part, number 1: itself.
    """
    candidates = _numbered(root)
    part: Part | None = None
    for number in numbers:
        if not 1 <= number <= len(candidates):
            return None
        part = candidates[number - 1]
        if part.is_multipart:
            candidates = part.children
        elif part.is_message:
            candidates = _numbered(part.children[0])
        else:
            candidates = []
    return part


def _numbered(message: Part) -> list[Part]:
    return message.children if message.is_multipart else [message]
