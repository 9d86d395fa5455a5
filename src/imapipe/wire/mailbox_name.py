r"""Mailbox names on the wire: modified UTF-7 (RFC 3501 §5.1.3), or UTF-8 once UTF8=ACCEPT is enabled (RFC 6855 §3).

Invariants:

- Every name a server sends can be sent back: `encode_mailbox_name(decode_mailbox_name(raw))` is `raw`, quoted, for
  any bytes at all but CR, LF and NUL, which no command may carry. (INBOX in another spelling comes back as INBOX.)
- A name is shown as people read it, also where a server spells it otherwise than the standard says (raw UTF-8,
  unusual base64, a lone `&`): then it is a `MailboxName`, text that knows its spelling.
- What cannot be read (other 8-bit bytes, control characters), or reads like another name of the same list, keeps the
  first promise by escapes: byte *b* becomes the private-use character U+F700 + *b*. Such a name can be printed and put
  into JSON, which is why these are not the surrogates that Python uses for file names.
- Nothing here returns bytes that hold CR, LF or NUL.
"""

from __future__ import annotations

import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable
from typing import Final, Self

_ESCAPE: Final = 0xF700

_FORBIDDEN: Final = re.compile(rb"[\x00\r\n]")
_FORBIDDEN_TEXT: Final = re.compile(r"[\x00\r\n]")
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_QUOTED_SPECIALS: Final = re.compile(rb'["\\]')
_ESCAPES: Final = re.compile("[\uf700-\uf7ff]")
_UNREADABLE: Final = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\uf700-\uf7ff]")
_NOT_PLAIN: Final = re.compile("[\uf700-\uf7ff]|&|[^ -~\uf700-\uf7ff]+")
_LOOSE_SHIFT: Final = re.compile("&([A-Za-z0-9+,/]*+=*+)(-?)")
_BASE64: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,"
# What the last digit can be, by the number of bits that are left over: those are 0.
_LAST_DIGITS: Final = {0: _BASE64, 2: _BASE64[::4], 4: _BASE64[::16]}
_SHIFT: Final = re.compile("&([A-Za-z0-9+,]*)-")


class MailboxName(str):
    """The name of a mailbox that its server spells in its own way; equal to the same text without a spelling.

    What is told of a mailbox (reports, messages) has the text alone, which some libraries want for keys. Whoever opens
    a mailbox by the text alone is led to the spelling by `net.learned`.

    Attributes:
        raw: The name as it is on the wire, in modified UTF-7 or what its server takes for it.
    """

    __slots__ = ("raw",)

    raw: bytes

    def __new__(cls, name: str, raw: bytes) -> Self:
        """Make text with a spelling."""
        made = super().__new__(cls, name)
        made.raw = raw
        return made

    def __reduce__(self) -> tuple[type[MailboxName], tuple[str, bytes]]:
        return MailboxName, (str(self), self.raw)

    def __str__(self) -> str:
        return "".join(self)


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


def can_be_mailbox_name(name: str) -> bool:
    """Whether a server can be asked for it: it is not empty, and holds no CR, LF, NUL or half a surrogate pair.

    What a server told can always be asked for: its raw name goes back.
    """
    if not name or _FORBIDDEN_TEXT.search(name):
        return False
    return isinstance(name, MailboxName) or not _SURROGATES.search(name)


def encode_mailbox_name(name: str, *, utf8: bool = False) -> bytes:
    """Write the name of a mailbox as a command argument: always quoted, INBOX in capitals.

    Args:
        name: The name with the hierarchy separators of the server, as `decode_mailbox_name` returned it.
        utf8: Whether UTF8=ACCEPT is enabled on the connection; the name goes out as UTF-8 then.

    Raises:
        ValueError: CR, LF or NUL in the name, or half a surrogate pair.
    """
    if isinstance(name, MailboxName) and not utf8:
        return quote(name.raw)
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

    Returns:
        The name; a `MailboxName` where it is spelled otherwise than `encode_mailbox_name` writes it.
    """
    try:
        name = _from_utf8(raw) if utf8 else _from_utf7(raw)
    except ValueError:
        readable = None if utf8 else _readable(raw)
        if readable is not None:
            return MailboxName(readable, raw)
        name = _escape(raw, keep_ampersand=utf8)
    return _inbox(name)


def decode_mailbox_names(raws: Iterable[bytes], *, utf8: bool = False) -> dict[bytes, str]:
    """Read the names of one list, no two of them alike.

    Where two mailboxes read the same, the one that is spelled as the standard says has the name, and each other one
    is shown with escapes.

    Args:
        raws: The names as they came.
        utf8: Whether UTF8=ACCEPT is enabled on the connection.
    """
    names = {raw: decode_mailbox_name(raw, utf8=utf8) for raw in raws}
    owners: dict[str, bytes] = {}
    for raw in sorted(names, key=lambda raw: isinstance(names[raw], MailboxName)):
        owners.setdefault(names[raw], raw)
    return {
        raw: name if owners[name] == raw or not isinstance(name, MailboxName) else _escape(raw, keep_ampersand=utf8)
        for raw, name in names.items()
    }


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


def _readable(raw: bytes) -> str | None:
    """Read a name that is spelled in an unusual way; None where nobody could read it.

    Raw UTF-8 stands for itself, base64 need not be the shortest, and `&` without base64 behind it is an ampersand.
    """
    try:
        name = _LOOSE_SHIFT.sub(_unshift_loosely, raw.decode())
        name.encode()
    except UnicodeError:
        return None
    return None if _UNREADABLE.search(name) or _inbox(name) == "INBOX" else name


def _unshift_loosely(match: re.Match[str]) -> str:
    encoded, end = match[1].rstrip("="), match[2]
    if not encoded:
        return "&" if end else match[0]
    bits = len(encoded) * 6 % 16
    try:
        data = a2b_base64(encoded.replace(",", "/") + "=" * (-len(encoded) % 4))
    except ValueError:
        return match[0]
    # Without its end it is only taken for base64 when nothing is left over.
    if len(encoded) < 3 or bits >= 6 or (not end and encoded[-1] not in _LAST_DIGITS[bits]):
        return match[0]
    return data[: len(data) // 2 * 2].decode("utf-16-be")


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
