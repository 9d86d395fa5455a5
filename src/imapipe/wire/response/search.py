"""Responses with sets of messages: SEARCH, ESEARCH, VANISHED, UIDBATCHES.

Invariant: an answer of megabytes on one line is read in memory in proportion to its result, not to its text.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from imapipe.wire.response.note import Note
from imapipe.wire.response.token import Cursor, malformed
from imapipe.wire.sequence_set import parse_sequence_set
from imapipe.wire.uid_set import MAX_UID, UidSet

_Result = TypeVar("_Result")

_MODSEQ = re.compile(rb"\( *MODSEQ +(\d{1,20}) *\) *\Z", re.IGNORECASE)
# `(MODSEQ 18446744073709551615)` and room for superfluous spaces.
_TAIL_BYTES: Final = 64
MAX_MODSEQ: Final = 2**63 - 1
_WINDOW_BYTES: Final = 65_536
_RANGE = re.compile(rb"(\d{1,10})(?::(\d{1,10}))?")
_PARTIAL_RANGE = re.compile(rb"(-?\d{1,10}):(-?\d{1,10})")


class Search(NamedTuple):
    """The answer to a plain SEARCH (RFC 9051 appendix, RFC 3501 §7.2.5). A server may send several for one command.

    Attributes:
        uids: What was found: UIDs for UID SEARCH, else sequence numbers.
        modseq: The highest mod-sequence of what was found, when MODSEQ was searched for (RFC 7162 §3.1.5).
        notes: Numbers that are no UIDs, and were passed over: a message may be missing.
    """

    uids: UidSet
    modseq: int | None = None
    notes: tuple[Note, ...] = ()


class Partial(NamedTuple):
    """One window of a result (RFC 9394 §3.1).

    Attributes:
        first: The rank of its first message, counted from 1; from the end when negative.
        last: The rank of its last message.
        uids: What is in it; empty when the window is behind the end.
    """

    first: int
    last: int
    uids: UidSet


@dataclass(frozen=True, slots=True)
class Esearch:
    """The answer to SEARCH RETURN (RFC 9051 §7.3.3, RFC 4731). What was not asked for is None.

    Attributes:
        tag: The tag of the command.
        uid: Whether the numbers are UIDs.
        min: The lowest number found.
        max: The highest number found.
        count: How many were found.
        all: What was found; None also when nothing was, as servers then leave it out.
        modseq: The highest mod-sequence of what was found.
        partial: The window that was asked for.
        notes: What is no set of UIDs, and was passed over: a message may be missing.
    """

    tag: str | None
    uid: bool
    min: int | None = None
    max: int | None = None
    count: int | None = None
    all: UidSet | None = None
    modseq: int | None = None
    partial: Partial | None = None
    notes: tuple[Note, ...] = ()


class Vanished(NamedTuple):
    """UIDs that are gone (RFC 7162 §3.2.10).

    Attributes:
        earlier: Whether they went before this session looked: then sequence numbers do not change.
        uids: The UIDs; some may never have existed.
    """

    earlier: bool
    uids: UidSet


class UidBatches(NamedTuple):
    """Ranges that hold equally many messages (RFC 10022).

    Attributes:
        tag: The tag of the command.
        ranges: `(lowest, highest)` UID of each batch, in the order of the server: newest first.
    """

    tag: str | None
    ranges: tuple[tuple[int, int], ...]


def parse_search(cursor: Cursor) -> Search:
    """`"SEARCH" *(SP nz-number)`, the cursor standing behind SEARCH; a superfluous space is no matter.

    A number that is no UID (0, or one that is too large) is passed over with a note; NIL is nothing.

    Raises:
        ProtocolError: Something in it is no number, or all there is is too large.
    """
    text, start, end = cursor.text, cursor.pos, len(cursor.text)
    found = _MODSEQ.search(text, max(start, end - _TAIL_BYTES))
    if found is not None:
        end = found.start()
    # A view: the line may have megabytes.
    view = memoryview(text)[start:end]
    modseq = _modseq(int(found[1])) if found is not None else None
    try:
        return Search(UidSet.from_search([view]), modseq)
    except ValueError:
        uids, skipped = _checked(cursor, lambda: _usable_numbers(bytes(view)))
    return Search(uids, modseq, _skipped("SEARCH", skipped))


def parse_esearch(cursor: Cursor) -> Esearch:
    """`esearch-response`, the cursor standing behind ESEARCH.

    Raises:
        ProtocolError: It cannot be read, or it contradicts itself: fewer are counted than are listed.
    """
    tag = _correlator(cursor)
    uid = False
    low = high = count = modseq = None
    everything: UidSet | None = None
    partial: Partial | None = None
    skipped = 0
    while not cursor.at_end():
        name = cursor.atom().upper()
        if name == b"UID":
            uid = True
            continue
        if cursor.at_end():
            break
        if name == b"MIN":
            low = _number(cursor)
        elif name == b"MAX":
            high = _number(cursor)
        elif name == b"COUNT":
            count = _number(cursor)
        elif name == b"MODSEQ":
            modseq = _modseq(cursor.number())
        elif name == b"ALL":
            everything, skipped = _usable_set(cursor, cursor.atom())
        elif name == b"PARTIAL":
            partial = _partial(cursor)
        else:
            cursor.skip_value()
    if count is not None and everything is not None and count < len(everything):
        raise cursor.error(f"COUNT says {count}, and ALL has more")
    return Esearch(tag, uid, low, high, count, everything, modseq, partial, _skipped("ESEARCH", skipped))


def parse_vanished(cursor: Cursor) -> Vanished:
    """`expunged-resp`, the cursor standing behind VANISHED; a range that is none is passed over.

    Raises:
        ProtocolError: It has no set of UIDs.
    """
    earlier = cursor.peek() == b"(" and b"EARLIER" in [word.upper() for word in cursor.atoms()]
    cursor.spaces()
    return Vanished(earlier, _usable_set(cursor, cursor.atom())[0])


def parse_uid_batches(cursor: Cursor) -> UidBatches:
    """`uidbatches-response`, the cursor standing behind UIDBATCHES. No range stands in it for an empty mailbox.

    Raises:
        ProtocolError: It cannot be read.
    """
    tag = _correlator(cursor)
    if cursor.at_end():
        return UidBatches(tag, ())
    raw = cursor.atom()
    ranges = _checked(cursor, lambda: tuple(zip(*parse_sequence_set(raw, None), strict=True)))
    if any(not 0 < number <= MAX_UID for ends in ranges for number in ends):
        raise cursor.error("UIDs were expected")
    return UidBatches(tag, tuple((min(ends), max(ends)) for ends in ranges))


def _correlator(cursor: Cursor) -> str | None:
    """`search-correlator`: the tag of the command; what else stands in it (RFC 7377) is passed over."""
    if cursor.peek() != b"(":
        return None
    words = cursor.atoms()
    cursor.spaces()
    for key, value in zip(words[::2], words[1::2], strict=False):
        if key.upper() == b"TAG":
            return value.decode("ascii", "replace")
    return None


def _partial(cursor: Cursor) -> Partial:
    """`"(" partial-range SP partial-results ")"`."""
    words = cursor.atoms()
    bounds = _PARTIAL_RANGE.fullmatch(words[0]) if words else None
    if bounds is None:
        raise cursor.error("a range was expected")
    empty = len(words) < 2 or words[1].upper() == b"NIL"
    first, last = int(bounds[1]), int(bounds[2])
    uids = UidSet() if empty else _uid_set(cursor, words[1])
    if len(uids) > abs(last - first) + 1:
        raise cursor.error("a window has more messages than ranks")
    return Partial(first, last, uids)


def _number(cursor: Cursor) -> int:
    """`number`: 32 bits, unlike the numbers of other responses."""
    number = cursor.number()
    if number > MAX_UID:
        raise cursor.error("a number of 32 bits was expected")
    return number


def _modseq(number: int) -> int:
    """`mod-sequence-value`: 63 bits (RFC 7162 §7); what is more is as much as there can be."""
    return min(number, MAX_MODSEQ)


def _skipped(where: str, count: int) -> tuple[Note, ...]:
    return (Note("search", f"{where} has numbers that are no UIDs"),) if count else ()


def _usable_numbers(data: bytes) -> tuple[UidSet, int]:
    """The numbers of a list that are UIDs, and how many are none.

    Raises:
        ValueError: Something is no number, or all there is is too large.
    """
    numbers = array("I")
    skipped = large = 0
    # A window at a time, cut at spaces: the list may have megabytes.
    position = 0
    while position < len(data):
        cut = data.find(b" ", position + _WINDOW_BYTES)
        window = data[position : cut if cut >= 0 else len(data)]
        position += len(window) + 1
        for word in window.split():
            if word.upper() == b"NIL":
                continue
            if not word.isdigit():
                raise ValueError("not a list of numbers")
            digits = word.lstrip(b"0")
            if digits and len(digits) <= 10 and int(digits) <= MAX_UID:
                numbers.append(int(digits))
            else:
                skipped += 1
                large += digits != b""
    if large and not numbers:
        raise ValueError("no UID among them")
    return UidSet.from_numbers(numbers), skipped


def _usable_set(cursor: Cursor, raw: bytes) -> tuple[UidSet, int]:
    """The ranges of a set that are UIDs, and how many are none."""
    try:
        return UidSet.parse(raw), 0
    except ValueError:
        ranges: list[tuple[int, int]] = []
        pieces = raw.split(b",")
        for piece in pieces:
            match = _RANGE.fullmatch(piece)
            if match is not None and 0 < int(match[1]) <= MAX_UID and 0 < int(match[2] or match[1]) <= MAX_UID:
                ranges.append((int(match[1]), int(match[2] or match[1])))
        if not ranges:
            return _uid_set(cursor, raw), 0
        return UidSet.from_ranges(ranges), len(pieces) - len(ranges)


def _uid_set(cursor: Cursor, raw: bytes) -> UidSet:
    return _checked(cursor, lambda: UidSet.parse(raw))


def _checked(cursor: Cursor, parse: Callable[[], _Result]) -> _Result:
    """The result of `parse`, its ValueError turned into the error of this package."""
    try:
        return parse()
    except ValueError:
        raise malformed("a set of UIDs was expected", cursor.text, cursor.pos) from None
