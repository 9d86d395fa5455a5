"""Dates: the wire forms, and everything that only looks like one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime, parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imapipe.wire import date
from imapipe.wire.date import parse_internal_date, parse_message_date

_ZONES = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
# The bounds must be naive: the strategy puts the zone on.
_FIRST, _LAST = datetime(1971, 1, 1), datetime(2200, 1, 1)  # noqa: DTZ001
_DATES = st.datetimes(_FIRST, _LAST, timezones=_ZONES).map(lambda moment: moment.replace(microsecond=0))


def test_internal_date_of_the_rfc() -> None:
    expected = datetime(1996, 7, 17, 2, 44, 25, tzinfo=timezone(timedelta(hours=-7)))
    for value in (b"17-Jul-1996 02:44:25 -0700", b'"17-Jul-1996 02:44:25 -0700"'):
        found = parse_internal_date(value)
        assert found == expected
        assert found is not None
        assert found.utcoffset() == timedelta(hours=-7)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b'" 1-Feb-2020 00:00:00 +0000"', datetime(2020, 2, 1, tzinfo=UTC)),
        (b'"1-Feb-2020 00:00:00 +0000"', datetime(2020, 2, 1, tzinfo=UTC)),
        (b'"01-feb-2020 00:00:00 +0000"', datetime(2020, 2, 1, tzinfo=UTC)),
        (b'"01-FEB-2020 00:00:00 -0000"', datetime(2020, 2, 1, tzinfo=UTC)),
        (b'"01-Feb-2020 00:00:00"', datetime(2020, 2, 1, tzinfo=UTC)),
        (b'"01-Feb-2020 00:00:00 +9900"', datetime(2020, 2, 1, tzinfo=UTC)),
        (b'"01-Feb-2020 00:00:00 +02:00"', datetime(2020, 1, 31, 22, tzinfo=UTC)),
        (b'"01-Feb-2020 00:00:00 EST"', datetime(2020, 2, 1, 5, tzinfo=UTC)),
        (b'"31-Dec-2016 23:59:60 +0000"', datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_internal_date_as_servers_vary_it(value: bytes, expected: datetime) -> None:
    for _ in range(2):  # the second time from the tables
        assert parse_internal_date(value) == expected


def test_an_internal_date_as_headers_have_dates() -> None:
    """asimap 429 wrote it."""
    expected = datetime(2026, 2, 9, 10, tzinfo=UTC)
    assert parse_internal_date(b'"Mon, 09 Feb 2026 10:00:00 +0000"') == expected
    assert parse_internal_date(b'"Mon, what is that"') is None


@pytest.mark.parametrize(
    "value",
    [
        b'"00-Jan-0000 00:00:00 +0000"',
        b'"31-Dec-9999 23:59:59 -0100"',
        b'"01-Jan-0001 00:00:00 +0100"',
        b'"31-Feb-2020 00:00:00 +0000"',
        b'"01-Foo-2020 00:00:00 +0000"',
        b'"01-Feb-2020 24:00:00 +0000"',
        b'"01-Feb-2020 00:61:00 +0000"',
        b'"01-Feb-2020T00:00:00 +0000"',
        b'"01-Feb-20"',
        b'""',
        b"",
        b"NIL",
    ],
)
def test_what_is_no_internal_date_is_none(value: bytes) -> None:
    assert parse_internal_date(value) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"Wed, 17 Jul 1996 02:44:25 -0700", datetime(1996, 7, 17, 9, 44, 25, tzinfo=UTC)),
        (b"Wed, 17 Jul 1996 02:44:25 -0700 (PDT)", datetime(1996, 7, 17, 9, 44, 25, tzinfo=UTC)),
        (b"17 Jul 1996 02:44 GMT", datetime(1996, 7, 17, 2, 44, tzinfo=UTC)),
        (b"Wed, 17 Jul 96 02:44:25 EST", datetime(1996, 7, 17, 7, 44, 25, tzinfo=UTC)),
        (b" Wed, 7 Jul 1999 02:44:25 -0000", datetime(1999, 7, 7, 2, 44, 25, tzinfo=UTC)),
        (b"Wed, 7 Jul 1999 02:44:25", datetime(1999, 7, 7, 2, 44, 25, tzinfo=UTC)),
        (b"Wed,  7  Jul  1999  02:44:25  +0200", datetime(1999, 7, 7, 0, 44, 25, tzinfo=UTC)),
        (b"Wednesday, 07-Jul-99 02:44:25 GMT", datetime(1999, 7, 7, 2, 44, 25, tzinfo=UTC)),
        # The zone twice: the figures are what is meant.
        (b"Wed, 17 Jul 1996 02:44:25 GMT +0100", datetime(1996, 7, 17, 1, 44, 25, tzinfo=UTC)),
        (b"Wed Jul 17 1996 02:44:25 GMT+0100 (CET)", datetime(1996, 7, 17, 1, 44, 25, tzinfo=UTC)),
        (b"Wed, 17 Jul 1996 02:44:25 +0000 GMT+00:00", datetime(1996, 7, 17, 2, 44, 25, tzinfo=UTC)),
        # Zones in other layouts, and by name.
        (b"Wed, 17 Jul 1996 02:44:25 +02:00", datetime(1996, 7, 17, 0, 44, 25, tzinfo=UTC)),
        (b"Wed, 17 Jul 1996 02:44:25 -05", datetime(1996, 7, 17, 7, 44, 25, tzinfo=UTC)),
        (b"Wed, 17 Jul 1996 02:44:25 +530", datetime(1996, 7, 16, 21, 14, 25, tzinfo=UTC)),
        (b"Wed, 17 Jul 1996 02:44:25+0200", datetime(1996, 7, 17, 0, 44, 25, tzinfo=UTC)),
        (b"Wed, 17 Jul 1996 02:44:25 CEST", datetime(1996, 7, 17, 0, 44, 25, tzinfo=UTC)),
        (b"Wed, 17 Jul 1996 02:44:25 PST", datetime(1996, 7, 17, 10, 44, 25, tzinfo=UTC)),
        (b"Wed, 17 Jul 1996 02:44:25 X", datetime(1996, 7, 17, 2, 44, 25, tzinfo=UTC)),
        (b"Wed, 17 Jul 1996 02:44:25 +9900", datetime(1996, 7, 17, 2, 44, 25, tzinfo=UTC)),
        (b'Wed, 17 Jul 1996 02:44:25 "GMT"', datetime(1996, 7, 17, 2, 44, 25, tzinfo=UTC)),
        # Years of two and three digits (RFC 5322 4.3).
        (b"Wed, 17 Jul 100 02:44:25 +0000", datetime(2000, 7, 17, 2, 44, 25, tzinfo=UTC)),
        (b"Wed, 17 Jul 121 02:44:25 +0000", datetime(2021, 7, 17, 2, 44, 25, tzinfo=UTC)),
        (b"Wed, 17 Jul 00 02:44:25 +0000", datetime(2000, 7, 17, 2, 44, 25, tzinfo=UTC)),
        (b"Wed, 17 Jul 49 02:44:25 +0000", datetime(2049, 7, 17, 2, 44, 25, tzinfo=UTC)),
        (b"Wed, 17 Jul 50 02:44:25 +0000", datetime(1950, 7, 17, 2, 44, 25, tzinfo=UTC)),
        # Other orders, other languages, other signs between the numbers, comments, a leap second.
        (b"Wed Jul 17 02:44:25 1996", datetime(1996, 7, 17, 2, 44, 25, tzinfo=UTC)),
        (b"Wed Jul 17 02:44:25 PDT 1996", datetime(1996, 7, 17, 9, 44, 25, tzinfo=UTC)),
        (b"Wed Jul 17 02:44:25 1996 +0200", datetime(1996, 7, 17, 0, 44, 25, tzinfo=UTC)),
        (b"Jul 17, 1996 02:44:25 +0200", datetime(1996, 7, 17, 0, 44, 25, tzinfo=UTC)),
        (b"1996-07-17T02:44:25Z", datetime(1996, 7, 17, 2, 44, 25, tzinfo=UTC)),
        (b"1996-07-17 02:44:25.123 +02:00", datetime(1996, 7, 17, 0, 44, 25, tzinfo=UTC)),
        (b"mer., 17 juil. 1996 02:44:25 +0200", datetime(1996, 7, 17, 0, 44, 25, tzinfo=UTC)),
        ("mar., 16 déc. 2003 02:44:25 +0000".encode(), datetime(2003, 12, 16, 2, 44, 25, tzinfo=UTC)),
        (b"Mi, 17 Dez 2003 02:44:25 MEZ", datetime(2003, 12, 17, 1, 44, 25, tzinfo=UTC)),
        # Three letters in the usual layout: Spanish, German; Russian.
        (b"Sat, 17 Ago 1996 02:44:25 +0200", datetime(1996, 8, 17, 0, 44, 25, tzinfo=UTC)),
        (b"Mit, 17 Okt 1996 02:44:25 GMT", datetime(1996, 10, 17, 2, 44, 25, tzinfo=UTC)),
        ("ср, 17 июл 1996 02:44:25 +0300".encode(), datetime(1996, 7, 16, 23, 44, 25, tzinfo=UTC)),
        # Entourage, Aqua Mail, IncrediMail, an old BBS, K-9 5285, libetpan 6.
        (b"jue ago 30 13:55:12 2007", datetime(2007, 8, 30, 13, 55, 12, tzinfo=UTC)),
        (b"Mi., 23 Apr. 2025 09:48:37 +0200 (MESZ)", datetime(2025, 4, 23, 7, 48, 37, tzinfo=UTC)),
        (b"Thu, 1 Oct 2015 14:40:57 +0200 (Mitteleurop\xe4ische Zeit)", datetime(2015, 10, 1, 12, 40, 57, tzinfo=UTC)),
        (b"Fri, 28 Feb 92 11:07:59 MEZ", datetime(1992, 2, 28, 10, 7, 59, tzinfo=UTC)),
        (b"26 APR 21 21:17:10 +0000", datetime(2021, 4, 26, 21, 17, 10, tzinfo=UTC)),
        (b"Sat, Apr 09 2005 06:39:52 -0700", datetime(2005, 4, 9, 13, 39, 52, tzinfo=UTC)),
        # Numbers of one digit; the year first.
        (b"Wed, 17 Jul 1996 2:4:5 +0000", datetime(1996, 7, 17, 2, 4, 5, tzinfo=UTC)),
        (b"1996/07/17 02:44:25", datetime(1996, 7, 17, 2, 44, 25, tzinfo=UTC)),
        (b"17 Jul 1996 2:44:25 PM +0000", datetime(1996, 7, 17, 14, 44, 25, tzinfo=UTC)),
        (b"Wed, 17 Jul 1996 02.44.25 +0200", datetime(1996, 7, 17, 0, 44, 25, tzinfo=UTC)),
        (b"(a (b) c) 17 (d) Jul 1996 02:44:60 +0000", datetime(1996, 7, 17, 2, 44, 59, tzinfo=UTC)),
    ],
)
def test_message_dates(value: bytes, expected: datetime) -> None:
    found = parse_message_date(value)
    assert found == expected
    assert found is not None
    assert found.tzinfo is not None


@pytest.mark.parametrize(
    "value",
    [
        *[b"", b"soon", b"99 Jul 1999 00:00:00 +0000", b"\xff\xfe", b"1" * 100_000, b":" * 200, b"(" * 200],
        *[b"17 Jul 1996", b"07/17/1996 02:44:25", b"29 Feb 2023 00:00", b"17 Jul 1996 25:00", b"1996-13-01 00:00"],
        # A day more in one direction, and no zone could tell it.
        *[b"Fri, 31 Dec 9999 23:59:59 -0100", b"Mon, 1 Jan 0001 00:00:00 +0100", b"1 Jan 0001 0:00 +01:00"],
    ],
)
def test_what_is_no_message_date_is_none(value: bytes) -> None:
    assert parse_message_date(value) is None


@given(_DATES)
def test_message_dates_agree_with_the_standard_library(moment: datetime) -> None:
    text = format_datetime(moment)
    found = parse_message_date(text.encode())
    assert found == parsedate_to_datetime(text) == moment
    assert found is not None
    assert found.utcoffset() == moment.utcoffset()


@given(_DATES)
def test_internal_date_round_trip(moment: datetime) -> None:
    month = date._MONTHS
    name = next(key for key, number in month.items() if number == moment.month).title().decode()
    text = f"{moment.day:2d}-{name}-{moment.year:04d} {moment:%H:%M:%S %z}"
    assert parse_internal_date(text.encode()) == moment


@given(
    st.binary(max_size=60) | st.from_regex(rb'"?[ 0-9]{1,2}-[A-Z][a-z]{2}-[0-9]{4} .{8} [+-][0-9]{4}"?', fullmatch=True)
)
def test_dates_never_raise_and_are_aware(value: bytes) -> None:
    for parse in (parse_internal_date, parse_message_date):
        found = parse(value)
        if found is not None:
            # What consumers do: another zone, JSON, a number, sorting.
            for zone in (UTC, timezone(timedelta(hours=23, minutes=59)), timezone(timedelta(hours=-23, minutes=-59))):
                assert found.astimezone(zone) == found
            assert datetime.fromisoformat(found.isoformat()) == found
            assert found.timestamp() == found.astimezone(UTC).timestamp()


@given(
    st.sampled_from(["1 Jan 0001", "2 Jan 0001", "3 Jan 0001", "29 Dec 9999", "30 Dec 9999", "31 Dec 9999", "1 Jan 1"]),
    st.sampled_from(["00:00:00", "23:59:60"]),
    st.sampled_from(["-2359", "+2359", "+0000", "+23:59", "-05"]),
)
def test_the_ends_of_time_can_be_told_in_any_zone(day: str, clock: str, zone: str) -> None:
    found = parse_message_date(f"{day} {clock} {zone}".encode())
    if found is not None:
        found.astimezone(timezone(timedelta(hours=23, minutes=59)))
        found.astimezone(timezone(timedelta(hours=-23, minutes=-59)))


def test_the_tables_are_bounded_and_zones_shared() -> None:
    for year in range(1000, 9999):
        parse_internal_date(b"01-Jan-%04d 00:00:00 +0130" % year)
    assert len(date._DAYS) <= date._MAX_DAYS
    first, second = (parse_internal_date(b"01-Jan-%04d 00:00:00 +0130" % year) for year in (2001, 2002))
    assert first is not None
    assert second is not None
    assert first.tzinfo is second.tzinfo
