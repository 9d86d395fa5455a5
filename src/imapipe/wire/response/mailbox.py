"""Responses about mailboxes: LIST, STATUS, NAMESPACE (RFC 9051 §7.3, production `mailbox-data`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from imapipe.errors import ProtocolError
from imapipe.wire.response.code import MAX_NUMBER, MAX_NUMBER64
from imapipe.wire.response.literal import literal_bytes
from imapipe.wire.response.token import MAX_WORDS, Cursor, Value, loose_number, split_words, value_end

# Attributes have no case; these are written in the usual one, others as the server writes them.
_ATTRIBUTES: Final = {
    attribute.lower(): attribute
    for attribute in (
        r"\Noselect \NonExistent \Noinferiors \HasChildren \HasNoChildren \Marked \Unmarked \Subscribed \Remote"
        r" \All \Archive \Drafts \Flagged \Important \Junk \Sent \Trash"
    ).split()
}


_NOT_ZERO: Final = frozenset(("UIDNEXT", "UIDVALIDITY"))
_SHORT_NUMBERS: Final = frozenset(("MESSAGES", "RECENT", "UIDNEXT", "UNSEEN", "DELETED"))
# What separates names is no letter and no digit, and stands alone.
_BARE_DELIMITER: Final = re.compile(rb"([^A-Za-z0-9 ()\"{\r\n\x80-\xff])(?= )")
# How the list behind a name begins (production `mbox-list-extended`), where the name is one word without quotes.
_EXTENDED: Final = re.compile(rb"\( ?(?:\"|CHILDINFO|OLDNAME|\))", re.IGNORECASE)
_ATTRIBUTES_END: Final = re.compile(rb"\)(?= +(?:\"[^\"\\]\"|\"\\\\?\"|NIL|[^A-Za-z0-9 ()\"]) )", re.IGNORECASE)


class ListItem(NamedTuple):
    r"""A mailbox in the answer to LIST or LSUB (RFC 9051 §7.3.1).

    Attributes:
        attributes: Such as `\Noselect` and `\Sent`.
        delimiter: What separates the levels of the name; None when there are none.
        name: The name as it is on the wire: modified UTF-7, or UTF-8 where that is enabled.
        child_info: CHILDINFO: why a mailbox is listed only for its children (RFC 5258 §4).
        old_name: OLDNAME: the name it had, or the one that was asked for (RFC 9051 §6.3.9.7).
    """

    attributes: frozenset[str]
    delimiter: str | None
    name: bytes
    child_info: frozenset[str] = frozenset()
    old_name: bytes | None = None


@dataclass(frozen=True, slots=True)
class MailboxStatus:
    """The answer to STATUS (RFC 9051 §7.3.4).

    Attributes:
        name: The name as it is on the wire.
        values: `MESSAGES`, `UIDNEXT`, `SIZE` … to a number, where it is none that the RFCs forbid; `MAILBOXID` to its
            text.
    """

    name: bytes
    values: Mapping[str, int | str] = field(default_factory=dict)


class NamespacePrefix(NamedTuple):
    """Where a namespace begins: the prefix of its names as on the wire, and its delimiter."""

    prefix: bytes
    delimiter: str | None


class Namespace(NamedTuple):
    """The answer to NAMESPACE (RFC 9051 §7.3.2)."""

    personal: tuple[NamespacePrefix, ...]
    other: tuple[NamespacePrefix, ...]
    shared: tuple[NamespacePrefix, ...]


def parse_list(cursor: Cursor) -> ListItem:
    """`mailbox-list`, the cursor standing behind LIST.

    A delimiter without quotes, attributes with parentheses in them, and no attributes at all are understood.

    Raises:
        ProtocolError: It cannot be read.
    """
    attributes = frozenset(
        _ATTRIBUTES.get(text.lower(), text)
        for text in (attribute.decode("utf-8", "replace") for attribute in _attributes(cursor))
    )
    cursor.spaces()
    delimiter = _delimiter(cursor)
    cursor.spaces()
    name = _last_name(cursor)
    cursor.spaces()
    child_info: frozenset[str] = frozenset()
    old_name: bytes | None = None
    extended = cursor.parse_value() if cursor.peek() == b"(" else None
    entries = extended if isinstance(extended, list) else []
    for key, value in zip(entries[::2], entries[1::2], strict=False):
        values = [_bytes(item) for item in (value if isinstance(value, list) else [value])]
        if _bytes(key).upper() == b"CHILDINFO":
            child_info = frozenset(item.decode("ascii", "replace").upper() for item in values)
        elif _bytes(key).upper() == b"OLDNAME" and values:
            old_name = values[0]
    return ListItem(attributes, delimiter, name, child_info, old_name)


def parse_status(cursor: Cursor) -> MailboxStatus:
    """`"STATUS" SP mailbox SP "(" status-att-list ")"`, the cursor standing behind STATUS.

    Raises:
        ProtocolError: It cannot be read.
    """
    name = _name_before_list(cursor)
    cursor.spaces()
    cursor.expect(b"(")
    cursor.spaces()
    values: dict[str, int | str] = {}
    while not cursor.accept(b")"):
        if len(values) >= MAX_WORDS:
            raise cursor.error(f"no more than {MAX_WORDS} numbers were expected")
        key = cursor.atom().decode("ascii", "replace").upper()
        cursor.spaces()
        if cursor.peek() == b")":
            continue
        start = cursor.pos
        cursor.skip_value()
        raw = cursor.text[start : cursor.pos]
        number = loose_number(raw)
        if number is not None:
            # A larger one is as if it had not been told: nothing behind here could keep it.
            # So is a UIDNEXT or UIDVALIDITY of 0 (`nz-number`).
            if (key in _NOT_ZERO) <= number <= (MAX_NUMBER if key in _SHORT_NUMBERS else MAX_NUMBER64):
                values[key] = number
        elif raw.upper() != b"NIL":
            values[key] = raw.strip(b'()" ').decode("utf-8", "replace")
        cursor.spaces()
    return MailboxStatus(name, values)


def parse_namespace(cursor: Cursor) -> Namespace:
    """`namespace-response`, the cursor standing behind NAMESPACE.

    Raises:
        ProtocolError: It cannot be read.
    """
    found: list[tuple[NamespacePrefix, ...]] = []
    for _ in range(3):
        # Servers leave out what they have none of at the end.
        value = None if cursor.at_end() else cursor.parse_value()
        prefixes: list[NamespacePrefix] = []
        for entry in value if isinstance(value, list) else []:
            if not isinstance(entry, list) or len(entry) < 2:
                raise cursor.error("a namespace was expected")
            delimiter = _bytes(entry[1]).decode("utf-8", "replace")
            prefixes.append(NamespacePrefix(_bytes(entry[0]), delimiter or None))
        found.append(tuple(prefixes))
    return Namespace(*found)


def _bytes(value: Value) -> bytes:
    return b"" if value is None or isinstance(value, list) else literal_bytes(value)


def _attributes(cursor: Cursor) -> list[bytes]:
    """`"(" [mbx-list-flags] ")"`."""
    start = cursor.pos
    if cursor.peek() == b'"':
        return []
    try:
        found = cursor.atoms()
        if cursor.peek() != b")":
            return found
    except ProtocolError:
        # Read to the delimiter below.
        cursor.pos = start
    end = _ATTRIBUTES_END.search(cursor.text, start)
    if end is None:
        raise cursor.error("the attributes of a mailbox were expected")
    cursor.pos = end.end()
    return split_words(cursor.text[start + 1 : end.start()])


def _delimiter(cursor: Cursor) -> str | None:
    """`DQUOTE QUOTED-CHAR DQUOTE / nil`; a backslash that should have been doubled is understood."""
    for backslash in (b'"\\" ', b'"\\"('):
        if cursor.text.startswith(backslash, cursor.pos):
            cursor.pos += 3
            return "\\"
    bare = _BARE_DELIMITER.match(cursor.text, cursor.pos)
    if bare is not None:
        cursor.pos = bare.end()
        return bare[1].decode("ascii")
    value = cursor.nstring()
    return value.decode("utf-8", "replace") if value else None


def _last_name(cursor: Cursor) -> bytes:
    """`mailbox` where it is the last thing of a line, or all but one list.

    Names with spaces or parentheses and no quotes, or with quotes that are not escaped, are taken to the end of the
    line.
    """
    start, index = cursor.pos, cursor.literal_index
    try:
        is_quoted = cursor.peek() in (b'"', b"{")
        name = cursor.astring()
        cursor.spaces()
        behind = cursor.peek()
        if not behind or (behind == b"(" and (is_quoted or _EXTENDED.match(cursor.text, cursor.pos))):
            return name
    except ProtocolError:
        # Read as a whole below; an empty line is still an error.
        if not cursor.text[start:].strip():
            raise
    if cursor.text.endswith(b"\n") or cursor.literal_index != index:
        raise cursor.error("a mailbox was expected")
    cursor.pos = len(cursor.text)
    return _bare(cursor.text[start:])


def _name_before_list(cursor: Cursor) -> bytes:
    """`mailbox` with a list behind it; the last list of the line, where the name is not properly quoted."""
    start, index = cursor.pos, cursor.literal_index
    try:
        name = cursor.astring()
        cursor.spaces()
        if cursor.peek() == b"(" and value_end(cursor.text, cursor.pos) == len(cursor.text.rstrip()):
            return name
    except ProtocolError:
        # Read from the other end below.
        cursor.pos = start
    end = cursor.text.rfind(b"(", start)
    if end < 0 or cursor.literal_index != index:
        raise cursor.error("a name and a list were expected")
    cursor.pos = end
    return _bare(cursor.text[start:end])


def _bare(raw: bytes) -> bytes:
    """A name that is not written as the grammar asks: only the quotes around it are no part of it."""
    raw = raw.strip(b" ")
    return raw[1:-1] if len(raw) > 1 and raw[:1] == raw[-1:] == b'"' else raw
