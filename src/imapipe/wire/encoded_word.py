"""Header text with encoded words (RFC 2047), as Subject and display names carry it; its own decoder, for speed.

Invariants:

- `decode_header` never raises, and its result can be encoded as UTF-8: it holds no surrogates.
- Time is linear in the length of the header, whatever it holds.

On well-formed input the result is that of `email.header`, with these differences on purpose: charsets are read as
the superset that senders really mean (see `charset`), and plain text around the words keeps its white space.
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64, a2b_qp
from typing import Final

from imapipe.wire.charset import KNOWN, decode_charset, decode_plain, find_codec

# RFC 2047 §2 `encoded-word`, or more than that: encoded text with spaces and "?" is met often.
# The possessive forms keep it from looking for another end than the first.
_WORD: Final = re.compile(rb"=\?([^? \t]*)\?([BbQq])\?([^?]*+(?:\?(?!=)[^?]*+)*+)\?=")
_FOLD: Final = re.compile(rb"\r?\n(?=[ \t])")
_LINE_END: Final = re.compile(rb"[\r\n]+")
_NOT_BASE64: Final = re.compile(rb"[^A-Za-z0-9+/]+")


def decode_header(raw: bytes) -> str:
    """Decode the value of a header field, or a display name, into text.

    Encoded words are decoded, white space between two of them is dropped, and neighbours of one charset are joined
    before decoding, because senders split characters over them. Folded lines are unfolded, other line ends become a
    space. What is not encoded is read as UTF-8 if it is that, else as windows-1252; bad bytes become U+FFFD.

    Args:
        raw: The value as it is in the message, or in ENVELOPE without quotes and literal marker.
    """
    text = decode_plain(raw)
    # On str `in` is eight times faster than on bytes, and most headers end here.
    if "\n" in text or "\r" in text:
        raw = _LINE_END.sub(b" ", _FOLD.sub(b"", raw))
        text = decode_plain(raw)
    return _decode_words(raw) if "=?" in text else text


def _decode_words(raw: bytes) -> str:
    """Decode one line with something in it that looks like an encoded word."""
    # Beyond the last "?=" no word can end. To look for one there, from every "=?", would take quadratic time.
    end = raw.rfind(b"?=") + 2
    # Plain text, then for each word: charset, encoding, encoded text, the plain text that follows.
    parts = _WORD.split(raw[:end])
    parts[-1] += raw[end:]
    text: list[str] = [decode_plain(parts[0])] if parts[0] else []
    joined: list[bytes] = []
    codec = ""
    last = len(parts) - 4
    known = KNOWN.get
    for index in range(1, len(parts), 4):
        charset, encoding, encoded, after = parts[index : index + 4]
        found = known(charset)
        if found is None:
            found = find_codec(charset)
        if found != codec and joined:
            text.append(decode_charset(b"".join(joined), codec))
            joined.clear()
        codec = found
        joined.append(a2b_qp(encoded, header=True) if encoding == b"Q" or encoding == b"q" else decode_base64(encoded))
        if after and (index == last or not after.isspace()):
            text.append(decode_charset(b"".join(joined), codec))
            joined.clear()
            text.append(decode_plain(after))
    if joined:
        text.append(decode_charset(b"".join(joined), codec))
    return "".join(text)


def decode_base64(encoded: bytes) -> bytes:
    """Decode base64 (RFC 2045 §6.8), with padding or without; characters that are not base64 are dropped."""
    try:
        return a2b_base64(encoded)
    except Base64Error:
        kept = _NOT_BASE64.sub(b"", encoded)
        # One character more than whole groups was cut short on its way.
        whole = kept[:-1] if len(kept) % 4 == 1 else kept
        return a2b_base64(whole + b"=" * (-len(whole) % 4))
