"""Responses with sets of messages: SEARCH, ESEARCH, VANISHED, UIDBATCHES.

Invariant: an answer of megabytes on one line is read in memory in proportion to its result, not to its text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from imapipe.wire.response.token import Cursor, malformed
from imapipe.wire.sequence_set import parse_sequence_set
from imapipe.wire.uid_set import MAX_UID, UidSet

_Result = TypeVar("_Result")

_MODSEQ = re.compile(rb"\( *MODSEQ +(\d{1,20}) *\) *\Z", re.IGNORECASE)
# `(MODSEQ 18446744073709551615)` and room for superfluous spaces.
_TAIL_BYTES: Final = 64
_PARTIAL_RANGE = re.compile(rb"(-?\d{1,10}):(-?\d{1,10})")


@dataclass(frozen=True, slots=True)
class Search:
    """The answer to a plain SEARCH (RFC 9051 appendix, RFC 3501 §7.2.5). A server may send several for one command.

    Attributes:
        uids: What was found: UIDs for UID SEARCH, else sequence numbers.
        modseq: The highest mod-sequence of what was found, when MODSEQ was searched for (RFC 7162 §3.1.5).
    """

    uids: UidSet
    modseq: int | None = None


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
    """

    tag: str | None
    uid: bool
    min: int | None = None
    max: int | None = None
    count: int | None = None
    all: UidSet | None = None
    modseq: int | None = None
    partial: Partial | None = None


@dataclass(frozen=True, slots=True)
class Vanished:
    """UIDs that are gone (RFC 7162 §3.2.10).

    Attributes:
        earlier: Whether they went before this session looked: then sequence numbers do not change.
        uids: The UIDs; some may never have existed.
    """

    earlier: bool
    uids: UidSet


@dataclass(frozen=True, slots=True)
class UidBatches:
    """Ranges that hold equally many messages (RFC 10022).

    Attributes:
        tag: The tag of the command.
        ranges: `(lowest, highest)` UID of each batch, in the order of the server: newest first.
    """

    tag: str | None
    ranges: tuple[tuple[int, int], ...]


def parse_search(cursor: Cursor) -> Search:
    """`"SEARCH" *(SP nz-number)`, the cursor standing behind SEARCH; a superfluous space is no matter.

    Raises:
        ProtocolError: Something in it is no number.
    """
    text, start, end = cursor.text, cursor.pos, len(cursor.text)
    found = _MODSEQ.search(text, max(start, end - _TAIL_BYTES))
    if found is not None:
        end = found.start()
    # A view: the line may have megabytes.
    view = memoryview(text)[start:end]
    uids = _checked(cursor, lambda: UidSet.from_search([view]))
    return Search(uids, int(found[1]) if found is not None else None)


def parse_esearch(cursor: Cursor) -> Esearch:
    """`esearch-response`, the cursor standing behind ESEARCH.

    Raises:
        ProtocolError: It cannot be read.
    """
    tag = _correlator(cursor)
    uid = False
    low = high = count = modseq = None
    everything: UidSet | None = None
    partial: Partial | None = None
    while not cursor.at_end():
        name = cursor.atom().upper()
        if name == b"UID":
            uid = True
            continue
        if cursor.at_end():
            break
        if name == b"MIN":
            low = cursor.number()
        elif name == b"MAX":
            high = cursor.number()
        elif name == b"COUNT":
            count = cursor.number()
        elif name == b"MODSEQ":
            modseq = cursor.number()
        elif name == b"ALL":
            everything = _uid_set(cursor, cursor.atom())
        elif name == b"PARTIAL":
            partial = _partial(cursor)
        else:
            cursor.skip_value()
    return Esearch(tag, uid, low, high, count, everything, modseq, partial)


def parse_vanished(cursor: Cursor) -> Vanished:
    """`expunged-resp`, the cursor standing behind VANISHED.

    Raises:
        ProtocolError: It has no set of UIDs.
    """
    earlier = cursor.peek() == b"(" and b"EARLIER" in [word.upper() for word in cursor.atoms()]
    cursor.spaces()
    return Vanished(earlier, _uid_set(cursor, cursor.atom()))


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
    return Partial(int(bounds[1]), int(bounds[2]), UidSet() if empty else _uid_set(cursor, words[1]))


def _uid_set(cursor: Cursor, raw: bytes) -> UidSet:
    return _checked(cursor, lambda: UidSet.parse(raw))


def _checked(cursor: Cursor, parse: Callable[[], _Result]) -> _Result:
    """The result of `parse`, its ValueError turned into the error of this package."""
    try:
        return parse()
    except ValueError:
        raise malformed("a set of UIDs was expected", cursor.text, cursor.pos) from None
