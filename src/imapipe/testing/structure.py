"""Strings, ENVELOPE and BODYSTRUCTURE as a server writes them (RFC 3501 7.4.2).

How strings are written is a *style*, so that a client meets every legal spelling and one illegal:

- ``auto``: quoted; a literal when a quote, a backslash, a control or an 8-bit byte is inside (Dovecot's habit).
- ``quoted``: quoted with escapes wherever the grammar allows it.
- ``literal``: every string is a literal.
- ``unescaped``: quoted without escapes, which breaks the grammar (seen at QQ and iCloud).
"""

from __future__ import annotations

import re
from typing import Literal

from .mime import Parameters, Part, parse_parameterised

StringStyle = Literal["auto", "quoted", "literal", "unescaped"]

_UNQUOTABLE = re.compile(rb"[\x00\r\n\x80-\xff]")
_UNQUOTABLE_UTF8 = re.compile(rb"[\x00\r\n]")
_SPECIAL = re.compile(rb'["\\]')
_ESCAPE = re.compile(rb'(["\\])')

Address = tuple[bytes | None, bytes | None, bytes | None, bytes | None]


def nstring(value: bytes | None, style: StringStyle = "auto", utf8: bool = False) -> bytes:
    """Write a string or NIL in the given style (RFC 3501 ``nstring``).

    Args:
        value: The bytes, or None for NIL.
        style: How to spell it.
        utf8: True after ENABLE UTF8=ACCEPT, where 8-bit may stand in quoted strings.
    """
    if value is None:
        return b"NIL"
    if style != "literal" and not (_UNQUOTABLE_UTF8 if utf8 else _UNQUOTABLE).search(value):
        if not _SPECIAL.search(value) or style == "unescaped":
            return b'"' + value + b'"'
        if style == "quoted" or utf8:
            return b'"' + _ESCAPE.sub(rb"\\\1", value) + b'"'
    return b"{%d}\r\n" % len(value) + value


class _AddressScanner:
    """Reads an address list of RFC 5322 (names stay encoded); groups become RFC 3501 group markers."""

    __slots__ = ("_at", "_text")

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._at = 0

    def read(self) -> list[Address]:
        found: list[Address] = []
        words: list[bytes] = []
        bracket: bytes | None = None
        in_group = False
        text = self._text
        while self._at < len(text):
            char = text[self._at : self._at + 1]
            if char == b'"':
                words.append(self._quoted())
            elif char == b"(":
                self._comment()
            elif char == b"<":
                stop = text.find(b">", self._at)
                stop = len(text) if stop < 0 else stop
                bracket = text[self._at + 1 : stop]
                self._at = stop + 1
            elif char == b":" and not in_group:
                found.append((None, None, b" ".join(words), None))
                words, in_group = [], True
                self._at += 1
            elif char in (b",", b";"):
                self._finish(found, words, bracket)
                words, bracket = [], None
                if char == b";" and in_group:
                    found.append((None, None, None, None))
                    in_group = False
                self._at += 1
            elif char.isspace():
                self._at += 1
            else:
                match = re.compile(rb'[^\s"(<,;:]+').match(text, self._at)
                stop = match.end() if match else self._at + 1
                words.append(text[self._at : stop])
                self._at = stop
        self._finish(found, words, bracket)
        return found

    def _quoted(self) -> bytes:
        match = re.compile(rb'"((?:\\.|[^"\\])*)"?', re.DOTALL).match(self._text, self._at)
        if match is None:
            self._at += 1
            return b""
        self._at = match.end()
        return re.sub(rb"\\(.)", rb"\1", match.group(1))

    def _comment(self) -> None:
        depth = 0
        while self._at < len(self._text):
            char = self._text[self._at]
            self._at += 2 if char == 0x5C else 1
            if char == 0x28:
                depth += 1
            elif char == 0x29:
                depth -= 1
                if depth == 0:
                    return

    @staticmethod
    def _finish(found: list[Address], words: list[bytes], bracket: bytes | None) -> None:
        if bracket is None:
            if not words:
                return
            spec, name = b"".join(words), None
        else:
            spec, name = bracket.strip(), b" ".join(words) or None
        if spec.startswith(b"@") and b":" in spec:
            spec = spec.partition(b":")[2]
        mailbox, at, host = spec.rpartition(b"@")
        found.append((name, None, mailbox, host) if at else (name, None, spec, b""))


def parse_addresses(value: bytes) -> list[Address]:
    """Parse an address list into ``(name, route, mailbox, host)`` as ENVELOPE wants them."""
    return _AddressScanner(value).read()


def render_envelope(part: Part, style: StringStyle = "auto", utf8: bool = False) -> bytes:
    """ENVELOPE of a message, with its parentheses."""

    def text(name: bytes) -> bytes:
        return nstring(part.header(name), style, utf8)

    def addresses(name: bytes, fallback: bytes | None = None) -> bytes:
        value = part.header(name)
        if (value is None or not value) and fallback is not None:
            value = part.header(fallback)
        found = parse_addresses(value) if value else []
        if not found:
            return b"NIL"
        return (
            b"("
            + b"".join(b"(" + b" ".join(nstring(field, style, utf8) for field in entry) + b")" for entry in found)
            + b")"
        )

    return b"(%s)" % b" ".join(
        (
            text(b"date"),
            text(b"subject"),
            addresses(b"from"),
            addresses(b"sender", b"from"),
            addresses(b"reply-to", b"from"),
            addresses(b"to"),
            addresses(b"cc"),
            addresses(b"bcc"),
            text(b"in-reply-to"),
            text(b"message-id"),
        )
    )


def render_structure(raw: bytes, part: Part, extended: bool, style: StringStyle = "auto", utf8: bool = False) -> bytes:
    """BODYSTRUCTURE (``extended``) or BODY of a part."""

    def string(value: bytes | None) -> bytes:
        return nstring(value, style, utf8)

    def parameters(pairs: Parameters) -> bytes:
        if not pairs:
            return b"NIL"
        return b"(" + b" ".join(string(name) + b" " + string(value) for name, value in pairs) + b")"

    def extension(first: bytes) -> list[bytes]:
        disposition, pairs = parse_parameterised(part.header(b"content-disposition") or b"")
        shown = b"(" + string(disposition) + b" " + parameters(pairs) + b")" if disposition else b"NIL"
        return [first, shown, string(part.header(b"content-language")), string(part.header(b"content-location"))]

    if part.is_multipart and part.children:
        fields = [
            b"".join(render_structure(raw, child, extended, style, utf8) for child in part.children),
            string(part.subtype),
        ]
        if extended:
            fields += extension(parameters(part.parameters))
        return b"(" + b" ".join(fields) + b")"
    maintype, subtype, pairs = part.maintype, part.subtype, part.parameters
    if part.is_multipart:
        # A multipart without a part cannot be written in the grammar: shown as the text it is.
        maintype, subtype, pairs = b"TEXT", b"PLAIN", ()
    if maintype == b"TEXT" and not any(name.lower() == b"charset" for name, _ in pairs):
        pairs = ((b"charset", b"us-ascii"), *pairs)
    fields = [
        string(maintype),
        string(subtype),
        parameters(pairs),
        string(part.header(b"content-id")),
        string(part.header(b"content-description")),
        string(part.encoding()),
        b"%d" % (part.end - part.body_start),
    ]
    if part.is_message:
        fields.append(render_envelope(part.children[0], style, utf8))
        fields.append(render_structure(raw, part.children[0], extended, style, utf8))
    if part.is_message or maintype == b"TEXT":
        fields.append(b"%d" % _count_lines(raw, part))
    if extended:
        fields += extension(string(part.header(b"content-md5")))
    return b"(" + b" ".join(fields) + b")"


def _count_lines(raw: bytes, part: Part) -> int:
    lines = raw.count(b"\n", part.body_start, part.end)
    return lines + (part.end > part.body_start and raw[part.end - 1 : part.end] != b"\n")
