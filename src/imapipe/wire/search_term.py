"""The single search keys of IMAP: their names, their arguments, and what may stand in each.

`TERMS` is the one table of them: RFC 9051 §6.4.4, RFC 3501 (`NEW`, `OLD`, `RECENT`), RFC 5032 (`OLDER`, `YOUNGER`),
RFC 7162 (`MODSEQ`), RFC 8474 (`EMAILID`, `THREADID`), RFC 8514 (`SAVED…`) and Gmail. Constants, functions and the
parser all make their terms with `make_term`, so each is checked in the same way.

Invariant: a `Term` can be sent as it is. No argument holds CR, LF, NUL or half a surrogate pair; numbers and dates
are within the limits of the grammar.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import Enum
from typing import Final, NamedTuple

from imapipe.errors import InvalidSearch
from imapipe.wire.uid_set import MAX_UID, UidSet

MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
MAX_DAYS: Final = 100_000
_MAX_NUMBER: Final = 2**63 - 1
_MAX_SECONDS: Final = 2**32 - 1

_FORBIDDEN: Final = re.compile("[\r\n\0]")
# A quoted string counts as one piece; a quote that is left over opens one that never ends.
_MARKS: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"|(?P<unended>"(?s:.)*+)|[()]')
_FIELD_NAME: Final = re.compile(r"[!-9;-~]+")
# RFC 9051 §9 `flag-keyword`: an `atom`.
_KEYWORD: Final = re.compile(r"[!#$&'+-\[^-z|}~]+")
_OBJECT_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,255}")


class Atom(str):
    """An argument that is sent without quotes: a keyword, or a set of UIDs with `*` in it."""

    __slots__ = ()


Argument = str | int | date | timedelta | UidSet
"""`str` is text, `timedelta` a number of days before the day on which the search is sent."""


class Kind(Enum):
    """What an argument is; the value says it to people."""

    TEXT = "a text, in double quotes if it has spaces"
    FIELD_NAME = "the name of a header field such as Message-ID"
    DATE = "a date such as 1-Jan-2024, 2024-01-31, or 30d for 30 days ago"
    NUMBER = "a number from 0"
    SECONDS = f"a number of seconds from 1 to {_MAX_SECONDS}"
    KEYWORD = "a keyword such as $Important"
    UIDS = "a set of UIDs such as 1:5,9"
    OBJECT_ID = "an id of letters, digits, - and _"


class TermRule(NamedTuple):
    """What a search key takes and depends on.

    Attributes:
        arguments: The kinds of its arguments, in order.
        uses_flags: Whether a change of flags (or of labels, or of the session) can change its result.
        needs: The capability that a server must offer for it, or "".
    """

    arguments: tuple[Kind, ...] = ()
    uses_flags: bool = False
    needs: str = ""


_FLAG: Final = TermRule(uses_flags=True)
_TEXT: Final = TermRule((Kind.TEXT,))
_DATE: Final = TermRule((Kind.DATE,))
_SAVED: Final = TermRule((Kind.DATE,), needs="SAVEDATE")
_GMAIL_ID: Final = TermRule((Kind.NUMBER,), needs="X-GM-EXT-1")
_GMAIL_TEXT: Final = TermRule((Kind.TEXT,), uses_flags=True, needs="X-GM-EXT-1")

TERMS: Final[dict[str, TermRule]] = {
    "ALL": TermRule(),
    **dict.fromkeys(
        (
            *("ANSWERED", "DELETED", "DRAFT", "FLAGGED", "NEW", "OLD", "RECENT", "SEEN"),
            *("UNANSWERED", "UNDELETED", "UNDRAFT", "UNFLAGGED", "UNSEEN"),
        ),
        _FLAG,
    ),
    **dict.fromkeys(("KEYWORD", "UNKEYWORD"), TermRule((Kind.KEYWORD,), uses_flags=True)),
    **dict.fromkeys(("BCC", "BODY", "CC", "FROM", "SUBJECT", "TEXT", "TO"), _TEXT),
    "HEADER": TermRule((Kind.FIELD_NAME, Kind.TEXT)),
    **dict.fromkeys(("BEFORE", "ON", "SINCE", "SENTBEFORE", "SENTON", "SENTSINCE"), _DATE),
    **dict.fromkeys(("SAVEDBEFORE", "SAVEDON", "SAVEDSINCE"), _SAVED),
    **dict.fromkeys(("LARGER", "SMALLER"), TermRule((Kind.NUMBER,))),
    **dict.fromkeys(("OLDER", "YOUNGER"), TermRule((Kind.SECONDS,), needs="WITHIN")),
    "UID": TermRule((Kind.UIDS,)),
    # Every change of flags gives a message a new mod-sequence.
    "MODSEQ": TermRule((Kind.NUMBER,), uses_flags=True, needs="CONDSTORE"),
    **dict.fromkeys(("EMAILID", "THREADID"), TermRule((Kind.OBJECT_ID,), needs="OBJECTID")),
    **dict.fromkeys(("X-GM-MSGID", "X-GM-THRID"), _GMAIL_ID),
    **dict.fromkeys(("X-GM-LABELS", "X-GM-RAW"), _GMAIL_TEXT),
}

RAW: Final = "RAW"
"""The name of a term that is program text of the caller's own; it is in no table, as nothing is known about it."""


_PLACES: Final = re.compile(r"[0-9*]+(?:[:,][0-9*]+)*")
_WITHOUT_ARGUMENT: Final = [name for name, rule in TERMS.items() if not rule.arguments]
_BEFORE_A_KEY: Final = frozenset(("", "(", ")", "NOT", "OR", *_WITHOUT_ARGUMENT))


@dataclass(frozen=True, slots=True)
class Term:
    """One search key with its arguments, checked."""

    name: str
    arguments: tuple[Argument, ...] = ()

    @property
    def uses_flags(self) -> bool:
        """Whether a change of flags can change its result; of raw text that must be assumed."""
        return self.name == RAW or TERMS[self.name].uses_flags

    @property
    def uses_modseq(self) -> bool:
        """Whether it searches by mod-sequence (the response then ends with one, RFC 7162 §3.1.5)."""
        if self.name == RAW:
            return "MODSEQ" in str(self.arguments[0]).upper()
        return self.name == "MODSEQ"

    @property
    def uses_sequence(self) -> bool:
        """Whether it names messages by their place in the mailbox, which others that go change. Only raw text can."""
        if self.name != RAW:
            return False
        before = ""
        for word in re.findall(r'"(?:[^"\\]|\\.)*"|[()]|[^\s()"]+', str(self.arguments[0]).upper()):
            # A number alone may be the argument of a key; a set is one of UIDs, or of places.
            if _PLACES.fullmatch(word) and (before in _BEFORE_A_KEY or not (word.isdecimal() or before == "UID")):
                return True
            before = word
        return False

    @property
    def uses_clock(self) -> bool:
        """Whether its result changes as time goes by, with nothing happening in the mailbox."""
        return self.name in ("OLDER", "YOUNGER") or any(isinstance(value, timedelta) for value in self.arguments)

    @property
    def needs(self) -> str:
        """The capability that it needs, or ""."""
        return "" if self.name == RAW else TERMS[self.name].needs


def make_term(name: str, *values: object) -> Term:
    """Make a term of a name in `TERMS` and the values for its arguments.

    Raises:
        InvalidSearch: A value that cannot stand there; the message says what can.
    """
    kinds = TERMS[name].arguments
    return Term(name, tuple(_CHECKS[kind](name, value) for kind, value in zip(kinds, values, strict=True)))


def make_raw(text: object) -> Term:
    """Make a term of program text, checked only so far that it cannot reach beyond its place in the command.

    Raises:
        InvalidSearch: It is empty or not ASCII, has a line end, ends like a literal, or its quotes or parentheses do
            not match.
    """
    if not isinstance(text, str) or not text.strip():
        raise InvalidSearch('raw() takes the text of a search such as "UNSEEN SINCE 1-Jan-2024"')
    if not text.isascii() or _FORBIDDEN.search(text):
        raise InvalidSearch("raw() takes ASCII without CR, LF and NUL; write other text with subject() and its like")
    if re.search(r"\{\d+\+?\}\s*\Z", text):
        raise InvalidSearch("raw() takes no literals such as {5}; write that text with subject() and its like")
    if not is_balanced(text):
        raise InvalidSearch("close every quote and parenthesis in the text of raw(), and none besides")
    return Term(RAW, (text.strip(),))


def is_balanced(text: str) -> bool:
    """Whether every quoted string and every parenthesis in a text is closed, and none besides."""
    depth = 0
    for match in _MARKS.finditer(text):
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if depth < 0 or match["unended"]:
            return False
    return not depth


def read_uids(name: str, value: object) -> UidSet | Atom:
    """Turn a set, a number, text or numbers into a set, which may be empty; text with `*` stays text.

    Raises:
        InvalidSearch: It is none of them, or a number is no UID.
    """
    try:
        if isinstance(value, UidSet):
            return value
        if isinstance(value, str):
            if "*" not in value:
                return UidSet.parse(value)
            # What "*" means is known to the server only, so such a set is checked and stays as it is.
            UidSet.parse(value, star=MAX_UID)
            return Atom(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return UidSet.from_numbers((value,))
        if isinstance(value, Iterable):
            return UidSet.from_numbers(value)
    except (TypeError, ValueError) as error:
        raise InvalidSearch(f"{name} takes {Kind.UIDS.value}: {error}") from error
    raise InvalidSearch(f"{name} takes {Kind.UIDS.value}")


def format_date(day: date) -> str:
    """Write a date as RFC 9051 §9 `date-text`: `1-Jan-2024`, whatever the locale."""
    return f"{day.day}-{MONTHS[day.month - 1]}-{day.year:04d}"


# ---------------------------------------------------------------- checks, one for each kind


def _check_text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidSearch(f"{name} takes text: pass a str")
    if _FORBIDDEN.search(value):
        raise InvalidSearch(f"{name} cannot search for CR, LF or NUL: remove them from the text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidSearch(f"{name} cannot search for half a surrogate pair: remove it from the text") from None
    return value


def _check_field_name(name: str, value: object) -> str:
    if not isinstance(value, str) or not _FIELD_NAME.fullmatch(value):
        raise InvalidSearch(f"{name} takes the name of a header field, without colon, such as Message-ID")
    return value


def _check_date(name: str, value: object) -> date | timedelta:
    if isinstance(value, datetime):
        raise InvalidSearch(f"{name} compares whole days: pass a date, such as moment.date()")
    if isinstance(value, timedelta):
        if value % timedelta(days=1) or not 0 <= value.days <= MAX_DAYS:
            raise InvalidSearch(f"{name} takes a whole number of days from 0 to {MAX_DAYS}")
        return value
    if not isinstance(value, date):
        raise InvalidSearch(f"{name} takes a datetime.date, or days= for a number of days ago")
    return value


def _check_number(name: str, value: object) -> int:
    return _check_range(name, value, 0, _MAX_NUMBER)


def _check_seconds(name: str, value: object) -> int:
    return _check_range(name, value, 1, _MAX_SECONDS)


def _check_range(name: str, value: object, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidSearch(f"{name} takes a whole number from {low} to {high}")
    return value


def _check_keyword(name: str, value: object) -> Atom:
    if isinstance(value, str) and value.startswith("\\"):
        raise InvalidSearch(f"{name} takes no system flag: use SEEN, ANSWERED, FLAGGED, DELETED or DRAFT for that")
    if not isinstance(value, str) or not _KEYWORD.fullmatch(value):
        raise InvalidSearch(f"{name} takes a keyword of ASCII without spaces, such as $Important")
    return Atom(value)


def _check_object_id(name: str, value: object) -> Atom:
    if not isinstance(value, str) or not _OBJECT_ID.fullmatch(value):
        raise InvalidSearch(f"{name} takes up to 255 letters, digits, - and _, as the server gave them")
    return Atom(value)


def _check_uids(name: str, value: object) -> UidSet | Atom:
    uids = read_uids(name, value)
    if not uids:
        raise InvalidSearch(f"{name} takes {Kind.UIDS.value}, with at least one UID")
    return uids


_CHECKS: Final[dict[Kind, Callable[[str, object], Argument]]] = {
    Kind.TEXT: _check_text,
    Kind.FIELD_NAME: _check_field_name,
    Kind.DATE: _check_date,
    Kind.NUMBER: _check_number,
    Kind.SECONDS: _check_seconds,
    Kind.KEYWORD: _check_keyword,
    Kind.UIDS: _check_uids,
    Kind.OBJECT_ID: _check_object_id,
}
