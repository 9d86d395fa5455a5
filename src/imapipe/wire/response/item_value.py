"""What the simple items of a FETCH mean (RFC 9051 §7.5.2, `msg-att`): from the text and one span of it to a value.

`fetch.scan_fetch` gives the spans; `envelope` and `body_structure` read the items that have a structure. An empty span
is a value that the server left out, and reads as NIL.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from imapipe.errors import ProtocolError
from imapipe.wire import date
from imapipe.wire.mailbox_name import decode_mailbox_name
from imapipe.wire.response.literal import Literal, literal_bytes
from imapipe.wire.response.token import Cursor, ItemSpan, loose_number, malformed, split_words, unquote

_MAX_NUMBER: Final = 2**63 - 1

# Flags repeat with every message, and equal sets are then one object. The table is bounded, and holds no long ones.
_FLAG_SETS: dict[bytes, frozenset[str]] = {b"()": frozenset()}
_MAX_FLAG_SETS: Final = 4096
_SHORT_BYTES: Final = 1024

MAX_FLAGS_BYTES: Final = 32 * 1024
"""No message has longer flags: they are read whenever somebody asks for them."""
_SYSTEM_FLAGS: Final = {
    flag.lower(): flag for flag in ("\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft", "\\Recent")
}


def parse_flags(text: bytes, span: ItemSpan) -> frozenset[str]:
    """FLAGS: the system flags in their usual spelling, keywords as the server spells them.

    Raises:
        ProtocolError: It is no list of flags.
    """
    return flags_of(text[span[0] : span[1]])


def flags_of(raw: bytes) -> frozenset[str]:
    """The flags of a parenthesised list, given with its parentheses.

    Raises:
        ProtocolError: It is no list of flags.
    """
    known = _FLAG_SETS.get(raw)
    if known is not None:
        return known
    if len(raw) > MAX_FLAGS_BYTES:
        raise malformed("flags of a usual size were expected", raw, 0)
    flags: set[str] = set()
    for flag in _flag_words(raw) if raw else ():
        decoded = flag.decode("utf-8", "replace")
        flags.add(_SYSTEM_FLAGS.get(decoded.lower(), decoded))
    if len(raw) > _SHORT_BYTES:
        return frozenset(flags)
    if len(_FLAG_SETS) >= _MAX_FLAG_SETS:
        _FLAG_SETS.clear()
    return _FLAG_SETS.setdefault(raw, frozenset(flags))


def _flag_words(raw: bytes) -> list[bytes]:
    """The words of a list of flags; parentheses and quotes in a flag (`$Label(1)`) are part of it.

    None is empty or has a space in it, since flags are kept with spaces between them: several may stand in quotes.
    """
    cursor = Cursor(raw)
    try:
        words = cursor.atoms()
        if cursor.at_end():
            return [flag for word in words for flag in word.split(b" ") if flag]
    except ProtocolError:
        if raw[:1] != b"(" or raw[-1:] != b")":
            raise
    return split_words(raw[1:-1])


def parse_number(text: bytes, span: ItemSpan) -> int:
    """A number, as BINARY.SIZE and X-GM-MSGID have it; what is negative or NIL is 0.

    Raises:
        ProtocolError: It is no number.
    """
    raw = text[span[0] : span[1]]
    number = loose_number(raw)
    if number is not None:
        return number
    if raw and raw.upper() != b"NIL":
        raise malformed("a number was expected", text, span[0])
    return 0


def is_readable(name: str, text: bytes, span: ItemSpan) -> bool:
    """Whether a simple item has a value of its kind; of all others it is not asked here."""
    try:
        if name == "RFC822.SIZE":
            parse_size(text, span)
        elif name == "MODSEQ":
            parse_modseq(text, span)
        elif name == "FLAGS":
            parse_flags(text, span)
    except ProtocolError:
        return False
    return True


def parse_size(text: bytes, span: ItemSpan) -> int:
    """RFC822.SIZE in bytes, at most 2^63-1. Advisory: Exchange is wrong by a factor of three.

    Raises:
        ProtocolError: It is no number.
    """
    return min(parse_number(text, span), _MAX_NUMBER)


def parse_modseq(text: bytes, span: ItemSpan) -> int:
    """MODSEQ (RFC 7162 §7, `fetch-mod-resp`), at most 2^63-1; -1 (Zoho) is 0.

    Raises:
        ProtocolError: It is no number.
    """
    raw = text[span[0] : span[1]].strip(b"() ")
    number = loose_number(raw)
    if number is None and raw and raw.upper() != b"NIL":
        raise malformed("a MODSEQ was expected", text, span[0])
    return min(number or 0, _MAX_NUMBER)


def parse_internal_date(text: bytes, span: ItemSpan) -> datetime | None:
    """INTERNALDATE, aware; None when it is no date, such as `00-Jan-0000`."""
    return date.parse_internal_date(text[span[0] : span[1]])


def parse_savedate(text: bytes, span: ItemSpan) -> datetime | None:
    """SAVEDATE (RFC 8514 §4.3): when the message came into this mailbox; None when the mailbox does not know."""
    return date.parse_internal_date(text[span[0] : span[1]])


def parse_body(text: bytes, literals: Sequence[Literal], span: ItemSpan) -> Literal | None:
    """The value of BODY[…], BINARY[…] or RFC822 …: `nstring` or `literal8`. None for NIL or a value left out.

    A literal is handed out as it is, so a spooled one stays outside memory.

    Raises:
        ProtocolError: It is no string.
    """
    start, end, index = span
    first = text[start : start + 1]
    if first in (b"{", b"~"):
        if index >= len(literals):
            raise malformed("a literal is missing", text, start)
        return literals[index]
    if first == b'"':
        return unquote(text[start:end])
    if start == end or text[start:end].upper() == b"NIL":
        return None
    raise malformed("a string or NIL was expected", text, start)


def parse_gmail_labels(text: bytes, literals: Sequence[Literal], span: ItemSpan) -> tuple[str, ...]:
    r"""X-GM-LABELS: names in Gmail's order, as it shows them; system labels with a backslash, such as `\Inbox`.

    Raises:
        ProtocolError: It is no list of strings.
    """
    start, end, index = span
    labels = Cursor(text, start, literals, index).atoms() if start < end else []
    return tuple([decode_mailbox_name(label) for label in labels])


def parse_email_id(text: bytes, span: ItemSpan) -> str | None:
    """EMAILID or THREADID (RFC 8474 §5.3, `objectid`); None for NIL."""
    raw = text[span[0] : span[1]].strip(b'()" ')
    return None if not raw or raw.upper() == b"NIL" else raw.decode("ascii", "replace")


def parse_preview(text: bytes, literals: Sequence[Literal], span: ItemSpan) -> str | None:
    """PREVIEW (RFC 8970 §3.2): the beginning of the message as text; None when the server has none.

    Raises:
        ProtocolError: It is no string.
    """
    value = parse_body(text, literals, span)
    return None if value is None else literal_bytes(value).decode("utf-8", "replace")
