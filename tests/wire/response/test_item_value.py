"""The simple items of a FETCH: what each value means, and what is none."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from imapipe.errors import ProtocolError
from imapipe.wire.response import item_value
from imapipe.wire.response.fetch import scan_fetch
from imapipe.wire.response.item_value import (
    flags_of,
    parse_body,
    parse_email_id,
    parse_flags,
    parse_gmail_labels,
    parse_internal_date,
    parse_modseq,
    parse_number,
    parse_preview,
    parse_savedate,
    parse_size,
)
from imapipe.wire.response.token import ItemSpan


def span_of(value: bytes) -> tuple[bytes, ItemSpan]:
    text = b"* 1 FETCH (X " + value + b")"
    return text, scan_fetch(text).items["X"]


def test_flags_are_shared_and_in_one_spelling() -> None:
    first = parse_flags(*span_of(rb"(\SEEN \flagged $MDNSent keyWord)"))
    assert first == {"\\Seen", "\\Flagged", "$MDNSent", "keyWord"}
    assert parse_flags(*span_of(rb"(\SEEN \flagged $MDNSent keyWord)")) is first
    assert parse_flags(*span_of(b"NIL")) == frozenset()
    assert parse_flags(*span_of("(clé)".encode())) == {"clé"}
    with pytest.raises(ProtocolError):
        parse_flags(*span_of(b"word"))


def test_the_flag_table_is_bounded() -> None:
    for number in range(10_000):
        parse_flags(*span_of(b"(k%d)" % number))
    assert len(item_value._FLAG_SETS) <= item_value._MAX_FLAG_SETS


def test_long_flags_are_in_no_table() -> None:
    """4,096 lists of 1 MB each were kept for ever."""
    flags = b"(%b)" % b" ".join(b"$k%d" % number for number in range(3000))
    assert len(parse_flags(*span_of(flags))) == 3000
    assert flags not in item_value._FLAG_SETS
    with pytest.raises(ProtocolError, match="usual size"):
        parse_flags(*span_of(b"(" + b"a " * 100_000 + b")"))


@pytest.mark.parametrize(
    ("value", "number"),
    [(b"9.3736e+06", 9_373_600), (b"-1", 0), (b"NIL", 0), (b"1278455344230334865", 1278455344230334865)],
)
def test_numbers(value: bytes, number: int) -> None:
    assert parse_number(*span_of(value)) == number
    assert parse_size(*span_of(value)) == number
    assert parse_modseq(*span_of(b"(" + value + b")")) == number
    assert parse_modseq(*span_of(value)) == number


def test_numbers_are_never_larger_than_the_grammar_allows() -> None:
    huge = b"9" * 20
    assert parse_size(*span_of(huge)) == parse_modseq(*span_of(b"(" + huge + b")")) == 2**63 - 1
    # Gmail's identifiers are 64 bits.
    assert parse_number(*span_of(b"18446744073709551615")) == 2**64 - 1


def test_flags_with_parentheses_and_quotes_in_them() -> None:
    assert parse_flags(*span_of(rb"(\SEEN $Label(1))")) == {"\\Seen", "$Label(1)"}
    assert flags_of(rb'(\Seen a) "b" odd()') == {"\\Seen", "a)", '"b"', "odd("}
    # Flags are kept with spaces between them: none has one in it, or is empty.
    assert flags_of(rb'(\Seen "two words" "")') == {"\\Seen", "two", "words"}
    assert flags_of(rb'(\Seen "one" "")') == {"\\Seen", "one"}


def test_what_is_no_number() -> None:
    for parse in (parse_size, parse_modseq, parse_number):
        with pytest.raises(ProtocolError):
            parse(*span_of(b"many"))


def test_dates() -> None:
    text, span = span_of(b'"00-Jan-0000 00:00:00 +0000"')
    assert parse_internal_date(text, span) is None
    assert parse_savedate(*span_of(b"NIL")) is None
    assert parse_savedate(*span_of(b'"01-Jan-2020 00:00:00 +0000"')) == datetime(2020, 1, 1, tzinfo=UTC)


def test_bodies() -> None:
    assert parse_body(*_body(b"NIL")) is None
    assert parse_body(*_body(b"nil")) is None
    assert parse_body(*_body(b'""')) == b""
    assert parse_body(*_body(rb'"a\"b"')) == b'a"b'
    assert parse_body(*_body(b"{3+}\r\n", b"abc")) == b"abc"
    assert parse_body(*_body(b"~{3}\r\n", b"a\0c")) == b"a\0c"
    with pytest.raises(ProtocolError, match="literal"):
        parse_body(*_body(b"{3}\r\n"))
    with pytest.raises(ProtocolError):
        parse_body(*_body(b"word"))


def _body(value: bytes, *literals: bytes) -> tuple[bytes, tuple[bytes, ...], ItemSpan]:
    text = b"* 1 FETCH (RFC822 " + value + b")"
    return text, literals, scan_fetch(text, literals).items["RFC822"]


def test_object_ids_and_previews() -> None:
    assert parse_email_id(*span_of(b"(M1)")) == "M1"
    assert parse_email_id(*span_of(b"NIL")) is None
    text = '* 1 FETCH (PREVIEW "grüß")'.encode()
    assert parse_preview(text, (), scan_fetch(text).items["PREVIEW"]) == "grüß"
    text = b"* 1 FETCH (PREVIEW NIL)"
    assert parse_preview(text, (), scan_fetch(text).items["PREVIEW"]) is None
    text = b"* 1 FETCH (PREVIEW {2}\r\n)"
    assert parse_preview(text, (b"ab",), scan_fetch(text, (b"ab",)).items["PREVIEW"]) == "ab"


def test_gmail_labels() -> None:
    text = b'* 1 FETCH (X-GM-LABELS ("\\\\Inbox" Work "caf&AOk-" {3}\r\n) UID 4)'
    scan = scan_fetch(text, (b"a b",))
    assert scan.uid == 4
    assert parse_gmail_labels(text, (b"a b",), scan.items["X-GM-LABELS"]) == ("\\Inbox", "Work", "café", "a b")
    assert parse_gmail_labels(*_body(b"()")) == ()
    assert parse_gmail_labels(*_body(b"NIL")) == ()
    with pytest.raises(ProtocolError):
        parse_gmail_labels(*_body(b"{3}\r\n"))
