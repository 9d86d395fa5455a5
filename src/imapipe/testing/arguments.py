"""Reads the arguments of a client's command (RFC 3501 section 9, client side).

Invariant: the text keeps the marker ``{n}`` CRLF of every literal in place, the bytes of the literals are
beside it in order; a reader never looks inside a literal for syntax.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

LITERAL_END = re.compile(rb"~?\{(\d{1,20})(\+?)\}$")

_ATOM = re.compile(rb"[^\x00-\x20(){%*\"\\\]\x7f]+")
_ASTRING_ATOM = re.compile(rb"[^\x00-\x20(){%*\"\\\x7f]+")
_LIST_ATOM = re.compile(rb"[^\x00-\x20(){\"\\\x7f]+")
_FLAG = re.compile(rb"\\?[^\x00-\x20(){%*\"\\\]\x7f]+|\\\*")
_QUOTED = re.compile(rb'"((?:\\["\\]|[^"\\\r\n])*+)"')
_LITERAL = re.compile(rb"~?\{(\d+)\+?\}\r\n")
_DATE_TIME = re.compile(rb'"([ \d]?\d)-([A-Za-z]{3})-(\d{4}) (\d{2}):(\d{2}):(\d{2}) ([+-])(\d{2})(\d{2})"')
_MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()
_NUMBER = re.compile(rb"\d{1,20}")
_SET = re.compile(rb"(?:\d+|\*)(?::(?:\d+|\*))?(?:,(?:\d+|\*)(?::(?:\d+|\*))?)*|\$")


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

    def __init__(self, text: bytes, literals: Sequence[bytes] = (), at: int = 0) -> None:
        self.text = text
        self.literals = literals
        self.at = at
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

    def date_time(self) -> datetime:
        """A quoted ``date-time``, as APPEND has it."""
        match = _DATE_TIME.match(self.text, self.at)
        if match is None or match.group(2).decode("ascii").upper() not in _MONTHS:
            raise BadCommand("Expected a date")
        self.at = match.end()
        day, year, hour, minute, second = (int(match.group(group)) for group in (1, 3, 4, 5, 6))
        offset = timedelta(hours=int(match.group(8)), minutes=int(match.group(9)))
        month = _MONTHS.index(match.group(2).decode("ascii").upper()) + 1
        try:
            zone = timezone(-offset if match.group(7) == b"-" else offset)
            return datetime(year, month, day, hour, minute, second, tzinfo=zone)
        except ValueError:
            raise BadCommand("No such date") from None

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
