"""Charsets: one table of what senders call them and what they mean, for headers and bodies alike.

The names are Python's own, those of the Encoding Standard, and spellings met in mail; what is declared is read as the
superset that senders really mean (iso-8859-1 as windows-1252, gb2312 as gb18030 …), as the Encoding Standard does.

Invariants:

- No function raises, whatever the name or the bytes, and no text that comes out holds a surrogate.
- Only the codecs of the table are ever looked up. A name from a mail never reaches Python's codec registry, which
  remembers every name for ever and knows codecs that are no charsets (idna, unicode_escape, hex).
- Time is linear in the length of the data.
"""

from __future__ import annotations

import re
from codecs import charmap_decode, register_error
from encodings.aliases import aliases
from typing import Final

GUESS: Final = ""
"""Stands for the codec of text whose charset is missing or unknown."""

WINDOWS_1252: Final = "cp1252"

# Python's own names and aliases, without punctuation: "cp-850", "CP850" and "cp_850" are all meant to be the same.
# Charsets of which the modules have no alias are added, and those that are no charsets are left out.
_NOT_CHARSETS: Final = frozenset(
    "base64_codec bz2_codec hex_codec mbcs oem quopri_codec rot_13 tactis uu_codec zlib_codec".split()
)
_WITHOUT_ALIAS: Final = (
    "cp720 cp737 cp856 cp874 cp875 cp1006 koi8_t koi8_u mac_arabic mac_croatian mac_farsi mac_romanian".split()
)
_MEANT: Final = {
    # What is declared: what senders mean by it, always a superset.
    "ascii": GUESS,
    "big5": "cp950",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "iso2022_jp": "iso2022_jp_ext",
    "iso8859_9": "cp1254",
    "latin_1": WINDOWS_1252,
    "shift_jis": "cp932",
}
_MORE_NAMES: Final = {
    "ansix34": GUESS,
    "big5eten": "cp950",
    "chinese": "gb18030",
    "cnbig5": "cp950",
    "cngb": "gb18030",
    "cp50220": "iso2022_jp_ext",
    "cp50221": "iso2022_jp_ext",
    "cp50222": "iso2022_jp_ext",
    "cp51932": "euc_jp",
    "cp51949": "cp949",
    "csbig5": "cp950",
    "cseuckr": "cp949",
    "cseucpkdfmtjapanese": "euc_jp",
    "csgb2312": "gb18030",
    "csibm866": "cp866",
    "csisolatingreek": "iso8859_7",
    "csiso88596e": "iso8859_6",
    "csiso88596i": "iso8859_6",
    "csiso88598e": "iso8859_8",
    "csiso88598i": "iso8859_8",
    "csisolatin9": "iso8859_15",
    "cskoi8r": "koi8_r",
    "csksc56011987": "cp949",
    "csmacintosh": "mac_roman",
    "csshiftjis": "cp932",
    "csunicode": "utf_16_le",
    "gb231280": "gb18030",
    "hzgb2312": "hz",
    "iso10646ucs2": "utf_16_be",
    "iso2022cn": GUESS,
    "isoir149": "cp949",
    "iso885911": "cp874",
    "iso88596e": "iso8859_6",
    "iso88596i": "iso8859_6",
    "iso88598e": "iso8859_8",
    "iso88598i": "iso8859_8",
    "isolatin1": WINDOWS_1252,
    "isolatin2": "iso8859_2",
    "isolatin9": "iso8859_15",
    "koi": "koi8_r",
    "koi8": "koi8_r",
    "koi8ru": "koi8_u",
    "ksc5601": "cp949",
    "ksc56011989": "cp949",
    "logical": "iso8859_8",
    "maccentraleurope": "mac_latin2",
    "macce": "mac_latin2",
    "macukrainian": "mac_cyrillic",
    "mskanji": "cp932",
    "suneugreek": "iso8859_7",
    "tis620": "cp874",
    "ucs2": "utf_16_le",
    "unicode": "utf_16_le",
    "unicode11utf7": "utf_7",
    "unicode11utf8": "utf_8",
    "unicode20utf7": "utf_7",
    "unicode20utf8": "utf_8",
    "unicodefeff": "utf_16_le",
    "unicodefffe": "utf_16_be",
    "unicodeutf8": "utf_8",
    "utf8mb4": "utf_8",
    "visual": "iso8859_8",
    "win1250": "cp1250",
    "win1251": "cp1251",
    "win1252": WINDOWS_1252,
    "windows31j": "cp932",
    "windows874": "cp874",
    "windows932": "cp932",
    "windows936": "gb18030",
    "windows949": "cp949",
    "windows950": "cp950",
    "xbig5": "cp950",
}
_CODECS: Final = {
    name.replace("_", ""): _MEANT.get(codec, codec)
    for alias, codec in (*aliases.items(), *((name, name) for name in _WITHOUT_ALIAS))
    if codec not in _NOT_CHARSETS
    for name in (alias, codec)
} | _MORE_NAMES

# Pages by number, whoever they are said to be of: dos-862, IBM-850, windows-1251, ms936, cp0437.
_PAGE: Final = re.compile(r"(?:dos|ibm|cp|windows|win|msdos|ms|oem|codepage|ccsid)0*(\d{3,5})")
_ISO: Final = re.compile(r"(?:iso)?8859(?:part)?0*(\d{1,2})(?:19\d\d)?[ie]?")
# What stands around a name by mistake: `charset="charset=utf-8"`, a quoted-printable `=3D"utf-8"`.
_AROUND: Final = re.compile(r"(?:charset|3d|cs|x)+(?=[a-z])")
_NOT_NAME: Final = re.compile(r"[^a-z0-9]+")

_JAPANESE: Final = frozenset(
    {"euc_jp", "iso2022_jp_1", "iso2022_jp_2", "iso2022_jp_2004", "iso2022_jp_3", "iso2022_jp_ext"}
)
# NEC's special characters, and IBM's as NEC placed them.
_VENDOR_ROWS: Final = frozenset({0x2D, 0x79, 0x7A, 0x7B, 0x7C})
_MAX_VENDOR_BYTES: Final = 128 * 1024
_MAX_VENDOR_CHARACTERS: Final = 5000
# The names of our error handlers.
_VENDOR: Final = "imapipe.vendor"
_VENDOR_REPLACE: Final = "imapipe.vendor-replace"

KNOWN: Final[dict[bytes, str]] = {}
"""The spellings seen so far. Mail brings a handful; the bounds are for mail that tries to fill the memory."""

_MAX_KNOWN: Final = 512
_MAX_NAME_BYTES: Final = 40

# windows-1252 as the Encoding Standard has it: its five gaps are the control characters of ISO-8859-1.
_WINDOWS_1252: Final = "".join(
    bytes([code]).decode(WINDOWS_1252, "ignore") or bytes([code]).decode("latin-1") for code in range(256)
)


def find_codec(charset: bytes) -> str:
    """Find the codec of a charset name as it stands in a mail; `GUESS` where it names none.

    A language may follow it (RFC 2231 §5: `utf-8*en`), and case and punctuation do not count.
    """
    found = KNOWN.get(charset)
    if found is not None:
        return found
    name = charset[: 2 * _MAX_NAME_BYTES].partition(b"*")[0].decode("ascii", "replace").lower()
    codec = _codec_of(_NOT_NAME.sub("", name))
    if len(charset) <= _MAX_NAME_BYTES:
        if len(KNOWN) >= _MAX_KNOWN:
            KNOWN.clear()
        KNOWN[charset] = codec
    return codec


def _codec_of(flat: str) -> str:
    around = _AROUND.match(flat)
    for name in (flat, flat.removeprefix("x"), flat[around.end() :] if around else ""):
        codec = _CODECS.get(name)
        if codec is not None:
            return codec
    page = _PAGE.fullmatch(flat.removeprefix("x"))
    if page is not None:
        for name in (f"cp{page[1]}", f"windows{page[1]}"):
            codec = _CODECS.get(name)
            if codec is not None:
                return codec
    iso = _ISO.fullmatch(flat.removeprefix("x"))
    if iso is not None:
        return _CODECS.get(f"iso8859{iso[1]}", GUESS)
    # `utf-8-unix`, `utf8_bin` and their like.
    return "utf_8" if flat.startswith("utf8") else GUESS


def decode_plain(data: bytes) -> str:
    """Decode text of which no charset is known: UTF-8 if it is that, else windows-1252. Never U+FFFD."""
    # ASCII is the fast case of UTF-8.
    try:
        return data.decode()
    except UnicodeDecodeError:
        return charmap_decode(data, "strict", _WINDOWS_1252)[0]


def decode_charset(data: bytes, codec: str) -> str:
    """Decode text with a codec that `find_codec` gave; what it cannot decode becomes U+FFFD."""
    if not codec:
        return decode_plain(data)
    if codec == WINDOWS_1252:
        return charmap_decode(data, "strict", _WINDOWS_1252)[0]
    text = data.decode(codec, "replace")
    if codec in _JAPANESE and "\ufffd" in text and _may_have_vendor_characters(data, text):
        text = data.decode(codec, _VENDOR_REPLACE)
    return _without_surrogates(text) if codec == "utf_7" else text


def decode_strictly(data: bytes, codec: str) -> str | None:
    """Decode text with a codec of the table, or None where it does not decode."""
    if codec == WINDOWS_1252:
        return charmap_decode(data, "strict", _WINDOWS_1252)[0]
    try:
        text = data.decode(codec)
    except UnicodeError:
        return _decode_with_vendor_characters(data, codec)
    return _without_surrogates(text) if codec == "utf_7" else text


def _decode_with_vendor_characters(data: bytes, codec: str) -> str | None:
    """Decode what may be Japanese with characters that Python's codecs lack; None where it is something else."""
    if codec not in _JAPANESE or not _may_have_vendor_characters(data, data.decode(codec, "replace")):
        return None
    try:
        return data.decode(codec, _VENDOR)
    except UnicodeDecodeError:
        return None


def _may_have_vendor_characters(data: bytes, text: str) -> bool:
    """Whether to look for them, at the cost of a call for each: in text as large as mail, where they are few."""
    return len(data) <= _MAX_VENDOR_BYTES and text.count("\ufffd") <= _MAX_VENDOR_CHARACTERS


def _vendor_character(error: UnicodeError) -> tuple[str, int]:
    """A character of NEC's and IBM's rows of JIS X 0208, which Python's codecs do not have and all mailers do.

    Circled and Roman digits, units, and names with rare kanji are there. An error handler of `codecs`.
    """
    if isinstance(error, UnicodeDecodeError):
        row, cell = (byte & 0x7F for byte in error.object[error.start : error.start + 2].ljust(2))
        if row in _VENDOR_ROWS and 0x21 <= cell <= 0x7E:
            # The same place in Shift JIS.
            lead = (row - 0x21) // 2 + 0x81
            trail = cell + (0x1F + (cell >= 0x60) if row % 2 else 0x7E)
            pair = bytes((lead + 0x40 if lead > 0x9F else lead, trail))
            text = pair.decode("cp932", "replace")
            # The rows have holes.
            if len(text) == 1 and text != "\ufffd":
                return text, error.start + 2
    raise error


def _vendor_character_or_mark(error: UnicodeError) -> tuple[str, int]:
    """The same, and U+FFFD for what is none."""
    try:
        return _vendor_character(error)
    except UnicodeDecodeError as other:
        return "\ufffd", other.end


register_error(_VENDOR, _vendor_character)
register_error(_VENDOR_REPLACE, _vendor_character_or_mark)


def _without_surrogates(text: str) -> str:
    """Replace half surrogate pairs: UTF-7 is the one codec that lets them through."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
