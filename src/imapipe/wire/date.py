"""Dates on the wire: INTERNALDATE and the Date header.

Invariants:
    Every datetime that leaves this module is aware; a date without a zone, or with the unknown zone `-0000`,
    counts as UTC. A date that means nothing is None, never an error: `00-Jan-0000` and worse stand in real
    mailboxes, and the message is worth more than its date.
    The tables of days and zones are bounded, whatever the servers send.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

_MONTHS = {month: number for number, month in enumerate(b"jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}

# RFC 9051 §9 `date-time`, and what is met besides: no padding, no zone.
_INTERNAL = re.compile(rb" *(\d{1,2}-[A-Za-z]{3}-\d{4}) (\d{1,2}):(\d\d):(\d\d)(?: ?([+-]\d{4}))? *")

# RFC 5322 §3.3 `date-time` as nearly everyone writes it; everything else takes the slow way.
_MESSAGE = re.compile(
    rb"\s*(?:[A-Za-z]{3},? +)?(\d{1,2} [A-Za-z]{3} \d{4}) (\d\d):(\d\d)(?::(\d\d))? ([+-]\d{4}|GMT|UTC?|Z)"
    rb"(?:\s+\([^()]*\))?\s*"
)

# All two-digit numbers that a clock shows; a leap second is the second before it, as datetime has none.
_CLOCK = {b"%02d" % number: number for number in range(60)} | {b"60": 59}

# Mail comes in order of days, so the same few days come up again and again.
_DAYS: dict[bytes, tuple[int, int, int]] = {}
_MAX_DAYS = 8192

# Zones are shared. At most 2 x 1440 can enter, as hours and minutes are checked.
_ZONES: dict[bytes, timezone] = {b"+0000": UTC, b"-0000": UTC, b"GMT": UTC, b"UT": UTC, b"UTC": UTC, b"Z": UTC}

# A Date header longer than this is none; the slow parser must not be fed with it.
_MAX_DATE_BYTES = 256


def parse_internal_date(value: bytes) -> datetime | None:
    """Parse an INTERNALDATE such as `17-Jul-1996 02:44:25 -0700`, with or without its quotes.

    RFC 9051 §9, production `date-time`. None when it is no date.
    """
    if value[:1] == b'"':
        value = value[1:-1]
    # The fixed layout, 26 bytes, read at its offsets; 58 is the colon.
    if len(value) == 26 and value[14] == 58 == value[17] and value[11] == 32 == value[20]:
        try:
            year, month, day = _DAYS[value[:11]]
            hour, minute, second = _CLOCK[value[12:14]], _CLOCK[value[15:17]], _CLOCK[value[18:20]]
            return datetime(year, month, day, hour, minute, second, 0, _ZONES[value[21:]])
        except (KeyError, ValueError):
            # A day or a zone seen for the first time, or no date at all.
            pass
    match = _INTERNAL.fullmatch(value)
    return _moment(*match.groups()) if match is not None else None


def parse_message_date(value: bytes) -> datetime | None:
    """Parse the value of a Date header (RFC 5322 §3.3, §4.3), as ENVELOPE carries it. None when it is no date."""
    # The two usual layouts, `Wed, 17 Jul 1996 02:44:25 -0700` and the same with a day of one digit.
    at = len(value) - 15
    if 15 <= at <= 16 and value[at + 3] == 58 == value[at + 6] and value[at] == 32 == value[at + 9] == value[4]:
        try:
            year, month, day = _DAYS[value[5:at]]
            hour, minute, second = (
                _CLOCK[value[at + 1 : at + 3]],
                _CLOCK[value[at + 4 : at + 6]],
                _CLOCK[value[at + 7 : at + 9]],
            )
            return datetime(year, month, day, hour, minute, second, 0, _ZONES[value[at + 10 :]])
        except (KeyError, ValueError):
            # A day or a zone seen for the first time, or no date at all.
            pass
    match = _MESSAGE.fullmatch(value)
    if match is None:
        return _message_date_slowly(value)
    day_text, hour_text, minute_text, second_text, zone = match.groups()
    try:
        year, month, day = _DAYS[day_text]
        second = _CLOCK[second_text] if second_text else 0
        return datetime(year, month, day, _CLOCK[hour_text], _CLOCK[minute_text], second, 0, _ZONES[zone])
    except (KeyError, ValueError):
        return _moment(day_text, hour_text, minute_text, second_text, zone)


def _moment(
    day_text: bytes, hour: bytes, minute: bytes, second: bytes | None, zone_text: bytes | None
) -> datetime | None:
    """The date of parts in the right layout; fills the tables."""
    day = _DAYS.get(day_text) or _day(day_text)
    zone = _zone(zone_text) if zone_text else UTC
    if day is None:
        return None
    try:
        # One digit for the hour is common enough in broken software.
        return datetime(*day, int(hour), int(minute), min(int(second or 0), 59), tzinfo=zone)
    except ValueError:
        return None


def _day(text: bytes) -> tuple[int, int, int] | None:
    """Year, month and day of `17-Jul-1996` or `17 Jul 1996`, kept in the table; None when there is no such day."""
    day, month_name, year = text.replace(b"-", b" ").split(b" ")
    try:
        found = (int(year), _MONTHS[month_name.lower()], int(day))
        date(*found)
    except (KeyError, ValueError):
        return None
    if len(_DAYS) >= _MAX_DAYS:
        _DAYS.clear()
    _DAYS[text] = found
    return found


def _zone(text: bytes) -> timezone:
    """The zone of `+hhmm`, one object for each; UTC when it is out of range, as the day is right all the same."""
    known = _ZONES.get(text)
    if known is not None:
        return known
    hours, minutes = int(text[1:3]), int(text[3:5])
    if hours > 23 or minutes > 59:
        return UTC
    offset = timedelta(hours=hours, minutes=minutes)
    return _ZONES.setdefault(text, timezone(-offset if text[:1] == b"-" else offset))


def _message_date_slowly(value: bytes) -> datetime | None:
    """Let the standard library try: obsolete forms, named zones, two-digit years, missing parts."""
    if len(value) > _MAX_DATE_BYTES:
        return None
    try:
        parsed = parsedate_to_datetime(value.decode("ascii", "replace"))
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)
