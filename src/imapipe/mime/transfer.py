"""Content-Transfer-Encoding (RFC 2045 §6): from the bytes of a part to those of its content.

Invariants: no function raises; time is linear in the size; what cannot be decoded is left as it is.
"""

from __future__ import annotations

import re
from binascii import Error as BinasciiError
from binascii import a2b_qp, a2b_uu
from typing import Final

from imapipe.wire.encoded_word import decode_base64

BASE64: Final = "base64"
QUOTED_PRINTABLE: Final = "quoted-printable"

_IDENTITY: Final = frozenset({"", "7bit", "8bit", "binary"})
_PLAIN_NAMES: Final = _IDENTITY | {BASE64, QUOTED_PRINTABLE}
_UUENCODE: Final = frozenset({"x-uuencode", "uuencode", "x-uue", "uue", "x-uu"})
# Spellings that are met: `base-64`, `quoted printable`, `quoted-printable;`, `7-bit`.
_NOT_NAME: Final = re.compile(r"[^a-z0-9]+")
_NAMES: Final = {"base64": BASE64, "b64": BASE64, "quotedprintable": QUOTED_PRINTABLE, "qp": QUOTED_PRINTABLE}

_SOFT_BREAK: Final = re.compile(rb"=[ \t]++(?=\r?\n|\r|\Z)")
_TWO_SIGNS: Final = re.compile(rb"=(?==)")
_MAC_BREAK: Final = re.compile(rb"=\r(?!\n)")
_PADDING: Final = re.compile(rb"=[=\s]*+")
_BASE64_ONLY: Final = re.compile(rb"[A-Za-z0-9+/=\s]*+")
_BLANK_LINE: Final = re.compile(rb"(?<=\S)[ \t]*+\r?\n[ \t]*+\r?\n")
_GAP: Final = re.compile(rb"\S[ \t]++\S")
_WORDS: Final = re.compile(rb"\s*+\S++[ \t]++\S")
_UU_BEGIN: Final = re.compile(rb"^begin [0-7]{3,4}[ \t][^\r\n]*\r?\n", re.MULTILINE)
# Up to this size the layout of base64 is not trusted.
_SMALL_BYTES: Final = 1024 * 1024


def encoding_name(encoding: str) -> str:
    """The usual name of an encoding: BASE64, QUOTED_PRINTABLE, or what the sender wrote."""
    if encoding in _PLAIN_NAMES:
        return encoding
    return _NAMES.get(_NOT_NAME.sub("", encoding), encoding)


def decode_transfer(encoding: str, data: bytes) -> bytes:
    """Decode the bytes of a part; 7bit, 8bit, binary and what is unknown stay as they are.

    Args:
        encoding: Content-Transfer-Encoding, in lower case.
        data: What stands between the header of the part and the next boundary.
    """
    if encoding in _IDENTITY:
        return data
    encoding = encoding_name(encoding)
    if encoding == QUOTED_PRINTABLE:
        return _decode_quoted_printable(data)
    if encoding == BASE64:
        return _decode_base64(data)
    return _decode_uuencode(data) if encoding in _UUENCODE else data


def decoded_size(encoding: str, data: bytes) -> int:
    """How many bytes `decode_transfer` would give, without doing it where the data is large and regular base64."""
    if encoding_name(encoding) == BASE64 and len(data) > _SMALL_BYTES:
        size = _regular_base64_size(data)
        if size is not None:
            return size
    return len(decode_transfer(encoding, data))


def estimated_size(encoding: str, size: int) -> int:
    """About how many bytes the content of a part has that takes `size` bytes as it is sent."""
    # 76 characters and a line end for 57 bytes.
    return size * 57 // 78 if encoding_name(encoding) == BASE64 else size


def _decode_quoted_printable(data: bytes) -> bytes:
    if b"=" not in data:
        return data
    if b"= " in data or b"=\t" in data:
        # White space behind a soft line break was added on the way (RFC 2045 §6.7, rule 3).
        data = _SOFT_BREAK.sub(b"=", data)
    if data.count(b"=\r") != data.count(b"=\r\n"):
        # The decoder would drop all up to the next line feed.
        data = _MAC_BREAK.sub(b"", data)
    if b"==" in data:
        # The decoder takes one of two for a mistake of an old encoder.
        data = _TWO_SIGNS.sub(b"=3D", data)
    return a2b_qp(data)


def _decode_base64(data: bytes) -> bytes:
    # The decoder stops at padding. Several pieces, each with its own, are one content; other text behind it is none,
    # such as what a mailing list puts under a message.
    at = data.find(b"=")
    if at < 0 and _WORDS.match(data) is not None and len(data.translate(None, b" \t\r\n")) % 4:
        # Text that was never encoded: its first line has spaces, and its length is none that base64 has.
        return data
    # To look for two bytes is nothing, to match a pattern everywhere is.
    has_blank = at < 0 and (b"\n\r\n" in data or b"\n\n" in data)
    if has_blank and (blank := _BLANK_LINE.search(data)) is not None:
        # A content without padding ends at a blank line, if what is behind that is other text.
        head = data[: blank.start()]
        is_whole = _BASE64_ONLY.fullmatch(head) is not None and len(head.translate(None, b" \t\r\n")) % 4 == 0
        if is_whole and _BASE64_ONLY.fullmatch(data, blank.end()) is None and _GAP.search(data, blank.end()):
            return decode_base64(head)
    if at >= 0 and data[at:].strip(b"= \t\r\n") and _BASE64_ONLY.fullmatch(data) is not None:
        return b"".join([decode_base64(piece) for piece in _PADDING.split(data) if piece])
    return decode_base64(data)


def _regular_base64_size(data: bytes) -> int | None:
    """The size of base64 in lines of one length, or None where it is not that."""
    data = data.strip()
    width = data.find(b"\n")
    if width < 0:
        width = len(data)
    ends = 2 if data[width - 1 : width] == b"\r" else 1
    step = width + 1
    lines = data.count(b"\n")
    # Every line end where it should be, and no other one.
    if data[width::step].count(b"\n") != lines or (ends == 2 and data[width - 1 :: step].count(b"\r") < lines):
        return None
    characters = len(data) - lines * ends
    padding = len(data) - len(data.rstrip(b"="))
    return characters // 4 * 3 - padding if characters % 4 == 0 and padding < 3 else None


def _decode_uuencode(data: bytes) -> bytes:
    begin = _UU_BEGIN.search(data)
    if begin is None:
        return data
    decoded: list[bytes] = []
    for line in data[begin.end() :].splitlines():
        if not line or line[:1] == b"`" or line.strip() == b"end":
            break
        try:
            decoded.append(a2b_uu(line))
        except BinasciiError:
            # Some encoders pad lines with rubbish: the first character says how much counts.
            size = (((line[0] - 32) & 63) * 4 + 5) // 3
            try:
                decoded.append(a2b_uu(line[:size]))
            except BinasciiError:
                break
    return b"".join(decoded)
