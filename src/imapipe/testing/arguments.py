"""Reads the arguments of a client's command (RFC 3501 section 9, client side).

Invariant: the text keeps the marker ``{n}`` CRLF of every literal in place, the bytes of the literals are
beside it in order; a reader never looks inside a literal for syntax.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

LITERAL_END = re.compile(rb"~?\{(\d{1,20})(\+?)\}$")

_ATOM = re.compile(rb"[^\x00-\x20(){%*\"\\\]\x7f]+")
_ASTRING_ATOM = re.compile(rb"[^\x00-\x20(){%*\"\\\x7f]+")
_LIST_ATOM = re.compile(rb"[^\x00-\x20(){\"\\\x7f]+")
_FLAG = re.compile(rb"\\?[^\x00-\x20(){%*\"\\\]\x7f]+|\\\*")
_QUOTED = re.compile(rb'"((?:\\["\\]|[^"\\\r\n])*)"')
_LITERAL = re.compile(rb"~?\{(\d+)\+?\}\r\n")
_NUMBER = re.compile(rb"\d{1,20}")
_SET = re.compile(rb"(?:\d+|\*)(?::(?:\d+|\*))?(?:,(?:\d+|\*)(?::(?:\d+|\*))?)*|\$")
_SET_ITEM = re.compile(rb"(\d+|\*)(?::(\d+|\*))?")
_STAR = 0

IndexRanges = list[tuple[int, int]]
"""Half-open ranges of indexes into a sequence of UIDs, ascending and disjoint."""


class BadCommand(Exception):
    """The command does not follow the grammar: answered BAD.

    Args:
        text: The text after BAD.
        code: A response code without its brackets, or "".
    """

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.code = code


class Refused(Exception):
    """The command is right but cannot be done: answered NO (or another status).

    Args:
        text: The text after the status.
        code: A response code without its brackets, or "".
        status: NO, or BAD where a real server says so.
    """

    def __init__(self, text: str, code: str = "", status: str = "NO") -> None:
        super().__init__(text)
        self.text = text
        self.code = code
        self.status = status


class Arguments:
    """A cursor over a command's arguments. Every reader raises ``BadCommand`` when the text is something else."""

    __slots__ = ("_next_literal", "at", "literals", "text")

    def __init__(self, text: bytes, literals: Sequence[bytes] = ()) -> None:
        self.text = text
        self.literals = literals
        self.at = 0
        self._next_literal = 0

    @property
    def at_end(self) -> bool:
        """True when nothing is left but blanks."""
        return not self.text[self.at :].strip()

    def peek(self) -> bytes:
        """The next byte, empty at the end."""
        return self.text[self.at : self.at + 1]

    def take(self, token: bytes) -> bool:
        """Step over ``token`` if it is next, without regard to case."""
        end = self.at + len(token)
        if self.text[self.at : end].upper() != token.upper():
            return False
        self.at = end
        return True

    def expect(self, token: bytes) -> None:
        """Step over ``token``, which must be next."""
        if not self.take(token):
            raise BadCommand(f"Expected {token.decode('latin-1')!r} at {self.at}")

    def space(self) -> None:
        """Step over the space that must be next."""
        self.expect(b" ")

    def end(self) -> None:
        """Nothing but blanks may be left."""
        if not self.at_end:
            raise BadCommand("Unexpected arguments")

    def rest(self) -> bytes:
        """Everything that is left."""
        left = self.text[self.at :]
        self.at = len(self.text)
        return left

    def _match(self, pattern: re.Pattern[bytes], what: str) -> bytes:
        found = pattern.match(self.text, self.at)
        if found is None:
            raise BadCommand(f"Expected {what} at {self.at}")
        self.at = found.end()
        return found.group()

    def atom(self) -> bytes:
        """An atom, as written."""
        return self._match(_ATOM, "an atom")

    def word(self) -> str:
        """An atom in upper case."""
        return self.atom().decode("latin-1").upper()

    def number(self) -> int:
        """A number."""
        return int(self._match(_NUMBER, "a number"))

    def flag(self) -> str:
        """A flag or keyword."""
        return self._match(_FLAG, "a flag").decode("latin-1")

    def literal(self) -> bytes:
        """A literal."""
        self._match(_LITERAL, "a literal")
        value = self.literals[self._next_literal]
        self._next_literal += 1
        return value

    def string(self) -> bytes:
        """A quoted string or a literal."""
        if self.peek() == b'"':
            quoted = self._match(_QUOTED, "a quoted string")
            return re.sub(rb"\\(.)", rb"\1", quoted[1:-1])
        if self.peek() in (b"{", b"~"):
            return self.literal()
        raise BadCommand(f"Expected a string at {self.at}")

    def astring(self) -> bytes:
        """An atom (``]`` allowed), a quoted string or a literal."""
        if self.peek() in (b'"', b"{", b"~"):
            return self.string()
        return self._match(_ASTRING_ATOM, "an astring")

    def nstring(self) -> bytes | None:
        """A string or NIL."""
        return None if self.take(b"NIL") else self.string()

    def list_mailbox(self) -> bytes:
        """A LIST pattern: an astring in which wildcards are allowed."""
        if self.peek() in (b'"', b"{"):
            return self.string()
        return self._match(_LIST_ATOM, "a pattern")

    def sequence_set(self) -> bytes:
        """A sequence set or ``$``, as written."""
        return self._match(_SET, "a message set")

    def flag_list(self) -> list[str]:
        """``(flag flag)``, or flags without parentheses."""
        flags: list[str] = []
        if self.take(b"("):
            while not self.take(b")"):
                if flags:
                    self.space()
                flags.append(self.flag())
            return flags
        flags.append(self.flag())
        while self.take(b" "):
            flags.append(self.flag())
        return flags


def parse_set(text: bytes) -> list[tuple[int, int]]:
    """Parse a set into ``(low, high)`` pairs as written; ``*`` is 0.

    Raises:
        BadCommand: A number is 0 or above 4294967295.
    """
    pairs: list[tuple[int, int]] = []
    for item in text.split(b","):
        match = _SET_ITEM.fullmatch(item)
        if match is None:
            raise BadCommand("Invalid message set")
        first = _set_number(match.group(1))
        second = first if match.group(2) is None else _set_number(match.group(2))
        pairs.append((first, second))
    return pairs


def _set_number(text: bytes) -> int:
    if text == b"*":
        return _STAR
    value = int(text)
    if not 1 <= value <= 0xFFFFFFFF:
        raise BadCommand("Invalid message number")
    return value


def resolve_set(text: bytes, view: Sequence[int], by_uid: bool) -> IndexRanges:
    """The messages of a view that a set names, as index ranges.

    Args:
        text: The set as written, not ``$``.
        view: UIDs of the messages, ascending; the message number of ``view[i]`` is i + 1.
        by_uid: Whether the numbers are UIDs. UIDs that are not there are ignored (RFC 3501 6.4.8).

    Raises:
        BadCommand: A message number is not there.
    """
    ranges: IndexRanges = []
    count = len(view)
    for first, second in parse_set(text):
        last = view[-1] if by_uid and count else count
        low, high = (last if number == _STAR else number for number in (first, second))
        if low > high:
            low, high = high, low
        if by_uid:
            ranges.append((bisect_left(view, low), bisect_right(view, high)))
        elif high > count or low < 1:
            raise BadCommand("Invalid message number")
        else:
            ranges.append((low - 1, high))
    return merge_ranges(ranges)


def merge_ranges(ranges: IndexRanges) -> IndexRanges:
    """Sort and join ranges that overlap or touch; empty ones are dropped."""
    merged: IndexRanges = []
    for low, high in sorted(ranges):
        if low >= high:
            continue
        if merged and low <= merged[-1][1]:
            if high > merged[-1][1]:
                merged[-1] = (merged[-1][0], high)
        else:
            merged.append((low, high))
    return merged


def count_ranges(ranges: IndexRanges) -> int:
    """How many indexes the ranges hold."""
    return sum(high - low for low, high in ranges)


def format_uids(uids: Sequence[int]) -> bytes:
    """Ascending UIDs as a compact set, ``1:3,7``."""
    if isinstance(uids, range) and uids.step == 1 and len(uids) > 1:
        return b"%d:%d" % (uids[0], uids[-1])
    out: list[bytes] = []
    start = previous = 0
    for uid in uids:
        if start and uid == previous + 1:
            previous = uid
            continue
        if start:
            out.append(b"%d" % start if start == previous else b"%d:%d" % (start, previous))
        start = previous = uid
    if start:
        out.append(b"%d" % start if start == previous else b"%d:%d" % (start, previous))
    return b",".join(out)
