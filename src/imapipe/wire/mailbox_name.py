"""Mailbox names on the wire: modified UTF-7 (RFC 3501 §5.1.3), or UTF-8 once UTF8=ACCEPT is enabled (RFC 6855 §3).

Invariants:

- Every name a server sends can be sent back: `encode_mailbox_name(decode_mailbox_name(raw))` is `raw`, quoted, for
  any bytes at all but CR, LF and NUL, which no command may carry. (INBOX in another spelling comes back as INBOX.)
- A name that is not what the standard says (raw 8-bit, broken or unusual base64, control characters) keeps that
  promise by escapes: byte *b* becomes the private-use character U+F700 + *b*. Such a name can be printed and put
  into JSON, which is why these are not the surrogates that Python uses for file names.
- Nothing here returns bytes that hold CR, LF or NUL.
"""

from __future__ import annotations

import re
from binascii import a2b_base64, b2a_base64
from typing import Final

_ESCAPE: Final = 0xF700

_FORBIDDEN: Final = re.compile(rb"[\x00\r\n]")
_FORBIDDEN_TEXT: Final = re.compile(r"[\x00\r\n]")
_QUOTED_SPECIALS: Final = re.compile(rb'["\\]')
_ESCAPES: Final = re.compile("[\uf700-\uf7ff]")
_NOT_PLAIN: Final = re.compile("[\uf700-\uf7ff]|&|[^ -~\uf700-\uf7ff]+")
_SHIFT: Final = re.compile("&([A-Za-z0-9+,]*)-")


def quote(value: str | bytes) -> bytes:
    r"""Write a quoted string: production `quoted` of RFC 9051 §9, with `"` and `\` escaped.

    Args:
        value: Text is written as UTF-8; a server takes more than ASCII here only after ENABLE UTF8=ACCEPT or
            IMAP4rev2.

    Raises:
        ValueError: CR, LF or NUL, which a quoted string cannot hold, or half a surrogate pair.
    """
    data = value.encode() if isinstance(value, str) else value
    if _FORBIDDEN.search(data):
        raise ValueError("CR, LF and NUL cannot stand in a quoted string; remove them")
    return b'"' + _QUOTED_SPECIALS.sub(rb"\\\g<0>", data) + b'"'


def encode_mailbox_name(name: str, *, utf8: bool = False) -> bytes:
    """Write the name of a mailbox as a command argument: always quoted, INBOX in capitals.

    Args:
        name: The name with the hierarchy separators of the server, as `decode_mailbox_name` returned it.
        utf8: Whether UTF8=ACCEPT is enabled on the connection; the name goes out as UTF-8 then.

    Raises:
        ValueError: CR, LF or NUL in the name, or half a surrogate pair.
    """
    name = _inbox(name)
    try:
        raw = _to_utf8(name) if utf8 else _to_utf7(name)
    except UnicodeEncodeError:
        raise ValueError("the name of a mailbox holds half a surrogate pair, which stands for no character") from None
    # The escapes could smuggle them in; in UTF-7 the characters themselves would be encoded.
    if _FORBIDDEN.search(raw) or _FORBIDDEN_TEXT.search(name):
        raise ValueError("CR, LF and NUL cannot stand in the name of a mailbox; remove them")
    return quote(raw)


def decode_mailbox_name(raw: bytes, *, utf8: bool = False) -> str:
    """Read the name of a mailbox out of a response (LIST, STATUS, NAMESPACE); never raises.

    Args:
        raw: The name without quotes, escapes or literal marker.
        utf8: Whether UTF8=ACCEPT is enabled on the connection.
    """
    try:
        name = _from_utf8(raw) if utf8 else _from_utf7(raw)
    except ValueError:
        name = _escape(raw, keep_ampersand=utf8)
    return _inbox(name)


def _inbox(name: str) -> str:
    """INBOX is the one name whose case does not matter (RFC 9051 §5.1)."""
    # isascii(): "ı", the dotless i, has the same capital.
    return "INBOX" if len(name) == 5 and name.isascii() and name.upper() == "INBOX" else name


def _to_utf7(name: str) -> bytes:
    return _NOT_PLAIN.sub(_shift, name).encode("latin-1")


def _shift(match: re.Match[str]) -> str:
    found = match[0]
    if found == "&":
        return "&-"
    if _ESCAPES.match(found):
        return chr(ord(found) - _ESCAPE)
    encoded = b2a_base64(found.encode("utf-16-be"), newline=False).rstrip(b"=").replace(b"/", b",")
    return f"&{encoded.decode('ascii')}-"


def _from_utf7(raw: bytes) -> str:
    """Decode what is exactly what `_to_utf7` would write.

    Raises:
        ValueError: It is something else: 8-bit, bad base64, a line end, or another spelling of the same name, as
            servers tell mailboxes apart by spelling.
    """
    name = _SHIFT.sub(_unshift, raw.decode("ascii"))
    if _to_utf7(name) != raw or _FORBIDDEN_TEXT.search(name):
        raise ValueError("not what encode_mailbox_name writes")
    return name


def _unshift(match: re.Match[str]) -> str:
    encoded = match[1]
    if not encoded:
        return "&"
    return a2b_base64(encoded.replace(",", "/") + "=" * (-len(encoded) % 4)).decode("utf-16-be")


def _to_utf8(name: str) -> bytes:
    if not _ESCAPES.search(name):
        return name.encode()
    # Between the escapes stand whole characters, so each part can be encoded for itself.
    return b"".join(
        bytes((ord(part) - _ESCAPE,)) if _ESCAPES.match(part) else part.encode()
        for part in re.split("([\uf700-\uf7ff])", name)
        if part
    )


def _from_utf8(raw: bytes) -> str:
    """Decode UTF-8 without our escapes in it; ValueError otherwise."""
    name = raw.decode()
    if _ESCAPES.search(name):
        raise ValueError("the private-use characters of the escapes")
    return name


def _escape(raw: bytes, *, keep_ampersand: bool) -> str:
    """Escape every byte that the encoder would not write as it is."""
    kept = range(0x20, 0x7F)
    return "".join(
        chr(byte) if byte in kept and (keep_ampersand or byte != 0x26) else chr(_ESCAPE + byte) for byte in raw
    )
