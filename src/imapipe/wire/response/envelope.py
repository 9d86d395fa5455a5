"""ENVELOPE: the addresses and the few header fields that the server has parsed (RFC 9051 §7.5.2, `envelope`).

One regular expression finds the ten fields; each is decoded when it is first read and kept. Whatever does not fit
the expression (odd spacing, strings that are not escaped) is read as a tree instead.

Invariants:
    `parse_envelope` checks the whole form, so reading a field later never fails for want of it.
    A field that is NIL is None (date), "" (text) or () (addresses).
    An envelope is read-only; two are equal when all decoded fields are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from itertools import accumulate
from typing import Final, TypeAlias

from imapipe.errors import ProtocolError
from imapipe.wire.address import Address, Pieces, decode_addresses
from imapipe.wire.date import parse_message_date
from imapipe.wire.encoded_word import decode_header
from imapipe.wire.response.envelope_fields import FIELDS, Fields, loose_fields, strict_fields
from imapipe.wire.response.literal import Literal, literal_bytes
from imapipe.wire.response.note import Note, count_notes
from imapipe.wire.response.repair import READINGS, is_well_quoted, requote
from imapipe.wire.response.token import MARKER, QUOTED, Cursor, ItemSpan, Value, malformed, unquote

__all__ = ["Address", "Envelope", "envelope_of_tree", "loose_envelope", "parse_envelope"]


# What the lines below make of a tuple of three strings is what Address() makes, without a call into Python.
_make_address: Callable[[tuple[str, str, str]], Address] = partial(tuple.__new__, Address)
_AddressList: TypeAlias = tuple[Address, ...] | None
_UNREAD: Final = datetime.min.replace(tzinfo=UTC)

# The expressions keep their way back, which takes memory; what is longer than this is read as a tree.
_LONG_ENVELOPE: Final = 128 * 1024

_NSTRING = rb"(?:NIL|" + QUOTED + rb"|" + MARKER + rb")"
_ADDRESS = rb"\(" + _NSTRING + rb" " + _NSTRING + rb" " + _NSTRING + rb" " + _NSTRING + rb"\)"
_ADDRESSES = rb"(?:NIL|\((?:" + _ADDRESS + rb" ?)+\))"
_FORM = (_NSTRING, _NSTRING, *[_ADDRESSES] * 6, _NSTRING, _NSTRING)
# The addresses of a list that is ASCII and holds no escapes and no literals. The route is obsolete and dropped.
_EASY_ADDRESS = re.compile(r'\((?:NIL|"([^"]*)") (?:NIL|"[^"]*") (?:NIL|"([^"]*)") (?:NIL|"([^"]*)")\)')
_LITERAL_NAME_ADDRESS = re.compile(
    r'\((?:NIL|"([^"]*)"|(\{\d+\+?\}\r\n)) (?:NIL|"[^"]*") (?:NIL|"([^"]*)") (?:NIL|"([^"]*)")\)'
)
_ANY_ADDRESS = re.compile(rb"\((" + _NSTRING + rb") (" + _NSTRING + rb") (" + _NSTRING + rb") (" + _NSTRING + rb")\)")


@cache
def _envelope_form() -> re.Pattern[bytes]:
    """The ten fields. To compile this takes as long as to read a hundred envelopes, and many jobs read none."""
    return re.compile(rb"\((" + rb") (".join(_FORM) + rb")\)")


class Envelope:
    """The envelope of a message; every field is decoded when it is first read. Read-only.

    Address fields are empty tuples where the header is absent; an address group gives its members.
    """

    __slots__ = (
        "_bcc",
        "_cc",
        "_date",
        "_from",
        "_in_reply_to",
        "_indices",
        "_literals",
        "_message_id",
        "_notes",
        "_raw",
        "_reply_to",
        "_sender",
        "_subject",
        "_to",
    )

    _notes: tuple[Note, ...]
    _raw: tuple[bytes, ...]
    _literals: Sequence[Literal]
    # The index of the first literal at or behind each field; empty when there are none.
    _indices: tuple[int, ...]

    # None, or _UNREAD for the date, until it is read.
    _date: datetime | None
    _subject: str | None
    _from: _AddressList
    _sender: _AddressList
    _reply_to: _AddressList
    _to: _AddressList
    _cc: _AddressList
    _bcc: _AddressList
    _in_reply_to: str | None
    _message_id: str | None

    def __init__(
        self,
        date: datetime | None = None,
        subject: str = "",
        from_: Iterable[Address] = (),
        sender: Iterable[Address] = (),
        reply_to: Iterable[Address] = (),
        to: Iterable[Address] = (),
        cc: Iterable[Address] = (),
        bcc: Iterable[Address] = (),
        in_reply_to: str = "",
        message_id: str = "",
    ) -> None:
        self._date = date
        self._subject = subject
        self._from = tuple(from_)
        self._sender = tuple(sender)
        self._reply_to = tuple(reply_to)
        self._to = tuple(to)
        self._cc = tuple(cc)
        self._bcc = tuple(bcc)
        self._in_reply_to = in_reply_to
        self._message_id = message_id
        self._notes = ()

    @property
    def date(self) -> datetime | None:
        """The Date header, aware; None when it is absent or no date."""
        value = self._date
        if value is _UNREAD:
            value = self._date = parse_message_date(self._string(0))
        return value

    @property
    def subject(self) -> str:
        """The subject, "" when absent."""
        value = self._subject
        if value is None:
            value = self._subject = decode_header(self._string(1))
        return value

    @property
    def from_(self) -> tuple[Address, ...]:
        """The authors."""
        value = self._from
        if value is None:
            value = self._from = self._addresses(2)
        return value

    @property
    def sender(self) -> tuple[Address, ...]:
        """Who sent it; servers repeat the authors where the header is absent."""
        value = self._sender
        if value is None:
            value = self._sender = self._addresses(3)
        return value

    @property
    def reply_to(self) -> tuple[Address, ...]:
        """Where answers go; servers repeat the authors where the header is absent."""
        value = self._reply_to
        if value is None:
            value = self._reply_to = self._addresses(4)
        return value

    @property
    def to(self) -> tuple[Address, ...]:
        """The recipients."""
        value = self._to
        if value is None:
            value = self._to = self._addresses(5)
        return value

    @property
    def cc(self) -> tuple[Address, ...]:
        """The recipients of copies."""
        value = self._cc
        if value is None:
            value = self._cc = self._addresses(6)
        return value

    @property
    def bcc(self) -> tuple[Address, ...]:
        """The recipients of blind copies, where the server knows them."""
        value = self._bcc
        if value is None:
            value = self._bcc = self._addresses(7)
        return value

    @property
    def in_reply_to(self) -> str:
        """The message-id this one answers, with its angle brackets; "" when absent."""
        value = self._in_reply_to
        if value is None:
            value = self._in_reply_to = self._string(8).decode("utf-8", "replace").strip()
        return value

    @property
    def message_id(self) -> str:
        """The message-id, with its angle brackets; "" when absent."""
        value = self._message_id
        if value is None:
            value = self._message_id = self._string(9).decode("utf-8", "replace").strip()
        return value

    @property
    def notes(self) -> tuple[Note, ...]:
        """What of it could not be read and was passed over; nearly always nothing."""
        return self._notes

    def as_dict(self) -> dict[str, datetime | str | tuple[Address, ...] | None]:
        """All fields by name, decoded, in the order of the wire."""
        return {name: getattr(self, name) for name in FIELDS}

    def __eq__(self, other: object) -> bool:
        return self.as_dict() == other.as_dict() if isinstance(other, Envelope) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self.as_dict().values()))

    def __repr__(self) -> str:
        return f"Envelope({', '.join(f'{name}={value!r}' for name, value in self.as_dict().items() if value)})"

    def __reduce__(self) -> tuple[type[Envelope], tuple[object, ...]]:
        return Envelope, tuple(self.as_dict().values())

    def _string(self, number: int) -> bytes:
        """The content of a string field; NIL is empty."""
        raw = self._raw[number]
        if raw[:1] == b'"':
            return raw[1:-1] if b"\\" not in raw else unquote(raw)
        return literal_bytes(self._literals[self._indices[number]]) if raw != b"NIL" else b""

    def _addresses(self, number: int) -> tuple[Address, ...]:
        """Decode a field of addresses."""
        raw = self._raw[number]
        if raw == b"NIL":
            return ()
        # Nearly every message has its author three times: decoded once, kept once.
        if (number == 3 or number == 4) and raw == self._raw[2] and self._same_literals(number, 2):
            return self.from_
        text = raw.decode("latin-1")
        if (
            text.isascii()
            and "\\" not in text
            and " NIL)" not in text
            # What servers write for a part that is missing: see `address`. A call would take as long as all of this.
            and ' "")' not in text
            and '.")' not in text
            and 'omain")' not in text
            and 'OMAIN")' not in text
        ):
            if "\n" not in text:
                found = map(_make_address, _EASY_ADDRESS.findall(text))
                if "=?" not in text:
                    return tuple(found)
                return tuple([Address(decode_header(name.encode()), mailbox, host) for name, mailbox, host in found])
            entries: list[tuple[str, str, str, str]] = _LITERAL_NAME_ADDRESS.findall(text)
            # A bare line end is not that of a marker; such names are unfolded below.
            if text.count("\n") == sum([entry[1] != "" for entry in entries]):
                return self._with_literal_names(entries, self._indices[number])
        return decode_addresses(self._pieces(raw, self._indices[number] if self._indices else 0))

    def _same_literals(self, number: int, other: int) -> bool:
        """Whether two fields with the same text have the same literals in it."""
        indices, literals = self._indices, self._literals
        if not indices:
            return True
        first, second = indices[number], indices[other]
        count = indices[number + 1] - first
        return literals[first : first + count] == literals[second : second + count]

    def _with_literal_names(self, entries: list[tuple[str, str, str, str]], index: int) -> tuple[Address, ...]:
        """Addresses whose names may be literals, as Dovecot sends those with quotes or 8-bit bytes in them."""
        found: list[Address] = []
        for name, marker, mailbox, host in entries:
            if marker:
                found.append(Address(decode_header(literal_bytes(self._literals[index])), mailbox, host))
                index += 1
            else:
                found.append(Address(decode_header(name.encode()) if "=?" in name else name, mailbox, host))
        return tuple(found)

    def _pieces(self, raw: bytes, index: int) -> Iterator[Pieces]:
        """Name, mailbox and host of each address, not yet decoded."""
        for match in _ANY_ADDRESS.finditer(raw):
            pieces: list[bytes | None] = []
            for piece in match.groups():
                first = piece[:1]
                if first == b'"':
                    pieces.append(unquote(piece))
                elif first == b"{":
                    pieces.append(literal_bytes(self._literals[index]))
                    index += 1
                else:
                    pieces.append(None)
            yield pieces[0], pieces[2], pieces[3]


_new = Envelope.__new__


def parse_envelope(
    text: bytes, literals: Sequence[Literal], span: ItemSpan, notes: MutableMapping[Note, int] | None = None
) -> Envelope:
    """Parse the value of ENVELOPE.

    Args:
        text: The line it is in.
        literals: The literals of that line.
        span: Where it is.
        notes: What could not be read and was passed over is added.

    Raises:
        ProtocolError: It is no envelope, not even with its strings repaired, and has no field of one.
    """
    start, end, index = span
    match = _envelope_form().fullmatch(text, start, end) if end - start < _LONG_ENVELOPE else None
    if match is None:
        envelope = _parse_carefully(text, literals, span)
        if notes is not None:
            count_notes(notes, envelope.notes)
        return envelope
    envelope = _new(Envelope)
    envelope._raw = raw = match.groups()
    envelope._literals = literals
    envelope._indices = ()
    markers = text.count(b"}\r\n", start, end)
    if markers:
        if index + markers > len(literals):
            raise malformed("a literal is missing", text, start)
        envelope._indices = tuple(accumulate([piece.count(b"}\r\n") for piece in raw], initial=index))
    envelope._notes = ()
    envelope._date = _UNREAD
    envelope._subject = envelope._in_reply_to = envelope._message_id = None
    envelope._from = envelope._sender = envelope._reply_to = envelope._to = envelope._cc = envelope._bcc = None
    return envelope


def _parse_carefully(text: bytes, literals: Sequence[Literal], span: ItemSpan) -> Envelope:
    """Read an envelope as a tree: as it is, then with its strings repaired (QQ, iCloud), then as far as it goes."""
    start, end, index = span
    raw = text[start:end]
    trees: list[list[Value]] = []
    for reading in (None, *READINGS):
        try:
            cursor = Cursor(raw if reading is None else requote(raw, reading), 0, literals, index)
            tree = cursor.parse_value()
        except ProtocolError:
            continue
        if not cursor.at_end() or not isinstance(tree, list):
            continue
        envelope = envelope_of_tree(tree)
        if envelope is not None:
            return envelope
        # A list that ends before the first address cannot be told from any other.
        if len(tree) > 2 and (reading is not None or is_well_quoted(raw)):
            trees.append(tree)
    if not trees:
        raise malformed("an envelope was expected", text, start)
    return loose_envelope(trees[0])


def envelope_of_tree(tree: list[Value]) -> Envelope | None:
    """The envelope of a list of ten values (as in message/rfc822), or None when they are of the wrong kinds."""
    fields = strict_fields(tree)
    return None if fields is None else _of_fields(fields)


def loose_envelope(tree: list[Value]) -> Envelope:
    """The envelope of any list of values: the fields that are beyond doubt, and a note for what was passed over."""
    fields = loose_fields(tree)
    envelope = _of_fields(fields)
    envelope._notes = fields.notes
    return envelope


def _of_fields(fields: Fields) -> Envelope:
    date, subject, in_reply_to, message_id = fields.strings
    from_, sender, reply_to, to, cc, bcc = map(decode_addresses, fields.addresses)
    return Envelope(
        parse_message_date(date),
        decode_header(subject),
        from_,
        sender,
        reply_to,
        to,
        cc,
        bcc,
        in_reply_to.decode("utf-8", "replace").strip(),
        message_id.decode("utf-8", "replace").strip(),
    )
