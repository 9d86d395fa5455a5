"""From the bytes of a text part to its text, whatever charset it names, or does not.

Invariants: no function raises; no text holds a surrogate.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from imapipe.mime.charset_guess import guess_codec
from imapipe.mime.field import charset_of
from imapipe.mime.part import Part, Raw
from imapipe.mime.selection import HTML, text_parts
from imapipe.mime.transfer import QUOTED_PRINTABLE, decode_transfer, encoding_name
from imapipe.wire.charset import GUESS, decode_charset, decode_plain, decode_strictly, find_codec

_BYTE_ORDER_MARK: Final = "\ufeff"
_UTF_16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")
# HTML's own declaration (the HTML standard, "determining the character encoding"), in its first bytes.
_META: Final = re.compile(rb"<meta[^>]{0,400}?charset\s{0,20}=\s{0,20}[\"']?([A-Za-z0-9._:-]{1,40})", re.IGNORECASE)
_META_BYTES: Final = 2048

# An escape of quoted-printable that is not whole.
_CUT_ESCAPE: Final = re.compile(rb"=[0-9A-Fa-f]?\Z")
# UTF-7: six characters of base64 for one, and where they begin.
_LONGEST_CHARACTER: Final = 8

_CODECS: dict[bytes, str] = {}
_MAX_CODECS: Final = 512
_MAX_FIELD_BYTES: Final = 120


def codec_of(type_field: bytes) -> str:
    """The codec of a text part by its Content-Type; GUESS where that names no charset that is one."""
    codec = _CODECS.get(type_field)
    if codec is None:
        codec = find_codec(charset_of(type_field))
        if len(type_field) <= _MAX_FIELD_BYTES:
            if len(_CODECS) >= _MAX_CODECS:
                _CODECS.clear()
            _CODECS[type_field] = codec
    return codec


def decode_text(charset: str, encoding: str, data: bytes, *, is_html: bool = False, is_cut: bool = False) -> str:
    """Decode a text part as a server sends it (`BODY[1.2]`).

    Args:
        charset: The charset as it is named in Content-Type or BODYSTRUCTURE; "" where there is none.
        encoding: Content-Transfer-Encoding, in lower case.
        data: The bytes of the part.
        is_html: Whether `<meta charset>` may say what they are.
        is_cut: They end where a limit was, perhaps in the middle of a character, which is left out.
    """
    codec = find_codec(charset.encode("utf-8", "replace"))
    if is_cut and encoding_name(encoding) == QUOTED_PRINTABLE:
        data = _CUT_ESCAPE.sub(b"", data)
    content = decode_transfer(encoding, data)
    return to_text(_whole_characters(content, codec) if is_cut else content, codec, is_html=is_html)


def _whole_characters(data: bytes, codec: str) -> bytes:
    """What is left when a last character that is not whole is taken away."""
    for size in range(len(data), max(len(data) - _LONGEST_CHARACTER, -1), -1):
        if decode_strictly(data[:size], codec or "utf_8") is not None:
            return data[:size]
    return data


def to_text(data: bytes, codec: str, *, is_html: bool = False) -> str:
    """The text of bytes: by the charset that is named, else by what they look like.

    Without a charset that is one: a byte order mark; UTF-8 if it is valid; `<meta charset>`; ISO-2022 by its
    escapes; a detector where one is installed; windows-1252. Text that does not decode with the charset it names is
    guessed if most of it would be lost, for a wrong charset; otherwise its bad bytes become U+FFFD.
    """
    text = decode_strictly(data, codec) if codec else None
    if text is None:
        text = _guess(data, is_html=is_html) if not codec else _decode_badly(data, codec, is_html=is_html)
    return text[1:] if text[:1] == _BYTE_ORDER_MARK else text


def _guess(data: bytes, *, is_html: bool) -> str:
    escapes = b"\x1b" in data
    if data[:2] in _UTF_16_MARKS:
        text = decode_strictly(data, "utf_16")
        if text is not None:
            return text
    if not escapes:
        text = decode_strictly(data, "utf_8")
        if text is not None:
            return text
    named = _META.search(data, 0, _META_BYTES) if is_html else None
    codecs = [find_codec(named[1])] if named is not None else []
    if escapes:
        codecs += ["iso2022_jp_ext", "iso2022_kr"] if b"\x1b$" in data else []
        codecs.append("utf_8")
    for codec in codecs:
        # What is declared in ASCII is not UTF-16.
        if codec != GUESS and not codec.startswith("utf_16"):
            text = decode_strictly(data, codec)
            if text is not None:
                return text
    codec = guess_codec(data)
    text = decode_strictly(data, codec) if codec else None
    return decode_plain(data) if text is None else text


def _decode_badly(data: bytes, codec: str, *, is_html: bool) -> str:
    """Decode text that is not in the charset it names, or not everywhere."""
    if codec != "utf_8":
        text = decode_strictly(data, "utf_8")
        if text is not None and not data.isascii():
            return text
    text = decode_charset(data, codec)
    bad = text.count("\ufffd")
    good = len(text) - bad - len(text.encode("ascii", "ignore"))
    return text if bad <= good else _guess(data, is_html=is_html)


def read_text(raw: Raw, parts: Sequence[Part], kind: str) -> str:
    """The text of a message of one kind (PLAIN or HTML): part behind part, each on lines of its own."""
    texts: list[str] = []
    for part in text_parts(parts, kind):
        data = raw[part.start : part.end]
        if type(data) is not bytes:
            data = bytes(data)
        text = to_text(decode_transfer(part.encoding, data), codec_of(part.type_field or b""), is_html=kind == HTML)
        texts.append(text)
    return join_texts(texts)


def join_texts(texts: Sequence[str]) -> str:
    """One text of those of several parts, each on lines of its own."""
    if len(texts) == 1:
        return texts[0]
    joined: list[str] = []
    for text in texts:
        if joined and text and not joined[-1].endswith("\n"):
            joined.append("\n")
        if text:
            joined.append(text)
    return "".join(joined)
