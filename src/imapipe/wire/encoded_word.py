"""Header text with encoded words (RFC 2047), as Subject and display names carry it; its own decoder, for speed.

Invariants:

- `decode_header` never raises, and its result can be encoded as UTF-8: it holds no surrogates.
- Time is linear in the length of the header, whatever it holds.
- Only the codecs in `_CODECS` are ever looked up. A name from a mail never reaches Python's codec registry, which
  remembers every name for ever and knows codecs that are no charsets (idna, unicode_escape).

On well-formed input the result is that of `email.header`, with these differences on purpose: charsets are read as
the superset that senders really mean (iso-8859-1 as windows-1252, gb2312 as gb18030 …), and plain text around the
words keeps its white space.
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64, a2b_qp
from encodings.aliases import aliases
from typing import Final

# RFC 2047 §2 `encoded-word`, or more than that: encoded text with spaces and "?" is met often.
# The possessive forms keep it from looking for another end than the first.
_WORD: Final = re.compile(rb"=\?([^? \t]*)\?([BbQq])\?([^?]*+(?:\?(?!=)[^?]*+)*+)\?=")
_FOLD: Final = re.compile(rb"\r?\n(?=[ \t])")
_LINE_END: Final = re.compile(rb"[\r\n]+")
_NOT_BASE64: Final = re.compile(rb"[^A-Za-z0-9+/]+")
_NOT_NAME: Final = re.compile(r"[^a-z0-9]+")

_GUESS: Final = ""
"""Stands for the codec of text whose charset is missing or unknown."""

# Python's own names and aliases, without punctuation: "cp-850", "CP850" and "cp_850" are all meant to be the same.
# Charsets of which the modules have no alias are added, and those that are no charsets are left out.
_NOT_CHARSETS: Final = frozenset(
    "base64_codec bz2_codec hex_codec mbcs oem quopri_codec rot_13 uu_codec zlib_codec".split()
)
_WITHOUT_ALIAS: Final = (
    "cp720 cp737 cp856 cp874 cp875 cp1006 koi8_t koi8_u mac_arabic mac_croatian mac_farsi mac_romanian".split()
)
_MEANT: Final = {
    # What is declared: what senders mean by it, always a superset.
    "ascii": _GUESS,
    "big5": "cp950",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "iso2022_jp": "iso2022_jp_ext",
    "latin_1": "cp1252",
    "shift_jis": "cp932",
}
_MORE_NAMES: Final = {
    "ansix34": _GUESS,
    "big5eten": "cp950",
    "cp51932": "euc_jp",
    "cp50220": "iso2022_jp_ext",
    "iso10646ucs2": "utf_16_be",
    "iso885911": "cp874",
    "iso88596e": "iso8859_6",
    "iso88596i": "iso8859_6",
    "iso88598e": "iso8859_8",
    "iso88598i": "iso8859_8",
    "ksc5601": "cp949",
    "ksc56011989": "cp949",
    "logical": "iso8859_8",
    "tis620": "cp874",
    "unicode11utf7": "utf_7",
    "unicode11utf8": "utf_8",
    "unicode20utf7": "utf_7",
    "unicode20utf8": "utf_8",
    "unicodeutf8": "utf_8",
    "utf8mb4": "utf_8",
    "visual": "iso8859_8",
    "win1250": "cp1250",
    "win1251": "cp1251",
    "win1252": "cp1252",
    "windows874": "cp874",
    "windows932": "cp932",
    "windows936": "gb18030",
    "windows949": "cp949",
    "windows950": "cp950",
}
_CODECS: Final = {
    name.replace("_", ""): _MEANT.get(codec, codec)
    for alias, codec in (*aliases.items(), *((name, name) for name in _WITHOUT_ALIAS))
    if codec not in _NOT_CHARSETS
    for name in (alias, codec)
} | _MORE_NAMES

# The spellings seen so far. Mail brings a handful; the bounds are for mail that tries to fill the memory.
_SEEN: dict[bytes, str] = {}
_MAX_SEEN: Final = 512
_MAX_NAME_BYTES: Final = 40


def decode_header(raw: bytes) -> str:
    """Decode the value of a header field, or a display name, into text.

    Encoded words are decoded, white space between two of them is dropped, and neighbours of one charset are joined
    before decoding, because senders split characters over them. Folded lines are unfolded, other line ends become a
    space. What is not encoded is read as UTF-8 if it is that, else as ISO-8859-1; bad bytes become U+FFFD.

    Args:
        raw: The value as it is in the message, or in ENVELOPE without quotes and literal marker.
    """
    text = _plain(raw)
    # On str `in` is eight times faster than on bytes, and most headers end here.
    if "\n" in text or "\r" in text:
        raw = _LINE_END.sub(b" ", _FOLD.sub(b"", raw))
        text = _plain(raw)
    return _decode_words(raw) if "=?" in text else text


def _decode_words(raw: bytes) -> str:
    """Decode one line with something in it that looks like an encoded word."""
    # Beyond the last "?=" no word can end. To look for one there, from every "=?", would take quadratic time.
    end = raw.rfind(b"?=") + 2
    # Plain text, then for each word: charset, encoding, encoded text, the plain text that follows.
    parts = _WORD.split(raw[:end])
    parts[-1] += raw[end:]
    text: list[str] = [_plain(parts[0])] if parts[0] else []
    joined: list[bytes] = []
    codec = ""
    last = len(parts) - 4
    for index in range(1, len(parts), 4):
        charset, encoding, encoded, after = parts[index : index + 4]
        found = _SEEN.get(charset)
        if found is None:
            found = _find_codec(charset)
        if found != codec and joined:
            text.append(_decode(b"".join(joined), codec))
            joined.clear()
        codec = found
        joined.append(a2b_qp(encoded, header=True) if encoding == b"Q" or encoding == b"q" else _decode_base64(encoded))
        if after and (index == last or not after.isspace()):
            text.append(_decode(b"".join(joined), codec))
            joined.clear()
            text.append(_plain(after))
    if joined:
        text.append(_decode(b"".join(joined), codec))
    return "".join(text)


def _plain(data: bytes) -> str:
    """Decode text of which no charset is known. ASCII is the fast case of UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _decode(data: bytes, codec: str) -> str:
    if not codec:
        return _plain(data)
    text = data.decode(codec, "replace")
    if codec == "utf_7":
        # The one codec that lets half a surrogate pair through.
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _decode_base64(encoded: bytes) -> bytes:
    """Decode the B encoding (RFC 2047 §4.1), with padding or without; characters that are not base64 are dropped."""
    try:
        return a2b_base64(encoded)
    except Base64Error:
        kept = _NOT_BASE64.sub(b"", encoded)
        # One character more than whole groups was cut short on its way.
        whole = kept[:-1] if len(kept) % 4 == 1 else kept
        return a2b_base64(whole + b"=" * (-len(whole) % 4))


def _find_codec(charset: bytes) -> str:
    """Find the codec of a charset name, with a language after it perhaps (RFC 2231 §5: `utf-8*en`)."""
    name = charset.partition(b"*")[0].decode("ascii", "replace").lower()
    flat = _NOT_NAME.sub("", name)
    codec = _CODECS.get(flat) or _CODECS.get(flat.removeprefix("x"), _GUESS)
    if len(charset) <= _MAX_NAME_BYTES:
        if len(_SEEN) >= _MAX_SEEN:
            _SEEN.clear()
        _SEEN[charset] = codec
    return codec
