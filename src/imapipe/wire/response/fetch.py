"""FETCH and UIDFETCH responses: where each item stands.

RFC 9051 §7.5.2 (`message-data`, `msg-att`) and RFC 9586 §3.3 (`uidfetch-resp`). `scan_fetch` finds every item
without parsing its value, so that a message pays only for what is read of it. What a value means is said by
`item_value`, and for the large ones by `envelope` and `body_structure`.

Invariants:
    Every byte is looked at a constant number of times. Parentheses in strings and literals never count.
    An item that comes twice counts with its last value: servers add flags that changed meanwhile.
    A value that the server left out is an empty span and reads as NIL.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from imapipe.errors import ProtocolError
from imapipe.wire.response.literal import Literal, literal_bytes
from imapipe.wire.response.repair import READINGS, loose_list_end
from imapipe.wire.response.token import (
    LONG_VALUE,
    MARKER,
    QUOTED,
    VALUE,
    ItemSpan,
    loose_number,
    malformed,
    unquote,
    value_end,
)

_MAX_UID: Final = 2**32 - 1

# `section`, with header field names that may be quoted or even literals, and the origin of a partial answer.
_FIELDS = rb'\((?:[^()"{\r\n]++|' + QUOTED + rb"|" + MARKER + rb")*\)"
_SECTION = rb"\[[^\]\[(\"\r\n]*+(?:" + _FIELDS + rb")?\](?:<\d++(?:\.\d++)?>)?"
_NAME = rb'([^ ()\[\]{}"\r\n]++(' + _SECTION + rb")?)"
# After a section only a string, NIL or a number (BINARY.SIZE) is a value; anything else is the next item. What stands
# right behind a literal is the rest of a body whose length the server counted short (in characters, for instance).
_SECTION_VALUE = QUOTED + rb"|~?" + MARKER + rb"(?=[ \n)])|(?:(?i:NIL)|\d++)(?=[ )])"

_HEAD = re.compile(rb"[\0 ]*(?:\* *)?(\d{1,20}) +(?:(UID)?FETCH) *\(", re.IGNORECASE)
# The last alternative makes every match begin where the one before it ended.
# A bare LF between items is taken for a space.
_ITEM = re.compile(
    rb"[ \n]*+(?:" + _NAME + rb"[ \n]*+((?(2)(?:" + _SECTION_VALUE + rb")|(?:" + VALUE + rb")))?[ \n]*+|(?s:.?))"
)
_ITEM_NAME = re.compile(rb"[ \n]*" + _NAME + rb"[ \n]*")
_SECTION_ITEM_VALUE = re.compile(_SECTION_VALUE)
_TAIL = re.compile(rb"[ \n]*\) *")

_FIELD = re.compile(QUOTED + rb"|" + MARKER + rb'|[^ ()"\r\n]++')

# Names repeat with every message. The table is bounded, and holds no long ones: header field names may be anything.
_NAMES: dict[bytes, str] = {}
# Nor does anybody ask for more items of a message.
_MAX_NAMES: Final = 1024
# What is longer than this is not in the table.
_SHORT_BYTES: Final = 1024


class FetchScan:
    """One FETCH response, taken apart.

    Attributes:
        seq: The message sequence number; 0 for UIDFETCH, which has none.
        uid: The UID, or None when the response does not say: such a response is unsolicited.
        items: Canonical item name (upper-case, such as `BODY[HEADER.FIELDS (DATE)]`) to the place of its value.
    """

    __slots__ = ("items", "seq", "uid")

    def __init__(self, seq: int, uid: int | None, items: dict[str, ItemSpan]) -> None:
        self.seq = seq
        self.uid = uid
        self.items = items

    def __repr__(self) -> str:
        return f"FetchScan(seq={self.seq}, uid={self.uid}, items={list(self.items)})"


def scan_fetch(text: bytes, literals: Sequence[Literal] = (), start: int = 0) -> FetchScan:
    """Locate the items of a FETCH or UIDFETCH response.

    Args:
        text: The response, its literals cut out.
        literals: Its literals.
        start: Where in `text` the response begins.

    Raises:
        ProtocolError: It is no such response, or it does not end as one.
    """
    head = _HEAD.match(text, start)
    if head is None:
        raise malformed("a FETCH response was expected", text, start)
    number = int(head[1])
    position = head.end()
    items: dict[str, ItemSpan] = {}
    if len(text) < LONG_VALUE:
        names = _NAMES
        index = 0
        for match in _ITEM.finditer(text, position):
            raw = match[1]
            if raw is None:
                break
            first, end = match.span(3)
            if first < 0:
                first = end = match.end(1)
            name = names.get(raw)
            if literals:
                if name is None:
                    name = canonical_name(raw, literals, index)
                index += text.count(b"}\r\n", position, first)
                items[name] = ItemSpan(first, end, index)
                index += text.count(b"}\r\n", first, end)
            else:
                items[name or canonical_name(raw, literals, 0)] = ItemSpan(first, end, 0)
            position = match.end()
        if text[position:] != b")" and _TAIL.fullmatch(text, position) is None:
            items = _scan_carefully(text, literals, head.end())
    else:
        items = _scan_carefully(text, literals, position)
    if head[2] is not None:
        return FetchScan(0, number if 0 < number <= _MAX_UID else None, items)
    span = items.get("UID")
    return FetchScan(number, parse_uid(text[span[0] : span[1]]) if span is not None else None, items)


def _scan_carefully(text: bytes, literals: Sequence[Literal], position: int) -> dict[str, ItemSpan]:
    """Scan what is very long, nests deeply, or has strings that are not escaped (QQ, iCloud)."""
    try:
        return _scan_reading(text, literals, position, None)
    except ProtocolError as error:
        for reading in READINGS:
            try:
                return _scan_reading(text, literals, position, reading)
            except ProtocolError:
                # The first error names the place where the grammar was really broken.
                continue
        raise error


def _scan_reading(text: bytes, literals: Sequence[Literal], position: int, reading: int | None) -> dict[str, ItemSpan]:
    """Scan item by item, lists counted strictly, or in one of the loose readings."""
    items: dict[str, ItemSpan] = {}
    index = 0
    while _TAIL.fullmatch(text, position) is None:
        match = _ITEM_NAME.match(text, position)
        if match is None or len(items) >= _MAX_NAMES:
            raise malformed("the name of an item was expected", text, position)
        name = _NAMES.get(match[1]) or canonical_name(match[1], literals, index)
        first = match.end()
        if match[2] is not None:
            value = _SECTION_ITEM_VALUE.match(text, first)
            end = first if value is None else value.end()
        elif text[first : first + 1] == b")":
            end = first
        elif reading is not None and text[first : first + 1] == b"(":
            end = loose_list_end(text, first, reading)
        else:
            end = value_end(text, first)
        index += text.count(b"}\r\n", position, first)
        items[name] = ItemSpan(first, end, index)
        index += text.count(b"}\r\n", first, end)
        position = end
    return items


def parse_uid(raw: bytes) -> int | None:
    """A UID, or None where it is none (0, too large, no number)."""
    uid = loose_number(raw)
    return uid if uid is not None and 0 < uid <= _MAX_UID else None


class Head(NamedTuple):
    """The beginning of a response: `seq` is 0 and `uid` known for UIDFETCH; items begin at `end`."""

    seq: int
    uid: int | None
    end: int


def split_head(text: bytes) -> Head | None:
    """The beginning of a FETCH or UIDFETCH response, or None where it is none."""
    head = _HEAD.match(text)
    if head is None:
        return None
    number = int(head[1])
    return Head(number, None, head.end()) if head[2] is None else Head(0, parse_uid(head[1]), head.end())


def canonical_name(raw: bytes, literals: Sequence[Literal], index: int) -> str:
    """The canonical form of an item name: upper-case, no PEEK, no quotes, only the origin of a range.

    Raises:
        ProtocolError: A literal of it is missing.
    """
    section, parenthesis, rest = raw.partition(b"(")
    if parenthesis:
        fields, _, tail = rest.rpartition(b")")
        names: list[bytes] = []
        for match in _FIELD.finditer(fields):
            field = match[0]
            if field[:1] == b'"':
                field = unquote(field)
            elif field[-1:] == b"\n":
                if index >= len(literals):
                    raise malformed("a literal is missing", raw, 0)
                field = literal_bytes(literals[index])
                index += 1
            names.append(field)
        section = section + b"(" + b" ".join(names) + b")" + tail
    origin = section.rfind(b"<") if section[-1:] == b">" else -1
    if origin > 0:
        section = section[:origin] + section[origin:].partition(b".")[0].rstrip(b">") + b">"
    name = section.decode("ascii", "backslashreplace").upper().replace(".PEEK[", "[", 1)
    if b"{" not in raw and len(raw) <= _SHORT_BYTES:
        if len(_NAMES) >= _MAX_NAMES:
            _NAMES.clear()
        _NAMES[raw] = name
    return name
