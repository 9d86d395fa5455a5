"""Dates on the wire: INTERNALDATE and the Date header.

Invariants:
    Every datetime that leaves this module is aware; a date without a zone, or with the unknown zone `-0000`,
    counts as UTC. A date that means nothing is None, never an error: `00-Jan-0000` and worse stand in real
    mailboxes, and the message is worth more than its date.
    It is a moment that every consumer can use: the first and the last two days that datetime knows are no dates,
    so that one in any zone can be told in any other.
    The tables of days and zones are bounded, whatever the servers send.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Final

_MONTHS = {month: number for number, month in enumerate(b"jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}

# RFC 9051 §9 `date-time`, and what is met besides: no padding, no zone.
_INTERNAL = re.compile(
    rb" *(\d{1,2}-[A-Za-z]{3}-\d{4}) (\d{1,2}):(\d\d):(\d\d)(?: ?([+-]\d{4}|[+-]\d\d:\d\d|[A-Za-z]{1,5}))? *"
)

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

_FIRST_DAY: Final = date.min + timedelta(days=1)
_LAST_DAY: Final = date.max - timedelta(days=1)

# A Date header longer than this is none; the slow parser must not be fed with it.
_MAX_DATE_BYTES: Final = 256

# RFC 5322 §4.3 `obs-zone`, and those that mailers of other countries write. What is not here, the letters of the
# military among it, says nothing about the offset (§4.3) and counts as UTC.
_NAMED_ZONES: Final = {
    name: hours * 60
    for hours, names in {
        0: "gmt ut utc z wet",
        1: "cet met mez bst west",
        2: "cest mest mesz eet",
        3: "eest msk",
        8: "hkt sgt awst",
        9: "jst kst",
        10: "aest",
        11: "aedt",
        12: "nzst",
        13: "nzdt",
        -3: "adt",
        -4: "edt ast",
        -5: "est cdt",
        -6: "cst mdt",
        -7: "mst pdt",
        -8: "pst akdt",
        -9: "akst",
        -10: "hst",
    }.items()
    for name in names.split()
}
# The first three letters of a month where they differ from the English ones: German, French, Spanish, Italian, Dutch,
# Portuguese, Swedish, Danish, Russian.
_OTHER_MONTHS: Final = {
    "mai": 5, "mei": 5, "okt": 10, "dez": 12, "mrz": 3, "mär": 3, "maa": 3, "ene": 1, "abr": 4, "ago": 8, "dic": 12,
    "gen": 1, "mag": 5, "giu": 6, "lug": 7, "set": 9, "ott": 10, "fév": 2, "avr": 4, "aoû": 8, "déc": 12, "out": 10,
    "fev": 2, "juin": 6, "juil": 7, "mrt": 3, "maj": 5, "янв": 1, "фев": 2, "мар": 3, "апр": 4, "мая": 5, "май": 5,
    "июн": 6, "июл": 7, "авг": 8, "сен": 9, "окт": 10, "ноя": 11, "дек": 12,
}  # fmt: skip
_MONTH_NAMES: Final = {name.decode(): number for name, number in _MONTHS.items()} | _OTHER_MONTHS

_TIME: Final = re.compile(
    r"(?<![\d:])(\d{1,2})([:.])(\d{1,2})(?:\2(\d{1,2})(?:[.,]\d{1,9})?)?(?![\d:])\s*([ap]\.?m\b)?", re.IGNORECASE
)
_OFFSET: Final = re.compile(r"([+-])(\d{1,2}):?(\d\d)?(?!\d)")
_WORD: Final = re.compile(r"[^\W\d_]+|\d+")
_ISO_DAY: Final = re.compile(r"(\d{4})([-/.])(\d\d)\2(\d\d)(?:T|\s|$)", re.IGNORECASE)
_COMMENT: Final = re.compile(r"\([^()]*\)?")


def parse_internal_date(value: bytes) -> datetime | None:
    """Parse an INTERNALDATE such as `17-Jul-1996 02:44:25 -0700`, with or without its quotes.

    RFC 9051 §9, production `date-time`; some servers (asimap) write a date as headers have it. None when it is no date.
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
    if match is not None:
        return _moment(*match.groups())
    return parse_message_date(value) if value[3:5] == b", " else None


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
        # A month in another language has three letters too.
        return _moment(day_text, hour_text, minute_text, second_text, zone) or _message_date_slowly(value)


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
    except KeyError:
        return None
    if not _is_day(*found):
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
    if text.isalpha():
        return _zone_of(_NAMED_ZONES.get(text.decode("ascii").lower(), 0))
    hours, minutes = int(text[1:3]), int(text[-2:])
    if hours > 23 or minutes > 59:
        return UTC
    return _zone_of((hours * 60 + minutes) * (-1 if text[:1] == b"-" else 1))


def _zone_of(minutes: int) -> timezone:
    """The zone of so many minutes east, one object for each."""
    hours, rest = divmod(abs(minutes), 60)
    text = b"%b%02d%02d" % (b"-" if minutes < 0 else b"+", hours, rest)
    return _ZONES.get(text) or _ZONES.setdefault(text, timezone(timedelta(minutes=minutes)))


def _is_day(year: int, month: int, day: int) -> bool:
    """Whether there is such a day, with two before and after it: two zones are less than two days apart."""
    try:
        return _FIRST_DAY < date(year, month, day) < _LAST_DAY
    except ValueError:
        return False


def _message_date_slowly(value: bytes) -> datetime | None:
    """Read what is not in the usual layout: obsolete forms, named zones, short years, other orders, missing parts.

    A day needs a month by name (or the layout of ISO 8601), as the order of day and month in figures is anybody's
    guess, and a moment needs a time.
    """
    if len(value) > _MAX_DATE_BYTES:
        return None
    text = value.decode("utf-8", "replace")
    while True:
        # The innermost comments first: they nest.
        text, count = _COMMENT.subn(" ", text)
        if not count:
            break
    clock = _TIME.search(text.replace("T", " ") if _ISO_DAY.search(text) else text)
    if clock is None:
        return None
    hour, minute, second = int(clock[1]), int(clock[3]), min(int(clock[4] or 0), 59)
    if clock[5] is not None and 1 <= hour <= 12:
        hour = hour % 12 + (12 if clock[5][0] in "pP" else 0)
    before, behind = text[: clock.start()], text[clock.end() :]
    zone = _zone_behind(behind)
    day = _day_of(before, behind)
    if day is None or hour > 23 or minute > 59:
        return None
    return datetime(*day, hour, minute, second, tzinfo=zone)


def _zone_behind(text: str) -> timezone:
    """The zone that stands behind a time. Of `GMT +0100` the figures count, as that is what its writers mean."""
    offset = _OFFSET.search(text)
    if offset is None:
        names = [word.lower() for word in _WORD.findall(text) if word.isalpha()]
        return _zone_of(next((_NAMED_ZONES[name] for name in names if name in _NAMED_ZONES), 0))
    hours, minutes = int(offset[2]), int(offset[3] or 0)
    if hours > 23 or minutes > 59:
        return UTC
    return _zone_of((hours * 60 + minutes) * (-1 if offset[1] == "-" else 1))


def _day_of(before: str, behind: str) -> tuple[int, int, int] | None:
    """Year, month and day, all before the time or (as in `Wed Jul 17 02:44:25 1996`) the year behind it."""
    iso = _ISO_DAY.search(before)
    if iso is not None:
        day = int(iso[1]), int(iso[3]), int(iso[4])
        return day if _is_day(*day) else None
    month = 0
    numbers: list[str] = []
    for word in _WORD.findall(before):
        if word.isdecimal():
            numbers.append(word)
        else:
            # The last one: weekdays stand before it, and some of them begin like a month (Spanish `mar`).
            month = _MONTH_NAMES.get(word[:4].lower()) or _MONTH_NAMES.get(word[:3].lower(), month)
    if len(numbers) == 1:
        # A year behind the time has four digits, and no sign before it.
        numbers += re.findall(r"(?<![\d:+-])\d{4}(?!\d)", behind)[:1]
    if len(numbers) != 2 or not month:
        return None
    first, second = numbers
    if len(first) > 2:
        first, second = second, first
    found = _year(second), month, int(first)
    return found if len(second) <= 4 and _is_day(*found) else None


def _year(text: str) -> int:
    """The year that is meant by fewer than four digits (RFC 5322 §4.3)."""
    year = int(text)
    if len(text) == 2:
        return year + (2000 if year < 50 else 1900)
    return year + 1900 if len(text) == 3 else year
