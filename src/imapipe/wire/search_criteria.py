"""The constants and functions that make search keys: the vocabulary of `imapipe.search`.

Text is matched as the server does it: mostly as a substring, without regard to case. Days are the server's: `since`,
`before` and `on` look at the day of arrival (INTERNALDATE), the `sent_` functions at the Date header, both without
time and zone. So a search by days is exact to a day only; widen it by one where that matters.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Final

from imapipe.errors import InvalidSearch
from imapipe.wire.search_key import SearchKey, combine
from imapipe.wire.search_program import Operation
from imapipe.wire.search_term import MAX_DAYS, make_raw, make_term, read_uids
from imapipe.wire.uid_set import UidSet


def _make(name: str, *values: object) -> SearchKey:
    return SearchKey(make_term(name, *values))


ALL: Final = _make("ALL")
ANSWERED: Final = _make("ANSWERED")
DELETED: Final = _make("DELETED")
DRAFT: Final = _make("DRAFT")
FLAGGED: Final = _make("FLAGGED")
SEEN: Final = _make("SEEN")
UNANSWERED: Final = _make("UNANSWERED")
UNDELETED: Final = _make("UNDELETED")
UNDRAFT: Final = _make("UNDRAFT")
UNFLAGGED: Final = _make("UNFLAGGED")
UNSEEN: Final = _make("UNSEEN")

# These three depend on which session saw a message first, and IMAP4rev2 has dropped them.
NEW: Final = _make("NEW")
OLD: Final = _make("OLD")
RECENT: Final = _make("RECENT")


def all_of(*keys: SearchKey) -> SearchKey:
    """Messages that meet every key: what `&` does, for many keys at once. Of no keys: all messages."""
    return _gather(Operation.AND, keys, ALL)


def any_of(*keys: SearchKey) -> SearchKey:
    """Messages that meet at least one key: what `|` does, for many keys at once. Of no keys: no messages."""
    return _gather(Operation.OR, keys, ~ALL)


def since(day: date | None = None, *, days: int | None = None) -> SearchKey:
    """Messages that arrived on that day or later.

    Args:
        day: The day; a `datetime` is refused, as the protocol compares whole days.
        days: Instead of `day`: so many days before the day on which the search is sent. It stays relative in the
            key, so that a job of tomorrow is the same job.

    Raises:
        InvalidSearch: Not exactly one of both, or one out of range.
    """
    return _dated("SINCE", day, days)


def before(day: date | None = None, *, days: int | None = None) -> SearchKey:
    """Messages that arrived earlier than that day; arguments as in `since`.

    Raises:
        InvalidSearch: Not exactly one of both, or one out of range.
    """
    return _dated("BEFORE", day, days)


def on(day: date | None = None, *, days: int | None = None) -> SearchKey:
    """Messages that arrived on that day; arguments as in `since`.

    Raises:
        InvalidSearch: Not exactly one of both, or one out of range.
    """
    return _dated("ON", day, days)


def sent_since(day: date | None = None, *, days: int | None = None) -> SearchKey:
    """Messages whose Date header names that day or a later one; arguments as in `since`.

    Raises:
        InvalidSearch: Not exactly one of both, or one out of range.
    """
    return _dated("SENTSINCE", day, days)


def sent_before(day: date | None = None, *, days: int | None = None) -> SearchKey:
    """Messages whose Date header names an earlier day; arguments as in `since`.

    Raises:
        InvalidSearch: Not exactly one of both, or one out of range.
    """
    return _dated("SENTBEFORE", day, days)


def sent_on(day: date | None = None, *, days: int | None = None) -> SearchKey:
    """Messages whose Date header names that day; arguments as in `since`.

    Raises:
        InvalidSearch: Not exactly one of both, or one out of range.
    """
    return _dated("SENTON", day, days)


def older_than(*, days: int | None = None, seconds: int | None = None) -> SearchKey:
    """Messages that arrived longer ago than that.

    Args:
        days: Whole days, by the calendar of the server: the same as `before(days=…)`. Every server knows it.
        seconds: To the second: `OLDER` (RFC 5032). Where the server does not offer WITHIN, the days around that moment
            are fetched (INTERNALDATE) and compared with our clock; a `Connection` that is leased does not do that.

    Raises:
        InvalidSearch: Not exactly one of both, or one out of range.
    """
    return _within("BEFORE", "OLDER", days, seconds)


def younger_than(*, days: int | None = None, seconds: int | None = None) -> SearchKey:
    """Messages that arrived no longer ago than that: `since(days=…)`, or `YOUNGER`; arguments as in `older_than`.

    Raises:
        InvalidSearch: Not exactly one of both, or one out of range.
    """
    return _within("SINCE", "YOUNGER", days, seconds)


def from_(text: str) -> SearchKey:
    """Messages with this text in From.

    Raises:
        InvalidSearch: The text has CR, LF, NUL or half a surrogate pair.
    """
    return _make("FROM", text)


def to(text: str) -> SearchKey:
    """Messages with this text in To.

    Raises:
        InvalidSearch: The text has CR, LF, NUL or half a surrogate pair.
    """
    return _make("TO", text)


def cc(text: str) -> SearchKey:
    """Messages with this text in Cc.

    Raises:
        InvalidSearch: The text has CR, LF, NUL or half a surrogate pair.
    """
    return _make("CC", text)


def bcc(text: str) -> SearchKey:
    """Messages with this text in Bcc.

    Raises:
        InvalidSearch: The text has CR, LF, NUL or half a surrogate pair.
    """
    return _make("BCC", text)


def subject(text: str) -> SearchKey:
    """Messages with this text in Subject.

    Raises:
        InvalidSearch: The text has CR, LF, NUL or half a surrogate pair.
    """
    return _make("SUBJECT", text)


def text(text: str) -> SearchKey:
    """Messages with this text in the header or the body.

    Raises:
        InvalidSearch: The text has CR, LF, NUL or half a surrogate pair.
    """
    return _make("TEXT", text)


def body(text: str) -> SearchKey:
    """Messages with this text in the body.

    Raises:
        InvalidSearch: The text has CR, LF, NUL or half a surrogate pair.
    """
    return _make("BODY", text)


def header(name: str, value: str = "") -> SearchKey:
    """Messages that have the header field `name` with this text in it; with "" the field alone is enough.

    Raises:
        InvalidSearch: The name cannot be that of a field (RFC 5322 §3.6.8), or the value cannot be searched for.
    """
    return _make("HEADER", name, value)


def larger(size: int) -> SearchKey:
    """Messages of more than `size` bytes (RFC822.SIZE).

    Raises:
        InvalidSearch: Not a whole number within 63 bits.
    """
    return _make("LARGER", size)


def smaller(size: int) -> SearchKey:
    """Messages of less than `size` bytes (RFC822.SIZE).

    Raises:
        InvalidSearch: Not a whole number within 63 bits.
    """
    return _make("SMALLER", size)


def keyword(name: str) -> SearchKey:
    """Messages with this keyword, such as `$Junk`; for the system flags there are constants, such as `SEEN`.

    Raises:
        InvalidSearch: Not an atom of ASCII, or a system flag.
    """
    return _make("KEYWORD", name)


def uid(uids: UidSet | str | int | Iterable[int]) -> SearchKey:
    """Messages with these UIDs. An empty set finds nothing.

    Args:
        uids: Text may have `*` in it (`7:*`), which is the last message of the mailbox: that one is always found,
            even when its UID is below 7 (RFC 9051 §9, `seq-range`).

    Raises:
        InvalidSearch: Not a set of UIDs.
    """
    found = read_uids("UID", uids)
    return _make("UID", found) if found else ~ALL


def modseq(value: int) -> SearchKey:
    """Messages whose mod-sequence is `value` or higher (RFC 7162 §3.1.5); the server must offer CONDSTORE.

    Raises:
        InvalidSearch: Not a whole number within 63 bits.
    """
    return _make("MODSEQ", value)


def gmail(query: str) -> SearchKey:
    """Messages that Gmail's own search finds: X-GM-RAW, such as `has:attachment in:unread`.

    Raises:
        InvalidSearch: The text has CR, LF, NUL or half a surrogate pair.
    """
    return _make("X-GM-RAW", query)


def raw(text: str) -> SearchKey:
    """Messages that the server finds by this text, sent as it is: for keys that are not known here.

    Raises:
        InvalidSearch: Not ASCII, or not whole: quotes and parentheses must match, and literals cannot be used.
    """
    return SearchKey(make_raw(text))


def _gather(operation: Operation, keys: tuple[SearchKey, ...], none: SearchKey) -> SearchKey:
    if len(keys) < 2:
        return keys[0] if keys else none
    return combine(operation, keys)


def _dated(name: str, day: date | None, days: int | None) -> SearchKey:
    if (day is None) == (days is None):
        raise InvalidSearch(f"{name} takes either a datetime.date or days=")
    return _make(name, day if days is None else _ago(name, days))


def _within(days_name: str, seconds_name: str, days: int | None, seconds: int | None) -> SearchKey:
    if (days is None) == (seconds is None):
        raise InvalidSearch("pass either days= or seconds=")
    return _make(seconds_name, seconds) if days is None else _make(days_name, _ago(days_name, days))


def _ago(name: str, days: object) -> timedelta:
    if not isinstance(days, int) or isinstance(days, bool) or not 0 <= days <= MAX_DAYS:
        raise InvalidSearch(f"{name} takes a whole number of days from 0 to {MAX_DAYS}")
    return timedelta(days=days)
