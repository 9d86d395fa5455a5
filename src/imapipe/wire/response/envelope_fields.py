"""The ten fields of an ENVELOPE that was read as a tree: strictly, or as far as they can be told (RFC 9051 §7.5.2).

Invariant: an address is taken as it stands or passed over with a note; nothing is moved from one field to another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from imapipe.wire.address import Pieces
from imapipe.wire.response.literal import literal_bytes
from imapipe.wire.response.note import Note
from imapipe.wire.response.token import Value

FIELDS: Final = ("date", "subject", "from_", "sender", "reply_to", "to", "cc", "bcc", "in_reply_to", "message_id")
"""The names of the fields in the order of the wire."""

_STRINGS: Final = (0, 1, 8, 9)
_ADDRESSES: Final = range(2, 8)


class Fields(NamedTuple):
    """The fields of an envelope, not decoded.

    Attributes:
        strings: Date, subject, in-reply-to and message-id; NIL is empty.
        addresses: The six fields of addresses.
        notes: What was passed over.
    """

    strings: Sequence[bytes]
    addresses: Sequence[list[Pieces]]
    notes: tuple[Note, ...] = ()


def strict_fields(tree: list[Value]) -> Fields | None:
    """The fields of a list of ten values, or None when they are of the wrong kinds."""
    if len(tree) != len(FIELDS) or any(isinstance(tree[number], list) for number in _STRINGS):
        return None
    addresses: list[list[Pieces]] = []
    for value in tree[2:8]:
        pieces: list[Pieces] = []
        for entry in value if isinstance(value, list) else () if value is None else (value,):
            if not isinstance(entry, list) or len(entry) != 4 or any(isinstance(part, list) for part in entry):
                return None
            pieces.append((_bytes(entry[0]), _bytes(entry[2]), _bytes(entry[3])))
        addresses.append(pieces)
    return Fields([_bytes(tree[number]) or b"" for number in _STRINGS], addresses)


def loose_fields(tree: list[Value]) -> Fields:
    """The fields of any list of values.

    The six address fields are told by their kind, so that one more or one less before or behind them moves nothing.
    A single string behind them is the message-id: QQ leaves out the NIL of In-Reply-To.
    """
    notes: list[Note] = []
    whole = len(tree) == len(FIELDS)
    first, rest = tree[:2], tree[2:]
    if not whole:
        notes.append(Note("envelope", f"{len(tree)} fields instead of {len(FIELDS)}"))
    while len(rest) > len(FIELDS) - 2 and _is_string(rest[0]):
        del rest[0]
    count = 0
    while count < min(len(rest), len(_ADDRESSES)) and (whole or not _is_string(rest[count])):
        count += 1
    addresses = [_loose_addresses(value, FIELDS[2 + number], notes) for number, value in enumerate(rest[:count])]
    addresses += [[] for _ in range(len(_ADDRESSES) - count)]
    last = rest[count : count + 2]
    if len(rest) == count + 1:
        last.insert(0, None)
    strings: list[bytes] = []
    for number, value in zip(_STRINGS, (*_two(first), *_two(last)), strict=True):
        if isinstance(value, list):
            notes.append(Note("envelope", f"{FIELDS[number]} is a list"))
        strings.append(_bytes(value) or b"")
    return Fields(strings, addresses, tuple(dict.fromkeys(notes)))


def _loose_addresses(value: Value, name: str, notes: list[Note]) -> list[Pieces]:
    """The addresses of a field that can be read; one address without the list around it is one."""
    entries: Sequence[Value] = value if isinstance(value, list) else [] if value is None else [value]
    if len(entries) == 4 and _is_string(entries[2]) and not any(isinstance(entry, list) for entry in entries):
        entries = [[*entries]]
    pieces: list[Pieces] = []
    for entry in entries:
        if isinstance(entry, list) and len(entry) >= 4 and not any(isinstance(part, list) for part in entry[:4]):
            pieces.append((_bytes(entry[0]), _bytes(entry[2]), _bytes(entry[3])))
            if len(entry) == 4:
                continue
        elif _is_string(entry) and (bare := _bytes(entry) or b"").count(b"@") == 1:
            mailbox, _, host = bare.partition(b"@")
            pieces.append((None, mailbox, host))
        note = Note("envelope", f"an address of {name} that is none")
        if note not in notes:
            notes.append(note)
    return pieces


def _two(values: list[Value]) -> list[Value]:
    return values + [None] * (2 - len(values))


def _is_string(value: Value) -> bool:
    return value is not None and not isinstance(value, list)


def _bytes(value: Value) -> bytes | None:
    """A string of a tree, or None for NIL."""
    return None if value is None or isinstance(value, list) else literal_bytes(value)
